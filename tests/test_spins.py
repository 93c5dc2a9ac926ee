"""Spin arrays: the guard at the boundary, rotations, and the ordered textures."""

import laws
import numpy as np
import pytest
import torch

from sdml import lattice, observables, spins

TETRAHEDRON = -1 / 3
TRIANGULAR = lattice.triangular(6)


def neighbor_products(lat, s):
    """S_i.S_j for every site and each of its nearest neighbours, (N, z)."""
    return np.einsum("ia,ija->ij", s, s[lat.neighbors()])


def test_random_spins_are_uniform_on_the_sphere():
    s = spins.random(40_000, seed=0)
    np.testing.assert_allclose(np.linalg.norm(s, axis=-1), 1, atol=1e-14)
    standard_error = 1 / np.sqrt(len(s))
    assert np.abs(s.mean(0)).max() < 4 * standard_error
    assert np.abs(s.T @ s / len(s) - np.eye(3) / 3).max() < 4 * standard_error
    quarters = np.histogram(s[:, 2], bins=4, range=(-1, 1))[0] / len(s)
    assert np.abs(quarters - 0.25).max() < 4 * standard_error


def test_a_seed_fixes_the_state():
    np.testing.assert_array_equal(spins.random(9, seed=3), spins.random(9, seed=3))
    assert np.abs(spins.random(9, seed=3) - spins.random(9, seed=4)).max() > 0.1
    rng = np.random.default_rng(3)
    assert np.abs(spins.random(9, rng) - spins.random(9, rng)).max() > 0.1


@pytest.mark.parametrize("determinant", [1, -1])
def test_random_rotations_are_orthogonal(determinant):
    rotations = [spins.random_rotation(seed, proper=determinant == 1) for seed in range(400)]
    for r in rotations[:20]:
        np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(np.linalg.det(r), determinant, atol=1e-14)
    # Haar measure: no direction is preferred.
    assert np.abs(np.mean(rotations, axis=0)).max() < 4 / np.sqrt(3 * 400)


def test_rotations_act_from_the_left():
    s = spins.random(7, seed=0)
    a, b = (spins.random_rotation(k) for k in (1, 2))
    np.testing.assert_allclose(
        spins.rotate(spins.rotate(s, b), a), spins.rotate(s, a @ b), atol=1e-14
    )
    quarter_turn_about_z = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        spins.rotate(np.eye(3), quarter_turn_about_z), [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    )


def test_transverse_field_and_torque():
    s, h = spins.random(50, seed=0), 3 * np.random.default_rng(1).standard_normal((50, 3))
    h_t, torque = spins.transverse(s, h), spins.torque(s, h)
    np.testing.assert_allclose(torque, np.cross(s, h), atol=1e-14)
    np.testing.assert_allclose(np.cross(torque, s), h_t, atol=1e-13)
    np.testing.assert_allclose(h - h_t, (h * s).sum(-1, keepdims=True) * s, atol=1e-13)


def test_perturbation_turns_spins_by_its_amplitude():
    s = spins.perturbed(spins.random(20_000, seed=0), 0.01, seed=1)
    np.testing.assert_allclose(np.linalg.norm(s, axis=-1), 1, atol=1e-14)
    squared_turn = ((s - spins.random(20_000, seed=0)) ** 2).sum(-1).mean()
    assert squared_turn == pytest.approx(2 * 0.01**2, rel=0.05)


@pytest.mark.parametrize(
    "lat, state, products",
    [
        (lattice.square(4), "neel", [-1] * 4),
        (lattice.square(4), "ferromagnetic", [1] * 4),
        (TRIANGULAR, "stripe", [-1] * 4 + [1] * 2),
        (TRIANGULAR, "coplanar_120", [-0.5] * 6),
        (TRIANGULAR, "coplanar_90", [-1] * 2 + [0] * 4),
        (TRIANGULAR, "tetrahedral", [TETRAHEDRON] * 6),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_angles_between_neighbours_of_ordered_states(lat, state, products):
    s = getattr(spins, state)(lat)
    np.testing.assert_allclose(np.linalg.norm(s, axis=-1), 1, atol=1e-14)
    expected = np.tile(products, (lat.n_sites, 1))
    np.testing.assert_allclose(np.sort(neighbor_products(lat, s)), expected, atol=1e-12)


@pytest.mark.parametrize("state, n_sublattices", [("coplanar_120", 3), ("tetrahedral", 4)])
def test_number_of_sublattices(state, n_sublattices):
    s = getattr(spins, state)(TRIANGULAR)
    directions, counts = np.unique(np.round(s, 9), axis=0, return_counts=True)
    assert len(directions) == n_sublattices
    assert set(counts) == {36 // n_sublattices}
    np.testing.assert_allclose(directions.sum(0), 0, atol=1e-8)


def test_ferromagnet_points_where_it_is_told():
    s = spins.ferromagnetic(lattice.square(2), direction=(3, 0, 4))
    np.testing.assert_allclose(s, [[0.6, 0, 0.8]] * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kind_and_dtype_are_kept(dtype):
    s = torch.as_tensor(spins.random(6, seed=0)).to(dtype)
    for result in (spins.rotate(s, np.eye(3)), spins.torque(s, s), spins.transverse(s, s)):
        assert isinstance(result, torch.Tensor)
        assert result.dtype == dtype
    assert isinstance(spins.rotate(s.numpy(), np.eye(3)), np.ndarray)
    assert spins.rotate(s.numpy(), np.eye(3)).dtype == s.numpy().dtype


@pytest.mark.filterwarnings("error")
def test_views_are_arrays_like_any_other():
    s = spins.random(5, seed=0)
    read_only = np.broadcast_to(s, (2, 5, 3))
    for view in (s[::-1], read_only, s.tolist()):
        np.testing.assert_array_equal(spins.rotate(view, np.eye(3)), np.array(view))


def with_one(value):
    s = spins.random(4, seed=0)
    s[2, 1] = value
    return s


@laws.bad_input(
    {
        "nan": (lambda: spins.as_tensor(with_one(np.nan)), "spins", "nan"),
        "infinite": (lambda: spins.as_tensor(with_one(np.inf)), "spins", "inf"),
        "length 2": (lambda: spins.as_tensor(2 * spins.random(4, 0)), "spins", "deviation is 1"),
        "length 1.00002": (lambda: spins.as_tensor(spins.random(4, 0) * 1.00002), "spins", 2e-05),
        "two components": (lambda: spins.as_tensor(np.ones((4, 2))), "spins", (4, 2)),
        "no site axis": (lambda: spins.as_tensor(np.array([0.0, 0, 1])), "spins", (3,)),
        "sites": (lambda: spins.as_tensor(spins.random(4, 0), n_sites=9), "spins", 9, (4, 3)),
        "text": (lambda: spins.as_tensor("up"), "spins"),
        "complex": (lambda: spins.as_tensor(spins.random(4, 0) + 1j), "spins", "complex"),
        "zero vector": (lambda: spins.normalize(np.zeros((2, 3))), "vectors"),
        "no sites": (lambda: spins.random(0, seed=0), "n_sites", 0),
        "rotation of the plane": (
            lambda: spins.rotate(spins.random(4, 0), np.eye(2)),
            "rotation",
            (2, 2),
        ),
        "rotation that stretches": (
            lambda: spins.rotate(spins.random(4, 0), 2 * np.eye(3)),
            "rotation",
        ),
        "neel on triangles": (lambda: spins.neel(TRIANGULAR), "neel", "triangular"),
        "neel on odd length": (lambda: spins.neel(lattice.square(5)), "neel", (5, 5)),
        "120 degrees": (lambda: spins.coplanar_120(lattice.triangular(4)), "coplanar_120", (4, 4)),
        "chirality": (lambda: spins.tetrahedral(TRIANGULAR, chirality=2), "chirality", 2),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


def test_spins_within_the_tolerance_are_accepted():
    s = spins.random(4, 0) * 1.000009
    assert spins.as_tensor(s).shape == (4, 3)


def test_textures_are_the_orders_that_a_lattice_can_hold():
    everywhere = ["random", "ferromagnetic", "stripe"]
    square, triangular = spins.textures(lattice.square(6)), spins.textures(lattice.triangular(6))
    assert sorted(square) == sorted([*everywhere, "neel"])
    assert sorted(triangular) == sorted([*everywhere, "coplanar_120", "coplanar_90", "tetrahedral"])
    small = spins.textures(lattice.triangular(3))
    assert sorted(small) == ["coplanar_120", "ferromagnetic", "random"]
    for s in (*square.values(), *triangular.values()):
        np.testing.assert_allclose(np.linalg.norm(s, axis=-1), 1)


def test_a_start_by_name():
    sites = lattice.triangular(6)
    np.testing.assert_array_equal(spins.start("random", sites, 3), spins.random(36, 3))
    np.testing.assert_array_equal(spins.start("stripe", sites, 3), spins.stripe(sites))
    laws.assert_refused(lambda: spins.start("helix", sites, 0), "start", "helix", "stripe")
    laws.assert_refused(lambda: spins.start("neel", sites, 0), "lattice", "neel", "square")


def test_textures_refuse_cells_of_several_sites_that_have_the_name_of_theirs():
    tilted = lattice.from_cell([[1, 1], [1, -1]], [[0, 0], [1, 0]], (4, 4), name="square")
    oblong = [[1, 0], [0, 3**0.5]], [[0, 0], [0.5, 3**0.5 / 2]], (6, 6), "triangular"
    for order, sites in ((spins.neel, tilted), (spins.tetrahedral, lattice.from_cell(*oblong))):
        with pytest.raises(ValueError, match=r"^lattice: .* one site a cell, got .* with "):
            order(sites)
    laws.assert_refused(lambda: observables.neel_order(tilted, spins.random(32, 0)), "lattice")
