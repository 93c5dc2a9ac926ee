"""From the spins around a site to numbers that no symmetry of the lattice model can change.

Around a center i the environment holds the bond variables S_i.S_j and S_j.S_k and the scalar
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

from dataclasses import dataclass
from itertools import chain, pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from sdml.descriptor.environment import (
    BondDescriptor,
    BondEnvironment,
    cross,
    pair_products,
    pair_rows,
)
from sdml.descriptor.orbits import (
    Feature,
    FloatArray,
    IntArray,
    Orbit,
    environment_images,
    find_orbits,
    orbit_coefficients,
    packed,
    reference_irreps,
    wedges,
)
from sdml.symmetry import PointGroup

PHASE_SOFTENING = 0.05
"""delta: about a tenth of the mean square of a coefficient in a random state."""


@dataclass(frozen=True)
class SymmetryEnvironment(BondEnvironment):
    """Tables of the paper's descriptor for one kind of lattice and two radii.

    Parameters
    ----------
    kind : {'square', 'triangular'}
    bond_radius : float
        Reach of the center bonds S_i.S_j and of the reference sums.
    pair_radius : float
        Reach of the pair bonds S_j.S_k and chiralities, at most ``bond_radius``.
    """

    def descriptor(self) -> "SymmetryDescriptor":
        return SymmetryDescriptor(self)

    @property
    def group(self) -> PointGroup:
        return self.lattice.point_group

    def orbits(self) -> list[Orbit]:
        """Center bonds, pair bonds and chiralities, in the order of the variables."""
        images = environment_images(self.group, self.sites()[1])
        center = np.stack([np.full(len(self.sites()[1]), -1), np.arange(len(self.sites()[1]))], 1)
        inner = images[:, : self.n_pair_sites]
        return (
            find_orbits(images, "bond", center)
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

    def product_rows(self) -> tuple[IntArray, IntArray]:
        """Row among all products of every variable, and the sign with which it is stored there."""
        n_sites, n_pairs = len(self.sites()[0]), self.n_pair_sites**2 // 2
        rows, signs = pair_rows(self.pairs, self.n_pair_sites)
        bonds = np.arange(n_sites)
        number = np.concatenate([bonds, n_sites + rows, n_sites + n_pairs + rows])
        return number, np.concatenate([np.ones_like(bonds), np.ones_like(signs), signs])

    def reference_names(self, dimension: int) -> list[tuple[str, str]]:
        """(variable, irrep) of the references of one dimension, in their order."""
        irreps = [k for k, d in self.group.irreps.items() if d.shape[-1] == dimension]
        return [(variable, irrep) for variable in ("bond", "chirality") for irrep in irreps]

    def reference_basis(self, dimension: int) -> FloatArray:
        """(d, n_reference, 2 order): maps wedge bonds and chiralities to reference irreps."""
        blocks = []
        for variable, irrep in self.reference_names(dimension):
            half = reference_irreps(self.group, variable)[irrep]
            empty = np.zeros_like(half)
            blocks.append(np.concatenate([half, empty] if variable == "bond" else [empty, half], 1))
        return np.stack(blocks, axis=1)


class SymmetryDescriptor(BondDescriptor):
    """The paper's descriptor as a differentiable map (..., N, 3) spins -> (..., N, F) features.

    Call it with the spins and the ``neighbor_table`` of their lattice. ``features`` labels the
    columns: values of bond A1, then amplitudes and phases of the one-dimensional irreps, then of
    the two-dimensional ones, each in the order of the orbits.
    """

    wedges: Tensor
    basis: Tensor

    def __init__(self, environment: SymmetryEnvironment) -> None:
        corners, vectors = environment.sites()
        super().__init__(environment, corners)
        self.n_pair_sites = environment.n_pair_sites
        self._table("wedges", wedges(environment.group, vectors))
        values, *others = self._add_transform(environment)
        for dimension, copies in enumerate(others, start=1):
            # Bases of the reference irreps, and 0/1 matrices that give each copy its reference.
            names = environment.reference_names(dimension)
            choice = [[name == (x.variable, x.irrep) for name in names] for x in copies]
            self._table(f"reference_basis_{dimension}", environment.reference_basis(dimension))
            self._table(f"reference_{dimension}", np.array(choice, dtype=np.float64))
        sections = [(values, "value"), *product(others, ("amplitude", "phase"))]
        self.features = tuple(x._replace(invariant=name) for part, name in sections for x in part)

    def _add_transform(self, environment: SymmetryEnvironment) -> list[list[Feature]]:
        """Tables from variables to coefficients sorted by section, and the labels of sections.

        All orbits lie side by side in blocks of the group's order, (n_blocks, order, order): one
        batched product for all, zero where a block is not full.
        """
        order, orbits = environment.group.order, environment.orbits()
        rows, signs = environment.product_rows()
        n_products = len(self.cells) + 2 * (self.n_pair_sites**2 // 2)
        offsets = packed([len(orbit.members) for orbit in orbits], order)
        n_blocks = max(offsets.max() // order + 1, -(-n_products // order))
        basis, variables = np.zeros((n_blocks, order, order)), np.full(n_blocks * order, -1)
        labels: list[Feature] = []
        places: list[int] = []
        section: list[int] = []
        for number, (orbit, offset) in enumerate(zip(orbits, offsets, strict=True)):
            part = orbit_coefficients(environment.group, orbit, number)
            columns = environment.variable_number(orbit)
            place = offset + np.arange(len(columns))
            # Products are stored round the environment: a chirality may have its pair reversed.
            coefficients = part.basis * signs[columns]
            basis[offset // order, place[:, None] % order, place % order] = coefficients
            variables[place] = rows[columns]
            places += place.tolist()
            labels += part.labels
            section += map(_section, part.labels, part.partners)
        by_section = np.argsort(section, kind="stable")
        n_values, n_one, n_two, _ = np.bincount(section, minlength=4).tolist()
        unused = np.full(len(variables) - len(section), -1)
        self.n_padding = len(variables) - n_products
        self.sections = [n_values, n_one, 2 * n_two, len(unused)]
        self._table("basis", basis)
        self._permutation("variable", variables)
        self._permutation("coefficient", np.concatenate([np.array(places)[by_section], unused]))
        ends = np.cumsum([n_values, n_one, n_two])
        ordered = [labels[k] for k in by_section]
        return [ordered[first:end] for first, end in pairwise([0, *ends])]

    def rows(self, around: Tensor) -> Tensor:
        variables, wedge_variables = self._variables(around)
        values, one, two, _ = self._coefficients(variables).split(self.sections)
        # f (d, n, M): one partner of the first irreps, two of the others
        one, two = one.unflatten(0, (1, -1)), two.unflatten(0, (2, -1))
        invariants = (self._invariants(f, wedge_variables, d) for d, f in ((1, one), (2, two)))
        return torch.cat([values, *chain(*invariants)])

    def _variables(self, around: Tensor) -> tuple[Tensor, Tensor]:
        """All products of pairs, padded to full blocks, and the wedge variables, rows (., M)."""
        center, sites = around.split([1, around.shape[1] - 1], 1)
        inner = sites[:, : self.n_pair_sites]
        bonds = (sites * center).sum(0)
        # S_i . (S_j x S_k) = S_j . (S_k x S_i): both kinds of pair variables are one product.
        pairs = [pair_products(inner, partner) for partner in (inner, cross(inner, center))]
        padding = bonds.new_zeros(self.n_padding, bonds.shape[-1])
        sums = self.wedges.to(sites) @ sites  # (3, order, M)
        following = sums.roll(-2, 1)  # one rotation C_n further
        wedge = [(sums * following).sum(0), (sums * cross(following, center)).sum(0)]
        return torch.cat([bonds, *pairs, padding]), torch.cat(wedge)

    def _coefficients(self, variables: Tensor) -> Tensor:
        """Orbit by orbit, then sorted: bond A1, dimension 1, first and second partners of 2."""
        ordered = self._permuted("variable", variables)
        blocks = self.basis.to(variables) @ ordered.unflatten(0, self.basis.shape[:2])
        return self._permuted("coefficient", blocks.flatten(0, 1))

    def _invariants(self, f: Tensor, wedge_variables: Tensor, dimension: int) -> Any:
        """Amplitudes and phases (n, M) of the coefficients (d, n, M)."""
        basis, choice = (getattr(self, f"reference{x}_{dimension}").to(f) for x in ("_basis", ""))
        reference = basis @ wedge_variables  # (d, n_reference, M)
        softened = torch.rsqrt((reference * reference).sum(0) + PHASE_SOFTENING)
        return _Invariants.apply(f, reference * softened, choice)


class _Invariants(Function):
    """|f|^2 and f.r / sqrt(|f|^2 + delta); r is the reference chosen by a 0/1 matrix.

    The formula of the derivative saves half of the passes that autograd would make; it is
    differentiable itself.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, references: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(f, references, choice)
        power, overlap = (f * f).sum(0), (f * (choice @ references)).sum(0)
        return power, overlap * torch.rsqrt(power + PHASE_SOFTENING)

    @staticmethod
    def backward(ctx: Any, on_power: Tensor, on_phase: Tensor) -> Any:
        f, references, choice = ctx.saved_tensors
        reference = choice @ references  # (d, n, M)
        softened = torch.rsqrt((f * f).sum(0) + PHASE_SOFTENING)
        on_overlap = on_phase.contiguous() * softened
        slope = (f * reference).sum(0) * on_overlap * softened**2
        on_f = (2 * on_power.contiguous() - slope) * f + on_overlap * reference
        return on_f, choice.T @ (on_overlap * f), None


def _section(label: Feature, partner: int) -> int:
    """0: bond A1, 1: other irreps of dimension 1, 2 and 3: the partners of dimension 2."""
    if label.irrep.startswith("E"):
        return 2 + partner
    return 0 if (label.variable, label.irrep) == ("bond", "A1") else 1
