"""The far-sighted descriptor: what an environment does to the density of states at its center.

The electrons decide the energy, and they see the spins through closed walks. The moments of the
local density of states (:mod:`sdml.descriptor.walks`) sum all walks of a length, at a cost that
grows with the number of sites, where the list of explicit pairs grows with its square. They are
invariant under the point group, translations and spin rotations by construction; under time
reversal mu_n is even and the vector moment m_n odd. The features of a site are, for every order n >
2,

* charge: mu_n,
* spin: S_i . m_n, with mu_n the densities of states parallel and antiparallel to the spin,
* tilt: the transverse vectors m_n - (S_i . m_n) S_i with each other, m_n by m_n+k for k = 0 ... 4:
  how far and in which order the electron spins turn away from it.

(Orders 1 and 2 are the same for all states. On a bipartite lattice time reversal of the electrons
and a sign on one sublattice turn H into -H, so that mu_n vanishes for odd n and m_n for even n;
there only the others are taken.) A network closes the series: it gives the energy that
the kernel polynomial method would get from hundreds of moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdml import lattice as lattices
from sdml.descriptor.environment import IntArray, SiteDescriptor, require_kind
from sdml.descriptor.walks import Walks, local_moments

FIRST_ORDER = 3
TILT_SPAN = 4
"""Largest difference of the orders in a tilt."""
TILT_SCALE = 3.0
"""Transverse vectors are smaller than the other moments."""


class MomentFeature(NamedTuple):
    """One number of the descriptor: which invariant, of the moments of which two orders."""

    invariant: str
    order: int
    other: int


@dataclass(frozen=True)
class MomentEnvironment:
    """Tables of the far-sighted descriptor for one kind of lattice and one Hamiltonian.

    Parameters
    ----------
    kind : {'square', 'triangular'}
    radius : int
        Reach in bonds.
    n_steps : int
        Steps of a walk, at least ``radius``, and one more to see the spins at that distance; there
        are 2 n_steps moments.
    exchange_coupling : float
        J in units of the nearest-neighbor hopping.
    """

    assumes: ClassVar[frozenset[str]] = frozenset(("spin rotations",))

    kind: str
    radius: int
    n_steps: int
    exchange_coupling: float

    def __post_init__(self) -> None:
        require_kind(self.kind)
        for name in ("radius", "n_steps"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer):
                raise ValueError(f"{name}: must be a whole number, got {value!r}")
            # Numpy scalars would not go into the JSON headers of files.
            object.__setattr__(self, name, int(value))
        if not 1 <= self.radius <= self.n_steps or self.n_steps < 2:
            raise ValueError(
                "radius, n_steps: need 1 <= radius <= n_steps and n_steps >= 2, "
                f"got {self.radius} and {self.n_steps}"
            )
        if not np.isfinite(self.exchange_coupling):
            raise ValueError(f"exchange_coupling: must be finite, got {self.exchange_coupling}")
        object.__setattr__(self, "exchange_coupling", float(self.exchange_coupling))

    def descriptor(self) -> "MomentDescriptor":
        return MomentDescriptor(self)

    @property
    def bonds(self) -> IntArray:
        """(z, 2) cells of the nearest neighbors."""
        return getattr(lattices, self.kind)(3).displacements(1.0)[0][:, :2]

    @cached_property
    def shells(self) -> list[IntArray]:
        """Cells (n, 2) that 0, 1, ... radius steps reach first."""
        shells = [np.zeros((1, 2), dtype=np.int64)]
        seen = {(0, 0)}
        for _ in range(self.radius):
            reached = (shells[-1][:, None] + self.bonds).reshape(-1, 2).tolist()
            new = list(dict.fromkeys((x, y) for x, y in reached if (x, y) not in seen))
            seen.update(new)
            shells.append(np.array(new))
        return shells

    def cells(self) -> IntArray:
        """(K, 2) cells of the cluster relative to its center, by number of steps."""
        return np.concatenate(self.shells)

    def walks(self) -> Walks:
        """The Hamiltonian on the cluster, scaled by the exact bounds of its spectrum."""
        cells = self.cells()
        number = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
        joined = (cells[:, None] + self.bonds).tolist()
        neighbors = np.array([[number.get(tuple(c), len(cells)) for c in row] for row in joined])
        sizes = np.cumsum([len(shell) for shell in self.shells])
        counts = sizes[np.minimum(np.arange(self.n_steps + 1), self.radius)]
        center, half_width = self._band()
        amplitudes = np.full(neighbors.shape, -1 / half_width)
        opposite = np.array([number[x, y] for x, y in (-cells).tolist()])
        scaled = -center / half_width, -self.exchange_coupling / half_width
        sublattice = np.repeat(np.arange(len(self.shells)) % 2, [len(s) for s in self.shells])
        sublattice *= self.kind == "square"
        return Walks(counts, neighbors, amplitudes, opposite, sublattice, *scaled)

    def _band(self) -> tuple[float, float]:
        """Center and half width of the interval that -sum cos(k.r) and the exchange span."""
        # The extrema lie at momenta m / 6 of the reciprocal vectors (Gamma, M, K).
        momenta = np.stack(np.meshgrid(*2 * [np.arange(6) / 6]), axis=-1).reshape(-1, 2)
        band = -np.cos(2 * np.pi * momenta @ self.bonds.T).sum(axis=1)
        half_width = (band.max() - band.min()) / 2 + abs(self.exchange_coupling)
        return float((band.max() + band.min()) / 2), float(half_width)


class MomentDescriptor(SiteDescriptor):
    """The far-sighted descriptor as a differentiable map (..., N, 3) spins -> (..., N, F) features.

    Call it with the spins and the ``neighbor_table`` of their lattice.
    """

    def __init__(self, environment: MomentEnvironment) -> None:
        super().__init__(environment, environment.cells())  # the site itself first
        self.walks = environment.walks()
        orders = range(FIRST_ORDER, 2 * environment.n_steps + 1)
        step = 2 if environment.kind == "square" else 1  # a bipartite lattice
        self.charge_orders, self.spin_orders = orders[step - 1 :: step], orders[::step]
        self.spans = range(min(TILT_SPAN // step + 1, len(self.spin_orders)))
        charges = [MomentFeature("charge", n, n) for n in self.charge_orders]
        along = [MomentFeature("spin", n, n) for n in self.spin_orders]
        tilts = [
            MomentFeature("tilt", n, n + step * k)
            for k in self.spans
            for n in self.spin_orders[: len(self.spin_orders) - k]
        ]
        self.features = (*charges, *along, *tilts)

    def forward(self, spins: Tensor, table: Tensor) -> Tensor:
        moments = local_moments(spins, table, self.walks)
        # Components first: all that follows runs along contiguous memory, (..., N, n) each.
        charge, *vector = moments.movedim(-1, 0).contiguous().unbind(0)
        charge = charge[..., _places(self.charge_orders)]
        vector = [m[..., _places(self.spin_orders)] for m in vector]
        axis = [x.unsqueeze(-1) for x in spins.unbind(-1)]
        spin = _dot(vector, axis)
        across = [TILT_SCALE * (m - spin * s) for m, s in zip(vector, axis, strict=True)]
        n = spin.shape[-1]
        tilts = [
            _dot([m[..., : n - k] for m in across], [m[..., k:] for m in across])
            for k in self.spans
        ]
        return torch.cat([charge, spin, *tilts], dim=-1)


def _places(orders: range) -> slice:
    """Where moments of these orders are among those of orders 1, 2, ..."""
    return slice(orders.start - 1, orders.stop - 1, orders.step)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Sum of the products of three components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
