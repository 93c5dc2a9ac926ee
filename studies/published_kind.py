"""A network of the published kind, trained on our snapshots, and the published run beside it.

    python studies/published_kind.py train --train STORE ... --judge STORE ... [--transverse]
    python studies/published_kind.py start
    python studies/arrest.py run published_kind 30 1 2 3 4 --damping 0.5 --kT 0 --dt 0.05 --time 60

The code that P. Zhang and G.-W. Chern published with Phys. Rev. Lett. 127, 146401 (2021), doi
10.1103/PhysRevLett.127.146401 (github.com/zhangpuhan/ML_double_exchange), reads 554 raw products of
spins: 88 with the center within sqrt(26), 378 pairs within 3, 88 chiralities. Rectifier layers of
1024 to 64 neurons give the energy of a site. The field is minus the derivative of the total energy
in the spins, *their length included*, and the loss is the mean squared error of the full field:
Adam, rate 0.001, one snapshot a step. It has no chemical potential. Its simulation has the damping
0.5, the step 0.01 and no noise, as it was published (there for 30 x 30 sites).

``train`` does the same with our snapshots, in single precision, and lets the rate fall to zero
along a cosine, which helps. With ``--transverse`` the same network learns in the same steps the
transverse field alone, from an energy that knows no length: what the length costs. The weights go
to build/arrest, so that ``arrest.py`` can drive quenches with the engines published_kind and
published_kind_transverse, and their errors by stage to data/reference/published_kind.json.
``start`` asks whether the published frames (SDML_AUTHORS_DATA) follow the equation of motion of the
model: from the first frame the far-sighted network, whose torque is close to the exact one there,
drives the spins at several dampings, and the largest overlap on the way with the next published
frame is compared with that of the first frame itself; for the published exact run as well.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdml import dataset, dynamics, evaluation, files, forcefield, lattice, spins
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.descriptor import RawBondEnvironment
from sdml.phase_separation import published, snapshots

NAME, TRANSVERSE = "published_kind", "published_kind_transverse"
ENVIRONMENT = RawBondEnvironment("square", 26**0.5, 3.0)
WIDTHS, LEARNING_RATE = (1024, 512, 256, 128, 64), 1e-3
DAMPINGS = (0.05, 0.2, 0.5, 1.0, 3.0, 10.0)
STARTS = {
    "exact": (published.QUENCH, (0, 500), 20.0),
    "network": (published.NETWORK, (0, 120), 6.0),
}
"""Published runs: folder, frames, and the time, times 1 + damping, for which spins are driven."""
N_STEPS = 80


class PublishedKind(nn.Module):
    """Energy of spins (N, 3); its derivative is the local field.

    The full field, as published: the energy depends on the lengths of the spins. ``normalized``: it
    does not, and the derivative is the transverse field.
    """

    def __init__(self, sites: lattice.Lattice, seed: int = 0, normalized: bool = False) -> None:
        super().__init__()
        self.normalized = normalized
        torch.manual_seed(seed)
        self.descriptor = ENVIRONMENT.descriptor()
        self.table = torch.as_tensor(self.descriptor.neighbor_table(sites))
        layers: list[nn.Module] = []
        for width, following in pairwise([self.descriptor.n_features, *WIDTHS]):
            layers += [nn.Linear(width, following), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 1))

    def forward(self, s: Tensor) -> Tensor:
        s = nn.functional.normalize(s, dim=-1) if self.normalized else s
        return self.network(self.descriptor(s, self.table)).sum((-1, -2))

    def field(self, s: Tensor, create_graph: bool = False) -> Tensor:
        with torch.enable_grad():
            leaf = s.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self(leaf).sum(), leaf, create_graph=create_graph)
        return -slope


def weights(name: str) -> Path:
    return files.root() / "build" / "arrest" / f"{name}.pt"


def trained_network(name: str, sites: lattice.Lattice) -> PublishedKind:
    if not weights(name).exists():
        raise SystemExit(f"{weights(name)}: not there; studies/{NAME}.py train writes it")
    network = PublishedKind(sites, normalized=name == TRANSVERSE)
    network.load_state_dict(torch.load(weights(name), weights_only=True))
    return network


def pairs(data: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Spins and full local fields of every snapshot."""
    return [
        (torch.as_tensor(s).float(), torch.as_tensor(h).float())
        for s, h in zip(data.spins, data.local_field, strict=True)
    ]


def errors(network: PublishedKind, judged: Dataset) -> dict[str, Any]:
    """By stage, as of `evaluation.stage_errors`."""
    network.table = torch.as_tensor(network.descriptor.neighbor_table(judged.model.lattice))
    fields = np.stack([network.field(s).numpy() for s, _ in pairs(judged)]).astype(float)
    return evaluation.stage_errors(judged, fields)


def train(given: argparse.Namespace) -> dict[str, Any]:
    fitted, judged = (
        dataset.join([dataset.load(path) for path in names]) for names in (given.train, given.judge)
    )
    network = PublishedKind(fitted.model.lattice, normalized=given.transverse)
    examples, rng = pairs(fitted), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs * len(examples))
    for epoch in range(given.epochs):
        losses = []
        for k in rng.permutation(len(examples)):
            s, known = examples[k]
            known = spins.transverse(s, known) if given.transverse else known
            loss = ((network.field(s, create_graph=True) - known) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
            losses.append(loss.item())
        print(results.row_text({"epoch": epoch, "loss": float(np.mean(losses))}), flush=True)
    path = weights(TRANSVERSE if given.transverse else NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return {
        "n_snapshots": len(examples),
        "n_epochs": given.epochs,
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": float(np.mean(losses)),
        "stages": errors(network, judged),
    }


def driven(first: Any, later: Any, damping: float, end: float) -> dict[str, float]:
    """The largest overlap with ``later`` on the way from ``first``, and its time."""
    field = forcefield.load("square").on(first.lattice)
    s, dt = torch.as_tensor(first.spins).float(), end / (1 + damping) / N_STEPS
    best = {"damping": damping, "time": 0.0, "overlap": 0.0}
    for step in range(1, N_STEPS + 1):
        s = dynamics.integrate(s, field.field, dt, 1, damping)
        overlap = float(snapshots.overlap(s.double().numpy(), later.spins))
        if overlap > best["overlap"]:
            best |= {"time": step * dt, "overlap": overlap}
    return best


def start() -> dict[str, Any]:
    here = published.folder()
    if here is None:
        raise SystemExit("set SDML_AUTHORS_DATA to the folder of the published snapshots")
    found: dict[str, Any] = {}
    for name, (part, numbers, end) in STARTS.items():
        first, later = (published.snapshot(here / part / f"c{k}.dat") for k in numbers)
        found[name] = {
            "frames": numbers,
            "unmoved": float(snapshots.overlap(first.spins, later.spins)),
            "driven": [driven(first, later, damping, end) for damping in DAMPINGS],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "start"])
    parser.add_argument("--train", nargs="+")
    parser.add_argument("--judge", nargs="+")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--transverse", action="store_true", help="learn the transverse field only")
    given = parser.parse_args()
    found = train(given) if given.action == "train" else start()
    path = files.reference() / f"{NAME}.json"
    kept = files.loaded(path) if path.exists() else {}
    part = "transverse" if given.transverse else given.action
    made = {part: results.measured_origin(script=f"studies/{NAME}.py")}
    origin = kept.get("origin", {}) | made
    results.save_reference(NAME, kept | {"origin": origin, part: found})


if __name__ == "__main__":
    main()
