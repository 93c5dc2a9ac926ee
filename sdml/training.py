"""Training a force field on labelled snapshots.

The transverse part of the field is what drives the spins, and it is small beside the longitudinal
part, so the two have separate terms in the loss, each divided by its variance in the training data:

    loss = w_t <|dh_t|^2> / <|h_t|^2> + w_l <dh_l^2> / var(h_l) + w_E <dE^2> / var(E)
           + w_n <dn^2> / var(n)

(the last for a grand-canonical force field only; holes may count more in the first).
"""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from sdml.dataset import Dataset, checksums
from sdml.evaluation import DEPLETED, field_errors, predict
from sdml.forcefield import ForceField, digest, read_tensors, write_tensors
from sdml.spins import seed_number, transverse

__all__ = ["Report", "Scales", "TrainingRun", "TrainingSettings", "data_scales", "loss", "train"]

Report = Callable[[dict[str, float]], None]
CHECKPOINT_FORMAT = "sdml-training-4"


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
        terms = ("transverse", "longitudinal", "energy", "density", "hole")
        for name in ("patience", *(f"{term}_weight" for term in terms)):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be >= 0, got {getattr(self, name)}")
        object.__setattr__(self, "seed", seed_number(self.seed))
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging: must be in [0, 1), got {self.averaging}")


@dataclass(frozen=True)
class Scales:
    """Variances of the training data that make the terms of the loss comparable, at least 1e-8."""

    transverse: float
    longitudinal: float
    energy: float
    density: float


def data_scales(data: Dataset) -> Scales:
    """Mean square transverse field per component, variances of h . S, E and the density."""
    longitudinal = (data.local_field * data.spins).sum(-1)
    h_t = transverse(data.spins, data.local_field)
    density = np.zeros(1) if data.density is None else data.density
    squares = (h_t**2).mean(), *(x.var() for x in (longitudinal, data.energy, density))
    return Scales(*(max(float(square), 1e-8) for square in squares))


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
        Its scales are fixed from ``training`` first, and its ``model`` gets the lattice of that.
    training, validation : Dataset
        Split by whole trajectories (:func:`sdml.dataset.split`).
    report : callable, optional
        Gets the record of every epoch.
    checkpoint : path, optional
        Safetensors file written after every epoch. If it is there the run goes on from it,
        whatever the weights of ``forcefield`` are, and ends with the same weights, bit for bit, as
        a run that was never interrupted.

    Returns
    -------
    list of dict
        epoch, loss, and torque_r2 of the validation set if there is one that has it.

    Raises
    ------
    ValueError, FloatingPointError
        A bad argument, a checkpoint of another run or data; a loss or weight that is not finite.
    """
    _require_snapshots(forcefield, training, settings, validation)
    original, forcefield = forcefield, forcefield.on_lattice_of(training.model, "training")
    original.model = training.model
    tensors = _as_tensors(forcefield, training)
    longitudinal = (tensors["local_field"] * tensors["spins"]).sum(-1)
    forcefield.standardize(
        tensors["spins"], tensors["energy"], longitudinal, tensors.get("chemical_potential")
    )
    n_steps = settings.n_epochs * -(-len(training) // settings.batch_size)
    run = TrainingRun(forcefield, settings, n_steps)
    run.data = digest(json.dumps([checksums(of) for of in (training, validation) if of]), {})
    if checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    scales = data_scales(training)
    while not run.finished:
        mean_loss = run.epoch(tensors, scales)
        run.close_epoch(mean_loss, _score(run.mean.module, validation) if validation else None)
        if report:
            report(run.history[-1])
        if checkpoint is not None:
            run.save(checkpoint)
    run.finish()
    if settings.energy_weight == 0:
        _set_energy_zero(forcefield, tensors)
    return run.history


def _require_snapshots(
    forcefield: ForceField,
    training: Dataset,
    settings: TrainingSettings,
    validation: Dataset | None,
) -> None:
    """ValueError without the labels to learn, or without a torque to be patient for."""
    if not len(training):
        raise ValueError("training: at least one snapshot is needed, got none")
    if forcefield.grand_canonical or settings.hole_weight:
        training.require("training", "density")
    if forcefield.grand_canonical:
        for argument, data in (("training", training), ("validation", validation or training)):
            data.require(argument, "chemical_potential")
    if settings.patience:
        needs = f"validation: patience {settings.patience} needs"
        if not validation:
            raise ValueError(f"{needs} snapshots, got none")
        if "torque_r2" not in field_errors(validation, validation.local_field):
            raise ValueError(f"{needs} a transverse field, got none in {len(validation)} snapshots")


def _set_energy_zero(forcefield: ForceField, tensors: dict[str, Tensor]) -> None:
    """Fields leave the zero of the energy open: take it from the mean of the training data."""
    mu = tensors["chemical_potential"][:, None].split(16) if forcefield.grand_canonical else ()
    with torch.no_grad():
        pairs = zip_longest(tensors["spins"].split(16), mu)
        found = torch.cat([forcefield(s, given) for s, given in pairs])
        difference = (tensors["energy"] - found).mean()
        forcefield.output_mean[0] += difference / tensors["spins"].shape[-2]


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate in step 0 ... n_steps - 1: a tenth up, a cosine down."""
    warm_up = max(n_steps // 10, 1)
    fraction = max(step + 1 - warm_up, 0) / (n_steps + 1 - warm_up)
    return min((step + 1) / warm_up, 1.0) * (1 + float(np.cos(np.pi * fraction))) / 2


class TrainingRun:
    """The state of a training run between epochs: what a checkpoint holds."""

    def __init__(self, forcefield: ForceField, settings: TrainingSettings, n_steps: int) -> None:
        self.forcefield, self.settings = forcefield, settings
        self.parameters = list(forcefield.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.scheduler = LambdaLR(self.optimizer, lambda step: _rate(step, n_steps))
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.mean = AveragedModel(forcefield, avg_fn=self._average)
        self.mean.update_parameters(forcefield)  # the first mean is the start
        self.data = ""  # checksum of the snapshots, of those that judge as well
        self.best: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []

    def _average(self, mean: Tensor, weights: Tensor, n_averaged: Tensor | int) -> Tensor:
        # Early on the mean reaches back over all steps so far, not to the random start.
        decay = min(self.settings.averaging, int(n_averaged) / (int(n_averaged) + 10))
        return mean.lerp(weights, 1 - decay)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last best one lies ``patience`` epochs back."""
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
        order = torch.randperm(len(tensors["energy"]), generator=self.rng)
        for chosen in order.split(self.settings.batch_size):
            batch = {name: values[chosen.to(values.device)] for name, values in tensors.items()}
            self.optimizer.zero_grad()
            value = loss(self.forcefield, batch, scales, self.settings)
            self._require_finite("loss", value)
            # Not in the spins, of which the fields in the loss are derivatives already.
            value.backward(inputs=self.parameters)
            self.optimizer.step()
            self.scheduler.step()
            self.mean.update_parameters(self.forcefield)
            losses.append(value.item())
        self._require_finite("weights", *self.parameters)
        return float(np.mean(losses))

    def _require_finite(self, name: str, *values: Tensor) -> None:
        if not all(bool(value.isfinite().all()) for value in values):
            raise FloatingPointError(
                f"{name}: must be finite, got nan or infinity in epoch {len(self.history) + 1}; "
                f"learning_rate = {self.settings.learning_rate}"
            )

    def close_epoch(self, mean_loss: float, score: float | None) -> None:
        """Add an epoch to the history, and keep its averaged weights if they are the best."""
        record = {"epoch": float(len(self.history) + 1), "loss": mean_loss}
        self.history.append(record if score is None else record | {"torque_r2": score})
        if not self.settings.patience or self._best_epoch() == len(self.history):
            self.best = copy.deepcopy(self.mean.module.state_dict())

    def finish(self) -> None:
        """Put the best weights into the force field."""
        self.forcefield.load_state_dict(self.best)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything the next epoch depends on, atomically, under a SHA-256."""
        optimizer = self.optimizer.state_dict()
        parts = {
            "weight": self.forcefield.state_dict(),
            "mean": self.mean.state_dict(),
            "best": self.best,
            **{f"moment.{k}": moments for k, moments in optimizer["state"].items()},
        }
        tensors = {f"{part}.{k}": x for part, found in parts.items() for k, x in found.items()}
        state = {
            "format": CHECKPOINT_FORMAT,
            "settings": asdict(self.settings),
            "data": self.data,
            "history": self.history,
            "param_groups": optimizer["param_groups"],
            "scheduler": self.scheduler.state_dict(),
        }
        write_tensors(path, json.dumps(state), tensors | {"rng": self.rng.get_state()})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint; ValueError if it is damaged, of another run or format."""
        try:
            state, tensors = read_tensors(path, CHECKPOINT_FORMAT, "checkpoint")
            self._require_same_run(_part(tensors, "weight"), state)
        except ValueError as error:
            raise ValueError(
                f"checkpoint: cannot go on from {Path(path).name!r} ({error})"
            ) from error
        moments = {k: _part(tensors, f"moment.{k}") for k in range(len(self.parameters))}
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.scheduler.load_state_dict(state["scheduler"])
        self.forcefield.load_state_dict(_part(tensors, "weight"))
        self.mean.load_state_dict(_part(tensors, "mean"))
        self.rng.set_state(tensors["rng"])
        self.best, self.history = _part(tensors, "best"), state["history"]

    def _require_same_run(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"it is of a run with other settings, {state['settings']}")
        if state["data"] != self.data:
            raise ValueError("it is of a run on other data, or judged by others")
        ours, learned = self.forcefield.state_dict(), dict(self.forcefield.named_parameters())
        found, needed = (
            {name: (x.shape, x.dtype) for name, x in values.items()} for values in (weights, ours)
        )
        if found != needed:
            raise ValueError("it is of another force field")
        for name in ours.keys() - {*learned, "whitening"}:
            # Sums of another number of threads differ by rounding.
            if not torch.allclose(weights[name], ours[name].cpu(), rtol=1e-3, atol=1e-5):
                raise ValueError("it is of a run on other data")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with one part, by the rest of their names."""
    return {k.removeprefix(f"{name}."): x for k, x in tensors.items() if k.startswith(f"{name}.")}


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
    transverse = error - longitudinal * s
    weight: Any = 1.0
    if settings.hole_weight:
        weight = 1 + settings.hole_weight * (batch["density"] < DEPLETED).to(s)[..., None]
    value = (
        settings.transverse_weight * (weight * transverse**2).mean() / scales.transverse
        + settings.longitudinal_weight * (longitudinal**2).mean() / scales.longitudinal
        + settings.energy_weight * ((energy - batch["energy"]) ** 2).mean() / scales.energy
    )
    if mu is not None:
        # E holds mu N_e, so that its slope is what the densities miss of the mean density.
        missed = gradients[1] + (batch["density"] - 2 * float(forcefield.model.filling or 0))
        value = value + settings.density_weight * (missed**2).mean() / scales.density
    return value


def _as_tensors(forcefield: ForceField, data: Dataset) -> dict[str, Tensor]:
    like = forcefield.feature_mean
    return {
        name: torch.as_tensor(values).to(like)
        for name, values in data.arrays().items()
        if name not in ("trajectory", "time")
    }


def _score(forcefield: Any, data: Dataset) -> float | None:
    """torque_r2 at the chemical potential of the labels: defined before the densities are."""
    return field_errors(data, predict(forcefield, data, labeled_mu=True)).get("torque_r2")
