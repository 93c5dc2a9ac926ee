"""Boundary phases: four of them are a lattice of twice the size, and the error is the rest."""

from dataclasses import replace

import finite_size
import laws
import numpy as np
import pytest

from sdml import bands, exact, lattice, spins
from sdml.model import SDModel

TWISTS = [(0.0, 0.0), (np.pi, 0.0), (0.0, np.pi), (np.pi, np.pi)]

LATTICES = {
    "square": (lattice.square(4, 3), lattice.square(8, 6)),
    "triangular": (lattice.triangular(3, 4), lattice.triangular(6, 8)),
    # Third neighbours of so small a lattice go around it.
    "two wide": (lattice.square(2, 4), lattice.square(4, 8)),
}
FILLINGS = {
    "smeared": {"filling": 0.3, "electron_kT": 0.1},
    "ground state": {"filling": 0.25},
    "fixed mu": {"chemical_potential": -1.2, "electron_kT": 0.05},
}


def repeated(small, large, values):
    """Values of the sites of the small lattice on the large one."""
    return values[..., small.site_index(large.cells, large.sublattices), :]


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("name", LATTICES)
def test_four_twists_are_the_state_repeated_on_twice_the_size(name, filling):
    small, large = LATTICES[name]
    options = {"hopping": (1.0, 0.3, -0.2), "zeeman": (0, 0, 0.1), **FILLINGS[filling]}
    s = spins.random(small.n_sites, seed=1)
    found = bands.repeated(SDModel(small, 2.0, **options), s, n_phases=2)
    expected = exact.solve(SDModel(large, 2.0, **options), repeated(small, large, s))
    np.testing.assert_allclose(4 * found.energy, expected.energy, rtol=1e-11)
    np.testing.assert_allclose(found.chemical_potential, expected.chemical_potential, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-10)
    field = repeated(small, large, found.local_field)
    np.testing.assert_allclose(field, expected.local_field, atol=1e-9)
    density = repeated(small, large, found.density[:, None])[:, 0]
    np.testing.assert_allclose(density, expected.density, atol=1e-9)


@pytest.mark.parametrize("twist", TWISTS)
def test_twisted_hamiltonians_are_hermitian_and_of_real_hopping(twist):
    model = SDModel(lattice.triangular(4), 3.0, 0.25)
    up = bands.bloch_hamiltonian(model, spins.ferromagnetic(model.lattice), twist)[::2, ::2]
    np.testing.assert_allclose(up, up.conj().T, atol=1e-12)
    np.testing.assert_allclose(up.imag, 0, atol=1e-12)


@pytest.mark.parametrize("twist", TWISTS)
def test_a_twist_shifts_the_momenta(twist):
    """Free electrons: e(k) = -2 t (cos kx + cos ky) at k_a = (2 pi n + twist_a) / L_a."""
    shape = (6, 4)
    model = SDModel(lattice.square(*shape), 0.0, 0.5)
    found = np.linalg.eigvalsh(bands.bloch_hamiltonian(model, spins.random(24, 0), twist))[::2]
    kx, ky = ((2 * np.pi * np.arange(n) + p) / n for n, p in zip(shape, twist, strict=True))
    expected = np.sort((-2 * np.cos(kx)[:, None] - 2 * np.cos(ky)).ravel())
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_averages_are_invariant_and_the_gradient_of_their_energy():
    """The place of the boundary does not matter."""
    model = SDModel(lattice.triangular(4), 3.0, 0.25, electron_kT=0.1)
    s = spins.random(16, seed=2)
    moves = [*laws.translations(model.lattice), *laws.point_operations(model.lattice)]
    laws.assert_equivariant(lambda x: bands.repeated(model, x, 2).local_field, s, moves, 1e-9)
    laws.assert_field_is_gradient(
        lambda x: np.array([bands.repeated(model, one, 2).energy for one in x]),
        lambda x: bands.repeated(model, x, 2).local_field,
        s,
    )


def test_the_error_falls_with_size_and_temperature():
    """The same state repeated on a larger lattice is nearer to the average over its twists."""
    small, large = LATTICES["triangular"]
    s = spins.random(small.n_sites, seed=3)
    model = SDModel(small, 3.0, 0.25, electron_kT=0.1)
    error = finite_size.finite_size_error(model, s[None])
    on_large = repeated(small, large, s)[None]
    twice = finite_size.finite_size_error(replace(model, lattice=large), on_large)
    hot = finite_size.finite_size_error(replace(model, electron_kT=1.0), s[None])
    assert 0 < twice.mse < error.mse / 4
    assert 0 < hot.mse < error.mse / 4
    assert error.relative == error.mse / error.mean_square


def test_a_batch_is_the_mean_of_its_states():
    model = SDModel(lattice.square(4), 2.0, 0.4, electron_kT=0.1)
    states = np.stack([spins.random(16, seed) for seed in range(3)])
    batch = finite_size.finite_size_error(model, states)
    each = [finite_size.finite_size_error(model, s[None]) for s in states]
    assert batch.n_states == 3
    np.testing.assert_allclose(batch.mse, np.mean([e.mse for e in each]))
    np.testing.assert_allclose(batch.mean_square, np.mean([e.mean_square for e in each]))
