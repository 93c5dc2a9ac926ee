"""Terms of the Hamiltonian on bonds: hops of the electrons and couplings of the spins.

    H = - sum_<ij> (c+_i T_ij c_j + c+_j T_ij^+ c_i) + sum_<ij> S_i . M_ij S_j,

every bond once. A term stands on all bonds of a neighbour shell, or on one directed
:class:`~sdml.lattice.Bond` of every cell. Plain hopping with a phase along x, Heisenberg exchange
and a Moriya vector along x::

    lat = lattice.square(12)
    x = lat.bond((1, 0))
    twist = SpinCoupling(x, dzyaloshinskii_moriya((0.3, 0, 0)))
    phase = Hop(x, 0.1j)
    model = SDModel(lat, 2.0, 0.4, hops=[phase], spin_couplings=[SpinCoupling(1, -1.0), twist])
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdml.lattice import Bond, Lattice
from sdml.spins import real_tensor

__all__ = ["Hop", "SpinCoupling", "dzyaloshinskii_moriya"]

IntArray = NDArray[np.int64]
HERMITIAN = 1e-12
"""Matrices that differ by this share of their largest element are the same."""


@dataclass(frozen=True)
class BondTerm:
    """A matrix on every bond of a shell or on a directed bond of every cell.

    What goes back along a bond follows from what goes along it, so that the Hamiltonian is
    Hermitian; a reverse that is given too has to agree, and the matrix of a shell, whose bonds have
    no direction, has to be its own reverse.
    """

    bond: Bond | int
    matrix: Any

    SIZE: ClassVar[int]
    NUMBERS: ClassVar[type]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bond", _bond(self.bond))
        object.__setattr__(self, "matrix", self._checked_matrix())
        if isinstance(self.bond, int) and not _agree(self.element, self.element.conj().T):
            raise ValueError(
                "matrix: not Hermitian on the bonds of a shell, which have no direction (use a "
                f"Bond); it must be its own adjoint, got {self.matrix}"
            )

    def _checked_matrix(self) -> tuple[tuple[Any, ...], ...]:
        """Rows of Python numbers; a single number stands for its multiple of the unit matrix."""
        n, given = self.SIZE, self.matrix
        try:
            array = np.asarray(given)
            if array.dtype.kind == "U":  # complex numbers of a JSON header
                array = array.astype(complex)
            if array.dtype.kind in "biufc" and array.shape in ((), (n, n)):
                square = array if array.ndim else np.diag(np.full(n, array))
                if np.isfinite(square).all() and (self.NUMBERS is complex or np.isrealobj(square)):
                    return tuple(map(tuple, square.astype(self.NUMBERS).tolist()))
        except (ValueError, RuntimeError):  # ragged, text, a tensor with a gradient
            pass
        kind = "finite" if self.NUMBERS is complex else "finite real"
        raise ValueError(f"matrix: must be one or {n} x {n} {kind} numbers, got {given}")

    @property
    def element(self) -> NDArray[Any]:
        """<target| H |source> of an electron, or what multiplies S_target on the left."""
        raise NotImplementedError


class Hop(BondTerm):
    """Electrons hop from source to target: -sum_ab T_ab c+_(target, a) c_(source, b) + h.c.

    Parameters
    ----------
    bond : Bond or int
        A directed bond of every cell, or the number of a neighbour shell.
    matrix : complex or (2, 2) array
        T, with the sign of :attr:`SDModel.hopping <sdml.model.SDModel.hopping>`; a number does not
        touch the spin. T+ leads back. On a shell T must be Hermitian.

    Notes
    -----
    A flux is a Peierls phase, T = t exp(i phi) with phi = (e / hbar) times the integral of A from
    source to target. Rashba coupling on a bond of direction d is

        T(d) = t + i lambda (d_x sigma_y - d_y sigma_x),

    with the bands -2t (cos kx + cos ky) +- 2 lambda sqrt(sin^2 kx + sin^2 ky) on squares; Bychkov
    and Rashba, J. Phys. C 17, 6039 (1984), doi 10.1088/0022-3719/17/33/015. Complex second
    neighbours T = -t2 exp(i phi) counter-clockwise in the hexagons of a honeycomb are the model of
    Haldane, Phys. Rev. Lett. 61, 2015 (1988), doi 10.1103/PhysRevLett.61.2015.
    """

    SIZE, NUMBERS = 2, complex

    @property
    def element(self) -> NDArray[np.complex128]:
        return -np.array(self.matrix)

    @property
    def breaks(self) -> set[str]:
        """See :attr:`SDModel.broken_symmetries <sdml.model.SDModel.broken_symmetries>`."""
        flip, T = np.array([[0, -1j], [1j, 0]]), np.array(self.matrix)
        held = {
            "spin rotations": _agree(T, T[0, 0] * np.eye(2)),
            "time reversal": _agree(T, flip @ T.conj() @ flip),
            "point group": isinstance(self.bond, int),
        }
        return {name for name, holds in held.items() if not holds}


class SpinCoupling(BondTerm):
    """Energy S_source . M S_target of every bond, of unit classical spins.

    Parameters
    ----------
    bond : Bond or int
        A directed bond of every cell, or the number of a neighbour shell.
    matrix : float or (3, 3) array
        M. A number is Heisenberg exchange, antiferromagnetic where positive; diagonal matrices are
        anisotropic or Kitaev exchange; :func:`dzyaloshinskii_moriya` makes an antisymmetric one. M
        transposed leads back. On a shell M must be symmetric. Where a bond leads from a site to its
        own image, the site is coupled to itself, as in a cell that repeats.
    """

    SIZE, NUMBERS = 3, float

    @property
    def element(self) -> NDArray[np.float64]:
        return np.array(self.matrix).T


def dzyaloshinskii_moriya(vector: Any) -> NDArray[np.float64]:
    """M (3, 3) of the energy D . (S_source x S_target) = S_source . M S_target, D a vector (3,).

    Dzyaloshinsky, J. Phys. Chem. Solids 4, 241 (1958), doi 10.1016/0022-3697(58)90076-3; Moriya,
    Phys. Rev. 120, 91 (1960), doi 10.1103/PhysRev.120.91.
    """
    D = real_tensor(vector, "vector").double().numpy()
    if D.shape != (3,):
        raise ValueError(f"vector: must be (D_x, D_y, D_z), got {vector}")
    return np.cross(np.eye(3), D).T


Term = TypeVar("Term", bound=BondTerm)


def _bond(value: Any) -> Bond | int:
    """A bond, one of a JSON header too, or the number of a shell."""
    if isinstance(value, Mapping) and set(value) == {"source", "target", "cell"}:
        return Bond(value["source"], value["target"], value["cell"])
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1:
        return int(value)
    if not isinstance(value, Bond):
        raise ValueError(f"bond: must be a Bond or the number of a shell, got {value!r}")
    return value


def checked(name: str, terms: Any, kind: type[Term], lattice: Lattice) -> tuple[Term, ...]:
    """The terms as a tuple; ValueError unless they are of the kind and fit the lattice."""
    found = tuple(terms) if isinstance(terms, Iterable) else (terms,)
    if not isinstance(terms, Iterable) or not all(isinstance(term, kind) for term in found):
        raise ValueError(f"{name}: must be a sequence of {kind.__name__}, got {terms!r}")
    known: dict[Bond | int, Term] = {}
    for term in found:
        bond = term.bond
        if bond in known:
            raise ValueError(f"{name}: a bond may be given once, got {bond} twice")
        known[bond] = term
        if isinstance(bond, Bond):
            lattice.require_bond(bond)
            back = known.get(bond.reverse)
            if back and not _agree(back.element, term.element.conj().T):
                raise ValueError(
                    f"{name}: not Hermitian, the matrix of {bond} must be the adjoint of its "
                    f"reverse, got {term.matrix} and {back.matrix}"
                )
    return found


def _agree(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(abs(one - other).max() <= HERMITIAN * abs(one).max())


class Links(NamedTuple):
    """Blocks of a Hermitian matrix between sites, every bond in both directions.

    Attributes
    ----------
    rows, columns : (n,)
        Sites i and j.
    windings : (n, 2)
        Boundaries that are crossed from i to j.
    blocks : (n, m, m)
        The element between i and j; several links between two sites add up.
    """

    rows: IntArray
    columns: IntArray
    windings: IntArray
    blocks: NDArray[Any]

    def entries(self) -> tuple[IntArray, IntArray, IntArray, NDArray[Any]]:
        """Rows m i + a, columns m j + b, windings and values of all elements but zeros."""
        k, a, b = np.nonzero(self.blocks)
        m = self.blocks.shape[-1]
        rows, columns = m * self.rows[k] + a, m * self.columns[k] + b
        return rows, columns, self.windings[k], self.blocks[k, a, b]

    def without_loops(self, lattice: Lattice) -> "Links":
        """The same; ValueError where the lattice is so narrow that a site is its own neighbour."""
        if (self.rows == self.columns).any():
            raise ValueError(
                f"lattice: shape {lattice.shape} is so narrow that a hop joins a site to itself; "
                "take a longer side (for a chain from_cell with a second vector longer than all "
                "hops), or bands for a cell that repeats"
            )
        return self

    def table(self, n_sites: int, least: int = 0) -> tuple[IntArray, NDArray[Any]]:
        """Neighbours (N, z) and blocks (N, z, m, m) of all sites, zero blocks where there are less.

        z is even and at least ``least``.
        """
        order = np.argsort(self.rows, kind="stable")
        counts = np.bincount(self.rows, minlength=n_sites)
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = max(least, int(counts.max() + counts.max() % 2))
        neighbors = np.tile(np.arange(n_sites)[:, None], width)
        blocks = np.zeros((n_sites, width, *self.blocks.shape[1:]), self.blocks.dtype)
        neighbors[self.rows[order], place] = self.columns[order]
        blocks[self.rows[order], place] = self.blocks[order]
        return neighbors, blocks


@lru_cache(maxsize=8)
def links(lattice: Lattice, terms: tuple[BondTerm, ...], size: int) -> Links:
    """The matrix of :func:`checked` terms with blocks (``size``, ``size``), shell by shell."""
    nothing = np.zeros((0, 2), dtype=np.int64)
    parts = [(nothing, nothing, np.zeros((0, size, size)))]
    known: set[Bond | int] = set()
    for term in terms:
        if isinstance(term.bond, Bond) and term.bond.reverse in known:
            continue
        known.add(term.bond)
        pairs, around = lattice.directed_bonds(term.bond), lattice.windings(term.bond)
        shape = len(pairs), size, size
        parts.append((pairs, around, np.broadcast_to(term.element.conj().T, shape)))
        if isinstance(term.bond, Bond):
            parts.append((pairs[:, ::-1], -around, np.broadcast_to(term.element, shape)))
    pairs, windings, blocks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Links(pairs[:, 0], pairs[:, 1], windings, blocks)
