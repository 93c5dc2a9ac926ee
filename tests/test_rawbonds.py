"""The raw baseline: invariant under spin rotations, and under nothing else."""

import laws
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from sdml import lattice, spins
from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor.raw import RawBondEnvironment

LATTICES = {"square": lattice.square(7), "triangular": lattice.triangular(7)}
RAW = {kind: RawBondEnvironment(kind, 2.3, 2.0).descriptor() for kind in LATTICES}
SYMMETRIC = {kind: SymmetryEnvironment(kind, 2.3, 2.0).descriptor() for kind in LATTICES}
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])


def features(descriptor, s):
    """Float64 features (N, F) as an array."""
    lat = LATTICES[descriptor.environment.kind]
    return descriptor(torch.as_tensor(s), descriptor.neighbor_table(lat)).numpy()


def change(descriptor, s, move):
    """Largest change of the features that go with their sites, relative to the largest."""
    expected = move.scalars(features(descriptor, s))
    return np.abs(features(descriptor, move.vectors(s)) - expected).max() / np.abs(expected).max()


def chiral(descriptor):
    return np.array([label.variable == "chirality" for label in descriptor.features])


def test_radii_of_the_published_code_give_its_numbers():
    labels = RawBondEnvironment("square", 26**0.5, 3).descriptor().features
    assert len(labels) == 554
    center = [x for x in labels if x.variable == "bond" and x.first == -1]
    pairs = [x for x in labels if x.variable == "bond" and x.first >= 0]
    assert (len(center), len(pairs)) == (88, 378)
    assert len([x for x in labels if x.variable == "chirality"]) == 88


@every_kind
def test_features_are_the_products_they_are_labelled(kind):
    s, descriptor = spins.random(49, 0), RAW[kind]
    table = descriptor.neighbor_table(LATTICES[kind]).numpy()
    found = features(descriptor, s)
    for column, (variable, first, second) in enumerate(descriptor.features):
        j, k = s[table[:, second]], s if first == -1 else s[table[:, first]]
        if variable == "chirality":
            expected = (s * np.cross(s[table[:, first]], s[table[:, second]])).sum(-1)
        else:
            expected = (j * k).sum(-1)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-14)


@every_kind
def test_chiralities_go_round_the_center(kind):
    """Each site of a shell meets the next counter-clockwise, and is met once."""
    environment = RAW[kind].environment
    vectors, following = environment.sites()[1], environment.following()
    assert sorted(following) == list(range(len(vectors)))
    lengths = np.linalg.norm(vectors, axis=-1)
    np.testing.assert_allclose(lengths[following], lengths)
    (ax, ay), (bx, by) = vectors.T, vectors[following].T
    turn = np.arctan2(ax * by - ay * bx, ax * bx + ay * by)
    assert (turn > 0).all() and turn.max() < 1.7


@every_kind
def test_spin_rotations_and_translations_change_nothing(kind):
    s, lat = spins.random(49, 0), LATTICES[kind]
    moves = [m for m in laws.spin_rotations(lat) if np.linalg.det(m.rotation) > 0]
    laws.assert_site_invariant(
        lambda x: features(RAW[kind], x), s, [*moves, *laws.translations(lat)]
    )


@every_kind
def test_time_reversal_changes_the_sign_of_chiralities_only(kind):
    s = spins.random(49, 0)
    sign = np.where(chiral(RAW[kind]), -1, 1)
    np.testing.assert_allclose(features(RAW[kind], -s), sign * features(RAW[kind], s), atol=1e-14)


@every_kind
def test_operations_of_the_lattice_change_raw_but_not_symmetric_features(kind):
    """The reason for the paper's descriptor, in numbers."""
    s = spins.random(49, 0)
    for move in laws.point_operations(LATTICES[kind])[1:]:  # all but the identity
        assert change(RAW[kind], s, move) > 0.3, move.name
        assert change(SYMMETRIC[kind], s, move) < 1e-10, move.name


@every_kind
def test_operations_of_the_lattice_permute_raw_bonds(kind):
    """Nothing is lost: only columns are exchanged."""
    s = spins.random(49, 0)
    bonds = ~chiral(RAW[kind])
    expected = np.sort(features(RAW[kind], s)[:, bonds], axis=-1)
    for move in laws.point_operations(LATTICES[kind]):
        found = np.sort(features(RAW[kind], move.vectors(s))[:, bonds], axis=-1)
        np.testing.assert_allclose(found, move.scalars(expected), atol=1e-13)


def test_derivatives():
    lat, descriptor = lattice.square(3), RawBondEnvironment("square", 2, 1).descriptor()
    table = descriptor.neighbor_table(lat)
    s = torch.as_tensor(spins.random(9, 0)).requires_grad_(True)
    assert gradcheck(lambda x: descriptor(x, table), s)
    assert gradgradcheck(lambda x: descriptor(x, table), s, fast_mode=True)


@laws.bad_input(
    {
        "kind": (lambda: RawBondEnvironment("cubic", 2, 1), "kind", "cubic"),
        "radii": (lambda: RawBondEnvironment("square", 2, 3), "pair_radius", 3),
        "lattice": (
            lambda: RAW["square"].neighbor_table(LATTICES["triangular"]),
            "lattice",
            "triangular",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
