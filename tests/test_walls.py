"""Directions of straight walls, of circles, and of random domains."""

import harmonics
import laws
import numpy as np
import pytest
import torch

from sdml import lattice, observables
from sdml.coarsening import walls

TRIANGULAR, SQUARE = lattice.triangular(96), lattice.square(96)


def straight_walls(lat, wave):
    """Two signs with walls perpendicular to the momentum of ``wave``."""
    return np.where(np.sin(2 * np.pi * lat.cells @ np.array(wave) / 96 + 0.01) > 0, 1.0, -1.0)


def disc(lat, radius, shift=0.5):
    fraction = (lat.cells + shift) / np.array(lat.shape) - 0.5
    place = fraction @ (np.array(lat.vectors) * np.array(lat.shape)[:, None])
    return np.where(np.linalg.norm(place, axis=1) < radius, 1.0, -1.0)


@pytest.mark.parametrize("lat", [TRIANGULAR, SQUARE], ids=lambda lat: lat.name)
@pytest.mark.parametrize("wave", [(0, 1), (1, 0), (1, 1), (-1, 1), (1, 2), (2, 1), (2, -1)])
def test_straight_walls(lat, wave):
    """The wall is perpendicular to its momentum, and as long as area |q| / pi."""
    q = np.array(wave) @ lat.reciprocal_vectors / 96
    along = (np.arctan2(q[1], q[0]) + np.pi / 2) % np.pi
    x = straight_walls(lat, wave)
    found = harmonics.orientation_harmonics(lat, x, (2, 6, 12))
    np.testing.assert_allclose(found, np.exp(1j * np.array([2, 6, 12]) * along), atol=0.03)
    _, length = harmonics.wall_elements(lat, x)
    area = abs(np.linalg.det(lat.vectors)) * lat.n_sites
    assert length.sum() == pytest.approx(area * np.linalg.norm(q) / np.pi, rel=0.01)


@pytest.mark.parametrize("wave, sign", [((0, 1), 1), ((1, 0), 1), ((1, 1), 1), ((1, -1), -1)])
def test_rows_of_the_triangular_lattice_and_their_perpendiculars(wave, sign):
    """Constant x + y, y or x are rows of nearest neighbours; a1 and a2 enclose 60 degrees."""
    found = harmonics.orientation_harmonics(TRIANGULAR, straight_walls(TRIANGULAR, wave), (6,))
    assert found[0].real == pytest.approx(sign, abs=0.03)


@pytest.mark.parametrize("lat", [TRIANGULAR, SQUARE], ids=lambda lat: lat.name)
@pytest.mark.parametrize("radius", [15.0, 27.5])
def test_a_circle_has_no_preferred_direction(lat, radius):
    """Up to the facets of a disc of whole sites, which average out over its place."""
    shifts = np.random.default_rng(0).random((8, 2))
    x = np.stack([disc(lat, radius, shift) for shift in shifts])
    found = harmonics.orientation_harmonics(lat, x, (2, 4, 6)).mean(0)
    assert np.abs(found).max() < 0.05
    _, length = harmonics.wall_elements(lat, x)
    assert length.sum(-1).mean() == pytest.approx(2 * np.pi * radius, rel=0.02)


def test_wall_length_agrees_with_the_crossings_of_lattice_lines():
    rng = np.random.default_rng(0)
    fraction = TRIANGULAR.cells / 96
    waves, phases = rng.integers(-3, 4, (12, 2)), rng.uniform(0, 2 * np.pi, 12)
    x = np.cos(2 * np.pi * fraction @ waves.T + phases).sum(-1)
    _, length = harmonics.wall_elements(TRIANGULAR, x)
    density = observables.wall_density(TRIANGULAR, x)
    area = np.sqrt(3) / 2 * TRIANGULAR.n_sites
    assert length.sum() / area == pytest.approx(density, rel=0.06)


def test_no_wall_has_no_direction():
    x = np.ones(TRIANGULAR.n_sites)
    assert np.abs(harmonics.orientation_harmonics(TRIANGULAR, x)).max() < 1e-9


def test_rotations_of_the_lattice_turn_the_harmonics():
    lat = lattice.triangular(24)
    x = np.random.default_rng(0).standard_normal(lat.n_sites)
    expected = harmonics.orientation_harmonics(lat, x, (2, 6))
    for move, matrix in zip(laws.point_operations(lat), lat.point_group.matrices, strict=True):
        found = harmonics.orientation_harmonics(lat, move.scalars(x), (2, 6))
        if np.linalg.det(matrix) > 0:
            turn = np.exp(1j * np.array([2, 6]) * np.arctan2(matrix[1, 0], matrix[0, 0]))
            np.testing.assert_allclose(found, expected * turn, atol=1e-9)
        else:
            np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)


def test_batches_and_kinds():
    x = np.stack([disc(TRIANGULAR, 20), straight_walls(TRIANGULAR, (0, 1))])
    together = harmonics.orientation_harmonics(TRIANGULAR, x)
    assert together.shape == (2, 4)
    np.testing.assert_allclose(together[1], harmonics.orientation_harmonics(TRIANGULAR, x[1]))
    tensor = harmonics.orientation_harmonics(TRIANGULAR, torch.as_tensor(x))
    np.testing.assert_allclose(tensor.numpy(), together)


@laws.bad_input(
    {
        "size": (lambda: harmonics.wall_elements(SQUARE, np.ones(9)), "values", "(9,)"),
        "width": (
            lambda: harmonics.wall_elements(SQUARE, np.ones(9216), -1.0),
            "width",
            -1.0,
        ),
        "order": (
            lambda: harmonics.orientation_harmonics(SQUARE, np.ones(9216), (3,)),
            "orders",
            3,
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


@pytest.mark.parametrize("lat", [TRIANGULAR, SQUARE], ids=lambda lat: lat.name)
def test_the_opening_of_a_domain(lat):
    strips = walls.opening_angle(lat, straight_walls(lat, (0, 1)))
    inside = np.isfinite(strips)
    assert 0 < inside.mean() < 0.1  # four rows of 96
    # The site itself lies half a row inside, so that its domain fills a little more than half.
    assert (strips[inside] >= 180).all() and (strips[inside] < 210).all()
    # A rhombus of corners at 60 and 120 degrees, or a square.
    corner = np.where((lat.cells < 40).all(1), -1.0, 1.0)
    angles = walls.opening_angle(lat, corner, 8.0)
    sharpest = {"triangular": 60, "square": 90}[lat.name]
    assert abs(np.nanmin(angles) - sharpest) < 20
    # Outside the same corners the other domain opens to 360 degrees less.
    assert abs(np.nanmax(angles) - (360 - sharpest)) < 20
    for radius in (-1.0, 0.99):
        laws.assert_refused(
            lambda radius=radius: walls.opening_angle(lat, corner, radius), "radius", radius, ">= 1"
        )
