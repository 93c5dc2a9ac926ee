"""States of two chiral domains with straight walls between them, and the energy of these walls.

The walls run along the first period of the lattice, m a1 + n a2 in the vectors of the triangular
lattice, and cut the second in halves. The state of the upper domain can be turned against the lower
by any rotation of the spins: a wall's energy is the smallest over these and over all textures,
which the relaxation finds from several starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdml import dynamics, spins
from sdml import lattice as lattices
from sdml.dynamics import LandauLifshitz
from sdml.lattice import Lattice
from sdml.model import ElectronicState, SDModel

FloatArray = NDArray[np.float64]
Solver = Callable[[SDModel, Any], ElectronicState]
PLANE = np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]])
TRIANGLES = np.array([[[0, 0], [1, 0], [0, 1]], [[1, 0], [1, 1], [0, 1]]])


@dataclass(frozen=True)
class Wall:
    """A relaxed state of two domains.

    Attributes
    ----------
    spins : (N, 3)
    energy : float
        Per length of wall, mean of the two walls, t per lattice constant.
    torque : float
        Largest |S x h| left.
    """

    spins: FloatArray
    energy: float
    torque: float


def oblique(direction: tuple[int, int], length: int, width: int) -> Lattice:
    """The triangular lattice with the periods length (m a1 + n a2) and width v2.

    v2 is the shortest vector that completes a primitive cell, counter-clockwise. (1, 0) runs along
    rows of nearest neighbours, (1, 1) at 30 degrees to them, (2, 1) at 19.1 degrees.
    """
    first = np.array(direction)
    if first.shape != (2,) or np.gcd(*first) != 1:
        raise ValueError(f"direction: must be two coprime integers, got {direction}")
    reach = int(np.abs(first).max()) + 1
    steps = np.array(list(product(range(-reach, reach + 1), repeat=2)))
    steps = steps[first[0] * steps[:, 1] - first[1] * steps[:, 0] == 1]
    second = steps[np.linalg.norm(steps @ PLANE, axis=1).argmin()]
    integers = np.array([first, second])
    corners = np.round(TRIANGLES @ np.linalg.inv(integers)).astype(int)
    triangles = tuple(tuple((int(x), int(y), 0) for x, y in triangle) for triangle in corners)
    name = f"triangular along ({first[0]}, {first[1]})"
    return lattices.from_cell(integers @ PLANE, [[0, 0]], (length, width), name, triangles)  # type: ignore[arg-type]


def one_domain(lattice: Lattice, chirality: int = 1) -> FloatArray:
    """Tetrahedral order (N, 3) on an :func:`oblique` lattice with even lengths."""
    cells = np.round(lattice.positions @ np.linalg.inv(PLANE)).astype(int)
    periods = np.array(lattice.vectors) * np.array(lattice.shape)[:, None]
    if (np.round(periods @ np.linalg.inv(PLANE)).astype(int) % 2).any():
        raise ValueError(f"lattice: must have even lengths, got {lattice.shape}")
    if chirality not in (-1, 1):
        raise ValueError(f"chirality: must be 1 or -1, got {chirality}")
    signs = 1.0 - 2.0 * (cells @ np.array([[1, 0, 1], [0, 1, 1]]) % 2)
    return -chirality * signs / np.sqrt(3)


def two_domains(lattice: Lattice, rotation: FloatArray | None = None) -> FloatArray:
    """Chirality 1 below, -1 above and turned by ``rotation`` (3, 3); sharp walls, (N, 3)."""
    above = lattice.cells[:, 1] >= lattice.shape[1] / 2
    turned = spins.rotate(one_domain(lattice, -1), np.eye(3) if rotation is None else rotation)
    return np.where(above[:, None], turned, one_domain(lattice, 1))


def cubic_rotations() -> FloatArray:
    """The 24 proper rotations of the cube, (24, 3, 3).

    They bring the four spins of the upper domain along those of the lower one, or against them.
    """
    found = []
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.diag(signs)[:, order]
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return np.array(found)


def wall_energy(model: SDModel, state: FloatArray, solve: Solver) -> float:
    """(E - E of one domain) / length of the two walls, for spins (N, 3), t per lattice constant.

    Both energies are of the same lattice, so that most of its finite-size error cancels. ``solve``
    is for instance :func:`sdml.exact.solve` or :func:`sdml.bands.repeated`.
    """
    excess = solve(model, state).energy - solve(model, one_domain(model.lattice)).energy
    return float(excess) / _wall_length(model.lattice)


def relaxed(
    model: SDModel,
    state: FloatArray,
    solve: Solver,
    equation: LandauLifshitz | None = None,
    n_steps: int = 200,
    tolerance: float = 1e-3,
) -> Wall:
    """The state after damped dynamics at kT = 0, ended where all torques are below a tolerance.

    Parameters
    ----------
    state : (N, 3)
        Start; a perfectly symmetric one may be a saddle point, add some noise.
    solve : callable
        (model, spins) -> state with ``local_field`` and ``energy``.
    equation : LandauLifshitz, optional
        By default a strongly damped one, dt = 2, damping = 4: the energy falls, and the way there
        does not matter.
    n_steps : int
        At most; checked every ten.
    tolerance : float
        Largest |S x h|, in t. A wall's energy is then good to about tolerance^2 times its sites
        over the stiffness; the field of a wrong spin is 0.1.

    Raises
    ------
    RuntimeError
        The energy has risen: the time step is too long for these fields.
    """
    equation = equation or LandauLifshitz(dt=2.0, damping=4.0)

    def local_field(s: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(solve(model, s).local_field)

    def largest_torque(found: ElectronicState) -> float:
        return float(np.linalg.norm(spins.torque(s, found.local_field), axis=-1).max())

    s = np.array(state, dtype=float)
    found = solve(model, s)
    last, torque = float(found.energy), largest_torque(found)
    for done in range(0, n_steps, 10):
        size = min(10, n_steps - done)
        s = dynamics.integrate(
            s, local_field, equation.dt, size, equation.damping, method=equation.method
        )
        found = solve(model, s)
        torque = largest_torque(found)
        if not found.energy <= last + 1e-6 * abs(last):
            raise RuntimeError(
                f"relaxation: energy rose from {last:.9g} to {found.energy:.9g}, "
                f"dt = {equation.dt} or damping = {equation.damping} is too large"
            )
        last = float(found.energy)
        if torque < tolerance:
            break
    return Wall(s, wall_energy(model, s, solve), torque)


def best_wall(
    model: SDModel,
    solve: Solver,
    starts: Iterable[FloatArray],
    n_kept: int = 3,
    noise: float = 0.05,
    seed: int = 0,
    **options: Any,
) -> Wall:
    """The lowest of the relaxed states that start from the ``n_kept`` lowest of ``starts``.

    Parameters
    ----------
    starts : iterable of (N, 3)
        For instance :func:`two_domains` for the :func:`cubic_rotations` and random ones.
    noise : float
        Added to every start, as of :func:`sdml.spins.perturbed`.
    options
        Of :func:`relaxed`.
    """
    given = list(starts)
    if not given or n_kept < 1:
        raise ValueError(f"starts: at least one is needed, got {len(given)}, n_kept = {n_kept}")
    order = np.argsort([float(solve(model, s).energy) for s in given])[:n_kept]
    rng = np.random.default_rng(seed)
    chosen = [spins.perturbed(given[k], noise, rng) for k in order]
    walls = [relaxed(model, s, solve, **options) for s in chosen]
    return min(walls, key=lambda wall: wall.energy)


def _wall_length(lattice: Lattice) -> float:
    return 2 * lattice.shape[0] * float(np.linalg.norm(lattice.vectors[0]))
