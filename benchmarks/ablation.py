"""Descriptors compared: the same snapshots, network and budget, judged on the torque by stage.

    python benchmarks/ablation.py CASE --train STORE ... --judge STORE ... [--epochs 20]

CASE is triangular or square; stores are made by ``sdml label``. Trains the raw products, the
paper's descriptor and the far-sighted one (on the square lattice with and without the chemical
potential), then the last on growing parts of the snapshots: the learning curve. Every row is
written to data/reference/ablation_CASE.json when it is ready; a row that is there is not trained
again.
"""

import argparse
import json
import time
from typing import Any

import descriptor as cost
import numpy as np
import torch

from sdml import dataset, evaluation, lattice, paths, record, spins, training
from sdml.dataset import Dataset
from sdml.descriptor import SymmetryEnvironment
from sdml.forcefield import ForceField
from sdml.moments import MomentEnvironment
from sdml.rawbonds import RawBondEnvironment

WIDTHS = {"raw": (128, 64), "other": (64, 32)}


def descriptors(case: str, exchange_coupling: float) -> dict[str, tuple[Any, bool]]:
    """Name -> environment, and whether the network reads the chemical potential."""
    far_sighted = MomentEnvironment(case, 4, 12, exchange_coupling)
    found = {
        "raw": (RawBondEnvironment(case, 3.0, 2.0), False),
        "paper": (SymmetryEnvironment(case, 2.0, 2.0), False),
        "moments": (far_sighted, False),
    }
    return found | ({"moments, mu": (far_sighted, True)} if case == "square" else {})


def row(
    name: str,
    environment: Any,
    grand_canonical: bool,
    fitted: Dataset,
    judged: Dataset,
    n_epochs: int,
) -> dict[str, Any]:
    """Train once and judge."""
    widths = WIDTHS.get(name, WIDTHS["other"])
    field = ForceField(fitted.model, environment, widths, 0, grand_canonical)
    begin = time.process_time()
    training.train(field, fitted, training.TrainingSettings(n_epochs))
    seconds = time.process_time() - begin
    return {
        "descriptor": name,
        "environment": repr(environment),
        "n_snapshots": len(fitted),
        "n_epochs": n_epochs,
        "parameters": sum(p.numel() for p in field.parameters()),
        "features": field.descriptor.n_features,
        "training_cpu_seconds": seconds,
        "stages": evaluation.stage_errors(judged, evaluation.predict(field, judged)),
        "energy_rms": evaluation.evaluate(field, judged)["energy_rms"],
        **price(field),
    }


def price(field: ForceField, length: int = 48) -> dict[str, float]:
    """Operations of the energy and processor time of the local field, a site."""
    environment = field.descriptor.environment
    state = torch.as_tensor(spins.random(length**2, 0), dtype=torch.float32)
    field = field.on(getattr(lattice, environment.kind)(length))
    mu = field.mu_range.mean()[None] if field.grand_canonical else None
    with torch.no_grad():
        operations = sum(cost.counted_work(lambda: field(state, mu))) / length**2
    if isinstance(environment, MomentEnvironment):
        operations += cost.walk_work(environment.walks())[0]
    times = []
    for _ in range(6):
        begin = time.process_time()
        field.field(state, mu=mu)
        times.append(time.process_time() - begin)
    return {"flop_per_site": operations, "field_cpu_us_per_site": 1e6 * min(times) / length**2}


def subset(data: Dataset, n_snapshots: int) -> Dataset:
    chosen = np.random.default_rng(0).permutation(len(data))[:n_snapshots]
    return data.select(np.sort(chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=list(evaluation.STAGES))
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--judge", nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--curve", type=int, nargs="*", default=[10, 30, 100, 300])
    given = parser.parse_args()
    fitted, judged = (
        dataset.join([dataset.load(path) for path in names]) for names in (given.train, given.judge)
    )
    path = paths.reference() / f"ablation_{given.case}.json"
    result = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    pairs = evaluation.pair_exchange_field(fitted, judged)
    result["pair_exchange"] = evaluation.stage_errors(judged, pairs)
    cases = descriptors(given.case, fitted.model.exchange_coupling)
    jobs = {name: (*arguments, fitted, given.epochs) for name, arguments in cases.items()}
    best = list(cases)[-1]
    for n in (n for n in given.curve if n < len(fitted)):
        # The same number of steps, so that only the data differ.
        epochs = round(given.epochs * len(fitted) / n)
        jobs[f"{best}, {n} snapshots"] = (*cases[best], subset(fitted, n), epochs)
    for key, (environment, grand_canonical, data, epochs) in jobs.items():
        if key not in result["rows"]:
            name = key.split(" ")[0] if "snapshots" in key else key
            result["rows"][key] = row(name, environment, grand_canonical, data, judged, epochs)
            result["origin"] = record.origin() | {"device": record.device()}
            record.write_text(path, record.json_text(result))
            print(key, evaluation.stage_table(result["rows"][key]["stages"]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
