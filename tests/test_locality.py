"""The locality floor: its laws, the field of one site, and what a splice keeps."""

import dataclasses
from functools import partial

import floors
import numpy as np
import pytest

from sdml import exact, kpm, lattice, spins
from sdml.model import SDModel

SQUARE = SDModel(lattice.square(12), 6.0, 0.485, electron_kT=0.1)
TRIANGULAR = SDModel(lattice.triangular(12), 3.0, 0.25, electron_kT=0.1)
MODELS = {
    "square": SQUARE,
    "triangular": TRIANGULAR,
    "triangular, mu": SDModel(
        TRIANGULAR.lattice, 3.0, chemical_potential=-3.0, electron_kT=0.1, zeeman=(0.1, 0.2, 0.3)
    ),
}
PROBED = partial(floors.site_field, n_probes=32, seed=1)
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def random_states(model, n, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([spins.random(model.lattice.n_sites, rng) for _ in range(n)])


def cutoff_floors(model, radii, outer=None, n_centers=4, **arguments):
    inner = random_states(model, 4)
    return floors.locality_floors(model, inner, outer, radii, n_centers, 1, **arguments)


@every_model
def test_site_field_is_that_of_diagonalization(model):
    s = random_states(model, 1)[0]
    expected = exact.solve(model, s).local_field
    for site in (0, 77):
        found = floors.site_field(model, s, site, n_moments=600, n_probes=None)
        np.testing.assert_allclose(found, expected[site], atol=1e-9)


@pytest.mark.parametrize("name", ["square", "triangular"])
def test_probed_chemical_potential_hardly_moves_the_field(name):
    """16 x 16, 128 of 512 vectors: the error of mu costs less than 3 % of the transverse field."""
    model = dataclasses.replace(MODELS[name], lattice=getattr(lattice, name)(16))
    s = spins.random(256, 3)
    expected = spins.transverse(s, exact.solve(model, s).local_field)
    sites = np.arange(0, 256, 16)
    found = np.zeros_like(s)
    found[sites] = [floors.site_field(model, s, site, n_probes=128, seed=0) for site in sites]
    error = spins.transverse(s, found)[sites] - expected[sites]
    assert (error**2).mean() < 0.03**2 * (expected**2).mean()


@every_model
def test_engines_agree(model):
    radii, outer = [1, 2], random_states(model, 3, seed=9)
    by_kpm = cutoff_floors(model, radii, outer, field=floors.site_field)
    by_diagonalization = cutoff_floors(model, radii, outer, field=floors.exact_field)
    for found, expected in zip(by_kpm, by_diagonalization, strict=True):
        np.testing.assert_allclose(
            dataclasses.astuple(found), dataclasses.astuple(expected), rtol=1e-4
        )


@every_model
def test_floor_vanishes_when_the_disc_covers_the_lattice(model):
    (found,) = cutoff_floors(model, [12])
    assert found.signal > 1e-5
    assert abs(found.floor) < 1e-20 and abs(found.reached) < 1e-20


def test_floor_falls_with_the_radius_from_the_signal():
    """With nothing but its own spin kept, an isotropic outside leaves no transverse field known."""
    model = dataclasses.replace(TRIANGULAR, filling=None, chemical_potential=-3.13)
    found = cutoff_floors(model, [0, 1, 2, 3, 5], n_centers=60)
    assert found[0].floor == pytest.approx(found[0].signal, rel=0.3)
    assert found[0].reached == pytest.approx(found[0].signal, rel=0.3)
    values = np.array([row.floor for row in found])
    assert (values[1:] < 0.8 * values[:-1]).all()
    for row in found:
        assert abs(row.floor - row.reached) < 4 * np.hypot(row.floor_error, row.reached_error)
        assert row.floor_error < 0.3 * row.floor


def test_floor_of_a_known_variance():
    """Fields 1, 3 redrawn and 0 in the own state: variance 2, |0 - 2|^2 less 2 / 2 redraws."""
    redrawn = np.tile(np.array([1.0, 3.0])[None, :, None], (5, 1, 3))
    row = floors._summary(2, np.zeros((5, 3)), redrawn)
    assert (row.floor, row.floor_error, row.reached, row.signal) == (2, 0, 3, 0)


def test_seeds():
    first, again = (cutoff_floors(SQUARE, [1], field=PROBED) for _ in range(2))
    assert first == again
    inner = random_states(SQUARE, 4)
    other = floors.locality_floors(SQUARE, inner, None, [1], 4, 2, field=PROBED)
    assert other != first


def test_a_center_does_not_depend_on_the_other_radii():
    outer = random_states(TRIANGULAR, 3, seed=9)
    both, alone = cutoff_floors(TRIANGULAR, [1, 2], outer), cutoff_floors(TRIANGULAR, [2], outer)
    assert both[1] == alone[0]


def test_own_states_are_not_spliced_with_themselves():
    states = random_states(TRIANGULAR, 3)
    for k in range(3):
        chosen = floors._outer_states(states[k], states, 2, np.random.default_rng(0))
        assert len(chosen) == 2 and not (chosen == states[k]).all(axis=(1, 2)).any()


@every_model
def test_a_splice_keeps_the_disc_and_takes_all_else_from_outside(model):
    inner, outer = random_states(model, 2)
    disc = floors.disc_sites(model.lattice, 77, 2.0)
    spliced = floors.splice(model, inner, outer, 77, 2.0)
    rest = np.setdiff1d(np.arange(144), disc)
    np.testing.assert_array_equal(spliced[disc], inner[disc])
    assert np.abs(spliced[rest] - inner[rest]).max() > 1
    np.testing.assert_allclose(np.linalg.norm(spliced, axis=-1), 1, atol=1e-12)


def test_a_splice_undoes_the_symmetries_of_the_model():
    """A state moved, turned and reversed fits the disc of the original: nothing changes."""
    inner = random_states(TRIANGULAR, 1)[0]
    moved = np.empty_like(inner)
    moved[TRIANGULAR.lattice.translation(5, 8)] = -inner @ spins.random_rotation(4)
    np.testing.assert_allclose(floors.splice(TRIANGULAR, inner, moved, 30, 2), inner, atol=1e-12)


def test_a_preferred_axis_forbids_turns():
    model = MODELS["triangular, mu"]
    inner = random_states(model, 1)[0]
    moved = np.empty_like(inner)
    moved[model.lattice.translation(5, 8)] = inner
    np.testing.assert_array_equal(floors.splice(model, inner, moved, 30, 2), inner)
    turned = floors.splice(model, inner, -moved, 30, 2)
    assert np.abs(turned - inner).max() > 1


def test_discs():
    assert [len(floors.disc_sites(TRIANGULAR.lattice, 40, r)) for r in (0, 1, 2)] == [1, 7, 19]
    assert len(floors.disc_sites(lattice.square(5, 3), 7, 4)) == 15
    honeycomb = lattice.from_cell(
        np.sqrt(3) * np.array([[1, 0], [0.5, np.sqrt(3) / 2]]), [[0, 0], [0, 1]], (3, 4)
    )
    for site in (8, 9):
        disc = floors.disc_sites(honeycomb, site, 1)
        assert len(disc) == 4 and (honeycomb.sublattices[disc] != site % 2).sum() == 3


BAD = {
    "inner": {"inner": np.ones((2, 144, 3))},
    "outer": {"outer": random_states(SQUARE, 1)[0]},
    "radii": {"radii": [1, -1]},
    "n_centers": {"n_centers": 1},
    "n_redraws": {"n_redraws": 2.5},
    "seed": {"seed": -1},
    "n_probes": {"field": partial(floors.site_field, n_probes=0)},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    states = random_states(SQUARE, 2)
    given = {"inner": states, "outer": None, "radii": [1], "n_centers": 2, "seed": 0}
    with pytest.raises(ValueError, match=f"^{name}: "):
        floors.locality_floors(SQUARE, **(given | BAD[name]))


def test_too_few_outer_states():
    states = random_states(SQUARE, 2)
    with pytest.raises(ValueError, match=r"^outer: .* at least 2 .* got 1"):
        floors.locality_floors(SQUARE, states, states, [1], 2, 0)


def test_unknown_site():
    with pytest.raises(ValueError, match=r"^site: must be in \[0, 144\), got 144"):
        floors.site_field(SQUARE, random_states(SQUARE, 1)[0], 144)


def test_probing_is_that_of_kpm():
    """The same vectors, moments and interval give the same chemical potential."""
    s = random_states(SQUARE, 1)[0]
    state = kpm.solve(SQUARE, s, 300, 32, "coloured-plain", seed=5)
    fixed = dataclasses.replace(
        SQUARE, filling=None, chemical_potential=float(state.chemical_potential)
    )
    found = floors.site_field(SQUARE, s, 3, n_moments=300, n_probes=32, seed=5)
    np.testing.assert_allclose(found, floors.site_field(fixed, s, 3, n_moments=300), atol=1e-12)
