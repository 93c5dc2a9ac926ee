"""From the spins around a site to numbers that no symmetry of the lattice model can change.

Around a centre i the environment holds the bond variables S_i.S_j and S_j.S_k and the scalar
chiralities S_i.(S_j x S_k). The point group permutes them (a chirality changes sign when its pair
is reversed); orbit by orbit they are decomposed into irreps with coefficients f. The features are

* f itself for the bond coefficients of the trivial irrep A1,
* the power spectrum |f|^2 of every other coefficient,
* its phase f.f_ref / sqrt((|f|^2 + delta)(|f_ref|^2 + delta)) to the reference irrep f_ref, built
  the same way from sums of spins over the wedges between mirror lines.

Chiralities are odd under time reversal and meet only chiralities, so every feature is even.
delta > 0 keeps all gradients finite where an amplitude vanishes, as it does in ordered states.
Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi 10.1103/PhysRevLett.98.146401; for
spins, Zhang, Zhang and Chern, arXiv:2201.00798.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdml import lattice as lattices
from sdml.lattice import Lattice
from sdml.symmetry import PointGroup, irrep_basis

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PHASE_SOFTENING = 0.05
"""delta: about a tenth of the mean square of a coefficient in a random state."""


@dataclass(frozen=True)
class Orbit:
    """Variables that the point group permutes among themselves.

    Attributes
    ----------
    variable : {'bond', 'chirality'}
    members : (n, 2) int
        Pairs of environment sites; -1 stands for the centre.
    images : (order, n) int
        images[g, m] = the member that g carries member m to.
    signs : (order, n)
        -1 where a chirality arrives with its pair reversed.
    """

    variable: str
    members: IntArray
    images: IntArray
    signs: FloatArray

    @property
    def representation(self) -> FloatArray:
        """(order, n, n) signed permutation matrices."""
        order, n = self.images.shape
        matrices = np.zeros((order, n, n))
        g, m = np.indices((order, n))
        matrices[g, self.images, m] = self.signs
        return matrices


class Feature(NamedTuple):
    """One number of the descriptor: which variables, which irrep and copy, which invariant."""

    variable: str
    orbit: int
    members: int
    irrep: str
    copy: int
    invariant: str


@dataclass(frozen=True)
class Coefficients:
    """Irrep coefficients of one dimension d, stacked over all orbits.

    ``basis`` (n_copies, d, n_variables) maps bond and chirality variables to coefficients,
    ``reference`` (n_copies,) numbers the reference irrep of each copy among those of dimension d.
    """

    basis: FloatArray
    reference: IntArray
    labels: tuple[Feature, ...]


def environment_images(group: PointGroup, vectors: FloatArray) -> IntArray:
    """images[g, j] = the environment site to which g carries site j, (order, K)."""
    moved = np.einsum("gab,jb->gja", group.matrices, vectors)
    distance = np.linalg.norm(moved[:, :, None] - vectors[None, None], axis=-1)
    if distance.min(axis=-1).max() > 1e-6:
        raise ValueError(f"vectors: the environment is not invariant under {group.name}")
    return distance.argmin(axis=-1)


def find_orbits(images: IntArray, variable: str, pairs: IntArray) -> list[Orbit]:
    """Split (P, 2) pairs, closed under the group, into orbits in order of first appearance."""
    order = len(images)
    extended = np.column_stack([images, np.full(order, -1)])  # index -1, the centre, stays
    moved = extended[:, pairs]
    reversed_pair = moved[..., 0] > moved[..., 1]
    reversed_pair &= moved[..., 1] >= 0
    moved = np.where(reversed_pair[..., None], moved[..., ::-1], moved)
    number = {tuple(pair): k for k, pair in enumerate(pairs)}
    target = np.array([[number[tuple(pair)] for pair in row] for row in moved])
    sign = np.where(reversed_pair & (variable == "chirality"), -1.0, 1.0)
    orbits, seen = [], np.zeros(len(pairs), dtype=bool)
    for first in range(len(pairs)):
        if not seen[first]:
            members = np.unique(target[:, first])
            seen[members] = True
            local = np.searchsorted(members, target[:, members])
            orbits.append(Orbit(variable, pairs[members], local, sign[:, members]))
    return orbits


def wedges(group: PointGroup, vectors: FloatArray) -> FloatArray:
    """Weight (order, K) of every environment site in the wedges between mirror lines.

    Wedge m spans the angles m pi / n ... (m + 1) pi / n from the mirror axis; a site on a mirror
    line counts half in both of its wedges.
    """
    angle = np.arctan2(vectors[:, 1], vectors[:, 0]) - group.mirror_angle
    position = np.round(angle / (np.pi / group.n_fold), 6) % group.order
    lower = np.floor(position).astype(int)
    on_line = position == lower
    weights = np.zeros((group.order, len(vectors)))
    site = np.arange(len(vectors))
    weights[lower, site] = np.where(on_line, 0.5, 1.0)
    weights[(lower[on_line] - 1) % group.order, site[on_line]] = 0.5
    return weights


def wedge_pairs(group: PointGroup) -> IntArray:
    """(order, 2): every wedge with the wedge one rotation C_n further, a regular orbit of pairs."""
    m = np.arange(group.order)
    return np.stack([m, (m + 2) % group.order], axis=-1)


def reference_irreps(group: PointGroup, variable: str) -> dict[str, FloatArray]:
    """Irrep -> (d, order): coefficients of the wedge-pair variables, the first copy of each."""
    centers = (np.arange(group.order) + 0.5) * np.pi / group.n_fold + group.mirror_angle
    directions = np.stack([np.cos(centers), np.sin(centers)], axis=-1)
    images = environment_images(group, directions)
    ordered = np.sort(wedge_pairs(group), axis=-1)
    flipped = np.where(ordered[:, 0] != wedge_pairs(group)[:, 0], -1.0, 1.0)
    (orbit,) = find_orbits(images, variable, ordered)
    # find_orbits sorts pairs; undo the order and the orientation it chose.
    column = np.array([np.flatnonzero((ordered == m).all(1))[0] for m in orbit.members])
    basis = {}
    for irrep, copies in irrep_basis(group, orbit.representation).items():
        rows = np.zeros((copies.shape[1], group.order))
        rows[:, column] = copies[0]
        basis[irrep] = rows * (flipped if variable == "chirality" else 1.0)
    return basis


@dataclass(frozen=True)
class SymmetryEnvironment:
    """Tables of the paper's descriptor for one kind of lattice and two radii.

    Parameters
    ----------
    kind : {'square', 'triangular'}
    bond_radius : float
        Reach of the centre bonds S_i.S_j and of the reference sums.
    pair_radius : float
        Reach of the pair bonds S_j.S_k and chiralities, at most ``bond_radius``.
    """

    kind: str
    bond_radius: float
    pair_radius: float

    def __post_init__(self) -> None:
        if self.kind not in ("square", "triangular"):
            raise ValueError(f"kind: must be 'square' or 'triangular', got {self.kind!r}")
        if not 1 <= self.pair_radius <= self.bond_radius < float("inf"):
            raise ValueError(
                "pair_radius, bond_radius: need 1 <= pair_radius <= bond_radius, "
                f"got {self.pair_radius} and {self.bond_radius}"
            )

    @property
    def lattice(self) -> Lattice:
        """A lattice of this kind, large enough for the environment."""
        return getattr(lattices, self.kind)(2 * int(np.ceil(self.bond_radius)) + 3)

    @property
    def group(self) -> PointGroup:
        return self.lattice.point_group

    def sites(self) -> tuple[IntArray, FloatArray]:
        """Cell displacements (K, 3) and vectors (K, 2), by distance."""
        return self.lattice.displacements(self.bond_radius)

    @property
    def n_pair_sites(self) -> int:
        return len(self.lattice.displacements(self.pair_radius)[0])

    @property
    def pairs(self) -> IntArray:
        """(P, 2) pairs j < k of environment sites within ``pair_radius``."""
        return np.stack(np.triu_indices(self.n_pair_sites, 1), axis=-1)

    def orbits(self) -> list[Orbit]:
        """Centre bonds, pair bonds and chiralities, in the order of the variables."""
        images = environment_images(self.group, self.sites()[1])
        centre = np.stack([np.full(len(self.sites()[1]), -1), np.arange(len(self.sites()[1]))], 1)
        inner = images[:, : self.n_pair_sites]
        return (
            find_orbits(images, "bond", centre)
            + find_orbits(inner, "bond", self.pairs)
            + find_orbits(inner, "chirality", self.pairs)
        )

    def variable_number(self, orbit: Orbit) -> IntArray:
        """Column of every member of an orbit in the vector of all variables."""
        n_sites, pairs = len(self.sites()[0]), self.pairs
        if orbit.members[0, 0] == -1:
            return orbit.members[:, 1]
        shift = n_sites + (len(pairs) if orbit.variable == "chirality" else 0)
        j, k = orbit.members.T
        return shift + j * (2 * self.n_pair_sites - j - 1) // 2 + (k - j - 1)

    def coefficients(self, dimension: int) -> Coefficients:
        """All irrep coefficients of dimension 1 or 2."""
        n_variables = len(self.sites()[0]) + 2 * len(self.pairs)
        names = self.reference_names(dimension)
        rows, reference, labels = [], [], []
        for number, orbit in enumerate(self.orbits()):
            columns = self.variable_number(orbit)
            for irrep, copies in irrep_basis(self.group, orbit.representation).items():
                if copies.shape[1] == dimension:
                    for copy, block in enumerate(copies):
                        row = np.zeros((dimension, n_variables))
                        row[:, columns] = block
                        rows.append(row)
                        reference.append(names.index((orbit.variable, irrep)))
                        label = (orbit.variable, number, len(columns), irrep, copy, "coefficient")
                        labels.append(Feature(*label))
        return Coefficients(np.array(rows), np.array(reference), tuple(labels))

    def reference_names(self, dimension: int) -> list[tuple[str, str]]:
        """(variable, irrep) of the references of one dimension, in their order."""
        irreps = [k for k, d in self.group.irreps.items() if d.shape[-1] == dimension]
        return [(variable, irrep) for variable in ("bond", "chirality") for irrep in irreps]

    def reference_basis(self, dimension: int) -> FloatArray:
        """(n_reference, d, 2 order): maps wedge bonds and chiralities to reference irreps."""
        blocks = []
        for variable, irrep in self.reference_names(dimension):
            half = reference_irreps(self.group, variable)[irrep]
            empty = np.zeros_like(half)
            blocks.append(np.concatenate([half, empty] if variable == "bond" else [empty, half], 1))
        return np.array(blocks)


class SymmetryDescriptor(nn.Module):
    """The paper's descriptor as a differentiable map (..., N, 3) spins -> (..., N, F) features.

    Call it with the spins and the ``neighbor_table`` of their lattice. All tables are float64 and
    are cast to the dtype of the spins.
    """

    wedges: Tensor
    wedge_pairs: Tensor

    def __init__(self, environment: SymmetryEnvironment) -> None:
        super().__init__()
        self.environment = environment
        corners, vectors = environment.sites()
        self.corners, self.n_pair_sites = corners, environment.n_pair_sites
        pairs = environment.pairs
        self._table("pair_number", pairs[:, 0] * self.n_pair_sites + pairs[:, 1])
        self._table("wedges", wedges(environment.group, vectors))
        self._table("wedge_pairs", wedge_pairs(environment.group))
        one, two = environment.coefficients(1), environment.coefficients(2)
        linear = np.array([(c.variable, c.irrep) == ("bond", "A1") for c in one.labels])
        order = np.concatenate([np.flatnonzero(linear), np.flatnonzero(~linear)])
        self.n_linear = int(linear.sum())
        self._table("basis_1", one.basis[order, 0])
        self._table("basis_2", two.basis.reshape(-1, two.basis.shape[-1]))
        self._table("reference_1", one.reference[order])
        self._table("reference_2", two.reference)
        self._table("reference_basis_1", environment.reference_basis(1)[:, 0])
        self._table(
            "reference_basis_2",
            environment.reference_basis(2).reshape(
                len(two.basis[0]) * len(environment.reference_names(2)), -1
            ),
        )
        self.features = _feature_list([one.labels[k] for k in order], two.labels, self.n_linear)

    def _table(self, name: str, values: NDArray) -> None:
        # Not persistent: the tables follow from the environment and are rebuilt on loading.
        self.register_buffer(name, torch.as_tensor(values), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SymmetryDescriptor:
        # Tables follow the module to another device, but never lose digits: .float().double() must
        # leave the symmetry exact.
        tables = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, moved in self._buffers.items():
            table = tables[name]
            if moved is not None and table is not None:
                self._buffers[name] = table.to(moved.device)
        return self

    @property
    def n_features(self) -> int:
        return len(self.features)

    def neighbor_table(self, lattice: Lattice) -> Tensor:
        """(N, K) environment sites of every site of a lattice of this kind."""
        if lattice.name != self.environment.kind or lattice.n_basis != 1:
            raise ValueError(f"lattice: must be {self.environment.kind!r}, got {lattice.name!r}")
        cells = lattice.cells[:, None] + self.corners[:, :2]
        return torch.as_tensor(lattice.site_index(cells, 0), device=self.wedges.device)

    def forward(self, spins: Tensor, table: Tensor) -> Tensor:
        variables, wedge_variables = self.variables(spins, table)
        features = []
        for dimension in (1, 2):
            f, reference = self._irreps(variables, wedge_variables, dimension)
            features.extend(self._invariants(f, reference, dimension))
        return torch.cat(features, dim=-1)

    def variables(self, spins: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Bonds and chiralities of the sites (..., N, V) and of the wedges (..., N, 2 order)."""
        centre = spins.unsqueeze(-2)  # (..., N, 1, 3)
        around = spins[..., table, :]  # (..., N, K, 3)
        bonds = (around * centre).sum(-1)  # (..., N, K)
        inner = around[..., : self.n_pair_sites, :]
        # S_i . (S_j x S_k) = S_j . (S_k x S_i): both kinds of pair variables are one product.
        partner = torch.cat([inner, torch.linalg.cross(inner, centre)], dim=-2)
        products = inner @ partner.transpose(-1, -2)  # (..., N, P, 2 P)
        pair_bonds, chiralities = products.split(self.n_pair_sites, dim=-1)
        pairs = [x.flatten(-2)[..., self.pair_number] for x in (pair_bonds, chiralities)]
        sums = self.wedges.to(spins) @ around  # (..., N, order, 3)
        first, second = (sums[..., column, :] for column in self.wedge_pairs.T)
        wedge = [(first * second).sum(-1), (first * torch.linalg.cross(second, centre)).sum(-1)]
        return torch.cat([bonds, *pairs], -1), torch.cat(wedge, -1)

    def _irreps(self, variables: Tensor, wedges: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """Coefficients (..., n_copies, d) and, for each, its reference."""
        f = variables @ getattr(self, f"basis_{d}").to(variables).T
        reference = wedges @ getattr(self, f"reference_basis_{d}").to(wedges).T
        number = getattr(self, f"reference_{d}")
        return f.unflatten(-1, (-1, d)), reference.unflatten(-1, (-1, d))[..., number, :]

    def _invariants(self, f: Tensor, reference: Tensor, dimension: int) -> list[Tensor]:
        linear = self.n_linear if dimension == 1 else 0
        features = [f[..., :linear, 0]] if linear else []
        f, reference = f[..., linear:, :], reference[..., linear:, :]
        power, norm = (f * f).sum(-1), (reference * reference).sum(-1)
        scale = torch.rsqrt((power + PHASE_SOFTENING) * (norm + PHASE_SOFTENING))
        return [*features, power, (f * reference).sum(-1) * scale]


def _feature_list(
    one: list[Feature], two: tuple[Feature, ...], n_linear: int
) -> tuple[Feature, ...]:
    """Labels in the order of the columns of :class:`SymmetryDescriptor`."""
    columns = [label._replace(invariant="value") for label in one[:n_linear]]
    for labels in (one[n_linear:], two):
        for invariant in ("amplitude", "phase"):
            columns += [label._replace(invariant=invariant) for label in labels]
    return tuple(columns)
