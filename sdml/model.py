"""The s-d (Kondo lattice, double exchange) model: Hamiltonian, filling of its levels, its state.

    H = - sum_ij c+_ia T_ij,ab c_jb - J sum_i S_i . c+_ia sigma_ab c_ib,   |S_i| = 1, periodic,

with full Pauli matrices and T_ji = T_ij^+. Plain hopping is T_ij = t_ij 1 with real t_ij; other
hops, and couplings of the spins among themselves, are terms of :mod:`sdml.terms`. Energies are in
units of the nearest-neighbour hopping.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sdml.lattice import Lattice
from sdml.spins import SpinArray, as_tensor, like
from sdml.terms import Hop, Links, SpinCoupling, checked, links

DEGENERACY = 5e-10
"""Levels closer than this share of the bandwidth, some 1e-9 t, are one shell at electron_kT = 0."""
EMPTY = 1e-18
"""Occupations below this do not change a float64 sum of 2N <= 1e5 terms."""
PAPER_CASES: dict[str, dict[str, Any]] = {
    "triangular": {"exchange_coupling": 3.0, "filling": 0.25, "electron_kT": 0.05},
    "square": {"exchange_coupling": 6.0, "filling": 0.485, "electron_kT": 0.0025},
}
"""The two magnets of the paper, by the name of their lattice; energies in t."""


@dataclass(frozen=True)
class SDModel:
    """Electrons with exchange to classical spins on a lattice.

    Parameters
    ----------
    lattice : Lattice
    exchange_coupling : float
        J; the level splitting of a single site is 2 J.
    filling : float, optional
        N_e / 2N in [0, 1]. Give this or ``chemical_potential``.
    chemical_potential : float, optional
    electron_kT : float
        Fermi smearing, an energy >= 0.
    hopping : float or sequence
        t, or one value per neighbour shell: (t1, t2, t3, ...).
    zeeman : (3,) tuple
        B in the energy -B . S_i of every spin.
    easy_axis : float
        K in the energy -K (S_i^z)^2.
    hops : sequence of Hop, optional
        Hops besides ``hopping``, by shell or by directed bond, with complex amplitudes or 2 x 2
        matrices of the spin: fluxes, spin-orbit coupling.
    spin_couplings : sequence of SpinCoupling, optional
        Energies S_i . M S_j of pairs of spins, by shell or by directed bond.

    Raises
    ------
    ValueError
        A value out of range, a term that is not Hermitian, a bond that is not on the lattice.
    """

    lattice: Lattice
    exchange_coupling: float
    filling: float | None = None
    chemical_potential: float | None = None
    electron_kT: float = 0.0
    hopping: float | Sequence[float] = 1.0
    zeeman: Sequence[float] = (0.0, 0.0, 0.0)
    easy_axis: float = 0.0
    hops: Sequence[Hop] = ()
    spin_couplings: Sequence[SpinCoupling] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.lattice, Lattice):
            raise ValueError(f"lattice: must be a Lattice, got {self.lattice!r}")
        if (self.filling is None) == (self.chemical_potential is None):
            raise ValueError(
                "filling, chemical_potential: give exactly one of the two, "
                f"got {self.filling} and {self.chemical_potential}"
            )
        for name, lowest, highest in (
            ("exchange_coupling", -np.inf, np.inf),
            ("filling", 0, 1),
            ("chemical_potential", -np.inf, np.inf),
            ("electron_kT", 0, np.inf),
            ("easy_axis", -np.inf, np.inf),
        ):
            value = getattr(self, name)
            if value is None and name in ("filling", "chemical_potential"):
                continue  # one of the two
            number = _finite_tuple(name, value)[0] if np.ndim(value) == 0 else np.nan
            if not lowest <= number <= highest:
                allowed = f"a finite number from {lowest} to {highest}"
                raise ValueError(f"{name}: must be {allowed}, got {value}")
            # Numpy scalars would not go into the JSON headers of stores.
            object.__setattr__(self, name, number)
        object.__setattr__(self, "hopping", _finite_tuple("hopping", self.hopping))
        object.__setattr__(self, "zeeman", _finite_tuple("zeeman", self.zeeman, length=3))
        for name, kind in (("hops", Hop), ("spin_couplings", SpinCoupling)):
            terms = checked(name, getattr(self, name), kind, self.lattice)
            object.__setattr__(self, name, terms)

    @property
    def n_electrons(self) -> float | None:
        """N_e = 2 N filling; None at fixed chemical potential."""
        return None if self.filling is None else 2 * self.lattice.n_sites * self.filling

    @property
    def energy_unit(self) -> float:
        """The largest |t|, |J| without hopping, 1 without both: what energies are compared with."""
        hops = (abs(hop.element).max() for hop in self.hops)
        largest = max(*map(abs, self.hopping), *hops, 0.0)  # type: ignore[arg-type]
        return float(largest) or abs(self.exchange_coupling) or 1.0

    @property
    def shell_hops(self) -> tuple[Hop, ...]:
        """The plain ``hopping`` as terms, without shells of zero amplitude."""
        return tuple(Hop(shell, t) for shell, t in enumerate(self.hopping, start=1) if t)  # type: ignore[arg-type]

    @property
    def hopping_links(self) -> Links:
        """All hops, with blocks -T (2, 2); see :class:`sdml.terms.Links`."""
        return links(self.lattice, (*self.shell_hops, *self.hops), Hop.SIZE)

    @cached_property
    def hopping_matrix(self) -> Any:
        """(2N, 2N) sparse complex matrix of all hops; a bond counts once per displacement.

        ValueError if the lattice is so narrow that a hop joins a site to itself; it is a magnetic
        cell at most, see :mod:`sdml.bands`.
        """
        size = 2 * self.lattice.n_sites
        rows, columns, _, values = self.hopping_links.without_loops(self.lattice).entries()
        return scipy.sparse.csr_array((values.astype(complex), (rows, columns)), (size, size))

    @property
    def broken_symmetries(self) -> set[str]:
        """Which of 'spin rotations', 'time reversal' and 'point group' the electrons may lack.

        Spin rotations hold where all hops are multiples of the unit matrix, and time reversal of
        spins and electrons, S -> -S, where T = sigma_y T* sigma_y for all. Gauges are not searched:
        a phase breaks it, with or without flux. Directed bonds count as a lower point group.
        """
        return set[str]().union(*(hop.breaks for hop in self.hops))


def paper_model(lattice: Lattice, **changed: Any) -> SDModel:
    """The magnet of the paper on a triangular or square lattice, see :data:`PAPER_CASES`.

    Parameters
    ----------
    changed
        Parameters of :class:`SDModel` that differ.

    Raises
    ------
    ValueError
        Another lattice.
    """
    if lattice.name not in PAPER_CASES:
        raise ValueError(f"lattice: must be one of {sorted(PAPER_CASES)}, got {lattice.name!r}")
    return SDModel(lattice, **PAPER_CASES[lattice.name] | changed)


def _finite_tuple(name: str, value: Any, length: int | None = None) -> tuple[float, ...]:
    array = np.atleast_1d(value)
    real = array.ndim == 1 and array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
    if not real or not len(array) or length not in (None, len(array)):
        expected = "finite real numbers" if length is None else f"{length} finite real numbers"
        raise ValueError(f"{name}: must be {expected}, got {value}")
    return tuple(float(x) for x in array)


@dataclass(frozen=True)
class ElectronicState:
    """What every engine returns for spins (..., N, 3).

    Attributes
    ----------
    energy : (...)
        Total: free energy at fixed filling, grand potential at fixed chemical potential.
    local_field : (..., N, 3)
        h_i = -dE/dS_i, the full vector.
    density : (..., N)
        Electrons per site, in [0, 2].
    chemical_potential : (...)
    eigenvalues : (..., 2N), optional
        One-electron levels, ascending, where the engine knows them.
    """

    energy: Any
    local_field: Any
    density: Any
    chemical_potential: Any
    eigenvalues: Any = None


State = TypeVar("State", bound=ElectronicState)


def stacked(states: Sequence[State], spins: SpinArray) -> State:
    """The states of all configurations (N, 3) of a batch (..., N, 3) as one, of its kind.

    ValueError if there are none.
    """
    if not states:
        raise ValueError(f"spins: must hold a configuration, got shape {np.shape(spins)}")
    fields = {}
    for name, first in vars(states[0]).items():
        if first is not None:
            values = torch.stack([getattr(state, name) for state in states])
            fields[name] = like(values.reshape(np.shape(spins)[:-2] + values.shape[1:]), spins)
    return type(states[0])(**fields)


def hamiltonian(model: SDModel, spins: Any, device: str | torch.device = "cpu") -> Tensor:
    """The one-electron matrix (..., 2N, 2N), complex128, spin-orbital index 2 i + sigma.

    Periodic; :func:`sdml.bands.bloch_hamiltonian` has phases across the boundaries. ValueError for
    bad spins, or a lattice so narrow that a hop joins a site to itself.
    """
    s = as_tensor(spins, model.lattice.n_sites).to(device, torch.float64)
    n = model.lattice.n_sites
    matrix = torch.zeros((*s.shape[:-2], n, 2, n, 2), dtype=torch.complex128, device=device)
    site = torch.arange(n, device=device)
    sx, sy, sz = (-model.exchange_coupling * s).unbind(-1)
    matrix[..., site, 0, site, 0] += sz
    matrix[..., site, 1, site, 1] -= sz
    matrix[..., site, 0, site, 1] = torch.complex(sx, -sy)
    matrix[..., site, 1, site, 0] = torch.complex(sx, sy)
    matrix = matrix.reshape(*s.shape[:-2], 2 * n, 2 * n)
    hopping = model.hopping_matrix.tocoo()  # no element is within a site
    rows, columns = (torch.as_tensor(x.astype(int)) for x in hopping.coords)
    matrix[..., rows, columns] = torch.as_tensor(hopping.data, device=device)
    return matrix


def fermi_function(eigenvalues: Tensor, chemical_potential: Tensor, electron_kT: float) -> Tensor:
    """1 / (exp((e - mu) / kT) + 1); at kT = 0 a step, 1/2 within 5e-10 bandwidths of mu."""
    excess = eigenvalues - chemical_potential.unsqueeze(-1)
    if electron_kT > 0:
        return torch.sigmoid(-excess / electron_kT)
    width = _shell_width(eigenvalues)
    below = (excess < -width).to(excess)
    return below + 0.5 * (excess.abs() <= width)


def _shell_width(eigenvalues: Tensor) -> Tensor:
    """(..., 1): how close the levels (..., 2N) of one shell are, by bandwidth or by rounding."""
    low, high = eigenvalues.amin(-1, keepdim=True), eigenvalues.amax(-1, keepdim=True)
    return DEGENERACY * (high - low) + 1e-14 * torch.maximum(low.abs(), high.abs())


def occupations(model: SDModel, eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """Occupation numbers (..., 2N) of ascending levels and the chemical potential (...).

    RuntimeError with the last estimate if the occupations miss the electrons.
    """
    if model.chemical_potential is not None:
        mu = torch.full_like(eigenvalues[..., 0], model.chemical_potential)
        return fermi_function(eigenvalues, mu, model.electron_kT), mu
    assert model.filling is not None  # __post_init__ guarantees it
    if model.electron_kT == 0 or model.filling in (0, 1):
        mu = chemical_potential(eigenvalues, model.filling, model.electron_kT)
        return _lowest_filled(eigenvalues, model.filling), mu
    # From the top level: at a small kT mu lies so close to it that their sum would round it away.
    top = _top(eigenvalues, model.filling)
    above = eigenvalues - top.unsqueeze(-1)
    mu = _bisect(above, model.filling, model.electron_kT)
    filled = fermi_function(above, mu, model.electron_kT)
    _require_electrons(filled, mu + top, model.filling)
    return filled, mu + top


def _require_electrons(filled: Tensor, mu: Tensor, filling: float) -> None:
    wanted = filled.shape[-1] * filling
    missed = (filled.sum(-1) - wanted).abs()
    if not bool((missed <= 1e-9 * (1 + wanted)).all()):
        worst = missed.argmax()
        raise RuntimeError(
            f"chemical potential: the last estimate, {float(mu.flatten()[worst]):.6g}, misses "
            f"{float(missed.flatten()[worst]):.1e} of {wanted:g} electrons"
        )


def _lowest_filled(eigenvalues: Tensor, filling: float) -> Tensor:
    """Ground-state occupations; the top shell takes the remaining electrons evenly."""
    n_electrons, width = _electron_number(eigenvalues, filling), _shell_width(eigenvalues)
    top = _top(eigenvalues, filling).unsqueeze(-1)
    below = eigenvalues < top - width
    shell = (eigenvalues - top).abs() <= width
    rest = n_electrons - below.sum(-1, keepdim=True).to(eigenvalues)
    return below.to(eigenvalues) + shell * (rest / shell.sum(-1, keepdim=True))


def _electron_number(eigenvalues: Tensor, filling: float) -> float:
    """2 N filling; a whole number if it is one up to rounding."""
    number = eigenvalues.shape[-1] * filling
    return float(round(number)) if abs(number - round(number)) < 1e-9 * (1 + number) else number


def _top(eigenvalues: Tensor, filling: float) -> Tensor:
    """The highest level (...) that holds electrons."""
    number = max(int(np.ceil(_electron_number(eigenvalues, filling))) - 1, 0)
    return eigenvalues[..., number]


def chemical_potential(eigenvalues: Tensor, filling: float, electron_kT: float) -> Tensor:
    """mu (...) at which the ascending levels (..., 2N) hold 2N * filling electrons.

    At electron_kT = 0 the middle of the gap, or the level of a partly filled top shell.
    Empty and full bands give -inf and +inf. At electron_kT > 0 bracketed bisection; the electron
    number is met to the accuracy of a float64 sum.
    """
    if filling in (0, 1):
        return torch.full_like(eigenvalues[..., 0], torch.inf if filling == 1 else -torch.inf)
    if electron_kT == 0:
        return _middle_of_gap(eigenvalues, filling)
    top = _top(eigenvalues, filling)
    return top + _bisect(eigenvalues - top.unsqueeze(-1), filling, electron_kT)


def _middle_of_gap(eigenvalues: Tensor, filling: float) -> Tensor:
    top = _top(eigenvalues, filling)
    filled = _lowest_filled(eigenvalues, filling) > 1 - 1e-6
    next_level = torch.where(filled, torch.inf, eigenvalues).amin(-1)
    touching = next_level <= top + _shell_width(eigenvalues)[..., 0]
    return torch.where(touching, top, (top + next_level) / 2)


def _bisect(eigenvalues: Tensor, filling: float, electron_kT: float) -> Tensor:
    # Filling f of a single level lies kT ln(f / (1 - f)) away from it: the ends are a bracket.
    shift = electron_kT * float(np.log(filling) - np.log1p(-filling))
    lower = eigenvalues[..., 0] + shift
    upper = eigenvalues[..., -1] + shift
    # Starting from the middle of the gap gives the right answer where all exponentials underflow.
    middle = _middle_of_gap(eigenvalues, filling).clamp(lower, upper)
    # From the bandwidth down to the smallest kT; a bracket around a level ends much sooner.
    for _ in range(2200):
        excess = _excess_electrons(eigenvalues, middle, filling, electron_kT)
        lower = torch.where(excess <= 0, middle, lower)
        upper = torch.where(excess >= 0, middle, upper)
        if bool(((upper - lower) <= 4e-16 * (electron_kT + middle.abs())).all()):
            return middle
        middle = (lower + upper) / 2
    raise RuntimeError(f"chemical potential: not converged, last bracket {lower} to {upper}")


def _excess_electrons(
    eigenvalues: Tensor, mu: Tensor, filling: float, electron_kT: float
) -> Tensor:
    """Electrons above level n minus holes below it, less the fraction beyond n = floor(N_e).

    Deep in a gap the full count is an integer plus exponentially small terms that a plain sum of
    occupations rounds away; here they are all there is.
    """
    n_electrons = _electron_number(eigenvalues, filling)
    whole = int(np.floor(n_electrons))
    scaled = (eigenvalues - mu.unsqueeze(-1)) / electron_kT
    electrons = torch.sigmoid(-scaled[..., whole:]).sum(-1)
    holes = torch.sigmoid(scaled[..., :whole]).sum(-1)
    return electrons - holes - (n_electrons - whole)


def electronic_energy(model: SDModel, eigenvalues: Tensor, filled: Tensor, mu: Tensor) -> Tensor:
    """Free energy (fixed filling) or grand potential (fixed mu) of occupied levels, (...).

    F = sum f e + kT sum [f ln f + (1 - f) ln(1 - f)], and Omega = F - mu N. Its derivative with
    respect to the spins is the expectation value of dH/dS, because f is stationary.
    """
    entropy = torch.special.entr(filled) + torch.special.entr(1 - filled)
    energy = (filled * eigenvalues - model.electron_kT * entropy).sum(-1)
    if model.chemical_potential is not None:
        energy = energy - mu * filled.sum(-1)
    return energy


def site_expectations(columns: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """<c+ sigma c> (N, 3) and <c+ c> (N,) of eigenvectors (2N, n) with occupations (n,)."""
    occupied = filled > EMPTY
    weight = filled[occupied]
    up, down = columns[0::2, occupied], columns[1::2, occupied]
    flip = (up.conj() * down) @ weight.to(up.dtype)
    n_up = (up.real**2 + up.imag**2) @ weight
    n_down = (down.real**2 + down.imag**2) @ weight
    moment = torch.stack([2 * flip.real, 2 * flip.imag, n_up - n_down], dim=-1)
    return moment, n_up + n_down


def spin_energy(model: SDModel, spins: Tensor) -> Tensor:
    """Energy (...) of the terms without electrons: fields, axes and couplings of the spins.

    E = -sum_i [B . S_i + K (S_i^z)^2] + sum_<ij> S_i . M_ij S_j.
    """
    zeeman = spins.new_tensor(model.zeeman)
    alone = (spins * zeeman).sum(-1) + model.easy_axis * spins[..., 2] ** 2
    if model.spin_couplings:
        alone = alone - 0.5 * (spins * _coupled(model, spins)).sum(-1)
    return -alone.sum(-1)


def spin_field(model: SDModel, spins: Tensor) -> Tensor:
    """-d spin_energy / dS, (..., N, 3)."""
    field = spins.new_tensor(model.zeeman).expand(spins.shape).clone()
    field[..., 2] += 2 * model.easy_axis * spins[..., 2]
    return field - _coupled(model, spins) if model.spin_couplings else field


def _coupled(model: SDModel, spins: Tensor) -> Tensor:
    """sum_j M_ij S_j over the bonds of every site, (..., N, 3)."""
    table = _coupling_table(model.lattice, model.spin_couplings, spins.device, spins.dtype)
    coupled: Tensor = _Coupled.apply(spins, *table)
    return coupled


@lru_cache(maxsize=4)
def _coupling_table(
    lattice: Lattice, terms: tuple[SpinCoupling, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Sites (N, z) and matrices M (N, z, 3, 3)."""
    sites, matrices = links(lattice, terms, SpinCoupling.SIZE).table(lattice.n_sites)
    return torch.as_tensor(sites, device=device), torch.as_tensor(matrices).to(device, dtype)


class _Coupled(torch.autograd.Function):
    """A symmetric matrix times the spins; the derivative is a gather too, the same everywhere."""

    @staticmethod
    def forward(ctx: Any, spins: Tensor, sites: Tensor, matrices: Tensor) -> Tensor:
        ctx.table = sites, matrices
        return torch.einsum("nkab,...nkb->...na", matrices, spins[..., sites, :])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Coupled.apply(gradient, *ctx.table), None, None


def describe(model: SDModel) -> dict[str, Any]:
    """The model as plain values for a JSON header; :func:`from_description` is the inverse.

    Complex numbers are text, "(1+0.5j)". Without terms on bonds the header does not speak of them.
    """
    found = dataclasses.asdict(model)
    for hop in found["hops"]:
        hop["matrix"] = [[str(x) for x in row] for row in hop["matrix"]]
    return {k: v for k, v in found.items() if v or k not in ("hops", "spin_couplings")}


def from_description(description: dict[str, Any]) -> SDModel:
    """The model of :func:`describe`. ValueError if the description is not one."""
    try:
        values = dict(description)
        lattice = Lattice(**{k: _nested_tuple(v) for k, v in values.pop("lattice").items()})
        terms = {
            name: tuple(kind(**term) for term in values.pop(name, ()))
            for name, kind in (("hops", Hop), ("spin_couplings", SpinCoupling))
        }
        return SDModel(lattice, **{k: _nested_tuple(v) for k, v in values.items()}, **terms)  # type: ignore[arg-type]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"description: not an SDModel ({error})") from error


def _nested_tuple(value: Any) -> Any:
    return tuple(_nested_tuple(v) for v in value) if isinstance(value, list | tuple) else value
