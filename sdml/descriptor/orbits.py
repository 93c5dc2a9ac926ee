"""Orbits of bonds and chiralities around a site, their irreps, and reference irreps.

The point group of a site permutes the pairs of its environment; a chirality changes sign when it
arrives with its pair reversed. Orbit by orbit this representation is split into irreps. References
are built the same way from sums of spins over the wedges between mirror lines, so that phases
relative to them compare one orbit with another.
Zhang, Zhang and Chern, arXiv:2201.00798.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdml.symmetry import PointGroup, irrep_basis

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Orbit:
    """Variables that the point group permutes among themselves.

    Attributes
    ----------
    variable : {'bond', 'chirality'}
    members : (n, 2) int
        Pairs of environment sites; -1 stands for the center.
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


class Coefficients(NamedTuple):
    """All irrep coefficients of one orbit of n variables.

    ``basis`` (n, n) is orthogonal and maps the variables to the coefficients; ``labels`` and
    ``partners`` (n,) tell the irrep and copy of each, and which of its d components it is.
    """

    basis: FloatArray
    labels: tuple[Feature, ...]
    partners: tuple[int, ...]


def orbit_coefficients(group: PointGroup, orbit: Orbit, number: int) -> Coefficients:
    """Irrep by irrep, copy by copy, partner by partner; ``number`` names the orbit in labels."""
    rows, labels, partners = [], [], []
    for irrep, copies in irrep_basis(group, orbit.representation).items():
        for copy, partner in np.ndindex(copies.shape[:2]):
            rows.append(copies[copy, partner])
            name = (orbit.variable, number, len(orbit.members), irrep, copy, "coefficient")
            labels.append(Feature(*name))
            partners.append(partner)
    return Coefficients(np.array(rows), tuple(labels), tuple(partners))


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
    extended = np.column_stack([images, np.full(order, -1)])  # index -1, the center, stays
    moved = extended[:, pairs]
    reversed_pair = (moved[..., 0] > moved[..., 1]) & (moved[..., 1] >= 0)
    moved = np.where(reversed_pair[..., None], moved[..., ::-1], moved)
    number = {tuple(pair): k for k, pair in enumerate(pairs)}
    target = np.array([[number[tuple(pair)] for pair in row] for row in moved])
    sign = np.where(reversed_pair & (variable == "chirality"), -1.0, 1.0)
    orbits = []
    for first in np.unique(target.min(axis=0)):
        members = np.unique(target[:, first])
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


def reference_irreps(group: PointGroup, variable: str) -> dict[str, FloatArray]:
    """Irrep -> (d, order): coefficients of the wedge-pair variables, the first copy of each."""
    centers = (np.arange(group.order) + 0.5) * np.pi / group.n_fold + group.mirror_angle
    directions = np.stack([np.cos(centers), np.sin(centers)], axis=-1)
    images = environment_images(group, directions)
    wedge = np.arange(group.order)
    # Every wedge with the wedge one rotation C_n further: a regular orbit of pairs.
    pairs = np.stack([wedge, (wedge + 2) % group.order], axis=-1)
    ordered = np.sort(pairs, axis=-1)
    sign = np.where((ordered != pairs).any(-1) & (variable == "chirality"), -1.0, 1.0)
    (orbit,) = find_orbits(images, variable, ordered)
    # find_orbits sorts pairs; undo the order and the orientation it chose.
    member = [np.flatnonzero((orbit.members == pair).all(1))[0] for pair in ordered]
    irreps = irrep_basis(group, orbit.representation)
    return {irrep: copies[0][:, member] * sign for irrep, copies in irreps.items()}


def packed(sizes: Sequence[int], capacity: int) -> IntArray:
    """Offset of every item when items lie in bins of ``capacity`` side by side, (n,).

    First fit, largest first: item k takes places offset[k] ... offset[k] + sizes[k] - 1, and no
    item lies across a multiple of ``capacity``. Orbits divide the order of their group, so that
    bins of that order are filled almost completely.
    """
    if max(sizes) > capacity:
        raise ValueError(f"sizes: must be at most capacity {capacity}, got {max(sizes)}")
    free: list[int] = []
    offsets = np.empty(len(sizes), dtype=np.int64)
    for k in np.argsort(-np.asarray(sizes), kind="stable"):
        fitting = (b for b, room in enumerate(free) if room >= sizes[k])
        chosen = next(fitting, len(free))
        free += [capacity] * (chosen == len(free))
        offsets[k] = (chosen + 1) * capacity - free[chosen]
        free[chosen] -= sizes[k]
    return offsets
