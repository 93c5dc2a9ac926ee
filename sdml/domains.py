"""Lengths of the domains of a field that takes two signs, on the device of the field.

Of four estimators three converge for sharp walls, whose structure factor falls as q^-3 (Porod):

    wall            area / wall length
    correlation     half-width of C(r)
    moment          2 pi / <q>,  <q> = sum q S^2 / sum S^2 over the plane, S its circular average
    first_moment    2 pi sum S / sum q S over the plane: sum q S diverges logarithmically

The sums of the moment run over all momenta, every ring of the circular average with its number of
them. With every ring counted once (an integral over dq instead of q dq) the few smallest rings of
the box decide: Ising domains on 512^2 then grow as t^0.42 instead of t^0.49.

The estimators measure different lengths, only their growth can be compared. A wall of length W in
area A makes C(r) = 1 - (4 / pi) r W / A at short distance. In the theory of Ohta, Jasnow and
Kawasaki, C = (2 / pi) arcsin exp(-r^2 / l^2) (Phys. Rev. Lett. 49, 1223 (1982),
doi 10.1103/PhysRevLett.49.1223), A / W is 2.40 half-widths. Ising domains have 2.3 (square) and 2.4
(triangular) half-widths to a wall length, chiral domains 2.4, and both 7 to 8 to a wave length
2 pi / <q> (benchmarks/ising.py). The wave length feels the box first, as q = 0 is left out: Ising
domains need 2 pi / <q> itself below a quarter of the box.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import observables
from sdml.lattice import Lattice
from sdml.rings import Rings, distance_rings, momentum_rings
from sdml.spins import SpinArray, as_tensor, like, real_tensor

ESTIMATORS = ("wall", "correlation", "moment", "first_moment")
LINE_REACH = 2.7
"""Lattice lines up to this period count crossings: 12 directions (triangular) or 8 (square)."""


def smoothed(lattice: Lattice, values: SpinArray) -> Any:
    """Mean of a field (..., N) over a site and its nearest neighbours, (..., N)."""
    grid = _grid(lattice, _field(lattice, values))
    steps = lattice.displacements(lattice.shell_distances(1)[0])[0]
    moved = [torch.roll(grid, (-int(dy), -int(dx)), dims=(-2, -1)) for dx, dy, _ in steps]
    return like((grid + sum(moved)).flatten(-2) / (1 + len(steps)), values)


def chirality_sign(lattice: Lattice, spins: SpinArray) -> Any:
    """Sign, 1 or -1, of the chirality averaged over the triangles of a site and its neighbours.

    Spins (..., N, 3), result (..., N). A triangle counts as often as it has corners among them.
    """
    s = as_tensor(spins, lattice.n_sites)
    return like(_sign(smoothed(lattice, observables.site_chirality(lattice, s))), spins)


def domain_lengths(lattice: Lattice, spins: SpinArray) -> Any:
    """Lengths of the chiral domains by the four `ESTIMATORS`, (..., 4), in lattice constants.

    Spins (..., N, 3); the :func:`lengths` of their :func:`chirality_sign`.
    """
    return lengths(lattice, chirality_sign(lattice, spins))


def imbalance(lattice: Lattice, spins: SpinArray) -> Any:
    """<sign chi>, (...), in [-1, 1]: how far one kind of domain has won, for spins (..., N, 3)."""
    return chirality_sign(lattice, spins).mean(-1)


def lengths(lattice: Lattice, values: SpinArray) -> Any:
    """Lengths of the domains of a field by the four `ESTIMATORS`, (..., 4), in lattice constants.

    Parameters
    ----------
    values : (..., N)
        The field; its sign alone counts (zero is positive). One site a cell.

    Returns
    -------
    (..., 4)
        wall: :func:`wall_density` inverted; correlation: first crossing of C(r) / C(0) = 1/2 by
        the circular average of C, linear between rings one lattice constant wide; moment and
        first_moment over the circular average of S(q) and over all q, q = 0 left out. Infinite
        where there is no wall.
    """
    x = _sign(_field(lattice, values))
    factor = _spectrum(lattice, x)
    found = [
        1 / wall_density(lattice, x),
        _half_width(lattice, factor),
        _moment_length(lattice, factor),
        _first_moment_length(lattice, factor),
    ]
    return like(torch.stack(found, dim=-1), values)


def wall_density(lattice: Lattice, values: SpinArray) -> Any:
    """Wall length per area of a field (..., N) by Cauchy's and Crofton's formula, (...).

    W / A = (pi / 2) sum_d w_d f_d / |d|: the walls are cut by all lattice lines of directions d, a
    fraction f_d of whose steps d joins opposite signs; w_d is the share of directions closest to d.
    A line parallel to d at spacing a / |d| (a the area of a site) is cut |cos| of the angle between
    d and the wall's normal times a wall's length / spacing. Averaged over the directions of walls
    the formula is exact; straight walls of a single direction are within 2 % (triangular and
    square). Santalo, Integral Geometry and Geometric Probability (Addison-Wesley, 1976).
    """
    x = _field(lattice, values)
    positive = _grid(lattice, x) >= 0
    density = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    for (dx, dy), length, share in zip(*_lines(lattice), strict=True):
        moved = torch.roll(positive, (-int(dy), -int(dx)), dims=(-2, -1))
        cut = (positive != moved).sum((-2, -1)).double()
        density += np.pi / 2 * share * cut / (length * lattice.n_sites)
    return like(density, values)


def spin_length(lattice: Lattice, spins: SpinArray) -> Any:
    """Length of the tetrahedral order of the spins from their three M-point peaks, (...).

    2 pi / <k>, <k> = sum k S^2 / sum S^2 over the circular average of S(M + k) about each M point,
    k up to half the distance between M points, k = 0 left out, summed over the three: the moment of
    :func:`lengths` for spins (..., N, 3), in lattice constants. A wall of the chirality, a vortex
    and a slow twist of the spins all widen the peaks.
    """
    if lattice.name != "triangular" or any(n % 2 for n in lattice.shape):
        raise ValueError(f"lattice: must be triangular with even lengths, got {lattice.shape}")
    s = as_tensor(spins, lattice.n_sites).double()
    rings = momentum_rings(lattice)
    near = torch.as_tensor(rings.radius <= np.pi / np.sqrt(3), device=s.device)
    weight = torch.zeros(s.shape[:-2] + near.shape, dtype=s.dtype, device=s.device)
    for wave in ((1, 0), (0, 1), (1, 1)):
        signs = torch.as_tensor(1.0 - 2.0 * (lattice.cells @ np.array(wave) % 2), device=s.device)
        components = (s * signs[:, None]).movedim(-1, 0)
        factor = sum(_spectrum(lattice, component) for component in components)
        weight += _plane_sum(rings, rings.average(torch.as_tensor(factor)) ** 2) * near
    return like(_wave_length(rings.radius, weight), spins)


def _field(lattice: Lattice, values: SpinArray) -> Tensor:
    x = real_tensor(values, "values")
    if lattice.n_basis != 1:
        raise ValueError(f"lattice: needs one site per cell, {lattice.name!r} has several")
    if x.ndim < 1 or x.shape[-1] != lattice.n_sites:
        raise ValueError(f"values: shape must be (..., {lattice.n_sites}), got {tuple(x.shape)}")
    return x


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x)


def _grid(lattice: Lattice, x: Tensor) -> Tensor:
    """(..., N) as (..., Ly, Lx)."""
    return x.unflatten(-1, (lattice.shape[1], lattice.shape[0]))


def _spectrum(lattice: Lattice, x: Tensor) -> Tensor:
    """S(q) = |sum_r exp(-i q.r) x|^2 / N on ``lattice.momenta``, (..., N), float64."""
    amplitude = torch.fft.fft2(_grid(lattice, x.double())).flatten(-2)
    return (amplitude.real**2 + amplitude.imag**2) / lattice.n_sites


@lru_cache(maxsize=8)
def _lines(
    lattice: Lattice,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps (k, 2) of the lattice lines, their lengths (k,) and shares of all directions (k,)."""
    corners, vectors = lattice.displacements(LINE_REACH)
    primitive = np.gcd(corners[:, 0], corners[:, 1]) == 1
    angle = np.arctan2(vectors[:, 1], vectors[:, 0])
    half = np.flatnonzero(primitive & (angle > -1e-9) & (angle < np.pi - 1e-9))
    half = half[np.argsort(angle[half])]
    turned = angle[half]
    ahead = np.append(turned[1:], turned[0] + np.pi)
    behind = np.append(turned[-1] - np.pi, turned[:-1])
    steps, length = corners[half, :2], np.linalg.norm(vectors[half], axis=-1)
    return steps, length, (ahead - behind) / (2 * np.pi)


def _half_width(lattice: Lattice, factor: Tensor) -> Tensor:
    rings = distance_rings(lattice)
    c = rings.average(torch.fft.ifft2(_grid(lattice, factor)).real.flatten(-2))
    c, radius = c / c[..., :1], torch.as_tensor(rings.radius, device=c.device)
    below = c < 0.5
    first = below.to(torch.uint8).argmax(-1, keepdim=True).clamp(min=1)
    outer, inner = c.gather(-1, first), c.gather(-1, first - 1)
    step = (radius[first] - radius[first - 1]) * (inner - 0.5) / (inner - outer)
    crossing = (radius[first - 1] + step).squeeze(-1)
    return torch.where(below.any(-1), crossing, torch.inf)


def _moment_length(lattice: Lattice, factor: Tensor) -> Tensor:
    rings = momentum_rings(lattice)
    return _wave_length(rings.radius, _plane_sum(rings, rings.average(factor) ** 2))


def _plane_sum(rings: Rings, values: Tensor) -> Tensor:
    """Every ring counted with its number of momenta."""
    return values * torch.as_tensor(rings.counts, device=values.device)


def _first_moment_length(lattice: Lattice, factor: Tensor) -> Tensor:
    return _wave_length(np.linalg.norm(lattice.momenta, axis=-1), factor)


def _wave_length(size: NDArray[np.float64], weight: Tensor) -> Tensor:
    """2 pi / mean of ``size`` (k,), the first entry (q = 0) left out."""
    weight, q = weight[..., 1:], torch.as_tensor(size[1:], device=weight.device)
    moment = weight @ q
    return torch.where(moment > 0, 2 * np.pi * weight.sum(-1) / moment, torch.inf)
