"""Chebyshev series of the occupation and of the grand potential, and mu from moments.

A function of the energy e = a x + b is sum_n c_n T_n(x); the factor 2 of n > 0 is part of c_n.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
TRUNCATION = 1e-6
"""Bound of the first neglected coefficient, relative, with the default number of moments."""
RESOLUTION = 0.01
"""Width of the Jackson kernel that sets the default number of moments at electron_kT = 0, in t."""
MU_TOLERANCE = 1e-10
"""Fraction of the 2N states by which the electron number may be off."""


@dataclass(frozen=True)
class Interval:
    """Energies [lower, upper] = [b - a, b + a] that the Chebyshev polynomials live on."""

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.lower, self.upper]).all() and self.lower < self.upper):
            raise ValueError(
                f"energy_bounds: must be finite and lower < upper, got {self.lower}, {self.upper}"
            )

    @property
    def half_width(self) -> float:
        return (self.upper - self.lower) / 2

    @property
    def center(self) -> float:
        return (self.upper + self.lower) / 2


def default_n_moments(interval: Interval, electron_kT: float, unit: float) -> int:
    """M = (a / pi kT) ln 1e6; at electron_kT = 0 the Jackson width pi a / M is 0.01 ``unit``.

    The Fermi function has its poles pi kT away from the real axis, so that the coefficients fall
    at least as exp(-n pi kT / a).
    """
    a = interval.half_width
    if electron_kT == 0:
        return int(np.pi * a / (RESOLUTION * unit))
    return max(32, int(-np.log(TRUNCATION) * a / (np.pi * electron_kT)))


def jackson_kernel(n_moments: int) -> FloatArray:
    """g_n, n < M = n_moments, of width pi / M in the middle of the interval [-1, 1].

    g_n = [(M - n + 1) cos(pi n / (M + 1)) + sin(pi n / (M + 1)) cot(pi / (M + 1))] / (M + 1);
    Weisse et al., Rev. Mod. Phys. 78, 275 (2006), section II.C.3, doi 10.1103/RevModPhys.78.275.
    """
    n, step = np.arange(n_moments), np.pi / (n_moments + 1)
    damped = (n_moments - n + 1) * np.cos(n * step) + np.sin(n * step) / np.tan(step)
    return damped / (n_moments + 1)


def coefficients(interval: Interval, electron_kT: float, n_moments: int, mu: float) -> FloatArray:
    """Coefficients (2, M) of the occupation f(e) and of the grand potential g(e).

    f = 1 / (exp((e - mu) / kT) + 1), g = -kT ln(1 + exp((mu - e) / kT)), by 2 M Gauss-Chebyshev
    nodes, so that f = -dg/dmu coefficient by coefficient. At electron_kT = 0 in closed form, times
    the Jackson kernel. For mu = -inf and +inf (no and all states filled) g stands for f e.
    """
    if not np.isfinite(mu):
        filled = np.zeros((2, n_moments))
        filled[:, :2] = (mu > 0) * np.array([[1, 0], [interval.center, interval.half_width]])
        return filled
    if electron_kT == 0:
        found = _step_coefficients(interval, n_moments, mu) * jackson_kernel(n_moments)
        found[1, 0] -= max(mu - interval.upper, 0.0)  # above all levels g = e - mu
        return found
    x = np.cos(np.pi * (np.arange(2 * n_moments) + 0.5) / (2 * n_moments))
    excess = (interval.center + interval.half_width * x - mu) / electron_kT
    values = np.stack([scipy.special.expit(-excess), -electron_kT * np.logaddexp(0, -excess)])
    found = scipy.fft.dct(values, type=2)[:, :n_moments] / (2 * n_moments)
    found[:, 0] /= 2
    return found


def _step_coefficients(interval: Interval, n_moments: int, mu: float) -> FloatArray:
    """Of f = theta(mu - e) and g = (e - mu) f; with x = cos phi at mu, f_n = -2 sin(n phi) / n pi.

    g' = f gives g_n = a (f_n-1 - f_n+1) / 2n, where f_0 counts twice.
    """
    phi = np.arccos(np.clip((mu - interval.center) / interval.half_width, -1, 1))
    n = np.arange(1, n_moments + 1)
    f = np.concatenate([[2 - 2 * phi / np.pi], -2 * np.sin(n * phi) / (n * np.pi)])
    g = np.empty(n_moments)
    g[0] = -(np.sin(phi) + (np.pi - phi) * np.cos(phi)) / np.pi
    g[1:] = (f[:-2] - f[2:]) / (2 * n[:-1])
    f[0] /= 2
    return np.stack([f[:-1], interval.half_width * g])


def truncation_error(
    interval: Interval, electron_kT: float, moments: FloatArray, mu: float
) -> float:
    """Root mean square over the levels of f(e) - sum_n f_n T_n, what the series makes wrong.

    The levels are taken from the moments, broadened by the Jackson kernel.
    """
    if not np.isfinite(mu):
        return 0.0
    n = len(moments)
    angle = np.pi * (np.arange(4 * n) + 0.5) / (4 * n)
    excess = interval.center + interval.half_width * np.cos(angle) - mu
    exact = scipy.special.expit(-excess / electron_kT) if electron_kT > 0 else excess < 0
    occupation, _ = coefficients(interval, electron_kT, n, mu)
    series = _at_nodes(occupation / np.where(np.arange(n) > 0, 2.0, 1.0))
    weights = np.maximum(_at_nodes(jackson_kernel(n) * moments), 0)
    return float(np.sqrt(weights @ (exact - series) ** 2 / weights.sum()))


def _at_nodes(values: FloatArray) -> FloatArray:
    """v_0 + 2 sum_n v_n cos(n theta) at 4 M Gauss-Chebyshev nodes."""
    return scipy.fft.dct(np.pad(values, (0, 3 * len(values))), type=3)


def chemical_potential(
    interval: Interval, electron_kT: float, moments: FloatArray, filling: float, unit: float
) -> float:
    """mu at which sum_n f_n(mu) mu_n = N_e, to 1e-10 of the 2N = mu_0 states or 1e-13 ``unit``.

    The middle of the interval of mu within that tolerance: where a gap makes the electron number
    insensitive, both ends are exponentials of the same rate and the middle is the solution. Empty
    and full bands give -inf and +inf.
    """
    if filling in (0, 1):
        return np.inf if filling == 1 else -np.inf

    def excess(mu: float, offset: float) -> float:
        found = coefficients(interval, electron_kT, len(moments), mu)[0] @ moments
        return float(found / moments[0] - filling - offset)

    # Filling f of a single level lies kT ln(f / (1 - f)) away from it.
    pad = electron_kT * (30 + abs(np.log(filling) - np.log1p(-filling)))
    ends = interval.lower - pad, interval.upper + pad
    tolerance = min(MU_TOLERANCE, filling / 2, (1 - filling) / 2)
    roots = [
        scipy.optimize.brentq(excess, *ends, args=(offset,), xtol=1e-13 * unit, rtol=1e-14)
        for offset in (-tolerance, tolerance)
    ]
    return float(np.mean(roots))
