"""Stored histories of coarsening: the lengths of several seeds of one quench, and their laws.

Of chiral domains in data/reference/coarsening.json, written by studies/coarsening.py.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdml import files
from sdml.coarsening import growth

FloatArray = NDArray[np.float64]
FORMING = 30.0
"""Times the inverse damping: until then the chirality forms, domains of full order come later."""
USUAL = {"dt": 2.0, "damping": 0.3, "kT": 0.0, "method": "adams"}
GOOD = 3
"""Estimators that return the known law of Ising domains; the fourth is the first moment."""
FIELDS = {"second": "second network", "kpm": "KPM fields", "paper": "paper's method"}
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

        The box is compared with the area over the wall length, see :func:`growth.usable`.
        """
        free = growth.usable(self.lengths(), self.observables["imbalance"], self.box_length)
        after = (self.time >= FORMING / self.equation["damping"]) & free.any(0)
        lengths = self.lengths(estimator)
        growth.require_numbers({f"lengths by {estimator!r}": lengths}, free & after)
        return self.time[after], lengths[:, after], free[:, after]

    def mean_length(self, estimator: str = "wall") -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times (k,), mean over the seeds that count and its standard error, see :meth:`late`.

        The error is nan where a single seed is left.
        """
        time, lengths, free = self.late(estimator)
        kept, n = np.where(free, lengths, np.nan), free.sum(0)
        error = np.where(n > 1, np.nanstd(kept, 0) / np.sqrt(np.maximum(n - 1, 1)), np.nan)
        return time, np.nanmean(kept, 0), error

    def slopes(self, power: float = 1.0, estimator: str = "wall") -> Any:
        """Times and :func:`sdml.coarsening.growth.local_slopes` of L^power."""
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
        time, lengths, free = given = self.late(estimator)
        n, v = growth.interval("power", *given)["n"], growth.interval("linear", *given)["v"]
        return {
            "seeds": len(self.seeds),
            "until": float(time[-1]),
            "range": (float(lengths[free].min()), float(lengths[free].max())),
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

    The largest usual one by the good estimators, the others by the wall length. An interval over
    resampled seeds says little for fewer than three.
    """
    main = largest(sets)
    return {
        (history.label, estimator): history.summary(estimator)
        for history in sets.values()
        if len(history.seeds) >= n_seeds
        for estimator in history.estimators[: GOOD if history is main else 1]
    }


def largest(sets: Mapping[str, History]) -> History:
    """The main quench of the largest size."""
    return max((h for h in sets.values() if h.usual), key=lambda h: h.length)


def families(sets: Mapping[str, History]) -> dict[str, dict[str, Any]]:
    """Title -> label -> (time, mean length, error) of quenches that differ in one respect.

    In the size, fields and time step; in the temperature; in the damping. The main ones come first.
    """
    ordered = sorted(sets.values(), key=lambda h: (len(h.varied), h.length))
    baths = {h.length for h in ordered if h.varied.keys() & {"kT", "damping"}}
    shown = {"size, fields, time step": [h for h in ordered if h.varied.keys() <= {"fields", "dt"}]}
    for title, name in {"temperature": "kT", "damping": "damping"}.items():
        shown[title] = [h for h in ordered if h.varied.keys() <= {name} and h.length in baths]
    return {title: {h.label: h.mean_length() for h in found} for title, found in shown.items()}


def load(path: str | os.PathLike[str]) -> dict[str, History]:
    """Name -> history of every set of a store; ValueError if it is none."""
    return files.sets(path, _history)


def _history(row: dict[str, Any], store: dict[str, Any]) -> History:
    given = {key: row[key] for key in ("name", "engine", "length", "equation", "seeds")}
    names = [key for key in row if key not in (*given, "time")]
    measured = {key: np.array(row[key], dtype=float) for key in names}
    for key, values in measured.items():
        if values.shape[:2] != (len(row["seeds"]), len(row["time"])):
            raise ValueError(f"{key}: shape {values.shape} is not (seeds, times, ...)")
    time = np.array(row["time"], dtype=float)
    growth.require_numbers({"time": time})
    estimators = tuple(store["origin"]["lengths"])
    return History(**given, time=time, observables=measured, estimators=estimators)
