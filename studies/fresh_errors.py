"""Errors of the released networks on exact quenches that chose nothing.

    python studies/fresh_errors.py run CASE [SEED ...]
    python studies/fresh_errors.py judge [--output fresh_errors]

`run` makes the quenches of `CASES` by exact fields (one store a seed, build/fresh/CASE_SEED.h5; one
that is there goes on where it stopped). They belong to no training, and unlike the quenches in
data/labels/CASE_judged.h5 they chose neither settings nor seeds of a network. `sdml gather` puts
them into data/labels/CASE_fresh.h5. They are integrated with one field a step; the square lattice
is not heated, where the judged quenches have kT = 0.001 t.

`judge` evaluates the networks of `NETWORKS` and the committees of those names on both sets and
writes data/reference/NAME.json: by set, network and stage the R^2 of the torque with the standard
error over the quenches, and mean square errors in t^2 of the transverse (torque) and of the full
field, by component and by vector. The energy of a site sees the spins within the ``reach`` of the
descriptor, and its gradient, the field, those within twice that. Where data/reference/locality.json
has this radius, ``floor_torque_r2`` is the R^2 that no function of these spins exceeds at a known
chemical potential.
"""

import argparse
from typing import Any

import numpy as np

from sdml import dataset, evaluation, files, forcefield, lattice
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.dynamics import LandauLifshitz
from sdml.forcefield import committee
from sdml.model import paper_model

CASES = {
    "triangular": (24, LandauLifshitz(1.0, 0.3, method="adams"), (0, 20, 60, 100, 200, 400)),
    "square": (20, LandauLifshitz(0.5, 0.05, method="adams"), (0, 5, 20, 50, 100, 200)),
}
"""Length, equation of motion and times of the frames."""
SEEDS = {"triangular": (9101, 9102, 9103, 9104), "square": (8101, 8102, 8103, 8104)}
FLOORS = {"triangular": "triangular-0.05", "square": "square-0.0025"}
"""What data/reference/locality.json calls the two models."""
NETWORKS, COMMITTEES = ("{}", "{}_2", "{}_paper", "{}_paper_2"), ("{}", "{}_paper")


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
    """How far the descriptor of a site sees: lattice constants, of moments bonds."""
    return float(getattr(environment, "bond_radius", None) or environment.radius)


def floors(case: str, radius: float) -> dict[str, float]:
    """R^2 of the torque at the floor of a radius, in random states and in frames of quenches."""
    rows = files.loaded(files.reference() / "locality.json")["floors"]
    return {
        row["states"]: 1 - row["floor"] / row["signal"]
        for row in rows
        if (row["case"], row["ensemble"], row["radius"]) == (FLOORS[case], "infinite", radius)
    }


def judged(name: str, trained: Any, data: Dataset) -> dict[str, Any]:
    found = errors(data, evaluation.predict(trained, data))
    print(name, evaluation.stage_table(found), sep="\n", flush=True)
    members = getattr(trained, "members", [trained])
    environment = members[0].descriptor.environment
    return {
        "environment": repr(environment),
        "reach": reach(environment),
        "floor_torque_r2": floors(data.model.lattice.name, 2 * reach(environment)),
        "parameters": sum(p.numel() for p in trained.parameters()),
        "sha256": [forcefield.checksum(member) for member in members],
        "stages": found,
    }


def networks(case: str) -> dict[str, Any]:
    """Released networks and committees of a lattice by name."""
    single = {name.format(case): forcefield.load(name.format(case)) for name in NETWORKS}
    several = {name.format(case): committee.load(name.format(case)) for name in COMMITTEES}
    return single | {f"{name}, mean of {len(made.members)}": made for name, made in several.items()}


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
            rows = {name: judged(name, made, data) for name, made in networks(case).items()}
            sets[f"{case}_{kind}"] = {
                "quenches": sorted(set(data.trajectory.tolist())),
                "snapshots": len(data),
                "networks": rows,
            }
    results.save_reference(given.output, {"origin": results.measured_origin(), "sets": sets})


if __name__ == "__main__":
    main()
