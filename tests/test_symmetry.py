"""Point groups: group laws, orthogonality of irreps, projectors, contents of orbits."""

import itertools

import laws
import numpy as np
import pytest

from sdml import lattice
from sdml.symmetry import PointGroup, irrep_basis, projector

GROUPS = [PointGroup(n, angle) for n in (1, 2, 3, 4, 6) for angle in (0.0, 0.3)]
LATTICE_GROUPS = [PointGroup(4), PointGroup(6)]
REGULAR = {
    4: "A1+A2+B1+B2+2E",
    6: "A1+A2+B1+B2+2E1+2E2",
}
# Tables of the orbits within three lattice constants: number of members -> contents that occur.
CENTER_BONDS = {
    4: {4: {"A1+B1+E", "A1+B2+E"}, 8: {REGULAR[4]}},
    6: {6: {"A1+B1+E1+E2", "A1+B2+E1+E2"}, 12: {REGULAR[6]}},
}
PAIR_BONDS = {
    4: {2: {"A1+B1", "A1+B2"}, 4: {"A1+B1+E", "A1+B2+E", "A1+A2+B1+B2"}, 8: {REGULAR[4]}},
    6: {
        3: {"A1+E2"},
        6: {"A1+B1+E1+E2", "A1+B2+E1+E2", "A1+A2+2E2"},
        12: {REGULAR[6]},
    },
}
CHIRALITIES = {
    4: {
        2: {"E"},
        4: {"A1+B1+E", "A1+B2+E", "A2+B1+E", "A2+B2+E", "2E"},
        8: {REGULAR[4]},
    },
    6: {
        3: {"B1+E1", "B2+E1"},
        6: {"A1+B1+E1+E2", "A2+B1+E1+E2", "A2+B2+E1+E2", "B1+B2+2E1"},
        12: {REGULAR[6]},
    },
}


def signed_orbits(group, vectors, pairs, odd):
    """Matrices (order, n, n) of every orbit of pairs; an odd variable changes sign when swapped."""
    number = {tuple(np.round(v, 6) + 0.0): k for k, v in enumerate(vectors)}
    found = [[number[tuple(np.round(g @ v, 6) + 0.0)] for v in vectors] for g in group.matrices]
    left = set(pairs)
    while left:
        j, k = min(left)
        orbit = sorted({tuple(sorted((image[j], image[k]))) for image in found})
        left -= set(orbit)
        matrices = np.zeros((group.order, len(orbit), len(orbit)))
        for matrix, image in zip(matrices, found, strict=True):
            for m, (a, b) in enumerate(orbit):
                target = image[a], image[b]
                sign = -1 if odd and target[0] > target[1] else 1
                matrix[orbit.index(tuple(sorted(target))), m] = sign
        yield matrices


def contents(group, representation):
    """For instance 'A1+B1+E', from the symmetry-adapted basis."""
    copies = {name: len(b) for name, b in irrep_basis(group, representation).items()}
    return "+".join(f"{n if n > 1 else ''}{name}" for name, n in copies.items())


def environment(group):
    """Vectors within three lattice constants of a site of the lattice with this point group."""
    lat = lattice.square(9) if group.n_fold == 4 else lattice.triangular(9)
    return lat.displacements(3)[1]


def orbit_table(group, pairs, odd=False):
    table = {}
    for representation in signed_orbits(group, environment(group), pairs, odd):
        table.setdefault(len(representation[0]), set()).add(contents(group, representation))
    return table


def all_pairs(group):
    return list(itertools.combinations(range(len(environment(group))), 2))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_matrices_are_a_group(group):
    table = laws.multiplication_table(group)
    products = np.einsum("gab,hbc->ghac", group.matrices, group.matrices)
    np.testing.assert_allclose(products, group.matrices[table], atol=1e-12)
    assert len(np.unique(np.round(group.matrices, 9), axis=0)) == group.order
    for line in (*table, *table.T):
        assert sorted(line) == list(range(group.order))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_irreps_are_homomorphisms(group):
    table = laws.multiplication_table(group)
    for name, d in group.irreps.items():
        products = np.einsum("gab,hbc->ghac", d, d)
        np.testing.assert_allclose(products, d[table], atol=1e-12, err_msg=name)
        np.testing.assert_allclose(d[0], np.eye(d.shape[-1]), atol=1e-15)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_great_orthogonality(group):
    rows = [np.sqrt(d.shape[-1]) * d.reshape(group.order, -1).T for d in group.irreps.values()]
    matrix = np.concatenate(rows) / np.sqrt(group.order)
    # As many rows as elements means sum of d^2 = order: the list of irreps is complete.
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(group.order), atol=1e-12)


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_mirrors_through_nearest_neighbours_leave_b1_even(group):
    nearest = 2 * np.pi * np.arange(group.n_fold) / group.n_fold
    points = np.stack([np.cos(nearest), np.sin(nearest)], axis=-1)
    for g, matrix in enumerate(group.matrices):
        is_mirror = np.linalg.det(matrix) < 0
        if is_mirror:
            fixes_a_neighbour = np.abs(points @ matrix.T - points).max(1).min() < 1e-9
            sign = 1 if fixes_a_neighbour else -1
            assert group.irreps["B1"][g, 0, 0] == sign
            assert group.irreps["B2"][g, 0, 0] == -sign
            assert group.irreps["A2"][g, 0, 0] == -1


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_the_plane_itself_is_the_first_two_dimensional_irrep(group):
    name = "E" if group.n_fold == 4 else "E1"
    np.testing.assert_allclose(group.irreps[name], group.matrices, atol=1e-12)


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_projectors_of_a_regular_orbit(group):
    representation = next(
        r
        for r in signed_orbits(group, environment(group), all_pairs(group), odd=True)
        if r.shape[-1] == group.order
    )
    parts = [
        projector(group, name, representation, row, row)
        for name, d in group.irreps.items()
        for row in range(d.shape[-1])
    ]
    for a, p in enumerate(parts):
        for b, q in enumerate(parts):
            np.testing.assert_allclose(p @ q, p if a == b else 0 * p, atol=1e-12)
    np.testing.assert_allclose(sum(parts), np.eye(group.order), atol=1e-12)


@pytest.mark.parametrize("odd", [False, True], ids=["bonds", "chiralities"])
@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_coefficients_turn_like_their_irrep(group, odd):
    rng = np.random.default_rng(0)
    for representation in signed_orbits(group, environment(group)[:12], [(0, 1), (0, 7)], odd):
        x = rng.standard_normal(len(representation[0]))
        stacked = []
        for name, basis in irrep_basis(group, representation).items():
            for g in range(group.order):
                moved = basis @ (representation[g] @ x)
                expected = (basis @ x) @ group.irreps[name][g].T
                np.testing.assert_allclose(moved, expected, atol=1e-12)
            stacked.append(basis.reshape(-1, len(x)))
        complete = np.concatenate(stacked)
        np.testing.assert_allclose(complete @ complete.T, np.eye(len(x)), atol=1e-12)


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_contents_of_center_bonds(group):
    diagonal = [(k, k) for k in range(len(environment(group)))]
    assert orbit_table(group, diagonal) == CENTER_BONDS[group.n_fold]


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_contents_of_pair_bonds(group):
    assert orbit_table(group, all_pairs(group)) == PAIR_BONDS[group.n_fold]


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_contents_of_chiralities(group):
    assert orbit_table(group, all_pairs(group), odd=True) == CHIRALITIES[group.n_fold]


@pytest.mark.parametrize("group", LATTICE_GROUPS, ids=str)
def test_antipodal_pairs(group):
    vectors = environment(group)
    antipodal = [
        (j, k) for j, k in all_pairs(group) if np.abs(vectors[j] + vectors[k]).max() < 1e-9
    ]
    even, odd = (orbit_table(group, antipodal, odd=flag) for flag in (False, True))
    assert (
        even
        == {
            4: {2: {"A1+B1", "A1+B2"}, 4: {"A1+A2+B1+B2"}},
            6: {3: {"A1+E2"}, 6: {"A1+A2+2E2"}},
        }[group.n_fold]
    )
    assert (
        odd
        == {
            4: {2: {"E"}, 4: {"2E"}},
            6: {3: {"B1+E1", "B2+E1"}, 6: {"B1+B2+2E1"}},
        }[group.n_fold]
    )


@laws.bad_input(
    {
        "fivefold": (lambda: PointGroup(5), "n_fold", 5),
        "irrep": (
            lambda: projector(PointGroup(4), "E1", np.zeros((8, 1, 1))),
            "irrep",
            "E1",
            "C4v",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
