"""Spin correlations after a quench: the network beside exact fields, and beside KPM.

    python studies/correlations.py run CASE ENGINE [LENGTH [SEED ...]] [--force-field NAME]
    python studies/correlations.py collect [--output NAME]

CASE is triangular or square; ENGINE is exact, kpm or network. A run starts from the random spins of
its seed, the same for all engines, with the equation of motion of `CASES`, without noise. KPM takes
the moments and colored probing vectors of `CASES`, with fresh phases every step. A run keeps, at
the times of `CASES`,

    C(r, t) = (1/N) sum_i S_i(t) . S_(i+r)(t),  averaged over rings of width one in |r|,

in build/correlations/CASE_ENGINE_LENGTH_SEED.json; a run that is there is not done again.
``collect`` writes all of them to data/reference/correlations.json, set by set.
"""

import argparse
import time
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stores import digits

from sdml import dynamics, exact, files, forcefield, kpm, lattice, observables, spins
from sdml.companion import results
from sdml.model import SDModel, paper_model
from sdml.observables import distance_rings

ENGINES = ("exact", "kpm", "network")
LARGEST_RADIUS = 12.0


@dataclass(frozen=True)
class Case:
    """How a lattice is quenched, and when it is looked at."""

    equation: dynamics.LandauLifshitz
    times: tuple[float, ...]
    n_moments: int
    n_probes: int


CASES = {
    "triangular": Case(
        dynamics.LandauLifshitz(2.0, 0.3, method="adams"),
        (10, 30, 60, 100, 150, 200),
        256,
        128,
    ),
    "square": Case(
        dynamics.LandauLifshitz(0.5, 0.05, method="adams"), (2, 5, 10, 20, 40, 70, 100), 1024, 64
    ),
}


def engine_of(name: str, case: Case, model: SDModel, given: argparse.Namespace) -> Any:
    """Local field of spins by one of the three ways."""
    if name == "exact":
        return lambda s: exact.local_field(model, s, "single")
    if name == "network":
        return forcefield.load(given.force_field or given.case).on(model.lattice).field

    def by_kpm(s: torch.Tensor) -> Any:
        """Of probing vectors whose phases are drawn from the spins: fresh, yet a function."""
        seed = zlib.crc32(s.cpu().numpy().tobytes())
        return kpm.solve(model, s, case.n_moments, case.n_probes, seed=seed).local_field

    return by_kpm


def run(given: argparse.Namespace, seed: int) -> None:
    label = given.force_field or given.engine
    path = folder() / f"{given.case}_{label}_{given.length}_{seed}.json"
    if path.exists():
        return
    case, sites = CASES[given.case], getattr(lattice, given.case)(given.length)
    begin, model = time.perf_counter(), paper_model(sites)
    field = engine_of(given.engine, case, model, given)
    dtype = torch.float64 if given.engine == "exact" else torch.float32
    start = torch.as_tensor(spins.random(sites.n_sites, seed), dtype=dtype)
    marks = [round(t / case.equation.dt) for t in case.times]
    states = dynamics.trajectory(start, field, case.equation, marks)
    frames = np.stack([state.double().numpy() for _, state in states])
    rings = distance_rings(sites)
    near = rings.radius < min(LARGEST_RADIUS, given.length / 2)
    found = rings.average(torch.as_tensor(observables.spin_correlation(sites, frames))).numpy()
    row = {
        "seed": seed,
        "seconds": round(time.perf_counter() - begin),
        "distance": digits(rings.radius[near]),
        "correlation": digits(found[:, near], 5),
    }
    files.write_text(path, files.json_text(row))
    print(results.row_text({"run": path.stem, "seconds": row["seconds"]}), flush=True)


def folder() -> Any:
    return files.root() / "build" / "correlations"


def collected() -> dict[str, Any]:
    """Sets by name: case, engine, length, times, distances (r,), correlations (seed, time, r)."""
    sets: dict[str, Any] = {}
    for path in sorted(folder().glob("*.json"), key=lambda p: int(p.stem.rpartition("_")[2])):
        name, row = path.stem.rpartition("_")[0], files.loaded(path)
        case, engine, length = name.partition("_")[0], *name.partition("_")[2].rsplit("_", 1)
        new = {"case": case, "engine": engine, "length": int(length), "time": CASES[case].times}
        kept = sets.setdefault(name, new | {"distance": row["distance"], "seeds": [], "runs": []})
        kept["seeds"].append(row["seed"])
        kept["runs"].append(row["correlation"])
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "collect"])
    parser.add_argument("case", nargs="?", choices=list(CASES), default="triangular")
    parser.add_argument("engine", nargs="?", choices=ENGINES, default="network")
    parser.add_argument("length", nargs="?", type=int, default=24)
    parser.add_argument("seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--force-field", help="of the network, by default the released one")
    parser.add_argument("--output", default="correlations", help="name of a file in data/reference")
    given = parser.parse_args()
    if given.action == "collect":
        result = {"origin": results.measured_origin(), "sets": collected()}
        results.save_reference(given.output, result)
        return
    for seed in given.seeds:
        run(given, seed)


if __name__ == "__main__":
    main()
