"""Electrons of spins that are repeated periodically: their state, bands and Chern numbers.

An electron that crosses the boundaries of the lattice takes up the phases theta = (theta_x,
theta_y). For a magnetic cell theta is the Bloch momentum, theta_i = k . (n_i a_i); for a large
lattice without order it is the twist of Niu, Thouless and Wu, Phys. Rev. B 31, 3372 (1985),
doi 10.1103/PhysRevB.31.3372. All phases sit on the bonds across the boundaries, so that
H(theta + 2 pi) = H(theta). Where ``repeated`` sums over the Bloch phases theta = (2 pi / n) m of
one repeat it solves, exactly, the lattice that holds n x n repeats; a small lattice then shows the
levels of a large one.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sdml.lattice import Lattice
from sdml.model import (
    ElectronicState,
    SDModel,
    electronic_energy,
    hamiltonian,
    occupations,
    site_expectations,
    spin_energy,
    spin_field,
)
from sdml.spins import one_configuration, real_tensor

FloatArray = NDArray[np.float64]
SQUARE = {"Γ": (0, 0), "X": (1 / 2, 0), "M": (1 / 2, 1 / 2)}
HEXAGON = {"Γ": (0, 0), "K": (2 / 3, 1 / 3), "M": (1 / 2, 0)}
"""Corners of the path through the zone, in reciprocal vectors; the path returns to the first."""


class ZonePath(NamedTuple):
    """Wave vectors along straight lines through the Brillouin zone.

    Attributes
    ----------
    momenta : (P, 2)
    distance : (P,)
        Length of the path up to there, in inverse lattice constants.
    ticks, labels
        Distance and name of every corner.
    """

    momenta: FloatArray
    distance: FloatArray
    ticks: FloatArray
    labels: tuple[str, ...]


class Spectrum(NamedTuple):
    """What the electrons make of some spins.

    Attributes
    ----------
    model : SDModel
    spins : (N, 3)
    state : ElectronicState
        Of :func:`repeated`.
    path : ZonePath
    levels : (P, 2N)
        Levels at the momenta of the path, in t.
    weights : (P, 2N)
        Their weight at that momentum, see :func:`unfolded`.
    """

    model: SDModel
    spins: FloatArray
    state: ElectronicState
    path: ZonePath
    levels: FloatArray
    weights: FloatArray


def repeated(model: SDModel, spins: Any, n_phases: int = 4) -> ElectronicState:
    """State of spins (N, 3) repeated ``n_phases`` times along both directions, periodic.

    Returns
    -------
    ElectronicState
        Numpy, of one repeat: energy (total of N sites, t), local_field (N, 3), density (N,),
        chemical_potential; eigenvalues (n_phases^2 2N,) of all phases, ascending.

    Raises
    ------
    ValueError
        ``n_phases`` below 1, or bad ``spins``.
    """
    phases = _grid(n_phases, smallest=1).reshape(-1, 2)
    s = one_configuration(spins, model.lattice.n_sites).cpu()
    levels, columns = np.linalg.eigh(bloch_hamiltonian(model, s, phases))
    ascending, order = torch.from_numpy(levels).flatten().sort()
    filled, mu = occupations(model, ascending)
    share = filled[order.argsort()].reshape(levels.shape) / len(phases)
    found = map(site_expectations, torch.from_numpy(columns), share)
    moment, density = (sum(parts) for parts in zip(*found, strict=True))
    energy = electronic_energy(model, ascending, filled, mu) / len(phases) + spin_energy(model, s)
    field = model.exchange_coupling * moment + spin_field(model, s.double())
    return ElectronicState(
        float(energy), field.numpy(), density.numpy(), float(mu), ascending.numpy()
    )


def zone_path(lattice: Lattice, n_points: int = 90) -> ZonePath:
    """About ``n_points`` wave vectors through the corners of the zone, evenly spaced, and back.

    Raises
    ------
    ValueError
        The zone is neither a square nor a regular hexagon, or fewer than 3 points.
    """
    a = lattice.reduced_vectors / lattice.spacing
    fits = [np.allclose(a @ a.T, [[1, x], [x, 1]], atol=1e-4) for x in (0, 1 / 2)]
    if not any(fits):
        raise ValueError(
            f"lattice: its zone must be a square or a regular hexagon, got {lattice.vectors}"
        )
    if n_points < 3:
        raise ValueError(f"n_points: must be at least 3, got {n_points}")
    zone = HEXAGON if fits[1] else SQUARE
    labels = (*zone, "Γ")
    corners = np.array([zone[name] for name in labels])
    corners = corners @ (2 * np.pi * np.linalg.inv(lattice.reduced_vectors).T)
    ticks = np.append(0, np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum())
    # The corners themselves are among the points: levels cross there.
    distance = np.unique(np.append(np.linspace(0, ticks[-1], n_points), ticks))
    momenta = np.stack([np.interp(distance, ticks, column) for column in corners.T], axis=-1)
    return ZonePath(momenta, distance, ticks, labels)


def unfolded(model: SDModel, spins: Any, momenta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Levels (P, 2N) of repeated spins and their weights (P, 2N) at the momenta (P, 2).

        w_n(k) = sum_sigma |sum_i exp(-i k . r_i) psi_n(i sigma)|^2 / N,     sum_n w_n = 2,

    the share of level n in the plane waves of momentum k: what photoemission would see. Without
    exchange it is 1 on the band and 0 on its images that the larger cell folds back; the bands of a
    primitive cell with several sites share it. Ku, Berlijn and Lee, Phys. Rev. Lett. 104, 216401
    (2010), doi 10.1103/PhysRevLett.104.216401.
    """
    lattice = model.lattice
    sides = np.array(lattice.vectors) * np.array(lattice.shape)[:, None]
    momenta = real_tensor(momenta, "momenta").double().numpy(force=True)
    levels, columns = np.linalg.eigh(bloch_hamiltonian(model, spins, momenta @ sides.T))
    wave = np.exp(-1j * momenta @ lattice.positions.T)  # (P, N)
    parts = (np.einsum("pi,pin->pn", wave, columns[:, sigma::2]) for sigma in (0, 1))
    return levels, sum(abs(part) ** 2 for part in parts) / lattice.n_sites


def spectral_function(found: Spectrum, energies: FloatArray, width: float) -> FloatArray:
    """A(k, e) = sum_n w_n(k) g(e - e_n), (E, P) in 1/t.

    The Gaussians g have the standard deviation ``width``, in t: ValueError unless it is positive.
    """
    if not 0 < width < np.inf:
        raise ValueError(f"width: must be positive, got {width}")
    energies = real_tensor(energies, "energies").double().numpy(force=True)
    distance = (energies[:, None, None] - found.levels) / width  # (E, P, 2N)
    norm = width * np.sqrt(2 * np.pi)
    return np.einsum("epn,pn->ep", np.exp(-(distance**2) / 2), found.weights) / norm


def spectrum(model: SDModel, spins: Any, n_phases: int = 4, n_points: int = 90) -> Spectrum:
    """State and bands of spins (N, 3) repeated periodically; see :func:`repeated`, `unfolded`."""
    path = zone_path(model.lattice, n_points)
    state = repeated(model, spins, n_phases)
    s = one_configuration(spins, model.lattice.n_sites).numpy(force=True)
    return Spectrum(model, s, state, path, *unfolded(model, s, path.momenta))


# --- topology

SMALLEST_GAP = 1e-6
"""Bands closer than this (in t, of ``model.energy_unit``) on the grid count as touching."""


def bloch_hamiltonian(model: SDModel, spins: Any, phases: Any) -> NDArray[np.complex128]:
    """H(theta) for spins (N, 3) and phases (..., 2), (..., 2N, 2N), spin-orbital index 2 i + sigma.

    Where j lies n = (n_x, n_y) repeats away from i, the hop from j to i takes exp(i theta . n). A
    single cell will do: hops that lead to its own repeats are bonds like others.
    """
    s = one_configuration(spins, model.lattice.n_sites).cpu()
    theta = real_tensor(phases, "phases").double().numpy(force=True)
    if theta.shape[-1:] != (2,):
        raise ValueError(f"phases: shape must be (..., 2), got {theta.shape}")
    electrons = hamiltonian(dataclasses.replace(model, hopping=0.0, hops=()), s).numpy()
    found = np.tile(electrons, (*theta.shape[:-1], 1, 1))
    rows, columns, windings, values = model.hopping_links.entries()
    # A pair of sites of a small cell has several bonds.
    np.add.at(found, (..., rows, columns), values * np.exp(1j * theta @ windings.T))  # type: ignore[arg-type]
    return found


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
    if direct < SMALLEST_GAP * model.energy_unit:
        raise ValueError(f"spins: no gap above {n} levels, the smallest is {direct:.3g}")
    filled = states[..., :n]
    u_x, u_y = (
        np.linalg.det(filled.conj().swapaxes(-1, -2) @ np.roll(filled, -1, axis)) for axis in (0, 1)
    )
    around = u_x * np.roll(u_y, -1, 0) * np.roll(u_x, -1, 1).conj() * u_y.conj()
    # The phases follow the vectors: theirs may be the other way around.
    return model.lattice.orientation * round(float(np.angle(around).sum() / (2 * np.pi)))


def _grid(n_phases: int, smallest: int = 3) -> FloatArray:
    """(n, n, 2) phases in [0, 2 pi)."""
    if n_phases < smallest or n_phases % 1:
        raise ValueError(f"n_phases: must be a whole number >= {smallest}, got {n_phases}")
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
