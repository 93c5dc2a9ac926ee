"""Terms on bonds: bands, topology and orders that are known, symmetries, and engines that agree."""

import dataclasses
import json

import floors
import laws
import numpy as np
import pytest
import torch

from sdml import bands, dataset, exact, forcefield, kpm, lattice, model, spins, training
from sdml.descriptor import (
    BondEnvironment,
    MomentEnvironment,
    RawBondEnvironment,
    SymmetryEnvironment,
)
from sdml.dynamics import integrate
from sdml.forcefield import ForceField
from sdml.kpm import solver
from sdml.lattice import Bond
from sdml.model import SDModel
from sdml.terms import Hop, SpinCoupling, dzyaloshinskii_moriya

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
X, Y = Bond(0, 0, (1, 0)), Bond(0, 0, (0, 1))
ROOT3 = np.sqrt(3)


def rashba(lat, strength):
    """Hops i lambda (d_x sigma_y - d_y sigma_x) along every nearest-neighbour bond d."""
    hops = []
    for bond in lat.shell_bonds():
        dx, dy = lat.bond_vector(bond)
        hops.append(Hop(bond, 1j * strength * (dx * PAULI[1] - dy * PAULI[0])))
    return tuple(hops)


def haldane(lat, strength, phase):
    """Second neighbours of the honeycomb lattice with a phase along the arrows a1, a2 - a1, -a2."""
    arrows = [(1, 0), (-1, 1), (0, -1)]
    return tuple(
        Hop(Bond(b, b, arrow), strength * np.exp(1j * sign * phase))
        for b, sign in ((0, 1), (1, -1))
        for arrow in arrows
    )


def magnetic_cells(shape, along_x=True, gauge=(0, 0, 0)):
    """Square lattice in a flux 1/3 a plaquette, Landau gauge, three sites a cell; and its hops."""
    u, v = ((1, 0), (0, 1)) if along_x else ((0, 1), (1, 0))
    vectors = [np.multiply(3, u), v] if along_x else [v, np.multiply(3, u)]
    lat = lattice.from_cell(vectors, [np.multiply(b, u) for b in range(3)], shape)
    bonds = [(lat.bond(u, b), 0.0) for b in range(3)]
    bonds += [(lat.bond(v, b), (1 if along_x else -1) * 2 * np.pi * b / 3) for b in range(3)]
    phases = [phase + gauge[bond.target] - gauge[bond.source] for bond, phase in bonds]
    hops = [Hop(bond, np.exp(1j * p)) for (bond, _), p in zip(bonds, phases, strict=True)]
    return lat, tuple(hops)


def chiral_couplings(lat, exchange, strength):
    """-J S.S and D (z x d) . (S x S) along every nearest-neighbour bond d."""
    bonds = [(bond, *lat.bond_vector(bond)) for bond in lat.shell_bonds()]
    twists = [
        SpinCoupling(b, dzyaloshinskii_moriya((-strength * y, strength * x, 0)))
        for b, x, y in bonds
    ]
    return (SpinCoupling(1, -exchange), *twists)


def grid(n):
    theta = 2 * np.pi * np.arange(n) / n
    return np.stack(np.meshgrid(theta, theta, indexing="ij"), axis=-1).reshape(-1, 2)


def free_bands(lat, phases, **terms):
    """Levels of a lattice without exchange at Bloch phases, (P, 2N)."""
    free = SDModel(lat, 0.0, filling=0.5, **terms)
    return np.linalg.eigvalsh(bands.bloch_hamiltonian(free, spins.random(lat.n_sites, 0), phases))


# --- lattices


@pytest.mark.parametrize(
    "name, n_basis, coordination", [("honeycomb", 2, {3}), ("kagome", 3, {4}), ("lieb", 3, {2, 4})]
)
def test_named_lattices(name, n_basis, coordination):
    lat = getattr(lattice, name)(4, 3)
    assert (lat.name, lat.n_basis, lat.shape) == (name, n_basis, (4, 3))
    assert lat.shell_distances(1) == pytest.approx([1])
    assert set(np.bincount(lat.directed_bonds()[:, 0])) == coordination
    np.testing.assert_array_equal(lat.sublattices, np.arange(lat.n_sites) % n_basis)
    assert len(lat.plaquettes) == len(lat.triangles) * lat.n_cells
    coupled = SDModel(lat, 2.0, filling=0.3, electron_kT=0.1)
    moves = [*laws.translations(lat), *laws.spin_rotations(lat)]
    square = getattr(lattice, name)(3)
    laws.assert_equivariant(
        lambda s: exact.solve(coupled, s).local_field, spins.random(lat.n_sites, 1), moves
    )
    coupled = dataclasses.replace(coupled, lattice=square)
    s = spins.random(square.n_sites, 2)
    turns = laws.point_operations(square, center=0)
    laws.assert_equivariant(lambda s: exact.solve(coupled, s).local_field, s, turns)


@pytest.mark.parametrize("name", ["square", "triangular", "honeycomb", "kagome", "lieb"])
def test_bonds_of_a_shell_and_their_displacements(name):
    lat = getattr(lattice, name)(5, 4)
    for shell in (1, 2, 3):
        kinds = lat.shell_bonds(shell)
        pairs = np.concatenate([lat.directed_bonds(bond) for bond in kinds])
        np.testing.assert_array_equal(
            np.unique(pairs, axis=0), np.unique(lat.directed_bonds(shell), axis=0)
        )
        for bond in kinds:
            vector = lat.bond_vector(bond)
            assert lat.bond(vector, bond.source) == bond
            assert bond.reverse in kinds and bond.reverse.reverse == bond
            np.testing.assert_allclose(lat.bond_vector(bond.reverse), -vector)
            assert np.linalg.norm(vector) == pytest.approx(lat.shell_distances(shell)[-1])


def test_flat_bands():
    """Of kagome at +2t, Mielke, J. Phys. A 24, L73 (1991); of the Lieb lattice at 0."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (20, 2))
    levels = free_bands(lattice.kagome(1), phases)
    np.testing.assert_allclose(levels[:, 4:], 2, atol=1e-12)
    assert levels[:, 3].max() < 2 and np.ptp(levels[:, 0]) > 1
    np.testing.assert_allclose(free_bands(lattice.lieb(1), phases)[:, 2:4], 0, atol=1e-12)


def test_dirac_points_of_the_honeycomb():
    """E = +- 3/2 t q about K, Castro Neto et al., Rev. Mod. Phys. 81, 109 (2009), eq. 7."""
    lat = lattice.honeycomb(1)
    K = np.array([4 * np.pi / (3 * ROOT3), 0])
    q = 1e-5 * np.array([[0, 0], [1, 0], [0, 1], [-0.6, 0.8]])
    levels = free_bands(lat, (K + q) @ np.transpose(lat.vectors))
    size = 1.5 * np.linalg.norm(q, axis=-1)
    np.testing.assert_allclose(levels, np.outer(size, [-1, -1, 1, 1]), atol=1e-9)


@pytest.mark.parametrize("name", ["honeycomb", "kagome", "lieb"])
def test_the_path_through_the_zone_sees_the_same_bands_in_any_cell(name):
    lat, small = getattr(lattice, name)(2), getattr(lattice, name)(1)
    path = bands.zone_path(lat, 20)
    kondo = SDModel(lat, 1.5, filling=0.5)
    levels, weights = bands.unfolded(kondo, spins.ferromagnetic(lat), path.momenta)
    np.testing.assert_allclose(weights.sum(-1), 2)
    one = dataclasses.replace(kondo, lattice=small)
    expected, own = bands.unfolded(one, spins.ferromagnetic(small), path.momenta)
    for power in (1, 2, 3):
        np.testing.assert_allclose(
            (weights * levels**power).sum(-1), (own * expected**power).sum(-1), atol=1e-10
        )
    hexagonal = name != "lieb"
    corner = dict(zip(path.labels, path.ticks, strict=False))["K" if hexagonal else "M"]
    at = np.abs(path.distance - corner).argmin()
    expected = 4 * np.pi / 3 / lat.spacing if hexagonal else np.pi * 2**0.5 / lat.spacing
    assert np.linalg.norm(path.momenta[at]) == pytest.approx(expected)


# --- electrons in bands


@pytest.mark.parametrize("shape", [(5, 4), (6, 6), (3, 3)])
def test_rashba_bands(shape):
    lat, strength = lattice.square(*shape), 0.3
    free = SDModel(lat, 0.0, filling=0.5, hops=rashba(lat, strength))
    kx, ky = lat.momenta.T
    band, split = -2 * (np.cos(kx) + np.cos(ky)), 2 * strength * np.hypot(np.sin(kx), np.sin(ky))
    found = np.linalg.eigvalsh(model.hamiltonian(free, spins.random(lat.n_sites, 0)))
    np.testing.assert_allclose(found, np.sort([*(band - split), *(band + split)]), atol=1e-12)
    # The upper band turns the spin clockwise about k x z, as the sign of the docstring says.
    one = dataclasses.replace(free, lattice=lattice.square(1))
    h = bands.bloch_hamiltonian(one, spins.random(1, 0), (0.4, 0.7))
    expected = 2 * strength * (np.sin(0.7) * PAULI[0] - np.sin(0.4) * PAULI[1])
    np.testing.assert_allclose(
        h + 2 * (np.cos(0.4) + np.cos(0.7)) * np.eye(2), expected, atol=1e-12
    )


def test_a_hop_by_shell_or_by_bonds_is_the_plain_hopping():
    lat = lattice.kagome(3)
    plain = SDModel(lat, 1.0, 0.4, electron_kT=0.1, hopping=(1.0, -0.3))
    by_shell = dataclasses.replace(plain, hopping=0, hops=[Hop(1, 1.0), Hop(2, -0.3 * np.eye(2))])
    bonds = [Hop(b, t) for shell, t in ((1, 1.0), (2, -0.3)) for b in lat.shell_bonds(shell)]
    by_bond = dataclasses.replace(plain, hopping=0, hops=bonds)
    s = spins.random(lat.n_sites, 0)
    expected = model.hamiltonian(plain, s).numpy()
    for other in (by_shell, by_bond):
        np.testing.assert_allclose(model.hamiltonian(other, s), expected, atol=1e-15)


def test_chern_numbers_of_haldane():
    """Phys. Rev. Lett. 61, 2015 (1988): one filled band of each spin, or of one spin alone."""
    lat = lattice.honeycomb(1)
    up, found = spins.ferromagnetic(lat), []
    for phase in (np.pi / 2, -np.pi / 2):
        hops = haldane(lat, 0.1, phase)
        free = SDModel(lat, 0.0, filling=0.5, hops=hops)
        polarized = SDModel(lat, 10.0, filling=0.25, hops=hops)
        found.append([bands.chern_number(m, up) for m in (free, polarized)])
        # The gap at the Dirac points.
        assert bands.band_gap(free, up, 12) == pytest.approx(6 * ROOT3 * 0.1, abs=1e-10)
    assert found == [[-2, -1], [2, 1]]


def test_hofstadter_bands_of_a_third_of_a_flux():
    """E^3 - 6 E = -2 (cos theta_x + cos 3 k_y): edges 1 +- sqrt(3), -2 and their negatives."""
    lat, hops = magnetic_cells((1, 1))
    phases = grid(12)
    levels = free_bands(lat, phases, hopping=0, hops=hops)
    np.testing.assert_allclose(levels[:, 0::2], levels[:, 1::2], atol=1e-12)
    e = levels[:, 0::2]
    right = -2 * (np.cos(phases[:, :1]) + np.cos(3 * phases[:, 1:]))
    np.testing.assert_allclose(e**3 - 6 * e, np.broadcast_to(right, e.shape), atol=1e-11)
    edges = [-1 - ROOT3, -2, 1 - ROOT3, ROOT3 - 1, 2, 1 + ROOT3]
    np.testing.assert_allclose(np.ravel([e.min(0), e.max(0)], order="F"), edges, atol=1e-10)
    third, up = SDModel(lat, 0.0, filling=1 / 3, hopping=0, hops=hops), spins.ferromagnetic(lat)
    assert bands.band_gap(third, up) == pytest.approx(3 - ROOT3, abs=1e-10)
    # Thouless, Kohmoto, Nightingale and den Nijs, Phys. Rev. Lett. 49, 405 (1982).
    assert abs(bands.chern_number(third, up)) == 2


@pytest.mark.parametrize("electron_kT", [0.0, 0.1])
def test_peierls_phases_are_gauge_invariant(electron_kT):
    """Landau gauges along x and y, and random phases of the sites, give the same state."""
    square, everywhere = lattice.square(6), spins.random(36, 4)
    plain = SDModel(square, 1.5, 0.3, electron_kT=electron_kT)
    states = []
    for shape, along_x in (((2, 6), True), ((6, 2), False)):
        for gauge in ((0, 0, 0), (0.3, -2.0, 1.1)):
            lat, hops = magnetic_cells(shape, along_x, gauge)
            sites = square.site_index(np.round(lat.positions).astype(int), 0)
            flux = dataclasses.replace(plain, lattice=lat, hopping=0, hops=hops)
            found = exact.solve(flux, everywhere[sites])
            states.append((found.energy, found.local_field[sites.argsort()]))
    for energy, field in states[1:]:
        assert energy == pytest.approx(states[0][0], abs=1e-10)
        np.testing.assert_allclose(field, states[0][1], atol=1e-10)
    assert abs(exact.solve(plain, everywhere).energy - states[0][0]) > 0.1


# --- orders of the spins


def relaxed(lat, terms):
    """Energy a site and spins of the best of 3 random states at rest in the couplings alone."""
    bound = SDModel(lat, 0.0, filling=0.0, spin_couplings=terms)
    s = torch.as_tensor(np.stack([spins.random(lat.n_sites, seed) for seed in range(3)]))
    s = integrate(s, lambda s: model.spin_field(bound, s), 0.1, 600, damping=1.0)
    energy = model.spin_energy(bound, s) / lat.n_sites
    best = int(energy.argmin())
    return float(energy[best]), s[best].numpy()


@pytest.mark.parametrize(
    "shape, D, steps", [((8, 2), 1.0, [(1, 0)]), ((8, 8), 2**0.5, [(1, 0), (0, 1)])]
)
def test_the_pitch_of_a_spiral(shape, D, steps):
    """tan q = D / J along x, and tan q = D / sqrt(2) J a bond along (1, 1), which is lower.

    On 8 x 2 sites no spiral fits along y; both have a pitch of 8 sites here. Energies a site are
    -J - sqrt(J^2 + D^2) and -2 sqrt(J^2 + D^2 / 2).
    """
    lat = lattice.square(*shape)
    energy, s = relaxed(lat, chiral_couplings(lat, 1.0, D))
    lowest = -1 - np.hypot(1, D) if len(steps) == 1 else -2 * np.sqrt(1 + D**2 / 2)
    assert energy == pytest.approx(lowest, abs=1e-6)
    for step in steps:
        along = (s[lat.translation(*step)] * s).sum(-1)
        np.testing.assert_allclose(along, np.cos(np.pi / 4), atol=1e-2)


def test_a_moriya_vector_is_the_cross_product():
    D, a, b = np.random.default_rng(0).standard_normal((3, 3))
    assert a @ dzyaloshinskii_moriya(D) @ b == pytest.approx(D @ np.cross(a, b))


def test_the_energy_of_couplings_is_the_sum_over_bonds():
    """Written out bond by bond, on a lattice whose sites differ in coordination."""
    lat, rng = lattice.lieb(3, 2), np.random.default_rng(0)
    heisenberg, matrix = 0.7, rng.standard_normal((3, 3))
    long = lat.bond((2, 2), source=1)
    terms = [SpinCoupling(1, heisenberg), SpinCoupling(long, matrix)]
    bound = SDModel(lat, 0.0, filling=0.0, spin_couplings=terms)
    s = spins.random(lat.n_sites, 0)
    expected = heisenberg * sum(s[i] @ s[j] for i, j in lat.bonds())
    expected += sum(s[i] @ matrix @ s[j] for i, j in lat.directed_bonds(long))
    assert exact.solve(bound, s).energy == pytest.approx(expected, abs=1e-12)
    back = dataclasses.replace(
        bound, spin_couplings=[terms[0], SpinCoupling(long.reverse, matrix.T)]
    )
    assert exact.solve(back, s).energy == pytest.approx(expected, abs=1e-12)


# --- engines


COUPLED = {"electron_kT": 0.2, "filling": 0.4}
SPIN_SHELL = np.array([[0.3, 0.1 - 0.2j], [0.1 + 0.2j, -0.4]])
MODELS = {
    "Rashba": SDModel(lattice.square(5, 3), 1.5, **COUPLED, hops=rashba(lattice.square(5), 0.4)),
    "Haldane": SDModel(
        lattice.honeycomb(3), 1.0, **COUPLED, hops=haldane(lattice.honeycomb(3), 0.3, 0.8)
    ),
    "flux": SDModel(
        magnetic_cells((2, 4))[0], -2.0, chemical_potential=0.3, electron_kT=0.2, hopping=0,
        hops=magnetic_cells((2, 4))[1],
    ),
    "a shell": SDModel(lattice.triangular(4), 1.0, **COUPLED, hops=[Hop(2, SPIN_SHELL)]),
    "couplings": SDModel(
        lattice.kagome(2, 3), 1.0, **COUPLED, zeeman=(0, 0.1, 0.2), easy_axis=0.3,
        spin_couplings=(
            *chiral_couplings(lattice.kagome(2), 0.5, 0.2),
            SpinCoupling(2, np.diag([0.1, 0.2, -0.3])),
        ),
    ),
}  # fmt: skip
every_model = pytest.mark.parametrize("m", MODELS.values(), ids=MODELS.keys())


@every_model
def test_engines_and_differences_agree(m, monkeypatch):
    s = np.stack([spins.random(m.lattice.n_sites, seed) for seed in (1, 2)])
    expected, found = exact.solve(m, s), kpm.solve(m, s, n_moments=500)
    for name in ("energy", "local_field", "density", "chemical_potential"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-8)
    np.testing.assert_allclose(exact.local_field(m, s), expected.local_field, atol=1e-9)
    site = floors.site_field(m, s[0], 3, n_moments=500)
    np.testing.assert_allclose(site, expected.local_field[0, 3], atol=1e-8)
    laws.assert_field_is_gradient(
        lambda s: exact.solve(m, s).energy, lambda s: exact.solve(m, s).local_field, s[0]
    )
    hamiltonian = solver._hamiltonian
    by_torch = lambda *given: dataclasses.replace(hamiltonian(*given), compiled=False)  # noqa: E731
    for probing in ("coloured", "random-plain"):
        compiled = kpm.solve(m, s[0], 100, 12, probing, seed=0)
        with monkeypatch.context() as patch:
            patch.setattr(solver, "_hamiltonian", by_torch)
            other = kpm.solve(m, s[0], 100, 12, probing, seed=0)
        np.testing.assert_allclose(other.local_field, compiled.local_field, atol=1e-9)
        assert other.energy == pytest.approx(compiled.energy, abs=1e-9)


@pytest.mark.gpu
@every_model
def test_gpu_agrees_with_the_cpu(m):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    s = spins.random(m.lattice.n_sites, 0)
    expected = exact.solve(m, s)
    for found in (exact.solve(m, s, "cuda"), kpm.solve(m, s, 500, device="cuda")):
        np.testing.assert_allclose(found.local_field, expected.local_field, atol=1e-8)
        assert found.energy == pytest.approx(expected.energy, abs=1e-8)


@every_model
def test_the_probed_field_is_the_gradient_of_the_probed_energy(m):
    laws.assert_field_is_gradient(
        lambda s: kpm.solve(m, s, 60, 8, seed=0, energy_bounds=(-12, 12)).energy,
        lambda s: kpm.solve(m, s, 60, 8, seed=0, energy_bounds=(-12, 12)).local_field,
        spins.random(m.lattice.n_sites, 0),
        sites=(0, 5),
    )


@every_model
def test_repeats_of_a_cell_are_the_large_lattice(m):
    """Of a cell in which hops and couplings join sites to themselves."""
    cell = dataclasses.replace(m.lattice, shape=(1, 2))
    large = dataclasses.replace(m.lattice, shape=(3, 6))
    s = spins.random(cell.n_sites, 0)
    source = cell.site_index(large.cells, large.sublattices)
    found = bands.repeated(dataclasses.replace(m, lattice=cell), s, 3)
    expected = exact.solve(dataclasses.replace(m, lattice=large), s[source])
    assert 9 * found.energy == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(found.local_field[source], expected.local_field, atol=1e-9)


# --- symmetries


def joint(lat, reverse_mirrors=False, center=0):
    """The point group on sites and, as on axial vectors, on spins; or with S -> -S by mirrors."""
    moves = []
    for k, g in enumerate(lat.point_group.matrices):
        sign = np.round(np.linalg.det(g))
        full = np.eye(3)
        full[:2, :2] = g
        turn = np.diag([sign] * 3) if reverse_mirrors else sign * full
        moves.append(laws.Move(f"element {k}", lat.site_permutation(g, center), turn))
    return moves


def check_group(m, moves, broken):
    """Energy and field follow the moves, and the energy does not follow the broken ones."""
    s, n = spins.random(m.lattice.n_sites, 3), m.lattice.n_sites
    laws.assert_invariant(lambda s: np.array(exact.solve(m, s).energy), s, moves)
    laws.assert_equivariant(lambda s: exact.solve(m, s).local_field, s, moves)
    energy = exact.solve(m, s).energy
    for move in broken:
        assert abs(exact.solve(m, move.vectors(s)).energy - energy) > 1e-4 * n, move.name


def test_the_group_of_rashba_coupling():
    """Rotations and mirrors of space and spins together, and time reversal."""
    lat = lattice.square(4)
    terms = {"hops": rashba(lat, 0.5), "spin_couplings": chiral_couplings(lat, 0.5, 0.3)}
    m = SDModel(lat, 1.5, **COUPLED, **terms)
    time, turn = laws.spin_rotations(lat)[2], laws.spin_rotations(lat)[0]
    apart = [laws.Move("space alone", joint(lat)[1].permutation, np.eye(3)), turn]
    check_group(m, [*laws.translations(lat), *joint(lat), time], apart)


def test_the_group_of_a_flux():
    """Rotations of space and of the spins; mirrors and time reversal together only."""
    lat = lattice.honeycomb(3)
    m = SDModel(lat, 1.5, **COUPLED, hops=haldane(lat, 0.4, 1.0))
    turns = laws.spin_rotations(lat)
    mirror = laws.point_operations(lat, 0)[-1]
    group = [*laws.translations(lat), *joint(lat, reverse_mirrors=True), *turns[:2]]
    check_group(m, group, [mirror, *turns[2:]])


def test_symmetries_that_a_model_may_lack():
    lat, plain = lattice.square(4), SDModel(lattice.square(4), 1.0, 0.4)
    made = {
        (): [Hop(2, 0.3)],
        ("spin rotations", "time reversal"): [Hop(2, PAULI[2])],
        ("point group", "spin rotations"): rashba(lat, 0.1),
        ("point group", "time reversal"): [Hop(X, 1j)],
        ("point group",): [Hop(X, 0.2)],
    }
    for broken, hops in made.items():
        assert dataclasses.replace(plain, hops=hops).broken_symmetries == set(broken)


# --- force fields, files


def test_force_fields_add_couplings_exactly_and_on_the_lattice_of_the_spins(tmp_path):
    lat, large = lattice.square(12), lattice.square(12, 14)
    terms = chiral_couplings(lat, 0.3, 0.2)
    plain = SDModel(lat, 2.0, 0.4, electron_kT=0.2)
    coupled = dataclasses.replace(plain, spin_couplings=terms)
    environment = SymmetryEnvironment("square", 1.0, 1.0)
    without, field = (ForceField(m, environment, (4,)).double() for m in (plain, coupled))
    free = SDModel(large, 0.0, 0.0, spin_couplings=terms)
    for sites in (lat, large):
        s = spins.random(sites.n_sites, 1)
        expected = exact.solve(dataclasses.replace(free, lattice=sites), s)
        difference = field.on(sites).local_field(s) - without.on(sites).local_field(s)
        np.testing.assert_allclose(difference, expected.local_field, atol=1e-12)
        difference = field.on(sites).energy(s) - without.on(sites).energy(s)
        assert difference == pytest.approx(expected.energy, abs=1e-10)
    data = dataset.random_states(dataclasses.replace(coupled, lattice=lattice.square(4)), 2, seed=0)
    small = ForceField(data.model, environment, (4,))
    training.train(small, data, training.TrainingSettings(1))
    forcefield.save(small, tmp_path / "f.safetensors")
    dataset.save(data, tmp_path / "d.h5")
    assert forcefield.load(tmp_path / "f.safetensors").model == data.model
    assert dataset.load(tmp_path / "d.h5").model == data.model


def test_gradients_of_couplings_are_differentiable():
    m = MODELS["couplings"]
    s = torch.as_tensor(spins.random(m.lattice.n_sites, 0)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.spin_energy(m, s), s, create_graph=True)
    torch.testing.assert_close(-gradient, model.spin_field(m, s))
    (second,) = torch.autograd.grad((gradient**2).sum() / 2, s)
    ahead = model.spin_field(m, s - 1e-6 * gradient.detach()) - model.spin_field(m, s)
    torch.testing.assert_close(second.detach(), 1e6 * ahead.detach(), atol=1e-5, rtol=1e-5)


@every_model
def test_headers_hold_terms(m):
    text = json.dumps(model.describe(m))
    again = model.from_description(json.loads(text))
    assert again == m and hash(again) == hash(m)
    assert json.dumps(model.describe(again)) == text


def test_headers_of_models_without_terms_are_as_ever():
    plain = model.describe(SDModel(lattice.square(4), 1.0, 0.4))
    assert not {"hops", "spin_couplings"} & set(plain)


# --- what is refused

SQUARE = lattice.square(4)


class Unsaid(BondEnvironment):
    """Of a descriptor that does not say what it assumes."""


def of(**terms):
    return lambda: SDModel(SQUARE, 1.0, 0.4, **terms)


def of_network(environment, **terms):
    return lambda: ForceField(SDModel(lattice.square(12), 2.0, 0.4, **terms), environment, (4,))


@laws.bad_input(
    {
        "shape": (lambda: Hop(X, np.eye(3)), "matrix", "2 x 2"),
        "ragged": (lambda: Hop(X, [[1, 2], [3]]), "matrix", "2 x 2"),
        "words": (lambda: Hop(X, [["a", "b"], ["c", "d"]]), "matrix", "2 x 2"),
        "nan": (lambda: Hop(X, complex(np.nan, 1)), "matrix", "nan"),
        "spin shape": (lambda: SpinCoupling(X, np.eye(2)), "matrix", "3 x 3"),
        "complex coupling": (lambda: SpinCoupling(X, 1j), "matrix", "real"),
        "complex shell": (lambda: Hop(1, 1j), "matrix", "not Hermitian", "1j"),
        "directed shell": (
            lambda: SpinCoupling(1, dzyaloshinskii_moriya((0, 0, 1))), "matrix", "not Hermitian"
        ),
        "shell 0": (lambda: Hop(0, 1.0), "bond", 0),
        "part of a shell": (lambda: SQUARE.shell_bonds(1.5), "shell", 1.5),
        "no lattice": (lambda: SDModel("square", 1.0, 0.4), "lattice", "'square'"),
        "a gradient": (lambda: Hop(X, torch.eye(2, requires_grad=True)), "matrix", "grad"),
        "infinite": (lambda: Hop(X, np.inf), "matrix", "inf"),
        "no bond": (lambda: Hop((1, 0), 1.0), "bond", "(1, 0)"),
        "complex vector": (lambda: dzyaloshinskii_moriya([1j, 0, 0]), "vector", "complex"),
        "no vector": (lambda: dzyaloshinskii_moriya(1.0), "vector", 1.0),
        "bond to itself": (lambda: Bond(0, 0, (0, 0)), "bond", "[0, 0]"),
        "half a cell": (lambda: Bond(0, 0, (0.5, 0)), "bond", 0.5),
        "foreign bond": (of(hops=[Hop(Bond(0, 1, (0, 0)), 1.0)]), "bond", "target=1"),
        "foreign coupling": (of(spin_couplings=[SpinCoupling(Bond(2, 0, (0, 0)), 1)]), "source=2"),
        "between sites": (lambda: SQUARE.bond((0.5, 0)), "vector", "(0.5, 0)"),
        "no sublattice": (lambda: SQUARE.bond((1, 0), 1), "source", 1),
        "twice": (of(hops=[Hop(X, 1.0), Hop(X, 1.0)]), "hops", "twice"),
        "shell twice": (of(spin_couplings=[SpinCoupling(1, 1), SpinCoupling(1, 2)]), "twice"),
        "reverse": (of(hops=[Hop(X, 1j), Hop(X.reverse, 1j)]), "hops", "not Hermitian"),
        "reverse coupling": (
            of(spin_couplings=[SpinCoupling(Y, 1), SpinCoupling(Y.reverse, np.diag([1, 2, 1]))]),
            "spin_couplings", "not Hermitian",
        ),
        "kind": (of(hops=[SpinCoupling(1, 1)]), "hops", "Hop"),
        "no sequence": (of(spin_couplings=SpinCoupling(1, 1)), "spin_couplings", "sequence"),
        "header": (
            lambda: model.from_description(model.describe(of()()) | {"hops": [{"t": 1}]}),
            "description", "t",
        ),
        "chain": (
            lambda: exact.solve(SDModel(lattice.square(8, 1), 1.0, 0.4), spins.random(8, 0)),
            "lattice", "(8, 1)",
        ),
        "chain by moments": (
            lambda: kpm.solve(SDModel(lattice.square(1, 8), 1.0, 0.4), spins.random(8, 0), 32),
            "lattice", "(1, 8)",
        ),
        "far hop": (
            lambda: SDModel(lattice.square(6, 2), 1.0, 0.4, hopping=(1, 0, 0.1)).hopping_matrix,
            "lattice", "(6, 2)",
        ),
        "paper's descriptor, Rashba": (
            of_network(SymmetryEnvironment("square", 1.0, 1.0), hops=rashba(SQUARE, 0.1)),
            "environment", "SymmetryEnvironment", "spin rotations",
        ),
        "paper's descriptor, flux": (
            of_network(SymmetryEnvironment("square", 1.0, 1.0), hops=[Hop(X, 1j)]),
            "environment", "SymmetryEnvironment", "time reversal",
        ),
        "paper's descriptor, stripes": (
            of_network(SymmetryEnvironment("square", 1.0, 1.0), hops=[Hop(X, 0.1)]),
            "environment", "point group",
        ),
        "a descriptor that does not say": (
            of_network(Unsaid("square", 1.0, 1.0), hops=[Hop(X, 1j)]),
            "environment", "Unsaid", "point group, time reversal",
        ),
        "raw products, Rashba": (
            of_network(RawBondEnvironment("square", 1.0, 1.0), hops=rashba(SQUARE, 0.1)),
            "environment", "RawBondEnvironment", "spin rotations",
        ),
        "moments, Rashba": (
            of_network(MomentEnvironment("square", 2, 3, 2.0), hops=rashba(SQUARE, 0.1)),
            "environment", "MomentEnvironment", "spin rotations",
        ),
    }
)  # fmt: skip
def test_bad_terms_are_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
