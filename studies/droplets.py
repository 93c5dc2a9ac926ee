"""Holes that dig ferromagnetic droplets in an antiferromagnet: states and energies.

A hole in the Neel state moves in a band sqrt(e_k^2 + J^2) that is flat near its edge and costs J.
If one spin is flipped, five parallel sites let it hop. At large J the star of four neighbours has
a level 2 t above -J, lowered by 5 t^2 / 4 J through hops to the eight sites around it, and the four
parallel bonds have lost the antiferromagnetic t^2 / J each: the trapped hole costs

    J - 2 t + 21 t^2 / 4 J.

Larger droplets are sets of flipped spins, on one sublattice, with all their neighbours: diagonal
lines for a few holes at J = 6 t. Such self-trapped carriers are magnetic polarons; the double
exchange behind them: de Gennes, Phys. Rev. 118, 141 (1960), doi 10.1103/PhysRev.118.141.

Energies are those of N - n electrons on N sites less that of the Neel state with N electrons.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from landscape import geodesic
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sdml import spins as spin_arrays
from sdml.lattice import Lattice
from sdml.model import SDModel, electronic_energy, hamiltonian, occupations, spin_energy
from sdml.spins import SpinArray, as_tensor

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CENTERS = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.5, 0.25), (0.25, 0.25))
"""Of droplets to start from, relative to a site of their sublattice."""
ASPECTS = (1.0, 0.7, 0.5, 0.2, 0.1)
"""Ratios of the axes of droplets: a circle, ellipses, nearly lines."""


@dataclass(frozen=True)
class Droplet:
    """Flipped spins of the Neel state and the energy of its holes.

    Attributes
    ----------
    flipped : tuple of int
        Sites.
    n_holes : int
    energy : float
        Above the Neel state without holes, in units of t, for all holes together.
    """

    flipped: tuple[int, ...]
    n_holes: int
    energy: float

    @property
    def energy_per_hole(self) -> float:
        return self.energy / self.n_holes


def with_holes(model: SDModel, n_holes: int) -> SDModel:
    """The model with N - n_holes electrons on its N sites."""
    n_sites = model.lattice.n_sites
    if not 0 <= n_holes <= n_sites or n_holes != int(n_holes):
        raise ValueError(f"n_holes: must be a whole number from 0 to {n_sites}, got {n_holes}")
    filling = (n_sites - n_holes) / (2 * n_sites)
    return dataclasses.replace(model, filling=filling, chemical_potential=None)


def flipped_neel(lattice: Lattice, flipped: Sequence[int]) -> FloatArray:
    """The Neel state with the spins of some sites reversed, (N, 3)."""
    sites = np.asarray(flipped, dtype=int)
    if sites.size and not (sites.min() >= 0 and sites.max() < lattice.n_sites):
        raise ValueError(f"flipped: must be sites from 0 to {lattice.n_sites - 1}, got {flipped}")
    state = spin_arrays.neel(lattice)
    state[sites] *= -1
    return state


def levels(model: SDModel, spins: SpinArray) -> Tensor:
    """Ascending one-electron levels (2N,) of one configuration.

    Spins along +-z leave two real blocks, one for each spin of the electron: ten times faster.
    """
    s = as_tensor(spins, model.lattice.n_sites).detach().double()
    if bool((s[:, :2] == 0).all()) and not model.hops:
        hopping = torch.as_tensor(model.hopping_matrix[::2, ::2].toarray().real)
        exchange = torch.diag(model.exchange_coupling * s[:, 2])
        blocks = torch.stack([hopping - exchange, hopping + exchange])
        return torch.linalg.eigvalsh(blocks).ravel().sort().values
    return torch.linalg.eigvalsh(hamiltonian(model, s))


def energies(model: SDModel, spins: SpinArray, n_holes: Iterable[int]) -> FloatArray:
    """Energy above the Neel state of one configuration (N, 3) for several numbers of holes, (n,).

    One diagonalization for all; free energy at ``model.electron_kT``. The filling of ``model`` is
    not used.
    """
    return _energies(model, spins, n_holes) - neel_energy(model)


def neel_energy(model: SDModel) -> float:
    """Energy of the Neel state with one electron a site."""
    return float(_energies(model, spin_arrays.neel(model.lattice), [0])[0])


def _energies(model: SDModel, spins: SpinArray, n_holes: Iterable[int]) -> FloatArray:
    found = levels(model, spins)
    own = float(spin_energy(model, as_tensor(spins).detach().double()))
    total = []
    for number in n_holes:
        doped = with_holes(model, number)
        filled, mu = occupations(doped, found)
        total.append(float(electronic_energy(doped, found, filled, mu)) + own)
    return np.array(total)


def droplets(model: SDModel, n_holes: Sequence[int], n_flipped: int) -> list[Droplet]:
    """The best connected droplet found for every number of holes; upper bounds of the energy.

    Starts from sets of up to ``n_flipped`` sites of one sublattice (nearest to a center on
    a site, bond or plaquette, in circles and ellipses along the axes and diagonals; one
    diagonalization of a set serves all numbers of holes). Then flipped spins are added, removed and
    moved while that lowers the energy, see :func:`improved`.
    """
    reference = neel_energy(model)
    best: dict[int, Droplet] = {}
    for flipped in _elliptic_sets(model.lattice, n_flipped):
        found = _energies(model, flipped_neel(model.lattice, flipped), n_holes) - reference
        for number, energy in zip(n_holes, found, strict=True):
            if number not in best or round(energy, 9) < round(best[number].energy, 9):
                best[number] = Droplet(flipped, number, float(energy))
    return [improved(model, best[number]) for number in n_holes]


def improved(model: SDModel, droplet: Droplet) -> Droplet:
    """The droplet after steepest descent in changes of one flipped spin: a local minimum.

    A spin is flipped beside the droplet, back in it, or both; the flipped spins stay connected
    through steps of sqrt(2) and 2, on which their clusters of parallel spins share sites.
    """
    reference = neel_energy(model)
    near = np.concatenate([model.lattice.neighbors(2), model.lattice.neighbors(3)], axis=1)
    best = droplet
    while True:
        options = [
            Droplet(
                flipped,
                best.n_holes,
                float(
                    _energies(model, flipped_neel(model.lattice, flipped), [best.n_holes])[0]
                    - reference
                ),
            )
            for flipped in _changes(best.flipped, near)
        ]
        # Rounded, so that equivalent droplets are chosen in order and not by rounding errors.
        lowest = min(options, key=lambda d: round(d.energy, 9))
        if round(lowest.energy, 9) >= round(best.energy, 9):
            return best
        best = lowest


def _changes(flipped: tuple[int, ...], near: IntArray) -> list[tuple[int, ...]]:
    """Connected sets that differ by one site more, less, or elsewhere."""
    inside = set(flipped)
    beside = sorted(set(near[list(flipped)].ravel().tolist()) - inside)
    without = [inside - {site} for site in flipped] if len(flipped) > 1 else []
    changed = [*without, *(start | {site} for start in (inside, *without) for site in beside)]
    return [tuple(sorted(sites)) for sites in changed if _connected(sites, near)]


def _connected(sites: set[int], near: IntArray) -> bool:
    members = sorted(sites)
    joined = (near[members][:, :, None] == members).any(1)
    return connected_components(csr_array(joined))[0] == 1


def _elliptic_sets(lattice: Lattice, n_flipped: int) -> Iterator[tuple[int, ...]]:
    """Different sets of up to ``n_flipped`` sites on the sublattice of the central site."""
    middle = _central_site(lattice)
    origin = lattice.cells[middle]
    sublattice = np.flatnonzero((lattice.cells.sum(-1) - origin.sum()) % 2 == 0)
    seen = set()
    for center, aspect, turn in itertools.product(CENTERS, ASPECTS, (0.0, np.pi / 4)):
        x, y = (lattice.cells[sublattice] - origin - np.array(center)).T
        along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        distance = np.round(np.hypot(aspect * along, across), 6)
        nearest = sublattice[np.argsort(distance, kind="stable")]
        for count in range(1, min(n_flipped, len(nearest)) + 1):
            flipped = tuple(sorted(nearest[:count].tolist()))
            if flipped not in seen:
                seen.add(flipped)
                yield flipped


def _central_site(lattice: Lattice) -> int:
    x, y = lattice.shape
    return int(lattice.site_index(np.array([x // 2, y // 2]), 0))


def separation_energy(model: SDModel, displacement: tuple[int, int]) -> float:
    """Energy of two holes on two flipped spins at a displacement (x, y), above the Neel state.

    An odd x + y puts them on different sublattices: the droplets point in opposite directions.
    """
    lattice = model.lattice
    first = _central_site(lattice)
    second = int(lattice.site_index(lattice.cells[first] + np.array(displacement), 0))
    if second == first:
        raise ValueError(f"displacement: must lead to another site, got {displacement}")
    return float(energies(model, flipped_neel(lattice, (first, second)), [2])[0])


def trapping_energy(model: SDModel, electron_kT: float) -> float:
    """Free energy of one hole in the Neel state less that of one hole on a flipped spin.

    Positive where the hole traps itself. At electron_kT > 0 the hole at large gains entropy, about
    electron_kT ln N, so that the sign depends on the doping 1 / N.
    """
    warm = dataclasses.replace(model, electron_kT=electron_kT)
    free = energies(warm, spin_arrays.neel(model.lattice), [1])[0]
    trapped = energies(warm, flipped_neel(model.lattice, [_central_site(model.lattice)]), [1])[0]
    return float(free - trapped)


def trapped(lattice: Lattice, background: FloatArray, sites: Sequence[int]) -> FloatArray:
    """The spins of some sites turned parallel to the sum of their neighbors: (N, 3)."""
    state = np.array(background, dtype=float)
    around = background[lattice.neighbors()[list(sites)]].sum(-2)
    state[list(sites)] = spin_arrays.normalize(around)
    return state


def hop(
    model: SDModel, background: FloatArray, site: int, target: int, n_images: int = 7
) -> dict[str, float]:
    """How firmly a background of spins without holes, held as it is, traps one hole, in t.

    ``gain`` is what the hole gains if the spin of ``site`` is turned as in :func:`trapped`.
    ``barrier`` is the highest energy less the mean of both ends when this polaron moves to
    ``target``: on the lower of two ways, both spins together, or the new one first.
    """
    first, last, both = (
        trapped(model.lattice, background, sites) for sites in ([site], [target], [site, target])
    )
    ways = ((first, last), (first, both, last))
    energy = [
        [
            _energies(model, image, [1])[0]
            for start, end in itertools.pairwise(way)
            for image in geodesic(start, end, n_images)
        ]
        for way in ways
    ]
    ends = (energy[0][0] + energy[0][-1]) / 2
    free = _energies(model, background, [1])[0]
    return {"gain": free - ends, "barrier": min(map(max, energy)) - ends}
