"""Energies of holes: against dense diagonalization, limits, laws of landscapes and tangents."""

import dataclasses

import coexistence
import droplets
import landscape
import numpy as np
import pytest

from sdml import dynamics, exact, lattice, spins
from sdml.model import SDModel
from sdml.phase_separation import snapshots

MODEL = SDModel(lattice.square(8), exchange_coupling=6.0, filling=0.5, electron_kT=0.0025)
CENTER = 4 * 8 + 4


def test_energies_are_those_of_dense_diagonalization():
    for state in (
        droplets.flipped_neel(MODEL.lattice, [CENTER, CENTER + 9]),
        spins.random(64, seed=0),
    ):
        found = droplets.energies(MODEL, state, [1, 2, 5])
        neel = exact.solve(MODEL, spins.neel(MODEL.lattice)).energy
        for n_holes, energy in zip((1, 2, 5), found, strict=True):
            solved = exact.solve(droplets.with_holes(MODEL, n_holes), state)
            assert solved.density.sum() == pytest.approx(64 - n_holes, abs=1e-10)
            assert energy == pytest.approx(solved.energy - neel, abs=1e-9)


def test_a_hole_traps_itself_on_five_sites():
    """At large J the plus of five costs J - 2 t + 21 t^2 / 4 J, a free hole J."""
    for coupling in (20.0, 40.0):
        model = dataclasses.replace(MODEL, exchange_coupling=coupling, electron_kT=0.0)
        plus = droplets.flipped_neel(model.lattice, [CENTER])
        trapped, free = (
            droplets.energies(model, state, [1])[0] for state in (plus, spins.neel(model.lattice))
        )
        assert trapped == pytest.approx(coupling - 2 + 21 / (4 * coupling), abs=6 / coupling**2)
        assert free == pytest.approx(coupling, abs=1e-9)
        assert droplets.trapping_energy(model, 0.0) == pytest.approx(free - trapped)


def test_the_hole_sits_on_the_plus():
    plus = droplets.flipped_neel(MODEL.lattice, [CENTER])
    holes = 1 - exact.solve(droplets.with_holes(MODEL, 1), plus).density
    inside = [CENTER, *MODEL.lattice.neighbors()[CENTER]]
    assert holes[inside].sum() > 0.9
    assert holes[CENTER] == pytest.approx(0.5, abs=0.05)


def test_distant_polarons_add_up():
    model = dataclasses.replace(MODEL, lattice=lattice.square(12))
    one = droplets.energies(model, droplets.flipped_neel(model.lattice, [0]), [1])[0]
    assert droplets.separation_energy(model, (6, 6)) == pytest.approx(2 * one, abs=1e-4)
    assert droplets.separation_energy(model, (1, 0)) > 2 * one


def test_heat_frees_the_hole():
    gains = [droplets.trapping_energy(MODEL, kT) for kT in (0.0025, 0.1, 0.3, 0.6)]
    assert gains[0] > 1 and gains[-1] < 0
    assert (np.diff(gains) < 0).all()


def test_a_polaron_hops_alike_however_all_spins_are_turned():
    neel, target = spins.neel(MODEL.lattice), CENTER + 9
    assert np.allclose(
        droplets.trapped(MODEL.lattice, neel, [CENTER]),
        droplets.flipped_neel(MODEL.lattice, [CENTER]),
    )
    found = droplets.hop(MODEL, neel, CENTER, target)
    assert found["gain"] == pytest.approx(droplets.trapping_energy(MODEL, MODEL.electron_kT))
    turned = neel @ np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert droplets.hop(MODEL, turned, CENTER, target) == pytest.approx(found, abs=1e-8)


def test_a_canted_background_traps_less():
    """No spin need turn in a ferromagnet: nothing is gained there, and nothing hinders."""
    neel, field = spins.neel(MODEL.lattice), np.array([1.0, 0.0, 0.0])
    canted = [spins.normalize(neel + strength * field) for strength in (0, 0.4, 1e6)]
    gains, barriers = zip(
        *(droplets.hop(MODEL, state, CENTER, CENTER + 9).values() for state in canted), strict=True
    )
    assert (np.diff(gains) < 0).all() and (np.diff(barriers) < 0).all()
    assert (gains[-1], barriers[-1]) == pytest.approx((0, 0), abs=1e-4)


def test_droplets_of_one_two_and_three_holes():
    """One flipped spin; two and three holes gain on diagonal lines of three and four."""
    found = droplets.droplets(MODEL, [1, 2, 3], 4)
    assert [len(droplet.flipped) for droplet in found] == [1, 3, 4]
    for droplet in found:
        state = droplets.flipped_neel(MODEL.lattice, droplet.flipped)
        energy = droplets.energies(MODEL, state, [droplet.n_holes])[0]
        assert droplet.energy == pytest.approx(energy)
        steps = np.diff(MODEL.lattice.cells[list(droplet.flipped)], axis=0)
        assert (abs(steps) == 1).all()
    one, two, three = (droplet.energy_per_hole for droplet in found)
    assert three < two < one - 0.03 and one < droplets.separation_energy(MODEL, (2, 0)) / 2


def conical_spins(lattice, wave_vector, angle):
    """The conical state, (N, 3)."""
    phase = lattice.positions @ np.asarray(wave_vector)
    planar = np.sin(angle) * np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    return np.column_stack([planar, np.full(lattice.n_sites, np.cos(angle))])


def test_conical_energies_are_those_of_dense_diagonalization():
    model = dataclasses.replace(MODEL, filling=0.45, electron_kT=0.05, hopping=(1.0, 0.2))
    for wave_vector, angle in (
        ((0, 0), 0.0),
        (coexistence.NEEL, 1.1),
        ((np.pi / 4, np.pi / 2), 0.8),
    ):
        state = conical_spins(model.lattice, wave_vector, angle)
        energy = coexistence.conical_energy(model, wave_vector, angle, [0.1])[0]
        assert energy == pytest.approx(exact.solve(model, state).energy / 64, abs=1e-9)


def test_the_common_tangent_touches_both_phases():
    """e = min(x^2, (x - 1)^2 - 1): tangent of slope s touches at s/2 and 1 + s/2, s = -1."""
    x = np.linspace(-1, 2, 3001)
    found = coexistence.coexistence(x, np.minimum(x**2, (x - 1) ** 2 - 1), at=0.0)
    assert found.doping == pytest.approx((-0.5, 0.5), abs=2e-3)
    assert found.energy_per_hole == pytest.approx(-1, abs=1e-4)
    convex = coexistence.coexistence(x, x**2, at=0.5)
    assert convex.doping[1] - convex.doping[0] == pytest.approx(0.001)


def heisenberg(n_sites=16, easy_axis=0.5):
    """A ring with exchange 1 and an easy axis: E = -sum S_i.S_(i+1) - K sum S_z^2."""

    def potential(s):
        neighbours = np.roll(s, 1, axis=0) + np.roll(s, -1, axis=0)
        field = neighbours + 2 * easy_axis * s * np.array([0, 0, 1.0])
        energy = -(s * neighbours).sum() / 2 - easy_axis * (s[:, 2] ** 2).sum()
        return float(energy), field

    return potential, np.tile([0.0, 0.0, 1.0], (n_sites, 1))


def test_a_relaxed_state_is_at_rest_below_its_start():
    doped = droplets.with_holes(MODEL, 1)
    potential = landscape.exact_potential(doped)
    start = spins.perturbed(droplets.flipped_neel(MODEL.lattice, [CENTER]), 0.1, seed=0)
    state, energy = landscape.relaxed(potential, start, tolerance=1e-4)
    solved = exact.solve(doped, state)
    assert energy == pytest.approx(solved.energy) and energy < potential(start)[0]
    assert abs(spins.transverse(state, solved.local_field)).max() < 3e-4
    still = dynamics.integrate(
        state, lambda s: exact.solve(doped, s).local_field, dt=0.5, n_steps=4, damping=0.5
    )
    assert abs(still - state).max() < 1e-3


def test_the_collinear_polaron_is_stable():
    """Perturbed in every direction, it relaxes back to the energy of five parallel spins."""
    start = droplets.flipped_neel(MODEL.lattice, [CENTER])
    potential = landscape.exact_potential(droplets.with_holes(MODEL, 1))
    _, energy = landscape.relaxed(potential, spins.perturbed(start, 0.1, seed=1))
    assert energy == pytest.approx(potential(start)[0], abs=1e-5)


def test_the_barrier_of_coherent_reversal():
    """A short ring turns as one spin: the barrier is K N."""
    potential, up = heisenberg(n_sites=4, easy_axis=0.1)
    path = landscape.geodesic(up, -up, 7)
    path[1:-1] = spins.perturbed(path[1:-1], 0.05, seed=0)
    band = landscape.minimum_energy_path(potential, path, n_steps=300, step=0.1)
    assert band.barrier == pytest.approx(0.4, rel=1e-3)
    assert band.residual < 1e-2


def test_the_thermal_torque_of_free_spins():
    """In a field b the spins follow exp(b cos / kT): <b^2 sin^2> = 2 kT b <cos>."""
    b, kT, n_sites = 2.0, 0.3, 20_000
    rng = np.random.default_rng(0)
    x = b / kT
    cosine = 1 + np.log(rng.random(n_sites) * (1 - np.exp(-2 * x)) + np.exp(-2 * x)) / x
    angle = 2 * np.pi * rng.random(n_sites)
    sine = np.sqrt(1 - cosine**2)
    state = np.column_stack([sine * np.cos(angle), sine * np.sin(angle), cosine])
    field = np.tile([0.0, 0.0, b], (n_sites, 1))
    floor = landscape.thermal_torque(lambda s: (float(-b * s[:, 2].sum()), field), state, kT)
    assert floor == pytest.approx(np.sqrt(2 * kT * b * cosine.mean()), rel=0.02)
    assert floor == pytest.approx(snapshots.rms_torque(state, field), rel=0.02)


def test_the_thermal_torque_of_a_langevin_run():
    potential, up = heisenberg(n_sites=400, easy_axis=0.5)
    state = dynamics.integrate(
        up, lambda s: potential(s.numpy())[1], 0.05, 2000, damping=0.5, kT=0.05, seed=0
    )
    floor = landscape.thermal_torque(potential, state, 0.05)
    assert snapshots.rms_torque(state, potential(state)[1]) == pytest.approx(floor, rel=0.1)


def test_a_geodesic_keeps_length_and_ends():
    start, end = spins.random(10, 0), spins.random(10, 1)
    end[0] = -start[0]
    path = landscape.geodesic(start, end, 5)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 1)
    np.testing.assert_allclose(path[[0, -1]], [start, end], atol=1e-12)
    turned = np.arccos((path[1:] * path[:-1]).sum(-1).clip(-1, 1))
    np.testing.assert_allclose(turned, np.broadcast_to(turned[0], turned.shape), atol=1e-6)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: droplets.with_holes(MODEL, 65), "n_holes"),
        (lambda: droplets.flipped_neel(MODEL.lattice, [64]), "flipped"),
        (lambda: droplets.separation_energy(MODEL, (8, 0)), "displacement"),
        (lambda: coexistence.coexistence([0, 0], [0, 1], 0), "doping"),
        (lambda: coexistence.coexistence([0, 1], [0, 1], 2), "at"),
        (lambda: landscape.geodesic(spins.random(3, 0), spins.random(4, 0), 3), "start"),
        (lambda: landscape.minimum_energy_path(heisenberg()[0], spins.random(3, 0)), "images"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()


def test_an_impossible_relaxation_says_how_far_it_came():
    potential, up = heisenberg()
    with pytest.raises(RuntimeError, match="transverse field"):
        landscape.relaxed(potential, spins.perturbed(up, 0.5, seed=0), max_steps=1)
