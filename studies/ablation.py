"""Descriptors and losses compared: the same snapshots and budget, judged on the torque by stage.

    export PYTHONPATH=benchmarks  # which counts the operations
    python studies/ablation.py CASE --train STORE ... --judge STORE ... [--epochs 10]
    python studies/ablation.py CASE --train STORE ... --judge STORE ... --reaches 2 3 [--seeds 3]

CASE is triangular or square; stores are made by ``sdml label``. Trains the raw products (a wide
network, as published), the paper's descriptor and the far-sighted one; the last with other weights
in the loss, and on growing parts of the snapshots: the learning curve. Every row is written to
data/reference/ablation_CASE.json when it is ready; a row that is there is not trained again.

``--reaches`` compares descriptors alone instead: raw products, the paper's invariants and moments
that see the same sites, all with the same network, snapshots and passes, several seeds each (on the
square lattice three bonds miss the sites at (2, 2) that lie within 3). These rows are in the part
``same_reach`` of the file, their means and standard errors over the seeds in ``summary``.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import descriptor_cost as cost
import numpy as np
import torch

from sdml import dataset, evaluation, files, lattice, spins, training
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.descriptor import MomentEnvironment, RawBondEnvironment, SymmetryEnvironment
from sdml.forcefield import ForceField

WIDE, NARROW = (128, 64), (64, 32)


@dataclass(frozen=True)
class Trial:
    """One row: what is trained on which snapshots."""

    environment: Any
    data: Dataset
    n_epochs: int
    widths: tuple[int, int] = NARROW
    grand_canonical: bool = True
    weights: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def trained(self) -> ForceField:
        settings = training.TrainingSettings(
            self.n_epochs, learning_rate=4e-3, seed=self.seed, **self.weights
        )
        network = ForceField(
            self.data.model, self.environment, self.widths, self.seed, self.grand_canonical
        )
        training.train(network, self.data, settings)
        return network

    def row(self, judged: Dataset) -> dict[str, Any]:
        """Train once and judge."""
        begin = time.process_time()
        trained = self.trained()
        seconds = time.process_time() - begin
        return {
            "environment": repr(self.environment),
            "reach": reach(self.environment),
            "seed": self.seed,
            "widths": self.widths,
            "grand_canonical": self.grand_canonical,
            "weights": self.weights,
            "n_snapshots": len(self.data),
            "n_epochs": self.n_epochs,
            "parameters": sum(p.numel() for p in trained.parameters()),
            "features": trained.descriptor.n_features,
            "training_cpu_seconds": seconds,
            "stages": evaluation.stage_errors(judged, evaluation.predict(trained, judged)),
            "energy_rms": evaluation.evaluate(trained, judged)["energy_rms"],
            **price(trained),
        }


def reach(environment: Any) -> float:
    """How far the environment sees, in lattice constants; of moments in bonds."""
    return float(getattr(environment, "bond_radius", getattr(environment, "radius", None)))


def trials(fitted: Dataset, n_epochs: int, curve: list[int]) -> dict[str, Trial]:
    """All rows by name; the released descriptor is the far-sighted one."""
    case, coupling = fitted.model.lattice.name, fitted.model.exchange_coupling
    raw, paper = RawBondEnvironment(case, 3.0, 2.0), SymmetryEnvironment(case, 2.0, 2.0)
    near, far = (MomentEnvironment(case, radius, 12, coupling) for radius in (3, 5))
    found = {
        "raw products": Trial(raw, fitted, n_epochs, WIDE, grand_canonical=False),
        "raw products, mu": Trial(raw, fitted, n_epochs, WIDE),
        "paper": Trial(paper, fitted, n_epochs, grand_canonical=False),
        "paper, mu": Trial(paper, fitted, n_epochs),
        "far-sighted": Trial(far, fitted, n_epochs, grand_canonical=False),
        "far-sighted, mu": Trial(far, fitted, n_epochs),
        "far-sighted, mu, radius 3": Trial(near, fitted, n_epochs),
    }
    for name, weights in LOSSES.items():
        found[f"far-sighted, mu, {name}"] = Trial(far, fitted, n_epochs, weights=weights)
    for n in (n for n in curve if n < len(fitted)):
        # The same number of steps, so that only the data differ.
        epochs = round(n_epochs * len(fitted) / n)
        found[f"far-sighted, mu, {n} snapshots"] = Trial(far, subset(fitted, n), epochs)
    return found


def same_reach(fitted: Dataset, n_epochs: int, radii: list[int], n_seeds: int) -> dict[str, Trial]:
    """Descriptors that see the same sites, with the same network and passes, by name."""
    case, coupling = fitted.model.lattice.name, fitted.model.exchange_coupling
    environments = {
        f"{name}, reach {r}": environment
        for r in radii
        for name, environment in {
            "raw products": RawBondEnvironment(case, float(r), float(r)),
            "paper": SymmetryEnvironment(case, float(r), float(r)),
            "moments": MomentEnvironment(case, r, 12, coupling),
        }.items()
    }
    return {
        f"{name}, seed {seed}": Trial(environment, fitted, n_epochs, seed=seed)
        for seed in range(n_seeds)
        for name, environment in environments.items()
    }


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Descriptor and reach -> cost, and R^2 of the torque by stage with the error of its mean."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name.rpartition(", ")[0] for name in rows):
        alike = [row for key, row in rows.items() if key.rpartition(", ")[0] == name]
        entry = {"reach": alike[0]["reach"], "seeds": len(alike)}
        for key in ("parameters", "flop_per_site", "field_cpu_us_per_site"):
            entry[key] = min(row[key] for row in alike)
        for stage in alike[0]["stages"]:
            values = [row["stages"][stage]["torque_r2"] for row in alike]
            error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
            entry[stage] = {"torque_r2": np.mean(values), "torque_r2_error": error}
        found[name] = entry
    return found


LOSSES: dict[str, dict[str, float]] = {
    "no longitudinal loss": {"longitudinal_weight": 0.0},
    "longitudinal loss 1": {"longitudinal_weight": 1.0},
    "energy loss 0.1": {"energy_weight": 0.1},
}


def price(trained: ForceField, length: int = 48) -> dict[str, float]:
    """Operations of the energy and processor time of the local field, a site."""
    environment = trained.descriptor.environment
    state = torch.as_tensor(spins.random(length**2, 0), dtype=torch.float32)
    placed = trained.on(getattr(lattice, environment.kind)(length))
    mu = placed.mu_range.mean()[None] if placed.grand_canonical else None
    with torch.no_grad():
        operations = sum(cost.counted_work(lambda: placed(state, mu))) / length**2
    if isinstance(environment, MomentEnvironment):
        operations += cost.walk_work(environment.walks())[0]
    times = []
    for _ in range(6):
        begin = time.process_time()
        placed.field(state, mu=mu)
        times.append(time.process_time() - begin)
    return {"flop_per_site": operations, "field_cpu_us_per_site": 1e6 * min(times) / length**2}


def subset(data: Dataset, n_snapshots: int) -> Dataset:
    chosen = np.random.default_rng(0).permutation(len(data))[:n_snapshots]
    return data.select(np.sort(chosen))


def stored(path: Path) -> dict[str, Any]:
    return files.loaded(path) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=list(evaluation.STAGES))
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--judge", nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--curve", type=int, nargs="*", default=[10, 30, 100, 300])
    parser.add_argument("--reaches", type=int, nargs="+", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    fitted, judged = (
        dataset.join([dataset.load(path) for path in names]) for names in (given.train, given.judge)
    )
    path = files.reference() / f"ablation_{given.case}.json"
    result = stored(path)
    if given.reaches:
        part = result.setdefault("same_reach", {})
        chosen = same_reach(fitted, given.epochs, given.reaches, given.seeds)
    else:
        part = result
        pairs = evaluation.pair_exchange_field(fitted, judged)
        part["pair_exchange"] = evaluation.stage_errors(judged, pairs)
        chosen = trials(fitted, given.epochs, given.curve)
    rows = part.setdefault("rows", {})
    for name, trial in chosen.items():
        if name not in rows:
            rows[name] = trial.row(judged)
            part["origin"] = results.measured_origin()
            if given.reaches:
                part["summary"] = summary(rows)
            # Another study may have written its part meanwhile.
            own = {"same_reach": part} if given.reaches else part
            results.save_reference(path.stem, stored(path) | own)
            print(name, evaluation.stage_table(rows[name]["stages"]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
