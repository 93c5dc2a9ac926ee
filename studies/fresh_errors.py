"""Errors of the released networks on exact quenches that chose nothing.

    python studies/fresh_errors.py run CASE [SEED ...]
    python studies/fresh_errors.py judge [--output fresh_errors]

`run` makes the quenches of `CASES` by exact fields (one store a seed, build/fresh/CASE_SEED.h5; one
that is there goes on where it stopped). They belong to no training, and unlike the quenches in
data/labels/CASE_judged.h5 they chose neither settings nor seeds of a network. `sdml gather` puts
them into data/labels/CASE_fresh.h5. They are integrated with one field a step; the square lattice
is not heated, where the judged quenches have kT = 0.001 t.

`judge` evaluates the networks of `NETWORKS` on both sets and writes data/reference/NAME.json: by
network, set and stage the R^2 of the torque with the standard error over the quenches, and mean
square errors in t^2 of the transverse (torque) and of the full field, by component and by vector.
Beside them stand the floors of data/reference/locality.json at the reach of the network: the R^2
that no function of the spins within that radius exceeds at a chemical potential that is known.
"""

import argparse
from typing import Any

import numpy as np

from sdml import dataset, evaluation, files, forcefield, lattice
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.dynamics import LandauLifshitz
from sdml.model import paper_model

CASES = {
    "triangular": (24, LandauLifshitz(1.0, 0.3, method="adams"), (0, 20, 60, 100, 200, 400)),
    "square": (20, LandauLifshitz(0.5, 0.05, method="adams"), (0, 5, 20, 50, 100, 200)),
}
"""Length, equation of motion and times of the frames."""
SEEDS = {"triangular": (9101, 9102, 9103, 9104), "square": (8101, 8102, 8103, 8104)}
FLOORS = {"triangular": "triangular-0.05", "square": "square-0.0025"}
"""What data/reference/locality.json calls the two models."""
NETWORKS = ("{}", "{}_2", "{}_paper", "{}_paper_2")


def run(case: str, seed: int) -> None:
    length, equation, times = CASES[case]
    path = files.root() / "build" / "fresh" / f"{case}_{seed}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    model = paper_model(getattr(lattice, case)(length))
    data = dataset.quench(model, equation, times, seed, path=path)
    print(results.row_text({"store": path.name, "snapshots": len(data)}), flush=True)


def errors(data: Dataset, predicted: np.ndarray) -> dict[str, Any]:
    """Stage -> errors over all quenches, and the standard error of R^2 over the quenches."""
    pooled: dict[str, Any] = evaluation.stage_errors(data, predicted)
    scores: dict[str, list[float]] = {}
    for seed in np.unique(data.trajectory):
        own = np.flatnonzero(data.trajectory == seed)
        for stage, row in evaluation.stage_errors(data.select(own), predicted[own]).items():
            scores.setdefault(stage, []).append(row["torque_r2"])
    for stage, row in pooled.items():
        for part in ("field", "torque"):
            row[f"{part}_mse_vector"] = 3 * row[f"{part}_mse"]
        row["quench_torque_r2"] = scores[stage]
        row["torque_r2_error"] = np.std(scores[stage], ddof=1) / np.sqrt(len(scores[stage]))
    return pooled


def reach(environment: Any) -> float:
    """How far the products of spins reach that the environment holds, in lattice constants."""
    return float(getattr(environment, "pair_radius", None) or environment.radius)


def floors(case: str, radius: float) -> dict[str, float]:
    """R^2 of the torque at the floor of a radius, in random states and in frames of quenches."""
    rows = files.loaded(files.reference() / "locality.json")["floors"]
    return {
        row["states"]: 1 - row["floor"] / row["signal"]
        for row in rows
        if (row["case"], row["ensemble"], row["radius"]) == (FLOORS[case], "infinite", radius)
    }


def judged(name: str, data: Dataset) -> dict[str, Any]:
    trained = forcefield.load(name)
    found = errors(data, evaluation.predict(trained, data))
    print(name, evaluation.stage_table(found), sep="\n", flush=True)
    environment = trained.descriptor.environment
    return {
        "environment": repr(environment),
        "reach": reach(environment),
        "floor_torque_r2": floors(data.model.lattice.name, reach(environment)),
        "parameters": sum(p.numel() for p in trained.parameters()),
        "sha256": forcefield.checksum(trained),
        "stages": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "judge"])
    parser.add_argument("case", nargs="?", choices=list(CASES), default="triangular")
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    if given.action == "run":
        for seed in given.seeds or SEEDS[given.case]:
            run(given.case, seed)
        return
    sets: dict[str, Any] = {}
    for case in CASES:
        for kind in ("fresh", "judged"):
            data = dataset.load(files.root() / "data" / "labels" / f"{case}_{kind}.h5")
            print(f"\n{case}_{kind}: {len(data)} snapshots")
            names = [pattern.format(case) for pattern in NETWORKS]
            sets[f"{case}_{kind}"] = {
                "quenches": sorted(set(data.trajectory.tolist())),
                "snapshots": len(data),
                "networks": {name: judged(name, data) for name in names},
            }
    results.save_reference(given.output, {"origin": results.measured_origin(), "sets": sets})


if __name__ == "__main__":
    main()
