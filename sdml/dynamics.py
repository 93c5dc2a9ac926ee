"""Landau-Lifshitz dynamics of unit spins in any field; knows no electrons and no network.

    dS/dt = -S x (h + eta) - alpha S x (S x (h + eta)),
    <eta_a(t) eta_b(t')> = 2 alpha kT / (1 + alpha^2) delta_ab delta(t - t')   (Stratonovich),

h = -dE/dS in units of t, time in hbar / t. With this noise the Boltzmann distribution exp(-E / kT)
is stationary: Garcia-Palacios and Lazaro, Phys. Rev. B 58, 14937 (1998),
doi 10.1103/PhysRevB.58.14937. For damping -> 0 spins precess about h without loss of energy.

Only the component of h perpendicular to S acts. All schemes drop the parallel part before they
step: it is large in these models (|h| ~ J) and would enter their errors.

| method     | order | |S| = 1        | energy at damping 0            | fields a step       |
|------------|-------|----------------|--------------------------------|---------------------|
| 'heun'     | 2     | renormalised   | drifts as dt^2                 | 2                   |
| 'sib'      | 2     | a rotation     | drifts as dt^2                 | 2                   |
| 'adams'    | 2     | a rotation     | drifts as dt^2                 | 1, the first step 2 |
| 'neutral'  | 2     | a rotation     | drifts as dt^2                 | 1, the first two 2  |
| 'midpoint' | 2     | a rotation     | kept if h is linear in S, else | 2 + iterations,     |
|            |       |                | no drift of the lowest order   | 5 to 12 in practice |

The order is that at kT = 0. With noise all are of weak order 1 and converge to the Stratonovich
solution, the noise being held over a step.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdml.spins import Seed, as_tensor, like, real_array, real_tensor, seed_number, transverse_part

LocalField = Callable[[Tensor], Any]
Generators = torch.Generator | Sequence[torch.Generator]
MIDPOINT_ITERATIONS = 300
MIDPOINT_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Largest change of a spin component between the last two iterates."""
SINGLE_PRECISION, STALLED = 4e-6, 5
"""Changes below this that no longer shrink for so many iterations are the rounding of a field in
single precision."""


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
    method : {'sib', 'heun', 'adams', 'neutral', 'midpoint'}
        See the table of the module.
    """

    dt: float
    damping: float = 0.1
    kT: float = 0.0
    method: str = "sib"

    def __post_init__(self) -> None:
        for name in ("dt", "damping", "kT"):  # numpy's would not go into the headers of stores
            object.__setattr__(self, name, float(real_array(getattr(self, name), name)))
        if not (self.dt > 0 and self.dt < float("inf")):
            raise ValueError(f"dt: must be positive and finite, got {self.dt}")
        for name in ("damping", "kT"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: must be finite and >= 0, got {value}")
        if self.method not in METHODS:
            raise ValueError(f"method: must be one of {sorted(METHODS)}, got {self.method!r}")

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
    seed: Seed | None = None,
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
    seed : int or generator
        Of the noise; needed for kT > 0. The noise of a number is the same in every call; that of a
        ``torch.Generator``, on the device of the spins, goes on from call to call: the way to a
        long run in pieces. A generator of numpy gives one number a call.

    Returns
    -------
    (..., N, 3) in the dtype and kind of ``spins``.

    Raises
    ------
    ValueError
        Bad argument.
    FloatingPointError
        The spins are no longer finite.
    RuntimeError
        The iteration of 'midpoint' does not converge: dt is too large.
    """
    equation = LandauLifshitz(dt, damping, kT, method)
    if n_steps < 0 or int(n_steps) != n_steps:
        raise ValueError(f"n_steps: must be an integer >= 0, got {n_steps}")
    s = as_tensor(spins)
    rng = generator(equation, seed, s.device)
    _, s = next(trajectory(s, local_field, equation, [n_steps], rng))
    return like(s, spins)


def generator(
    equation: LandauLifshitz, seed: Seed | None, device: torch.device | str = "cpu"
) -> torch.Generator | None:
    """Source of the noise, a seed that is one itself; None at kT = 0.

    ValueError for a seed that is not allowed, and without one at kT > 0.
    """
    if equation.kT == 0:
        return None
    if seed is None:
        raise ValueError(f"seed: needed for kT > 0 (kT = {equation.kT})")
    if isinstance(seed, torch.Generator):
        if seed.device.type != torch.device(device).type:
            raise ValueError(f"seed: must be a generator on {device}, got one on {seed.device}")
        return seed
    number = seed_number(seed)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"seed: must have 64 bits, got {seed}")
    return torch.Generator(device=device).manual_seed(number)


def suggested_dt(
    frequency: Any, damping: float = 0.1, kT: float = 0.0, error: float = 1e-3, method: str = "sib"
) -> float:
    """A time step at which the rate lambda of the spins errs by ``error``.

    Close to its axis a spin obeys dz/dt = lambda z, z = S_x + i S_y, lambda = omega (i - alpha),
    for a precession frequency omega. With x = lambda dt, a step multiplies z by

        'sib', 'heun':  1 + x + x^2 / 2 =          exp(x - x^3 / 6 + x^4 / 8 ...),
        'adams':                                   exp(x - 5 x^3 / 12 + x^4 / 4 ...),
        'neutral':                                 exp(x - x^3 / 4 + 0 x^4 ...),
        'midpoint':     (1 + x / 2) / (1 - x / 2) = exp(x + x^3 / 12 + 0 x^4 ...),

    a root of the characteristic polynomial for those with a memory, see :func:`adams_step`. With
    a for the factor of x^3 and b for that of x^4, the rate errs by a |x|^2 of itself, which is kept
    below ``error``. The damping alone errs by 3 a |x|^2 of itself, and by b |x|^3 / alpha at fourth
    order, which is kept below 0.1. The noise turns a spin as well, by a mean square angle of
    4 alpha kT dt a step, which stands in the place of |x|^2:

        |x| = min(sqrt(error / a), cbrt(0.1 alpha / b)),  the latter for alpha > 0,
        dt = min(|x| / (omega sqrt(1 + alpha^2)),  error / (4 a alpha kT)).

    Parameters
    ----------
    frequency : float or (..., 3)
        The highest precession frequency omega, or fields of which the longest counts: transverse
        ones (:func:`sdml.spins.transverse`) where the parallel part follows the spin, as in
        metals; full ones where they are those of the neighbours.
    damping, kT : float
        See :class:`LandauLifshitz`.
    error : float
        In (0, 1). 1e-3 is ample for statistics; trajectories of many spins are chaotic.
    method : str
        See :class:`LandauLifshitz`.

    Raises
    ------
    ValueError
        Bad argument.
    """
    values = real_tensor(frequency, "frequency").detach()
    if values.ndim and values.shape[-1] != 3:
        shape = tuple(values.shape)
        raise ValueError(f"frequency: must be one number or fields (..., 3), got shape {shape}")
    omega = float(torch.linalg.vector_norm(torch.atleast_1d(values), dim=-1).max())
    if not 0 < omega < float("inf"):
        raise ValueError(f"frequency: must be positive and finite, got {omega}")
    if not 0 < error < 1:
        raise ValueError(f"error: must be in (0, 1), got {error}")
    LandauLifshitz(1.0, damping, kT, method)  # refuses them
    third, fourth = ERRORS.get(method, (6, 8))
    dt = (third * error / (1 + damping**2)) ** 0.5 / omega
    if damping > 0:
        growth = (fourth * DAMPING_ERROR * damping) ** (1 / 3)
        dt = min(dt, growth / (1 + damping**2) ** 0.5 / omega)
    return min(dt, third * error / (4 * damping * kT)) if damping * kT > 0 else dt


def trajectory(
    spins: Tensor,
    local_field: LocalField,
    equation: LandauLifshitz | Callable[[int], LandauLifshitz],
    marks: Iterable[int],
    rng: Generators | None = None,
    begun: int = 0,
) -> Iterator[tuple[int, Tensor]]:
    """Step and spins at each mark in turn: the loop of every run, short or long.

    Between two marks the spins :func:`evolve`; what is resumed at a mark, with the generators as
    they were there, goes on bit for bit, since 'adams' and 'neutral' forget at every mark.

    Parameters
    ----------
    spins : (..., N, 3)
        At step ``begun``; they are not checked.
    local_field : callable
        Tensor (..., N, 3) -> field of the same shape.
    equation : LandauLifshitz or callable
        Of all steps, or number of a step -> that of the step; dt must stay.
    marks : iterable of int
        Steps, ascending, at or after ``begun``.
    rng : generator or sequence of them
        See :func:`evolve`.

    Raises
    ------
    FloatingPointError
        The spins are no longer finite at a mark.
    RuntimeError
        The iteration of 'midpoint' does not converge: dt is too large.
    """
    at = equation if callable(equation) else lambda _: equation
    for mark in map(int, marks):
        broken = f"at step {mark} of dt = {at(begun).dt}; the run ends at step {begun}"
        try:
            spins = evolve(spins, local_field, (at(k) for k in range(begun, mark)), rng)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, {broken}") from error
        if not bool(torch.isfinite(spins).all()):
            raise FloatingPointError(f"spins: not finite {broken}")
        begun = mark
        yield mark, spins


def evolve(
    spins: Tensor,
    local_field: LocalField,
    equations: Iterable[LandauLifshitz],
    rng: Generators | None = None,
) -> Tensor:
    """Steps in a row, one for each of ``equations`` (of one dt).

    ``rng`` is one generator for all spins, or one for each configuration of a batch (B, N, 3),
    which then gets the noise that it would get alone. 'adams' and 'neutral' remember nothing from
    one call to the next: they begin each with steps of 'sib'. FloatingPointError if ``local_field``
    fails on spins that are not finite; others are for the caller to find, once in many steps.
    The owner of a method ``local_field`` may offer ``for_steps()``: the object whose method of this
    name takes the steps of one call, such as a force field that remembers its chemical potential.
    """
    if for_steps := getattr(getattr(local_field, "__self__", None), "for_steps", None):
        local_field = getattr(for_steps(), local_field.__name__)

    def field(s: Tensor) -> Tensor:
        try:
            h = torch.as_tensor(local_field(s.clone())).to(s, copy=True)
        except Exception as error:  # engines with a guard refuse nan before anybody else looks
            if bool(torch.isfinite(s).all()):
                raise
            said = f"spins: not finite, refused by local_field ({error})"
            raise FloatingPointError(said) from error
        if h.shape != s.shape:
            raise ValueError(f"local_field: must return {tuple(s.shape)}, got {tuple(h.shape)}")
        return h

    spins = spins.clone()  # no step at all must not give the memory of the start
    known: list[Tensor] = []
    for equation in equations:
        noise = thermal_noise(spins, equation, rng)
        settings = (field, equation.damping, equation.dt, noise)
        if weights := WEIGHTS.get(equation.method):
            spins, known = adams_step(spins, *settings, weights, known)
        else:
            spins = STEPS[equation.method](spins, *settings)
    return spins


def thermal_noise(spins: Tensor, equation: LandauLifshitz, rng: Generators | None) -> Tensor | None:
    """The random field of one step; None at kT = 0."""
    if equation.kT == 0:
        return None
    if isinstance(rng, Sequence):
        normal = torch.stack([_normal(s, own) for s, own in zip(spins, rng, strict=True)])
    else:
        normal = _normal(spins, rng)
    return normal.mul_(equation.noise_amplitude)


def _normal(spins: Tensor, rng: torch.Generator | None) -> Tensor:
    return torch.randn(spins.shape, generator=rng, dtype=spins.dtype, device=spins.device)


def angular_velocity(spins: Tensor, field: Tensor, damping: float) -> Tensor:
    """Omega = h_t + alpha S x h_t with dS/dt = Omega x S, h_t the transverse part of the field."""
    transverse = transverse_part(spins, field)
    if damping == 0:
        return transverse
    return transverse + damping * torch.linalg.cross(spins, transverse)


def heun_step(
    spins: Tensor, field: LocalField, damping: float, dt: float, noise: Tensor | None = None
) -> Tensor:
    """Heun's predictor-corrector, the noise held over both stages (Stratonovich).

    Second order, two fields. |S| = 1 by renormalisation of both stages.
    """

    def velocity(s: Tensor) -> Tensor:
        return torch.linalg.cross(angular_velocity(s, _sum(field(s), noise), damping), s)

    start = velocity(spins)
    predicted = torch.nn.functional.normalize(spins + dt * start, dim=-1)
    return torch.nn.functional.normalize(spins + (dt / 2) * (start + velocity(predicted)), dim=-1)


def sib_step(
    spins: Tensor, field: LocalField, damping: float, dt: float, noise: Tensor | None = None
) -> Tensor:
    """Semi-implicit scheme B of Mentink et al., J. Phys.: Condens. Matter 22, 176001 (2010),
    doi 10.1088/0953-8984/22/17/176001, with the field taken at the normalised mid point.

    Second order, two fields. Implicit in the spin, explicit in the field: each stage is an exact
    rotation, and |S| = 1 needs no projection but against rounding.
    """

    def moved(s: Tensor) -> Tensor:
        return rotate_about(spins, angular_velocity(s, _sum(field(s), noise), damping), dt)

    middle = torch.nn.functional.normalize(spins + moved(spins), dim=-1)
    # The rotation keeps |S| = 1 up to rounding; this stops float32 rounding from accumulating.
    return torch.nn.functional.normalize(moved(middle), dim=-1)


def adams_step(
    spins: Tensor,
    field: LocalField,
    damping: float,
    dt: float,
    noise: Tensor | None,
    weights: Sequence[float],
    known: Sequence[Tensor] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Explicit multistep scheme for the angular velocity; half the cost of 'sib'.

    S' = R S with the rotation R about Omega = sum_k w_k Omega(t - k dt), one field: Faltinsen,
    Marthinsen and Munthe-Kaas, Appl. Numer. Math. 39, 349 (2001), doi
    10.1016/S0168-9274(01)00103-X. Omega is transverse, so that no large parallel part is
    extrapolated. The noise acts as in :func:`sib_step`, at the mid point of the step. With fewer
    earlier Omega than weights ask for the step is one of 'sib'.

    A small deviation from an equilibrium changes Omega and S by its first order only, so that the
    scheme is the linear one: x = lambda dt (see :func:`suggested_dt`) multiplies a normal mode by
    the roots r of

        r - 1 = x B,    B = sum_k w_k r^-k = 1 + D / 2 + c D^2,    D = 1 - 1 / r,

    if it is of second order with three steps; c = 0 is Adams-Bashforth's with two and c = 5 / 12
    his with three. The root near 1 is exp(x + (c - 5 / 12) x^3 + (1 - 6 c) x^4 / 4 + ...), and of
    an undamped mode it grows by (1 - 6 c) |x|^4 / 4 a step. 'neutral' is c = 1 / 6, where that
    vanishes: at |x| = 0.3 the growth is 7e-5, and 2.4e-3 with 'adams'. Spins come to rest for

        damping      0.01   0.05   0.1    0.3
        'adams'      0.33   0.54   0.65   0.82
        'neutral'    0.60   0.75   0.80   0.82    and smaller |x|.

    Returns
    -------
    spins : (..., N, 3)
    known : list of (..., N, 3)
        Angular velocities without noise at the start of this step and of earlier ones, latest
        first, no more than the next step asks for.
    """
    known = [angular_velocity(spins, field(spins), damping), *known]

    def moved(s: Tensor, omega: Tensor) -> Tensor:
        kick = 0 if noise is None else angular_velocity(s, noise, damping)
        return rotate_about(spins, omega + kick, dt)

    def middle(omega: Tensor) -> Tensor:
        return torch.nn.functional.normalize(spins + moved(spins, omega), dim=-1)

    if len(known) < len(weights):
        half_way = middle(known[0])
        omega = angular_velocity(half_way, field(half_way), damping)
    else:
        omega = torch.stack([w * each for w, each in zip(weights, known, strict=True)]).sum(0)
        half_way = spins if noise is None else middle(omega)
    return torch.nn.functional.normalize(moved(half_way, omega), dim=-1), known[: len(weights) - 1]


def midpoint_step(
    spins: Tensor, field: LocalField, damping: float, dt: float, noise: Tensor | None = None
) -> Tensor:
    """Implicit midpoint rule S' - S = dt Omega x (S + S') / 2 with the field (h(S) + h(S')) / 2.

    The mean of the fields at both ends is the field at the mid point where h is linear in S, as for
    Heisenberg exchange, uniaxial anisotropy and an external field; unlike that field it asks for
    unit spins only. Second order and symmetric in time. From S' - S perpendicular to h and

        E(S') - E(S) = -sum_i (h_i(S) + h_i(S')) / 2 . (S'_i - S_i)

    of a linear h, damping 0 keeps the energy exactly; damping lowers it for any dt. A part of h
    along S that varies with S does enter, at second order in dt.

    Solved by fixed-point iteration, each configuration of a batch for itself: one field for the
    start, one an iteration. The error falls by the order of dt |dh/dS| / 2 each time, and there is
    one host synchronisation an iteration. RuntimeError with the last estimate of the error if it
    exceeds the tolerance after ``MIDPOINT_ITERATIONS``.
    """

    def rotation_vector(middle: Tensor, h: Tensor) -> Tensor:
        if noise is None:
            return angular_velocity(middle, h, damping)
        # Along the spin the noise does nothing, but with this part a fixed vector is found at once;
        # fields follow the spins, and theirs would slow the iteration down.
        along = (noise * middle).sum(-1, keepdim=True) * middle
        return angular_velocity(middle, h + noise, damping) + along

    start = field(spins)
    moved = rotate_about(spins, rotation_vector(spins, start), dt)
    found = torch.zeros_like(spins[..., :1, :1], dtype=torch.bool)
    least, stalled = torch.full_like(found, torch.inf, dtype=spins.dtype), found.int()
    for _ in range(MIDPOINT_ITERATIONS):
        middle, mean = (spins + moved) / 2, (start + field(moved)) / 2
        closer = rotate_about(spins, rotation_vector(middle, mean), dt)
        change = (closer - moved).abs().amax((-2, -1), keepdim=True)
        # What is found stays: it does not depend on the rest of the batch.
        moved = torch.where(found, moved, closer)
        stalled = torch.where(change < least, 0, stalled + 1)
        least = torch.minimum(change, least)
        rounding = (change < SINGLE_PRECISION) & (stalled >= STALLED)
        found = found | (change < MIDPOINT_TOLERANCE[spins.dtype]) | rounding | change.isnan()
        if bool(found.all()):
            return torch.nn.functional.normalize(moved, dim=-1)
    raise RuntimeError(
        f"midpoint: the last estimate still moves by {float(change.max()):.1e} after "
        f"{MIDPOINT_ITERATIONS} iterations; dt = {dt} is too large"
    )


def rotate_about(spins: Tensor, angular_velocity: Tensor, dt: float) -> Tensor:
    """S' solving S' - S = dt Omega x (S + S') / 2, a rotation (Cayley form) about Omega."""
    a = (dt / 2) * angular_velocity
    square = (a * a).sum(-1, keepdim=True)
    along = (a * spins).sum(-1, keepdim=True)
    return ((1 - square) * spins + 2 * along * a + 2 * torch.linalg.cross(a, spins)) / (1 + square)


def _sum(field: Tensor, noise: Tensor | None) -> Tensor:
    return field if noise is None else field + noise


STEPS = {"heun": heun_step, "sib": sib_step, "midpoint": midpoint_step}
WEIGHTS = {"adams": (3 / 2, -1 / 2), "neutral": (5 / 3, -5 / 6, 1 / 6)}
"""Of the angular velocities at the start of a step and of earlier ones, see `adams_step`."""
METHODS = (*STEPS, *WEIGHTS)
ERRORS = {"adams": (12 / 5, 4), "neutral": (4, torch.inf), "midpoint": (12, torch.inf)}
"""1 / a and 1 / b of `suggested_dt`; of the others 6 and 8."""
DAMPING_ERROR = 0.1
