"""What is measured on spin configurations: chirality, order, structure factors, lengths, clusters.

All functions take any batch (..., N, 3) or (..., N) and return the kind they were given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sdml.lattice import Lattice
from sdml.spins import SpinArray, as_tensor, like, real_tensor

TETRAHEDRAL_CHIRALITY = 4 / (3 * np.sqrt(3))
"""|S_i . (S_j x S_k)| of every triangle in perfect tetrahedral order."""


def scalar_chirality(lattice: Lattice, spins: SpinArray) -> Any:
    """chi = S_i . (S_j x S_k) on every plaquette, counter-clockwise, (..., n_plaquettes)."""
    s = as_tensor(spins, lattice.n_sites)
    i, j, k = torch.as_tensor(lattice.plaquettes, device=s.device).T
    corners = s[..., i, :], torch.linalg.cross(s[..., j, :], s[..., k, :])
    return like((corners[0] * corners[1]).sum(-1), spins)


def site_chirality(lattice: Lattice, spins: SpinArray) -> Any:
    """Average of the scalar chirality over the plaquettes of a site, (..., N)."""
    s = as_tensor(spins, lattice.n_sites)
    chirality = scalar_chirality(lattice, s)
    corners = torch.as_tensor(lattice.plaquettes, device=s.device)
    total = torch.zeros(s.shape[:-1], dtype=s.dtype, device=s.device)
    for corner in corners.T:
        total.index_add_(-1, corner, chirality)
    counts = torch.bincount(corners.ravel(), minlength=lattice.n_sites)
    return like(total / counts, spins)


def bond_correlation(lattice: Lattice, spins: SpinArray, shell: int = 1) -> Any:
    """S_i . S_j on every bond of a shell, (..., n_bonds), in the order of ``lattice.bonds``."""
    s = as_tensor(spins, lattice.n_sites)
    i, j = torch.as_tensor(lattice.bonds(shell), device=s.device).T
    return like((s[..., i, :] * s[..., j, :]).sum(-1), spins)


def site_correlation(lattice: Lattice, spins: SpinArray, shell: int = 1) -> Any:
    """Mean of S_i . S_j over the neighbours j of a site in a shell, (..., N), in [-1, 1]."""
    s = as_tensor(spins, lattice.n_sites)
    neighbors = torch.as_tensor(lattice.neighbors(shell), device=s.device)
    return like((s[..., neighbors, :].mean(-2) * s).sum(-1), spins)


def neel_order(lattice: Lattice, spins: SpinArray) -> Any:
    """|mean of (-1)^(x+y) S_i|, (...), in [0, 1]."""
    if lattice.name != "square":
        raise ValueError(f"lattice: Neel order needs a square lattice, got {lattice.name!r}")
    s = as_tensor(spins, lattice.n_sites)
    sign = torch.as_tensor(1.0 - 2.0 * (lattice.cells.sum(-1) % 2)).to(s)
    return like(torch.linalg.vector_norm((sign[:, None] * s).mean(-2), dim=-1), spins)


def neel_length(lattice: Lattice, spins: SpinArray) -> Any:
    """Correlation length of the Neel order, (...), in lattice constants.

    The distance at which the circular average of C(d) = (1/N) sum_r X_r . X_(r+d), with the
    staggered spins X_i = (-1)^(x+y) S_i, falls to 1/2; inf where the order spans the lattice and it
    never does. A spiral that turns the order once in P >> 1 sites has C = J_0(2 pi d / P) and the
    length 0.242 P.
    """
    if lattice.name != "square":
        raise ValueError(f"lattice: Neel order needs a square lattice, got {lattice.name!r}")
    s = as_tensor(spins, lattice.n_sites)
    sign = torch.as_tensor(1.0 - 2.0 * (lattice.cells.sum(-1) % 2)).to(s)
    return like(torch.as_tensor(_correlation_length(lattice, sign[:, None] * s)), spins)


def structure_factor(lattice: Lattice, values: SpinArray) -> Any:
    """S(q) = (1/n) |sum_r exp(-i q.r) X_r|^2 on ``lattice.momenta``, (..., n_cells).

    Parameters
    ----------
    values : (..., n) or (..., n, 3)
        A field on the n sites or on the n plaquettes (then r is the plaquette's centre; sites where
        the two numbers agree); the squares of vector components are summed.
    """
    x = real_tensor(values, "values")
    components, offsets = _by_kind(lattice, x)
    phase = torch.as_tensor(np.exp(-1j * lattice.momenta @ offsets.T), device=x.device)
    width, length = lattice.shape[1], lattice.shape[0]
    grid = components.reshape(*components.shape[:-1], width, length)
    amplitude = torch.fft.fft2(grid).flatten(-2)
    total = (amplitude * phase.T.to(amplitude.dtype)[:, None, :]).sum(-3)
    return like((total.abs() ** 2).sum(-2) / (lattice.n_cells * len(offsets)), values)


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

    Index d_y * Lx + d_x, for a Bravais lattice, by the Wiener-Khinchin theorem.
    """
    if lattice.n_basis != 1:
        raise ValueError(f"lattice: needs one site per cell, {lattice.name!r} has several")
    x = real_tensor(values, "values")
    if lattice.n_sites not in x.shape[-2:]:
        raise ValueError(f"values: must live on the {lattice.n_sites} sites, got {tuple(x.shape)}")
    factor = structure_factor(lattice, x)
    grid = factor.unflatten(-1, (lattice.shape[1], lattice.shape[0]))
    return like(torch.fft.ifft2(grid).real.flatten(-2), values)


def radial_average(
    lengths: NDArray[np.float64], values: SpinArray, bin_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of ``values`` (..., n) over shells of equal ``lengths`` (n,); empty shells left out.

    Returns the mean length (k,) and the mean value (..., k) of every shell.
    """
    x = real_tensor(values, "values").detach().cpu().double().numpy()
    _, shell, counts = np.unique(
        np.floor(lengths / bin_width + 0.5).astype(int), return_inverse=True, return_counts=True
    )
    membership = coo_array((1.0 / counts[shell], (shell, np.arange(len(shell))))).tocsr()
    flat = membership @ x.reshape(-1, x.shape[-1]).T
    return membership @ lengths, flat.T.reshape(*x.shape[:-1], len(counts))


def domain_length(lattice: Lattice, values: SpinArray, estimator: str = "moment") -> Any:
    """Characteristic length of a field with domains, (...), in lattice constants.

    Parameters
    ----------
    values : (..., N)
        The field, for instance the site chirality.
    estimator : {'moment', 'wall', 'correlation', 'first_moment'}
        * moment: 2 pi / <q> with <q> = sum q S^2 / sum S^2 over all q but 0, S(q) replaced by its
          circular average. The square makes both sums converge for the q^-3 tail of sharp walls.
        * wall: area / wall length, the walls being the nearest-neighbour bonds that join opposite
          signs, each counted with the length of its dual edge.
        * correlation: distance at which the circular average of C(r) falls to C(0) / 2.
        * first_moment: 2 pi sum S / sum q S, customary in the literature; sum q S diverges
          logarithmically with a q^-3 tail, which biases growth laws.
    """
    x = real_tensor(values, "values")
    if estimator not in LENGTH_ESTIMATORS:
        raise ValueError(
            f"estimator: must be one of {sorted(LENGTH_ESTIMATORS)}, got {estimator!r}"
        )
    if x.shape[-1] != lattice.n_sites:
        raise ValueError(f"values: shape must be (..., {lattice.n_sites}), got {tuple(x.shape)}")
    length = LENGTH_ESTIMATORS[estimator](lattice, x)
    return like(torch.as_tensor(length), values)


def _moment_length(lattice: Lattice, x: Tensor) -> NDArray[np.float64]:
    size = np.linalg.norm(lattice.momenta, axis=-1)[1:]
    bin_width = 2 * np.pi / np.sqrt(lattice.n_cells)
    q, factor = radial_average(size, structure_factor(lattice, x)[..., 1:], bin_width)
    ring = np.floor(size / bin_width + 0.5).astype(int)
    weight = factor**2 * np.unique(ring, return_counts=True)[1]
    return _wave_length(weight.sum(-1), (weight * q).sum(-1))


def _first_moment_length(lattice: Lattice, x: Tensor) -> NDArray[np.float64]:
    factor = structure_factor(lattice, x)[..., 1:]
    size = torch.as_tensor(np.linalg.norm(lattice.momenta, axis=-1)[1:]).to(factor)
    return _wave_length(*(np.asarray(m.cpu()) for m in (factor.sum(-1), factor @ size)))


def _wave_length(total: Any, moment: Any) -> NDArray[np.float64]:
    """2 pi total / moment; a field without structure has no finite length."""
    return np.where(moment > 0, 2 * np.pi * total / np.where(moment > 0, moment, 1.0), np.inf)


def _wall_length(lattice: Lattice, x: Tensor) -> Tensor:
    neighbors = lattice.neighbors()
    area = abs(np.linalg.det(lattice.vectors)) / lattice.n_basis
    dual_edge = 4 * area / neighbors.shape[1]  # z triangles of base dual_edge, height 1/2
    positive = x > 0
    i, j = torch.as_tensor(lattice.bonds(), device=x.device).T
    broken = (positive[..., i] != positive[..., j]).sum(-1)
    return lattice.n_sites * area / (broken * dual_edge)


def _correlation_length(lattice: Lattice, x: Tensor) -> NDArray[np.float64]:
    distance = _shortest_distance(lattice)
    r, correlation = radial_average(distance, spin_correlation(lattice, x), 1.0)
    flat = correlation.reshape(-1, len(r))
    half = np.array([_first_crossing(r, c / c[0], 0.5) for c in flat])
    return half.reshape(correlation.shape[:-1])


def _shortest_distance(lattice: Lattice) -> NDArray[np.float64]:
    """Length of every cell displacement under periodic wrapping, (n_cells,)."""
    periods = np.array(lattice.vectors) * np.array(lattice.shape)[:, None]
    shifts = np.mgrid[-1:2, -1:2].reshape(2, -1).T @ periods
    steps = lattice.cells[:: lattice.n_basis] @ np.array(lattice.vectors)
    return np.linalg.norm(steps[:, None] + shifts, axis=-1).min(axis=1)


def _first_crossing(r: NDArray[np.float64], c: NDArray[np.float64], level: float) -> float:
    """Where a curve starting above ``level`` first falls to it, linearly; inf if it never does."""
    below = np.flatnonzero(c < level)
    if not len(below):
        return float("inf")
    k = below[0]
    return float(r[k - 1] + (c[k - 1] - level) / (c[k - 1] - c[k]) * (r[k] - r[k - 1]))


LENGTH_ESTIMATORS = {
    "moment": _moment_length,
    "first_moment": _first_moment_length,
    "wall": _wall_length,
    "correlation": _correlation_length,
}


def cluster_labels(lattice: Lattice, spins: SpinArray, threshold: float = 0.5) -> NDArray[np.int64]:
    """Number (N,) of the cluster of every site; sites are joined by bonds S_i . S_j > threshold.

    One configuration (N, 3); a site without such a bond is a cluster of its own.
    """
    s = as_tensor(spins, lattice.n_sites)
    if s.ndim != 2:
        raise ValueError(f"spins: one configuration (N, 3) is needed, got {tuple(s.shape)}")
    joined = np.asarray(bond_correlation(lattice, s).detach().cpu()) > threshold
    i, j = lattice.bonds()[joined].T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(lattice.n_sites,) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def cluster_sizes(
    lattice: Lattice, spins: SpinArray, threshold: float = 0.5, smallest: int = 2
) -> NDArray[np.int64]:
    """Sizes of the ferromagnetic clusters with at least ``smallest`` sites, descending."""
    sizes = np.bincount(cluster_labels(lattice, spins, threshold))
    return np.sort(sizes[sizes >= smallest])[::-1]
