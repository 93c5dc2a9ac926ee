"""Chirality, structure factors against double sums, lengths of synthetic domains, clusters."""

import laws
import numpy as np
import pytest
import torch

from sdml import lattice, observables, spins

ROOT3 = np.sqrt(3)
TETRAHEDRAL = 4 / (3 * ROOT3)
# Counter-clockwise triangles of second neighbours, of both sublattices.
TRIANGLES = (
    ((0, 0, 0), (1, 0, 0), (0, 1, 0)),
    ((1, 0, 0), (1, 1, 0), (0, 1, 0)),
    ((0, 0, 1), (0, 1, 1), (-1, 1, 1)),
)
HONEYCOMB = lattice.from_cell(
    [[ROOT3, 0], [ROOT3 / 2, 1.5]], [[0, 0], [0, 1]], (4, 3), "honeycomb", TRIANGLES
)
SQUARE, TRIANGULAR, OBLONG = lattice.square(6), lattice.triangular(6), lattice.triangular(4, 6)
by_name = {"ids": lambda x: x.name + f" {x.shape[0]}x{x.shape[1]}" if hasattr(x, "name") else None}


def solid_angle(a, b, c):
    """Of the spherical triangle of three unit vectors, signed (Oosterom and Strackee)."""
    triple = np.einsum("na,na->n", a, np.cross(b, c))
    dots = 1 + (a * b).sum(-1) + (b * c).sum(-1) + (c * a).sum(-1)
    return 2 * np.arctan2(triple, dots)


@pytest.mark.parametrize("chirality", [1, -1])
def test_tetrahedral_order_has_uniform_chirality(chirality):
    s = spins.tetrahedral(TRIANGULAR, chirality)
    found = observables.scalar_chirality(TRIANGULAR, s)
    assert found.shape == (72,)
    np.testing.assert_allclose(found, chirality * TETRAHEDRAL, atol=1e-14)
    np.testing.assert_allclose(observables.site_chirality(TRIANGULAR, s), chirality * TETRAHEDRAL)


@pytest.mark.parametrize("state", ["ferromagnetic", "stripe", "coplanar_120", "coplanar_90"])
def test_coplanar_orders_have_no_chirality(state):
    s = spins.rotate(getattr(spins, state)(TRIANGULAR), spins.random_rotation(0))
    np.testing.assert_allclose(observables.scalar_chirality(TRIANGULAR, s), 0, atol=1e-14)


@pytest.mark.parametrize("lat", [SQUARE, TRIANGULAR, HONEYCOMB], **by_name)
def test_chirality_has_the_sign_of_the_solid_angle(lat):
    s = spins.random(lat.n_sites, seed=0)
    found = observables.scalar_chirality(lat, s)
    corners = [s[c] for c in lat.plaquettes.T]
    np.testing.assert_allclose(found, np.linalg.det(np.stack(corners, axis=1)), atol=1e-14)
    assert (np.sign(found) == np.sign(solid_angle(*corners))).all()


@pytest.mark.parametrize("lat", [SQUARE, OBLONG], **by_name)
def test_chirality_is_odd_under_time_reversal_and_mirrors(lat):
    s = spins.random(lat.n_sites, seed=0)
    expected = observables.site_chirality(lat, s)
    np.testing.assert_allclose(observables.site_chirality(lat, -s), -expected, atol=1e-14)
    turned = spins.rotate(s, spins.random_rotation(0))
    np.testing.assert_allclose(observables.site_chirality(lat, turned), expected, atol=1e-13)


@pytest.mark.parametrize("lat", [SQUARE, TRIANGULAR], **by_name)
def test_site_chirality_is_carried_by_rotations_and_changes_sign_under_mirrors(lat):
    s = spins.random(lat.n_sites, seed=0)
    expected = observables.site_chirality(lat, s)
    for move, matrix in zip(laws.point_operations(lat), lat.point_group.matrices, strict=True):
        found = observables.site_chirality(lat, move.vectors(s))
        sign = np.linalg.det(matrix)
        np.testing.assert_allclose(found, sign * move.scalars(expected), atol=1e-13)


def test_site_chirality_is_the_mean_over_the_plaquettes_of_the_site():
    s = spins.random(36, seed=0)
    chirality = observables.scalar_chirality(SQUARE, s)
    found = observables.site_chirality(SQUARE, s)
    for site in (0, 17):
        own = [c for c, p in zip(chirality, SQUARE.plaquettes, strict=True) if site in p]
        assert len(own) == 12
        assert found[site] == pytest.approx(np.mean(own))


def double_sum(positions, momenta, values):
    """S(q) = (1/n) sum over r, r' of cos q.(r - r') X.X', the definition."""
    x = values.reshape(len(positions), -1)
    products = x @ x.T
    differences = positions[:, None] - positions[None]
    phases = np.cos(np.einsum("rsa,qa->qrs", differences, momenta))
    return np.einsum("qrs,rs->q", phases, products) / len(positions)


@pytest.mark.parametrize("lat", [SQUARE, OBLONG, HONEYCOMB], **by_name)
@pytest.mark.parametrize("components", [(), (3,)], ids=["scalar", "vector"])
@pytest.mark.parametrize("carrier", ["sites", "plaquettes"])
def test_structure_factor_is_the_double_sum(lat, components, carrier):
    points = lat.positions if carrier == "sites" else laws.plaquette_centers(lat)
    values = np.random.default_rng(0).standard_normal((len(points), *components))
    found = observables.structure_factor(lat, values)
    expected = double_sum(points, lat.momenta, values)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_structure_factor_of_batches_and_of_whole_numbers():
    values = np.random.default_rng(0).integers(-3, 4, (2, 3, 36))
    found = observables.structure_factor(SQUARE, values)
    assert found.shape == (2, 3, 36)
    expected = double_sum(SQUARE.positions, SQUARE.momenta, values[1, 2].astype(float))
    np.testing.assert_allclose(found[1, 2], expected, rtol=1e-10, atol=1e-10)
    s = spins.random(5 * 36, seed=0).reshape(5, 36, 3)
    np.testing.assert_allclose(
        observables.structure_factor(SQUARE, s)[3], observables.structure_factor(SQUARE, s[3])
    )


@pytest.mark.parametrize("lat", [SQUARE, OBLONG, HONEYCOMB], **by_name)
def test_structure_factor_sum_rule(lat):
    """The mean over a zone of a Bravais lattice is |S|^2 = 1; a basis keeps it for n_cells q."""
    if lat.n_basis == 1:
        factor = observables.structure_factor(lat, spins.random(lat.n_sites, seed=0))
        assert factor.mean() == pytest.approx(1)
    uniform = observables.structure_factor(lat, np.ones(lat.n_sites))
    assert uniform[0] == pytest.approx(lat.n_sites)


@pytest.mark.parametrize(
    "state, lat, peaks",
    [
        ("neel", SQUARE, [[np.pi, np.pi]]),
        ("ferromagnetic", SQUARE, [[0, 0]]),
        ("coplanar_120", TRIANGULAR, [[4 * np.pi / 3, 0], [2 * np.pi / 3, 2 * np.pi / ROOT3]]),
        ("stripe", TRIANGULAR, [[0, 2 * np.pi / ROOT3]]),
        (
            "tetrahedral",
            TRIANGULAR,
            [[np.pi, np.pi / ROOT3], [np.pi, -np.pi / ROOT3], [0, 2 * np.pi / ROOT3]],
        ),
    ],
)
def test_bragg_peaks(state, lat, peaks):
    """All weight N at the ordering wave vectors, shared evenly between them."""
    factor = observables.structure_factor(lat, getattr(spins, state)(lat))
    phases = np.exp(1j * (lat.momenta[:, None] - np.array(peaks)) @ np.array(lat.vectors).T)
    at_peak = (np.abs(phases - 1).max(-1) < 1e-9).any(-1)
    assert at_peak.sum() == len(peaks)
    np.testing.assert_allclose(factor[at_peak], lat.n_sites / len(peaks), rtol=1e-10)
    np.testing.assert_allclose(factor[~at_peak], 0, atol=1e-10)


def test_neel_order():
    assert observables.neel_order(SQUARE, spins.neel(SQUARE)) == pytest.approx(1)
    assert observables.neel_order(SQUARE, spins.ferromagnetic(SQUARE)) == pytest.approx(0)
    s = spins.random(36, seed=0)
    peak = observables.structure_factor(SQUARE, s)[3 * 6 + 3]  # q = (pi, pi)
    assert observables.neel_order(SQUARE, s) == pytest.approx(np.sqrt(peak / 36))


@pytest.mark.parametrize("lat", [lattice.square(5, 4), OBLONG], **by_name)
def test_spin_correlation_is_the_direct_mean(lat):
    s = spins.random(lat.n_sites, seed=0)
    direct = [
        (s * s[lat.translation(x, y)]).sum(-1).mean()
        for y in range(lat.shape[1])
        for x in range(lat.shape[0])
    ]
    found = observables.spin_correlation(lat, s)
    np.testing.assert_allclose(found, direct, atol=1e-13)
    chirality = observables.site_chirality(lat, s)
    shifted = chirality[lat.translation(2, 1)]
    found = observables.spin_correlation(lat, chirality)[lat.shape[0] + 2]
    assert found == pytest.approx((chirality * shifted).mean())


def test_bond_correlation_of_each_shell():
    s = spins.coplanar_120(TRIANGULAR)
    np.testing.assert_allclose(observables.bond_correlation(TRIANGULAR, s), -0.5, atol=1e-12)
    np.testing.assert_allclose(observables.bond_correlation(TRIANGULAR, s, 2), 1, atol=1e-12)
    i, j = SQUARE.bonds(3).T
    s = spins.random(36, seed=0)
    expected = [s[a] @ s[b] for a, b in zip(i, j, strict=True)]
    np.testing.assert_allclose(observables.bond_correlation(SQUARE, s, 3), expected, atol=1e-14)


def folded(lat):
    """Cell positions about the center of the box, in the cell of shortest vectors, with basis."""
    fraction = (lat.cells + 0.5) / np.array(lat.shape) - 0.5
    within = np.array(lat.basis)[np.arange(lat.n_sites) % lat.n_basis]
    return fraction @ (np.array(lat.vectors) * np.array(lat.shape)[:, None]) + within


LARGE = [
    lattice.square(64),
    lattice.triangular(64),
    lattice.from_cell([[ROOT3, 0], [ROOT3 / 2, 1.5]], [[0, 0], [0, 1]], (48, 48), "honeycomb"),
]
EACH = pytest.mark.parametrize("lat", LARGE, **by_name)


@EACH
@pytest.mark.parametrize("radius", [8.0, 15.0, 22.0])
def test_wall_length_of_a_disc(lat, radius):
    x = np.where(np.linalg.norm(folded(lat), axis=1) < radius, 1.0, -1.0)
    area = abs(np.linalg.det(lat.vectors)) * lat.n_cells
    assert observables.wall_density(lat, x) * area == pytest.approx(2 * np.pi * radius, rel=0.02)


@pytest.mark.parametrize("ratio", [0.4, 2.6, 3.0])
def test_wall_length_of_stripes_on_a_rectangular_crystal(ratio):
    """Stripes of six rows; the estimator is coarse, as few directions are short there."""
    lat = lattice.from_cell([[1, 0], [0, ratio]], [[0, 0]], (24, 24), "rectangular")
    for axis, width in enumerate((6, 6 * ratio)):
        x = np.where((lat.cells[:, axis] // 6) % 2, -1.0, 1.0)
        assert observables.domain_length(lat, x, "wall") == pytest.approx(width, rel=0.1)


@EACH
@pytest.mark.parametrize("wave", [(1, 0), (0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (-1, 1), (1, -2)])
def test_wall_length_of_straight_walls_does_not_depend_on_direction(lat, wave):
    """A square wave along the momentum q has |q| / pi of wall in a unit of area."""
    q = np.array(wave) @ lat.reciprocal_vectors / lat.shape[0]
    x = np.where(np.sin(lat.positions @ q + 0.01) > 0, 1.0, -1.0)
    found = observables.wall_density(lat, x)
    assert found == pytest.approx(np.linalg.norm(q) / np.pi, rel=0.02)


@pytest.mark.parametrize("lat, n_directions", [*zip(LARGE, (8, 12, 12), strict=True)], **by_name)
def test_the_shares_of_the_directions_are_complete(lat, n_directions):
    steps, length, share = observables._lines(lat)
    assert len(steps) == n_directions and share.sum() == pytest.approx(1)
    angles = np.linspace(0, np.pi, 361)
    unit = steps @ np.array(lat.vectors) / length[:, None]
    cut = np.abs(unit @ np.array([np.cos(angles), np.sin(angles)]))
    np.testing.assert_allclose(np.pi / 2 * share @ cut, 1, atol=0.015)


def shells(size, width):
    """Which points are of every ring of ``size``, the first of them being the origin alone."""
    ring = np.round(size / width).astype(int)
    found = [(ring == k) & (size > 0) for k in range(ring.max() + 1)]
    return [size == 0, *(members for members in found if members.any())]


@pytest.mark.parametrize("lat", [lattice.square(16), OBLONG, lattice.triangular(18)], **by_name)
def test_lengths_are_those_of_sums_over_pairs_and_momenta(lat):
    x = np.random.default_rng(0).standard_normal(lat.n_sites)
    factor = abs(np.exp(-1j * lat.momenta @ lat.positions.T) @ x) ** 2 / lat.n_sites
    q = np.linalg.norm(lat.momenta, axis=1)
    total = moment = 0.0
    for ring in shells(q, 2 * np.pi / np.sqrt(lat.n_sites))[1:]:
        weight = ring.sum() * factor[ring].mean() ** 2
        total, moment = total + weight, moment + weight * q[ring].mean()
    assert observables.domain_length(lat, x) == pytest.approx(2 * np.pi * total / moment)
    biased = 2 * np.pi * factor[1:].sum() / (factor * q).sum()
    assert observables.domain_length(lat, x, "first_moment") == pytest.approx(biased)

    box = np.array(lat.vectors) * np.array(lat.shape)[:, None]
    images = [np.array(n) @ box for n in np.ndindex(3, 3)]
    r = np.min([np.linalg.norm(lat.positions + n - box.sum(0), axis=1) for n in images], axis=0)
    pairs = np.array([(x * x[lat.translation(*cell)]).mean() for cell in lat.cells])
    rings = shells(r, 1.0)
    curve = np.array([pairs[ring].mean() for ring in rings]) / pairs[0]
    last = np.flatnonzero(curve < 0.5)[0]
    ends = [last, last - 1]
    expected = np.interp(0.5, curve[ends], [r[rings[k]].mean() for k in ends])
    assert observables.domain_length(lat, x, "correlation") == pytest.approx(expected)


ESTIMATORS = ["moment", "first_moment", "wall", "correlation"]


def smooth_random_field(lat, n_waves, seed):
    """Random waves of at most 3 periods a side: the same field on any size, only stretched."""
    rng = np.random.default_rng(seed)
    fractions = lat.cells / np.array(lat.shape)
    waves = rng.integers(-3, 4, (n_waves, 2))
    phases = rng.uniform(0, 2 * np.pi, n_waves)
    return np.cos(2 * np.pi * fractions @ waves.T + phases).sum(-1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", [lattice.square, lattice.triangular])
def test_doubling_a_pattern_doubles_its_length(kind, estimator):
    lengths = [
        observables.domain_length(
            kind(size), smooth_random_field(kind(size), 12, seed=1), estimator
        )
        for size in (64, 128)
    ]
    # Two estimators are exact in momentum space; walls are ragged and distances binned.
    tolerance = {"moment": 1e-9, "first_moment": 1e-9, "wall": 0.02, "correlation": 0.02}
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=tolerance[estimator])


def stripes(lat, width):
    """Domains of +1 and -1, ``width`` rows each."""
    return 1.0 - 2.0 * ((lat.cells[:, 1] // width) % 2)


def assert_wave_length(lat, found, expected):
    """Within the resolution of the circular average, half a step of the allowed |q|.

    The third harmonic of a square wave adds up to 2 %.
    """
    q = 2 * np.pi / expected
    assert abs(2 * np.pi / found - q) <= np.pi / np.sqrt(lat.n_cells) + 0.02 * q


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("lat", [lattice.square(32), lattice.triangular(32)], **by_name)
def test_lengths_of_stripes(lat, width):
    """Area per wall length is the spacing; the spectrum peaks at half a period, the spacing."""
    x = stripes(lat, width)
    spacing = width * lat.vectors[1][1]
    if spacing > observables.LINE_REACH:  # no line steps over two walls
        assert observables.domain_length(lat, x, "wall") == pytest.approx(spacing, rel=0.02)
    assert_wave_length(lat, observables.domain_length(lat, x, "moment"), 2 * spacing)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_wall_length_of_a_chequerboard(width):
    """Squares of side w have area w^2 and half of 4 w walls each.

    Lines that step over a corner meet two walls and see none: what they miss falls as 1 / w.
    """
    lat = lattice.square(64)
    x = stripes(lat, width) * (1.0 - 2.0 * ((lat.cells[:, 0] // width) % 2))
    excess = observables.domain_length(lat, x, "wall") / (width / 2) - 1
    assert 0 < excess < 1.35 / width


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_single_wave_has_its_wavelength(estimator):
    lat = lattice.square(64)
    x = np.cos(2 * np.pi * lat.positions[:, 0] / 16)
    found = observables.domain_length(lat, x, estimator)
    if estimator == "first_moment":
        assert found == pytest.approx(16)
    elif estimator == "moment":
        assert_wave_length(lat, found, 16)
    elif estimator == "wall":
        assert found == pytest.approx(8, rel=0.02)
    else:
        # The circular average of cos q.r is J_0(q r), which is 1/2 at q r = 1.5211.
        assert found == pytest.approx(1.5211 * 16 / (2 * np.pi), rel=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_field_without_walls_has_no_finite_length(estimator):
    for length in range(2, 41):
        lat = lattice.square(length)
        for value in (1.0, -1.0, 0.1, np.float32(0.1)):
            x = np.full(lat.n_sites, value)
            assert observables.domain_length(lat, x, estimator) == np.inf, (length, value)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_lengths_of_batches_kinds_and_whole_numbers(estimator):
    lat = lattice.triangular(12)
    x = np.sign(np.random.default_rng(0).standard_normal((2, 2, 144)))
    found = observables.domain_length(lat, x, estimator)
    assert found.shape == (2, 2)
    alone = observables.domain_length(lat, x[1, 0], estimator)
    np.testing.assert_allclose(found[1, 0], alone, rtol=1e-12)
    whole = observables.domain_length(lat, x[1, 0].astype(int), estimator)
    np.testing.assert_allclose(whole, alone, rtol=1e-12)
    tensor = observables.domain_length(lat, torch.as_tensor(x), estimator)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor, found, rtol=1e-12)


def two_clusters():
    """A Neel state on 6 x 6 with the spins 1 and 15 turned over, along their neighbours."""
    s = spins.neel(SQUARE)
    s[[1, 15]] *= -1
    return s


def test_clusters_of_a_hand_made_state():
    s = two_clusters()
    labels = observables.cluster_labels(SQUARE, s)
    for site in (1, 15):
        members = {site, *SQUARE.neighbors()[site].tolist()}
        assert set(np.flatnonzero(labels == labels[site])) == members
    assert observables.cluster_sizes(SQUARE, s).tolist() == [5, 5]
    assert observables.cluster_sizes(SQUARE, s, smallest=1).tolist() == [5, 5] + [1] * 26


def test_clusters_of_ordered_states():
    assert observables.cluster_sizes(SQUARE, spins.ferromagnetic(SQUARE)).tolist() == [36]
    assert observables.cluster_sizes(SQUARE, spins.neel(SQUARE)).tolist() == []
    # Rows of parallel spins: clusters wrap around the boundary.
    rows = observables.cluster_sizes(SQUARE, spins.stripe(SQUARE))
    assert rows.tolist() == [6] * 6


@pytest.mark.parametrize("threshold, sizes", [(0.49, [16]), (0.51, [])])
def test_cluster_threshold(threshold, sizes):
    """Neighbours at 60 degrees have S.S = 1/2."""
    lat = lattice.square(4)
    angle = np.pi / 3 * (lat.cells.sum(-1) % 2)
    s = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    assert observables.cluster_sizes(lat, s, threshold).tolist() == sizes


STATE = spins.random(36, seed=0)
NO_TRIANGLES = lattice.from_cell([[1, 0], [0, 1]], [[0, 0]], (6, 6), "bare")


@laws.bad_input(
    {
        "size": (lambda: observables.scalar_chirality(SQUARE, STATE[:9]), "spins", "(9, 3)"),
        "nan": (lambda: observables.neel_order(SQUARE, np.nan * STATE), "spins", "nan"),
        "no triangles": (lambda: observables.scalar_chirality(NO_TRIANGLES, STATE), "bare"),
        "values": (
            lambda: observables.structure_factor(SQUARE, np.ones(35)),
            "values",
            36,
            "(35,)",
        ),
        "estimator": (
            lambda: observables.domain_length(SQUARE, np.ones(36), "mean"),
            "estimator",
            "mean",
            "moment",
        ),
        "field": (lambda: observables.domain_length(SQUARE, STATE), "values", 36, "(36, 3)"),
        "field of a batch": (
            lambda: observables.site_values(SQUARE, np.ones((2, 36)), "density", (3,)),
            "density",
            "(3, 36)",
            "(2, 36)",
        ),
        "field of cells": (
            lambda: observables.site_values(HONEYCOMB, np.ones(24), one_per_cell=True),
            "lattice",
            "honeycomb",
        ),
        "batch": (lambda: observables.cluster_labels(SQUARE, STATE[None]), "spins", "(1, 36, 3)"),
        "basis": (
            lambda: observables.spin_correlation(HONEYCOMB, spins.random(24, 0)),
            "honeycomb",
        ),
        "plaquettes": (
            lambda: observables.spin_correlation(TRIANGULAR, np.ones(72)),
            "values",
            "(72,)",
        ),
        "neel": (lambda: observables.neel_order(TRIANGULAR, STATE), "lattice", "triangular"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


@pytest.mark.parametrize("lat", [SQUARE, TRIANGULAR], ids=lambda lat: lat.name)
def test_site_correlation_averages_the_bonds_of_a_site(lat):
    s = spins.random(lat.n_sites, 3)
    found = observables.site_correlation(lat, np.stack([s, -s]))
    np.testing.assert_allclose(found[0], found[1])
    assert found[0].mean() == pytest.approx(observables.bond_correlation(lat, s).mean())
    np.testing.assert_allclose(observables.site_correlation(lat, spins.ferromagnetic(lat)), 1.0)
