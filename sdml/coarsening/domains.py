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
2 pi / <q> (studies/ising.py). The wave length feels the box first, as q = 0 is left out: Ising
domains need 2 pi / <q> itself below a quarter of the box.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdml import observables
from sdml.lattice import Lattice
from sdml.observables import momentum_rings, site_values, varying, wave_length
from sdml.spins import SpinArray, as_tensor, like

__all__ = ["ESTIMATORS", "chirality_sign", "domain_lengths", "imbalance", "lengths", "spin_length"]

ESTIMATORS = tuple(observables.LENGTH_ESTIMATORS)
"""wall, correlation, moment, first_moment."""


def _smoothed(lattice: Lattice, x: Tensor) -> Tensor:
    """Mean over a site and its nearest neighbours, (..., N)."""
    grid = x.unflatten(-1, lattice.shape[::-1])
    steps = lattice.displacements(lattice.spacing)[0]
    moved = [torch.roll(grid, (-int(dy), -int(dx)), dims=(-2, -1)) for dx, dy, _ in steps]
    return (grid + sum(moved)).flatten(-2) / (1 + len(steps))


def chirality_sign(lattice: Lattice, spins: SpinArray) -> Any:
    """Sign, 1 or -1, of the chirality averaged over the triangles of a site and its neighbours.

    Spins (..., N, 3), result (..., N). A triangle counts as often as it has corners among them.
    """
    chirality = site_values(lattice, observables.site_chirality(lattice, spins), one_per_cell=True)
    return like(_sign(_smoothed(lattice, chirality)), spins)


def domain_lengths(lattice: Lattice, spins: SpinArray) -> Any:
    """Lengths of the chiral domains by the four `ESTIMATORS`, (..., 4).

    Spins (..., N, 3); the :func:`lengths` of their :func:`chirality_sign`.
    """
    return lengths(lattice, chirality_sign(lattice, spins))


def imbalance(lattice: Lattice, spins: SpinArray) -> Any:
    """<sign chi>, (...), in [-1, 1]: how far one kind of domain has won, for spins (..., N, 3)."""
    return chirality_sign(lattice, spins).mean(-1)


def lengths(lattice: Lattice, values: SpinArray) -> Any:
    """Lengths of the domains of a field by the four `ESTIMATORS`, (..., 4).

    Those of :func:`sdml.observables.domain_length` for the sign of ``values`` (..., N) alone (zero
    is positive), on a lattice of one site a cell.
    """
    x = varying(_sign(site_values(lattice, values, one_per_cell=True)))
    found = [length(lattice, x) for length in observables.LENGTH_ESTIMATORS.values()]
    return like(torch.stack(found, dim=-1), values)


def spin_length(lattice: Lattice, spins: SpinArray) -> Any:
    """Length of the tetrahedral order of the spins from their three M-point peaks, (...).

    2 pi / <k>, <k> = sum k S^2 / sum S^2 over the circular average of S(M + k) about each M point,
    k up to half the distance between M points, k = 0 left out, summed over the three: the moment of
    :func:`lengths` for spins (..., N, 3). A wall of the chirality, a vortex
    and a slow twist of the spins all widen the peaks. Infinite where there is nothing about them
    but rounding.
    """
    if lattice.name != "triangular" or lattice.n_basis > 1 or any(n % 2 for n in lattice.shape):
        needs = "must be triangular, one site a cell, with even lengths"
        raise ValueError(f"lattice: {needs}, got {lattice.name!r} of {lattice.shape}")
    given = as_tensor(spins, lattice.n_sites)
    s, rounding = given.double(), (10 * torch.finfo(given.dtype).eps) ** 2 * lattice.n_sites
    rings = momentum_rings(lattice)
    near = torch.as_tensor(rings.radius * lattice.spacing <= np.pi / np.sqrt(3), device=s.device)
    weight = torch.zeros(s.shape[:-2] + near.shape, dtype=s.dtype, device=s.device)
    for wave in ((1, 0), (0, 1), (1, 1)):
        signs = torch.as_tensor(1.0 - 2.0 * (lattice.cells @ np.array(wave) % 2), device=s.device)
        factor = rings.average(observables.structure_factor(lattice, s * signs[:, None]))
        around = rings.plane_weight(factor * near)[..., 1:].sum(-1, keepdim=True)
        weight += rings.plane_weight(factor**2) * near * (around > rounding)
    return like(wave_length(rings.radius, weight), spins)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x)
