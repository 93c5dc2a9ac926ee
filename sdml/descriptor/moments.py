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

Orders 1 and 2 are the same for all states, and differ only between sites of a cell that no symmetry
maps on each other, as on the Lieb lattice: there the charges begin at order 1. On a bipartite
lattice time reversal of the electrons and a sign on one sublattice turn H into -H, so that mu_n
vanishes for odd n and m_n for even n; there only the others are taken. Magnetic flux, which complex
hopping brings, breaks time reversal, of the features as of the energy.

A network closes the series: it gives the energy that the kernel polynomial method would get from
hundreds of moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdml import lattice as lattices
from sdml.descriptor.environment import IntArray, SiteDescriptor, require_kind
from sdml.descriptor.walks import Walks, local_moments
from sdml.model import SDModel

FIRST_ORDER = 3
TILT_SPAN = 4
"""Largest difference of the orders in a tilt."""
TILT_SCALE = 3.0
"""Transverse vectors are smaller than the other moments."""
N_MOMENTA = 120
"""Along either reciprocal vector, to find the edges of the band: holds Gamma, M, K and X."""

Corner = tuple[int, int, int]
Bond = tuple[int, int, int, int, float, float]


class MomentFeature(NamedTuple):
    """One number of the descriptor: which invariant, of the moments of which two orders."""

    invariant: str
    order: int
    other: int


@dataclass(frozen=True)
class MomentEnvironment:
    """Tables of the far-sighted descriptor for one crystal and one Hamiltonian.

    :meth:`for_model` makes the one of a model on any lattice.

    Parameters
    ----------
    kind : str
        The name of the lattice: 'square' or 'triangular' unless ``hopping`` is given.
    radius : int
        Reach in hops.
    n_steps : int
        Steps of a walk, at least ``radius``, and one more to see the spins at that distance; there
        are 2 n_steps moments.
    exchange_coupling : float
        J.
    hopping : tuple of (b, x, y, c, real, imaginary)
        The elements of H that join site b of a cell (row) to site c of the cell (x, y) away
        (column), both directions of every bond. By default -1 for nearest neighbors.
    """

    assumes: ClassVar[frozenset[str]] = frozenset(("spin rotations",))

    kind: str
    radius: int
    n_steps: int
    exchange_coupling: float
    hopping: tuple[Bond, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.hopping):
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
        bonds = tuple((*map(int, bond[:4]), *map(float, bond[4:])) for bond in self.hopping)
        reverse = {(c, -x, -y, b, re, -im) for b, x, y, c, re, im in bonds}
        if reverse != set(bonds) or not np.isfinite(bonds).all():
            raise ValueError(f"hopping: must be finite and Hermitian, got {self.hopping}")
        object.__setattr__(self, "hopping", bonds)

    @classmethod
    def for_model(cls, model: SDModel, radius: int, n_steps: int) -> "MomentEnvironment":
        """The environment of a model: its lattice, hops and exchange.

        ValueError for a model without hops, or with hops that turn the spin.
        """
        lattice = model.lattice
        if broken := cls.assumes & model.broken_symmetries:
            raise ValueError(
                f"model: moments assume {', '.join(broken)}, which its hops break: {model.hops}"
            )
        kind = next((k for k in ("square", "triangular") if lattice.is_a(k)), lattice.name)
        bonds = _bonds(model)
        if not bonds:
            raise ValueError(f"model: hopping must not be zero for moments, got {model.hopping}")
        if kind in ("square", "triangular") and bonds == _nearest_bonds(kind):
            bonds = ()  # as released weights have it
        return cls(kind, radius, n_steps, model.exchange_coupling, bonds)

    def descriptor(self) -> "MomentDescriptor":
        return MomentDescriptor(self)

    @property
    def n_basis(self) -> int:
        """Sites in a cell."""
        return len(self._joined)

    @cached_property
    def _joined(self) -> list[list[tuple[Corner, complex]]]:
        """Of every site of a cell: the corners it is joined to, and the element of H."""
        bonds = self.hopping or _nearest_bonds(self.kind)
        joined: list[Any] = [[] for _ in range(1 + max(b for b, *_ in bonds))]
        for b, x, y, c, real, imaginary in bonds:
            joined[b].append(((x, y, c), complex(real, imaginary)))
        return joined

    def _around(self, corner: Corner) -> list[Corner]:
        x, y, b = corner
        return [(x + dx, y + dy, c) for (dx, dy, c), _ in self._joined[b]]

    @cached_property
    def hops(self) -> list[dict[Corner, int]]:
        """Of every site of a cell: the corners within the radius, and how many hops lead there."""
        found = []
        for b in range(self.n_basis):
            hops = {(0, 0, b): 0}
            last = list(hops)
            for n in range(1, self.radius + 1):
                reached = (c for corner in last for c in self._around(corner))
                last = [c for c in dict.fromkeys(reached) if c not in hops]
                hops.update(dict.fromkeys(last, n))
            found.append(hops)
        return found

    def cells(self, basis: int = 0) -> IntArray:
        """(K, 3) corners of the cluster around a site of a cell, by number of hops."""
        return np.array(list(self.hops[basis]))

    @cached_property
    def is_bipartite(self) -> bool:
        """Whether every hop of the clusters is real and changes the parity of the hops so far."""
        for hops in self.hops:
            pairs = ((n, hops.get(c)) for corner, n in hops.items() for c in self._around(corner))
            if any(m is not None and (n - m) % 2 == 0 for n, m in pairs):
                return False
        return not self.is_complex

    @property
    def is_complex(self) -> bool:
        """Whether a hop has an imaginary part."""
        return any(h.imag for joined in self._joined for _, h in joined)

    @cached_property
    def has_equal_sites(self) -> bool:
        """Whether the moments of orders 1 and 2 are the same for all sites of a cell."""
        own = [sum(h for c, h in j if c == (0, 0, b)) for b, j in enumerate(self._joined)]
        squares = [sum(abs(h) ** 2 for _, h in joined) for joined in self._joined]
        return np.allclose(own, own[0]) and np.allclose(squares, squares[0])

    def walks(self, basis: int = 0) -> Walks:
        """The Hamiltonian on the cluster of a site, scaled by the bounds of its spectrum."""
        numbers = [{corner: k for k, corner in enumerate(hops)} for hops in self.hops]
        number, reached = numbers[basis], np.array(list(self.hops[basis].values()))
        counts = np.searchsorted(reached, np.arange(self.n_steps + 1), side="right")
        center, half_width = self.band
        width = max(map(len, self._joined))
        width = max(width + width % 2, 4)
        neighbors = np.full((len(number), width), len(number))
        amplitudes = np.zeros(neighbors.shape, dtype=complex)
        for corner, k in number.items():
            around = self._around(corner)
            neighbors[k, : len(around)] = [number.get(c, len(number)) for c in around]
            amplitudes[k, : len(around)] = [h / half_width for _, h in self._joined[corner[2]]]
        opposite = np.array([numbers[c][-x, -y, basis] for x, y, c in number])
        return Walks(
            counts,
            neighbors,
            amplitudes.real.copy(),
            amplitudes.imag[:, : width * self.is_complex].copy(),
            np.array([c for _, _, c in number]),
            self.n_basis,
            opposite,
            reached % 2 * self.is_bipartite,
            -center / half_width,
            -self.exchange_coupling / half_width,
        )

    @cached_property
    def band(self) -> tuple[float, float]:
        """Center and half width of the interval that the hopping and the exchange span."""
        steps = np.arange(N_MOMENTA) / N_MOMENTA
        momenta = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        bloch = np.zeros((len(momenta), self.n_basis, self.n_basis), dtype=complex)
        for b, joined in enumerate(self._joined):
            for (x, y, c), element in joined:
                angle = 2 * np.pi * momenta @ np.array([x, y])
                bloch[:, b, c] += element * (np.cos(angle) + 1j * np.sin(angle))
        band = np.linalg.eigvalsh(bloch)
        half_width = (band.max() - band.min()) / 2 + abs(self.exchange_coupling)
        center = 0.0 if self.is_bipartite else (band.max() + band.min()) / 2
        return float(center), float(half_width)


def _bonds(model: SDModel) -> tuple[Bond, ...]:
    """The hopping of a model as directed bonds of its crystal, the same for both spins."""
    cell = replace(model, lattice=replace(model.lattice, shape=(1, 1)))
    rows, columns, windings, blocks = cell.hopping_links
    return tuple(
        (int(b), int(x), int(y), int(c), float(element.real), float(element.imag))
        for b, (x, y), c, element in zip(rows, windings, columns, blocks[:, 0, 0], strict=True)
        if element
    )


def _nearest_bonds(kind: str) -> tuple[Bond, ...]:
    return _bonds(SDModel(getattr(lattices, kind)(3), 0.0, filling=0.0))


class MomentDescriptor(SiteDescriptor):
    """The far-sighted descriptor as a differentiable map (..., N, 3) spins -> (..., N, F) features.

    Call it with the spins and the ``neighbor_table`` of their lattice.
    """

    def __init__(self, environment: MomentEnvironment) -> None:
        sites = range(environment.n_basis)
        super().__init__(environment, *map(environment.cells, sites))  # the site itself first
        self.walks = tuple(map(environment.walks, sites))
        orders = range(1, 2 * environment.n_steps + 1)
        step = 2 if environment.is_bipartite else 1
        constant = 2 if environment.has_equal_sites else 0
        self.charge_orders = orders[constant + step - 1 :: step]
        self.spin_orders = orders[FIRST_ORDER - 1 :: step]
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
        parts = [local_moments(spins, table, walks) for walks in self.walks]
        moments = parts[0] if len(parts) == 1 else torch.stack(parts, -3).flatten(-4, -3)
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
