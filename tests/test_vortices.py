"""Frames of tetrahedral order, and vortices where they were put."""

import laws
import numpy as np
import pytest
import torch
import vortices
from scipy.spatial.transform import Rotation

from sdml import lattice, spins

LAT = lattice.triangular(24)


def turned(lat, rotations, chirality=1):
    """Tetrahedral order with its own rotation (N, 3, 3) at every site."""
    return np.einsum("nab,nb->na", rotations, spins.tetrahedral(lat, chirality))


def matrix_of(quaternions):
    return Rotation.from_quat(np.roll(quaternions, -1, axis=-1).reshape(-1, 4)).as_matrix()


@pytest.mark.parametrize("chirality", [1, -1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frames_of_perfect_order_are_its_rotation(chirality, seed):
    rotation = spins.random_rotation(seed)
    s = spins.rotate(spins.tetrahedral(LAT, chirality), rotation)
    quaternions, found = vortices.frames(LAT, s)
    assert quaternions.shape == (12, 12, 4) and (found == chirality).all()
    np.testing.assert_allclose(matrix_of(quaternions), np.tile(rotation, (144, 1, 1)), atol=1e-9)
    assert vortices.vortex_density(LAT, s) == 0


CORES = np.array([[0.25, 0.0], [0.75, 0.0], [0.25, 0.5], [0.75, 0.5]]) + 0.01


def winding_angle(lat):
    """arg(cos 2 pi X + i sin 2 pi Y), X and Y fractions of the box: winds by +-1 at `CORES`."""
    x, y = 2 * np.pi * (lat.cells / np.array(lat.shape) - 0.01).T
    return np.arctan2(np.sin(y), np.cos(x))


@pytest.mark.parametrize("chirality", [1, -1])
@pytest.mark.parametrize("axis", [[0, 0, 1], [1, 2, -1]])
def test_vortices_are_found_where_they_are(axis, chirality):
    """R = exp(angle n.L) turns by 360 degrees around four points."""
    lat = lattice.triangular(48)
    vectors = winding_angle(lat)[:, None] * np.array(axis) / np.linalg.norm(axis)
    s = turned(lat, Rotation.from_rotvec(vectors).as_matrix(), chirality)
    holds, within = vortices.vortices(lat, s)
    assert within.mean() > 0.97 and holds.sum() == 4
    found = (np.argwhere(holds)[:, :0:-1] + 0.5) / 24
    distance = np.abs((found[:, None] - CORES + 0.5) % 1 - 0.5).max(-1)
    assert sorted(distance.argmin(1)) == [0, 1, 2, 3] and distance.min(1).max() < 0.06


def test_two_turns_are_no_vortex():
    """Winding by 720 degrees is contractible: only an even number can be near its core."""
    lat = lattice.triangular(48)
    vectors = 2 * winding_angle(lat)[:, None] * [[0, 0, 1.0]]
    holds, _ = vortices.vortices(lat, turned(lat, Rotation.from_rotvec(vectors).as_matrix()))
    near_first_column = holds.any(0)[:, :12].sum() + holds.all(0)[:, :12].sum()
    assert near_first_column % 2 == 0 and holds.sum() % 2 == 0


def test_the_number_of_vortices_on_a_torus_is_even():
    """Every link lies in two triangles; random rotations within one chirality."""
    lat = lattice.triangular(12)
    for seed in range(6):
        cells = Rotation.random(36, rng=np.random.default_rng(seed)).as_matrix()
        cell = (lat.cells // 2) @ np.array([1, 6])
        holds, within = vortices.vortices(lat, turned(lat, cells[cell]))
        assert within.all() and holds.sum() % 2 == 0 and holds.sum() > 0


def test_random_frames_hold_a_fixed_share():
    """One triangle of random frames holds a vortex with the chance of an odd sign, 1/4 to 1/2."""
    lat = lattice.triangular(96)
    cells = Rotation.random(48**2, rng=np.random.default_rng(0)).as_matrix()
    cell = (lat.cells // 2) @ np.array([1, 48])
    holds, _ = vortices.vortices(lat, turned(lat, cells[cell]))
    rng = np.random.default_rng(1)
    q = rng.standard_normal((3, 200000, 4))
    odd = np.prod([np.sign((q[i] * q[j]).sum(-1)) for i, j in ((0, 1), (1, 2), (2, 0))], axis=0) < 0
    assert holds.mean() == pytest.approx(odd.mean(), abs=0.03)
    density = vortices.vortex_density(lat, turned(lat, cells[cell]))
    assert density == pytest.approx(holds.mean() / np.sqrt(3))


def test_smooth_twists_and_noise_hold_none():
    angle = 2 * np.pi * LAT.cells[:, 0] / 24
    s = turned(LAT, Rotation.from_rotvec(angle[:, None] * [[0, 0, 1.0]]).as_matrix())
    assert vortices.vortex_density(LAT, spins.perturbed(s, 0.15, 0)) == 0


def test_walls_of_the_chirality_do_not_count():
    upper = LAT.cells[:, 1] >= 12
    s = np.where(upper[:, None], spins.tetrahedral(LAT, 1), spins.tetrahedral(LAT, -1))
    holds, within = vortices.vortices(LAT, s)
    assert not holds.any()
    assert within.mean() == pytest.approx(1 - 2 / 12)


def test_global_rotations_time_reversal_and_batches():
    s = spins.random(2 * LAT.n_sites, 0).reshape(2, LAT.n_sites, 3)
    expected = vortices.vortex_density(LAT, s)
    assert expected.shape == (2,)
    for matrix in (spins.random_rotation(1), spins.random_rotation(2, proper=False)):
        np.testing.assert_allclose(vortices.vortex_density(LAT, spins.rotate(s, matrix)), expected)
    single = vortices.vortex_density(LAT, torch.as_tensor(s[1], dtype=torch.float32))
    assert float(single) == pytest.approx(expected[1])


@laws.bad_input(
    {
        "odd": (
            lambda: vortices.frames(lattice.triangular(5), spins.random(25, 0)),
            "lattice",
            "(5, 5)",
        ),
        "square": (lambda: vortices.frames(lattice.square(4), spins.random(16, 0)), "lattice"),
        "size": (lambda: vortices.vortex_density(LAT, spins.random(9, 0)), "spins", "(9, 3)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
