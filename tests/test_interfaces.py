"""Oblique lattices are the triangular lattice, and walls obey what walls must."""

from functools import partial

import interfaces
import laws
import numpy as np
import pytest

from sdml import bands, exact, lattice, observables, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel

DIRECTIONS = [(1, 0), (0, 1), (1, 1), (2, 1), (3, 1), (-1, 2)]
ROW = interfaces.oblique((1, 0), 2, 12)


def kondo(lat):
    return SDModel(lat, 3.0, filling=0.25, electron_kT=0.05)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_oblique_lattices_are_triangular(direction):
    lat = interfaces.oblique(direction, 4, 6)
    assert abs(np.linalg.det(lat.vectors)) == pytest.approx(np.sqrt(3) / 2)
    assert lat.neighbors().shape == (24, 6)
    expected = direction @ np.array(lattice.triangular(2).vectors)
    np.testing.assert_allclose(lat.vectors[0], expected)
    corners = lat.positions[lat.plaquettes]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    assert (np.isclose(sides, 1).all(axis=1)).sum() >= 12  # those not cut by the boundary
    assert len(np.unique(np.sort(lat.plaquettes, axis=1), axis=0)) == 48


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("chirality", [1, -1])
def test_one_domain_is_tetrahedral_order(direction, chirality):
    lat = interfaces.oblique(direction, 4, 6)
    s = interfaces.one_domain(lat, chirality)
    expected = chirality * observables.TETRAHEDRAL_CHIRALITY
    np.testing.assert_allclose(observables.scalar_chirality(lat, s), expected, atol=1e-12)
    energy = exact.solve(kondo(lat), s).energy
    assert energy == pytest.approx(exact.solve(kondo(lat), -s).energy)


def test_one_domain_along_a_row_is_that_of_spins():
    lat = lattice.triangular(4, 6)
    np.testing.assert_allclose(interfaces.one_domain(lat), spins.tetrahedral(lat))


@pytest.mark.parametrize("direction", [(1, 0), (2, 1)])
def test_two_domains_have_two_chiralities_and_walls_along_the_first_period(direction):
    lat = interfaces.oblique(direction, 2, 24)
    rotation = spins.random_rotation(0)
    chirality = observables.site_chirality(lat, interfaces.two_domains(lat, rotation))
    rows = chirality.reshape(24, 2)
    golden = observables.TETRAHEDRAL_CHIRALITY
    np.testing.assert_allclose(rows[4:8], golden, atol=1e-12)
    np.testing.assert_allclose(rows[16:20], -golden, atol=1e-12)


def test_the_rotations_of_the_cube_are_a_group():
    group = interfaces.cubic_rotations()
    assert len(np.unique(group.round().astype(int), axis=0)) == 24
    products = np.einsum("gab,hbc->ghac", group, group).reshape(-1, 9)
    assert len(np.unique(products.round().astype(int), axis=0)) == 24


def test_a_uniform_state_has_no_wall_energy_and_any_wall_costs():
    model = kondo(ROW)
    assert abs(interfaces.wall_energy(model, interfaces.one_domain(ROW, -1), exact.solve)) < 1e-9
    turned = spins.rotate(interfaces.one_domain(ROW), spins.random_rotation(0))
    assert abs(interfaces.wall_energy(model, turned, exact.solve)) < 1e-9
    for rotation in interfaces.cubic_rotations()[::6]:
        state = interfaces.two_domains(ROW, rotation)
        assert interfaces.wall_energy(model, state, exact.solve) > 0.02


def test_relaxation_lowers_the_energy_to_a_stationary_state():
    """On 4 x 12 with twists; with 2 sites along the wall states below the uniform one are found."""
    lat, solve = interfaces.oblique((1, 0), 4, 12), partial(bands.repeated, n_phases=2)
    model = kondo(lat)
    starts = [interfaces.two_domains(lat, r) for r in interfaces.cubic_rotations()[:2]]
    wall = interfaces.best_wall(model, solve, starts, n_kept=1, n_steps=40, tolerance=3e-3)
    assert wall.torque < 0.02
    assert 0.02 < wall.energy < min(interfaces.wall_energy(model, s, solve) for s in starts)
    kept = observables.site_chirality(lat, wall.spins).reshape(12, 4).mean(1)
    assert kept.max() > 0.6 and kept.min() < -0.6
    turned = spins.rotate(wall.spins, spins.random_rotation(1))
    assert interfaces.wall_energy(model, turned, solve) == pytest.approx(wall.energy, abs=1e-9)


def test_no_step_and_few_steps_relax_as_much_as_they_say():
    model, start = kondo(ROW), spins.perturbed(interfaces.two_domains(ROW), 0.1, seed=0)
    calls = []

    def counted(*given):
        calls.append(1)
        return exact.solve(*given)

    found = interfaces.relaxed(model, start, exact.solve, n_steps=0)
    np.testing.assert_array_equal(found.spins, start)
    field = exact.solve(model, start).local_field
    expected = np.linalg.norm(np.cross(start, field), axis=-1).max()
    assert found.torque == pytest.approx(expected)
    gentle = LandauLifshitz(dt=0.2, damping=1.0)
    for n_steps in (0, 3, 13):
        calls.clear()
        interfaces.relaxed(model, start, counted, gentle, n_steps, tolerance=0.0)
        assert len(calls) == 1 + 2 * n_steps + -(-n_steps // 10) + 2  # two fields a step


def test_a_step_that_is_too_long_is_refused():
    start = interfaces.two_domains(ROW, spins.random_rotation(0))
    equation = LandauLifshitz(dt=200.0, damping=4.0)
    with pytest.raises(RuntimeError, match="dt = 200"):
        interfaces.relaxed(kondo(ROW), start, exact.solve, equation)


@laws.bad_input(
    {
        "direction": (lambda: interfaces.oblique((2, 2), 4, 4), "direction", "(2, 2)"),
        "odd": (lambda: interfaces.one_domain(interfaces.oblique((1, 0), 3, 4)), "lattice", 3),
        "chirality": (lambda: interfaces.one_domain(ROW, 0), "chirality", 0),
        "starts": (
            lambda: interfaces.best_wall(kondo(ROW), exact.solve, []),
            "starts",
            0,
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
