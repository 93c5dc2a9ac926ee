"""Known clusters, and laws of the statistics of a snapshot."""

import arrest
import numpy as np
import pytest
import torch

from sdml import lattice, observables, spins
from sdml.phase_separation import clusters, snapshots

LATTICE = lattice.square(16)
PLUS, PAIR = (4 * 16 + 4,), (10 * 16 + 10, 10 * 16 + 12)


def droplets(*groups):
    state = spins.neel(LATTICE)
    for group in groups:
        state[list(group)] *= -1
    return spins.rotate(state, spins.random_rotation(seed=3))


def test_a_flipped_spin_is_a_plus_of_five_and_two_share_a_neighbour():
    found = clusters.clusters(LATTICE, droplets(PLUS, PAIR))
    assert found.sizes.tolist() == [9, 5]
    assert found.mean_size == 7
    around = [PLUS[0], *LATTICE.neighbors()[PLUS[0]]]
    assert sorted(found.sites[1].tolist()) == sorted(around)


def test_without_clusters_there_is_nothing_to_average():
    found = clusters.clusters(LATTICE, spins.neel(LATTICE))
    assert found.sites == [] and found.mean_size == 0.0
    row = snapshots.statistics(LATTICE, spins.neel(LATTICE), np.ones(256))
    assert row["n_clusters"] == row["largest"] == row["holes_per_cluster"] == 0
    assert row["holes_in_clusters"] == row["bimodality"] == 0


def test_holes_are_counted_where_they_are():
    density = np.ones(256)
    density[[PLUS[0], PLUS[0] + 1, PAIR[0]]] = 0.5, 0.7, 0.0
    density[0] = 0.8
    state = droplets(PLUS, PAIR)
    assert clusters.clusters(LATTICE, state, density).holes == pytest.approx([1.0, 0.8])
    row = snapshots.statistics(LATTICE, state, density)
    assert row["holes_in_clusters"] == pytest.approx(0.9)
    assert row["holes_per_cluster"] == pytest.approx(0.9)
    assert row["hole_sites"] == pytest.approx(3 / 256)


def test_statistics_of_a_batch_are_those_of_its_members():
    batch = np.stack([droplets(PLUS), spins.random(256, 0), spins.random(256, 1)])
    density = np.random.default_rng(0).random((3, 256))
    together = snapshots.statistics(LATTICE, batch, density)
    assert tuple(together) == snapshots.SPIN_STATISTICS + snapshots.DENSITY_STATISTICS
    for k in range(3):
        for name, value in snapshots.statistics(LATTICE, batch[k], density[k]).items():
            assert together[name][k] == pytest.approx(value)


def test_statistics_do_not_change_under_rotations_and_translations():
    s = spins.random(256, 5)
    moved = np.empty_like(s)
    moved[LATTICE.translation(3, 2)] = spins.rotate(s, spins.random_rotation(1))
    before, after = (snapshots.statistics(LATTICE, x) for x in (s, moved))
    assert after == pytest.approx(before, rel=1e-9)


def test_the_row_is_an_observable_of_tensors_in_single_precision():
    state = torch.as_tensor(droplets(PLUS), dtype=torch.float32)
    row = arrest.statistics_row(LATTICE, state)
    expected = snapshots.statistics(LATTICE, droplets(PLUS))
    assert row.tolist() == pytest.approx([expected[k] for k in snapshots.SPIN_STATISTICS], rel=1e-5)


def test_the_neel_length_of_a_spiral_is_a_quarter_of_its_pitch():
    """J_0(2 pi r / P) = 1/2 at r = 0.2421 P."""
    lat = lattice.square(96)
    phase = 2 * np.pi / 48 * lat.cells[:, 0]
    spiral = np.stack([np.cos(phase), np.sin(phase), 0 * phase], axis=-1)
    state = spiral * (1 - 2 * (lat.cells.sum(-1) % 2))[:, None]
    assert observables.neel_length(lat, state) == pytest.approx(0.2421 * 48, rel=0.02)
    assert observables.neel_length(lat, spins.neel(lat)) == np.inf
    assert observables.neel_length(lat, spins.random(lat.n_sites, 0)) < 1


def test_neel_length_needs_a_square_lattice():
    with pytest.raises(ValueError, match="lattice"):
        observables.neel_length(lattice.triangular(12), spins.random(144, 0))


def test_bimodality_knows_two_values_from_one_hump():
    rng = np.random.default_rng(0)
    assert snapshots.bimodality(np.repeat([0.4, 1.0], [3, 97])) == pytest.approx(1)
    assert snapshots.bimodality(np.linspace(0, 1, 10001)) == pytest.approx(5 / 9, rel=1e-3)
    assert snapshots.bimodality(rng.standard_normal(200_000)) == pytest.approx(1 / 3, rel=0.02)
    assert snapshots.bimodality(np.ones((2, 5))).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_numbers_have_neither_humps_nor_memory(dtype):
    rng = np.random.default_rng(0)
    for n_sites in (49, 144, 900):
        for value in (0.1, 0.97, 1 / 3):
            uniform = np.full(n_sites, value, dtype)
            other = rng.random(n_sites).astype(dtype)
            assert snapshots.bimodality(uniform) == 0
            assert snapshots.density_overlap(uniform, uniform) == 0
            assert snapshots.density_overlap(other, uniform) == 0
        almost = np.where(np.arange(n_sites) == 3, 0.96, 0.97).astype(dtype)
        assert snapshots.bimodality(almost) == pytest.approx(1, rel=1e-3)
        assert snapshots.density_overlap(almost, almost) == pytest.approx(1)


@pytest.mark.parametrize("missed", [0.0, 2e-6])
def test_half_filling_has_no_holes_in_any_precision(missed):
    """Neither those that rounding makes nor those that the charge of a force field misses."""
    rng, s = np.random.default_rng(0), spins.random(256, 0)
    n = 0.05 * rng.standard_normal(256)
    n += 1 + missed - n.mean()
    for dtype in ("float64", "float32"):
        assert snapshots.statistics(LATTICE, s, n.astype(dtype))["holes_in_clusters"] == 0
        one = n.astype(dtype)
        one[5] -= 1
        assert 0 <= abs(snapshots.statistics(LATTICE, s, one)["holes_in_clusters"]) < 10


def test_the_density_remembers_where_the_holes_were():
    rng = np.random.default_rng(0)
    n = 1 - 0.5 * (rng.random((3, 400)) < 0.03)
    np.testing.assert_allclose(snapshots.density_overlap(n, 2 * n + 1), 1, rtol=1e-12)
    assert abs(snapshots.density_overlap(n[0], n[1])) < 0.2  # elsewhere, by chance
    half = np.where(np.arange(400) % 2, n[0], n[0].mean())
    assert 0.3 < snapshots.density_overlap(half, n[0]) < 0.95
    assert snapshots.density_overlap(np.ones(400), n[0]) == 0
    with pytest.raises(ValueError, match=r"reference.*400.*5"):
        snapshots.density_overlap(n, np.ones(5))


def test_the_overlap_forgets_rotations_only_if_asked():
    s = spins.random(400, 0)
    for proper, seed in ((True, 2), (False, 4)):
        turned = spins.rotate(s, spins.random_rotation(seed, proper))
        assert snapshots.overlap(turned, s) < 0.9
        aligned = snapshots.overlap(turned, s, aligned=True)
        assert bool(aligned == pytest.approx(1)) is proper
    batch = np.stack([s, -s])
    assert snapshots.overlap(batch, s).tolist() == pytest.approx([1, -1])


def test_the_torque_of_a_free_spin_in_a_field():
    s = spins.random(100, 0)
    field = np.tile([0.0, 0.0, 2.0], (100, 1))
    expected = 2 * np.sqrt((1 - s[:, 2] ** 2).mean())
    assert snapshots.rms_torque(s, field) == pytest.approx(expected)
    assert snapshots.rms_torque(s, 3 * s) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: clusters.clusters(LATTICE, spins.neel(LATTICE), np.ones(5)), "density"),
        (lambda: snapshots.statistics(LATTICE, spins.neel(LATTICE), np.ones(5)), "density"),
        (lambda: snapshots.overlap(spins.random(4, 0), spins.random(5, 0)), "reference"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()
