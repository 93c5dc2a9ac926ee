"""Training a force field on labelled snapshots, and the numbers by which it is judged.

The transverse part of the field is what drives the spins, and it is small beside the longitudinal
part, so the two have separate terms in the loss, each divided by its variance in the training data:

    loss = w_t <|dh_t|^2> / <|h_t|^2> + w_l <dh_l^2> / var(h_l) + w_E <dE^2> / var(E).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import spins as spin_arrays
from sdml.dataset import Dataset
from sdml.forcefield import ForceField
from sdml.lattice import Lattice
from sdml.model import SDModel

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train: epochs, snapshots per step, Adam's peak rate, weights of the loss, seed."""

    n_epochs: int
    batch_size: int = 4
    learning_rate: float = 3e-3
    transverse_weight: float = 1.0
    longitudinal_weight: float = 0.2
    energy_weight: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")
        for name in ("transverse_weight", "longitudinal_weight", "energy_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Scales:
    """Variances of the training data that make the terms of the loss comparable."""

    transverse: float
    longitudinal: float
    energy: float


def data_scales(data: Dataset) -> Scales:
    """Mean square transverse field per component, variance of h . S, variance of E."""
    longitudinal = (data.local_field * data.spins).sum(-1)
    h_t = spin_arrays.transverse(data.spins, data.local_field)
    return Scales(
        float((h_t**2).mean()), max(float(longitudinal.var()), 1e-8), max(data.energy.var(), 1e-8)
    )


def train(
    forcefield: ForceField,
    training: Dataset,
    settings: TrainingSettings,
    validation: Dataset | None = None,
    report: Report | None = None,
) -> list[dict[str, float]]:
    """Fit the force field in place; the same seed on the same device gives the same weights.

    Parameters
    ----------
    forcefield : ForceField
        Its input and output scales are fixed from ``training`` first.
    training, validation : Dataset
        Split by whole trajectories (:func:`sdml.dataset.split`).
    report : callable, optional
        Gets the record of every epoch.

    Returns
    -------
    list of dict
        epoch, loss, and torque_r2 of the validation set if there is one.
    """
    if not len(training):
        raise ValueError("training: at least one snapshot is needed, got none")
    forcefield = _fitting(forcefield, training, "training")
    tensors = _as_tensors(forcefield, training)
    longitudinal = (tensors["local_field"] * tensors["spins"]).sum(-1)
    forcefield.standardise(tensors["spins"], tensors["energy"], longitudinal)
    scales = data_scales(training)
    optimizer = torch.optim.Adam(forcefield.parameters(), lr=settings.learning_rate)
    n_steps = settings.n_epochs * -(-len(training) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=n_steps, pct_start=0.1
    )
    rng = torch.Generator().manual_seed(settings.seed)
    history = []
    for epoch in range(1, settings.n_epochs + 1):
        losses = []
        for batch in _batches(tensors, settings.batch_size, rng):
            optimizer.zero_grad()
            value = loss(forcefield, batch, scales, settings)
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.item())
        record = {"epoch": float(epoch), "loss": float(np.mean(losses))}
        if validation is not None:
            record["torque_r2"] = evaluate(forcefield, validation)["torque_r2"]
        history.append(record)
        if report:
            report(record)
    if settings.energy_weight == 0:
        # Fields leave the zero of the energy open: take it from the mean of the training data.
        with torch.no_grad():
            difference = tensors["energy"].mean() - _mean_energy(forcefield, tensors["spins"])
            forcefield.output_mean[0] += difference / training.model.lattice.n_sites
    return history


def _mean_energy(forcefield: ForceField, spins: Tensor) -> Tensor:
    return torch.cat([forcefield(batch) for batch in spins.split(16)]).mean()


def loss(
    forcefield: ForceField, batch: dict[str, Tensor], scales: Scales, settings: TrainingSettings
) -> Tensor:
    """The weighted loss of a batch, differentiable in the weights."""
    s = batch["spins"].detach().requires_grad_(True)
    energy = forcefield(s)
    (gradient,) = torch.autograd.grad(energy.sum(), s, create_graph=True)
    error = -gradient - batch["local_field"]
    longitudinal = (error * s).sum(-1, keepdim=True)
    transverse = error - longitudinal * s
    return (
        settings.transverse_weight * (transverse**2).mean() / scales.transverse
        + settings.longitudinal_weight * (longitudinal**2).mean() / scales.longitudinal
        + settings.energy_weight * ((energy - batch["energy"]) ** 2).mean() / scales.energy
    )


def _fitting(forcefield: ForceField, data: Dataset, argument: str = "data") -> ForceField:
    """The force field on the lattice of the data; ValueError if they are of different models."""
    ours, theirs = _key_values(forcefield.model), _key_values(data.model)
    if ours != theirs:
        raise ValueError(f"{argument}: must be snapshots of the model {ours}, got {theirs}")
    return forcefield.on(data.model.lattice)


def _key_values(model: SDModel) -> dict[str, Any]:
    """The model with the kind of its lattice in place of the lattice."""
    return dataclasses.asdict(model) | {"lattice": model.lattice.name}


def _as_tensors(forcefield: ForceField, data: Dataset) -> dict[str, Tensor]:
    like = forcefield.feature_mean
    return {
        name: torch.as_tensor(getattr(data, name)).to(like)
        for name in ("spins", "local_field", "energy")
    }


def _batches(
    tensors: dict[str, Tensor], batch_size: int, rng: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    order = torch.randperm(len(tensors["energy"]), generator=rng)
    for chosen in order.split(batch_size):
        yield {name: values[chosen.to(values.device)] for name, values in tensors.items()}


def predict(forcefield: ForceField, data: Dataset, batch_size: int = 16) -> NDArray[np.float64]:
    """The force field's local fields on all snapshots, (n, N, 3)."""
    forcefield = _fitting(forcefield, data)
    starts = range(0, len(data), batch_size)
    parts = [forcefield.local_field(data.spins[k : k + batch_size]) for k in starts]
    return np.concatenate(parts)


def evaluate(forcefield: ForceField, data: Dataset) -> dict[str, float]:
    """Errors of a force field on snapshots; see :func:`field_errors`, plus energy_rms per site."""
    forcefield = _fitting(forcefield, data)
    errors = field_errors(data, predict(forcefield, data))
    energies = np.array([forcefield.energy(s) for s in data.spins])
    difference = (energies - data.energy) / data.model.lattice.n_sites
    return errors | {"energy_rms": float(np.sqrt((difference**2).mean()))}


def field_errors(data: Dataset, field: NDArray[np.float64]) -> dict[str, float]:
    """Errors of fields (n, N, 3) against the labels of the same snapshots.

    Returns
    -------
    dict
        ``field_mse`` and ``torque_mse``: mean over snapshots, sites and the 3 Cartesian components
        of the squared error of the full and of the transverse field ("per spin" is 3 times that);
        ``torque_r2`` = 1 - torque_mse / mean square of the transverse field;
        ``torque_correlation``: Pearson's, over the components of the transverse field.
    """
    if field.shape != data.local_field.shape:
        raise ValueError(f"field: shape must be {data.local_field.shape}, got {field.shape}")
    exact_t = spin_arrays.transverse(data.spins, data.local_field)
    field_t = spin_arrays.transverse(data.spins, field)
    torque_mse = float(((field_t - exact_t) ** 2).mean())
    return {
        "field_mse": float(((field - data.local_field) ** 2).mean()),
        "torque_mse": torque_mse,
        "torque_r2": 1 - torque_mse / float((exact_t**2).mean()),
        "torque_correlation": float(np.corrcoef(field_t.ravel(), exact_t.ravel())[0, 1]),
    }


def card(
    forcefield: ForceField,
    training: Dataset,
    held_out: Dataset,
    settings: TrainingSettings,
    remark: str = "",
) -> dict[str, Any]:
    """What a reader must know of trained weights: data, settings, errors on held-out runs."""
    return {
        "remark": remark,
        "training_snapshots": len(training),
        "training_sites": training.model.lattice.n_sites,
        "random_states": int((training.trajectory < 0).sum()),
        "training_quenches": sorted({k for k in training.trajectory.tolist() if k >= 0}),
        "held_out_snapshots": len(held_out),
        "held_out_quenches": sorted(set(held_out.trajectory.tolist())),
        "held_out_times": [float(held_out.time.min()), float(held_out.time.max())],
        "settings": dataclasses.asdict(settings),
        "parameters": sum(p.numel() for p in forcefield.parameters()),
        "held_out_errors": evaluate(forcefield, held_out),
        "pair_exchange_errors": field_errors(held_out, pair_exchange_field(training, held_out)),
        "data": training.provenance,
    }


def card_text(forcefield: ForceField) -> str:
    """The card of a force field as a Markdown page."""
    model, content = forcefield.model, forcefield.card
    environment = forcefield.descriptor.environment
    errors, baseline = content["held_out_errors"], content["pair_exchange_errors"]
    rows = [
        f"| {name} | {value:.3g} | {format(baseline[name], '.3g') if 'torque' in name else ''} |"
        for name, value in errors.items()
    ]
    lines = [
        f"# Force field for the {model.lattice.name} lattice",
        content["remark"],
        f"Model: J = {model.exchange_coupling}, filling = {model.filling}, "
        f"electron_kT = {model.electron_kT}, hopping = {model.hopping}. The weights hold for these "
        "values only, on any lattice of this kind with L >= 12.",
        f"Descriptor: centre bonds to {environment.bond_radius}, pairs to "
        f"{environment.pair_radius} lattice constants; network "
        f"{forcefield.descriptor.n_features}-{'-'.join(map(str, forcefield.hidden_widths))}-2, "
        f"{content['parameters']} parameters.",
        f"Trained on {content['training_snapshots']} snapshots of {content['training_sites']} "
        f"sites: {content['random_states']} random states and the quenches of seeds "
        f"{content['training_quenches']}.",
        f"Held-out quenches {content['held_out_quenches']}, "
        f"{content['held_out_snapshots']} snapshots, times {content['held_out_times']}:",
        "| error (energies in t) | force field | pair exchange, 3 shells |\n|---|---|---|\n"
        + "\n".join(rows),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def pair_exchange_field(
    training: Dataset, evaluation: Dataset, n_shells: int = 3
) -> NDArray[np.float64]:
    """The baseline of every table: transverse fields (n, N, 3) of the best pair exchange.

    h_i = sum_shell J_shell sum_j S_j with the J_shell from least squares on the transverse field of
    the training snapshots.
    """
    columns = _shell_fields(training, n_shells).reshape(n_shells, -1).T
    target = spin_arrays.transverse(training.spins, training.local_field).ravel()
    exchange = np.linalg.lstsq(columns, target, rcond=None)[0]
    return np.einsum("s,s...->...", exchange, _shell_fields(evaluation, n_shells))


def _shell_fields(data: Dataset, n_shells: int) -> NDArray[np.float64]:
    """Transverse part of the sum of neighbours in each shell, (n_shells, n, N, 3)."""
    lattice: Lattice = data.model.lattice
    sums = [data.spins[:, lattice.neighbors(k)].sum(2) for k in range(1, n_shells + 1)]
    return np.stack([spin_arrays.transverse(data.spins, h) for h in sums])
