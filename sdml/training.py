"""Training a force field on labelled snapshots, and the numbers by which it is judged.

The transverse part of the field is what drives the spins, and it is small beside the longitudinal
part, so the two have separate terms in the loss, each divided by its variance in the training data:

    loss = w_t <|dh_t|^2> / <|h_t|^2> + w_l <dh_l^2> / var(h_l) + w_E <dE^2> / var(E)
           + w_n <dn^2> / var(n)

(the last for a grand-canonical force field only; holes may count more in the first).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sdml import files
from sdml import spins as spin_arrays
from sdml.dataset import Dataset
from sdml.evaluation import (
    HOLE_DENSITY,
    evaluate,
    field_errors,
    on_lattice_of,
    pair_exchange_field,
    predict,
    stage_errors,
    stage_table,
)
from sdml.forcefield import ForceField, digest

Report = Callable[[dict[str, float]], None]
CHECKPOINT_FORMAT = "sdml-training-2"


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes
    ----------
    n_epochs, batch_size : int
        Passes over the snapshots, snapshots per step.
    learning_rate : float
        Peak of Adam's rate: linear over a tenth of all steps, then a cosine down to zero.
    transverse_weight, longitudinal_weight, energy_weight, density_weight : float
        Weights of the loss; the density is learned by a grand-canonical force field only.
    hole_weight : float
        Further weight of the transverse error on sites with fewer than 0.9 electrons: few, but
        where a doped antiferromagnet decides what happens.
    averaging : float
        Decay per step of the running mean of the weights, which is what is judged and kept.
    patience : int
        Epochs without a better validation error after which training stops; 0 for never. Needs a
        validation set.
    seed : int
        Order of the snapshots.
    """

    n_epochs: int
    batch_size: int = 4
    learning_rate: float = 3e-3
    transverse_weight: float = 1.0
    longitudinal_weight: float = 0.2
    energy_weight: float = 0.0
    density_weight: float = 0.1
    hole_weight: float = 0.0
    averaging: float = 0.99
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")
        for name in ("transverse", "longitudinal", "energy", "density", "hole"):
            if not getattr(self, f"{name}_weight") >= 0:
                value = getattr(self, f"{name}_weight")
                raise ValueError(f"{name}_weight: must be >= 0, got {value}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging: must be in [0, 1), got {self.averaging}")
        if self.patience < 0:
            raise ValueError(f"patience: must be >= 0, got {self.patience}")


@dataclass(frozen=True)
class Scales:
    """Variances of the training data that make the terms of the loss comparable."""

    transverse: float
    longitudinal: float
    energy: float
    density: float


def data_scales(data: Dataset) -> Scales:
    """Mean square transverse field per component, variances of h . S, E and the density."""
    longitudinal = (data.local_field * data.spins).sum(-1)
    h_t = spin_arrays.transverse(data.spins, data.local_field)
    variances = (float(x.var()) for x in (longitudinal, data.energy, data.density))
    return Scales(float((h_t**2).mean()), *(max(v, 1e-8) for v in variances))


def train(
    forcefield: ForceField,
    training: Dataset,
    settings: TrainingSettings,
    validation: Dataset | None = None,
    report: Report | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[dict[str, float]]:
    """Fit the force field in place; the same seed on the same device gives the same weights.

    The weights at the end are running means over the last steps; with a validation set and
    ``patience``, those of the best epoch.

    Parameters
    ----------
    forcefield : ForceField
        Its input and output scales are fixed from ``training`` first.
    training, validation : Dataset
        Split by whole trajectories (:func:`sdml.dataset.split`).
    report : callable, optional
        Gets the record of every epoch.
    checkpoint : path, optional
        Safetensors file written after every epoch. If it is there the run goes on from it, and
        ends with the same weights, bit for bit, as a run that was never interrupted.

    Returns
    -------
    list of dict
        epoch, loss, and torque_r2 of the validation set if there is one.
    """
    if not len(training):
        raise ValueError("training: at least one snapshot is needed, got none")
    if settings.patience and not validation:
        raise ValueError(f"validation: patience {settings.patience} needs snapshots, got none")
    forcefield = on_lattice_of(training, forcefield, "training")
    tensors = _as_tensors(forcefield, training)
    longitudinal = (tensors["local_field"] * tensors["spins"]).sum(-1)
    forcefield.standardise(
        tensors["spins"], tensors["energy"], longitudinal, tensors["chemical_potential"]
    )
    n_steps = settings.n_epochs * -(-len(training) // settings.batch_size)
    run = TrainingRun(forcefield, settings, n_steps)
    if checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    scales = data_scales(training)
    while not run.finished:
        mean_loss = run.epoch(tensors, scales)
        with run.averaged():
            score = _score(forcefield, validation) if validation else None
            run.close_epoch(mean_loss, score)
        if report:
            report(run.history[-1])
        if checkpoint is not None:
            run.save(checkpoint)
    run.finish()
    if settings.energy_weight == 0:
        _set_energy_zero(forcefield, tensors)
    return run.history


def _set_energy_zero(forcefield: ForceField, tensors: dict[str, Tensor]) -> None:
    """Fields leave the zero of the energy open: take it from the mean of the training data."""
    with torch.no_grad():
        pairs = zip(tensors["spins"].split(16), _given_mu(forcefield, tensors), strict=True)
        found = torch.cat([forcefield(s, mu) for s, mu in pairs])
        difference = (tensors["energy"] - found).mean()
        forcefield.output_mean[0] += difference / tensors["spins"].shape[-2]


def _given_mu(forcefield: ForceField, tensors: dict[str, Tensor]) -> Sequence[Tensor | None]:
    parts = tensors["chemical_potential"][:, None].split(16)
    return parts if forcefield.grand_canonical else [None] * len(parts)


class TrainingRun:
    """The state of a training run between epochs: what a checkpoint holds."""

    def __init__(self, forcefield: ForceField, settings: TrainingSettings, n_steps: int) -> None:
        self.forcefield, self.settings, self.n_steps = forcefield, settings, n_steps
        self.parameters = dict(forcefield.named_parameters())
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=settings.learning_rate)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.mean = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.best = {k: p.clone() for k, p in self.mean.items()}
        self.steps = 0
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        waited = len(self.history) - self._best_epoch()
        impatient = self.settings.patience and waited >= self.settings.patience
        return len(self.history) >= self.settings.n_epochs or bool(self.history and impatient)

    def _best_epoch(self) -> int:
        """Number of the epoch with the best validation error, the last one without validation."""
        scores = [row.get("torque_r2", float(k)) for k, row in enumerate(self.history)]
        return int(np.argmax(np.nan_to_num(scores, nan=-np.inf))) + 1 if scores else 0

    def epoch(self, tensors: dict[str, Tensor], scales: Scales) -> float:
        """One pass over the snapshots; the mean loss."""
        losses = []
        for batch in _batches(tensors, self.settings.batch_size, self.rng):
            self.optimizer.param_groups[0]["lr"] = self._rate()
            self.optimizer.zero_grad()
            value = loss(self.forcefield, batch, scales, self.settings)
            # Not in the spins, of which the fields in the loss are derivatives already.
            value.backward(inputs=list(self.parameters.values()))
            self.optimizer.step()
            self._average()
            losses.append(value.item())
        return float(np.mean(losses))

    def _rate(self) -> float:
        """Learning rate of the next step."""
        warm_up = max(self.n_steps // 10, 1)
        rise = min((self.steps + 1) / warm_up, 1.0)
        fraction = max(self.steps + 1 - warm_up, 0) / (self.n_steps + 1 - warm_up)
        return self.settings.learning_rate * rise * (1 + np.cos(np.pi * fraction)) / 2

    def _average(self) -> None:
        self.steps += 1
        # Early on the mean reaches back over all steps so far, not to the random start.
        decay = min(self.settings.averaging, self.steps / (self.steps + 10))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.mean[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The force field with the running means as its weights."""
        current = {k: p.detach().clone() for k, p in self.parameters.items()}
        self._set(self.mean)
        try:
            yield
        finally:
            self._set(current)

    def _set(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    def close_epoch(self, mean_loss: float, score: float | None) -> None:
        record = {"epoch": float(len(self.history) + 1), "loss": mean_loss}
        self.history.append(record if score is None else record | {"torque_r2": score})
        if not self.settings.patience or self._best_epoch() == len(self.history):
            self.best = {k: p.clone() for k, p in self.mean.items()}

    def finish(self) -> None:
        self._set(self.best)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything the next epoch depends on, atomically, under a SHA-256."""
        tensors = {"rng": self.rng.get_state()}
        tensors |= {f"scale.{name}": buffer for name, buffer in self._scales().items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            tensors |= {
                f"weight.{name}": parameter.detach(),
                f"mean.{name}": self.mean[name],
                f"best.{name}": self.best[name],
                f"first.{name}": moments["exp_avg"],
                f"second.{name}": moments["exp_avg_sq"],
            }
        packed = {k: v.cpu().contiguous() for k, v in tensors.items()}
        settings = asdict(self.settings)
        text = json.dumps({"steps": self.steps, "history": self.history, "settings": settings})
        metadata = {"format": CHECKPOINT_FORMAT, "state": text, "sha256": digest(text, packed)}
        with files.replacing(Path(path)) as partial:
            safetensors.torch.save_file(packed, partial, metadata)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint; ValueError if it is damaged or of another run."""
        name = Path(path).name
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}
            if metadata["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"format {metadata['format']!r}, need {CHECKPOINT_FORMAT!r}")
            if metadata["sha256"] != digest(metadata["state"], tensors):
                raise ValueError("it does not match its checksum")
            state = json.loads(metadata["state"])
            self._require_same_run(tensors, state)
        except (SafetensorError, LookupError, OSError, ValueError) as error:
            raise ValueError(f"checkpoint: cannot go on from {name!r} ({error})") from error
        self._restore(tensors, state)

    def _require_same_run(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"it is of a run with other settings, {state['settings']}")
        expected = {f"weight.{name}": p.detach() for name, p in self.parameters.items()}
        expected |= {f"scale.{name}": buffer for name, buffer in self._scales().items()}
        for name, ours in expected.items():
            theirs = tensors.get(name)
            if theirs is None or (theirs.shape, theirs.dtype) != (ours.shape, ours.dtype):
                raise ValueError("it is of another force field")
            # Sums of another number of threads differ by rounding.
            if "scale." in name and not torch.allclose(theirs, ours.cpu(), rtol=1e-3, atol=1e-5):
                raise ValueError("it is of a run on other data")

    def _scales(self) -> dict[str, Tensor]:
        """What the force field took from the training data and the next epoch depends on."""
        tensors = self.forcefield.state_dict()
        others = {*self.parameters, "whitening"}
        return {name: values for name, values in tensors.items() if name not in others}

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._set({name: tensors[f"weight.{name}"] for name in self.parameters})
        for name, buffer in self._scales().items():
            buffer.copy_(tensors[f"scale.{name}"])
        for name, parameter in self.parameters.items():
            self.mean[name].copy_(tensors[f"mean.{name}"])
            self.best[name].copy_(tensors[f"best.{name}"])
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(state["steps"])),
                "exp_avg": tensors[f"first.{name}"].to(parameter),
                "exp_avg_sq": tensors[f"second.{name}"].to(parameter),
            }
        self.rng.set_state(tensors["rng"])
        self.steps, self.history = state["steps"], state["history"]


def loss(
    forcefield: ForceField, batch: dict[str, Tensor], scales: Scales, settings: TrainingSettings
) -> Tensor:
    """The weighted loss of a batch, differentiable in the weights.

    A grand-canonical force field is compared at the chemical potential of the labels.
    """
    s = batch["spins"].detach().requires_grad_(True)
    mu, inputs = None, [s]
    if forcefield.grand_canonical:
        mu = batch["chemical_potential"][:, None].expand(s.shape[:2]).clone().requires_grad_(True)
        inputs.append(mu)
    energy = forcefield(s, mu)
    gradients = torch.autograd.grad(energy.sum(), inputs, create_graph=True)
    error = -gradients[0] - batch["local_field"]
    longitudinal = (error * s).sum(-1, keepdim=True)
    weight = 1 + settings.hole_weight * (batch["density"] < HOLE_DENSITY).to(s)[..., None]
    transverse = error - longitudinal * s
    value = (
        settings.transverse_weight * (weight * transverse**2).mean() / scales.transverse
        + settings.longitudinal_weight * (longitudinal**2).mean() / scales.longitudinal
        + settings.energy_weight * ((energy - batch["energy"]) ** 2).mean() / scales.energy
    )
    if mu is not None:
        # E holds mu N_e, so that its slope is what the densities miss of the mean density.
        excess = batch["density"] - 2 * float(forcefield.model.filling or 0)
        value = (
            value + settings.density_weight * ((gradients[1] + excess) ** 2).mean() / scales.density
        )
    return value


def _as_tensors(forcefield: ForceField, data: Dataset) -> dict[str, Tensor]:
    like = forcefield.feature_mean
    return {
        name: torch.as_tensor(getattr(data, name)).to(like)
        for name in ("spins", "local_field", "energy", "density", "chemical_potential")
    }


def _batches(
    tensors: dict[str, Tensor], batch_size: int, rng: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    order = torch.randperm(len(tensors["energy"]), generator=rng)
    for chosen in order.split(batch_size):
        yield {name: values[chosen.to(values.device)] for name, values in tensors.items()}


def _score(forcefield: ForceField, data: Dataset) -> float:
    """torque_r2 at the chemical potential of the labels: defined before the densities are."""
    return field_errors(data, predict(forcefield, data, labelled_mu=True))["torque_r2"]


def card(
    forcefield: ForceField,
    training: Dataset,
    held_out: Dataset,
    settings: TrainingSettings,
    remark: str = "",
) -> dict[str, Any]:
    """What a reader must know of trained weights: data, settings, errors on held-out runs."""
    pairs = pair_exchange_field(training, held_out)
    return {
        "remark": remark,
        "training_snapshots": len(training),
        "training_sites": training.model.lattice.n_sites,
        "random_states": int((training.trajectory < 0).sum()),
        "training_quenches": sorted({k for k in training.trajectory.tolist() if k >= 0}),
        "held_out_snapshots": len(held_out),
        "held_out_sites": held_out.model.lattice.n_sites,
        "held_out_quenches": sorted(set(held_out.trajectory.tolist())),
        "held_out_times": [float(held_out.time.min()), float(held_out.time.max())],
        "settings": dataclasses.asdict(settings),
        "parameters": sum(p.numel() for p in forcefield.parameters()),
        "held_out_errors": evaluate(forcefield, held_out),
        "held_out_stages": stage_errors(held_out, predict(forcefield, held_out)),
        "pair_exchange_errors": field_errors(held_out, pairs),
        "pair_exchange_stages": stage_errors(held_out, pairs),
        "data": training.provenance,
    }


def card_text(forcefield: ForceField) -> str:
    """The card of a force field as a Markdown page."""
    model, content = forcefield.model, forcefield.card
    environment = forcefield.descriptor.environment
    errors = content["held_out_errors"]
    mode = "grand-canonical" if forcefield.grand_canonical else "canonical"
    lines = [
        f"# Force field for the {model.lattice.name} lattice",
        content["remark"],
        f"Model: J = {model.exchange_coupling}, filling = {model.filling}, "
        f"electron_kT = {model.electron_kT}, hopping = {model.hopping}. The weights hold for these "
        "values only, on any lattice of this kind with L >= 12.",
        f"Descriptor: {environment}; {mode}; network "
        f"{forcefield.feature_mean.numel()}-{'-'.join(map(str, forcefield.hidden_widths))}-2, "
        f"{content['parameters']} parameters.",
        f"Trained on {content['training_snapshots']} snapshots of {content['training_sites']} "
        f"sites: {content['random_states']} random states and the quenches of seeds "
        f"{content['training_quenches']}.",
        f"Judged on the quenches {content['held_out_quenches']}, "
        f"{content['held_out_snapshots']} snapshots of {content['held_out_sites']} sites, times "
        f"{content['held_out_times']}:",
        stage_table(content["held_out_stages"]),
        f"All frames: transverse R² {errors['torque_r2']:.3g}, rms error of the energy "
        f"{errors['energy_rms']:.2g} t a site. Energies in t; MSE are means over the three "
        "components. The best pair exchange of three shells (it has no longitudinal part):",
        stage_table(content["pair_exchange_stages"]),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"
