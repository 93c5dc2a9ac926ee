"""Do the curves of domains of several ages fall on one, with one length each?

Dynamical scaling, see :mod:`sdml.coarsening.scaling`:

    C(r, t) / C(0, t) = f(r / L),      a S(q, t) / (C(0, t) L^2) = g(q L).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdml import observables
from sdml.coarsening import growth, scaling
from sdml.lattice import Lattice
from sdml.spins import SpinArray

FloatArray = NDArray[np.float64]


def scaled_structure_factor(
    lattice: Lattice, values: SpinArray, lengths: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """q L and a S / (C(0) L^2), both (..., k), for fields (..., N) of lengths L (...)."""
    q, factor = scaling.circular_structure_factor(lattice, values)
    L = _lengths(lengths, factor.shape[:-1])[..., None]
    field = observables.site_values(lattice, values, one_per_cell=True).detach().double()
    square = (field**2).mean(-1).cpu().numpy()[..., None]
    area = abs(np.linalg.det(lattice.vectors))
    return q[1:] * L, area * factor[..., 1:] / (square * L**2)


def scaled_correlation(
    lattice: Lattice, values: SpinArray, lengths: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """r / L and C(r) / C(0), both (..., k), for fields (..., N) of lengths L (...)."""
    r, correlation = scaling.circular_correlation(lattice, values)
    L = _lengths(lengths, correlation.shape[:-1])[..., None]
    return r / L, correlation / correlation[..., :1]


def collapse_error(
    x: FloatArray, y: FloatArray, window: tuple[float, float], n_points: int = 50
) -> float:
    """Root mean square of the curves y (n, k) over x (n, k) about their mean in a window of x.

    Relative to the mean square of the mean curve; linear between points. Zero for a perfect
    collapse; compare it between choices of L, and with the scatter of seeds at one time.
    """
    x, y = growth.numbers(x, "x"), growth.numbers(y, "y")
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x, y: must be two or more curves (n, k), got {x.shape} and {y.shape}")
    growth.require_numbers({"x": x})
    if not (np.diff(x) >= 0).all():
        raise ValueError("x: must ascend along every curve, got others")
    low, high = max(window[0], x.min(1).max()), min(window[1], x.max(1).min())
    if not low < high:
        raise ValueError(f"window: the curves share nothing of {window}")
    grid = np.linspace(low, high, n_points)
    curves = np.array([np.interp(grid, *pair) for pair in zip(x, y, strict=True)])
    growth.require_numbers({"y": curves})
    mean = curves.mean(0)
    return float(np.sqrt(((curves - mean) ** 2).mean() / (mean**2).mean()))


def _lengths(lengths: ArrayLike, batch: tuple[int, ...]) -> FloatArray:
    L = growth.numbers(lengths, "lengths")
    if L.shape != batch or not (np.isfinite(L) & (L > 0)).all():
        raise ValueError(f"lengths: must be positive and of shape {batch}, got {L}")
    return L
