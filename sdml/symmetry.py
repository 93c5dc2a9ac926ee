"""Planar point groups C_nv built from two generators, their real irreps and projectors.

Laws (tested): D(g) D(h) = D(gh); rows of the great orthogonality theorem; sum of d^2 = order;
projectors are idempotent, mutually orthogonal and sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["PointGroup", "irrep_basis", "projector"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PointGroup:
    """C_nv: rotations by 2 pi / n and mirrors, one of them holding the axis at ``mirror_angle``.

    Elements are C^r sigma^s with s = 0 first: index ``s * n + r``. B1 is even under the mirrors
    C^r sigma of even r; with the mirror along a nearest neighbour (the default, x) these are the
    mirrors through nearest neighbours, for the square and for the triangular lattice.
    """

    n_fold: int
    mirror_angle: float = 0.0

    def __post_init__(self) -> None:
        if self.n_fold not in (1, 2, 3, 4, 6):
            raise ValueError(f"n_fold: a planar lattice allows 1, 2, 3, 4, 6, got {self.n_fold}")

    @property
    def name(self) -> str:
        return f"C{self.n_fold}v"

    @property
    def order(self) -> int:
        return 2 * self.n_fold

    @cached_property
    def matrices(self) -> FloatArray:
        """(order, 2, 2) orthogonal matrices acting on the plane, made from the two generators."""
        rotation = _rotation(2 * np.pi / self.n_fold)
        frame = _rotation(self.mirror_angle)
        mirror = frame @ np.diag([1.0, -1.0]) @ frame.T
        powers = [np.linalg.matrix_power(rotation, r) for r in range(self.n_fold)]
        return np.stack(powers + [power @ mirror for power in powers])

    @cached_property
    def irreps(self) -> dict[str, FloatArray]:
        """Name -> (order, d, d) real orthogonal matrices; d is 1 or 2."""
        n = self.n_fold
        one = np.ones(n)
        alternating = np.where(np.arange(n) % 2, -1.0, 1.0)
        tables = {"A1": (one, one), "A2": (one, -one)}
        if n % 2 == 0:
            tables |= {"B1": (alternating, alternating), "B2": (alternating, -alternating)}
        irreps = {name: np.concatenate(parts).reshape(-1, 1, 1) for name, parts in tables.items()}
        winding = range(1, (n + 1) // 2)
        for k in winding:
            name = "E" if len(winding) == 1 else f"E{k}"
            turns = np.stack([_rotation(2 * np.pi * k * r / n) for r in range(n)])
            irreps[name] = np.concatenate([turns, turns @ np.diag([1.0, -1.0])])
        return irreps


def projector(
    group: PointGroup, irrep: str, representation: FloatArray, row: int = 0, column: int = 0
) -> FloatArray:
    """P^G_ab = (d / |G|) sum_g D^G_ab(g) rho(g) for a real representation rho, (n, n).

    P_aa projects on the a-th partner of every copy of the irrep; P_ba maps partner a to b.
    """
    if irrep not in group.irreps:
        raise ValueError(f"irrep: {group.name} has {list(group.irreps)}, got {irrep!r}")
    matrices = group.irreps[irrep]
    weights = matrices[:, row, column] * (matrices.shape[-1] / group.order)
    return np.einsum("g,gij->ij", weights, representation)


def irrep_basis(group: PointGroup, representation: FloatArray) -> dict[str, FloatArray]:
    """Orthonormal symmetry-adapted basis of a real orthogonal representation.

    Returns
    -------
    dict
        Irrep -> (n_copies, d, n): the coefficients f_a = basis[copy, a] @ x of a vector x turn
        into D(g) f when x turns into rho(g) x. Irreps that do not occur are left out.
    """
    basis = {}
    for irrep, matrices in group.irreps.items():
        first = _range_basis(projector(group, irrep, representation))
        partners = [
            first @ projector(group, irrep, representation, a, 0).T
            for a in range(matrices.shape[-1])
        ]
        if len(first):
            basis[irrep] = np.stack(partners, axis=1)
    return basis


def _range_basis(projection: FloatArray, tolerance: float = 1e-8) -> FloatArray:
    """Orthonormal rows spanning the range, by Gram-Schmidt on the columns in their given order.

    The order makes the choice deterministic and the vectors as local as the orbit allows.
    """
    rows: list[FloatArray] = []
    for column in projection.T:
        residual = column - sum((row * (row @ column) for row in rows), np.zeros_like(column))
        length = np.linalg.norm(residual)
        if length > tolerance:
            rows.append(residual / length)
    return np.array(rows).reshape(len(rows), len(projection))


def _rotation(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])
