"""The locality floor: what no force field that sees only a disc of spins can know.

A field with cutoff r_c is a function of the spins D within r_c of its site. Its mean square error
is at least the conditional variance of the exact transverse field, per Cartesian component

    floor(r_c) = <Var(h_t | D)> = <|h_t - <h_t | D>|^2> / 3,

which is measured by redrawing all spins outside the disc: the center's own spin is kept, so that
every draw has the same transverse plane. For independent spins, uniform on the sphere, the redraw
is exact. Correlated states have no such recipe; their discs are put into other states (*splices*).

Outer states are moved by the lattice translation, and turned by the spin rotation or
reflection (unless the model has a preferred axis), that fit the disc best: symmetries of the
ensemble, so that the outside continues the domain in the disc as far as another state can.
In random states this changes nothing, for the outside is independent of what was fitted. The
seam of a splice is not relaxed. In ordered states ``floor`` and ``reached`` are therefore
estimates from above; for ``reached`` this is a theorem, for ``floor`` it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.special
from numpy.typing import NDArray

from sdml import exact, kpm
from sdml.lattice import Lattice
from sdml.model import SDModel, spin_field
from sdml.spins import as_tensor, one_configuration
from sdml.spins import random as random_spins

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SiteField = Callable[[SDModel, FloatArray, int], FloatArray]
N_PROBES = 128
"""Vectors that give mu at fixed filling to 0.002 t or better at 24 x 24; its spread is 0.02 t."""
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


@dataclass(frozen=True)
class LocalityFloor:
    """The floor at one radius; mean squares per Cartesian component, in units of t^2.

    Attributes
    ----------
    radius : float
        r_c, in lattice constants.
    floor : float
        Unbiased variance of the center's transverse field over the redraws, mean over centers.
    floor_error : float
        Standard error over centers.
    reached : float
        Mean square error, against the field in the state that the disc is from, of the mean over
        infinitely many redraws. That mean is a function of the disc alone: whatever the redraws,
        the true floor is not larger. Equal to ``floor`` where the redraws are exact.
    reached_error : float
        Standard error over centers.
    signal : float
        Mean square transverse field of the centers.
    n_centers : int
    """

    radius: float
    floor: float
    floor_error: float
    reached: float
    reached_error: float
    signal: float
    n_centers: int


def locality_floors(
    model: SDModel,
    inner: Any,
    outer: Any,
    radii: Sequence[float],
    n_centers: int,
    seed: int,
    *,
    n_redraws: int = 2,
    field: SiteField | None = None,
) -> list[LocalityFloor]:
    """The floor at every radius, from the same centers and outer states.

    Parameters
    ----------
    model : SDModel
        With ``filling``, every spliced state has the chemical potential of its own levels, as in
        :func:`sdml.exact.solve`: the floor of labels on this lattice. Its spread, of order
        N^(-1/2), carries news from everywhere and is part of that floor. With
        ``chemical_potential`` it is the same in all draws: the floor of a large sample.
    inner : (n, N, 3)
        States whose discs are kept, in turn, about a random site.
    outer : (m, N, 3) or None
        States that the rest is taken from, another one for every redraw; never the state of the
        disc itself. None redraws independent spins, uniform on the sphere.
    radii : sequence of float
        Cut-offs r_c >= 0; 0 keeps the center only, which gives floor = signal in random states.
    n_centers : int
        At least 2.
    seed : int
        A center's draws depend on ``seed`` and its number only.
    n_redraws : int
        Redraws of a center, at least 2.
    field : callable, optional
        (model, spins, site) -> field (3,): :func:`exact_field`, or by default
        :func:`site_field` with `N_PROBES` coloured vectors for the chemical potential.

    Returns
    -------
    list of LocalityFloor, in the order of ``radii``.

    Raises
    ------
    ValueError
        Bad argument.
    """
    kept = _states(model, inner, "inner")
    others = None if outer is None else _states(model, outer, "outer")
    _check(radii, n_centers, n_redraws, seed)
    field = field or partial(site_field, n_probes=N_PROBES, seed=seed)
    draws = [
        _center(model, kept[k % len(kept)], others, radii, n_redraws, field, (seed, k))
        for k in range(n_centers)
    ]
    own, redrawn = (np.stack(fields) for fields in zip(*draws, strict=True))
    return [_summary(r, own, redrawn[:, k]) for k, r in enumerate(radii)]


def _states(model: SDModel, states: Any, argument: str) -> FloatArray:
    s = as_tensor(states, model.lattice.n_sites, argument)
    if s.ndim != 3 or not len(s):
        raise ValueError(f"{argument}: shape must be (n >= 1, N, 3), got {tuple(s.shape)}")
    return s.detach().cpu().double().numpy()


def _check(radii: Sequence[float], n_centers: int, n_redraws: int, seed: int) -> None:
    if not len(radii) or not all(0 <= r < np.inf for r in radii):
        raise ValueError(f"radii: must be finite numbers >= 0, at least one, got {radii}")
    least = {"n_centers": (n_centers, 2), "n_redraws": (n_redraws, 2), "seed": (seed, 0)}
    for name, (value, smallest) in least.items():
        if not isinstance(value, int | np.integer) or value < smallest:
            raise ValueError(f"{name}: must be an integer of at least {smallest}, got {value}")


def _center(
    model: SDModel,
    state: FloatArray,
    others: FloatArray | None,
    radii: Sequence[float],
    n_redraws: int,
    field: SiteField,
    seed: tuple[int, int],
) -> tuple[FloatArray, FloatArray]:
    """Transverse fields of one center: in its own state (3,), redrawn (n_radii, n_redraws, 3)."""
    rng = np.random.default_rng(seed)
    site = int(rng.integers(len(state)))
    outside = _outer_states(state, others, n_redraws, rng)
    redrawn = [
        [field(model, splice(model, state, other, site, radius), site) for other in outside]
        for radius in radii
    ]
    fields = np.array([field(model, state, site), *np.reshape(redrawn, (-1, 3))])
    across = fields - np.outer(fields @ state[site], state[site])
    return across[0], across[1:].reshape(len(radii), n_redraws, 3)


def _outer_states(
    state: FloatArray, others: FloatArray | None, n_redraws: int, rng: np.random.Generator
) -> FloatArray:
    """(n_redraws, N, 3): random spins, or different states, none of them ``state``."""
    if others is None:
        return np.stack([random_spins(len(state), rng) for _ in range(n_redraws)])
    foreign = np.flatnonzero((others != state).any(axis=(1, 2)))
    if len(foreign) < n_redraws:
        raise ValueError(
            f"outer: must hold at least {n_redraws} states besides that of the disc, "
            f"got {len(foreign)}"
        )
    return others[rng.choice(foreign, n_redraws, replace=False)]


def _summary(radius: float, own: FloatArray, redrawn: FloatArray) -> LocalityFloor:
    """From own (n_centers, 3) and redrawn (n_centers, n_redraws, 3) transverse fields."""
    n_centers, n_redraws, _ = redrawn.shape
    variance = redrawn.var(axis=1, ddof=1).mean(axis=-1)
    # The mean of n redraws is off by variance / n from that of infinitely many.
    distance = ((own - redrawn.mean(axis=1)) ** 2).mean(axis=-1) - variance / n_redraws
    error = partial(np.std, ddof=1)
    return LocalityFloor(
        radius=float(radius),
        floor=float(variance.mean()),
        floor_error=float(error(variance) / np.sqrt(n_centers)),
        reached=float(distance.mean()),
        reached_error=float(error(distance) / np.sqrt(n_centers)),
        signal=float((own**2).mean()),
        n_centers=n_centers,
    )


# --- splices


def splice(
    model: SDModel, inner: FloatArray, outer: FloatArray, site: int, radius: float
) -> FloatArray:
    """``outer``, moved and turned to fit, with the spins of ``inner`` within ``radius`` of a site.

    Of all lattice translations of ``outer`` the one, with the orthogonal matrix (unless the model
    has a preferred axis), that gives the largest overlap sum_D S_inner . S_outer in the disc D.
    Returns (N, 3).
    """
    lattice = model.lattice
    disc = disc_sites(lattice, site, radius)
    free = not (
        any(model.zeeman) or model.easy_axis or model.spin_couplings or model.broken_symmetries
    )
    targets = _translated(lattice, disc)
    # (n_cells, 3, 3): sum over the disc of S_outer S_inner^T, for every translation.
    overlap = np.einsum("tka,kb->tab", outer[targets], inner[disc])
    if free:
        u, singular, vh = np.linalg.svd(overlap)
        best = int(singular.sum(axis=-1).argmax())
        turned = outer @ u[best] @ vh[best]
    else:
        best, turned = int(np.trace(overlap, axis1=1, axis2=2).argmax()), outer
    spliced = turned[lattice.translation(*lattice.cells[:: lattice.n_basis][best])]
    spliced[disc] = inner[disc]
    return spliced


def disc_sites(lattice: Lattice, site: int, radius: float) -> IntArray:
    """All sites within ``radius`` of a site, itself included, each once."""
    basis = int(lattice.sublattices[site])
    corners, _ = lattice.displacements(radius, basis)
    sites = lattice.site_index(lattice.cells[site] + corners[:, :2], corners[:, 2])
    return np.unique(np.append(sites, site))


def _translated(lattice: Lattice, sites: IntArray) -> IntArray:
    """(n_cells, n) images of sites (n,) under all translations."""
    steps = lattice.cells[:: lattice.n_basis]
    return lattice.site_index(steps[:, None] + lattice.cells[sites], lattice.sublattices[sites])


# --- the field of one site


def exact_field(model: SDModel, spins: FloatArray, site: int) -> FloatArray:
    """By diagonalization, (3,)."""
    return exact.solve(model, spins).local_field[site]


def site_field(
    model: SDModel,
    spins: FloatArray,
    site: int,
    *,
    n_moments: int | None = None,
    n_probes: int | None = None,
    seed: int | None = None,
) -> FloatArray:
    """h_i = J tr sigma <i|f(H)|i> of one site, (3,), from its two unit vectors alone.

    The occupation f is a Chebyshev series on an interval [b - a, b + a] that encloses the spectrum,
    by default of (a / pi kT) ln 1e6 moments. No probing enters but through the chemical potential,
    which at fixed filling is that of :func:`sdml.kpm.solve` for the same spins (N, 3), moments and
    probes. The model needs electron_kT > 0: ValueError without.
    """
    s = one_configuration(spins, model.lattice.n_sites).cpu().double()
    if not 0 <= site < len(s):
        raise ValueError(f"site: must be in [0, {len(s)}), got {site}")
    kT = model.electron_kT
    if not kT > 0:
        raise ValueError(f"model: needs electron_kT > 0, got {kT}")
    lower, upper = kpm.energy_bounds(model, s)
    a, b = (upper - lower) / 2, (upper + lower) / 2
    n = n_moments or max(32, int(np.log(1e6) * a / (np.pi * kT)))
    mu = model.chemical_potential
    if mu is None:
        mu = float(kpm.solve(model, s, n, n_probes, seed=seed).chemical_potential)
    nodes = np.cos(np.pi * (np.arange(2 * n) + 0.5) / (2 * n))
    occupation = scipy.fft.dct(scipy.special.expit((mu - b - a * nodes) / kT))[:n] / (2 * n)
    h = (_sparse_hamiltonian(model, s.numpy()) - b * scipy.sparse.eye_array(2 * len(s))) / a
    h = scipy.sparse.csr_array(h)
    own = slice(2 * site, 2 * site + 2)
    before = np.zeros((2 * len(s), 2), dtype=complex)
    before[own] = np.eye(2)
    now, block = h @ before, occupation[0] / 2 * np.eye(2, dtype=complex)
    for coefficient in occupation[1:]:
        block += coefficient * now[own]
        before, now = now, 2 * (h @ now) - before
    moment = np.einsum("kab,ba->k", PAULI, block).real
    return spin_field(model, s)[site].numpy() + model.exchange_coupling * moment


def _sparse_hamiltonian(model: SDModel, spins: FloatArray) -> Any:
    """(2N, 2N), spin-orbital index 2 i + sigma."""
    exchange = (
        scipy.sparse.kron(scipy.sparse.diags_array(component), pauli)
        for component, pauli in zip(spins.T, PAULI, strict=True)
    )
    return model.hopping_matrix - model.exchange_coupling * sum(exchange)
