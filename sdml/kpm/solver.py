"""Fields from Chebyshev moments of the Hamiltonian: cost linear in N, on CPU and GPU.

The grand potential is Tr g(H), g(e) = -kT ln(1 + exp((mu - e) / kT)). On an interval [b - a, b + a]
that encloses the spectrum it is a Chebyshev series (:mod:`sdml.kpm.series`),

    Omega = sum_n c_n(mu) mu_n,   mu_n = Tr T_n((H - b) / a) = sum_r r+ T_n r,

over all unit vectors r (exact trace) or few probing vectors (:mod:`sdml.kpm.probes`); the moments
and the gradient of Omega are recursions of vectors (:mod:`sdml.kpm.recursion`). Weisse, Wellein,
Alvermann and Fehske, Rev. Mod. Phys. 78, 275 (2006), doi 10.1103/RevModPhys.78.275.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml.kpm import probes as probe_sets
from sdml.kpm import recursion, series
from sdml.kpm.probes import Probes
from sdml.kpm.recursion import ComplexArray, Hamiltonian
from sdml.kpm.series import Interval
from sdml.lattice import Lattice
from sdml.model import ElectronicState, SDModel, spin_energy, spin_field, stacked
from sdml.spins import Seed, as_tensor, one_configuration, random_source, real_tensor
from sdml.terms import Hop, links

FloatArray = NDArray[np.float64]
PROBINGS = ("coloured", "coloured-plain", "random", "random-plain")
GRID = 128
"""Energy bounds are multiples of the Gershgorin width / GRID: piecewise constant in the spins."""
LANCZOS_STEPS = 60
CHECKING_STEPS = 240
"""Of the bounds that a user gives, which have no margin of their own."""
MEMORY = 2**29
"""Bytes of Chebyshev vectors kept at a time."""


@dataclass(frozen=True)
class EstimatedState(ElectronicState):
    """An :class:`ElectronicState` with an estimate of its error.

    Attributes
    ----------
    field_error : (...)
        Estimated rms error of a component of ``local_field``: J (p + q). p is the rms over sites of
        the anti-Hermitian part of the 2 x 2 blocks, which is zero for the exact trace and else as
        large as the error of the Hermitian part, within a factor of 2; q is the rms over levels of
        the error of the truncated series of the Fermi function, 5 to 20 times that of the field.
    """

    field_error: Any = None


def solve(
    model: SDModel,
    spins: Any,
    n_moments: int | None = None,
    n_probes: int | None = None,
    probing: str = "coloured",
    seed: Seed | None = None,
    device: str | torch.device = "cpu",
    *,
    energy_bounds: tuple[float, float] | None = None,
) -> EstimatedState:
    """Energy, local field and density of the electrons for given spins.

    Parameters
    ----------
    model : SDModel
    spins : (..., N, 3)
        One configuration or any batch; float32 is solved in single precision.
    n_moments : int, optional
        Number M of Chebyshev moments, rounded up to even. By default (a / pi kT) ln 1e6 with half
        bandwidth a, and a Jackson width of 0.01 ``model.energy_unit`` (t) at electron_kT = 0.
    n_probes : int, optional
        Number of probing vectors at most. None, or 2N and more, is the exact trace.
    probing : {'coloured', 'coloured-plain', 'random', 'random-plain'}
        Vectors on sites far apart (two for each color, one for each spin), or on all sites. The
        field is the exact gradient of the estimated energy, its density the derivative in a site
        energy; with '-plain' it is J r_i+ sigma (f(H) r)_i, which is no gradient, and the density
        r_i+ (f(H) r)_i. Without probes the two differ by the truncation only.
    seed : int or Generator, optional
        Phases of the probing vectors, the same for a whole batch. None draws fresh ones.
    device : str or torch.device
        'cpu' runs compiled loops on numba's threads, other devices torch.
    energy_bounds : (lower, upper), optional
        Interval that encloses the spectrum, as Lanczos steps verify; by default from
        :func:`energy_bounds`.

    Returns
    -------
    EstimatedState
        float64, of the kind of ``spins``; fields as of :func:`sdml.exact.solve`, and the estimated
        error of the local field.

    Raises
    ------
    ValueError
        Bad spins or argument; Ritz values beyond the energy bounds.
    RuntimeError
        The moments show that the spectrum exceeds the energy bounds.
    """
    s = as_tensor(spins, model.lattice.n_sites)
    probes = _probes(model.lattice, n_moments, n_probes, probing, seed)
    plain = probing.endswith("-plain")
    given = None if energy_bounds is None else _given_bounds(energy_bounds)
    batch = s.detach().reshape(-1, *s.shape[-2:]).to(device, torch.float64)
    states = [_solve_one(model, one, n_moments, probes, plain, s.dtype, given) for one in batch]
    return stacked(states, spins)


def _probes(
    lattice: Lattice,
    n_moments: int | None,
    n_probes: int | None,
    method: str,
    seed: Seed | None,
) -> Probes:
    """The probing vectors of a call, after the guard of what it asks for."""
    if method not in PROBINGS:
        raise ValueError(f"probing: must be one of {', '.join(PROBINGS)}, got {method!r}")
    for name, number, lowest in (("n_moments", n_moments, 2), ("n_probes", n_probes, 1)):
        if number is not None and not number >= lowest:
            raise ValueError(f"{name}: must be at least {lowest}, got {number}")
    if n_probes is None or n_probes >= 2 * lattice.n_sites:
        return probe_sets.all_unit_vectors(lattice.n_sites)
    rng = random_source(seed)
    if method.startswith("random"):
        return probe_sets.random(lattice.n_sites, n_probes, rng)
    return probe_sets.colored(lattice, n_probes, rng)


def _solve_one(
    model: SDModel,
    spins: Tensor,
    n_moments: int | None,
    probes: Probes,
    plain: bool,
    real: torch.dtype,
    bounds: Interval | None,
) -> EstimatedState:
    interval = bounds or _interval(model, spins)
    if bounds:
        _require_enclosed(model, spins, bounds)
    kT, J = model.electron_kT, model.exchange_coupling
    n = n_moments or series.default_n_moments(interval, kT, model.energy_unit)
    n += n % 2
    hamiltonian = _hamiltonian(model, spins, interval, real)
    moments, state = _moments(hamiltonian, probes, n)
    mu = model.chemical_potential
    if mu is None:
        assert model.filling is not None  # SDModel guarantees it
        mu = series.chemical_potential(interval, kT, moments, model.filling, model.energy_unit)
    occupation, potential = series.coefficients(interval, kT, n, mu)
    if plain:
        found = _summed(recursion.expectation, hamiltonian, probes, occupation)
    elif state is None:
        found = _summed(_fresh_gradient, hamiltonian, probes, potential)
    else:
        found = recursion.gradient(hamiltonian, state, potential) / probes.norm
    found = found if plain else found / interval.half_width
    error = np.sqrt(np.mean(found[:, :3].imag ** 2)) + series.truncation_error(
        interval, kT, moments, mu
    )
    values = torch.as_tensor(found.real).to(spins)
    energy = potential @ moments
    if model.n_electrons is not None and np.isfinite(mu):
        energy += mu * model.n_electrons
    return EstimatedState(
        energy=spin_energy(model, spins) + energy,
        local_field=spin_field(model, spins) + J * values[:, :3],
        density=values[:, 3],
        chemical_potential=spins.new_tensor(mu),
        field_error=spins.new_tensor(abs(J) * error),
    )


# --- the Hamiltonian and its interval


@lru_cache(maxsize=8)
def _hopping_tables(model: SDModel) -> Any:
    """Neighbours (N, z) and -t (N, z) of plain hops; sites (N, y) and -T (N, y, 2, 2) of others."""
    lattice = model.lattice
    plain, general = (
        links(lattice, terms, Hop.SIZE).without_loops(lattice)
        for terms in (model.shell_hops, tuple(model.hops))
    )
    neighbors, blocks = plain.table(lattice.n_sites, recursion.FUSED)
    return neighbors, blocks[..., 0, 0].real.copy(), *general.table(lattice.n_sites)


def _hamiltonian(
    model: SDModel, spins: Tensor, interval: Interval, real: torch.dtype
) -> Hamiltonian:
    """(H - b) / a; compiled on the CPU."""
    neighbors, amplitudes, partners, blocks = (
        torch.as_tensor(x, device=spins.device) for x in _hopping_tables(model)
    )
    a, b = interval.half_width, interval.center
    onsite = torch.nn.functional.pad(-model.exchange_coupling / a * spins, (0, 1), value=-b / a)
    return Hamiltonian(
        neighbors,
        (amplitudes / a).to(real),
        onsite.to(real),
        partners,
        (blocks / a).to(real.to_complex()),
        compiled=spins.device.type == "cpu",
    )


def energy_bounds(model: SDModel, spins: Any) -> tuple[float, float]:
    """An interval that encloses the spectrum for spins (N, 3): Lanczos with margin.

    Extreme Ritz values of 60 Lanczos steps, moved outwards by 1 to 2 cells of a grid of 128 cells
    on the Gershgorin interval +-1.001 (sum |t| + |J|), which encloses the spectrum in any case and
    cuts the margin off. The moments of a run verify the bounds.
    """
    interval = _interval(model, one_configuration(spins, model.lattice.n_sites))
    return interval.lower, interval.upper


def _interval(model: SDModel, spins: Tensor) -> Interval:
    """The :func:`energy_bounds` of checked spins (N, 3)."""
    largest_row = abs(model.hopping_matrix).sum(axis=1).max()
    # Rounding must not push a level at the very end of the interval out of it.
    radius = 1.001 * float(largest_row + abs(model.exchange_coupling))
    # All levels of a model without any energy are zero.
    radius = radius or model.electron_kT or 1.0
    lowest, highest = _ritz_values(model, spins, LANCZOS_STEPS)
    cell = 2 * radius / GRID
    lower = max(-radius, cell * (np.floor(lowest / cell) - 1))
    upper = min(radius, cell * (np.ceil(highest / cell) + 1))
    return Interval(float(lower), float(upper))


def _given_bounds(bounds: Any) -> Interval:
    pair = real_tensor(bounds, "energy_bounds").tolist()
    if np.shape(pair) != (2,):
        raise ValueError(f"energy_bounds: must be two energies (lower, upper), got {bounds}")
    return Interval(*pair)


def _require_enclosed(model: SDModel, spins: Tensor, bounds: Interval) -> None:
    """ValueError unless the bounds enclose the Ritz values, which the spectrum encloses."""
    lowest, highest = _ritz_values(model, spins, CHECKING_STEPS)
    rounding = 1e-12 * bounds.half_width
    if not (bounds.lower <= lowest + rounding and highest - rounding <= bounds.upper):
        raise ValueError(
            f"energy_bounds: must enclose the spectrum, at least {lowest:.12g} to {highest:.12g}, "
            f"got {bounds.lower}, {bounds.upper}"
        )


def _ritz_values(model: SDModel, spins: Tensor, n_steps: int) -> tuple[float, float]:
    """Extreme eigenvalues of the Lanczos matrix of H for spins (N, 3), fixed first vector."""
    rng = np.random.default_rng(0)
    v: Any = rng.standard_normal((len(spins), 2)) + 1j * rng.standard_normal((len(spins), 2))
    v /= np.linalg.norm(v)
    applied, v = _application(model, spins.double(), v)
    previous, beta = 0 * v, 0.0
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(min(n_steps, 2 * len(v))):
        w = applied(v) - beta * previous
        alpha = float((v.conj() * w).real.sum())
        w -= alpha * v
        beta = float((w.conj() * w).real.sum()) ** 0.5
        diagonal.append(alpha)
        off_diagonal.append(beta)
        if beta <= 1e-11 * max(map(abs, diagonal + off_diagonal)):
            break
        previous, v = v, w / beta
    values = scipy.linalg.eigvalsh_tridiagonal(diagonal, off_diagonal[:-1])
    return float(values[0]), float(values[-1])


def _application(model: SDModel, spins: Tensor, v: Any) -> tuple[Callable[[Any], Any], Any]:
    """v -> H v for vectors (N, 2) like the given one, which comes back on the device of the spins.

    Sparse rows and arrays on the CPU: gathers are several times slower there.
    """
    if spins.device.type != "cpu":
        h = _hamiltonian(model, spins, Interval(-1.0, 1.0), torch.float64)
        there = torch.as_tensor(v, device=spins.device)
        return (lambda x: recursion.twice(h, x[..., None])[..., 0] / 2), there
    hopping = model.hopping_matrix
    bx, by, bz = (-model.exchange_coupling * spins.numpy()).T
    blocks = np.stack([[bz, bx - 1j * by], [bx + 1j * by, -bz]])  # (2, 2, N) of b . sigma

    def applied(x: Any) -> Any:
        exchange = (blocks[:, 0] * x[:, 0] + blocks[:, 1] * x[:, 1]).T
        return (hopping @ x.ravel()).reshape(-1, 2) + exchange

    return applied, v


# --- blocks of probing vectors


def _moments(hamiltonian: Hamiltonian, probes: Probes, n_moments: int) -> tuple[FloatArray, Any]:
    """Moments, and the last Chebyshev vectors if all fit in memory."""
    total, state = np.zeros(n_moments), None
    chunks = _chunks(hamiltonian, probes)
    for chunk in chunks:
        part, state = recursion.moments(hamiltonian, probes.vectors(*chunk), n_moments)
        total += part
    return total / probes.norm, state if len(chunks) == 1 else None


def _summed(
    function: Any, hamiltonian: Hamiltonian, probes: Probes, coefficients: FloatArray
) -> ComplexArray:
    """:func:`sdml.kpm.recursion.expectation`, or its like, over all vectors."""
    chunks = (probes.vectors(*chunk) for chunk in _chunks(hamiltonian, probes))
    return sum(function(hamiltonian, vectors, coefficients) for vectors in chunks) / probes.norm


def _fresh_gradient(hamiltonian: Hamiltonian, vectors: Any, potential: FloatArray) -> ComplexArray:
    _, state = recursion.moments(hamiltonian, vectors, len(potential))
    return recursion.gradient(hamiltonian, state, potential)


def _chunks(hamiltonian: Hamiltonian, probes: Probes) -> list[tuple[int, int]]:
    """Ranges of vectors, whole blocks each, whose two last Chebyshev vectors fit in `MEMORY`."""
    pair = 2 * hamiltonian.onsite.nbytes  # a vector has four real numbers a site, too
    size = max(1, MEMORY // (pair * recursion.LANES)) * recursion.LANES
    return [(k, min(k + size, probes.n_vectors)) for k in range(0, probes.n_vectors, size)]
