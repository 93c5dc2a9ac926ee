"""Behler-Parrinello force field: a network gives the energy of each site from its environment.

    E(S) = sum_i eps(C_i) - 1/2 sum_i m(C_i) (|S_i|^2 - 1),     h_i = -dE/dS_i,

with the descriptors C_i of the directions S / |S|. On unit spins E = sum eps, its gradient along
the sphere is the transverse field, and m is the longitudinal field h_i . S_i. The exact energy
depends on the length of a spin too; the second term carries that dependence to first order, so that
the full vector h is the gradient of one energy and the torque is learned by eps alone.
Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi 10.1103/PhysRevLett.98.146401.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sdml import lattice as lattices
from sdml import paths
from sdml.descriptor import SymmetryDescriptor, SymmetryEnvironment
from sdml.lattice import Lattice
from sdml.model import SDModel, describe, from_description, spin_energy
from sdml.spins import as_tensor, like

FILE_FORMAT = "sdml-forcefield-1"


class ForceField(nn.Module):
    """Energy and local field of spins on a lattice of the kind of ``model.lattice``.

    Parameters
    ----------
    model : SDModel
        What the network stands for. Its Zeeman and easy-axis terms are added exactly.
    environment : SymmetryEnvironment
    hidden_widths : sequence of int
        Widths of the hidden layers of the network F - ... - 2.
    seed : int
        Seed of the initial weights.

    Notes
    -----
    Unless :meth:`on` names another lattice, N spins live on the periodic L x L lattice,
    L = sqrt(N). The network computes in the dtype of its weights: float32, float64 after
    ``.double()``.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(
        self,
        model: SDModel,
        environment: SymmetryEnvironment,
        hidden_widths: Sequence[int] = (64, 32),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if model.lattice.name != environment.kind:
            raise ValueError(
                f"environment: kind {environment.kind!r} on a {model.lattice.name!r} lattice"
            )
        if not hidden_widths or any(n < 1 for n in hidden_widths):
            raise ValueError(f"hidden_widths: must be positive integers, got {hidden_widths}")
        self.model = model
        self.hidden_widths = tuple(int(n) for n in hidden_widths)
        self.card: dict[str, Any] = {}
        self.descriptor = SymmetryDescriptor(environment)
        self.network = _perceptron([self.descriptor.n_features, *self.hidden_widths, 2], seed)
        for name, size in (("feature_mean", self.descriptor.n_features), ("output_mean", 2)):
            self.register_buffer(name, torch.zeros(size))
            self.register_buffer(name.replace("mean", "scale"), torch.ones(size))
        self._lattice: Lattice | None = None
        self._tables: dict[Any, Tensor] = {}

    @property
    def dtype(self) -> torch.dtype:
        return self.feature_mean.dtype

    def on(self, lattice: Lattice) -> ForceField:
        """The same force field (weights shared) for a lattice of another shape."""
        self.descriptor.neighbor_table(lattice)  # refuses another kind of lattice
        other = copy.copy(self)
        other._lattice, other._tables = lattice, {}
        return other

    def lattice_of(self, n_sites: int) -> Lattice:
        """The lattice that N spins live on; ValueError if N is not the size of one."""
        if self._lattice is not None:
            if self._lattice.n_sites != n_sites:
                raise ValueError(
                    f"spins: the lattice has {self._lattice.n_sites} sites, got {n_sites}"
                )
            return self._lattice
        length = round(n_sites**0.5)
        if length**2 != n_sites:
            raise ValueError(f"spins: N must be a square (L x L), got {n_sites}; or use .on()")
        return getattr(lattices, self.model.lattice.name)(length)

    def neighbor_table(self, n_sites: int, device: torch.device) -> Tensor:
        key = (n_sites, device)
        if key not in self._tables:
            self._tables[key] = self.descriptor.neighbor_table(self.lattice_of(n_sites)).to(device)
        return self._tables[key]

    def site_outputs(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Local energies eps (..., N) and longitudinal fields m (..., N) of unit spins."""
        table = self.neighbor_table(spins.shape[-2], spins.device)
        features = self.descriptor(spins, table)
        standardised = (features - self.feature_mean) / self.feature_scale
        outputs = self.network(standardised) * self.output_scale + self.output_mean
        return outputs[..., 0], outputs[..., 1]

    def forward(self, spins: Tensor) -> Tensor:
        """Total energy (...) in the network's dtype; spins of any length, no guard."""
        square = (spins * spins).sum(-1)  # (..., N)
        local_energies, longitudinal = self.site_outputs(spins * square.rsqrt().unsqueeze(-1))
        electrons = (local_energies - 0.5 * longitudinal * (square - 1)).sum(-1)
        return electrons + spin_energy(self.model, spins)

    def field(self, spins: Tensor, create_graph: bool = False) -> Tensor:
        """-dE/dS (..., N, 3) of a tensor in the network's dtype, no guard: for inner loops."""
        with torch.enable_grad():
            leaf = spins if create_graph and spins.requires_grad else spins.detach()
            leaf.requires_grad_(True)
            energy = self(leaf).sum()
            (gradient,) = torch.autograd.grad(energy, leaf, create_graph=create_graph)
        return -gradient

    def energy(self, spins: Any) -> Any:
        """Total energy (...), in the kind and dtype of ``spins``."""
        s = as_tensor(spins)
        with torch.no_grad():
            return like(self(self._own(s)).to(s), spins)

    def local_energies(self, spins: Any) -> Any:
        """Energy eps of every site, (..., N)."""
        s = as_tensor(spins)
        with torch.no_grad():
            return like(self.site_outputs(self._own(s))[0].to(s), spins)

    def local_field(self, spins: Any) -> Any:
        """h_i = -dE/dS_i, the full vector (..., N, 3), in the kind and dtype of ``spins``."""
        s = as_tensor(spins)
        return like(self.field(self._own(s)).to(s), spins)

    def _own(self, spins: Tensor) -> Tensor:
        return spins.detach().to(self.feature_mean)

    def standardise(self, spins: Tensor, energies: Tensor, longitudinal: Tensor) -> None:
        """Fix the scales of input and output from training data.

        Parameters
        ----------
        spins : (n, N, 3)
        energies : (n,)
            Total energies; their mean per site becomes the offset of eps.
        longitudinal : (n, N)
            h . S; mean and deviation scale the second output.
        """
        with torch.no_grad():
            table = self.neighbor_table(spins.shape[-2], spins.device)
            features = self.descriptor(spins.to(self.feature_mean), table).flatten(0, -2)
            self.feature_mean.copy_(features.mean(0))
            self.feature_scale.copy_(features.std(0).clamp_min(1e-3))
            offset = (energies / spins.shape[-2]).mean()
            self.output_mean.copy_(torch.stack([offset, longitudinal.mean()]))
            # The energy scale matches the longitudinal one: both come from the same exchange.
            self.output_scale.copy_(longitudinal.std().clamp_min(1e-3).expand(2))


def _perceptron(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Linear layers with SiLU between them (smooth: fields and their training need gradients)."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def save(forcefield: ForceField, path: str | os.PathLike[str]) -> None:
    """Write weights and description as one safetensors file, atomically.

    The description holds the model, the environment, the widths and the card; a SHA-256 covers it
    and the weights.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in forcefield.state_dict().items()}
    description = {
        "format": FILE_FORMAT,
        "model": describe(forcefield.model),
        "environment": dataclasses.asdict(forcefield.descriptor.environment),
        "hidden_widths": forcefield.hidden_widths,
        "card": forcefield.card,
    }
    text = json.dumps(description)
    metadata = {"description": text, "sha256": _digest(text, tensors)}
    with paths.replacing(Path(path)) as partial:
        safetensors.torch.save_file(tensors, partial, metadata)


def load(name_or_path: str | os.PathLike[str]) -> ForceField:
    """A released force field by name ('triangular', 'square') or one saved by :func:`save`.

    Raises
    ------
    ValueError
        Unknown name, missing, truncated, altered or foreign file. Nothing is unpickled.
    """
    path = _locate(name_or_path)
    description, tensors = _read(path)
    try:
        forcefield = ForceField(
            from_description(description["model"]),
            SymmetryEnvironment(**description["environment"]),
            description["hidden_widths"],
        )
        forcefield.to(tensors["feature_mean"].dtype).load_state_dict(tensors)
        forcefield.card = description["card"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"path: {path.name!r} is incomplete or does not fit ({error})") from error
    return forcefield


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    released = paths.models() / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if path.is_file():
        return path
    if released.is_file():
        return released
    names = sorted(p.stem for p in paths.models().glob("*.safetensors"))
    raise ValueError(
        f"name_or_path: must be one of {names} or a file, got {os.fspath(name_or_path)!r}"
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        description = json.loads(metadata["description"])
        checksum, found_format = metadata["sha256"], description["format"]
    except (SafetensorError, LookupError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"path: {path.name!r} is not a readable force field ({error})") from error
    if found_format != FILE_FORMAT:
        raise ValueError(f"path: {path.name!r} has format {found_format!r}, need {FILE_FORMAT!r}")
    if checksum != _digest(metadata["description"], tensors):
        raise ValueError(f"path: {path.name!r} does not match its checksum")
    return description, tensors


def _digest(description: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
