"""Exact diagonalization: gradient, symmetries, thermodynamics, golden values, topology."""

import dataclasses

import laws
import numpy as np
import pytest
import torch

from sdml import exact, lattice, spins
from sdml.model import ElectronicState, SDModel

SQUARE, TRIANGULAR = lattice.square(4), lattice.triangular(4)
RANDOM = spins.random(16, seed=1)
NEAR_TETRAHEDRAL = spins.perturbed(spins.tetrahedral(TRIANGULAR), 0.1, seed=2)
ANISOTROPY = {"zeeman": (0.3, -0.2, 0.5), "easy_axis": 0.4}
STATES = {
    "gapped, T = 0, filling": (SDModel(TRIANGULAR, 3.0, 0.25), NEAR_TETRAHEDRAL),
    "gapped, T = 0, mu": (SDModel(TRIANGULAR, 3.0, chemical_potential=-3.3), NEAR_TETRAHEDRAL),
    "gapped, T = 0, anisotropy": (SDModel(TRIANGULAR, 3.0, 0.25, **ANISOTROPY), NEAR_TETRAHEDRAL),
    "T > 0, filling": (SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05), RANDOM),
    "T > 0, mu": (SDModel(SQUARE, 6.0, chemical_potential=-4.0, electron_kT=0.05), RANDOM),
    "T > 0, anisotropy": (SDModel(SQUARE, 1.0, 0.3, electron_kT=0.2, **ANISOTROPY), RANDOM),
    "T > 0, far hopping": (
        SDModel(TRIANGULAR, -2.0, 0.6, electron_kT=0.1, hopping=(1.0, -0.4, 0.3)),
        RANDOM,
    ),
}
every_state = pytest.mark.parametrize("model, state", STATES.values(), ids=STATES.keys())


def energy(model):
    return lambda s: exact.solve(model, s).energy


def local_field(model):
    return lambda s: exact.solve(model, s).local_field


def gap(state, n_electrons):
    return state.eigenvalues[n_electrons] - state.eigenvalues[n_electrons - 1]


@every_state
def test_field_is_minus_the_gradient(model, state):
    laws.assert_field_is_gradient(energy(model), local_field(model), state)


@every_state
def test_transverse_field_is_minus_the_slope_along_the_sphere(model, state):
    laws.assert_transverse_field_is_gradient(energy(model), local_field(model), state)


@every_state
@pytest.mark.parametrize("precision, tolerance", [("double", 1e-12), ("single", 3e-5)])
def test_the_field_alone_is_that_of_the_solution(model, state, precision, tolerance):
    if precision == "single" and model.electron_kT == 0:
        pytest.skip("needs electron_kT > 0")
    expected = exact.solve(model, state).local_field
    found = exact.local_field(model, state, precision)
    assert type(found) is type(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_the_levels_that_are_not_computed_join_no_shell():
    """Nearly degenerate levels, 4e-5 t apart at the Fermi energy, are still told apart."""
    model = SDModel(lattice.square(8), 6.0, filling=0.1875)
    s = spins.perturbed(spins.ferromagnetic(model.lattice), 0.03, 0)
    expected = exact.solve(model, s)
    assert 1e-7 < gap(expected, 24) < 5e-4
    np.testing.assert_allclose(exact.local_field(model, s), expected.local_field, atol=1e-9)


def test_the_field_alone_knows_batches_and_refuses_what_it_cannot_do():
    model = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.0025)
    batch = torch.as_tensor(spins.random(32, seed=3)).view(2, 16, 3)
    found = exact.local_field(model, batch, "single")
    assert found.shape == (2, 16, 3)
    # A level on so few sites: an error of 1e-6 moves its occupation by 1e-6 / (4 electron_kT).
    np.testing.assert_allclose(found, exact.solve(model, batch).local_field, rtol=0, atol=2e-4)
    laws.assert_refused(lambda: exact.local_field(model, RANDOM, "half"), "precision", "half")
    cold = dataclasses.replace(model, electron_kT=0.0)
    laws.assert_refused(lambda: exact.local_field(cold, RANDOM, "single"), "precision", 0)
    laws.assert_refused(lambda: exact.local_field(model, RANDOM[:4]), "spins")


def test_the_zero_temperature_states_above_are_gapped():
    """Else the gradient would be tested where it does not exist."""
    model, state = STATES["gapped, T = 0, filling"]
    solved = exact.solve(model, state)
    assert gap(solved, 8) > 0.5
    assert solved.eigenvalues[7] < -3.3 < solved.eigenvalues[8]


@pytest.mark.parametrize(
    "model",
    [
        SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05),
        SDModel(SQUARE, 2.0, 0.25),
        SDModel(SQUARE, 1.0, chemical_potential=-1.0, electron_kT=0.1, hopping=(1.0, 0.0, 0.5)),
        SDModel(TRIANGULAR, 3.0, 0.25, electron_kT=0.05),
        SDModel(TRIANGULAR, 3.0, 0.75),
    ],
    ids=["square", "square T = 0", "square mu", "triangular", "triangular T = 0"],
)
def test_symmetries(model):
    moves = laws.symmetries(model.lattice)
    laws.assert_invariant(energy(model), RANDOM, moves)
    laws.assert_equivariant(local_field(model), RANDOM, moves)
    laws.assert_site_invariant(lambda s: exact.solve(model, s).density[:, None], RANDOM, moves)


def test_anisotropy_leaves_rotations_about_its_axis():
    model = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05, zeeman=(0, 0, 0.3), easy_axis=0.2)
    c, s = np.cos(0.7), np.sin(0.7)
    about_z = laws.Move("about z", np.arange(16), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    moves = [about_z, *laws.translations(SQUARE), *laws.point_operations(SQUARE)]
    laws.assert_invariant(energy(model), RANDOM, moves)
    laws.assert_equivariant(local_field(model), RANDOM, moves)
    reversed_model = dataclasses.replace(model, zeeman=(0, 0, -0.3))
    found, expected = exact.solve(reversed_model, -RANDOM), exact.solve(model, RANDOM)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-12)
    np.testing.assert_allclose(found.local_field, -expected.local_field, atol=1e-10)


def test_changing_the_sign_of_the_exchange_is_time_reversal():
    plus, minus = (SDModel(SQUARE, J, 0.4, electron_kT=0.05) for J in (2.0, -2.0))
    a, b = exact.solve(plus, RANDOM), exact.solve(minus, RANDOM)
    np.testing.assert_allclose(a.energy, b.energy, rtol=1e-12)
    np.testing.assert_allclose(a.local_field, b.local_field, atol=1e-11)


def test_particles_and_holes_are_equivalent_on_a_bipartite_lattice():
    below, above = (SDModel(SQUARE, 2.0, f, electron_kT=0.05) for f in (0.3, 0.7))
    a, b = exact.solve(below, RANDOM), exact.solve(above, RANDOM)
    np.testing.assert_allclose(a.energy, b.energy, rtol=1e-12)
    np.testing.assert_allclose(a.local_field, b.local_field, atol=1e-11)
    np.testing.assert_allclose(a.density, 2 - b.density, atol=1e-11)


@pytest.mark.parametrize("electron_kT", [0.0, 0.05])
def test_slope_in_the_exchange_is_the_longitudinal_field(electron_kT):
    """Hellmann and Feynman: dE/dJ = -sum S.<c+ sigma c> = -sum S.h / J."""
    J, step = 3.0, 1e-4
    up, down = (
        exact.solve(SDModel(TRIANGULAR, J + d, 0.25, electron_kT=electron_kT), NEAR_TETRAHEDRAL)
        for d in (step, -step)
    )
    here = exact.solve(SDModel(TRIANGULAR, J, 0.25, electron_kT=electron_kT), NEAR_TETRAHEDRAL)
    expected = -(NEAR_TETRAHEDRAL * here.local_field).sum() / J
    np.testing.assert_allclose((up.energy - down.energy) / (2 * step), expected, rtol=1e-7)


def test_grand_potential_is_the_legendre_transform_of_the_free_energy():
    at_filling = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05)
    free = exact.solve(at_filling, RANDOM)
    mu = float(free.chemical_potential)
    at_mu = dataclasses.replace(at_filling, filling=None, chemical_potential=mu)
    grand = exact.solve(at_mu, RANDOM)
    np.testing.assert_allclose(grand.energy, free.energy - mu * at_filling.n_electrons, rtol=1e-12)
    np.testing.assert_allclose(grand.local_field, free.local_field, atol=1e-10)
    np.testing.assert_allclose(grand.density, free.density, atol=1e-10)


def test_slope_of_the_grand_potential_in_mu_is_minus_the_electron_number():
    mu, step = -1.0, 1e-4
    model = SDModel(SQUARE, 2.0, chemical_potential=mu, electron_kT=0.1)
    up, down = (
        exact.solve(dataclasses.replace(model, chemical_potential=mu + d), RANDOM).energy
        for d in (step, -step)
    )
    n_electrons = exact.solve(model, RANDOM).density.sum()
    np.testing.assert_allclose((up - down) / (2 * step), -n_electrons, rtol=1e-6)


def test_slope_of_the_free_energy_in_temperature_is_minus_the_entropy():
    kT, step = 0.2, 1e-4
    model = SDModel(SQUARE, 2.0, 0.4, electron_kT=kT)
    up, down = (
        exact.solve(dataclasses.replace(model, electron_kT=kT + d), RANDOM).energy
        for d in (step, -step)
    )
    state = exact.solve(model, RANDOM)
    x = (state.eigenvalues - state.chemical_potential) / kT
    f = 1 / (np.exp(x) + 1)
    entropy = -(f * np.log(f) + (1 - f) * np.log1p(-f)).sum()
    np.testing.assert_allclose((up - down) / (2 * step), -entropy, rtol=1e-6)


def test_a_gapped_state_does_not_feel_a_small_temperature():
    cold, warm = (
        exact.solve(SDModel(TRIANGULAR, 3.0, 0.25, electron_kT=kT), NEAR_TETRAHEDRAL)
        for kT in (0.0, 0.005)
    )
    np.testing.assert_allclose(warm.energy, cold.energy, rtol=1e-12)
    np.testing.assert_allclose(warm.local_field, cold.local_field, atol=1e-11)
    np.testing.assert_allclose(warm.chemical_potential, cold.chemical_potential, atol=0.05)


def test_isolated_sites():
    J, mu, kT = 2.0, -0.5, 0.4
    model = SDModel(SQUARE, J, chemical_potential=mu, electron_kT=kT, hopping=0.0)
    state = exact.solve(model, RANDOM)
    energies = np.array([-J, J])
    omega = -kT * np.log1p(np.exp((mu - energies) / kT)).sum()
    lower, upper = 1 / (np.exp((energies - mu) / kT) + 1)
    np.testing.assert_allclose(state.energy, 16 * omega, rtol=1e-13)
    np.testing.assert_allclose(state.local_field, J * (lower - upper) * RANDOM, atol=1e-13)
    np.testing.assert_allclose(state.density, lower + upper, rtol=1e-13)


def test_golden_six_by_six():
    """Published with kbarros/Kondo: t1 = -1, t3 = -0.5 in its sign, J = 0.5, mu = 0.103, T = 0."""
    lat = lattice.square(6)
    s = spins.ferromagnetic(lat)
    s[0] = 1 / np.sqrt(3)
    model = SDModel(lat, 0.5, chemical_potential=0.103, hopping=(1.0, 0.0, 0.5))
    state = exact.solve(model, s)
    assert abs(state.energy / 36 - -1.98657216) < 1e-6
    assert np.abs(state.local_field[0] - [0.0507965, 0.0507965, 0.01548]).max() < 1e-6


TRIANGULAR_ENERGIES = {
    "ferromagnetic": -2.5003,
    "tetrahedral": -2.6238,
    "stripe": -2.5938,
    "coplanar_120": -2.5352,
    "coplanar_90": -2.6238 + 0.0095,
}


@pytest.mark.slow
@pytest.mark.parametrize("order, golden", TRIANGULAR_ENERGIES.items())
def test_golden_triangular_energies(order, golden):
    """24 x 24, J = 3, filling 0.25, T = 0, per site; all sums over k of the ordered states."""
    lat = lattice.triangular(24)
    state = exact.solve(SDModel(lat, 3.0, 0.25), getattr(spins, order)(lat))
    assert abs(state.energy / lat.n_sites - golden) < 1e-4
    if order == "tetrahedral":
        assert abs(gap(state, lat.n_sites // 2) - 1.394) < 5e-4


def bloch_hamiltonians(chirality, n_k, J=3.0):
    """(n_k, n_k, 8, 8): tetrahedral order in its cell of 2 x 2 sites, built without a lattice."""
    spin = spins.tetrahedral(lattice.triangular(2), chirality)
    k = 2 * np.pi * np.arange(n_k) / n_k
    hopping = np.zeros((n_k, n_k, 4, 4), dtype=complex)
    for site in range(4):
        for dx, dy in ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)):
            x, y = site % 2 + dx, site // 2 + dy
            phase = np.exp(1j * (k[:, None] * (x // 2) + k[None, :] * (y // 2)))
            hopping[:, :, site, 2 * (y % 2) + x % 2] -= phase
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    exchange = [np.einsum("a,ast->st", s, pauli) for s in spin]
    blocks = np.zeros((4, 2, 4, 2), dtype=complex)
    for site in range(4):
        blocks[site, :, site, :] = -J * exchange[site]
    return np.kron(hopping, np.eye(2)) + blocks.reshape(8, 8)


def chern_number(hamiltonians, n_bands):
    """Fukui, Hatsugai and Suzuki, J. Phys. Soc. Jpn. 74, 1674 (2005): flux of the lowest bands."""
    v = np.linalg.eigh(hamiltonians)[1][..., :n_bands]
    link = [
        np.linalg.det(np.einsum("xyim,xyin->xymn", v.conj(), np.roll(v, -1, axis)))
        for axis in (0, 1)
    ]
    around = link[0] * np.roll(link[1], -1, 0) * np.roll(link[0], -1, 1).conj() * link[1].conj()
    return np.angle(around).sum() / (2 * np.pi)


@pytest.mark.parametrize("length", [4, 8])
def test_energy_is_the_sum_over_bloch_states(length):
    lat = lattice.triangular(length)
    levels = np.linalg.eigvalsh(bloch_hamiltonians(1, length // 2))
    state = exact.solve(SDModel(lat, 3.0, 0.25), spins.tetrahedral(lat))
    np.testing.assert_allclose(state.eigenvalues, np.sort(levels.ravel()), atol=1e-11)
    np.testing.assert_allclose(state.energy, levels[..., :2].sum(), rtol=1e-12)


def test_tetrahedral_order_is_a_chern_insulator():
    """|C| = 1 at filling 0.25, the opposite at 0.75; both change sign with the chirality."""
    found = {
        (chirality, n_bands): chern_number(bloch_hamiltonians(chirality, 12), n_bands)
        for chirality in (1, -1)
        for n_bands in (2, 6)
    }
    first = found[1, 2]
    assert abs(first) == pytest.approx(1, abs=1e-9)
    assert found[1, 6] == pytest.approx(-first, abs=1e-9)
    assert found[-1, 2] == pytest.approx(-first, abs=1e-9)
    assert found[-1, 6] == pytest.approx(first, abs=1e-9)


def test_batches_equal_singles():
    model = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05)
    batch = spins.random(6 * 16, seed=3).reshape(2, 3, 16, 3)
    together = exact.solve(model, batch)
    for index in np.ndindex(2, 3):
        alone = exact.solve(model, batch[index])
        for field in dataclasses.fields(ElectronicState):
            np.testing.assert_array_equal(
                getattr(together, field.name)[index], getattr(alone, field.name)
            )


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_float64_of_the_kind_of_the_spins(as_kind, dtype):
    model = SDModel(SQUARE, 6.0, 0.485, electron_kT=0.05)
    s = RANDOM.astype(dtype)
    state, expected = exact.solve(model, as_kind(s)), exact.solve(model, s.astype(np.float64))
    for field in dataclasses.fields(ElectronicState):
        value = getattr(state, field.name)
        if as_kind is torch.as_tensor:
            assert isinstance(value, torch.Tensor)
        else:
            assert isinstance(value, np.ndarray | np.float64)
        assert str(value.dtype).endswith("float64")
        np.testing.assert_array_equal(value, getattr(expected, field.name))


def test_spins_are_not_changed():
    s = torch.as_tensor(RANDOM.copy()).requires_grad_(True)
    state = exact.solve(SDModel(SQUARE, 6.0, 0.5), s)
    np.testing.assert_array_equal(s.detach(), RANDOM)
    assert not state.energy.requires_grad


MODEL = SDModel(SQUARE, 6.0, 0.5)


@laws.bad_input(
    {
        "nan": (lambda: exact.solve(MODEL, np.full((16, 3), np.nan)), "spins", "nan"),
        "not unit": (lambda: exact.solve(MODEL, 1.1 * RANDOM), "spins", 0.1),
        "another size": (lambda: exact.solve(MODEL, spins.random(9, 0)), "spins", 16, "(9, 3)"),
        "flat": (lambda: exact.solve(MODEL, RANDOM.ravel()), "spins", "(48,)"),
        "empty batch": (lambda: exact.solve(MODEL, np.zeros((0, 16, 3))), "spins", "(0, 16, 3)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
