"""Repeated spins against the large lattice they stand for; bands against plane waves."""

import numpy as np
import pytest

from sdml import bands, exact, lattice, spins
from sdml.model import SDModel

LATTICES = [lattice.square(3), lattice.triangular(3), lattice.triangular(4, 2)]
FREE, UP = SDModel(LATTICES[0], 1.0, filling=0.5), spins.ferromagnetic(LATTICES[0])
every_lattice = pytest.mark.parametrize("lat", LATTICES, ids=lambda lat: f"{lat.name} {lat.shape}")


def tiled(lat, s, n):
    """The lattice with n x n repeats, its spins, and the site of one repeat behind every site."""
    large = getattr(lattice, lat.name)(n * lat.shape[0], n * lat.shape[1])
    source = lat.site_index(large.cells, 0)
    return large, s[source], source


@every_lattice
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    "filled",
    [{"filling": 0.3, "electron_kT": 0.05}, {"chemical_potential": -1.0}, {"filling": 0.4}],
)
def test_the_state_is_that_of_the_lattice_of_repeats(lat, n, filled):
    s, terms = spins.random(lat.n_sites, 1), {"zeeman": (0.1, 0.0, 0.3), "easy_axis": 0.2}
    large, repeats, source = tiled(lat, s, n)
    expected = exact.solve(SDModel(large, 2.5, **filled, **terms), repeats)
    found = bands.repeated(SDModel(lat, 2.5, **filled, **terms), s, n)
    assert found.energy / lat.n_sites == pytest.approx(expected.energy / large.n_sites, abs=1e-11)
    np.testing.assert_allclose(found.local_field[source], expected.local_field, atol=1e-9)
    np.testing.assert_allclose(found.density[source], expected.density, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-11)
    assert found.chemical_potential == pytest.approx(expected.chemical_potential, abs=1e-9)


@pytest.mark.parametrize(
    "name, energy",
    [
        ("ferromagnetic", -2.5003),
        ("tetrahedral", -2.6238),
        ("stripe", -2.5938),
        ("coplanar_120", -2.5352),
    ],
)
def test_energies_of_orders_on_24_sites_squared(name, energy):
    lat = lattice.triangular(6)
    found = bands.repeated(SDModel(lat, 3.0, filling=0.25), spins.textures(lat)[name], 4)
    assert found.energy / lat.n_sites == pytest.approx(energy, abs=5e-5)
    assert np.abs(spins.transverse(spins.textures(lat)[name], found.local_field)).max() < 1e-6


@every_lattice
def test_weights_of_a_momentum_hold_two_electrons(lat):
    path = bands.zone_path(lat, 12)
    kondo = SDModel(lat, 2.0, filling=0.5)
    levels, weights = bands.unfolded(kondo, spins.random(lat.n_sites, 3), path.momenta)
    assert levels.shape == weights.shape == (len(path.momenta), 2 * lat.n_sites)
    np.testing.assert_allclose(weights.sum(-1), 2)


@every_lattice
def test_a_ferromagnet_has_two_bands_shifted_by_the_exchange(lat):
    """The images that the cell folds back carry no weight."""
    path, around = bands.zone_path(lat, 12), lat.displacements(1.01)[1]
    band = -np.cos(path.momenta @ around.T).sum(-1)
    kondo = SDModel(lat, 1.7, filling=0.5)
    levels, weights = bands.unfolded(kondo, spins.ferromagnetic(lat), path.momenta)
    np.testing.assert_allclose((weights * levels).sum(-1) / 2, band, atol=1e-12)
    np.testing.assert_allclose((weights * levels**2).sum(-1) / 2, band**2 + 1.7**2, atol=1e-11)
    energies = np.linspace(-12, 12, 4000)
    found = bands.spectrum(kondo, spins.ferromagnetic(lat), 1, 12)
    shade = bands.spectral_function(found, energies, 0.1)
    np.testing.assert_allclose(shade.sum(0) * (energies[1] - energies[0]), 2, rtol=1e-9)


@pytest.mark.parametrize(
    "kind, corner", [("square", np.pi * 2**0.5), ("triangular", 4 * np.pi / 3)]
)
def test_the_path_leads_through_the_corners_of_the_zone(kind, corner):
    lat = getattr(lattice, kind)(4)
    path = bands.zone_path(lat, 30)
    at = np.searchsorted(path.distance, path.ticks)
    size = np.linalg.norm(path.momenta, axis=-1)
    assert path.distance[at] == pytest.approx(path.ticks)
    assert size.max() == pytest.approx(corner)
    assert size[at[path.labels.index("K" if kind == "triangular" else "M")]] == size.max()
    assert size[[0, -1]] == pytest.approx(0, abs=1e-12)
    steps = np.linalg.norm(np.diff(path.momenta, axis=0), axis=-1)
    assert steps.sum() == pytest.approx(path.distance[-1])


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("kT", [0.0, 0.05])
def test_the_unit_of_energy_does_not_matter(scale, kT):
    lat = lattice.triangular(2)
    s = spins.tetrahedral(lat)
    one = SDModel(lat, 3.0, filling=0.25, electron_kT=kT)
    two = SDModel(lat, 3.0 * scale, filling=0.25, electron_kT=kT * scale, hopping=scale)
    assert bands.chern_number(two, s) == bands.chern_number(one, s) != 0
    assert bands.band_gap(two, s) / scale == pytest.approx(bands.band_gap(one, s))
    found, expected = bands.spectrum(two, s), bands.spectrum(one, s)
    np.testing.assert_allclose(found.levels / scale, expected.levels, atol=1e-9)
    for field in ("energy", "local_field", "chemical_potential"):
        numbers = getattr(found.state, field) / scale, getattr(expected.state, field)
        np.testing.assert_allclose(*numbers, atol=1e-8)
    energies = np.linspace(-8, 8, 50)
    shade = bands.spectral_function(found, scale * energies, scale * 0.2) * scale
    np.testing.assert_allclose(shade, bands.spectral_function(expected, energies, 0.2), atol=1e-6)
    with pytest.raises(ValueError, match=r"^spins: no gap"):
        bands.chern_number(two, spins.ferromagnetic(lat))


@pytest.mark.parametrize("shear", [((1, 0), (1, 1)), ((1, 0), (-1, 1)), ((2, 3), (1, 2))])
@pytest.mark.parametrize("kind", ["square", "triangular"])
def test_the_path_knows_neither_the_unit_nor_the_cell(kind, shear):
    plain = getattr(lattice, kind)(4)
    vectors = 3 * np.array(shear) @ np.array(plain.vectors)
    found = bands.zone_path(lattice.from_cell(vectors, [[0, 0]], (4, 4)), 30)
    expected = bands.zone_path(plain, 30)
    np.testing.assert_allclose(3 * found.ticks, expected.ticks)
    around = plain.displacements(1.01)[1]
    energies = [np.cos(q @ around.T).sum(-1) for q in (3 * found.momenta, expected.momenta)]
    np.testing.assert_allclose(*energies, atol=1e-9)


OBLONG = lattice.from_cell([[1, 0], [0, 2]], [[0, 0]], (2, 2), "square")
OBLIQUE = lattice.from_cell([[1, 0], [0.3, 0.9]], [[0, 0]], (2, 2), "triangular")


@pytest.mark.parametrize(
    "call, name",
    [
        (
            lambda: bands.repeated(SDModel(LATTICES[0], 1.0, filling=0.5), np.ones((9, 3)), 2),
            "spins",
        ),
        (lambda: bands.repeated(SDModel(LATTICES[0], 1.0, filling=0.5), None, 0), "n_phases"),
        (lambda: bands.band_gap(FREE, UP, 3.5), "n_phases"),
        (lambda: bands.zone_path(LATTICES[0], 2), "n_points"),
        (lambda: bands.bloch_hamiltonian(FREE, UP, [0.1j, 0]), "phases"),
        (lambda: bands.unfolded(FREE, UP, [[np.nan, 0]]), "momenta"),
        (lambda: bands.spectral_function(bands.spectrum(FREE, UP), [0j], 0.1), "energies"),
        (lambda: bands.spectral_function(bands.spectrum(FREE, UP), [0.0], 0.0), "width"),
        (lambda: bands.repeated(FREE, UP[None]), "spins"),
        (lambda: bands.zone_path(OBLONG), "lattice"),
        (lambda: bands.zone_path(OBLIQUE), "lattice"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
