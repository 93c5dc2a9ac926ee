"""Z2 vortices of tetrahedral order: points around which the frame of the spins turns once.

Within a domain of one chirality s = +-1 tetrahedral order is S_r = -s R e_r, with a rotation R and
the four vectors e_r = (cos M1.r, cos M2.r, cos M3.r) / sqrt 3: the order parameter is SO(3) x Z2.
Its loops fall in two classes, since SU(2) covers SO(3) twice; a loop that cannot be shrunk holds a
vortex, its own antivortex. Kawamura and Miyashita, J. Phys. Soc. Jpn. 53, 4138 (1984),
doi 10.1143/JPSJ.53.4138, for the 120 degree order of the same lattice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdml.lattice import Lattice
from sdml.spins import SpinArray, as_tensor, like

WAVES = ((1, 0), (0, 1), (1, 1))
NEIGHBORS = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))


def frames(lattice: Lattice, spins: SpinArray) -> tuple[Any, Any]:
    """The rotation R of every cell of 2 x 2 sites as a unit quaternion, and its chirality.

    Spins (..., N, 3) on the triangular lattice; cells (Y, X) hold the sites (2 X + 0..1,
    2 Y + 0..1). The order B_ka = (sqrt 3 / 4) sum S_k cos M_a.r of a cell is -s R in perfect order.
    s is the sign of -det B averaged over a cell and its six neighbours, since a single cell in the
    core of a vortex often has the wrong one; R is the rotation nearest to -s B in the mean square,
    whose quaternion is the top eigenvector of a 4 x 4 matrix: Horn, J. Opt. Soc. Am. A 4, 629
    (1987), doi 10.1364/JOSAA.4.000629.

    Returns
    -------
    quaternions : (..., Ly / 2, Lx / 2, 4)
        (w, x, y, z), each up to its sign.
    chirality : (..., Ly / 2, Lx / 2)
        1 or -1.
    """
    order = _cell_order(lattice, as_tensor(spins, lattice.n_sites))
    determinant = torch.linalg.det(order)
    around = determinant + sum(_shifted(determinant, x, y, 2) for x, y in NEIGHBORS)
    chirality = torch.where(around < 0, 1.0, -1.0).to(order)
    top = torch.linalg.eigh(_horn(-chirality[..., None, None] * order)).eigenvectors[..., -1]
    return like(top, spins), like(chirality, spins)


def vortices(lattice: Lattice, spins: SpinArray) -> tuple[Any, Any]:
    """Which triangles of cells hold a Z2 vortex, and which lie within one chirality.

    Two cells are joined by the shorter of the two rotations from one frame to the other: by
    quaternions q_i . q_j >= 0. Around a triangle (up and down, of three cells) an odd number of
    negative products cannot be gauged away: a vortex. Where the chirality changes within a triangle
    there is no common rotation, and it does not count.

    Spins (..., N, 3); returns two boolean arrays (..., 2, Ly / 2, Lx / 2).
    """
    q, chirality = frames(lattice, as_tensor(spins, lattice.n_sites))
    right, up = _shifted(q, 1, 0, 3), _shifted(q, 0, 1, 3)
    corner = _shifted(q, 1, 1, 3)
    links = ((q, right, up), (right, corner, up))
    holds = torch.stack([_is_odd(*triangle) for triangle in links], dim=-3)
    s_right, s_up = _shifted(chirality, 1, 0, 2), _shifted(chirality, 0, 1, 2)
    s_corner = _shifted(chirality, 1, 1, 2)
    sums = (chirality + s_right + s_up, s_right + s_corner + s_up)
    within = torch.stack([total.abs() > 2.5 for total in sums], dim=-3)
    return like(holds & within, spins), like(within, spins)


def vortex_density(lattice: Lattice, spins: SpinArray) -> Any:
    """Z2 vortices per area of the triangles of cells within one chirality, (...).

    In units of 1 / (lattice constant)^2, for spins (..., N, 3); 1 / sqrt(density) is their
    distance. Zero where no triangle lies within a chirality. At random frames the density is
    finite, about a third of the triangles: it means something where cells are ordered.
    """
    holds, within = vortices(lattice, as_tensor(spins, lattice.n_sites))
    area = 2 * abs(float(np.linalg.det(lattice.vectors)))  # of a triangle of cells
    counted = within.sum((-3, -2, -1)).clamp(min=1)
    return like(holds.sum((-3, -2, -1)) / (counted * area), spins)


def _cell_order(lattice: Lattice, s: Tensor) -> Tensor:
    """B (..., Ly / 2, Lx / 2, 3, 3): spin component k, wave a."""
    if lattice.name != "triangular" or any(n % 2 for n in lattice.shape):
        raise ValueError(f"lattice: must be triangular with even lengths, got {lattice.shape}")
    signs = 1.0 - 2.0 * (lattice.cells @ np.array(WAVES).T % 2)
    waves = torch.as_tensor(signs, device=s.device).to(torch.float64)
    products = s.double().unsqueeze(-1) * waves[:, None, :]
    width, length = lattice.shape[1] // 2, lattice.shape[0] // 2
    cells = products.reshape(*s.shape[:-2], width, 2, length, 2, 3, 3)
    return np.sqrt(3) / 4 * cells.sum((-3, -5))


def _horn(m: Tensor) -> Tensor:
    """The symmetric matrix K (..., 4, 4) with q.K q = tr(R(q)^T m)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m.unbind(-2))
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _shifted(values: Tensor, x: int, y: int, axis: int) -> Tensor:
    """The value of the cell (x, y) away; the cells' axes are -axis and -axis + 1."""
    return torch.roll(values, (-y, -x), dims=(-axis, -axis + 1))


def _is_odd(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    negative = [(p * q).sum(-1) < 0 for p, q in ((a, b), (b, c), (c, a))]
    return negative[0] ^ negative[1] ^ negative[2]
