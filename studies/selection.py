"""What it is worth to choose the snapshots to label: active learning against chance.

    python studies/selection.py CASE --pool STORE ... --judge STORE ... [--output NAME]

CASE is triangular or square; stores are made by ``sdml label``. A committee of two is trained on
some snapshots drawn from the pool. Of the others as many are added that it disagrees on most (its
:func:`most_uncertain` frames), or that are drawn; both sets are learned from the start, with the
same number of steps and several seeds. ``--output`` writes data/reference/NAME.json.
"""

import argparse
from typing import Any

import numpy as np

from sdml import dataset, evaluation, training
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.descriptor import MomentEnvironment
from sdml.forcefield import Committee, ForceField

EPOCHS = 24


def most_uncertain(committee: Committee, frames: np.ndarray, n_frames: int) -> np.ndarray:
    """Numbers of the frames (of n, N, 3) whose fields the members differ on most, by their rms."""
    parts = np.array_split(frames, -(-len(frames) // 16))
    squares = [(committee.spread(part, "field") ** 2).mean(-1) for part in parts]
    return np.argsort(-np.concatenate(squares), kind="stable")[:n_frames]


def trained(data: Dataset, seed: int, n_epochs: int) -> ForceField:
    model = data.model
    environment = MomentEnvironment(model.lattice.name, 4, 10, model.exchange_coupling)
    field = ForceField(model, environment, (64, 32), seed, grand_canonical=True)
    training.train(field, data, training.TrainingSettings(n_epochs, seed=seed))
    return field


def measured(pool: Dataset, judged: Dataset, n_first: int, n_added: int, seeds: list[int]) -> Any:
    """R2 by stage, before and after either way to add snapshots."""
    rows = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(pool))
        first, others = np.sort(order[:n_first]), np.sort(order[n_first:])
        committee = Committee([trained(pool.select(first), 2 * seed + k, EPOCHS) for k in (0, 1)])
        on_pool = committee.on(pool.model.lattice)
        uncertain = others[most_uncertain(on_pool, pool.spins[others], n_added)]
        drawn = np.random.default_rng(seed + 1000).choice(others, n_added, replace=False)
        for name, added in (("none", None), ("uncertain", uncertain), ("drawn", drawn)):
            # Without more snapshots the same number of steps, so that only the data differ.
            chosen = first if added is None else np.sort(np.concatenate([first, added]))
            n_epochs = round(EPOCHS * (n_first + n_added) / len(chosen))
            field = trained(pool.select(chosen), 2 * seed, n_epochs)
            errors = evaluation.stage_errors(judged, evaluation.predict(field, judged))
            row = {"added": name, "seed": seed}
            row |= {stage: found["torque_r2"] for stage, found in errors.items()}
            if added is not None:
                row["mean time"] = float(pool.time[added].mean())
                row["random states"] = int((pool.trajectory[added] < 0).sum())
            print(results.row_text(row), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=list(evaluation.STAGES))
    parser.add_argument("--pool", nargs="+", required=True)
    parser.add_argument("--judge", nargs="+", required=True)
    parser.add_argument("--first", type=int, default=30)
    parser.add_argument("--added", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    pool, judged = (
        dataset.join([dataset.load(path) for path in names]) for names in (given.pool, given.judge)
    )
    sizes = {"pool": len(pool), "first": given.first, "added": given.added, "epochs": EPOCHS}
    origin = results.measured_origin(**sizes)
    rows = measured(pool, judged, given.first, given.added, given.seeds)
    results.save_reference(given.output, {"origin": origin, "rows": rows})


if __name__ == "__main__":
    main()
