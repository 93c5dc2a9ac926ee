"""Growth laws of a length L(t) measured on several seeds, compared by seeds that were left out.

    linear      L = L0 + v t
    diffusive   L^2 = L0^2 + k t
    power       L = L0 + A t^n

A slope in a double-logarithmic plot misleads at small lengths: with L0 = 10 the linear law has the
slope v t / (L0 + v t), 0.7 where v t = 23. Laws with an offset, and the local slopes of L and of
L^2 against t, do not. Residuals are those of ln L: the scatter between seeds grows with L. Times of
one seed are correlated, so that intervals come from resampling whole seeds.
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

PARAMETERS = {"linear": ("L0", "v"), "diffusive": ("L0^2", "k"), "power": ("L0", "A", "n")}
POWERS = {"linear": 1, "diffusive": 2, "power": 1}
"""Of L, on the left of each law."""
STARTING_EXPONENTS = (0.35, 0.6, 1.0)
SMALLEST = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval at 95 %."""

    value: float
    interval: tuple[float, float]


def usable(lengths: ArrayLike, imbalance: ArrayLike, box_length: float) -> BoolArray:
    """Seeds and times (n_seeds, n_times) that are free of the box.

    A seed counts until abs(<sign chi>) first reaches 0.3; a time counts for all seeds until the
    mean L of the seeds that count reaches a quarter of the box. Cutting single seeds at L_box / 4
    would keep the slow ones and bend the law.

    Parameters
    ----------
    lengths, imbalance : (n_seeds, n_times)
        The length compared with the box (area / wall length, unless there is a reason) and
        <sign chi> as of :func:`sdml.coarsening.domains.imbalance`.
    box_length : float
        Shortest period of the box.

    Raises
    ------
    ValueError
        Shapes that differ, a mask, or nan in a value that counts.
    """
    L, m = _table(lengths), _table(imbalance, "imbalance")
    if m.shape != L.shape:
        raise ValueError(f"imbalance: shape must be {L.shape}, got {m.shape}")
    balanced = np.logical_and.accumulate((np.abs(m) < 0.3) | np.isnan(m), axis=1)
    counts = balanced.sum(0)
    mean = np.where(balanced, L, 0.0).sum(0) / np.maximum(counts, 1)
    small = np.logical_and.accumulate((counts > 0) & ~(mean >= box_length / 4))
    require_numbers({"imbalance": m, "lengths": L}, balanced & small)
    return balanced & small


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


def held_out_errors(
    law: str, time: ArrayLike, lengths: ArrayLike, mask: ArrayLike | None = None
) -> FloatArray:
    """Mean square of ln L of every seed about the law fitted to the others, (n_seeds,).

    Seeds differ coherently, which every law misses alike: compare laws by the differences of these
    errors seed by seed. NaN for a seed without usable times.
    """
    t, L, keep = _given(time, lengths, mask, law)
    if len(L) < 2:
        raise ValueError(f"lengths: at least 2 seeds are needed, got {len(L)}")
    errors = np.full(len(L), np.nan)
    for seed in np.flatnonzero(keep.any(1)):
        others = np.arange(len(L)) != seed
        curve = _curve(law, _fitted(law, t, L[others], keep[others]), t)
        errors[seed] = np.mean((np.log(L[seed]) - np.log(curve))[keep[seed]] ** 2)
    return errors


def selected_law(time: ArrayLike, lengths: ArrayLike, mask: ArrayLike | None = None) -> str:
    """The law that predicts left-out seeds best, in the mean over the seeds.

    The power law contains the linear one; it is chosen only if it predicts better.
    """
    return min(PARAMETERS, key=lambda law: np.nanmean(held_out_errors(law, time, lengths, mask)))


def interval(
    law: str,
    time: ArrayLike,
    lengths: ArrayLike,
    mask: ArrayLike | None = None,
    n_resamples: int = 400,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The parameters of a law with their 95 % :func:`bootstrap` intervals over seeds."""
    t, L, keep = _given(time, lengths, mask, law)

    def parameters(chosen: NDArray[np.int64]) -> FloatArray:
        return _fitted(law, t, L[chosen], keep[chosen])

    found = bootstrap(parameters, len(L), n_resamples, seed)
    return dict(zip(PARAMETERS[law], found, strict=True))


def exponent(
    time: ArrayLike,
    lengths: ArrayLike,
    mask: ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Slope of the seeds' mean ln L against ln t, without an offset, with its interval."""
    t, L, keep = _given(time, lengths, mask)

    def slope(chosen: NDArray[np.int64]) -> FloatArray:
        mean, weight = _seed_mean(np.log(L[chosen]), keep[chosen])
        return np.array([_slope(np.log(t), mean, weight)])

    return bootstrap(slope, len(L), n_resamples, seed)[0]


def local_slopes(
    time: ArrayLike,
    lengths: ArrayLike,
    power: float = 1.0,
    mask: ArrayLike | None = None,
    window: int = 5,
    n_resamples: int = 400,
    seed: int = 0,
) -> tuple[FloatArray, list[Estimate]]:
    """d L^power / dt in windows of consecutive times: centres (k,) and slopes with intervals.

    Constant for power = 1 under the linear law, for power = 2 under the diffusive one. Windows
    without two usable times are left out.
    """
    t, L, keep = _given(time, lengths, mask)
    if not 2 <= window <= len(t):
        raise ValueError(f"window: must be in [2, {len(t)}], got {window}")
    counts = keep.sum(0)
    starts = [k for k in range(len(t) - window + 1) if (counts[k : k + window] > 0).sum() > 1]

    def slopes(chosen: NDArray[np.int64]) -> FloatArray:
        mean, weight = _seed_mean(L[chosen] ** power, keep[chosen])
        parts = [slice(k, k + window) for k in starts]
        return np.array([_slope(t[p], mean[p], weight[p]) for p in parts])

    centers = np.array([t[k : k + window].mean() for k in starts])
    return centers, bootstrap(slopes, len(L), n_resamples, seed)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], FloatArray], n_seeds: int, n_resamples: int, seed: int
) -> list[Estimate]:
    """Values of a statistic (k,) of seed numbers (m,), with 95 % intervals from resampled seeds.

    Percentiles of few seeds are too narrow; their distances from the value are widened by
    sqrt(n / (n - 1)) t_(n - 1) / z, the ratio of Student's to the plain interval for a mean (1.9
    for 4 seeds, 1.3 for 8). Hesterberg, Am. Stat. 69, 371 (2015),
    doi 10.1080/00031305.2015.1089789.
    """
    if n_seeds < 2:
        raise ValueError(f"lengths: at least 2 seeds are needed, got {n_seeds}")
    value = statistic(np.arange(n_seeds))
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
    n = x[2] if law == "power" else 1.0
    return np.maximum(x[0] + x[1] * t**n, SMALLEST) ** (1 / POWERS[law])


def _fitted(law: str, t: FloatArray, L: FloatArray, keep: BoolArray) -> FloatArray:
    """Parameters (k,); only the seeds' mean of ln L at every time enters, with its count.

    Searches start from straight lines through L or L^2 with relative weights; of the power law from
    one against t^n for each of a few n.
    """
    mean, weight = _seed_mean(np.log(L), keep)
    used, n_parameters = weight > 0, len(PARAMETERS[law])
    if used.sum() < n_parameters + 1:
        raise ValueError(f"mask: leaves {used.sum()} times, too few for the {law} law")
    last = t[used][-1]
    t, mean, root = t[used] / last, mean[used], np.sqrt(weight[used])
    y = np.exp(mean) ** POWERS[law]

    def residual(x: FloatArray) -> FloatArray:
        return root * (mean - np.log(_curve(law, x, t)))

    bounds = ([-np.inf, 0, 0.05], [np.inf, np.inf, 4]) if law == "power" else (-np.inf, np.inf)
    found = []
    for n in STARTING_EXPONENTS if law == "power" else (1.0,):
        line = np.polyfit(t**n, y, 1, w=root / y)[::-1]
        start = np.clip([*line, n][:n_parameters], *bounds)
        found.append(least_squares(residual, start, bounds=bounds, x_scale="jac"))
    x: FloatArray = min(found, key=lambda result: result.cost).x
    x[1] /= last ** (x[2] if law == "power" else 1.0)
    return x


def _seed_mean(values: FloatArray, keep: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Mean over the seeds that count at every time, and their number."""
    counts = keep.sum(0)
    return np.where(keep, values, 0.0).sum(0) / np.maximum(counts, 1), counts.astype(float)


def _slope(x: FloatArray, y: FloatArray, weight: FloatArray) -> float:
    """Weighted straight line; nan where fewer than two points count."""
    if (weight > 0).sum() < 2:
        return float("nan")
    dx = x - np.average(x, weights=weight)
    return float((weight * dx) @ y / ((weight * dx) @ dx))


def _table(values: ArrayLike, argument: str = "lengths") -> FloatArray:
    table = numbers(values, argument)
    if table.ndim != 2:
        raise ValueError(f"{argument}: shape must be (n_seeds, n_times), got {table.shape}")
    return table


def _given(
    time: ArrayLike, lengths: ArrayLike, mask: ArrayLike | None, law: str = "power"
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Checked time, lengths and mask; lengths that do not count are replaced by 1."""
    if law not in PARAMETERS:
        raise ValueError(f"law: must be one of {sorted(PARAMETERS)}, got {law!r}")
    L, t = _table(lengths), numbers(time, "time")
    chosen = np.ones(L.shape) if mask is None else numbers(mask, "mask")
    require_numbers({"time": t, "mask": chosen})
    keep: BoolArray = chosen.astype(bool)
    if t.shape != L.shape[1:] or not (t > 0).all() or not (np.diff(t) > 0).all():
        raise ValueError(f"time: must be {L.shape[1]} positive ascending times, got {t}")
    if keep.shape != L.shape or not keep.any():
        raise ValueError(f"mask: must keep something of shape {L.shape}, got {keep.shape}")
    if not (np.isfinite(L[keep]) & (L[keep] > 0)).all():
        raise ValueError("lengths: must be positive and finite where they count, got others")
    return t, np.where(keep, L, 1.0), keep
