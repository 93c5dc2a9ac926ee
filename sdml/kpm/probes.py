"""Probing vectors r: sums over them stand for the trace, Tr A = sum_r r+ A r + error.

A set is described by one phase for every site (and vector), not by the vectors themselves, which
are made block by block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdml.lattice import Lattice, reduced_basis

IntArray = NDArray[np.int64]
Candidate = tuple[tuple[float, int, int], Callable[[], IntArray]]
"""Shortest distance, minus the number of neighbours there, minus the number of colors; colors."""


@dataclass(frozen=True)
class Probes:
    """Vectors r with sum_r r r+ = 1 + elements that a method hopes to be harmless.

    Attributes
    ----------
    n_vectors : int
    phases : (N,) or (N, 2, n_vectors) complex
        Entries of unit length: of the sites, or of all vectors.
    colors : (N,), optional
        Vector 2 c + s is zero but on the sites of color c, spin s, where it is the phase.
    """

    n_vectors: int
    phases: NDArray[np.complex64]
    colors: IntArray | None = None

    def vectors(self, start: int, stop: int) -> Any:
        """Vectors start to stop - 1, (N, 2, n) complex64 (1, i, -1, -i: exact)."""
        if self.colors is None:
            return self.phases[:, :, start:stop]
        block = np.zeros((len(self.colors), 2, stop - start), dtype=np.complex64)
        for spin in range(2):
            column = 2 * self.colors + spin - start
            (sites,) = np.nonzero((column >= 0) & (column < stop - start))
            block[sites, spin, column[sites]] = self.phases[sites]
        return block

    @property
    def norm(self) -> float:
        """Every vector carries 1 / norm of the trace."""
        return 1.0 if self.colors is not None else float(self.n_vectors)


def all_unit_vectors(n_sites: int) -> Probes:
    """The exact trace."""
    return Probes(2 * n_sites, np.ones(n_sites, np.complex64), np.arange(n_sites))


def random(n_sites: int, n_vectors: int, rng: np.random.Generator) -> Probes:
    """Independent entries 1, i, -1, -i: the error falls as n_vectors^(-1/2)."""
    return Probes(n_vectors, _phases(rng, (n_sites, 2, n_vectors)))


def colored(lattice: Lattice, n_vectors: int, rng: np.random.Generator) -> Probes:
    """At most ``n_vectors`` vectors, two for each color of :func:`colors`, random phases.

    Sites of one color are far apart, so the error contains elements of A between far sites only.
    Both spins of a site have the same phase: an estimate does not depend on the spin axes. With
    phases of their own it would, by as much as its error. Fields of random or quenched spins would
    be no better, those near tetrahedral or Neel order 10 to 16 %.
    Tang and Saad, Numer. Linear Algebra Appl. 19, 485 (2012).
    """
    if n_vectors >= 2 * lattice.n_sites:
        return all_unit_vectors(lattice.n_sites)
    color = colors(lattice, n_vectors // 2)
    return Probes(2 * int(color.max() + 1), _phases(rng, lattice.n_sites), color)


def _phases(rng: np.random.Generator, shape: Any) -> NDArray[np.complex64]:
    quarter_turns = np.array([1, 1j, -1, -1j], dtype=np.complex64)
    return quarter_turns[rng.integers(0, 4, shape, dtype=np.int8)]


@lru_cache(maxsize=16)
def colors(lattice: Lattice, n_colors: int) -> IntArray:
    """(N,) colors, at most ``n_colors``, such that sites of one color are far apart on the torus.

    The best, by shortest distance and then by number of sites at that distance, of two kinds of
    colorings of the cells: superlattices that contain the periods of the torus, and products of
    two rings cut into almost equal pieces. Sites of a basis have their own colors.
    """
    per_site = n_colors // lattice.n_basis
    if per_site < 1:
        raise ValueError(
            f"n_probes: must be at least {2 * lattice.n_basis} with colors, got {2 * n_colors}"
        )
    candidates = [*_superlattices(lattice, per_site), *_ring_products(lattice, per_site)]
    _, cell_colors = max(candidates, key=lambda candidate: candidate[0])
    return cell_colors() * lattice.n_basis + lattice.sublattices


def _superlattices(lattice: Lattice, n_colors: int) -> Iterator[Candidate]:
    """Cosets of the superlattices spanned by p a1 and q a1 + s a2 that contain both periods."""
    width, height = lattice.shape
    x, y = lattice.cells.T
    for s in _divisors(height, n_colors):
        for p in _divisors(width, n_colors // s):
            for q in (q for q in range(p) if q * (height // s) % p == 0):
                distance, count = _nearest(lattice, ((p, 0), (q, s)))
                yield (distance, -count, -p * s), partial(_cosets, x, y, p, q, s)


def _cosets(x: IntArray, y: IntArray, p: int, q: int, s: int) -> IntArray:
    return (x - q * (y // s)) % p + p * (y % s)


def _divisors(number: int, largest: int) -> list[int]:
    return [d for d in range(1, min(number, largest) + 1) if number % d == 0]


def _nearest(lattice: Lattice, basis: Any) -> tuple[float, int]:
    """Length of the shortest vectors of a superlattice, in lattice constants, and their number."""
    short = reduced_basis(np.array(basis) @ np.array(lattice.vectors))
    steps = np.array([(1, 0), (0, 1), (1, 1), (1, -1)]) @ short
    lengths = np.round(np.linalg.norm(steps, axis=1) / lattice.spacing, 9)
    return float(lengths.min()), 2 * int((lengths == lengths.min()).sum())


def _ring_products(lattice: Lattice, n_colors: int) -> Iterator[Candidate]:
    """Both rings cut into pieces of b or b + 1 cells; the color is the place within the pieces."""
    width, height = lattice.shape
    x, y = lattice.cells.T
    for pieces_x, pieces_y in product(range(1, width + 1), range(1, height + 1)):
        n_x, n_y = -(-width // pieces_x), -(-height // pieces_y)
        if n_x * n_y <= n_colors:
            spacings = [(width // pieces_x, n_x), (height // pieces_y, n_y)]
            nearest = min(
                _nearest(lattice, ((p, 0), (0, s))) for p in spacings[0] for s in spacings[1]
            )
            places = partial(_places, x, y, lattice.shape, (pieces_x, pieces_y), n_x)
            yield (nearest[0], -nearest[1], -n_x * n_y), places


def _places(
    x: IntArray, y: IntArray, shape: tuple[int, int], pieces: tuple[int, int], n_x: int
) -> IntArray:
    return _place(x, shape[0], pieces[0]) + n_x * _place(y, shape[1], pieces[1])


def _place(x: IntArray, length: int, pieces: int) -> IntArray:
    """Place of x within its piece, the pieces starting at floor(k length / pieces)."""
    starts = np.arange(pieces) * length // pieces
    return x - starts[np.searchsorted(starts, x, side="right") - 1]
