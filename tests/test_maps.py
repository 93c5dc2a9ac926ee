"""Maps: every point of the plane has the color of the site that is closest to it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.path import Path
from test_lattice import HONEYCOMB, KAGOME

from sdml import lattice, plotting

PLAIN = {"square": ([[1, 0], [0, 1]], [[0, 0]]), "honeycomb": HONEYCOMB, "kagome": KAGOME}
COS, SIN = np.cos(0.4), np.sin(0.4)
CHANGES = {
    "plain": np.eye(2),
    "spacing 2": 2 * np.eye(2),
    "tiny": 1e-9 * np.eye(2),
    "turned": np.array([[COS, SIN], [-SIN, COS]]),
    "stretched": np.diag([1.0, 2.3]),
    "a1 to the left": -np.eye(2),
}
SHEARS = {"upright": np.eye(2), "skewed": np.array([[1, 0], [2, 1]])}


def drawn(lat, values):
    figure, axes = plt.subplots()
    plt.close(figure)
    artist = plotting.site_map(axes, lat, values)
    return artist, [path.vertices[:-1] for path in artist.get_paths()]


def area(corners):
    (x, y), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    return (x * v - u * y).sum() / 2


@pytest.mark.parametrize("shear", SHEARS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", PLAIN)
def test_points_have_the_color_of_the_closest_site(kind, change, shear):
    vectors, basis = PLAIN[kind]
    turned = SHEARS[shear] @ np.array(vectors) @ CHANGES[change]
    lat = lattice.from_cell(turned, np.array(basis) @ CHANGES[change], (4, 4))
    _, polygons = drawn(lat, np.arange(lat.n_sites))
    cell = abs(np.linalg.det(turned))
    assert sum(map(area, polygons)) == pytest.approx(16 * cell, rel=1e-9)
    periods = np.array(lat.vectors) * 4
    images = np.mgrid[-6:7, -6:7].reshape(2, -1).T @ periods
    rng = np.random.default_rng(0)
    for point in rng.uniform(-1, 1, (20, 2)) @ periods:
        away = np.linalg.norm(lat.positions[:, None] + images - point, axis=-1).min(1)
        nearest = away.argmin()
        owners = [
            site
            for site, corners in enumerate(polygons)
            if Path(corners / cell**0.5).contains_points((point + images) / cell**0.5).any()
        ]
        assert owners == [nearest]
    sites = plotting.wrapped_positions(lat)
    for site, corners in zip(sites, polygons, strict=True):
        assert Path(corners / cell**0.5).contains_point(site / cell**0.5)


@pytest.mark.parametrize(
    "lat, sides", [(lattice.square(3), 4), (lattice.triangular(4), 6)], ids=["square", "triangular"]
)
def test_cells_are_squares_and_hexagons(lat, sides):
    _, polygons = drawn(lat, np.arange(lat.n_sites))
    angle = (np.arange(sides) + 0.5) * 2 * np.pi / sides
    corners = np.stack([np.cos(angle), np.sin(angle)], axis=-1) / 2 / np.cos(np.pi / sides)
    places = plotting.wrapped_positions(lat)
    assert (places[:, 0] >= 0).all() and (places[:, 0] < lat.shape[0]).all()
    np.testing.assert_allclose(np.array(polygons), places[:, None] + corners, atol=1e-12)


def test_what_is_not_known_stays_blank():
    lat, values = lattice.square(2), np.array([1.0, 2.0, 3.0, 4.0])
    for hidden in (
        np.ma.masked_array(values, [0, 1, 0, 0]),
        np.where(np.arange(4) == 1, np.nan, values),
    ):
        shown = drawn(lat, hidden)[0].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), [0, 1, 0, 0])
    tensor = torch.tensor(values, requires_grad=True)
    np.testing.assert_array_equal(drawn(lat, tensor)[0].get_array(), values)


@pytest.mark.parametrize(
    "values", [np.ones(3), np.ones(4) * 1j, np.ones((2, 2)), np.ma.ones(4) * 1j, ["a"] * 4]
)
def test_values_are_real_numbers_one_a_site(values):
    with pytest.raises(ValueError, match=r"^values: "):
        drawn(lattice.square(2), values)


def test_momenta_of_a_coarse_lattice_are_drawn_apart():
    lat = lattice.from_cell([[1e9, 0], [0, 1e9]], [[0, 0]], (4, 4))
    figure, axes = plt.subplots()
    places = plotting.momentum_map(axes, lat, np.arange(16.0)).get_offsets()
    plt.close(figure)
    np.testing.assert_allclose(places, lat.momenta, rtol=1e-5, atol=1e-15)
