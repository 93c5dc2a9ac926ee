"""Lengths depend neither on their unit, nor on the primitive cell, nor on missing sublattices."""

import arrest
import coarsening
import harmonics
import laws
import numpy as np
import pytest
import torch

from sdml import lattice, observables, spins
from sdml.coarsening import domains, scaling, walls
from sdml.phase_separation import snapshots


def skewed(plain, spacing, shear):
    """The same torus in other primitive vectors and units, and the plain site of each of its."""
    vectors = spacing * np.array(shear) @ np.array(plain.vectors)
    lat = lattice.from_cell(vectors, [[0, 0]], plain.shape, plain.name)
    return lat, plain.site_index(lat.cells @ np.array(shear), 0)


SHEARS = {
    "plain": [[1, 0], [0, 1]],
    "sheared": [[1, 0], [1, 1]],
    "far": [[1, 0], [7, 1]],
    "exchanged": [[0, 1], [1, 0]],
    "obtuse": [[1, 0], [-1, 1]],
    "both": [[2, 3], [1, 2]],
}
LENGTHS = {
    **{name: length for name, length in observables.LENGTH_ESTIMATORS.items()},
    "circular wave": lambda lat, x: (
        1 / torch.as_tensor(scaling.circular_structure_factor(lat, x)[0][1])
    ),
    "circular distance": lambda lat, x: torch.as_tensor(
        coarsening.circular_correlation(lat, x)[0][3]
    ),
    "wall elements": lambda lat, x: torch.as_tensor(harmonics.wall_elements(lat, x)[1].sum()),
}
"""Lengths of a field (N,)."""
ANGLES = {
    "opening": lambda lat, x: np.nanmean(walls.opening_angle(lat, x)),
    "harmonics": lambda lat, x: harmonics.orientation_harmonics(lat, x, (6, 12)).real,
    "smoothed": lambda lat, x: domains._smoothed(lat, x).std(),
    "circular": lambda lat, x: coarsening.circular_correlation(lat, x)[1],
}


@pytest.mark.parametrize("shear", SHEARS)
@pytest.mark.parametrize("kind", ["square", "triangular"])
def test_lengths_know_neither_the_unit_nor_the_cell(kind, shear):
    plain = getattr(lattice, kind)(24)
    x = torch.as_tensor(np.random.default_rng(0).standard_normal(576))
    for _ in range(4):
        x = domains._smoothed(plain, x)
    for spacing in (1.0, 2.0, 4.0, 0.3, 1e-9, 1e9):
        lat, site = skewed(plain, spacing, SHEARS[shear])
        assert lat.spacing == pytest.approx(spacing)
        sizes = [np.sort(np.linalg.norm(of.momenta, axis=-1)) for of in (lat, plain)]
        np.testing.assert_allclose(sizes[0] * spacing, sizes[1], atol=1e-9)
        assert len(lat.bonds()) == len(plain.bonds())
        assert lat.point_group.n_fold == plain.point_group.n_fold
        for name, length in LENGTHS.items():
            found, expected = float(length(lat, x[site])), float(length(plain, x))
            assert found == pytest.approx(spacing * expected, rel=1e-7), name
        for name, angle in ANGLES.items():
            np.testing.assert_allclose(
                angle(lat, x[site]), angle(plain, x), rtol=1e-6, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("shear", SHEARS)
def test_orders_and_their_lengths_know_neither_the_unit_nor_the_cell(shear):
    square, triangular = lattice.square(24), lattice.triangular(24)
    twist = 2 * np.pi * square.cells[:, 0] / 24
    spiral = spins.neel(square)[:, 2:] * np.stack([np.cos(twist), np.sin(twist), 0 * twist], -1)
    noisy = spins.perturbed(spins.tetrahedral(triangular), 0.3, 0)
    for spacing in (1.0, 3.0, 1e-6):
        lat, site = skewed(square, spacing, SHEARS[shear])
        np.testing.assert_allclose(observables.neel_order(lat, spins.neel(lat)), 1)
        expected = spacing * observables.neel_length(square, spiral)
        assert observables.neel_length(lat, spiral[site]) == pytest.approx(expected)
        lat, site = skewed(triangular, spacing, SHEARS[shear])
        expected = spacing * domains.spin_length(triangular, noisy)
        assert domains.spin_length(lat, noisy[site]) == pytest.approx(expected)
        # Same handedness: the sign of the chirality on the plain triangles.
        state = np.empty_like(noisy)
        state[site] = spins.tetrahedral(lat)
        chirality = observables.scalar_chirality(triangular, state)
        np.testing.assert_allclose(chirality, observables.TETRAHEDRAL_CHIRALITY)


@pytest.mark.parametrize("shape", [(64, 4), (4, 64), (30, 3)])
def test_distances_on_slender_tori_are_the_shortest(shape):
    lat = lattice.triangular(*shape)
    periods = np.array(lat.vectors) * np.array(lat.shape)[:, None]
    images = np.mgrid[-40:41, -40:41].reshape(2, -1).T @ periods
    expected = np.linalg.norm(lat.positions[:, None] + images, axis=-1).min(1)
    rings = observables.distance_rings(lat)
    assert (np.abs(rings.radius[rings.index] - expected) < 1).all()
    assert rings.counts @ rings.radius == pytest.approx(expected.sum())


def test_the_harmonics_turn_with_the_lattice():
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    plain = lattice.triangular(48)
    lat = lattice.from_cell(np.array(plain.vectors) @ turn, [[0, 0]], (48, 48))
    x = np.where(plain.cells[:, 1] < 24, 1.0, -1.0)
    found = harmonics.orientation_harmonics(lat, x)
    np.testing.assert_allclose(found, harmonics.orientation_harmonics(plain, x), atol=1e-9)
    assert found[2] == pytest.approx(1, abs=1e-6)


# --- lattices without two sublattices


@pytest.mark.parametrize("shape", [(31, 31), (12, 15), (7, 4)])
@pytest.mark.parametrize("order", [observables.neel_order, observables.neel_length])
def test_neel_order_needs_two_sublattices(order, shape):
    lat = lattice.square(*shape)
    laws.assert_refused(lambda: order(lat, spins.random(lat.n_sites, 0)), "lattice", shape)


def test_statistics_of_an_odd_lattice_leave_neel_order_out():
    lat, s = lattice.square(15), spins.random(450, 0).reshape(2, 225, 3)
    row = snapshots.statistics(lat, s)
    assert np.isnan(row["neel_order"]).all() and np.isnan(row["neel_length"]).all()
    np.testing.assert_allclose(row["correlation"], observables.bond_correlation(lat, s).mean(-1))
    assert torch.isnan(arrest.statistics_row(lat, torch.as_tensor(s))[:, -2:]).all()


def test_sites_without_triangles_have_no_chirality():
    triangle = (((0, 0, 0), (1, 0, 0), (0, 1, 0)),)
    lat = lattice.from_cell([[1, 0], [0, 1]], [[0, 0], [0.5, 0.5]], (3, 3), "two", triangle)
    found = observables.site_chirality(lat, spins.random(18, 0))
    assert np.isfinite(found).all() and (found[1::2] == 0).all() and (found[::2] != 0).all()
