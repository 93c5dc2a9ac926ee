"""Landau-Lifshitz dynamics of unit spins in any field; knows no electrons and no network.

    dS/dt = -S x (h + eta) - alpha S x (S x (h + eta)),
    <eta_a(t) eta_b(t')> = 2 alpha kT / (1 + alpha^2) delta_ab delta(t - t')   (Stratonovich),

h = -dE/dS in units of t, time in hbar / t. With this noise the Boltzmann distribution exp(-E / kT)
is stationary: Garcia-Palacios and Lazaro, Phys. Rev. B 58, 14937 (1998),
doi 10.1103/PhysRevB.58.14937. For damping -> 0 spins precess about h without loss of energy.

Only the component of h perpendicular to S acts. Both schemes drop the parallel part before they
step: it is large in these models (|h| ~ J) and would enter their errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdml.spins import as_tensor, like

LocalField = Callable[[Tensor], Any]


@dataclass(frozen=True)
class LandauLifshitz:
    """Parameters of the equation of motion and of its discretisation.

    Parameters
    ----------
    dt : float
        Time step, hbar / t.
    damping : float
        alpha >= 0.
    kT : float
        Temperature of the bath, an energy >= 0.
    method : {'sib', 'heun'}
        Both are of second order at kT = 0 and cost two field evaluations a step; 'sib' keeps
        |S| = 1 by construction, 'heun' by renormalisation.
    """

    dt: float
    damping: float = 0.1
    kT: float = 0.0
    method: str = "sib"

    def __post_init__(self) -> None:
        if not (self.dt > 0 and self.dt < float("inf")):
            raise ValueError(f"dt: must be positive and finite, got {self.dt}")
        for name in ("damping", "kT"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: must be finite and >= 0, got {value}")
        if self.method not in STEPS:
            raise ValueError(f"method: must be one of {sorted(STEPS)}, got {self.method!r}")

    @property
    def noise_amplitude(self) -> float:
        """Standard deviation of each noise component held constant over one step."""
        return (2 * self.damping * self.kT / ((1 + self.damping**2) * self.dt)) ** 0.5


def integrate(
    spins: Any,
    local_field: LocalField,
    dt: float,
    n_steps: int,
    damping: float = 0.1,
    kT: float = 0.0,
    seed: int | None = None,
    method: str = "sib",
) -> Any:
    """The spins after ``n_steps`` steps.

    Parameters
    ----------
    spins : (..., N, 3)
        Start; any batch.
    local_field : callable
        Tensor (..., N, 3) -> field of the same shape.
    dt, n_steps, damping, kT, method
        See :class:`LandauLifshitz`.
    seed : int
        Seed of the noise; needed for kT > 0.

    Returns
    -------
    (..., N, 3) in the dtype and kind of ``spins``.

    Raises
    ------
    ValueError
        Bad argument.
    FloatingPointError
        The spins are no longer finite.
    """
    equation = LandauLifshitz(dt, damping, kT, method)
    if n_steps < 0 or int(n_steps) != n_steps:
        raise ValueError(f"n_steps: must be an integer >= 0, got {n_steps}")
    s = as_tensor(spins)
    rng = generator(equation, seed, s.device)
    for _ in range(int(n_steps)):
        s = advance(s, local_field, equation, rng)
    if not bool(torch.isfinite(s).all()):
        raise FloatingPointError(f"spins: not finite after {n_steps} steps of dt = {dt}")
    return like(s, spins)


def generator(
    equation: LandauLifshitz, seed: int | None, device: torch.device | str = "cpu"
) -> torch.Generator | None:
    """Seeded source of the noise; None at kT = 0. ValueError without a seed at kT > 0."""
    if equation.kT == 0:
        return None
    if seed is None:
        raise ValueError(f"seed: needed for kT > 0 (kT = {equation.kT})")
    return torch.Generator(device=device).manual_seed(seed)


def advance(
    spins: Tensor,
    local_field: LocalField,
    equation: LandauLifshitz,
    rng: torch.Generator | None = None,
) -> Tensor:
    """One step of the chosen scheme; the inner loop of every run."""
    noise = thermal_noise(spins, equation, rng)

    def rotation_vector(s: Tensor) -> Tensor:
        h = torch.as_tensor(local_field(s)).to(s)
        if h.shape != s.shape:
            raise ValueError(f"local_field: must return {tuple(s.shape)}, got {tuple(h.shape)}")
        return angular_velocity(s, h if noise is None else h + noise, equation.damping)

    return STEPS[equation.method](spins, rotation_vector, equation.dt)


def thermal_noise(
    spins: Tensor, equation: LandauLifshitz, rng: torch.Generator | None
) -> Tensor | None:
    """The random field of one step; None at kT = 0."""
    if equation.kT == 0:
        return None
    normal = torch.randn(spins.shape, generator=rng, dtype=spins.dtype, device=spins.device)
    return equation.noise_amplitude * normal


def angular_velocity(spins: Tensor, field: Tensor, damping: float) -> Tensor:
    """Omega = h_t + alpha S x h_t with dS/dt = Omega x S, h_t the transverse part of the field."""
    transverse = field - (field * spins).sum(-1, keepdim=True) * spins
    return transverse + damping * torch.linalg.cross(spins, transverse)


def heun_step(spins: Tensor, rotation_vector: Callable[[Tensor], Tensor], dt: float) -> Tensor:
    """Heun's predictor-corrector, the noise held over both stages (Stratonovich)."""
    start = torch.linalg.cross(rotation_vector(spins), spins)
    predicted = torch.nn.functional.normalize(spins + dt * start, dim=-1)
    end = torch.linalg.cross(rotation_vector(predicted), predicted)
    return torch.nn.functional.normalize(spins + (dt / 2) * (start + end), dim=-1)


def sib_step(spins: Tensor, rotation_vector: Callable[[Tensor], Tensor], dt: float) -> Tensor:
    """Semi-implicit scheme B of Mentink et al., J. Phys.: Condens. Matter 22, 176001 (2010),
    doi 10.1088/0953-8984/22/17/176001, with the field taken at the normalised mid point.

    Implicit in the spin, explicit in the field: each stage is an exact rotation.
    """
    predicted = rotate_about(spins, rotation_vector(spins), dt)
    middle = torch.nn.functional.normalize(spins + predicted, dim=-1)
    moved = rotate_about(spins, rotation_vector(middle), dt)
    # The rotation keeps |S| = 1 up to rounding; this stops float32 rounding from accumulating.
    return torch.nn.functional.normalize(moved, dim=-1)


def rotate_about(spins: Tensor, angular_velocity: Tensor, dt: float) -> Tensor:
    """S' solving S' - S = dt Omega x (S + S') / 2, a rotation (Cayley form) about Omega."""
    a = (dt / 2) * angular_velocity
    square = (a * a).sum(-1, keepdim=True)
    along = (a * spins).sum(-1, keepdim=True)
    return ((1 - square) * spins + 2 * along * a + 2 * torch.linalg.cross(a, spins)) / (1 + square)


STEPS = {"heun": heun_step, "sib": sib_step}
