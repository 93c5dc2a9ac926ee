"""Dynamical scaling of coarsening domains, and the tail of their structure factor.

With one length L(t) the circular averages fall on one curve each (in two dimensions)

    C(r, t) / C(0, t) = f(r / L),      a S(q, t) / (C(0, t) L^2) = g(q L),

a the area of a site. Sharp smooth walls of length W in area A
give a S = 8 (W / A) / q^3 for 2 pi / L << q << 1 / wall width (Porod's law for a field of +-1, from
C = 1 - (4 / pi) (W / A) r); a straight wall sends its q^-2 along its normal alone. Bray, Adv. Phys.
43, 357 (1994), doi 10.1080/00018739400101505.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from sdml import observables
from sdml.coarsening.growth import numbers, require_numbers
from sdml.lattice import Lattice
from sdml.spins import SpinArray

FloatArray = NDArray[np.float64]


def circular_structure_factor(lattice: Lattice, values: SpinArray) -> tuple[FloatArray, FloatArray]:
    """|q| (k,) and the circular average (..., k) of S(q) = |sum exp(-i q.r) x|^2 / N, q = 0 first.

    For a field (..., N) on one site a cell; rings of :func:`momentum_rings`, numpy. Beyond the
    inscribed circle of the Brillouin zone the rings are not full.
    """
    x = observables.site_values(lattice, values, one_per_cell=True).detach().double()
    rings = observables.momentum_rings(lattice)
    return rings.radius, rings.average(observables.structure_factor(lattice, x)).cpu().numpy()


@dataclass(frozen=True)
class Tail:
    """S(q) = amplitude q^-exponent + background."""

    exponent: float
    amplitude: float
    background: float


def tail(q: ArrayLike, factor: ArrayLike, window: tuple[float, float]) -> Tail:
    """Power-law tail with a constant background, least squares of ln S over a window of q.

    Parameters
    ----------
    q, factor : (k,)
        A circular average.
    window : (low, high)
        For Porod's law 2 pi / L << low and high << 1 / wall width. The background takes up noise
        within the domains and the images of the tail in other Brillouin zones, both flat in q.

    Raises
    ------
    ValueError
        Less than four values in the window, or one that is not positive.
    """
    q, S = numbers(q, "q"), numbers(factor, "factor")
    inside = (q >= window[0]) & (q <= window[1])
    require_numbers({"q": q})
    if q.shape == S.shape:
        require_numbers({"factor": S}, inside)
    if q.shape != S.shape or q.ndim != 1 or inside.sum() < 4 or not (S[inside] > 0).all():
        raise ValueError(
            f"window: needs 4 positive values of one curve, {inside.sum()} lie in {window}"
        )
    x, y = np.log(q[inside]), np.log(S[inside])
    middle = x.mean()

    def residual(p: FloatArray) -> FloatArray:
        return y - np.logaddexp(p[0] - p[1] * (x - middle), p[2])

    start = np.array([y.mean(), 3.0, y.min() - 2.0])
    bounds = ([-np.inf, 0.0, y.min() - 20.0], [np.inf, 8.0, y.min() + 1.0])
    a, exponent, background = least_squares(residual, start, bounds=bounds, x_scale="jac").x
    return Tail(float(exponent), float(np.exp(a + exponent * middle)), float(np.exp(background)))
