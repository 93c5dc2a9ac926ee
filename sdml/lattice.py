"""Periodic lattices: sites, shells, bonds, oriented plaquettes, momenta and site permutations.

Site index i = (y * Lx + x) * n_basis + b, x fastest; b, the sublattice, is the place in the basis.
Lengths are in units of the nearest-neighbour distance for the lattices made here. Bonds are counted
by displacement, so a small lattice keeps its multiplicities (two sites can be joined twice through
the boundary).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdml.spins import real_tensor
from sdml.symmetry import PointGroup

__all__ = [
    "Bond",
    "Lattice",
    "from_cell",
    "honeycomb",
    "kagome",
    "lieb",
    "square",
    "triangular",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Corner = tuple[int, int, int]
Triangle = tuple[Corner, Corner, Corner]

# Corners (x, y, basis) relative to a cell, counter-clockwise.
SQUARE_TRIANGLES: tuple[Triangle, ...] = (
    ((0, 0, 0), (1, 0, 0), (1, 1, 0)),
    ((1, 0, 0), (1, 1, 0), (0, 1, 0)),
    ((1, 1, 0), (0, 1, 0), (0, 0, 0)),
    ((0, 1, 0), (0, 0, 0), (1, 0, 0)),
)
TRIANGULAR_TRIANGLES: tuple[Triangle, ...] = (
    ((0, 0, 0), (1, 0, 0), (0, 1, 0)),
    ((1, 0, 0), (1, 1, 0), (0, 1, 0)),
)
# Of second neighbours, on either sublattice.
HONEYCOMB_TRIANGLES: tuple[Triangle, ...] = tuple(
    tuple((x, y, b) for x, y, _ in triangle)  # type: ignore[misc]
    for b in (0, 1)
    for triangle in TRIANGULAR_TRIANGLES
)
KAGOME_TRIANGLES: tuple[Triangle, ...] = (
    ((0, 0, 0), (0, 0, 1), (0, 0, 2)),
    ((0, 0, 0), (-1, 0, 1), (0, -1, 2)),
)
# A corner of the squares with two edges that meet there.
LIEB_TRIANGLES: tuple[Triangle, ...] = (
    ((0, 0, 0), (0, 0, 1), (0, 0, 2)),
    ((0, 0, 0), (0, 0, 2), (-1, 0, 1)),
    ((0, 0, 0), (-1, 0, 1), (0, -1, 2)),
    ((0, 0, 0), (0, -1, 2), (0, 0, 1)),
)
DISTANCE_DIGITS = 9
SAME_SHELL = 1e-5
"""Of the spacing: distances that differ by less, as typed digits let them, are one shell."""


@dataclass(frozen=True)
class Bond:
    """A directed bond that every cell has: from one site of its basis to a site some cells away.

    :meth:`Lattice.bond` finds it by its Cartesian displacement.

    Parameters
    ----------
    source, target : int
        Sublattices where it begins and ends.
    cell : (int, int)
        Cells along a1 and a2 from the cell of the source to that of the target.
    """

    source: int
    target: int
    cell: tuple[int, int]

    def __post_init__(self) -> None:
        numbers = np.array([self.source, self.target, *np.ravel(self.cell)])
        if numbers.shape != (4,) or numbers.dtype.kind not in "iu":
            raise ValueError(
                "bond: must be two sublattices and two numbers of cells, all integers, got "
                f"{self.source}, {self.target}, {self.cell}"
            )
        source, target, *cell = numbers.tolist()
        if source == target and not any(cell):
            raise ValueError(f"bond: must join two sites, got {self.source}, {target}, {cell}")
        for name, value in (("source", source), ("target", target), ("cell", tuple(cell))):
            object.__setattr__(self, name, value)

    @property
    def reverse(self) -> "Bond":
        """The same bond from its target to its source."""
        x, y = self.cell
        return Bond(self.target, self.source, (-x, -y))


@dataclass(frozen=True)
class Lattice:
    """A periodic two-dimensional lattice of ``shape`` = (Lx, Ly) cells.

    Parameters
    ----------
    name : str
        'square', 'triangular', 'honeycomb', 'kagome', 'lieb' or a name of your own.
    vectors : 2 x 2 tuple
        Rows a1, a2.
    basis : tuple of 2-tuples
        Positions in the cell.
    shape : (int, int)
        Number of cells along a1 and a2.
    triangles : tuple
        Plaquettes as three corners (x, y, basis) relative to a cell, counter-clockwise in the
        plane: ValueError for others.
    """

    name: str
    vectors: tuple[tuple[float, float], tuple[float, float]]
    basis: tuple[tuple[float, float], ...]
    shape: tuple[int, int]
    triangles: tuple[Triangle, ...] = ()

    def __post_init__(self) -> None:
        shape = real_tensor(self.shape, "shape")
        if shape.shape != (2,) or not bool(((shape >= 1) & (shape % 1 == 0)).all()):
            raise ValueError(f"shape: must be two positive integers, got {self.shape}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        rows = real_tensor(self.vectors, "vectors").double().numpy()
        squares = (rows**2).sum(-1)
        if rows.shape != (2, 2) or not np.linalg.det(rows) ** 2 > 1e-24 * squares.prod():
            raise ValueError(f"vectors: must be two independent rows, got {self.vectors}")
        points = real_tensor(self.basis, "basis").double().numpy()
        if points.shape[1:] != (2,):
            raise ValueError(f"basis: must be a list of (x, y) positions, got {self.basis}")
        for name, pairs in (("vectors", rows), ("basis", points)):
            object.__setattr__(self, name, tuple(map(tuple, pairs.tolist())))
        cells = points @ np.linalg.inv(rows)
        difference = cells[:, None] - cells
        distance = np.abs(difference - np.round(difference)).max(axis=-1)
        if (distance < 1e-6).sum() > len(cells):
            raise ValueError(f"basis: two sites of the crystal coincide, got {self.basis}")
        if len(self.triangles):
            self._require_triangles()
        # Lists, as in the header of a store, could be no key of the tables kept by lattice.
        triangles = (tuple(map(tuple, corners)) for corners in np.array(self.triangles).tolist())
        object.__setattr__(self, "triangles", tuple(triangles))

    def _require_triangles(self) -> None:
        """ValueError unless all go around counter-clockwise, with corners of the crystal."""
        corners = np.array(self.triangles)
        whole = corners.shape[1:] == (3, 3) and corners.dtype.kind in "iu"
        if whole and 0 <= corners[..., 2].min() <= corners[..., 2].max() < self.n_basis:
            points = self._points(corners)
            area = np.linalg.det(points[:, 1:] - points[:, :1]) / 2
            if (area > 1e-9 * abs(np.linalg.det(self.vectors))).all():
                return
        raise ValueError(
            "triangles: must be three corners (x, y, basis) of integers each, basis in "
            f"[0, {self.n_basis}), counter-clockwise (signed area > 0), got {self.triangles}"
        )

    @property
    def orientation(self) -> int:
        """1 if a2 lies counter-clockwise from a1, else -1."""
        return 1 if np.linalg.det(self.vectors) > 0 else -1

    @cached_property
    def reduced_vectors(self) -> FloatArray:
        """Shortest primitive vectors as rows, in the sense of a1, a2, not at 120 degrees.

        a1, a2 themselves for the lattices made here. What is told in these does not depend on the
        choice of the primitive cell.
        """
        return reduced_basis(np.array(self.vectors), at_120_degrees=False)

    @cached_property
    def reduced_cells(self) -> IntArray:
        """(N, 2) integer coordinates of the cell of every site, in the reduced vectors."""
        change = np.array(self.vectors) @ np.linalg.inv(self.reduced_vectors)
        return self.cells @ np.round(change).astype(int)

    @cached_property
    def spacing(self) -> float:
        """The lattice constant: length of the shortest lattice vector, 1 for those made here."""
        first, second = np.linalg.norm(self.reduced_vectors, axis=-1)
        return float(first if first < second * (1 + 1e-9) else second)

    @property
    def n_basis(self) -> int:
        return len(self.basis)

    @property
    def n_cells(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def n_sites(self) -> int:
        return self.n_cells * self.n_basis

    @property
    def length(self) -> int:
        """L of an L x L lattice; ValueError if the two lengths differ."""
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"shape: needs equal lengths, got {self.shape}")
        return self.shape[0]

    def same_crystal(self, other: "Lattice") -> bool:
        """Whether vectors and basis are the same, up to the origin, by whatever name and shape."""
        if self.n_basis != other.n_basis:
            return False
        mine, theirs = (
            np.concatenate([x.vectors, np.subtract(x.basis, x.basis[0])]) for x in (self, other)
        )
        return np.allclose(mine, theirs, rtol=0, atol=1e-6 * self.spacing)

    def is_a(self, kind: str) -> bool:
        """Whether it is 'square' or 'triangular', by its vectors; of another kind by its name."""
        made = {"square": square, "triangular": triangular}.get(kind)
        return self.name == kind if made is None else self.same_crystal(made(1))

    def require_of(self, field: Any, argument: str) -> None:
        """ValueError where ``field`` says by its ``lattice_of(N)`` that it is of another lattice.

        Vectors, basis and shape count, the name does not.
        """
        if not hasattr(field, "lattice_of"):
            return
        expected = f"{argument}: must be of the {self.name} lattice of shape {self.shape}"
        try:
            bound = field.lattice_of(self.n_sites)
        except ValueError as error:
            raise ValueError(f"{expected}, use .on(lattice) ({error})") from error
        if bound.shape != self.shape or not bound.same_crystal(self):
            raise ValueError(
                f"{expected}, got the {bound.name} one of {bound.shape} with the vectors "
                f"{bound.vectors}; use .on(lattice)"
            )

    @cached_property
    def cells(self) -> IntArray:
        """(N, 2) integer coordinates (x, y) of the cell of every site."""
        y, x = np.divmod(np.arange(self.n_cells), self.shape[0])
        return np.repeat(np.stack([x, y], axis=-1), self.n_basis, axis=0)

    @cached_property
    def sublattices(self) -> IntArray:
        """(N,) basis index of every site."""
        return np.tile(np.arange(self.n_basis), self.n_cells)

    @cached_property
    def positions(self) -> FloatArray:
        """(N, 2) Cartesian positions, not wrapped."""
        return self.cells @ np.array(self.vectors) + np.array(self.basis)[self.sublattices]

    def site_index(self, cells: NDArray[np.int64], basis: NDArray[np.int64] | int) -> IntArray:
        """Site numbers of integer cells (..., 2), wrapped periodically, and basis indices (...)."""
        x, y = cells[..., 0] % self.shape[0], cells[..., 1] % self.shape[1]
        return (y * self.shape[0] + x) * self.n_basis + basis

    def displacements(self, cutoff_radius: float, basis: int = 0) -> tuple[IntArray, FloatArray]:
        """All sites with 0 < distance <= cutoff_radius from basis site ``basis``.

        Returns
        -------
        corners : (K, 3) int
            Cell displacement and basis index of the target, by distance, then by angle from +x.
        vectors : (K, 2)
            Cartesian displacements.
        """
        spread = np.abs(np.array(self.basis)).sum() * 2
        # |n_k| <= |r| |reciprocal vector k| encloses the disc.
        reciprocal = np.linalg.norm(np.linalg.inv(np.array(self.vectors)), axis=0)
        x, y = np.ceil((cutoff_radius + spread) * reciprocal).astype(int)
        grid = np.mgrid[: self.n_basis, -x : x + 1, -y : y + 1].reshape(3, -1)
        corners = grid[[1, 2, 0]].T
        vectors = self._points(corners) - np.array(self.basis)[basis]
        distance = np.round(np.linalg.norm(vectors, axis=-1) / self.spacing, DISTANCE_DIGITS)
        angle = np.round(np.arctan2(vectors[:, 1], vectors[:, 0]), DISTANCE_DIGITS) % (2 * np.pi)
        inside = np.flatnonzero((distance > 0) & (distance <= cutoff_radius / self.spacing + 1e-8))
        order = inside[np.lexsort((angle[inside], distance[inside]))]
        return corners[order], vectors[order]

    def _points(self, corners: IntArray) -> FloatArray:
        """Cartesian positions (..., 2) of corners (..., 3): x and y of a cell, basis index."""
        return corners[..., :2] @ np.array(self.vectors) + np.array(self.basis)[corners[..., 2]]

    def shell_distances(self, n_shells: int) -> FloatArray:
        """The first distances at which any site has neighbours, ascending."""
        radius = 2.0 * max(np.linalg.norm(self.vectors, axis=-1))
        while True:
            found = [self.displacements(radius, b)[1] for b in range(self.n_basis)]
            distances = np.linalg.norm(np.concatenate(found), axis=-1)
            distances.sort()
            shells = distances[np.diff(distances, prepend=0) > SAME_SHELL * self.spacing]
            if len(shells) >= n_shells:
                return shells[:n_shells]
            radius *= 1.5

    def bond(self, vector: Sequence[float] | FloatArray, source: int = 0) -> Bond:
        """The bond from sublattice ``source`` along a Cartesian displacement.

        ValueError if no site is there.
        """
        step = real_tensor(vector, "vector").double().numpy()
        if step.shape == (2,) and source in range(self.n_basis):
            for target in range(self.n_basis):
                offset = step + np.array(self.basis[source]) - np.array(self.basis[target])
                x, y = np.round(offset @ np.linalg.inv(self.vectors)).astype(int).tolist()
                if np.linalg.norm(offset - np.array([x, y]) @ self.vectors) < 1e-6 * self.spacing:
                    return Bond(source, target, (x, y))
        raise ValueError(
            f"vector, source: no site of the {self.name} lattice is at {vector} from a site of "
            f"sublattice {source}"
        )

    def bond_vector(self, bond: Bond) -> FloatArray:
        """Cartesian displacement (2,) from source to target; ValueError for a foreign bond."""
        self.require_bond(bond)
        return self._points(np.array([*bond.cell, bond.target])) - np.array(self.basis[bond.source])

    def shell_bonds(self, shell: int = 1) -> list[Bond]:
        """All directed bonds of a shell, each with its reverse, by sublattice and then by angle."""
        found = []
        for b in range(self.n_basis):
            corners = self._shell_corners(shell, b).tolist()
            found += [Bond(b, target, (x, y)) for x, y, target in corners]
        return found

    def require_bond(self, bond: Bond) -> None:
        """ValueError unless both ends are sublattices of this lattice."""
        if not 0 <= min(bond.source, bond.target) <= max(bond.source, bond.target) < self.n_basis:
            raise ValueError(
                f"bond: source and target must be sublattices of the {self.name} lattice, in "
                f"[0, {self.n_basis}), got {bond}"
            )

    def directed_bonds(self, shell: int | Bond = 1) -> IntArray:
        """(n, 2) pairs (i, j), one for every displacement of a shell (both directions).

        Of a :class:`Bond`: from source to target, one a cell.
        """
        pairs = []
        for sites, cells, basis in self._shell(shell):
            targets = self.site_index(cells, basis)
            pairs.append(np.stack([np.repeat(sites, len(basis)), targets.ravel()], axis=-1))
        return np.concatenate(pairs)

    def windings(self, shell: int | Bond = 1) -> IntArray:
        """(n, 2) signed crossings of the two boundaries by the :meth:`directed_bonds`."""
        around = [cells // np.array(self.shape) for _, cells, _ in self._shell(shell)]
        return np.concatenate([counts.reshape(-1, 2) for counts in around])

    def _shell(self, shell: int | Bond) -> list[tuple[IntArray, IntArray, IntArray]]:
        """Of every sublattice: sites (n,), and cells (n, K, 2), not wrapped, and basis (K,) there.

        K displacements lead from a site to its neighbours in the shell.
        """
        if isinstance(shell, Bond):
            self.require_bond(shell)
            corners = {shell.source: np.array([[*shell.cell, shell.target]])}
        else:
            corners = {b: self._shell_corners(shell, b) for b in range(self.n_basis)}
        sites = {b: np.flatnonzero(self.sublattices == b) for b in corners}
        return [
            (sites[b], self.cells[sites[b], None] + ends[:, :2], ends[:, 2])
            for b, ends in corners.items()
        ]

    def _shell_corners(self, shell: int, basis: int) -> IntArray:
        """(K, 3) cells and sublattices of the neighbours in a shell, by angle from +x."""
        if not isinstance(shell, int | np.integer) or shell < 1:
            raise ValueError(f"shell: must be a Bond or a number of at least 1, got {shell!r}")
        distance, near = self.shell_distances(shell)[-1], SAME_SHELL * self.spacing
        corners, vectors = self.displacements(distance + near, basis)
        return corners[np.abs(np.linalg.norm(vectors, axis=-1) - distance) < near]

    def bonds(self, shell: int = 1) -> IntArray:
        """(n_bonds, 2) pairs of a shell, each bond once per displacement."""
        pairs = self.directed_bonds(shell)
        ordered = pairs[np.lexsort(pairs.T[::-1])]
        i, j = ordered.T
        # Every bond occurs as (i, j) and (j, i); keep i < j, and half of the bonds of a site to
        # its own periodic image.
        return np.concatenate([ordered[i < j], ordered[i == j][::2]])

    def neighbors(self, shell: int = 1) -> IntArray:
        """(N, z) neighbors of every site, counter-clockwise from +x.

        ValueError if the sites differ in coordination.
        """
        pairs = self.directed_bonds(shell)
        counts = np.bincount(pairs[:, 0], minlength=self.n_sites)
        if len(set(counts)) != 1:
            raise ValueError(f"shell: sites of {self.name!r} differ in coordination, use bonds")
        order = np.argsort(pairs[:, 0], kind="stable")
        return pairs[order, 1].reshape(self.n_sites, -1)

    @cached_property
    def plaquettes(self) -> IntArray:
        """(n_plaquettes, 3) sites of the oriented triangles, counter-clockwise, kind by kind.

        Triangular: all up, then all down (2N). Square: the four right triangles of a square (4N).
        ValueError for a lattice without triangles.
        """
        if not self.triangles:
            raise ValueError(f"lattice: {self.name!r} was made without triangles")
        corners = np.array(self.triangles)
        origins = self.cells[:: self.n_basis]
        cells = origins[None, :, None, :] + corners[:, None, :, :2]
        return self.site_index(cells, corners[:, None, :, 2]).reshape(-1, 3)

    @cached_property
    def plaquette_offsets(self) -> FloatArray:
        """(kinds, 2) center of every kind of plaquette relative to its cell."""
        return self._points(np.array(self.triangles)).mean(axis=1)

    @cached_property
    def reciprocal_vectors(self) -> FloatArray:
        """Rows b1, b2 with a_i . b_j = 2 pi delta_ij."""
        return 2 * np.pi * np.linalg.inv(np.array(self.vectors)).T

    @cached_property
    def momenta(self) -> FloatArray:
        """(n_cells, 2) allowed wave vectors in the first Brillouin zone, index m_y * Lx + m_x."""
        raw = np.stack(np.meshgrid(*map(np.fft.fftfreq, self.shape)), axis=-1).reshape(-1, 2)
        images = nearest_images(raw @ self.reciprocal_vectors, self.reciprocal_vectors)
        # Rounding makes the choice between equally short images (zone boundary) reproducible.
        nearest = np.round(np.linalg.norm(images, axis=-1) * self.spacing, 9).argmin(axis=1)
        return images[np.arange(len(raw)), nearest]

    @cached_property
    def point_group(self) -> PointGroup:
        """The largest C_nv that maps the infinite lattice on itself about site 0.

        ValueError for a lattice without a mirror through it.
        """
        radius = 2.5 * max(np.linalg.norm(self.reduced_vectors, axis=-1))
        vectors = self.displacements(radius)[1] / self.spacing
        closest = vectors[np.isclose(np.linalg.norm(vectors, axis=-1), np.linalg.norm(vectors[0]))]
        angles = np.arctan2(closest[:, 1], closest[:, 0])
        # A mirror maps a nearest neighbour on itself or on another: it bisects two of them.
        mirrors = np.unique(np.round((angles[:, None] + angles).ravel() / 2 % np.pi, 12))
        for n_fold in (6, 4, 3, 2, 1):
            for angle in mirrors:
                group = PointGroup(n_fold, float(angle))
                images = vectors @ group.matrices.mT
                distance = np.linalg.norm(images[:, :, None] - vectors, axis=-1).min(axis=2)
                if distance.max() < 1e-6:
                    return group
        raise ValueError(f"lattice: no mirror through basis site 0 of {self.name!r}")

    def translation(self, x: int, y: int) -> IntArray:
        """perm with perm[i] = the site (x, y) cells away: ``moved[perm] = spins`` moves a state."""
        return self.site_index(self.cells + np.array([x, y]), self.sublattices)

    def site_permutation(self, operation: FloatArray, center: int = 0) -> IntArray:
        """perm with perm[i] = the site at g r_i, for a 2 x 2 matrix g about site ``center``.

        ``moved[perm] = spins`` carries a state along. ValueError if g does not map the periodic
        lattice on itself (for instance a rotation by 90 degrees when Lx differs from Ly).
        """
        operation = real_tensor(operation, "operation").double().numpy()
        origin = self.positions[center]
        images = (self.positions - origin) @ operation.T + origin
        permutation = np.full(self.n_sites, -1)  # where there is no site
        for b, offset in enumerate(np.array(self.basis)):
            cells = (images - offset) @ np.linalg.inv(np.array(self.vectors))
            nearest = np.round(cells).astype(int)
            hit = np.abs(cells - nearest).max(axis=1) < 1e-6
            permutation[hit] = self.site_index(nearest[hit], b)
        # The periods Lx a1 and Ly a2 must turn into integer combinations of themselves.
        periods = np.array(self.vectors) * np.array(self.shape)[:, None]
        turned = periods @ operation.T @ np.linalg.inv(periods)
        keeps_torus = np.abs(turned - np.round(turned)).max() < 1e-9
        if len(np.unique(permutation)) != self.n_sites or not keeps_torus:
            raise ValueError(
                f"operation: does not map the {self.shape} {self.name} lattice on itself"
            )
        return permutation


def reduced_basis(rows: FloatArray, at_120_degrees: bool = True) -> FloatArray:
    """Two shortest vectors (2, 2) that span the lattice of two ``rows``, by Gauss' reduction.

    At 60 to 120 degrees, in the sense of the rows; rows that are short already stay what they are.
    """
    slack = 1e-9 if at_120_degrees else -1e-9
    found = np.array(rows, dtype=float)
    while True:
        size = (found**2).sum(-1)
        k = int(size[1] >= size[0])  # the longer one
        ratio = (found[0] @ found[1]) / size[1 - k]
        n = np.ceil(ratio - 0.5 - 1e-9) if ratio > 0 else np.floor(ratio + 0.5 + slack)
        if n == 0:
            return found
        found[k] -= n * found[1 - k]


def nearest_images(points: FloatArray, periods: FloatArray) -> FloatArray:
    """Nine images (n, 9, 2) of points (n, 2) on a torus, the ones nearest to the origin included.

    ``periods`` are two rows (2, 2) that span the torus, however skewed.
    """
    short = reduced_basis(periods)
    # Less than one period away along both, the nearest image is at most one more away.
    inside = points - np.trunc(points @ np.linalg.inv(short)) @ short
    return inside[:, None] + np.mgrid[-1:2, -1:2].reshape(2, -1).T @ short


def square(length: int, width: int | None = None) -> Lattice:
    """The square lattice of ``length`` x ``width`` sites (width defaults to length)."""
    shape = (length, length if width is None else width)
    return Lattice("square", ((1.0, 0.0), (0.0, 1.0)), ((0.0, 0.0),), shape, SQUARE_TRIANGLES)


def triangular(length: int, width: int | None = None) -> Lattice:
    """The triangular lattice, a1 = (1, 0), a2 = (1/2, sqrt(3)/2)."""
    shape = (length, length if width is None else width)
    vectors = ((1.0, 0.0), (0.5, float(np.sqrt(3) / 2)))
    return Lattice("triangular", vectors, ((0.0, 0.0),), shape, TRIANGULAR_TRIANGLES)


def honeycomb(length: int, width: int | None = None) -> Lattice:
    """The honeycomb lattice, two sites a cell: (0, 0) and (0, 1).

    a1 = (sqrt(3), 0), a2 = (sqrt(3)/2, 3/2); ``length`` x ``width`` cells. Its plaquettes are the
    triangles of second neighbours.
    """
    shape = (length, length if width is None else width)
    vectors = ((float(np.sqrt(3)), 0.0), (float(np.sqrt(3) / 2), 1.5))
    return Lattice("honeycomb", vectors, ((0.0, 0.0), (0.0, 1.0)), shape, HONEYCOMB_TRIANGLES)


def kagome(length: int, width: int | None = None) -> Lattice:
    """The kagome lattice, three sites a cell: (0, 0), (1, 0) and (1/2, sqrt(3)/2).

    a1 = (2, 0), a2 = (1, sqrt(3)); ``length`` x ``width`` cells. Its plaquettes are the triangles
    of nearest neighbours, all up, then all down.
    """
    shape = (length, length if width is None else width)
    height = float(np.sqrt(3) / 2)
    basis = ((0.0, 0.0), (1.0, 0.0), (0.5, height))
    return Lattice("kagome", ((2.0, 0.0), (1.0, 2 * height)), basis, shape, KAGOME_TRIANGLES)


def lieb(length: int, width: int | None = None) -> Lattice:
    """The Lieb lattice: the corners (0, 0) and the middles (1, 0), (0, 1) of edges of squares.

    a1 = (2, 0), a2 = (0, 2); ``length`` x ``width`` cells. Its plaquettes are a corner and two
    edges at a right angle.
    """
    shape = (length, length if width is None else width)
    basis = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    return Lattice("lieb", ((2.0, 0.0), (0.0, 2.0)), basis, shape, LIEB_TRIANGLES)


def from_cell(
    vectors: Sequence[Sequence[float]] | FloatArray,
    basis: Sequence[Sequence[float]] | FloatArray,
    shape: Sequence[int],
    name: str = "custom",
    triangles: tuple[Triangle, ...] = (),
) -> Lattice:
    """A lattice from primitive vectors (2, 2), basis positions (n_basis, 2) and cell counts."""
    return Lattice(name, vectors, basis, shape, triangles)  # type: ignore[arg-type]
