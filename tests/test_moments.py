"""The far-sighted descriptor: invariant, local to its radius, smooth, and labelled."""

import functools

import laws
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from sdml import lattice, spins
from sdml.descriptor.moments import TILT_SPAN, MomentEnvironment, MomentFeature
from sdml.descriptor.walks import local_moments

ENVIRONMENTS = {
    "square": MomentEnvironment("square", radius=3, n_steps=6, exchange_coupling=6.0),
    "triangular": MomentEnvironment("triangular", radius=2, n_steps=5, exchange_coupling=3.0),
}
DESCRIPTORS = {kind: environment.descriptor() for kind, environment in ENVIRONMENTS.items()}
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])


def features(kind, s, lat=None):
    """Features (..., N, F) as an array; on 7 x 7 sites unless a lattice is given."""
    table = DESCRIPTORS[kind].neighbor_table(lat or getattr(lattice, kind)(7))
    return DESCRIPTORS[kind](torch.as_tensor(s), table).numpy()


@every_kind
@pytest.mark.parametrize("length", [3, 4, 7])
def test_features_are_invariant(kind, length):
    """Translations, point group, spin rotations, time reversal; also where a cluster wraps."""
    lat = getattr(lattice, kind)(length)
    s, moves = spins.random(lat.n_sites, seed=0), laws.symmetries(lat)
    expected = features(kind, s, lat)
    laws.assert_site_invariant(lambda s: features(kind, s, lat), s, moves, rtol=1e-12)
    for move in moves:  # a small feature must not hide behind a large one
        deviation = np.abs(features(kind, move.vectors(s), lat) - move.scalars(expected)).max(0)
        assert (deviation <= 1e-10 * np.abs(expected).max(0)).all(), move.name


@every_kind
def test_features_are_what_their_labels_say(kind):
    """Charge, spin and tilt of every order, from the moments one by one."""
    s, descriptor = torch.as_tensor(spins.random(49, 0)), DESCRIPTORS[kind]
    table = descriptor.neighbor_table(getattr(lattice, kind)(7))
    moments = local_moments(s, table, descriptor.walks[0])
    found = descriptor(s, table)
    assert found.shape == (49, descriptor.n_features)
    values = moments.numpy()
    laws.assert_features_of_moments(
        found.numpy(), descriptor.features, values, s.numpy(), atol=1e-14
    )


@every_kind
@pytest.mark.parametrize("n_steps", [2, 3, 6])
def test_every_order_above_two_has_its_label(kind, n_steps):
    """On a bipartite lattice charges have no odd moment, spins no even one."""
    orders, bipartite = range(3, 2 * n_steps + 1), kind == "square"
    charges = [n for n in orders if not (bipartite and n % 2)]
    along = [n for n in orders if not bipartite or n % 2]
    single = {MomentFeature("charge", n, n) for n in charges}
    single |= {MomentFeature("spin", n, n) for n in along}
    pairs = {(n, m) for n in along for m in along if 0 <= m - n <= TILT_SPAN}
    descriptor = MomentEnvironment(kind, 1, n_steps, 3.0).descriptor()
    assert set(descriptor.features) == single | {MomentFeature("tilt", n, m) for n, m in pairs}
    assert len(descriptor.features) == descriptor.n_features == len(single) + len(pairs)
    found = descriptor(
        torch.as_tensor(spins.random(9, 0)), descriptor.neighbor_table(getattr(lattice, kind)(3))
    )
    assert found.shape == (9, descriptor.n_features)


@every_kind
def test_orders_one_and_two_are_the_same_for_all_states(kind):
    """Why the features begin at order three."""
    s, descriptor = torch.as_tensor(spins.random(49, 0)), DESCRIPTORS[kind]
    table = descriptor.neighbor_table(getattr(lattice, kind)(7))
    moments = local_moments(s, table, descriptor.walks[0])[:, :2]
    charge, vector = moments[..., 0], moments[..., 1:]
    along = (vector * s[:, None]).sum(-1, keepdim=True)
    assert float((vector - along * s[:, None]).abs().max()) < 1e-15
    assert float(torch.cat([charge, along[..., 0]], -1).std(0).max()) < 1e-14


def test_what_vanishes_on_a_bipartite_lattice():
    """Time reversal of the electrons and a sign on one sublattice turn H into -H."""
    s, descriptor = torch.as_tensor(spins.random(49, 0)), DESCRIPTORS["square"]
    moments = local_moments(s, descriptor.neighbor_table(lattice.square(7)), descriptor.walks[0])
    assert float(moments[:, ::2, 0].abs().max()) < 1e-15  # charge, odd orders
    assert float(moments[:, 1::2, 1:].abs().max()) < 1e-15  # spin, even orders


@every_kind
def test_all_features_vary(kind):
    """Between random environments; only three hops around a triangle see no spin."""
    values, labels = features(kind, spins.random(49, seed=0)), DESCRIPTORS[kind].features
    fixed = {label for label, std in zip(labels, values.std(0), strict=True) if std < 1e-3}
    assert fixed == ({MomentFeature("charge", 3, 3)} if kind == "triangular" else set())


@every_kind
def test_features_see_every_other_change(kind):
    """Moves that are no symmetry: one spin turned over, two spins exchanged."""
    s = spins.random(49, seed=0)
    turned, swapped = s.copy(), s.copy()
    turned[1] = -s[1]
    swapped[[1, 2]] = s[[2, 1]]
    for changed in (turned, swapped):
        assert np.abs(features(kind, changed) - features(kind, s))[0].max() > 1e-3


def bonds_between(lat, start=0):
    """Fewest bonds from a site to every other."""
    joined = lat.neighbors(1)
    count = np.where(np.arange(lat.n_sites) == start, 0, lat.n_sites)
    for _ in range(lat.n_sites):
        count = np.minimum(count, count[joined].min(1) + 1)
    return count


@every_kind
@pytest.mark.parametrize("radius, n_steps", [(1, 2), (2, 3), (2, 6), (3, 3), (4, 5)])
def test_features_reach_as_far_as_the_radius(kind, radius, n_steps):
    """A spin at that number of bonds is seen, one beyond is not, however long the walks are.

    Of 2 n_steps steps one must rest on the spin to see it, and two go along every bond.
    """
    descriptor = MomentEnvironment(kind, radius, n_steps, 3.0).descriptor()
    lat = getattr(lattice, kind)(11)
    table, s = descriptor.neighbor_table(lat), spins.random(121, seed=0)
    changed = s.copy()
    changed[0] = -s[0]
    found, expected = (descriptor(torch.as_tensor(x), table).numpy() for x in (changed, s))
    distance, moved = bonds_between(lat), (found != expected).any(-1)
    assert not moved[distance > radius].any()
    reach = min(radius, n_steps - 1)
    assert (np.abs(found - expected).max(-1) > 1e-12)[distance <= reach].all()


@every_kind
def test_the_cluster_is_the_sites_within_the_radius(kind):
    environment = ENVIRONMENTS[kind]
    lat = getattr(lattice, kind)(9)
    table = DESCRIPTORS[kind].neighbor_table(lat).numpy()
    np.testing.assert_array_equal(table[:, 0], np.arange(81))
    distance, counts = bonds_between(lat), DESCRIPTORS[kind].walks[0].counts
    assert set(table[0]) == set(np.flatnonzero(distance <= environment.radius))
    for n, count in enumerate(counts):
        assert set(distance[table[0, :count]]) == set(range(min(n, environment.radius) + 1))
        assert count == (distance <= min(n, environment.radius)).sum()
    opposite = DESCRIPTORS[kind].walks[0].opposite
    for place, back in enumerate(opposite):
        np.testing.assert_array_equal(table[table[:, place], back], np.arange(81))


def ordered_states(kind):
    lat = getattr(lattice, kind)(6)
    names = {
        "square": ("ferromagnetic", "neel", "stripe"),
        "triangular": ("ferromagnetic", "stripe", "coplanar_120", "coplanar_90", "tetrahedral"),
    }
    states = {name: getattr(spins, name)(lat) for name in names[kind]}
    states["two equal spins"], states["two opposite spins"] = (spins.random(36, k) for k in (1, 2))
    states["two equal spins"][1] = states["two equal spins"][0]
    states["two opposite spins"][1] = -states["two opposite spins"][0]
    return [pytest.param(lat, kind, s, id=f"{kind} {name}") for name, s in states.items()]


@pytest.mark.parametrize("lat, kind, s", [*ordered_states("square"), *ordered_states("triangular")])
def test_features_are_smooth_in_ordered_states(lat, kind, s):
    """The gradient of a random sum of features is finite and equal to central differences."""
    descriptor = DESCRIPTORS[kind]
    weights = torch.as_tensor(np.random.default_rng(0).standard_normal(descriptor.n_features))
    table = descriptor.neighbor_table(lat)
    assert np.isfinite(features(kind, s, lat)).all()

    def energy(state):
        return descriptor(torch.as_tensor(state), table) @ weights

    leaf = torch.as_tensor(s.copy()).requires_grad_(True)
    energy(leaf).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    found = laws.gradient(lambda s: energy(s).sum(-1).numpy(), s, 1, 1e-5)
    np.testing.assert_allclose(leaf.grad[1], found, atol=1e-7 * float(weights.abs().sum()))


def test_the_two_chiralities_of_tetrahedral_order_look_alike():
    """They are mirror images and time reversals of each other."""
    lat = lattice.triangular(8)
    plus, minus = (features("triangular", spins.tetrahedral(lat, c), lat) for c in (1, -1))
    np.testing.assert_allclose(plus, minus, atol=1e-14)


@every_kind
def test_derivatives_that_torch_checks(kind):
    """The features; and their gradient in the cotangent, which is all that training needs."""
    descriptor = MomentEnvironment(kind, 2, 3, 2.0).descriptor()
    table = descriptor.neighbor_table(getattr(lattice, kind)(2, 3))
    s = torch.as_tensor(spins.random(6, 0)).requires_grad_(True)
    assert gradcheck(lambda x: descriptor(x, table), s)
    fixed = s.detach()
    weight = torch.randn(descriptor.n_features, dtype=torch.float64).requires_grad_(True)
    # A nonlinear function of the features at spins that are not differentiated again.
    assert gradgradcheck(lambda w: torch.tanh(descriptor(fixed, table) * w), weight)

    def field(w):
        energy = torch.tanh(descriptor(s, table) @ w).sum()
        return torch.autograd.grad(energy, s, create_graph=True)[0]

    assert gradcheck(field, weight)


@every_kind
def test_curvature_in_the_spins_is_refused(kind):
    """A Hessian would lack the curvature of the moments: an error, not a wrong number."""
    descriptor = DESCRIPTORS[kind]
    table = descriptor.neighbor_table(getattr(lattice, kind)(3))
    s = torch.as_tensor(spins.random(9, 0)).requires_grad_(True)
    (field,) = torch.autograd.grad(descriptor(s, table).sum(), s, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative in the spins"):
        torch.autograd.grad(field[0, 0], s)


@every_kind
def test_precisions_and_batches(kind):
    """Features come in the dtype of the spins; casts of the module lose nothing."""
    s, descriptor = spins.random(3 * 49, seed=0).reshape(3, 49, 3), DESCRIPTORS[kind]
    expected = features(kind, s)
    np.testing.assert_array_equal(features(kind, s[1]), expected[1])
    single = features(kind, s.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=2e-5)
    descriptor.float()
    np.testing.assert_array_equal(features(kind, s), expected)
    descriptor.double()
    np.testing.assert_array_equal(features(kind, s), expected)
    assert not list(descriptor.state_dict())


def test_the_sign_of_the_coupling_is_a_time_reversal():
    """J and -J: the same electrons around reversed spins."""
    lat, s = lattice.triangular(7), torch.as_tensor(spins.random(49, 0))
    found = [MomentEnvironment("triangular", 2, 4, J).descriptor() for J in (3.0, -3.0)]
    plus, minus = (d(s, d.neighbor_table(lat)) for d in found)
    odd = torch.tensor([label.invariant == "spin" for label in found[0].features])
    torch.testing.assert_close(plus[:, odd], -minus[:, odd], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(plus[:, ~odd], minus[:, ~odd], rtol=1e-12, atol=1e-14)


def test_numbers_of_an_environment_are_plain():
    """They go into the JSON header of a file."""
    environment = MomentEnvironment("square", np.int64(2), np.int32(3), np.float32(1.5))
    assert environment == MomentEnvironment("square", 2, 3, 1.5)
    kinds = [type(getattr(environment, n)) for n in ("radius", "n_steps", "exchange_coupling")]
    assert kinds == [int, int, float]


@functools.cache
def built(kind):
    return MomentEnvironment(kind, 2, 3, 1.0).descriptor()


@laws.bad_input(
    {
        "kind": (lambda: MomentEnvironment("cubic", 2, 3, 1.0), "kind", "cubic", "square"),
        "no radius": (lambda: MomentEnvironment("square", 0, 3, 1.0), "radius", "1 <=", 0),
        "half a bond": (lambda: MomentEnvironment("square", 2.5, 3, 1.0), "radius", "whole", 2.5),
        "half a step": (lambda: MomentEnvironment("square", 2, 3.5, 1.0), "n_steps", "whole", 3.5),
        "too few steps": (
            lambda: MomentEnvironment("square", 4, 3, 1.0),
            "n_steps",
            "radius <= n_steps",
            "4 and 3",
        ),
        "one step": (lambda: MomentEnvironment("square", 1, 1, 1.0), "n_steps >= 2", "1 and 1"),
        "coupling": (
            lambda: MomentEnvironment("square", 2, 3, np.nan),
            "exchange_coupling",
            "finite",
            "nan",
        ),
        "lattice": (
            lambda: built("square").neighbor_table(lattice.triangular(5)),
            "lattice",
            "square",
            "triangular",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
