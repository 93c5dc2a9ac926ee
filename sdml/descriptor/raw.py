"""Raw products of spins in a fixed order: the descriptor of the published code's kind.

The features are the products S_i.S_j of the center with its environment, S_j.S_k of all pairs near
it, and one scalar chirality S_i.(S_j x S_k) for every site j of the environment, k the next site
counter-clockwise at the same distance. Rotations of all spins leave them unchanged. Nothing else
is built in: an operation of the lattice permutes the columns, so that a network has to learn the
symmetry of the energy, and time reversal changes the sign of the chiralities.

It is a baseline for :mod:`sdml.descriptor`, written for this project. The published code
(zhangpuhan/ML_double_exchange, square lattice) has 88 center bonds within sqrt(26), 378 pair bonds
within 3 and 88 chiralities; radii sqrt(26) and 3 give these numbers here.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdml.descriptor.environment import (
    BondDescriptor,
    BondEnvironment,
    IntArray,
    cross,
    pair_products,
    pair_rows,
)


class RawFeature(NamedTuple):
    """One product: its variable, and the environment sites in it; -1 is the center."""

    variable: str
    first: int
    second: int


@dataclass(frozen=True)
class RawBondEnvironment(BondEnvironment):
    """Which products are taken on one kind of lattice.

    Parameters
    ----------
    kind : {'square', 'triangular'}
    bond_radius : float
        Reach of the center bonds S_i.S_j and of the chiralities.
    pair_radius : float
        Reach of the pair bonds S_j.S_k, at most ``bond_radius``.
    """

    assumes: ClassVar[frozenset[str]] = frozenset(("spin rotations",))

    def descriptor(self) -> "RawBondDescriptor":
        return RawBondDescriptor(self)

    def following(self) -> IntArray:
        """(K,) the next site counter-clockwise at the same distance."""
        distance = np.round(np.linalg.norm(self.sites()[1], axis=-1), 6)
        _, first, shell, count = np.unique(
            distance, return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.arange(len(distance)) - first[shell]
        return first[shell] + (rank + 1) % count[shell]


class RawBondDescriptor(BondDescriptor):
    """Raw products as a differentiable map (..., N, 3) spins -> (..., N, F) features.

    Columns: center bonds by distance, pair bonds j < k, chiralities; see ``features``.
    Not invariant under operations of the lattice, chiralities odd under time reversal.
    """

    def __init__(self, environment: RawBondEnvironment) -> None:
        super().__init__(environment, environment.sites()[0])
        self.n_pair_sites, pairs = environment.n_pair_sites, environment.pairs
        following = environment.following()
        self._permutation("following", following)
        rows, _ = pair_rows(pairs, self.n_pair_sites)
        unused = np.full(self.n_pair_sites**2 // 2 - len(rows), -1)
        self._permutation("pair", np.concatenate([rows, unused]))
        self.n_pairs = len(pairs)
        self.features = (
            *(RawFeature("bond", -1, j) for j in range(len(following))),
            *(RawFeature("bond", j, k) for j, k in pairs.tolist()),
            *(RawFeature("chirality", j, k) for j, k in enumerate(following.tolist())),
        )

    def rows(self, around: Tensor) -> Tensor:
        center, sites = around.split([1, around.shape[1] - 1], 1)
        inner = sites[:, : self.n_pair_sites]
        products = self._permuted("pair", pair_products(inner, inner))
        following = self._permuted("following", sites)
        chiralities = (cross(sites, following) * center).sum(0)
        return torch.cat([(sites * center).sum(0), products[: self.n_pairs], chiralities])
