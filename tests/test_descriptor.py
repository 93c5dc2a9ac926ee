"""The symmetry descriptor: invariant, local, smooth, and labelled."""

import functools

import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from sdml import lattice, spins
from sdml.descriptor import SymmetryDescriptor, SymmetryEnvironment
from sdml.descriptor.irreps import PHASE_SOFTENING
from sdml.descriptor.orbits import orbit_coefficients, reference_irreps

LATTICES = {"square": lattice.square(7), "triangular": lattice.triangular(7)}
ENVIRONMENTS = {
    "square": SymmetryEnvironment("square", bond_radius=2.9, pair_radius=2.3),
    "triangular": SymmetryEnvironment("triangular", bond_radius=2.7, pair_radius=2.0),
}
DESCRIPTORS = {kind: environment.descriptor() for kind, environment in ENVIRONMENTS.items()}
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])


def features(kind, s, lat=None):
    """Float64 features (..., N, F) as an array."""
    table = DESCRIPTORS[kind].neighbor_table(lat or LATTICES[kind])
    return DESCRIPTORS[kind](torch.as_tensor(s), table).numpy()


def variables_of(descriptor, s, table):
    """Bonds and chiralities of the sites (N, V) and of the wedges (N, 2 order).

    Center bonds, pair bonds and chiralities in the order of ``environment.pairs``.
    """
    found, wedge = descriptor._variables(descriptor.around(torch.as_tensor(s), table))
    rows, signs = descriptor.environment.product_rows()
    return (found[rows].numpy() * signs[:, None]).T, wedge.numpy().T


def plain_features(descriptor, s, table):
    """Feature -> (N,), orbit by orbit from the definition."""
    environment, found = descriptor.environment, {}
    variables, wedge = variables_of(descriptor, s, table)
    wedge = dict(zip(("bond", "chirality"), np.split(wedge, 2, axis=-1), strict=True))
    for number, orbit in enumerate(environment.orbits()):
        basis, labels, _ = orbit_coefficients(environment.group, orbit, number)
        values = variables[:, environment.variable_number(orbit)] @ basis.T
        references = reference_irreps(environment.group, orbit.variable)
        for label in set(labels):
            f = values[:, [k for k, other in enumerate(labels) if other == label]]
            reference = wedge[orbit.variable] @ references[label.irrep].T
            power, scale = ((x**2).sum(-1) for x in (f, reference))
            softened = np.sqrt((power + PHASE_SOFTENING) * (scale + PHASE_SOFTENING))
            found[label._replace(invariant="value")] = f[:, 0]
            found[label._replace(invariant="amplitude")] = power
            found[label._replace(invariant="phase")] = (f * reference).sum(-1) / softened
    return np.stack([found[label] for label in descriptor.features], axis=-1)


@every_kind
def test_features_are_what_their_labels_say(kind):
    """The batched products of all orbits against one orbit at a time."""
    s, descriptor = spins.random(49, seed=0), DESCRIPTORS[kind]
    expected = plain_features(descriptor, s, descriptor.neighbor_table(LATTICES[kind]))
    np.testing.assert_allclose(features(kind, s), expected, atol=1e-12)


@every_kind
def test_variables_are_bonds_and_chiralities(kind):
    """Column by column against the spins of the neighbour table."""
    s, descriptor = spins.random(49, seed=0), DESCRIPTORS[kind]
    table = descriptor.neighbor_table(LATTICES[kind])
    around, (j, k) = s[table], descriptor.environment.pairs.T
    bonds = np.einsum("na,nka->nk", s, around)
    pairs = (around[:, j] * around[:, k]).sum(-1)
    chiralities = np.einsum("na,npa->np", s, np.cross(around[:, j], around[:, k]))
    found = variables_of(descriptor, s, table)[0]
    expected = np.concatenate([bonds, pairs, chiralities], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-14)


@every_kind
def test_features_are_invariant(kind):
    lat = LATTICES[kind]
    s = spins.random(lat.n_sites, seed=0)
    laws.assert_site_invariant(lambda s: features(kind, s), s, laws.symmetries(lat), rtol=1e-10)


@every_kind
def test_features_are_invariant_to_rounding_each_by_its_own_size(kind):
    """A small feature must not hide behind a large one."""
    lat = LATTICES[kind]
    s = spins.random(lat.n_sites, seed=1)
    expected = features(kind, s)
    for move in laws.symmetries(lat):
        deviation = np.abs(features(kind, move.vectors(s)) - move.scalars(expected)).max(0)
        assert (deviation / np.abs(expected).max(0)).max() < 1e-10, move.name


@every_kind
def test_features_see_every_other_change(kind):
    """Moves that are no symmetry: one spin turned over, two spins exchanged."""
    lat = LATTICES[kind]
    s = spins.random(lat.n_sites, seed=0)
    turned, swapped = s.copy(), s.copy()
    turned[1] = -s[1]
    swapped[[1, 2]] = s[[2, 1]]
    for changed in (turned, swapped):
        assert np.abs(features(kind, changed) - features(kind, s))[0].max() > 0.01


@every_kind
def test_features_are_local(kind):
    lat, environment = LATTICES[kind], ENVIRONMENTS[kind]
    s = spins.random(lat.n_sites, seed=0)
    changed = s.copy()
    changed[0] = -s[0]
    moved = np.abs(features(kind, changed) - features(kind, s)).max(-1) > 1e-12
    corners, _ = lat.displacements(environment.bond_radius)
    within = lat.site_index(corners[:, :2], 0)
    assert set(np.flatnonzero(moved)) == {0, *within.tolist()}


@every_kind
def test_no_feature_is_dead(kind):
    """Each one varies between random environments."""
    values = features(kind, spins.random(49, seed=0))
    assert (values.std(0) > 1e-3).all()


@every_kind
def test_a_ferromagnet_has_only_its_uniform_bonds(kind):
    """A1 coefficients of n equal bonds are sqrt(n); every other amplitude and all phases vanish."""
    lat, labels = LATTICES[kind], DESCRIPTORS[kind].features
    values = features(kind, spins.ferromagnetic(lat, (1, 2, 3)))
    expected = []
    for label in labels:
        uniform = label.invariant == "value" and label.copy == 0
        expected.append(np.sqrt(label.members) if uniform else 0)
    np.testing.assert_allclose(values, np.tile(expected, (49, 1)), atol=1e-12)


def test_the_two_chiralities_of_tetrahedral_order_look_alike():
    """They are mirror images and time reversals of each other."""
    lat = lattice.triangular(8)
    plus, minus = (features("triangular", spins.tetrahedral(lat, c), lat) for c in (1, -1))
    np.testing.assert_allclose(plus, minus, atol=1e-12)
    chiral = [label.variable == "chirality" for label in DESCRIPTORS["triangular"].features]
    assert np.abs(plus[:, chiral]).max() > 1


def ordered_states(kind):
    if kind == "square":
        lat = lattice.square(6)
        states = {name: getattr(spins, name)(lat) for name in ("ferromagnetic", "neel", "stripe")}
    else:
        lat = lattice.triangular(6)
        names = ("ferromagnetic", "stripe", "coplanar_120", "coplanar_90", "tetrahedral")
        states = {name: getattr(spins, name)(lat) for name in names}
        states["tetrahedral, reversed"] = spins.tetrahedral(lat, -1)
    states["random"] = spins.random(lat.n_sites, seed=0)
    states["two equal spins"] = spins.random(lat.n_sites, seed=1)
    states["two equal spins"][1] = states["two equal spins"][0]
    states["two opposite spins"] = spins.random(lat.n_sites, seed=2)
    states["two opposite spins"][1] = -states["two opposite spins"][0]
    return [pytest.param(lat, kind, s, id=f"{kind} {name}") for name, s in states.items()]


@pytest.mark.parametrize("lat, kind, s", [*ordered_states("square"), *ordered_states("triangular")])
def test_features_are_smooth_where_amplitudes_vanish(lat, kind, s):
    """The gradient of a random sum of features is finite and equal to central differences."""
    weights = np.random.default_rng(0).standard_normal(DESCRIPTORS[kind].n_features)
    table = DESCRIPTORS[kind].neighbor_table(lat)
    assert np.isfinite(features(kind, s, lat)).all()

    def energy(state):
        return DESCRIPTORS[kind](torch.as_tensor(state), table) @ torch.as_tensor(weights)

    leaf = torch.as_tensor(s.copy()).requires_grad_(True)
    energy(leaf).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    found = laws.gradient(lambda s: energy(s).sum(-1).numpy(), s, 1, 1e-5)
    np.testing.assert_allclose(leaf.grad[1], found, atol=1e-6 * np.abs(weights).sum())
    assert leaf.grad.abs().max() < 100 * np.abs(weights).sum()


@every_kind
@pytest.mark.parametrize("state", ["ferromagnetic", "random", "zero"])
def test_all_derivatives_are_finite_at_vanishing_amplitudes(kind, state):
    """In a ferromagnet f = 0 but for A1; without spins every f and every reference is 0."""
    lat, descriptor = LATTICES[kind], DESCRIPTORS[kind]
    states = {"ferromagnetic": spins.ferromagnetic(lat), "random": spins.random(49, 0)}
    s = torch.as_tensor(states.get(state, np.zeros((49, 3)))).requires_grad_(True)
    found = descriptor(s, descriptor.neighbor_table(lat))
    weights = torch.randn(found.shape, dtype=found.dtype)
    (field,) = torch.autograd.grad((found * weights).sum(), s, create_graph=True)
    (second,) = torch.autograd.grad((field * torch.randn_like(field)).sum(), s)
    assert all(torch.isfinite(x).all() for x in (found, field, second))
    if state == "zero":
        assert not found.any() and not field.any()


@every_kind
def test_first_and_second_derivatives(kind):
    """Torch's own check by finite differences, on a lattice smaller than the environment."""
    lat = getattr(lattice, kind)(2, 3)
    descriptor = SymmetryEnvironment(kind, 2.0, 1.0).descriptor()
    table = descriptor.neighbor_table(lat)
    s = torch.as_tensor(spins.random(6, 0)).requires_grad_(True)
    assert gradcheck(lambda x: descriptor(x, table), s)
    assert gradgradcheck(lambda x: descriptor(x, table), s, fast_mode=True)


@functools.cache
def built(kind, bond_radius, pair_radius):
    return SymmetryEnvironment(kind, bond_radius, pair_radius).descriptor()


radii = st.sampled_from([1.0, 1.5, 1.8, 2.0, 2.3, 2.7])
drawn = st.builds(
    lambda kind, a, b: built(kind, max(a, b), min(a, b)),
    st.sampled_from(["square", "triangular"]),
    radii,
    radii,
)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(drawn, seeds, st.data())
def test_random_environments_are_invariant(descriptor, seed, data):
    """Any radii, state, operation, translation and orthogonal matrix, all at once."""
    lat = getattr(lattice, descriptor.environment.kind)(5)
    table = descriptor.neighbor_table(lat)
    s = spins.perturbed(spins.ferromagnetic(lat), data.draw(st.floats(0.01, 10)), seed)
    matrix = data.draw(st.sampled_from(list(lat.point_group.matrices)))
    steps = data.draw(st.tuples(st.integers(-4, 4), st.integers(-4, 4)))
    permutation = lat.translation(*steps)[lat.site_permutation(matrix)]
    rotation = spins.random_rotation(seed, proper=data.draw(st.booleans()))
    move = laws.Move("drawn", permutation, rotation)
    expected, found = (descriptor(torch.as_tensor(x), table).numpy() for x in (s, move.vectors(s)))
    laws.assert_close(found, move.scalars(expected), 1e-10, "features")


@settings(max_examples=20)
@given(drawn, seeds)
def test_gradients_of_random_environments(descriptor, seed):
    """Autograd against central differences along one random direction."""
    lat = getattr(lattice, descriptor.environment.kind)(4)
    table, rng = descriptor.neighbor_table(lat), np.random.default_rng(seed)
    s = torch.as_tensor(spins.random(16, rng)).requires_grad_(True)
    weights = torch.as_tensor(rng.standard_normal(descriptor.n_features))
    direction = torch.as_tensor(rng.standard_normal((16, 3)))
    weights, direction = weights / weights.norm(), direction / direction.norm()

    def energy(x):
        return (descriptor(x, table) @ weights).sum()

    (gradient,) = torch.autograd.grad(energy(s), s)
    step = 1e-5 * direction
    with torch.no_grad():
        expected = (energy(s + step) - energy(s - step)) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    "environment, n_sites, n_pairs",
    [
        (SymmetryEnvironment("triangular", 3, 3), 36, 630),
        (SymmetryEnvironment("triangular", 4, 1), 60, 15),
        (SymmetryEnvironment("square", 3, 3), 28, 378),
        (ENVIRONMENTS["square"], 24, 190),
        (ENVIRONMENTS["triangular"], 30, 153),
    ],
    ids=lambda x: f"{x.kind} {x.bond_radius}" if hasattr(x, "kind") else None,
)
def test_orbits_partition_the_variables(environment, n_sites, n_pairs):
    """666 bonds and 630 chiralities within 3 lattice constants of the triangular lattice."""
    orbits = environment.orbits()
    sizes = {
        name: sum(len(o.members) for o in orbits if o.variable == name)
        for name in ("bond", "chirality")
    }
    assert sizes == {"bond": n_sites + n_pairs, "chirality": n_pairs}
    columns = np.concatenate([environment.variable_number(o) for o in orbits])
    assert sorted(columns) == list(range(n_sites + 2 * n_pairs))


@every_kind
def test_number_of_orbits_and_features_by_counting_characters(kind):
    """Burnside: orbits are the mean number of fixed members; copies are products of characters."""
    environment, group = ENVIRONMENTS[kind], ENVIRONMENTS[kind].group
    orbits = environment.orbits()
    fixed = {
        name: np.mean(
            [
                sum(
                    (o.images[g] == np.arange(len(o.members))).sum()
                    for o in orbits
                    if o.variable == name
                )
                for g in range(group.order)
            ]
        )
        for name in ("bond", "chirality")
    }
    for name, expected in fixed.items():
        assert len([o for o in orbits if o.variable == name]) == expected
    copies = {
        name: sum(
            (np.trace(d, axis1=1, axis2=2) * np.trace(o.representation, axis1=1, axis2=2)).mean()
            for o in orbits
            for d in [group.irreps[name]]
        )
        for name in group.irreps
    }
    linear = fixed["bond"]  # every permutation representation holds A1 once
    assert DESCRIPTORS[kind].n_features == pytest.approx(2 * sum(copies.values()) - linear)


@every_kind
def test_features_are_labelled(kind):
    descriptor = DESCRIPTORS[kind]
    labels = descriptor.features
    assert len(set(labels)) == len(labels) == features(kind, spins.random(49, 0)).shape[-1]
    assert {label.variable for label in labels} == {"bond", "chirality"}
    # Only even combinations of chiralities occur.
    assert all(label.invariant != "value" for label in labels if label.variable == "chirality")
    assert all(label.irrep == "A1" for label in labels if label.invariant == "value")


@every_kind
def test_orbits_carry_representations(kind):
    group = ENVIRONMENTS[kind].group
    for orbit in ENVIRONMENTS[kind].orbits():
        rho = orbit.representation
        products = np.einsum("gab,hbc->ghac", rho, rho)
        np.testing.assert_array_equal(products, rho[laws.multiplication_table(group)])


@every_kind
def test_single_precision_and_batches(kind):
    s = spins.random(3 * 49, seed=0).reshape(3, 49, 3)
    expected = features(kind, s)
    np.testing.assert_allclose(features(kind, s[1]), expected[1], atol=1e-13)
    single = features(kind, s.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=2e-4)


@laws.bad_input(
    {
        "kind": (lambda: SymmetryEnvironment("cubic", 2, 1), "kind", "cubic"),
        "radius": (lambda: SymmetryEnvironment("square", 0.5, 0.5), "bond_radius", 0.5),
        "order": (lambda: SymmetryEnvironment("square", 2, 3), "pair_radius", 3),
        "nan": (lambda: SymmetryEnvironment("square", np.nan, 1), "bond_radius", "nan"),
        "lattice": (
            lambda: DESCRIPTORS["square"].neighbor_table(lattice.triangular(7)),
            "lattice",
            "triangular",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


def test_tables_keep_their_digits_through_casts():
    """Symmetry must stay exact for a module that was float32 before."""
    module = SymmetryDescriptor(SymmetryEnvironment("triangular", 2.0, 2.0))
    tables = {name: table.clone() for name, table in module.named_buffers()}
    module.float().half().double()
    for name, table in module.named_buffers():
        torch.testing.assert_close(table, tables[name], rtol=0, atol=0)
