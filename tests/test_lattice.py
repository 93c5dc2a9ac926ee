"""Lattices: shells, bonds and their multiplicities, plaquettes, momenta, permutations."""

import dataclasses
import json
from collections import Counter

import laws
import numpy as np
import pytest

from sdml import bands, lattice, observables, spins
from sdml.model import SDModel

ROOT3 = np.sqrt(3)
HONEYCOMB = ([[ROOT3, 0], [ROOT3 / 2, 1.5]], [[0, 0], [0, 1]])
KAGOME = ([[2, 0], [1, ROOT3]], [[0, 0], [1, 0], [0.5, ROOT3 / 2]])
LIEB = ([[2, 0], [0, 2]], [[0, 0], [1, 0], [0, 1]])


def honeycomb(*shape):
    return lattice.from_cell(*HONEYCOMB, shape, "honeycomb")


def kagome(*shape):
    return lattice.from_cell(*KAGOME, shape, "kagome")


LATTICES = [
    lattice.square(4),
    lattice.square(5, 3),
    lattice.triangular(4),
    lattice.triangular(3, 5),
    honeycomb(3, 3),
    kagome(3, 4),
]
NAMES = [f"{lat.name} {lat.shape[0]}x{lat.shape[1]}" for lat in LATTICES]
SHELLS = {
    "square": ([1, np.sqrt(2), 2, np.sqrt(5), np.sqrt(8), 3], [4, 4, 4, 8, 4, 4]),
    "triangular": ([1, ROOT3, 2, np.sqrt(7), 3, np.sqrt(12)], [6, 6, 6, 12, 6, 6]),
    "honeycomb": ([1, ROOT3, 2, np.sqrt(7), 3], [3, 6, 3, 6, 6]),
    "kagome": ([1, ROOT3, 2], [4, 4, 6]),
}
every_lattice = pytest.mark.parametrize("lat", LATTICES, ids=NAMES)


def by_name(value):
    return getattr(value, "name", None)


def shortest(lat, vectors):
    """Displacements (n, 2) wrapped to the shortest periodic image."""
    periods = np.array(lat.vectors) * np.array(lat.shape)[:, None]
    images = vectors[:, None] + np.mgrid[-2:3, -2:3].reshape(2, -1).T @ periods
    nearest = np.linalg.norm(images, axis=-1).argmin(1)
    return images[np.arange(len(vectors)), nearest]


def test_sites_are_numbered_with_x_fastest():
    np.testing.assert_allclose(lattice.square(3, 2).positions[[1, 3]], [[1, 0], [0, 1]])
    np.testing.assert_allclose(
        lattice.triangular(3).positions[[1, 3, 4]], [[1, 0], [0.5, ROOT3 / 2], [1.5, ROOT3 / 2]]
    )
    # With a basis: i = (y Lx + x) n_basis + b.
    np.testing.assert_allclose(
        honeycomb(3, 2).positions[[1, 2, 6]], [[0, 1], [ROOT3, 0], [ROOT3 / 2, 1.5]]
    )


@every_lattice
def test_shells_and_coordination(lat):
    distances, coordination = SHELLS[lat.name]
    np.testing.assert_allclose(lat.shell_distances(len(distances)), distances, atol=1e-6)
    for shell, z in enumerate(coordination, start=1):
        assert lat.neighbors(shell).shape == (lat.n_sites, z)


@every_lattice
@pytest.mark.parametrize("shell", [1, 2, 3])
def test_every_site_ends_z_bonds(lat, shell):
    z = SHELLS[lat.name][1][shell - 1]
    bonds = lat.bonds(shell)
    assert len(bonds) == lat.n_sites * z // 2
    np.testing.assert_array_equal(np.bincount(bonds.ravel(), minlength=lat.n_sites), z)
    both_ways = Counter(map(tuple, np.concatenate([bonds, bonds[:, ::-1]])))
    assert both_ways == Counter(map(tuple, lat.directed_bonds(shell)))


@pytest.mark.parametrize(
    "lat", [lattice.square(7), lattice.triangular(7), kagome(4, 4)], ids=by_name
)
def test_bonds_have_the_length_of_their_shell(lat):
    for shell, distance in enumerate(SHELLS[lat.name][0][:3], start=1):
        i, j = lat.bonds(shell).T
        vectors = shortest(lat, lat.positions[j] - lat.positions[i])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), distance, atol=1e-9)


@pytest.mark.parametrize(
    "lat, multiplicity",
    [
        (lattice.square(2), {(0, 1): 2, (0, 2): 2, (1, 3): 2, (2, 3): 2}),
        (lattice.triangular(2), dict.fromkeys([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], 2)),
        (lattice.square(1), {(0, 0): 2}),
        (lattice.square(1, 3), {(0, 0): 1, (1, 1): 1, (2, 2): 1, (0, 1): 1, (0, 2): 1, (1, 2): 1}),
    ],
    ids=["square 2x2", "triangular 2x2", "square 1x1", "square 1x3"],
)
def test_small_lattices_keep_their_multiplicities(lat, multiplicity):
    assert Counter(map(tuple, lat.bonds())) == multiplicity


@pytest.mark.parametrize("lat", [lattice.square(5), lattice.triangular(5)], ids=by_name)
def test_neighbours_come_counter_clockwise_from_x(lat):
    for site in (0, 12):
        vectors = shortest(lat, lat.positions[lat.neighbors()[site]] - lat.positions[site])
        angles = np.arctan2(vectors[:, 1], vectors[:, 0]) % (2 * np.pi)
        expected = 2 * np.pi / len(angles) * np.arange(len(angles))
        np.testing.assert_allclose(angles, expected, atol=1e-9)


@pytest.mark.parametrize(
    "lat, per_site, area",
    [(lattice.square(5, 4), 4, 0.5), (lattice.triangular(4, 5), 2, ROOT3 / 4)],
    ids=["square", "triangular"],
)
def test_plaquettes_are_counter_clockwise(lat, per_site, area):
    corners = lat.plaquettes
    assert corners.shape == (per_site * lat.n_sites, 3)
    assert set(np.bincount(corners.ravel())) == {3 * per_site}
    assert len({frozenset(c) for c in corners.tolist()}) == len(corners)
    first, second, third = (lat.positions[c] for c in corners.T)
    a, b = shortest(lat, second - first), shortest(lat, third - first)
    np.testing.assert_allclose(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], 2 * area, atol=1e-9)
    offset = laws.plaquette_centers(lat) - (first + (a + b) / 3)
    np.testing.assert_allclose(shortest(lat, offset), 0, atol=1e-9)


@pytest.mark.parametrize("kind", [lattice.square, lattice.honeycomb, lattice.kagome])
def test_a_lattice_of_lists_is_that_of_tuples(kind):
    """As the header of a store has it."""
    header = json.loads(json.dumps(dataclasses.asdict(kind(4))))
    found = lattice.from_cell(**header)
    assert found == kind(4) and hash(found) == hash(kind(4))
    assert lattice.from_cell(**header | {"triangles": []}).triangles == ()


def test_up_triangles_come_first():
    lat = lattice.triangular(4)
    heights = (laws.plaquette_centers(lat)[:, 1] / (ROOT3 / 2)) % 1
    np.testing.assert_allclose(heights, np.repeat([1 / 3, 2 / 3], lat.n_sites), atol=1e-9)


@every_lattice
def test_momenta_are_the_allowed_waves_of_the_first_zone(lat):
    periods = np.array(lat.vectors) * np.array(lat.shape)[:, None]
    np.testing.assert_allclose(np.exp(1j * lat.momenta @ periods.T), 1, atol=1e-12)
    waves = np.exp(1j * lat.momenta @ lat.positions[:: lat.n_basis].T)
    np.testing.assert_allclose(waves @ waves.conj().T, lat.n_cells * np.eye(lat.n_cells), atol=1e-9)
    for shift in np.mgrid[-2:3, -2:3].reshape(2, -1).T @ lat.reciprocal_vectors:
        longer = np.linalg.norm(lat.momenta + shift, axis=1)
        assert (np.linalg.norm(lat.momenta, axis=1) <= longer + 1e-8).all()


def test_momentum_index():
    lat = lattice.square(4, 6)
    np.testing.assert_allclose(lat.momenta[[1, 4]], [[np.pi / 2, 0], [0, np.pi / 3]])
    gram = lat.reciprocal_vectors @ np.array(lat.vectors).T
    np.testing.assert_allclose(gram, 2 * np.pi * np.eye(2))


@pytest.mark.parametrize("lat", [lattice.square(4), lattice.triangular(5)], ids=by_name)
def test_site_permutations_are_a_group_action(lat):
    group = lat.point_group
    table = laws.multiplication_table(group)
    permutations = np.array([lat.site_permutation(g, center=7) for g in group.matrices])
    assert len(np.unique(permutations, axis=0)) == group.order
    for g, h in np.ndindex(group.order, group.order):
        product = permutations[table[g, h]]
        np.testing.assert_array_equal(permutations[g][permutations[h]], product)


def test_a_quarter_turn_carries_x_to_y():
    lat = lattice.square(5)
    quarter_turn = lat.point_group.matrices[1]
    np.testing.assert_array_equal(lat.site_permutation(quarter_turn)[[1, 5]], [5, 4])
    np.testing.assert_array_equal(lat.site_permutation(quarter_turn, center=6)[[6, 7]], [6, 11])


@every_lattice
def test_translations_are_a_group_action(lat):
    both = lat.translation(2, -1)[lat.translation(-1, 3)]
    np.testing.assert_array_equal(both, lat.translation(1, 2))
    np.testing.assert_array_equal(lat.translation(*lat.shape), np.arange(lat.n_sites))
    moved = lat.positions + np.array([1, -1]) @ np.array(lat.vectors)
    difference = lat.positions[lat.translation(1, -1)] - moved
    np.testing.assert_allclose(shortest(lat, difference), 0, atol=1e-9)


@pytest.mark.parametrize(
    "lat", [lattice.square(4), lattice.triangular(4), honeycomb(3, 3), kagome(3, 3)], ids=by_name
)
def test_the_point_group_keeps_bonds(lat):
    expected = Counter(map(frozenset, lat.bonds().tolist()))
    for g in lat.point_group.matrices:
        image = lat.site_permutation(g)[lat.bonds()]
        assert Counter(map(frozenset, image.tolist())) == expected


@pytest.mark.parametrize(
    "lat, name",
    [
        (lattice.square(4), "C4v"),
        (lattice.triangular(4), "C6v"),
        (honeycomb(3, 3), "C3v"),
        (kagome(3, 3), "C2v"),
    ],
    ids=["square", "triangular", "honeycomb", "kagome"],
)
def test_point_group_of_a_site(lat, name):
    assert lat.point_group.name == name


def test_an_oblong_square_lattice_keeps_only_half_of_its_group():
    lat = lattice.square(4, 6)
    for g in lat.point_group.matrices:
        if abs(g[0, 1]) > 0.5:
            laws.assert_refused(lambda g=g: lat.site_permutation(g), "operation", (4, 6))
        else:
            assert sorted(lat.site_permutation(g)) == list(range(24))


def test_whole_numbers_of_any_type_are_lengths():
    for length in (4.0, np.int64(4), np.float64(4)):
        lat = lattice.square(length)
        assert lat == lattice.square(4)
        assert np.issubdtype(lat.plaquettes.dtype, np.integer)
        np.testing.assert_array_equal(lat.neighbors(), lattice.square(4).neighbors())


def square_cell(vectors=((1, 0), (0, 1)), basis=((0, 0),), shape=(4, 4)):
    return lambda: lattice.from_cell(vectors, basis, shape)


@laws.bad_input(
    {
        "no cells": (lambda: lattice.square(0), "shape", (0, 0)),
        "negative": (lambda: lattice.triangular(3, -2), "shape", (3, -2)),
        "fraction": (lambda: lattice.square(4.5), "shape", 4.5),
        "not a number": (lambda: lattice.square(float("nan")), "shape", "nan"),
        "fraction of a cell": (square_cell(shape=(4.5, 4)), "shape", 4.5),
        "text": (lambda: lattice.square("4"), "shape", "real numbers"),
        "one number": (square_cell(shape=4), "shape", "got 4"),
        "no vectors": (square_cell(vectors=1.0), "vectors", "got 1.0"),
        "text for vectors": (square_cell(vectors="ab"), "vectors", "real numbers"),
        "parallel vectors": (square_cell(vectors=((1, 0), (2, 0))), "vectors", "(2, 0)"),
        "nan vectors": (square_cell(vectors=((1, 0), (np.nan, 1))), "vectors", "nan"),
        "flat basis": (square_cell(basis=(0, 0)), "basis"),
        "same site twice": (square_cell(basis=((0, 0), (1, 0))), "basis", "1.0"),
        "shell 0": (lambda: lattice.square(4).bonds(0), "shell", 0),
        "unequal coordination": (
            lambda: lattice.from_cell(*LIEB, (3, 3), "lieb").neighbors(),
            "lieb",
            "coordination",
        ),
        "no triangles": (lambda: honeycomb(3, 3).plaquettes, "honeycomb", "triangles"),
        "two lengths": (lambda: lattice.square(4, 6).length, "shape", (4, 6)),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


TURNED = (((0, 0, 0), (0, 1, 0), (1, 0, 0)), ((1, 0, 0), (0, 1, 0), (1, 1, 0)))
"""The triangles of the triangular lattice with its vectors exchanged."""


def exchanged(length, triangles=TURNED):
    plain = lattice.triangular(length)
    return lattice.Lattice("triangular", plain.vectors[::-1], plain.basis, plain.shape, triangles)


@pytest.mark.parametrize("height", [0.8660254, 0.866025, 0.86603])
def test_a_crystal_typed_with_few_digits_has_the_shells_of_the_exact_one(height):
    """Bonds of one shell may differ by what the digits leave out."""
    typed = lattice.from_cell([[1, 0], [0.5, height]], [[0, 0]], (6, 6), "mine")
    np.testing.assert_allclose(typed.shell_distances(3), [1, ROOT3, 2], atol=2e-5)
    assert [len(typed.directed_bonds(shell)) / 36 for shell in (1, 2, 3)] == [6, 6, 6]


def test_crystals_are_told_apart_in_any_unit_of_length():
    a = 3e-10
    square = lattice.from_cell([[a, 0], [0, a]], [[0, 0]], (6, 6))
    triangular = lattice.from_cell([[a, 0], [a / 2, a * ROOT3 / 2]], [[0, 0]], (6, 6))
    assert not square.same_crystal(triangular)
    assert square.same_crystal(lattice.from_cell(square.vectors, [[0, 0]], (4, 4)))


def test_signs_do_not_depend_on_the_order_of_the_vectors():
    plain, other = lattice.triangular(4), exchanged(4)
    for chirality in (-1, 1):
        expected = chirality * observables.TETRAHEDRAL_CHIRALITY
        for lat in (plain, other):
            found = observables.scalar_chirality(lat, spins.tetrahedral(lat, chirality))
            np.testing.assert_allclose(found, expected)
    # The same points of the plane bear the same spins: y * Lx + x becomes x * Lx + y.
    state = spins.random(16, 0)
    carried = state.reshape(4, 4, 3).swapaxes(0, 1).reshape(16, 3)
    there = observables.site_chirality(other, carried).reshape(4, 4).T.ravel()
    np.testing.assert_allclose(there, observables.site_chirality(plain, state), atol=1e-12)


def test_the_helicity_of_120_degrees_does_not_depend_on_the_order_of_the_vectors():
    for lat in (lattice.triangular(3), exchanged(3)):
        s = spins.coplanar_120(lat)
        i, j, k = s[lat.plaquettes[: lat.n_sites]].swapaxes(0, 1)
        helicity = np.cross(i, j) + np.cross(j, k) + np.cross(k, i)
        np.testing.assert_allclose(helicity[:, 2], 1.5 * np.sqrt(3), atol=1e-12)


def test_the_chern_number_does_not_depend_on_the_order_of_the_vectors():
    found = []
    for lat in (lattice.triangular(2), exchanged(2)):
        model = SDModel(lat, 3.0, filling=0.25)
        found.append(bands.chern_number(model, spins.tetrahedral(lat)))
    assert found[0] == found[1] != 0


def test_corners_are_counter_clockwise_and_of_the_crystal():
    clockwise = lattice.TRIANGULAR_TRIANGLES
    laws.assert_refused(lambda: exchanged(4, clockwise), "triangles", "counter-clockwise")
    collinear = (((0, 0, 0), (1, 0, 0), (2, 0, 0)),)
    laws.assert_refused(lambda: exchanged(4, collinear), "triangles", collinear[0])
    repeated = (((0, 0, 0), (1, 0, 0), (1, 0, 0)),)
    laws.assert_refused(lambda: exchanged(4, repeated), "triangles", repeated[0])
    beyond = (((0, 0, 0), (0, 1, 1), (1, 0, 0)),)
    laws.assert_refused(lambda: exchanged(4, beyond), "triangles", "[0, 1)")
    halves = (((0, 0, 0), (0, 0.5, 0), (1, 0, 0)),)
    laws.assert_refused(lambda: exchanged(4, halves), "triangles", "integers")
