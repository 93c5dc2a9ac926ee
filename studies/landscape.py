"""The energy landscape of spins at kT = 0: states at rest and the barriers between them.

Engines enter as ``potential(spins) -> (energy, local_field)``; :func:`exact_potential` is one. A
state at rest has no torque, S x h = 0. The barrier between two of them is the highest point of the
minimum-energy path, found by the geodesic nudged elastic band: Bessarab, Uzdin and Jonsson,
Comput. Phys. Commun. 196, 335 (2015), doi 10.1016/j.cpc.2015.07.001; climbing image: Henkelman,
Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (2000), doi 10.1063/1.1329672.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from sdml import exact
from sdml.model import SDModel
from sdml.spins import as_tensor, normalize, transverse

FloatArray = NDArray[np.float64]
Potential = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True)
class Band:
    """A chain of images between two states.

    Attributes
    ----------
    images : (P, N, 3)
    energies : (P,)
    residual : float
        Largest component of the field perpendicular to the path, over images and sites; zero for
        the minimum-energy path.
    """

    images: FloatArray
    energies: FloatArray
    residual: float

    @property
    def barrier(self) -> float:
        """Highest energy less that of the first image."""
        return float(self.energies.max() - self.energies[0])


def exact_potential(model: SDModel) -> Potential:
    """Energy and local field by dense diagonalization."""

    def potential(spins: FloatArray) -> tuple[float, FloatArray]:
        state = exact.solve(model, spins)
        return float(state.energy), state.local_field

    return potential


def relaxed(
    potential: Potential, spins: Any, tolerance: float = 1e-4, max_steps: int = 500
) -> tuple[FloatArray, float]:
    """The state at rest below ``spins`` (N, 3) and its energy.

    Quasi-Newton (L-BFGS) in v with S = v / |v|: dE/dv = -(h - (h.S) S) / |v|. A collinear start has
    no torque by symmetry and stays as it is: perturb it (:func:`sdml.spins.perturbed`).

    Parameters
    ----------
    tolerance : float
        Largest component of the transverse field allowed at the end, in units of t.

    Raises
    ------
    RuntimeError
        Not reached within ``max_steps`` steps; the message tells what was.
    """
    start = as_tensor(spins).detach().cpu().double().numpy()

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        vectors = flat.reshape(start.shape)
        s = normalize(vectors)
        energy, field = potential(s)
        slope = transverse(s, field) / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return energy, -slope.ravel()

    options = {"gtol": tolerance, "ftol": 0.0, "maxiter": max_steps, "maxcor": 20}
    found = scipy.optimize.minimize(
        objective, start.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    residual = float(abs(found.jac).max())
    # Close to the bottom the line search stops on rounding of the energy: 3 tolerances still count.
    if not residual <= 3 * tolerance:
        raise RuntimeError(
            f"relaxed: transverse field {residual:.2g} after {found.nit} steps, "
            f"tolerance {tolerance:g}; last energy {found.fun}"
        )
    return normalize(found.x.reshape(start.shape)), float(found.fun)


def thermal_torque(
    potential: Potential, spins: Any, kT: float, n_probes: int = 4, seed: int = 0
) -> float:
    """The rms torque per spin in equilibrium at the bath temperature kT, near the state ``spins``.

    For unit spins with weight exp(-E / kT) partial integration gives, exactly,

        < sum_i |S_i x h_i|^2 > = kT < sum_i D_i E >,

    with D_i the Laplacian on the sphere of spin i. Its sum is taken at ``spins`` (N, 3), a snapshot
    that stands for the ensemble, from second derivatives along ``n_probes`` random turns of all
    spins (two solutions each; Hutchinson's trace, Commun. Stat. Simul. Comput. 18, 1059 (1989),
    doi 10.1080/03610918908812806). A torque above this value tells that the state still moves.
    """
    s = as_tensor(spins).detach().cpu().double().numpy()
    if not kT >= 0 or n_probes < 1:
        raise ValueError(f"kT, n_probes: must be >= 0 and >= 1, got {kT} and {n_probes}")
    rng = np.random.default_rng(seed)
    total = 0.0
    for _ in range(n_probes):
        total += _curvature(potential, s, transverse(s, rng.standard_normal(s.shape)))
    return float(np.sqrt(kT * max(total, 0.0) / (n_probes * len(s))))


def _curvature(potential: Potential, s: FloatArray, turn: FloatArray, step: float = 1e-3) -> float:
    """d^2 E / de^2 when every spin moves on its great circle with the velocity ``turn``."""
    speed = np.linalg.norm(turn, axis=-1, keepdims=True)
    along = turn / speed
    slopes = []
    for part in (-step, step):
        cosine, sine = np.cos(part * speed), np.sin(part * speed)
        velocity = speed * (cosine * along - sine * s)
        slopes.append(-(velocity * potential(cosine * s + sine * along)[1]).sum())
    return float((slopes[1] - slopes[0]) / (2 * step))


def geodesic(
    start: Any, end: Any, n_images: int, via: tuple[float, float, float] = (1.0, 0.0, 0.0)
) -> FloatArray:
    """Every spin turned along its great circle from ``start`` to ``end``, (n_images, N, 3).

    Opposite spins turn through the direction ``via``.
    """
    first, last = (as_tensor(s).detach().cpu().double().numpy() for s in (start, end))
    if first.shape != last.shape or n_images < 2:
        raise ValueError(
            f"start, end, n_images: need equal shapes and at least 2 images, got {first.shape}, "
            f"{last.shape} and {n_images}"
        )
    cosine = (first * last).sum(-1, keepdims=True).clip(-1, 1)
    angle = np.arccos(cosine)
    # Opposite spins have no plane of their own, and parallel ones need none.
    away = np.where(cosine < -1 + 1e-9, np.array(via), last)
    away = away - (away * first).sum(-1, keepdims=True) * first
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    away = np.divide(away, length, out=np.zeros_like(away), where=length > 1e-12)
    part = np.linspace(0, 1, n_images)[:, None, None]
    return normalize(np.cos(part * angle) * first + np.sin(part * angle) * away)


def minimum_energy_path(
    potential: Potential,
    images: Any,
    n_steps: int = 100,
    step: float = 0.2,
    spring: float = 0.2,
    tolerance: float = 1e-3,
) -> Band:
    """The band relaxed from a first path (P, N, 3) with its ends held.

    Every image moves along the field perpendicular to the path, springs keep them apart along it;
    in the second half the highest image climbs. Stops at ``tolerance`` or after ``n_steps``:
    ``residual`` says how far it came, and the barrier is an upper bound up to that.

    Parameters
    ----------
    step : float
        Of the descent, times the field; stable below 2 / largest curvature.
    spring : float
        Strength of the springs, in units of t per squared radian.
    """
    chain = as_tensor(images).detach().cpu().double().numpy().copy()
    if chain.ndim != 3 or len(chain) < 3:
        raise ValueError(f"images: shape must be (P >= 3, N, 3), got {chain.shape}")
    fixed = potential(chain[0])[0], potential(chain[-1])[0]
    for count in range(n_steps + 1):
        solved = [potential(one) for one in chain[1:-1]]
        energies = np.array([fixed[0], *(energy for energy, _ in solved), fixed[1]])
        climbing = int(energies[1:-1].argmax()) + 1 if count > n_steps // 2 else -1
        force, residual = _band_force(chain, energies, [f for _, f in solved], spring, climbing)
        done = residual < tolerance and climbing > 0
        if done or count == n_steps:
            break
        chain[1:-1] = normalize(chain[1:-1] + step * force)
    return Band(chain, energies, residual)


def _band_force(
    chain: FloatArray, energies: FloatArray, fields: list[FloatArray], spring: float, climbing: int
) -> tuple[FloatArray, float]:
    """What moves the inner images (P - 2, N, 3), and the largest component that should vanish."""
    forces, residual = [], 0.0
    for p, field in enumerate(fields, start=1):
        s = chain[p]
        ahead, behind = chain[p + 1] - s, s - chain[p - 1]
        tangent = transverse(s, _upwind(energies[p - 1 : p + 2], ahead, behind))
        tangent /= max(np.linalg.norm(tangent), 1e-12)
        full = transverse(s, field)
        along = (full * tangent).sum()
        across = full - along * tangent
        stretch = 0.0 if p == climbing else spring * _stretch(chain[p - 1 : p + 2])
        force = across + (-along if p == climbing else stretch) * tangent
        residual = max(residual, float(abs(across).max()))
        forces.append(force)
    return np.array(forces), residual


def _stretch(three: FloatArray) -> float:
    """Geodesic distance to the next image less that to the one before."""
    chord = np.linalg.norm(np.diff(three, axis=0), axis=-1)
    behind, ahead = np.linalg.norm(2 * np.arcsin(np.clip(chord / 2, 0, 1)), axis=-1)
    return float(ahead - behind)


def _upwind(energies: FloatArray, ahead: FloatArray, behind: FloatArray) -> FloatArray:
    """Tangent towards the higher neighbour; between the two, weighted, at an extremum."""
    before, here, after = energies
    if after > here > before:
        return ahead
    if after < here < before:
        return behind
    large, small = sorted((abs(after - here), abs(before - here)), reverse=True)
    weights = (large, small) if after > before else (small, large)
    return weights[0] * ahead + weights[1] * behind + 1e-12 * (ahead + behind)
