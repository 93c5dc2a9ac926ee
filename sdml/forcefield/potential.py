"""An energy of the spins that a network gives: what force fields and committees of them share."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from sdml.lattice import Lattice
from sdml.model import SDModel, spin_energy
from sdml.spins import as_tensor, like

LEAST_LENGTH = 12
"""Below it, environments meet their own periodic images as they do not in larger lattices."""


class Potential(nn.Module):
    """Energy, local field and local energies of spins, from features of their environments.

    A subclass has a ``model``, its inputs' ``feature_mean`` and ``grand_canonical``, and says in
    :meth:`features`, :meth:`electron_energy`, :meth:`site_energies`, :meth:`feature_distance`,
    :meth:`lattice_of` and :meth:`placed` what it makes of them. Those that take tensors take them
    in its dtype and check no spins.
    """

    model: SDModel
    feature_mean: Tensor
    grand_canonical: bool

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Any, tuple[SDModel, Any]] = {}
        self._shares = False

    def view(self) -> Self:
        """The same with shared weights, until :meth:`double`, :meth:`to` or the like is called.

        They leave the original as it is and give the view weights of its own.
        """
        other = copy.copy(self)
        other._kept, other._shares = {}, True
        return other

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if self._shares:
            memo: dict[int, Any] = {}
            for name in ("_parameters", "_buffers", "_modules"):
                self.__dict__[name] = copy.deepcopy(self.__dict__[name], memo)
            self._shares = False
        return super()._apply(fn, recurse)

    @property
    def dtype(self) -> torch.dtype:
        return self.feature_mean.dtype

    @property
    def least_length(self) -> int:
        """Cells that a lattice needs along either side: 12, or fewer if the training lattice had.

        The shorter side of that lattice counts, ``model.lattice``. 1 before any training.
        """
        trained = bool(self.feature_mean.any())
        return min(LEAST_LENGTH, *self.model.lattice.shape) if trained else 1

    def on(self, lattice: Lattice) -> Self:
        """The same (a :meth:`view`) for a lattice of another shape.

        ValueError for other vectors or another basis than those of ``model.lattice``, and for a
        side below :attr:`least_length`.
        """
        return self.placed(self._long_enough(lattice, "lattice"))

    def _long_enough(self, lattice: Lattice, argument: str) -> Lattice:
        if min(lattice.shape) < self.least_length:
            raise ValueError(
                f"{argument}: both sides of the lattice must be at least {self.least_length} "
                f"cells, got {lattice.shape}"
            )
        return lattice

    @abstractmethod
    def placed(self, lattice: Lattice) -> Self:
        """As of :meth:`on`, on short lattices too."""

    @abstractmethod
    def lattice_of(self, n_sites: int) -> Lattice:
        """The lattice that N spins live on; ValueError if N is not the size of one."""

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returned for the key, as long as the ``model`` is the same."""
        model, made = self._kept.get(key, (None, None))
        if model is not self.model:
            made = make()
            self._kept[key] = self.model, made
        return made

    def on_lattice_of(self, model: SDModel, argument: str = "data") -> Self:
        """The same on the lattice of snapshots of ``model``; ValueError if they are of another.

        Their labels judge it, so that the lattice may be short.
        """
        if replace(self.model, lattice=model.lattice) != model:
            raise ValueError(
                f"{argument}: must be snapshots of the model {self.model}, got {model}"
            )
        return self.placed(model.lattice)

    @abstractmethod
    def features(self, spins: Tensor) -> Tensor:
        """Descriptors (..., N, F) of unit spins, not standardized."""

    @abstractmethod
    def electron_energy(self, features: Tensor, square: Tensor, mu: Tensor | None = None) -> Tensor:
        """Total energy (...) without the model's terms of the spins alone.

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
        """Total energy (...) in the network's dtype; spins of any length and dtype, no guard.

        ``mu`` (..., 1) or (..., N) fixes the chemical potential of a grand-canonical force field;
        by default it follows from the number of electrons, and second derivatives are not defined.
        """
        if mu is not None and not self.grand_canonical:
            raise ValueError("mu: must be None, the force field is not grand-canonical")
        s = spins.to(self.dtype)
        described = self.described(s)
        energy = self.electron_energy(*described, mu if mu is None else mu.to(s))
        return energy + self.spin_energy(s)

    def spin_energy(self, spins: Tensor) -> Tensor:
        """Energy (...) of the model's terms without electrons, on the lattice of the spins."""
        n = spins.shape[-2]
        model = self.kept(n, lambda: replace(self.model, lattice=self.lattice_of(n)))
        return spin_energy(model, spins)

    def described(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., N, F) of the directions of spins of any length, and |S|^2 (..., N)."""
        square = (spins * spins).sum(-1)
        return self.features(spins * square.rsqrt().unsqueeze(-1)), square

    def field(self, spins: Tensor, mu: Tensor | None = None) -> Tensor:
        """-dE/dS (..., N, 3) of a tensor, in its dtype, no guard: for inner loops."""
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
        return self._checked(lambda s: self.feature_distance(self.described(s)[0]), spins)

    def readings(self, spins: Any, *names: str) -> dict[str, Any]:
        """By name, of ``energy``, ``extrapolation`` and a committee's ``spread``.

        They are what the methods of these names return, from one evaluation of the descriptor.
        """
        s = as_tensor(spins)
        with torch.no_grad():
            own = s.detach().to(self.feature_mean)
            described = self.described(own)
            return {name: like(self._read(name, own, *described).to(s), spins) for name in names}

    def _read(self, name: str, spins: Tensor, features: Tensor, square: Tensor) -> Tensor:
        if name == "energy":
            return self.electron_energy(features, square) + self.spin_energy(spins)
        return self.feature_distance(features)

    def _checked(self, body: Callable[[Tensor], Tensor], spins: Any) -> Any:
        """What ``body`` makes of the spins, checked once, in their kind and dtype."""
        s = as_tensor(spins)
        with torch.no_grad():
            return like(body(s.detach().to(self.feature_mean)).to(s), spins)
