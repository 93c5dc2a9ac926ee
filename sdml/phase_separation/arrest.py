"""Does a growth law go on, or is it arrested? Late slopes with errors, and what they exclude.

With d ln s / d ln t of the mean cluster size s over independent runs. Diffusion of conserved holes
would let lengths grow as t^(1/3) and areas as t^(2/3): Lifshitz and Slyozov, J. Phys. Chem. Solids
19, 35 (1961), doi 10.1016/0022-3697(61)90054-3; Bray, Adv. Phys. 43, 357 (1994),
doi 10.1080/00018739400101505. An arrested run has slope 0 on a plateau.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sdml.coarsening import growth

__all__ = ["AREA_EXPONENT", "Late", "late"]

FloatArray = NDArray[np.float64]
AREA_EXPONENT = 2 / 3
"""Of the number of sites of a cluster; its number falls with the opposite exponent."""
N_RESAMPLES = 1000


@dataclass(frozen=True)
class Late:
    """The end of a series over several runs.

    Attributes
    ----------
    slope, slope_error : float
        d ln(value) / d ln t of the mean over runs, and its standard error.
    level, level_error : float
        Mean value over the window and runs, and its standard error from run to run.
    window : (float, float)
        Times.
    n_runs : int
    """

    slope: float
    slope_error: float
    level: float
    level_error: float
    window: tuple[float, float]
    n_runs: int

    def verdict(self, exponent: float = AREA_EXPONENT, confidence: float = 0.95) -> str:
        """'arrested', 'growing' or 'undecided'.

        Growing: the ``confidence`` interval of the slope, by Student's t for so many runs, excludes
        0 in the direction of ``exponent``. Arrested: otherwise, if the slope plus its margin stays
        below a quarter of the exponent in size, whatever its sign. For a number of clusters give
        the negative exponent.
        """
        if exponent == 0:
            raise ValueError("exponent: must not be 0, the slope of an arrested run")
        quantile = stats.t.ppf((1 + confidence) / 2, self.n_runs - 1)
        slope, margin = self.slope * np.sign(exponent), quantile * self.slope_error
        if slope - margin > 0:
            return "growing"
        return "arrested" if abs(slope) + margin < abs(exponent) / 4 else "undecided"


def late(
    time: Any, values: Any, after: float, until: float = np.inf, seed: int = 0, points: int = 20
) -> Late:
    """Slope and level of ``values`` (n_runs, n_times) at ``after`` <= t <= ``until``.

    The mean over runs is fitted by a power law through ``points`` times spaced evenly in ln t. The
    error is that of a bootstrap over whole runs, which keeps their correlation in time, widened by
    sqrt(n / (n - 1)) because resampling n runs finds too small a variance.

    Raises
    ------
    ValueError
        Fewer than two runs or three times in the window, or a mean that is not positive.
    """
    t, x = growth.numbers(time, "time"), np.atleast_2d(growth.numbers(values, "values"))
    growth.require_numbers({"time": t})
    if t.ndim != 1 or x.shape[1:] != t.shape or not (np.diff(t) > 0).all():
        raise ValueError(
            f"values: shape must be (n_runs, {t.size}) at ascending times, got {x.shape}"
        )
    inside = (t >= after) & (t <= until) & (t > 0)
    if x.shape[0] < 2 or inside.sum() < 3:
        raise ValueError(
            "values: need at least 2 runs and 3 times in the window, got "
            f"{x.shape[0]} and {int(inside.sum())}"
        )
    t, x = t[inside], x[:, inside]
    growth.require_numbers({"values": x})
    grid = np.linspace(np.log(t[0]), np.log(t[-1]), points)

    def slope(runs: NDArray[np.int64]) -> FloatArray:
        mean = x[runs].mean(0)
        if not (np.isfinite(mean) & (mean > 0)).all():
            raise ValueError(f"values: the mean must be finite and positive, got {mean.min()}")
        return np.polyfit(grid, np.interp(grid, np.log(t), np.log(mean)), 1)[0]

    spread = growth.resampled(slope, len(x), N_RESAMPLES, seed).std()
    levels = x.mean(1)
    return Late(
        slope=float(slope(np.arange(len(x)))),
        slope_error=float(spread * np.sqrt(len(x) / (len(x) - 1))),
        level=float(levels.mean()),
        level_error=float(levels.std(ddof=1) / np.sqrt(len(x))),
        window=(float(t[0]), float(t[-1])),
        n_runs=len(x),
    )
