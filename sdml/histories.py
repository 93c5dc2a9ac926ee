"""Stored histories of long quenches: what several seeds of one quench measured, to be drawn.

Lengths of chiral domains and the laws they obey (data/reference/coarsening.json, written by
benchmarks/coarsening.py), and statistics of holes and clusters (arrest.json, benchmarks/arrest.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdml import arrest, growth

FloatArray = NDArray[np.float64]
FORMING = 30.0
"""Times the inverse damping: until then the chirality forms, domains of full order come later."""
LONG = 900.0
"""Time from which on a run may be called arrested, hbar / t."""
USUAL = {"dt": 2.0, "damping": 0.3, "kT": 0.0, "method": "adams"}
FIELDS = {"second": "second network", "kpm": "KPM fields"}
PUBLISHED = {"dt": 0.5, "damping": 0.05, "kT": 0.001}
"""Of the arrested quenches; their dt is ours."""
SYMBOLS = {"dt": r"$\Delta t$", "damping": r"$\alpha$", "kT": "$kT$", "method": "method"}


@dataclass(frozen=True)
class History:
    """What some seeds of one quench measured.

    Attributes
    ----------
    name, engine : str
    length : int
        Sites along each direction.
    equation : dict
        dt, damping, kT, method.
    seeds : list of int
    time : (n_times,)
        hbar / t.
    observables : dict
        Name -> (n_seeds, n_times, ...).
    estimators : tuple of str
        Of the last axis of the observable ``lengths``.
    """

    name: str
    engine: str
    length: int
    equation: dict[str, Any]
    seeds: list[int]
    time: FloatArray
    observables: dict[str, FloatArray]
    estimators: tuple[str, ...]

    @property
    def varied(self) -> dict[str, Any]:
        """What differs from the main quench besides the size: settings, and the fields."""
        settings = {k: self.equation[k] for k, v in USUAL.items() if self.equation[k] != v}
        fields = self.name.partition("_")[0]
        return settings if fields == "main" else settings | {"fields": fields}

    @property
    def label(self) -> str:
        """Size, and what is not usual."""
        varied = [
            f"{SYMBOLS[name]} = {value}" if name in SYMBOLS else FIELDS.get(value, str(value))
            for name, value in self.varied.items()
        ]
        return ", ".join([f"${self.length}^2$", *varied])

    @property
    def usual(self) -> bool:
        """Whether it differs from the main quench by its size only."""
        return not self.varied

    @property
    def box_length(self) -> float:
        """Shortest period of the rhombus of L x L sites, lattice constants."""
        return float(np.sqrt(3) / 2 * self.length)

    def lengths(self, estimator: str = "wall") -> FloatArray:
        """(n_seeds, n_times) by one of the estimators; ValueError for one that is unknown."""
        if estimator not in self.estimators:
            raise ValueError(f"estimator: must be one of {self.estimators}, got {estimator!r}")
        return self.observables["lengths"][..., self.estimators.index(estimator)]

    def late(self, estimator: str = "wall") -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Times (k,) of coarsening, lengths (n_seeds, k) and what is free of the box (n_seeds, k).

        The box is compared with the area over the wall length, see :func:`sdml.growth.usable`.
        """
        free = growth.usable(self.lengths(), self.observables["imbalance"], self.box_length)
        after = self.time >= FORMING / self.equation["damping"]
        after &= free.any(0)
        return self.time[after], self.lengths(estimator)[:, after], free[:, after]

    def mean_length(self, estimator: str = "wall") -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times (k,), mean over the seeds that count and its standard error, see :meth:`late`.

        The error is nan where a single seed is left.
        """
        time, lengths, free = self.late(estimator)
        kept, n = np.where(free, lengths, np.nan), free.sum(0)
        error = np.where(n > 1, np.nanstd(kept, 0) / np.sqrt(np.maximum(n - 1, 1)), np.nan)
        return time, np.nanmean(kept, 0), error

    def slopes(self, power: float = 1.0, estimator: str = "wall") -> Any:
        """Times and :func:`sdml.growth.local_slopes` of L^power."""
        time, lengths, free = self.late(estimator)
        return growth.local_slopes(time, lengths, power, free)

    def summary(self, estimator: str = "wall") -> dict[str, Any]:
        """:meth:`law` as a row of a table for people."""
        found = self.law(estimator)
        low, high = found["range"]
        return {
            "seeds": found["seeds"],
            "t until": round(found["until"]),
            "L": f"{low:.1f} to {high:.1f}",
            "predicts best": found["best"],
            "n of L0 + A t^n": "{:.2f} [{:.2f}, {:.2f}]".format(*found["n"]),
            "v of L0 + v t": "{:.4f} [{:.4f}, {:.4f}]".format(*found["v"]),
        }

    def law(self, estimator: str = "wall") -> dict[str, Any]:
        """Range of L, the law that predicts left-out seeds best, exponent and speed with intervals.

        ``n`` is that of L = L0 + A t^n and ``v`` that of L = L0 + v t, (value, low, high).
        """
        given = self.late(estimator)
        kept = given[1][given[2]]
        n = growth.interval("power", *given)["n"]
        v = growth.interval("linear", *given)["v"]
        return {
            "seeds": len(self.seeds),
            "until": float(given[0][-1]),
            "range": (float(np.nanmin(kept)), float(np.nanmax(kept))),
            "best": growth.selected_law(*given),
            "n": (n.value, *n.interval),
            "v": (v.value, *v.interval),
        }


def ratio(
    first: History, second: History, estimator: str = "wall"
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Length of one quench over that of another from the same random spins, seed by seed.

    Times (k,) at which all common seeds count in both, mean ratio (k,) and its standard error over
    the seeds, nan for a single one; L of ``second`` is linear in ln t between its own times.
    ValueError if the two share no seed, or no time.
    """
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not seeds:
        raise ValueError(f"second: shares no seed with {first.seeds}, got {second.seeds}")
    time, upper = _free(first, seeds, estimator)
    grid, lower = _free(second, seeds, estimator)
    kept = (time >= grid.min(initial=np.inf)) & (time <= grid.max(initial=-np.inf))
    if not kept.any():
        raise ValueError(f"second: shares no time with {first.label}, got {second.label}")
    time, upper = time[kept], upper[:, kept]
    ratios = upper / [np.interp(np.log(time), np.log(grid), values) for values in lower]
    error = ratios.std(0, ddof=1) if len(seeds) > 1 else np.full(len(time), np.nan)
    return time, ratios.mean(0), error / np.sqrt(len(seeds))


def _free(history: History, seeds: list[int], estimator: str) -> tuple[FloatArray, FloatArray]:
    """Times (k,) at which all these seeds count, and their lengths (n, k)."""
    time, lengths, free = history.late(estimator)
    rows = [history.seeds.index(seed) for seed in seeds]
    kept = free[rows].all(0)
    return time[kept], lengths[rows][:, kept]


def laws(sets: Mapping[str, History], n_seeds: int = 3) -> dict[tuple[str, str], Any]:
    """Summaries by label and estimator of all quenches of so many seeds, or more.

    The largest usual one by three estimators, the others by the wall length. An interval over
    resampled seeds says little for fewer than three.
    """
    main = largest(sets)
    return {
        (history.label, estimator): history.summary(estimator)
        for history in sets.values()
        if len(history.seeds) >= n_seeds
        for estimator in history.estimators[: 3 if history is main else 1]
    }


def largest(sets: Mapping[str, History]) -> History:
    """The main quench of the largest size."""
    return max((h for h in sets.values() if h.usual), key=lambda h: h.length)


def families(sets: Mapping[str, History]) -> dict[str, dict[str, Any]]:
    """Title -> label -> (time, mean length, error) of quenches that differ in one respect.

    In the size, fields and time step; in the temperature; in the damping. The main ones come first.
    """
    respects = {
        "size, fields, time step": ("fields", "dt"),
        "temperature": ("kT",),
        "damping": ("damping",),
    }
    warm_or_damped = {h.length for h in sets.values() if h.varied.keys() & {"kT", "damping"}}
    ordered = sorted(sets.values(), key=lambda h: (len(h.varied), h.length))
    return {
        title: {
            h.label: h.mean_length()
            for h in ordered
            if h.varied.keys() <= set(names)
            and (title.startswith("size") or h.length in warm_or_damped)
        }
        for title, names in respects.items()
    }


def relative(sets: Mapping[str, History]) -> dict[str, dict[str, Any]]:
    """Rows by label: lengths over those of the main quench of the same size, see :func:`ratio`.

    Without those of another damping, whose time is another.
    """
    usual = {h.length: h for h in sets.values() if h.usual}
    rows = {}
    for h in sets.values():
        if h.varied and h.length in usual and "damping" not in h.varied:
            time, mean, error = ratio(h, usual[h.length])
            rows[h.label] = {
                "seeds": len(set(h.seeds) & set(usual[h.length].seeds)),
                "t": f"{time[0]:.0f} to {time[-1]:.0f}",
                "mean ratio": _with_error(mean.mean(), error.mean()),
                "last ratio": _with_error(mean[-1], error[-1]),
            }
    return rows


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if np.isfinite(error) else f"{value:.3f}"


def load(path: str | os.PathLike[str]) -> dict[str, History]:
    """Name -> history of every set of a store; ValueError if it is none."""
    target = Path(path)
    try:
        stored = json.loads(target.read_text())
        estimators = tuple(stored["origin"]["lengths"])
        return {row["name"]: _history(row, estimators) for row in stored["sets"]}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path: {target.name!r} holds no histories ({error!r})") from error


def _history(row: dict[str, Any], estimators: tuple[str, ...]) -> History:
    described = ("name", "engine", "length", "equation", "seeds")
    measured = {
        key: np.array(values, dtype=float)
        for key, values in row.items()
        if key not in (*described, "time")
    }
    for key, values in measured.items():
        if values.shape[:2] != (len(row["seeds"]), len(row["time"])):
            raise ValueError(f"{key}: shape {values.shape} is not (seeds, times, ...)")
    given = {key: row[key] for key in described}
    return History(**given, time=np.array(row["time"]), observables=measured, estimators=estimators)


@dataclass(frozen=True)
class Runs:
    """Statistics of several seeds of one quench, as benchmarks/arrest.py stores them.

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
        Name -> (n_runs, n_times), see :func:`sdml.snapshots.statistics`; an infinite length is nan.
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
        kind = "exact" if self.engine.startswith("exact") else "network"
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
    def usual(self) -> bool:
        """Whether settings and bath are the published ones."""
        return not self.varied and not self.schedule

    @property
    def judged(self) -> bool:
        """Whether it says anything about arrest: several seeds, long, and one temperature."""
        return len(self.seeds) > 1 and self.time[-1] >= LONG and not self.schedule

    def share_of_larger(self) -> tuple[FloatArray, FloatArray]:
        """Sizes s, ascending, and the share of the clusters of all runs with s sites or more."""
        sizes = np.concatenate([np.asarray(one, dtype=float) for one in self.sizes])
        found, counts = np.unique(sizes, return_counts=True)
        return found, counts[::-1].cumsum()[::-1] / len(sizes)

    def at(self, name: str, times: Sequence[float]) -> tuple[FloatArray, FloatArray]:
        """Mean over the runs (k,) at the stored times next to ``times``, and their scatter."""
        picked = [int(abs(self.time - t).argmin()) for t in times]
        values = self.statistics[name][:, picked]
        return values.mean(0), values.std(0, ddof=1)

    def overlap(self, age: int, of: str = "overlap") -> tuple[FloatArray, FloatArray]:
        """Time passed since ``age``, and mean overlap with the spins of then.

        With the density of then for ``of`` "density_overlap", see :mod:`sdml.snapshots`.
        """
        later = self.time > age
        return self.time[later] - age, self.statistics[f"{of}_{age}"].mean(0)[later]

    def end(self, name: str) -> arrest.Late:
        """The last two thirds of the times, see :func:`sdml.arrest.late`."""
        return arrest.late(self.time, self.statistics[name], after=self.time[-1] / 3)

    def per_site(self, name: str) -> FloatArray:
        """A number of clusters (n_runs, n_times), divided by that of the sites."""
        return self.statistics[name] / self.length**2

    def mean(self, name: str, per_site: bool = False) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times, mean over the runs and its standard error (nan for a single run)."""
        values = self.per_site(name) if per_site else self.statistics[name]
        error = values.std(0, ddof=1) if len(values) > 1 else np.full(len(self.time), np.nan)
        return self.time, values.mean(0), error / np.sqrt(len(values))


def load_runs(path: str | os.PathLike[str]) -> dict[str, Runs]:
    """Name -> runs of every set of a store, at the times that all its runs have.

    ValueError if the file is no such store.
    """
    target = Path(path)
    try:
        rows = json.loads(target.read_text())["sets"]
        return {row["name"]: _runs(row) for row in rows}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path: {target.name!r} holds no runs ({error!r})") from error


def _runs(row: dict[str, Any]) -> Runs:
    runs = row["runs"]
    shared = sorted(set.intersection(*(set(run["time"]) for run in runs)))
    picked = [np.isin(run["time"], shared) for run in runs]
    statistics = {
        name: np.stack(
            [
                np.array(run["statistics"][name], float)[k]
                for run, k in zip(runs, picked, strict=True)
            ]
        )
        for name in runs[0]["statistics"]
        if all(name in run["statistics"] for run in runs)
    }
    described = {k: row[k] for k in ("name", "engine", "length", "equation", "schedule")}
    seeds = [run["seed"] for run in runs]
    sizes = [run["cluster_sizes"] for run in runs]
    return Runs(**described, seeds=seeds, time=np.array(shared), statistics=statistics, sizes=sizes)


def plateaus(sets: Mapping[str, Runs], names: Sequence[str] = ("mean_size", "n_clusters")) -> Any:
    """Rows by label of the quenches that say where growth stops: :meth:`Runs.end` for people.

    Level and slope of d ln x / d ln t of the size of the clusters and of their number per 1000
    sites; arrested if both slopes exclude a quarter of the exponents of diffusive growth, +-2/3.
    """
    rows = {}
    for case in (q for q in sets.values() if q.judged):
        size, number = (case.end(name) for name in names)
        level, error = (1000 / case.length**2 * x for x in (number.level, number.level_error))
        verdicts = {size.verdict(2 / 3), number.verdict(-2 / 3)}
        rows[case.label] = {
            "seeds": size.n_runs,
            "sites per cluster": f"{size.level:.2f} ± {size.level_error:.2f}",
            "clusters per 1000 sites": f"{level:.1f} ± {error:.1f}",
            "slope of the size": f"{size.slope:.3f} ± {size.slope_error:.3f}",
            "slope of the number": f"{number.slope:.3f} ± {number.slope_error:.3f}",
            "verdict": " / ".join(sorted(verdicts)),
        }
    return rows


def matched(
    first: Runs, second: Runs, times: Sequence[float], names: Sequence[str]
) -> dict[tuple[str, str], Any]:
    """Two quenches at the same times: mean ± scatter of the seeds, by (name, label) and time."""
    rows: dict[tuple[str, str], Any] = {}
    for name in names:
        for case in (first, second):
            kept = [t for t in times if t <= case.time[-1]]
            mean, scatter = case.at(name, kept)
            cells = [f"{m:.3g} ± {s:.2g}" for m, s in zip(mean, scatter, strict=True)]
            rows[name, case.label] = dict(zip((f"t = {t:g}" for t in kept), cells, strict=True))
    return rows
