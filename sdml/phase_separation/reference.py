"""Stored runs into phase separation: statistics of holes and clusters of several seeds of a quench.

Of the doped square lattice in data/reference/arrest.json, written by studies/arrest.py.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sdml import files
from sdml.coarsening import growth
from sdml.phase_separation import arrest

FloatArray = NDArray[np.float64]
LONG = 900.0
"""Time from which on a run may be called arrested, hbar / t."""
PUBLISHED = {"dt": 0.5, "damping": 0.05, "kT": 0.001}
"""The settings of the published quench; dt is ours."""
ENGINES = ("exact", "_paper", "transverse", "published")
KINDS = ("exact", "paper's method", "published kind, torque alone", "published kind")
"""What the names of engines mean, of which these are parts."""
SYMBOLS = {"dt": r"$\Delta t$", "damping": r"$\alpha$", "kT": "$kT$"}


@dataclass(frozen=True)
class Runs:
    """Statistics of several seeds of one quench, as studies/arrest.py stores them.

    Attributes
    ----------
    name, engine : str
    length : int
        Sites along x and y.
    equation : dict
        dt, damping, kT, method.
    schedule : list of (time, kT), or None
    seeds : list of int
    time : (n_times,)
        hbar / t.
    statistics : dict
        Name -> (n_runs, n_times), see :func:`snapshots.statistics`, and clusters_per_1000 sites;
        an infinite length is nan.
    sizes : list of list of int
        Sites of every cluster at the end of each run.
    """

    name: str
    engine: str
    length: int
    equation: dict[str, Any]
    schedule: list[list[float]] | None
    seeds: list[int]
    time: FloatArray
    statistics: dict[str, FloatArray]
    sizes: list[list[int]]

    @property
    def label(self) -> str:
        """Kind of engine, size, and what differs from the published settings."""
        kind = next((k for e, k in zip(ENGINES, KINDS, strict=True) if e in self.engine), "network")
        if self.schedule:
            warmest = max(kT for _, kT in self.schedule)
            return f"{kind} ${self.length}^2$, heated to {warmest:g}"
        varied = [f"{SYMBOLS[name]} = {self.equation[name]:g}" for name in self.varied]
        return ", ".join([f"{kind} ${self.length}^2$", *varied])

    @property
    def varied(self) -> list[str]:
        """Settings that are not the published ones."""
        return [name for name, usual in PUBLISHED.items() if self.equation[name] != usual]

    @property
    def warm(self) -> tuple[float, float]:
        """When a bath that is made warmer leaves its temperature, and when it begins to cool."""
        if not self.schedule:
            raise ValueError(f"{self.name}: the bath is never made warmer")
        return self.schedule[0][0], self.schedule[-2][0]

    @property
    def judged(self) -> bool:
        """Whether it says anything about arrest: several seeds, long, and one temperature."""
        return len(self.seeds) > 1 and self.time[-1] >= LONG and not self.schedule

    def share_of_larger(self) -> tuple[FloatArray, FloatArray]:
        """Sizes s, ascending, and the share of the clusters of all runs with s sites or more."""
        sizes = np.concatenate([np.asarray(one, dtype=float) for one in self.sizes])
        found, counts = np.unique(sizes, return_counts=True)
        return found, counts[::-1].cumsum()[::-1] / len(sizes)

    def nearest(self, times: Sequence[float]) -> list[int]:
        """Indices of the stored times next to ``times``."""
        return [int(abs(self.time - t).argmin()) for t in times]

    def at(self, name: str, times: Sequence[float]) -> tuple[FloatArray, FloatArray]:
        """Mean over the runs (k,) at the stored times next to ``times``, and their scatter."""
        values = self.statistics[name][:, self.nearest(times)]
        return values.mean(0), values.std(0, ddof=1)

    def row(self, time: float) -> dict[str, float]:
        """Mean over the runs of all statistics at the stored time next to ``time``."""
        (k,) = self.nearest([time])
        return {name: float(values[:, k].mean()) for name, values in self.statistics.items()}

    def overlap(self, age: int, of: str = "overlap") -> tuple[FloatArray, FloatArray]:
        """Time passed since ``age``, and mean overlap with the spins of then.

        With the density of then for ``of`` "density_overlap", see :mod:`snapshots`.
        """
        later = self.time > age
        return self.time[later] - age, self.statistics[f"{of}_{age}"].mean(0)[later]

    def end(self, name: str) -> arrest.Late:
        """The last two thirds of the times, see :func:`sdml.phase_separation.arrest.late`."""
        return arrest.late(self.time, self.statistics[name], after=self.time[-1] / 3)

    def mean(self, name: str) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times, mean over the runs and its standard error (nan for a single run)."""
        values = self.statistics[name]
        error = values.std(0, ddof=1) if len(values) > 1 else np.full(len(self.time), np.nan)
        return self.time, values.mean(0), error / np.sqrt(len(values))


def load(path: str | os.PathLike[str]) -> dict[str, Runs]:
    """Name -> runs of every set of a store, at the times that all its runs have.

    ValueError if the file is no such store.
    """
    return files.sets(path, _runs)


def _runs(row: dict[str, Any], _: Any) -> Runs:
    runs = row["runs"]
    for run in runs:
        growth.require_numbers({"time": np.array(run["time"], dtype=float)})
    shared = sorted(set.intersection(*(set(run["time"]) for run in runs)))
    statistics = {
        # None stands for what was not measured, nan here.
        name: np.array(
            [np.array(run["statistics"][name], float)[np.isin(run["time"], shared)] for run in runs]
        )
        for name in runs[0]["statistics"]
        if all(name in run["statistics"] for run in runs)
    }
    statistics["clusters_per_1000"] = 1000 / row["length"] ** 2 * statistics["n_clusters"]
    described = {k: row[k] for k in ("name", "engine", "length", "equation", "schedule")}
    seeds = [run["seed"] for run in runs]
    sizes = [run["cluster_sizes"] for run in runs]
    return Runs(**described, seeds=seeds, time=np.array(shared), statistics=statistics, sizes=sizes)


def plateaus(sets: Mapping[str, Runs]) -> Any:
    """Rows by label of the quenches that say where growth stops: :meth:`Runs.end` for people.

    Level and slope of d ln x / d ln t of the size of the clusters and of their number per 1000
    sites; arrested if both slopes exclude a quarter of the exponents of diffusive growth, +-2/3.
    """
    rows = {}
    for case in (q for q in sets.values() if q.judged):
        size, number = case.end("mean_size"), case.end("clusters_per_1000")
        verdicts = {size.verdict(2 / 3), number.verdict(-2 / 3)}
        rows[case.label] = {
            "seeds": size.n_runs,
            "sites per cluster": f"{size.level:.2f} ± {size.level_error:.2f}",
            "clusters per 1000 sites": f"{number.level:.1f} ± {number.level_error:.1f}",
            "slope of the size": f"{size.slope:.3f} ± {size.slope_error:.3f}",
            "slope of the number": f"{number.slope:.3f} ± {number.slope_error:.3f}",
            "verdict": " / ".join(sorted(verdicts)),
        }
    return rows


def matched(
    first: Runs, second: Runs, times: Sequence[float], names: Sequence[str]
) -> dict[tuple[str, str], Any]:
    """Two quenches at the same times: mean ± scatter of the seeds, by (name, label) and time.

    Below each pair the probability of a difference at least as large from seeds of equal means:
    Welch, Biometrika 34, 28 (1947), doi 10.1093/biomet/34.1-2.28.
    """
    rows: dict[tuple[str, str], Any] = {}
    common = [t for t in times if t <= min(first.time[-1], second.time[-1])]
    for name in names:
        for case in (first, second):
            kept = [t for t in times if t <= case.time[-1]]
            cells = zip(kept, *case.at(name, kept), strict=True)
            rows[name, case.label] = {f"t = {t:g}": f"{m:.3g} ± {s:.2g}" for t, m, s in cells}
        values = [case.statistics[name][:, case.nearest(common)] for case in (first, second)]
        by_chance = zip(common, stats.ttest_ind(*values, equal_var=False).pvalue, strict=True)
        rows[name, "p of equal means"] = {f"t = {t:g}": f"{p:.2g}" for t, p in by_chance}
    return rows
