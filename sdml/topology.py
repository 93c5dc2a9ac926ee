"""Chern number of the filled levels and the gap above them, for spins repeated periodically.

An electron that crosses the boundaries of the lattice takes up the phases theta = (theta_x,
theta_y). For a magnetic cell theta is the Bloch momentum, theta_i = k . (n_i a_i); for a large
lattice without order it is the twist of Niu, Thouless and Wu, Phys. Rev. B 31, 3372 (1985),
doi 10.1103/PhysRevB.31.3372. All phases sit on the bonds across the boundaries, so that
H(theta + 2 pi) = H(theta).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdml.model import SDModel, hamiltonian
from sdml.spins import as_tensor

SMALLEST_GAP = 1e-6
"""Bands closer than this (in units of t) on the grid count as touching."""


def bloch_hamiltonian(model: SDModel, spins: Any, phases: Any) -> NDArray[np.complex128]:
    """H(theta) for spins (N, 3) and phases (..., 2), (..., 2N, 2N), spin-orbital index 2 i + sigma.

    Where j lies n = (n_x, n_y) repeats away from i, the hop from j to i takes exp(i theta . n).
    """
    s = as_tensor(spins, model.lattice.n_sites)
    if s.ndim != 2:
        raise ValueError(f"spins: one configuration (N, 3) is needed, got {tuple(s.shape)}")
    theta = np.asarray(phases, dtype=float)
    if theta.shape[-1:] != (2,):
        raise ValueError(f"phases: shape must be (..., 2), got {theta.shape}")
    n = model.lattice.n_sites
    hopping = np.zeros((*theta.shape[:-1], n, n), dtype=complex)
    for shell, amplitude in enumerate(model.hopping, start=1):  # type: ignore[arg-type]
        if amplitude:
            i, j = model.lattice.directed_bonds(shell).T
            turns = np.exp(1j * theta @ model.lattice.windings(shell).T)
            for bond in range(len(i)):  # a pair of sites of a small cell has several bonds
                hopping[..., i[bond], j[bond]] -= amplitude * turns[..., bond]
    exchange = hamiltonian(dataclasses.replace(model, hopping=0.0), s)
    matrix = np.zeros((*theta.shape[:-1], n, 2, n, 2), dtype=complex)
    for sigma in (0, 1):
        matrix[..., :, sigma, :, sigma] = hopping
    return matrix.reshape(*theta.shape[:-1], 2 * n, 2 * n) + torch.as_tensor(exchange).numpy()


def band_gap(model: SDModel, spins: Any, n_phases: int = 12) -> float:
    """Lowest empty less highest filled level over n_phases x n_phases phases, in t.

    The indirect gap of the repeated state at the model's filling; negative where bands overlap.
    The grid holds theta = 0.
    """
    levels = np.linalg.eigvalsh(bloch_hamiltonian(model, spins, _grid(n_phases)))
    n = _n_filled(model)
    return float(levels[..., n].min() - levels[..., n - 1].max())


def chern_number(model: SDModel, spins: Any, n_phases: int = 12) -> int:
    """Chern number of the filled levels, for spins (N, 3) repeated on ``model.lattice``.

    C = (1 / 2 pi) sum of the field strengths F = arg(U_x U_y U_x* U_y*) of a grid of phases, with
    links U = det <u_m(theta)| u_n(theta + step)>: an integer for any grid, the right one where
    |F| < pi. Fukui, Hatsugai and Suzuki, J. Phys. Soc. Jpn. 74, 1674 (2005),
    doi 10.1143/JPSJ.74.1674. The Hall conductance is |C| e^2 / h, of opposite sign in the two
    chiral domains; a wall between them carries two edge channels.

    Raises
    ------
    ValueError
        The filling is no whole number of levels, or no gap is left above them on the grid.
    """
    n = _n_filled(model)
    levels, states = np.linalg.eigh(bloch_hamiltonian(model, spins, _grid(n_phases)))
    direct = float((levels[..., n] - levels[..., n - 1]).min())
    if direct < SMALLEST_GAP:
        raise ValueError(f"spins: no gap above {n} levels, the smallest is {direct:.3g}")
    filled = states[..., :n]
    u_x, u_y = (
        np.linalg.det(filled.conj().swapaxes(-1, -2) @ np.roll(filled, -1, axis)) for axis in (0, 1)
    )
    around = u_x * np.roll(u_y, -1, 0) * np.roll(u_x, -1, 1).conj() * u_y.conj()
    return round(float(np.angle(around).sum() / (2 * np.pi)))


def _grid(n_phases: int) -> NDArray[np.float64]:
    """(n, n, 2) phases in [0, 2 pi)."""
    if n_phases < 3:
        raise ValueError(f"n_phases: must be at least 3, got {n_phases}")
    theta = 2 * np.pi * np.arange(n_phases) / n_phases
    return np.stack(np.meshgrid(theta, theta, indexing="ij"), axis=-1)


def _n_filled(model: SDModel) -> int:
    """Whole number of filled levels of one repeat."""
    number = model.n_electrons
    if number is None or abs(number - round(number)) > 1e-9:
        raise ValueError(f"filling: must fill whole levels of the lattice, got {model.filling}")
    if not 0 < round(number) < 2 * model.lattice.n_sites:
        raise ValueError(f"filling: must leave filled and empty levels, got {model.filling}")
    return round(number)
