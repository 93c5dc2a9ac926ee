"""Orbits of an environment and their irreps against the group-theory tables."""

import laws
import numpy as np
import pytest
from test_symmetry import CENTER_BONDS, CHIRALITIES, PAIR_BONDS, contents

from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor.orbits import (
    environment_images,
    find_orbits,
    orbit_coefficients,
    packed,
    reference_irreps,
)

ENVIRONMENTS = {kind: SymmetryEnvironment(kind, 3, 3) for kind in ("square", "triangular")}
ORBITS = {kind: environment.orbits() for kind, environment in ENVIRONMENTS.items()}
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])


def table(kind, variable, of_center=False):
    """Number of members -> contents that occur, within three lattice constants."""
    found = {}
    for orbit in ORBITS[kind]:
        if orbit.variable == variable and (orbit.members[0, 0] == -1) == of_center:
            name = contents(ENVIRONMENTS[kind].group, orbit.representation)
            found.setdefault(len(orbit.members), set()).add(name)
    return found


@every_kind
def test_contents_of_all_orbits_to_three_lattice_constants(kind):
    n = ENVIRONMENTS[kind].group.n_fold
    assert table(kind, "bond", of_center=True) == CENTER_BONDS[n]
    assert table(kind, "bond") == PAIR_BONDS[n]
    assert table(kind, "chirality") == CHIRALITIES[n]


def is_antipodal(environment, orbit):
    vectors = environment.sites()[1]
    return all(np.abs(vectors[j] + vectors[k]).max() < 1e-9 for j, k in orbit.members)


@every_kind
def test_contents_of_antipodal_orbits(kind):
    """Their pairs are reversed by the inversion: another content at the same size."""
    environment, found = ENVIRONMENTS[kind], {"bond": set(), "chirality": set()}
    for orbit in ORBITS[kind]:
        if orbit.members[0, 0] >= 0 and is_antipodal(environment, orbit):
            found[orbit.variable].add(contents(environment.group, orbit.representation))
    expected = {
        "square": ({"A1+B1", "A1+B2", "A1+A2+B1+B2"}, {"E", "2E"}),
        "triangular": ({"A1+E2", "A1+A2+2E2"}, {"B1+E1", "B2+E1", "B1+B2+2E1"}),
    }
    assert (found["bond"], found["chirality"]) == expected[kind]


@every_kind
def test_copies_in_each_orbit_by_characters(kind):
    """n_irrep = (1 / |G|) sum_g chi_irrep(g) chi_orbit(g), and they fill the orbit."""
    group = ENVIRONMENTS[kind].group
    for number, orbit in enumerate(ORBITS[kind]):
        labels = orbit_coefficients(group, orbit, number).labels
        characters = np.trace(orbit.representation, axis1=1, axis2=2)
        assert len(labels) == len(orbit.members)
        for irrep, d in group.irreps.items():
            copies = {label.copy for label in labels if label.irrep == irrep}
            expected = (np.trace(d, axis1=1, axis2=2) * characters).mean()
            assert len(copies) == pytest.approx(expected), (number, irrep)


@every_kind
def test_coefficients_are_an_orthogonal_basis_that_turns_like_the_irreps(kind):
    group = ENVIRONMENTS[kind].group
    for number, orbit in enumerate(ORBITS[kind][::7]):
        basis, labels, partners = orbit_coefficients(group, orbit, number)
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)
        turned = np.einsum("am,gmn,bn->gab", basis, orbit.representation, basis)
        for a, b in np.ndindex(turned.shape[1:]):
            expected = np.zeros(group.order)
            if labels[a] == labels[b]:
                expected = group.irreps[labels[a].irrep][:, partners[a], partners[b]]
            np.testing.assert_allclose(turned[:, a, b], expected, atol=1e-12)


@every_kind
@pytest.mark.parametrize("variable", ["bond", "chirality"])
def test_references_hold_every_irrep(kind, variable):
    """Wedge pairs are a regular orbit: no irrep is without a reference."""
    group = ENVIRONMENTS[kind].group
    found = reference_irreps(group, variable)
    assert {k: len(rows) for k, rows in found.items()} == {
        k: d.shape[-1] for k, d in group.irreps.items()
    }


def test_one_orbit_of_two_swapped_members():
    images = np.array([[0, 1], [1, 0]])
    (bond,) = find_orbits(images, "bond", np.array([[0, 1]]))
    (chirality,) = find_orbits(images, "chirality", np.array([[0, 1]]))
    np.testing.assert_array_equal(bond.signs.ravel(), [1, 1])
    np.testing.assert_array_equal(chirality.signs.ravel(), [1, -1])


@pytest.mark.parametrize("sizes", [[12, 6, 3, 3, 12, 6, 6], [1] * 5, [3, 6, 12], [8, 2, 4, 2]])
def test_packed_items_neither_overlap_nor_cross_a_bin(sizes):
    capacity = max(sizes)
    offsets = packed(sizes, capacity)
    places = np.concatenate([o + np.arange(n) for o, n in zip(offsets, sizes, strict=True)])
    assert len(set(places)) == sum(sizes)
    assert all(
        o // capacity == (o + n - 1) // capacity for o, n in zip(offsets, sizes, strict=True)
    )
    assert places.max() < capacity * -(-sum(sizes) // capacity)


@laws.bad_input(
    {
        "too large": (lambda: packed([3, 7], 6), "capacity", 6, 7),
        "not invariant": (
            lambda: environment_images(ENVIRONMENTS["square"].group, np.array([[1.0, 0.0]])),
            "vectors",
            "C4v",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
