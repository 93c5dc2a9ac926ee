"""An energy of the spins that a network gives: what force fields and committees of them share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from sdml.lattice import Lattice
from sdml.model import SDModel, spin_energy
from sdml.spins import as_tensor, like


class Potential(nn.Module):
    """Energy, local field and local energies of spins, from features of their environments.

    A subclass has a ``model``, its inputs' ``feature_mean`` and ``grand_canonical``, and says in
    :meth:`features`, :meth:`electron_energy`, :meth:`site_energies`, :meth:`feature_distance` and
    :meth:`on` what it makes of them. Those take tensors in its dtype and check no spins.
    """

    model: SDModel
    feature_mean: Tensor
    grand_canonical: bool

    @property
    def dtype(self) -> torch.dtype:
        return self.feature_mean.dtype

    @abstractmethod
    def on(self, lattice: Lattice) -> Self:
        """The same (weights shared) for a lattice of another shape."""

    def on_lattice_of(self, model: SDModel, argument: str = "data") -> Self:
        """The same on the lattice of snapshots of ``model``; ValueError if they are of another."""
        if replace(self.model, lattice=model.lattice) != model:
            raise ValueError(
                f"{argument}: must be snapshots of the model {self.model}, got {model}"
            )
        return self.on(model.lattice)

    @abstractmethod
    def features(self, spins: Tensor) -> Tensor:
        """Descriptors (..., N, F) of unit spins, not standardized."""

    @abstractmethod
    def electron_energy(self, features: Tensor, square: Tensor, mu: Tensor | None = None) -> Tensor:
        """Total energy (...) without the model's Zeeman and easy-axis terms.

        Parameters
        ----------
        features : (..., N, F)
            Of the directions of the spins, see :meth:`features`.
        square : (..., N)
            |S|^2.
        mu : (..., 1) or (..., N), optional
            As in :meth:`forward`.
        """

    @abstractmethod
    def site_energies(self, features: Tensor) -> Tensor:
        """The :meth:`local_energies` (..., N) of features (..., N, F)."""

    @abstractmethod
    def feature_distance(self, features: Tensor) -> Tensor:
        """The :meth:`extrapolation` (..., N) of features (..., N, F)."""

    def forward(self, spins: Tensor, mu: Tensor | None = None) -> Tensor:
        """Total energy (...) in the network's dtype; spins of any length, no guard.

        ``mu`` (..., 1) or (..., N) fixes the chemical potential of a grand-canonical force field;
        by default it follows from the number of electrons, and second derivatives are not defined.
        """
        if mu is not None and not self.grand_canonical:
            raise ValueError("mu: must be None, the force field is not grand-canonical")
        return self.electron_energy(*self.described(spins), mu) + spin_energy(self.model, spins)

    def described(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., N, F) of the directions of spins of any length, and |S|^2 (..., N)."""
        square = (spins * spins).sum(-1)
        return self.features(spins * square.rsqrt().unsqueeze(-1)), square

    def field(self, spins: Tensor, mu: Tensor | None = None) -> Tensor:
        """-dE/dS (..., N, 3) of a tensor in the network's dtype, no guard: for inner loops."""
        with torch.enable_grad():
            leaf = spins.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self(leaf, mu).sum(), leaf)
        return -gradient

    def energy(self, spins: Any) -> Any:
        """Total energy (...), in the kind and dtype of ``spins``."""
        return self._checked(self, spins)

    def local_field(self, spins: Any) -> Any:
        """h_i = -dE/dS_i, the full vector (..., N, 3), in the kind and dtype of ``spins``."""
        return self._checked(self.field, spins)

    def local_energies(self, spins: Any) -> Any:
        """Energy of every site, (..., N): eps, or omega + mu n of a grand-canonical force field."""
        return self._checked(lambda s: self.site_energies(self.features(s)), spins)

    def extrapolation(self, spins: Any) -> Any:
        """How far the environments are from the training data, (..., N); outside where above 1.

        The Mahalanobis distance d of the standardized features z with covariance C among all sites
        of the training data, in units of the largest distance among them:

            d_i^2 = z_i . (C + 1e-4)^-1 z_i,     d_i / max_training d.

        De Maesschalck, Jouan-Rimbaud and Massart, Chemom. Intell. Lab. Syst. 50, 1 (2000),
        doi 10.1016/S0169-7439(99)00047-7. Of a committee it is the largest of the members.
        ValueError if weights were saved without it.
        """
        return self._checked(lambda s: self.feature_distance(self.features(s)), spins)

    def _checked(self, body: Callable[[Tensor], Tensor], spins: Any) -> Any:
        """What ``body`` makes of the spins, checked once, in their kind and dtype."""
        s = as_tensor(spins)
        with torch.no_grad():
            return like(body(s.detach().to(self.feature_mean)).to(s), spins)
