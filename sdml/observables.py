"""What is measured on spin configurations: chirality, order, structure factors, lengths, clusters.

All functions take any batch (..., N, 3) or (..., N) and return the kind they were given.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sdml.lattice import Lattice, nearest_images
from sdml.spins import SpinArray, as_tensor, like, neel, one_configuration, real_tensor

TETRAHEDRAL_CHIRALITY = 4 / (3 * np.sqrt(3))
"""|S_i . (S_j x S_k)| of every triangle in perfect tetrahedral order."""


def site_values(
    lattice: Lattice,
    values: SpinArray,
    argument: str = "values",
    batch: tuple[int, ...] | None = None,
    one_per_cell: bool = False,
) -> Tensor:
    """A field (..., N) of one number per site as a floating tensor, after the guard all share.

    Parameters
    ----------
    argument : str
        Name used in the error.
    batch : tuple of int, optional
        Required axes before the last one.
    one_per_cell : bool
        Whether the lattice must have one site a cell.

    Raises
    ------
    ValueError
        Wrong shape or lattice, or numbers that are not real.
    """
    x = real_tensor(values, argument)
    if one_per_cell:
        _require_one_per_cell(lattice)
    if x.shape[-1:] != (lattice.n_sites,) or batch not in (None, tuple(x.shape[:-1])):
        n = lattice.n_sites
        expected = f"(..., {n})" if batch is None else str((*batch, n))
        raise ValueError(f"{argument}: shape must be {expected}, got {tuple(x.shape)}")
    return x


def _require_one_per_cell(lattice: Lattice) -> None:
    if lattice.n_basis != 1:
        raise ValueError(f"lattice: needs one site per cell, {lattice.name!r} has several")


def scalar_chirality(lattice: Lattice, spins: SpinArray) -> Any:
    """chi = S_i . (S_j x S_k) on every plaquette, counter-clockwise, (..., n_plaquettes)."""
    return like(_scalar_chirality(lattice, as_tensor(spins, lattice.n_sites)), spins)


def _scalar_chirality(lattice: Lattice, s: Tensor) -> Tensor:
    i, j, k = torch.as_tensor(lattice.plaquettes, device=s.device).T
    return (s[..., i, :] * torch.linalg.cross(s[..., j, :], s[..., k, :])).sum(-1)


def site_chirality(lattice: Lattice, spins: SpinArray) -> Any:
    """Average of the scalar chirality over the plaquettes of a site, (..., N)."""
    s = as_tensor(spins, lattice.n_sites)
    chirality = _scalar_chirality(lattice, s)
    corners = torch.as_tensor(lattice.plaquettes, device=s.device)
    total = torch.zeros(s.shape[:-1], dtype=s.dtype, device=s.device)
    for corner in corners.T:
        total.index_add_(-1, corner, chirality)
    # A site without plaquettes has no chirality.
    counts = torch.bincount(corners.ravel(), minlength=lattice.n_sites).clamp(min=1)
    return like(total / counts, spins)


def bond_correlation(lattice: Lattice, spins: SpinArray, shell: int = 1) -> Any:
    """S_i . S_j on every bond of a shell, (..., n_bonds), in the order of ``lattice.bonds``."""
    return like(_bond_correlation(lattice, as_tensor(spins, lattice.n_sites), shell), spins)


def _bond_correlation(lattice: Lattice, s: Tensor, shell: int = 1) -> Tensor:
    i, j = torch.as_tensor(lattice.bonds(shell), device=s.device).T
    return (s[..., i, :] * s[..., j, :]).sum(-1)


def site_correlation(lattice: Lattice, spins: SpinArray, shell: int = 1) -> Any:
    """Mean of S_i . S_j over the neighbours j of a site in a shell, (..., N), in [-1, 1]."""
    s = as_tensor(spins, lattice.n_sites)
    neighbors = torch.as_tensor(lattice.neighbors(shell), device=s.device)
    return like((s[..., neighbors, :].mean(-2) * s).sum(-1), spins)


def neel_order(lattice: Lattice, spins: SpinArray) -> Any:
    """|mean of (-1)^(x+y) S_i|, (...), in [0, 1], on a square lattice of even lengths."""
    return like(torch.linalg.vector_norm(_staggered(lattice, spins).mean(-2), dim=-1), spins)


def neel_length(lattice: Lattice, spins: SpinArray) -> Any:
    """Correlation length of the Neel order, (...), on a square lattice of even lengths.

    The distance at which the circular average of C(d) = (1/N) sum_r X_r . X_(r+d), with the
    staggered spins X_i = (-1)^(x+y) S_i, falls to 1/2; inf where the order spans the lattice and it
    never does. A spiral that turns the order once in P >> 1 sites has C = J_0(2 pi d / P) and the
    length 0.242 P.
    """
    return like(_half_width(lattice, _staggered(lattice, spins)), spins)


def _staggered(lattice: Lattice, spins: SpinArray) -> Tensor:
    """(-1)^(x+y) S_i of checked spins on the square lattice, (..., N, 3)."""
    signs = torch.as_tensor(neel(lattice)[:, 2:])
    s = as_tensor(spins, lattice.n_sites)
    return signs.to(s) * s


def structure_factor(lattice: Lattice, values: SpinArray) -> Any:
    """S(q) = (1/n) |sum_r exp(-i q.r) X_r|^2 on ``lattice.momenta``, (..., n_cells).

    Parameters
    ----------
    values : (..., n) or (..., n, 3)
        A field on the n sites or on the n plaquettes (then r is the plaquette's center; sites where
        the two numbers agree); the squares of vector components are summed.
    """
    return like(_structure_factor(lattice, real_tensor(values, "values")), values)


def _structure_factor(lattice: Lattice, x: Tensor) -> Tensor:
    components, offsets = _by_kind(lattice, x)
    phase = torch.as_tensor(np.exp(-1j * lattice.momenta @ offsets.T), device=x.device)
    amplitude = torch.fft.fft2(components.unflatten(-1, lattice.shape[::-1])).flatten(-2)
    total = (amplitude * phase.T.to(amplitude.dtype)[:, None, :]).sum(-3)
    return (total.abs() ** 2).sum(-2) / (lattice.n_cells * len(offsets))


def _by_kind(lattice: Lattice, x: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """The field as (..., kinds, components, n_cells) and the (kinds, 2) offsets in a cell."""
    n_plaquettes = len(lattice.triangles) * lattice.n_cells
    is_vector = x.ndim > 1 and x.shape[-1] == 3 and x.shape[-2] in (lattice.n_sites, n_plaquettes)
    field = x.movedim(-1, -2) if is_vector else x.unsqueeze(-2)
    if field.shape[-1] == lattice.n_sites:
        split = field.unflatten(-1, (lattice.n_cells, lattice.n_basis)).movedim(-1, -3)
        return split, np.array(lattice.basis)
    if field.shape[-1] == n_plaquettes:
        split = field.unflatten(-1, (len(lattice.triangles), lattice.n_cells)).movedim(-2, -3)
        return split, lattice.plaquette_offsets
    raise ValueError(
        f"values: must live on the {lattice.n_sites} sites or {n_plaquettes} plaquettes, "
        f"got shape {tuple(x.shape)}"
    )


def spin_correlation(lattice: Lattice, values: SpinArray) -> Any:
    """C(d) = (1/N) sum_r X_r . X_(r+d) for every cell displacement d, (..., n_cells).

    Index d_y * Lx + d_x, for a Bravais lattice, by the Wiener-Khinchin theorem. ValueError unless
    the values live on its sites.
    """
    x = real_tensor(values, "values")
    if lattice.n_sites not in x.shape[-2:]:
        raise ValueError(f"values: must live on the {lattice.n_sites} sites, got {tuple(x.shape)}")
    return like(_spin_correlation(lattice, x), values)


def _spin_correlation(lattice: Lattice, x: Tensor) -> Tensor:
    _require_one_per_cell(lattice)
    grid = _structure_factor(lattice, x).unflatten(-1, lattice.shape[::-1])
    return torch.fft.ifft2(grid).real.flatten(-2)


def domain_length(lattice: Lattice, values: SpinArray, estimator: str = "moment") -> Any:
    """Characteristic length of a field with domains, (...), in the unit of ``lattice.vectors``.

    Parameters
    ----------
    values : (..., N)
        The field, for instance the site chirality.
    estimator : {'moment', 'wall', 'correlation', 'first_moment'}
        * moment: 2 pi / <q> with <q> = sum q S^2 / sum S^2 over all q but 0, S(q) replaced by its
          circular average. The square makes both sums converge for the q^-3 tail of sharp walls.
        * wall: area / wall length, :func:`wall_density` inverted.
        * correlation: distance at which the circular average of C(r) falls to C(0) / 2, linear
          between rings one lattice constant wide; one site a cell.
        * first_moment: 2 pi sum S / sum q S, customary in the literature; sum q S diverges
          logarithmically with a q^-3 tail, which biases growth laws.

        Infinite where there is no wall, and where the values differ by their rounding only.
        :mod:`sdml.coarsening.domains` compares the estimators.

    Raises
    ------
    ValueError
        Another estimator, or values that do not live on the sites.
    """
    x = site_values(lattice, values)
    if estimator not in LENGTH_ESTIMATORS:
        raise ValueError(
            f"estimator: must be one of {sorted(LENGTH_ESTIMATORS)}, got {estimator!r}"
        )
    return like(LENGTH_ESTIMATORS[estimator](lattice, varying(x)), values)


def varying(x: Tensor) -> Tensor:
    """A field (..., N) in float64; all zero where its values differ by their rounding only.

    That is by an rms of 1e-12 of theirs, in single precision of 1e-6. A Fourier transform would
    take the rounding for waves, a correlation for a pattern.
    """
    values, rounding = x.double(), max(10 * torch.finfo(x.dtype).eps, 1e-12)
    scatter = values.var(-1, correction=0, keepdim=True)
    same = scatter <= rounding**2 * values.square().mean(-1, keepdim=True)
    return values.masked_fill(same, 0.0)


def wall_density(lattice: Lattice, values: SpinArray) -> Any:
    """Wall length per area of a field (..., N) by Cauchy's and Crofton's formula, (...).

    Walls separate negative values from the others. W / A = (pi / 2) sum_d w_d f_d / |d|: the walls
    are cut by all lattice lines of directions d, a fraction f_d of whose steps d joins opposite
    signs; w_d is the share of directions closest to d. A line parallel to d at spacing a / |d| (a
    the area of a site) is cut |cos| of the angle between d and the wall's normal times a wall's
    length / spacing. Averaged over the directions of walls the formula is exact; straight walls of
    a single direction are within 2 % (triangular and square). Steps are up to 2.7 periods long: of
    domains no wider, and at sharp corners, some walls are missed. With several sites a cell the
    lines join equal sites of different cells. Santalo, Integral Geometry and Geometric Probability
    (Addison-Wesley, 1976).
    """
    return like(_wall_density(lattice, site_values(lattice, values)), values)


def _wall_density(lattice: Lattice, x: Tensor) -> Tensor:
    positive = x.unflatten(-1, (*lattice.shape[::-1], lattice.n_basis)) >= 0
    density = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    for (dx, dy), length, share in zip(*_lines(lattice), strict=True):
        moved = torch.roll(positive, (-int(dy), -int(dx)), dims=(-3, -2))
        cut = (positive != moved).sum((-3, -2, -1)).double()
        density += np.pi / 2 * share * cut / (length * lattice.n_sites)
    return density


@lru_cache(maxsize=8)
def _lines(
    lattice: Lattice,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps (k, 2) of the lattice lines, their lengths (k,) and shares of all directions (k,)."""
    longest = np.linalg.norm(lattice.reduced_vectors, axis=-1).max()
    corners, vectors = lattice.displacements(LINE_REACH * longest)
    primitive = (np.gcd(corners[:, 0], corners[:, 1]) == 1) & (corners[:, 2] == 0)
    angle = np.arctan2(vectors[:, 1], vectors[:, 0])
    half = np.flatnonzero(primitive & (angle > -1e-9) & (angle < np.pi - 1e-9))
    half = half[np.argsort(angle[half])]
    turned = angle[half]
    ahead = np.append(turned[1:], turned[0] + np.pi)
    behind = np.append(turned[-1] - np.pi, turned[:-1])
    steps, length = corners[half, :2], np.linalg.norm(vectors[half], axis=-1)
    return steps, length, (ahead - behind) / (2 * np.pi)


def _half_width(lattice: Lattice, x: Tensor) -> Tensor:
    """Where the circular average of C(r) / C(0) first falls to 1/2; inf if it never does."""
    rings = distance_rings(lattice)
    c = rings.average(_spin_correlation(lattice, x))
    c, radius = c / c[..., :1], torch.as_tensor(rings.radius, device=c.device)
    below = c < 0.5
    first = below.to(torch.uint8).argmax(-1, keepdim=True).clamp(min=1)
    outer, inner = c.gather(-1, first), c.gather(-1, first - 1)
    step = (radius[first] - radius[first - 1]) * (inner - 0.5) / (inner - outer)
    crossing = (radius[first - 1] + step).squeeze(-1)
    return torch.where(below.any(-1), crossing, torch.inf)


def _moment_length(lattice: Lattice, x: Tensor) -> Tensor:
    rings = momentum_rings(lattice)
    factor = rings.average(_structure_factor(lattice, x))
    return wave_length(rings.radius, rings.plane_weight(factor**2))


def _first_moment_length(lattice: Lattice, x: Tensor) -> Tensor:
    return wave_length(np.linalg.norm(lattice.momenta, axis=-1), _structure_factor(lattice, x))


LENGTH_ESTIMATORS = {
    "wall": lambda lattice, x: 1 / _wall_density(lattice, x),
    "correlation": _half_width,
    "moment": _moment_length,
    "first_moment": _first_moment_length,
}
"""Name -> length (...) of a lattice and a field (..., N) of :func:`varying`."""
LINE_REACH = 2.7
"""Lattice lines up to so many periods count crossings: 12 directions (triangular), 8 (square)."""


def cluster_labels(lattice: Lattice, spins: SpinArray, threshold: float = 0.5) -> NDArray[np.int64]:
    """Number (N,) of the cluster of every site; sites are joined by bonds S_i . S_j > threshold.

    One configuration (N, 3); a site without such a bond is a cluster of its own.
    """
    bonds = _bond_correlation(lattice, one_configuration(spins, lattice.n_sites))
    limit = float(real_tensor(threshold, "threshold"))
    return joined_sites(lattice, (bonds > limit).cpu().numpy())


def joined_sites(lattice: Lattice, joined: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number (N,) of the cluster of every site, for bonds (n_bonds,) that join or do not.

    In the order of ``lattice.bonds``, as of :func:`bond_correlation`.
    """
    i, j = lattice.bonds()[joined].T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(lattice.n_sites,) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def cluster_sizes(
    lattice: Lattice, spins: SpinArray, threshold: float = 0.5, smallest: int = 2
) -> NDArray[np.int64]:
    """Sizes of the ferromagnetic clusters with at least ``smallest`` sites, descending."""
    sizes = np.bincount(cluster_labels(lattice, spins, threshold))
    return np.sort(sizes[sizes >= smallest])[::-1]


# --- averages over circles of momenta and of distances, in true geometry


@dataclass(frozen=True)
class Rings:
    """Points sorted into rings of equal width about the origin.

    Attributes
    ----------
    index : (n,) int
        Ring of every point; ring 0 is the origin alone.
    radius : (k,)
        Mean distance of the points of every ring from the origin; empty rings are left out.
    counts : (k,)
        Number of points in every ring.
    """

    index: NDArray[np.int64]
    radius: NDArray[np.float64]
    counts: NDArray[np.int64]

    def average(self, values: Tensor) -> Tensor:
        """Mean of ``values`` (..., n) over every ring, (..., k), in float64."""
        x = values.double()
        index = torch.as_tensor(self.index, device=x.device)
        total = x.new_zeros(*x.shape[:-1], len(self.radius)).index_add_(-1, index, x)
        return total / torch.as_tensor(self.counts, device=x.device)

    def plane_weight(self, values: Tensor) -> Tensor:
        """``values`` (..., k) times the number of points in every ring: its share of the plane."""
        return values * torch.as_tensor(self.counts, device=values.device)


def wave_length(size: NDArray[np.float64], weight: Tensor) -> Tensor:
    """2 pi sum w / sum w q, (...), with ``size`` q (k,) and ``weight`` w (..., k), in float64.

    The first entry, q = 0, is left out; infinite where there is no other weight.
    """
    w, q = weight[..., 1:].double(), torch.as_tensor(size[1:], device=weight.device)
    moment = w @ q
    return torch.where(moment > 0, 2 * np.pi * w.sum(-1) / moment, torch.inf)


@lru_cache(maxsize=8)
def momentum_rings(lattice: Lattice) -> Rings:
    """Rings of ``lattice.momenta``, of width 2 pi / sqrt(n_cells) inverse lattice constants."""
    size = np.linalg.norm(lattice.momenta, axis=-1)
    return _rings(size, 2 * np.pi / np.sqrt(lattice.n_cells) / lattice.spacing)


@lru_cache(maxsize=8)
def distance_rings(lattice: Lattice) -> Rings:
    """Rings, one lattice constant wide, of all cell displacements wrapped to the shortest.

    In the order of :func:`spin_correlation`.
    """
    periods = np.array(lattice.vectors) * np.array(lattice.shape)[:, None]
    steps = lattice.cells[:: lattice.n_basis] @ np.array(lattice.vectors)
    return _rings(np.linalg.norm(nearest_images(steps, periods), axis=-1).min(1), lattice.spacing)


def _rings(size: NDArray[np.float64], width: float) -> Rings:
    ring = np.floor(size / width + 0.5 + 1e-9).astype(int)
    ring[size == 0] = -1
    _, index, counts = np.unique(ring, return_inverse=True, return_counts=True)
    return Rings(index, np.bincount(index, size) / counts, counts)
