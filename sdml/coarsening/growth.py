"""Growth laws of a length L(t) measured on several seeds.

    plain       L = A t^n               the slope in a double-logarithmic plot
    offset      L = L0 + A t^n
    origin      L = A (t - t_s)^n

A plain slope misleads at small lengths: L = 10 + v t has the slope v t / (10 + v t), 0.7 where
v t = 23. The other two say how much of it a constant may explain, by a length or by a time. The
local slope of L against t is constant for n = 1 with any constant, that of L^2 for n = 1/2 with any
time origin: L = L0 + A t^(1/2) has d(L^2)/dt = A^2 L / (L - L0), which rises where L0 < 0.
Residuals are those of ln L: the scatter between seeds grows with L. Times of one seed are
correlated, so that intervals come from resampling whole seeds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit
from scipy.stats import norm

from sdml.spins import real_array

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PARAMETERS = {"plain": ("A", "n"), "offset": ("A", "n", "L0"), "origin": ("A", "n", "t_s")}
STARTING_EXPONENT = 0.6
BOUNDS = 0.05, 4.0
"""Of the exponent."""
SMALLEST = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval at 95 %."""

    value: float
    interval: tuple[float, float]


def usable(lengths: ArrayLike, imbalance: ArrayLike, box_length: float) -> BoolArray:
    """Times (n_times,) that are free of the box.

    They end for all seeds when the mean length reaches a quarter of the box, or when the first
    seed has abs(<sign chi>) = 0.3: sets that lost a seed on the way would have another mean.

    Parameters
    ----------
    lengths, imbalance : (n_seeds, n_times)
        The length compared with the box, 2 pi / <q> by the strictest rule, and <sign chi> as of
        :func:`sdml.coarsening.domains.imbalance`.
    box_length : float
        Shortest period of the box.

    Raises
    ------
    ValueError
        Shapes that differ, a mask, or nan in a time that counts.
    """
    L, m = _table(lengths), _table(imbalance, "imbalance")
    if m.shape != L.shape:
        raise ValueError(f"imbalance: shape must be {L.shape}, got {m.shape}")
    ended = (L.mean(0) >= box_length / 4) | (np.abs(m) >= 0.3).any(0)
    free = ~np.logical_or.accumulate(ended)
    require_numbers({"imbalance": m, "lengths": L}, free)
    return free


def numbers(values: ArrayLike, argument: str) -> FloatArray:
    """As floats, nan where there are none; ValueError for what is no real number, or masked."""
    return real_array(values, argument).astype(float)


def require_numbers(series: Mapping[str, FloatArray], counts: Any = True) -> None:
    """ValueError that names the first of these series that has nan or infinity where it counts."""
    for argument, values in series.items():
        n_bad = int((~np.isfinite(values) & counts).sum())
        if n_bad:
            bad = f"{n_bad} nan or infinite values"
            raise ValueError(f"{argument}: must be numbers where they count, got {bad}")


def interval(
    law: str, time: ArrayLike, lengths: ArrayLike, n_resamples: int = 400, seed: int = 0
) -> dict[str, Estimate]:
    """The parameters of a law with their 95 % :func:`bootstrap` intervals over seeds.

    ValueError for an unknown law, or for no more times than it has parameters.
    """
    if law not in PARAMETERS:
        raise ValueError(f"law: must be one of {sorted(PARAMETERS)}, got {law!r}")
    t, L = _given(time, lengths)
    if len(t) <= len(PARAMETERS[law]):
        raise ValueError(f"time: {len(t)} values are too few for the law {law!r}")

    def parameters(chosen: NDArray[np.int64]) -> FloatArray:
        return _fitted(law, t, np.log(L[chosen]).mean(0))

    found = bootstrap(parameters, len(L), n_resamples, seed)
    return dict(zip(PARAMETERS[law], found, strict=True))


def local_slopes(
    time: ArrayLike,
    lengths: ArrayLike,
    power: float = 1.0,
    window: int = 5,
    n_resamples: int = 400,
    seed: int = 0,
) -> tuple[FloatArray, list[Estimate]]:
    """d L^power / dt in windows of consecutive times: centers (k,) and slopes with intervals.

    Constant for power = 1 if L grows linearly, for power = 2 if L^2 does. ValueError for a window
    of less than two times, or of more than there are.
    """
    t, L = _given(time, lengths)
    if not 2 <= window <= len(t):
        raise ValueError(f"window: must be in [2, {len(t)}], got {window}")
    parts = [slice(k, k + window) for k in range(len(t) - window + 1)]

    def slopes(chosen: NDArray[np.int64]) -> FloatArray:
        mean = (L[chosen] ** power).mean(0)
        return np.array([np.polyfit(t[p], mean[p], 1)[0] for p in parts])

    return np.array([t[p].mean() for p in parts]), bootstrap(slopes, len(L), n_resamples, seed)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], FloatArray], n_seeds: int, n_resamples: int, seed: int
) -> list[Estimate]:
    """Values of a statistic (k,) of seed numbers (m,), with 95 % intervals from resampled seeds.

    Percentiles of few seeds are too narrow; their distances from the value are widened by
    sqrt(n / (n - 1)) t_(n - 1) / z, the ratio of Student's to the plain interval for a mean (1.9
    for 4 seeds, 1.3 for 8); a single seed has none, nan. Hesterberg, Am. Stat. 69, 371 (2015),
    doi 10.1080/00031305.2015.1089789.
    """
    value = statistic(np.arange(n_seeds))
    if n_seeds == 1:
        return [Estimate(v, (np.nan, np.nan)) for v in value.tolist()]
    draws = resampled(statistic, n_seeds, n_resamples, seed)
    ends = np.nanpercentile(draws, [2.5, 97.5], axis=0)
    wider = np.sqrt(n_seeds / (n_seeds - 1)) * stdtrit(n_seeds - 1, 0.975) / norm.ppf(0.975)
    lower, upper = value + wider * (ends - value)
    rows = np.transpose([value, lower, upper]).tolist()
    return [Estimate(v, (low, high)) for v, low, high in rows]


def resampled(
    statistic: Callable[[NDArray[np.int64]], FloatArray], n_seeds: int, n_resamples: int, seed: int
) -> FloatArray:
    """Values (n_resamples, k) of a statistic of seed numbers (m,), drawn with replacement."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.integers(n_seeds, size=(n_resamples, n_seeds)))
    # Few seeds give few different resamples, 35 for 4: each is worked out once.
    different, which = np.unique(chosen, axis=0, return_inverse=True)
    return np.array([statistic(row) for row in different])[which.ravel()]


def _curve(law: str, x: FloatArray, t: FloatArray) -> FloatArray:
    """L(t) of a law, given by n, ln L at the first time and the rise of ln L up to the last."""
    n, first, last = x[0], np.exp(x[1]), np.exp(x[1] + x[2])
    if law == "origin":  # L^(1/n) is linear in t
        first, last = first ** (1 / n), last ** (1 / n)
        return np.asarray((first + (last - first) * (t - t[0]) / (t[-1] - t[0])) ** n)
    return np.asarray(first + (last - first) * (t**n - t[0] ** n) / (t[-1] ** n - t[0] ** n))


def _parameters(law: str, x: FloatArray, t: FloatArray) -> FloatArray:
    """A, n and the constant of the same law."""
    n, first, last = x[0], np.exp(x[1]), np.exp(x[1] + x[2])
    if law == "origin":
        first, last = first ** (1 / n), last ** (1 / n)
        slope = (last - first) / (t[-1] - t[0])
        return np.array([slope**n, n, t[0] - first / slope])
    amplitude = (last - first) / (t[-1] ** n - t[0] ** n)
    return np.array([amplitude, n, first - amplitude * t[0] ** n])


def _fitted(law: str, t: FloatArray, mean: FloatArray) -> FloatArray:
    """Parameters (k,) from the seeds' mean of ln L."""
    if law == "plain":
        n, constant = np.polyfit(np.log(t), mean, 1)
        return np.array([np.exp(constant), n])

    def residual(x: FloatArray) -> FloatArray:
        return mean - np.log(_curve(law, x, t))

    # Lengths at both ends are well known where A, n and the constant together are not.
    bounds = ([BOUNDS[0], -np.inf, SMALLEST], [BOUNDS[1], np.inf, np.inf])
    start = [STARTING_EXPONENT, mean[0], max(mean[-1] - mean[0], 2 * SMALLEST)]
    return _parameters(law, least_squares(residual, start, bounds=bounds).x, t)


def _table(values: ArrayLike, argument: str = "lengths") -> FloatArray:
    table = numbers(values, argument)
    if table.ndim != 2:
        raise ValueError(f"{argument}: shape must be (n_seeds, n_times), got {table.shape}")
    return table


def _given(time: ArrayLike, lengths: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Checked time and lengths."""
    L, t = _table(lengths), numbers(time, "time")
    require_numbers({"time": t, "lengths": L})
    if t.shape != L.shape[1:] or not (t > 0).all() or not (np.diff(t) > 0).all():
        raise ValueError(f"time: must be {L.shape[1]} positive ascending times, got {t}")
    if not (L > 0).all():
        raise ValueError("lengths: must be positive, got others")
    return t, L
