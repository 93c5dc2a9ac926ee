"""Stored histories of coarsening: the lengths of several seeds of one quench, and their laws.

Of chiral domains in data/reference/coarsening.json (studies/coarsening.py), and of the Ising model
in data/reference/ising_lengths.json (studies/ising.py), whose law L ~ t^(1/2) is known.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdml import files, simulation
from sdml.coarsening import domains, growth

FloatArray = NDArray[np.float64]
FORMED = 0.4
"""Mean |chi| of a site from which domains coarsen, of 0.77 in perfect order; it forms before."""
USUAL = {"dt": 2.0, "damping": 0.3, "kT": 0.0, "method": "adams"}
N_SEEDS, N_TIMES = 3, 6
"""Fewest seeds and times to which a law is fitted."""
HEIGHT = 0.75**0.5
"""Of a row of the triangular lattice."""
PER_DECADE = 16
"""Times of a stored run."""
GOOD = 3
"""Estimators that return the known law of Ising domains; the fourth is the first moment."""
FIELDS = {"second": "second network", "kpm": "KPM fields", "paper": "paper's method"}
SYMBOLS = {"dt": r"$\Delta t$", "damping": r"$\alpha$", "kT": "$kT$"}


@dataclass(frozen=True)
class History:
    """What some seeds of one quench measured.

    Attributes
    ----------
    name, engine : str
    length : int
        Sites along each direction.
    equation : dict
        dt, damping, kT, method; empty for the Ising model.
    seeds : list of int
    time : (n_times,)
        hbar / t, or sweeps.
    observables : dict
        Name -> (n_seeds, n_times, ...).
    estimators : tuple of str
        Of the last axis of the observable ``lengths``.
    box_length : float
        Shortest period, lattice constants: that of a rhombus of L x L sites, or of a square.
    """

    name: str
    engine: str
    length: int
    equation: dict[str, Any]
    seeds: list[int]
    time: FloatArray
    observables: dict[str, FloatArray]
    estimators: tuple[str, ...]
    box_length: float

    @property
    def varied(self) -> dict[str, Any]:
        """What differs from the main quench besides the size: settings, and the fields."""
        settings = {k: v for k, v in self.equation.items() if USUAL.get(k, v) != v}
        fields = self.name.partition("_")[0]
        return settings if fields == "main" else settings | {"fields": fields}

    @property
    def label(self) -> str:
        """Size, and what is not usual but the method of integration."""
        varied = [
            f"{SYMBOLS[name]} = {value}" if name in SYMBOLS else FIELDS.get(value, str(value))
            for name, value in self.varied.items()
            if name != "method"
        ]
        return ", ".join([f"${self.length}^2$", *varied])

    def lengths(self, estimator: str = "wall") -> FloatArray:
        """(n_seeds, n_times) by one of the estimators; ValueError for one that is unknown."""
        if estimator not in self.estimators:
            raise ValueError(f"estimator: must be one of {self.estimators}, got {estimator!r}")
        return self.observables["lengths"][..., self.estimators.index(estimator)]

    def late(
        self,
        estimator: str = "wall",
        rule: str = "moment",
        order: float = FORMED,
        between: tuple[float, float] = (0.0, np.inf),
    ) -> tuple[FloatArray, FloatArray]:
        """Times (k,) of coarsening that are free of the box, and lengths (n_seeds, k).

        ``rule`` names the estimator that :func:`growth.usable` compares with a quarter of the box:
        'moment', which is 2 pi / <q>, or the weaker 'wall'. Times begin when the mean |chi| of a
        site reaches ``order``, at the same order for all settings; Ising domains have it at once.
        The mean wall length lies ``between`` the two given: sets can be cut alike.
        """
        free = growth.usable(self.lengths(rule), self.observables["imbalance"], self.box_length)
        chirality = self.observables.get("chirality", np.full((1, len(self.time)), np.inf))
        kept = free & np.logical_or.accumulate(chirality.mean(0) >= order)
        mean = self.lengths().mean(0)
        kept &= (mean >= between[0]) & (mean < between[1])
        return self.time[kept], self.lengths(estimator)[:, kept]

    def mean_length(self, **cut: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times (k,), mean over the seeds and its standard error, see :meth:`late`.

        The error is nan for a single seed.
        """
        time, lengths = self.late(**cut)
        n = len(lengths)
        error = lengths.std(0, ddof=1) / n**0.5 if n > 1 else np.full(len(time), np.nan)
        return time, lengths.mean(0), error

    def local_exponents(self, window: int = 4) -> tuple[FloatArray, list[growth.Estimate]]:
        """Mean lengths (k,), and d ln L / d ln t there, in windows of times as of :meth:`late`."""
        time, lengths = map(np.log, self.late())
        at, slopes = growth.local_slopes(time, lengths, window=window)
        return np.exp(np.interp(at, time, lengths.mean(0))), slopes

    def law(self, **cut: Any) -> dict[str, Any]:
        """Seeds, times, range of the mean length, and the exponent by the three laws.

        Of the times and lengths of :meth:`late`, which takes ``cut``.
        ``plain``, ``offset`` and ``origin`` are (n, low, high) of the laws of
        :mod:`sdml.coarsening.growth`; ``L0`` and ``A`` are constants of the second, ``t_s`` is one
        of the third.
        """
        time, lengths = self.late(**cut)
        found = {name: growth.interval(name, time, lengths) for name in growth.PARAMETERS}
        mean = lengths.mean(0)
        return {
            "seeds": len(self.seeds),
            "time": (float(time[0]), float(time[-1])),
            "range": (float(mean[0]), float(mean[-1])),
            "L0": found["offset"]["L0"].value,
            "A": found["offset"]["A"].value,
            "t_s": found["origin"]["t_s"].value,
            **{name: (x["n"].value, *x["n"].interval) for name, x in found.items()},
        }


def summary(law: Mapping[str, Any]) -> dict[str, Any]:
    """A :meth:`History.law` as a row of a table for people.

    An exponent counts as excluded where the 95 % intervals of both laws with a constant lie on one
    side of it: then no constant saves it, and the plain law is the case without one. A single seed
    has no interval and excludes nothing.
    """
    intervals = {name: law[name] for name in growth.PARAMETERS}
    _, lows, highs = np.transpose([law["offset"], law["origin"]])
    excluded = [
        name for name, n in {"1/2": 0.5, "1": 1.0}.items() if (lows > n).all() or (highs < n).all()
    ]
    return {
        "seeds": law["seeds"],
        "t": "{:.0f} to {:.0f}".format(*law["time"]),
        "L": "{:.1f} to {:.1f}".format(*law["range"]),
        **{f"n, {name}": _with_interval(*x) for name, x in intervals.items()},
        "L0": round(law["L0"], 1),
        "t_s": round(law["t_s"]),
        "excluded": " and ".join(excluded) or "none",
    }


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low == low else "")


def ratio(
    first: History, second: History, estimator: str = "wall", rule: str = "wall"
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Length of one quench over that of another from the same random spins, seed by seed.

    Times (k,) that count in the second and are free of the box in both, mean ratio (k,) over the
    common seeds and its standard error, nan for a single one; L of ``second`` is linear in ln t
    between its own times. Runs in the same box feel it alike, so that the weaker rule is enough.
    ValueError if the two share no seed, or no time.
    """
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not seeds:
        raise ValueError(f"second: shares no seed with {first.seeds}, got {second.seeds}")
    (time, upper), (grid, lower) = (
        (t, lengths[[history.seeds.index(seed) for seed in seeds]])
        for history, order in ((first, 0.0), (second, FORMED))
        for t, lengths in [history.late(estimator, rule, order)]
    )
    kept = (time >= grid.min(initial=np.inf)) & (time <= grid.max(initial=-np.inf))
    if not kept.any():
        raise ValueError(f"second: shares no time with {first.label}, got {second.label}")
    time, upper = time[kept], upper[:, kept]
    ratios = upper / [np.interp(np.log(time), np.log(grid), values) for values in lower]
    error = ratios.std(0, ddof=1) if len(seeds) > 1 else np.full(len(time), np.nan)
    return time, ratios.mean(0), error / np.sqrt(len(seeds))


def laws(sets: Mapping[str, History], n_times: int = N_TIMES, **cut: Any) -> dict[str, Any]:
    """:meth:`History.law` by label, of all quenches of N_SEEDS and ``n_times`` or more.

    Times and lengths are those of :meth:`History.late`, which takes ``cut``.
    """
    return {
        history.label: history.law(**cut)
        for history in sets.values()
        if len(history.seeds) >= N_SEEDS and len(history.late(**cut)[0]) >= n_times
    }


def main_quench(histories: Iterable[History]) -> History:
    """The largest of usual damping and temperature by the main network, whatever its steps.

    A notebook's own runs count, and come first among equals: who makes them is to see them judged.
    """
    free = {"dt", "method", "fields"}
    alike = [
        h for h in histories if h.varied.keys() <= free and h.name.startswith(("main", "live"))
    ]
    return max(alike, key=lambda h: (h.length, h.name == "live"))


def load(path: str | os.PathLike[str]) -> dict[str, History]:
    """Name -> history of every set of a store; ValueError if it is none."""
    return files.sets(path, _history)


def ising(path: Path) -> dict[str, History]:
    """Name -> history of the Ising domains of either lattice, time in sweeps."""
    found = {}
    for run in files.loaded(path)["runs"]:
        kind, lengths = run["lattice"], [*map(np.array, run["lengths"].values())]
        row = {"name": f"Ising {kind}_{run['length']}", "engine": "heat bath", "equation": {}}
        row |= {"lengths": np.stack(lengths, axis=-1), "imbalance": run["mean_spin"]}
        row |= {"time": run["sweeps"], "length": run["length"], "seeds": run["seeds"]}
        height = 1.0 if kind == "square" else HEIGHT
        found[kind] = _history(row, {"origin": {"lengths": [*run["lengths"]]}}, height)
    return found


def live(runs: Mapping[int, simulation.Run]) -> History:
    """The history of a notebook's own runs, by seed, at times as those of the stored ones.

    They have one setting, and measured ``lengths`` by :func:`domains.domain_lengths`, ``imbalance``
    by :func:`domains.imbalance` and ``chirality`` by :func:`observables.site_chirality`.
    """
    first = next(iter(runs.values()))
    kept = simulation.logarithmic_steps(len(first.time) - 1, PER_DECADE)
    row = {"name": "live", "seeds": list(runs), "time": first.time[kept]}
    row |= {name: first.header[name] for name in ("engine", "equation")}
    row["length"] = first.header["lattice"]["shape"][0]
    for name in ("lengths", "imbalance"):
        row[name] = [run.observables[name][kept] for run in runs.values()]
    signs = [run.observables["chirality"][kept] for run in runs.values()]
    row["chirality"] = [np.abs(chi).mean(-1) for chi in signs]
    return _history(row, {"origin": {"lengths": domains.ESTIMATORS}})


def _history(row: dict[str, Any], store: dict[str, Any], height: float = HEIGHT) -> History:
    given = {key: row[key] for key in ("name", "engine", "length", "equation", "seeds")}
    measured = {k: np.array(v, float) for k, v in row.items() if k not in (*given, "time")}
    for key, values in measured.items():
        if values.shape[:2] != (len(row["seeds"]), len(row["time"])):
            raise ValueError(f"{key}: shape {values.shape} is not (seeds, times, ...)")
    time = np.array(row["time"], dtype=float)
    growth.require_numbers({"time": time})
    names, box = tuple(store["origin"]["lengths"]), height * row["length"]
    return History(**given, time=time, observables=measured, estimators=names, box_length=box)
