"""The one-electron Hamiltonian and the filling of its levels."""

import json

import laws
import numpy as np
import pytest
import torch

from sdml import exact, lattice, model, spins
from sdml.model import SDModel

ROOT3 = np.sqrt(3)
HONEYCOMB = lattice.from_cell([[ROOT3, 0], [ROOT3 / 2, 1.5]], [[0, 0], [0, 1]], (4, 5), "honeycomb")
KAGOME = lattice.from_cell(
    [[2, 0], [1, ROOT3]], [[0, 0], [1, 0], [0.5, ROOT3 / 2]], (4, 5), "kagome"
)
KT = [0.0, 1e-4, 0.0025, 0.05, 1.0]


def levels(m, s=None):
    """Sorted one-electron levels, (2N,)."""
    state = spins.random(m.lattice.n_sites, seed=0) if s is None else s
    return np.linalg.eigvalsh(model.hamiltonian(m, state).numpy())


def wave_numbers(lat):
    """k.a1 and k.a2 of every cell momentum."""
    return lat.momenta @ np.array(lat.vectors).T


def square_band(lat, t1, t2=0.0, t3=0.0):
    kx, ky = wave_numbers(lat).T
    return (
        -2 * t1 * (np.cos(kx) + np.cos(ky))
        - 4 * t2 * np.cos(kx) * np.cos(ky)
        - 2 * t3 * (np.cos(2 * kx) + np.cos(2 * ky))
    )


def triangular_band(lat, t1, t2=0.0):
    p, q = wave_numbers(lat).T
    near = np.cos(p) + np.cos(q) + np.cos(p - q)
    far = np.cos(p + q) + np.cos(2 * p - q) + np.cos(2 * q - p)
    return -2 * t1 * near - 2 * t2 * far


def honeycomb_bands(lat):
    p, q = wave_numbers(lat).T
    size = np.abs(1 + np.exp(1j * p) + np.exp(1j * q))
    return np.concatenate([-size, size])


def kagome_bands(lat):
    p, q = wave_numbers(lat).T
    root = np.sqrt(3 + 2 * (np.cos(p) + np.cos(q) + np.cos(p - q)))
    return np.concatenate([-1 - root, -1 + root, np.full(lat.n_cells, 2.0)])


@pytest.mark.parametrize(
    "lat, hopping, band",
    [
        (lattice.square(5, 4), 1.0, square_band(lattice.square(5, 4), 1)),
        (lattice.square(6), (0.7, -0.3, 0.5), square_band(lattice.square(6), 0.7, -0.3, 0.5)),
        (lattice.square(2), 1.0, square_band(lattice.square(2), 1)),
        (lattice.square(2, 6), 1.0, square_band(lattice.square(2, 6), 1)),
        (lattice.triangular(6, 4), 1.0, triangular_band(lattice.triangular(6, 4), 1)),
        (lattice.triangular(5), (1.0, -0.4), triangular_band(lattice.triangular(5), 1, -0.4)),
        (lattice.triangular(2), 1.0, triangular_band(lattice.triangular(2), 1)),
        (HONEYCOMB, 1.0, honeycomb_bands(HONEYCOMB)),
        (KAGOME, 1.0, kagome_bands(KAGOME)),
    ],
    ids=lambda x: f"{x.name} {x.shape[0]}x{x.shape[1]}" if isinstance(x, lattice.Lattice) else "",
)
def test_free_electrons_have_the_analytic_dispersion(lat, hopping, band):
    found = levels(SDModel(lat, 0.0, 0.5, hopping=hopping))
    np.testing.assert_allclose(found, np.sort(np.repeat(band, 2)), atol=1e-11)


def test_a_ferromagnet_splits_the_band_by_2j():
    lat = lattice.triangular(4)
    found = levels(SDModel(lat, 1.7, 0.5), spins.ferromagnetic(lat, (1, 2, 3)))
    band = triangular_band(lat, 1)
    np.testing.assert_allclose(found, np.sort(np.concatenate([band - 1.7, band + 1.7])), atol=1e-11)


def test_a_neel_state_opens_a_gap_at_half_filling():
    lat = lattice.square(6)
    band = square_band(lat, 1)
    expected = np.sort(np.concatenate([-np.hypot(band, 2.5), np.hypot(band, 2.5)]))
    np.testing.assert_allclose(
        levels(SDModel(lat, 2.5, 0.5), spins.neel(lat)), expected, atol=1e-11
    )


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, np.pi])
def test_two_sites_hop_with_the_cosine_of_half_their_angle(angle):
    """Anderson and Hasegawa, Phys. Rev. 100, 675 (1959): two sites joined by hopping tau."""
    s = np.array([[0, 0, 1], [np.sin(angle), 0, np.cos(angle)]])
    # On a chain of 2 sites the two bonds along x add up.
    chain = lattice.from_cell([[1, 0], [0, 5]], [[0, 0]], (2, 1))
    J, tau = 1.5, 2.0
    squares = J**2 + tau**2 + 2 * J * tau * np.cos(angle / 2) * np.array([-1, 1])
    expected = np.sort(np.concatenate([-np.sqrt(squares), np.sqrt(squares)]))
    found = levels(SDModel(chain, J, 0.5), s)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_exchange_blocks_are_full_pauli_matrices():
    lat = lattice.square(3)
    s = spins.random(9, seed=2)
    matrix = model.hamiltonian(SDModel(lat, 2.0, 0.5, hopping=0.0), s).numpy()
    x, y, z = s[4]
    block = matrix[8:10, 8:10]
    np.testing.assert_allclose(block, -2 * np.array([[z, x - 1j * y], [x + 1j * y, -z]]))
    assert np.abs(matrix[8:10, :8]).max() == 0


def test_hamiltonian_is_hermitian_in_any_batch():
    m = SDModel(lattice.triangular(3), 2.0, 0.5)
    s = spins.random(18, seed=0).reshape(2, 9, 3)
    matrix = model.hamiltonian(m, s).numpy()
    np.testing.assert_array_equal(matrix, matrix.conj().swapaxes(-1, -2))
    np.testing.assert_array_equal(matrix[1], model.hamiltonian(m, s[1]).numpy())
    assert matrix.dtype == np.complex128


def test_fermi_function():
    mu, kT = torch.tensor(0.4, dtype=torch.float64), 0.05
    e = torch.linspace(-3, 3, 101, dtype=torch.float64)
    f = model.fermi_function(e, mu, kT)
    np.testing.assert_allclose(f, 1 / (np.exp((e.numpy() - 0.4) / kT) + 1), rtol=1e-12)
    np.testing.assert_allclose(f + model.fermi_function(2 * mu - e, mu, kT), 1, rtol=1e-14)
    step = model.fermi_function(torch.tensor([0.3, 0.4, 0.5], dtype=torch.float64), mu, 0.0)
    np.testing.assert_array_equal(step, [1, 0.5, 0])
    # Far from mu the exponential must not overflow.
    far = model.fermi_function(torch.tensor([-1e3, 1e3], dtype=torch.float64), mu, 1e-6)
    np.testing.assert_array_equal(far, [1, 0])


@pytest.mark.parametrize("electron_kT", KT)
@pytest.mark.parametrize("filling", [0.0, 0.013, 0.25, 0.485, 0.5, 0.55, 0.99, 1.0])
@pytest.mark.parametrize("coupling", [0.0, 6.0])
def test_electron_number(coupling, filling, electron_kT):
    m = SDModel(lattice.square(6), coupling, filling, electron_kT=electron_kT)
    state = exact.solve(m, spins.random(36, seed=0))
    assert abs(state.density.sum() - 72 * filling) < 1e-10
    assert state.density.min() > -1e-12
    assert state.density.max() < 2 + 1e-12
    assert np.isfinite(state.energy)


@pytest.mark.parametrize("filling, sign", [(0.0, -1), (1.0, 1)])
@pytest.mark.parametrize("electron_kT", [0.0, 0.1])
def test_empty_and_full_bands(electron_kT, filling, sign):
    m = SDModel(lattice.square(3), 2.0, filling, electron_kT=electron_kT)
    state = exact.solve(m, spins.random(9, seed=0))
    # The trace of the Hamiltonian vanishes, and closed shells carry no moment.
    np.testing.assert_allclose(state.energy, 0, atol=1e-12)
    np.testing.assert_allclose(state.local_field, 0, atol=1e-12)
    np.testing.assert_allclose(state.density, 2 * filling, atol=1e-12)
    assert state.chemical_potential == sign * np.inf


@pytest.mark.parametrize("filling", [0.55, 0.56, 0.07])
def test_whole_electron_numbers_that_rounding_lifts(filling):
    """200 * 0.55 is 110.00000000000001 in floating point: no level may hold more than 1."""
    m = SDModel(lattice.square(10), 1.0, filling)
    assert m.n_electrons > round(m.n_electrons)
    e = torch.as_tensor(levels(m))
    filled, mu = model.occupations(m, e)
    assert filled.max() <= 1
    assert np.isfinite(float(model.electronic_energy(m, e, filled, mu)))


def test_the_top_shell_is_shared_evenly_at_zero_temperature():
    """Free electrons on 4 x 4: levels -4 (2), -2 (8), 0 (12), 2 (8), 4 (2)."""
    m = SDModel(lattice.square(4), 0.0, filling=0.2)  # 6.4 electrons
    filled, mu = model.occupations(m, torch.as_tensor(levels(m)))
    np.testing.assert_allclose(filled[:10], [1] * 2 + [4.4 / 8] * 8, atol=1e-12)
    np.testing.assert_allclose(filled[10:], 0)
    np.testing.assert_allclose(mu, -2, atol=1e-9)
    state = exact.solve(m, spins.random(16, seed=0))
    np.testing.assert_allclose(state.energy, -4 * 2 - 2 * 4.4, atol=1e-11)
    np.testing.assert_allclose(state.density, 0.4, atol=1e-12)


@pytest.mark.parametrize(
    "filling, expected", [(2 / 32, -3), (1 / 32, -4), (10 / 32, -1), (16 / 32, 0), (22 / 32, 1)]
)
def test_chemical_potential_at_zero_temperature(filling, expected):
    """Middle of the gap, or the level that is partly filled (free electrons on 4 x 4)."""
    e = torch.as_tensor(levels(SDModel(lattice.square(4), 0.0, 0.5)))
    mu = model.chemical_potential(e, filling, 0.0)
    np.testing.assert_allclose(mu, expected, atol=1e-9)


def test_levels_within_a_billionth_are_one_shell():
    e = torch.tensor([-1.0, 0.0, 5e-10, 1.0], dtype=torch.float64)
    m = SDModel(lattice.square(1, 2), 0.0, filling=0.5)
    np.testing.assert_allclose(model.occupations(m, e)[0], [1, 0.5, 0.5, 0], atol=1e-9)
    apart = torch.tensor([-1.0, 0.0, 2e-9, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(model.occupations(m, apart)[0], [1, 1, 0, 0], atol=1e-9)


@pytest.mark.parametrize("electron_kT", KT)
def test_half_filling_of_a_bipartite_lattice_has_mu_zero(electron_kT):
    """Time reversal times the sublattice sign maps H on -H for any spins."""
    m = SDModel(lattice.square(4), 6.0, 0.5, electron_kT=electron_kT)
    e = levels(m)
    np.testing.assert_allclose(e, -e[::-1], atol=1e-12)
    mu = model.chemical_potential(torch.as_tensor(e), 0.5, electron_kT)
    assert abs(float(mu)) < 1e-9


@pytest.mark.parametrize("electron_kT", [0.002, 0.05])
def test_chemical_potential_in_a_gap_follows_the_law_of_mass_action(electron_kT):
    """mu = midgap + kT / 2 ln(g_below / g_above) for levels -1 (3 times) and 1 (once)."""
    e = torch.tensor([-1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    mu = model.chemical_potential(e, 0.75, electron_kT)
    np.testing.assert_allclose(mu, electron_kT / 2 * np.log(3), atol=1e-9)


@pytest.mark.parametrize("electron_kT", KT[1:])
def test_energy_is_stationary_in_the_occupations(electron_kT):
    """dF/df of every level is mu, so that moving electrons at fixed number costs nothing."""
    m = SDModel(lattice.square(3), 2.0, 0.4, electron_kT=electron_kT)
    e = torch.as_tensor(levels(m))
    filled, mu = model.occupations(m, e)
    partly = (filled > 1e-3) & (filled < 1 - 1e-3)
    assert partly.any()
    leaf = filled.clone().requires_grad_(True)
    model.electronic_energy(m, e, leaf, mu).backward()
    np.testing.assert_allclose(leaf.grad[partly], float(mu), atol=1e-8)


def test_zeeman_and_easy_axis():
    m = SDModel(lattice.square(2), 1.0, 0.5, zeeman=(0.1, -0.2, 0.3), easy_axis=0.7)
    s = torch.as_tensor(np.eye(3)[[0, 1, 2, 2]])
    assert float(model.spin_energy(m, s)) == pytest.approx(-(0.1 - 0.2 + 2 * 0.3) - 2 * 0.7)
    field = np.tile([0.1, -0.2, 0.3], (4, 1)) + 2 * 0.7 * np.eye(3)[2] * [[0], [0], [1], [1]]
    np.testing.assert_allclose(model.spin_field(m, s), field)


@pytest.mark.parametrize(
    "m",
    [
        SDModel(lattice.triangular(4, 6), 3.0, 0.25, electron_kT=0.05),
        SDModel(KAGOME, -1.5, chemical_potential=0.2, hopping=(1, 0, 0.5), easy_axis=0.1),
        SDModel(lattice.square(np.int64(4)), np.float32(1.5), np.float64(0.5), zeeman=np.ones(3)),
    ],
    ids=["triangular", "kagome", "numpy numbers"],
)
def test_description_round_trip(m):
    text = json.dumps(model.describe(m))
    again = model.from_description(json.loads(text))
    assert again == m
    assert json.dumps(model.describe(again)) == text
    np.testing.assert_array_equal(again.hopping_matrix.toarray(), m.hopping_matrix.toarray())


def test_the_magnets_of_the_paper():
    triangular, square = lattice.triangular(4), lattice.square(4)
    assert model.paper_model(triangular) == SDModel(triangular, 3.0, 0.25, electron_kT=0.05)
    assert model.paper_model(square) == SDModel(square, 6.0, 0.485, electron_kT=0.0025)
    assert model.paper_model(square, electron_kT=0.1).electron_kT == 0.1


LATTICE = lattice.square(4)


@laws.bad_input(
    {
        "filling above 1": (lambda: SDModel(LATTICE, 1.0, filling=1.1), "filling", 1.1),
        "filling below 0": (lambda: SDModel(LATTICE, 1.0, filling=-0.1), "filling", -0.1),
        "filling nan": (lambda: SDModel(LATTICE, 1.0, filling=np.nan), "filling", "nan"),
        "filling in percent": (lambda: SDModel(LATTICE, 1.0, filling=48.5), "filling", 48.5),
        "neither": (lambda: SDModel(LATTICE, 1.0), "filling", "chemical_potential", None),
        "both": (lambda: SDModel(LATTICE, 1.0, 0.5, 0.1), "filling", "chemical_potential", 0.1),
        "negative kT": (lambda: SDModel(LATTICE, 1.0, 0.5, electron_kT=-0.1), "electron_kT", -0.1),
        "nan kT": (lambda: SDModel(LATTICE, 1.0, 0.5, electron_kT=np.nan), "electron_kT", "nan"),
        "coupling": (lambda: SDModel(LATTICE, np.inf, 0.5), "exchange_coupling", "inf"),
        "mu": (lambda: SDModel(LATTICE, 1.0, chemical_potential=np.nan), "chemical_potential"),
        "hopping": (lambda: SDModel(LATTICE, 1.0, 0.5, hopping=(1, np.nan)), "hopping", "nan"),
        "no hopping": (lambda: SDModel(LATTICE, 1.0, 0.5, hopping=()), "hopping"),
        "zeeman": (lambda: SDModel(LATTICE, 1.0, 0.5, zeeman=(0, 1)), "zeeman", "(0, 1)"),
        "easy axis": (lambda: SDModel(LATTICE, 1.0, 0.5, easy_axis=np.nan), "easy_axis", "nan"),
        "paper": (lambda: model.paper_model(HONEYCOMB), "lattice", "honeycomb", "triangular"),
        "description": (lambda: model.from_description({"lattice": 3}), "description"),
        "empty description": (lambda: model.from_description({}), "description", "lattice"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("electron_kT", [0, 0.05])
@pytest.mark.parametrize("filling", [0.3, 0.37, 0.5])
def test_the_unit_of_energy_does_not_matter(scale, electron_kT, filling):
    lat, s = lattice.square(6), spins.random(36, 0)
    plain = SDModel(lat, 2.0, filling, electron_kT=electron_kT, zeeman=(0, 0.1, 0))
    scaled = SDModel(
        lat, 2.0 * scale, filling, electron_kT=electron_kT * scale, hopping=scale,
        zeeman=(0, 0.1 * scale, 0),
    )  # fmt: skip
    expected, found = exact.solve(plain, s), exact.solve(scaled, s)
    np.testing.assert_allclose(found.energy / scale, expected.energy, rtol=1e-12)
    np.testing.assert_allclose(found.local_field / scale, expected.local_field, atol=1e-11)
    np.testing.assert_allclose(found.density, expected.density, atol=1e-11)
    mu = found.chemical_potential / scale
    np.testing.assert_allclose(mu, expected.chemical_potential, atol=1e-12)


@pytest.mark.parametrize("electron_kT", [1e-300, 1e-16, 1e-14, 1e-10])
@pytest.mark.parametrize("filling", [0.3, 0.37])
def test_a_cold_metal_keeps_its_electrons(electron_kT, filling):
    """Where kT is below the rounding of mu, levels are taken from the top one."""
    lat = lattice.square(6)
    cold = SDModel(lat, 0.0, filling, electron_kT=electron_kT)
    found = exact.solve(cold, spins.random(36, 0))
    assert found.density.sum() == pytest.approx(cold.n_electrons, abs=1e-10)
    ground = exact.solve(SDModel(lat, 0.0, filling), spins.random(36, 0))
    assert found.energy == pytest.approx(ground.energy, abs=1e-8)


def test_a_search_that_misses_the_electrons_raises_with_its_estimate(monkeypatch):
    monkeypatch.setattr(model, "_bisect", lambda e, filling, kT: torch.full_like(e[..., 0], 0.5))
    m = SDModel(lattice.square(4), 1.0, 0.3, electron_kT=0.1)
    with pytest.raises(RuntimeError, match=r"last estimate, .*, misses .* of 9.6 electrons"):
        exact.solve(m, spins.random(16, 0))


@pytest.mark.parametrize(
    "name", ["exchange_coupling", "filling", "electron_kT", "hopping", "easy_axis", "zeeman"]
)
@pytest.mark.parametrize("value", [0.3j, "0.3", None, (1, 0.3j), ((1, 2),)])
def test_what_is_no_real_number_is_refused_by_name(name, value):
    arguments = {"exchange_coupling": 1.0, "filling": 0.5} | {name: value}
    laws.assert_refused(lambda: SDModel(lattice.square(4), **arguments), name)
