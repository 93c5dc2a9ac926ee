"""Chern numbers and gaps against an independent Bloch calculation and the laws of symmetry."""

import laws
import numpy as np
import pytest
from test_exact import bloch_hamiltonians
from test_exact import chern_number as independent

from sdml import bands, exact, lattice, model, spins
from sdml.model import SDModel

CELL = lattice.triangular(2)


def kondo(lat, filling=0.25):
    return SDModel(lat, 3.0, filling=filling)


@pytest.mark.parametrize("chirality", [1, -1])
@pytest.mark.parametrize("filling, n_bands", [(0.25, 2), (0.75, 6)])
def test_agrees_with_the_independent_calculation(chirality, filling, n_bands):
    found = bands.chern_number(kondo(CELL, filling), spins.tetrahedral(CELL, chirality))
    assert found == round(independent(bloch_hamiltonians(chirality, 12), n_bands))
    assert abs(found) == 1


def test_bands_are_those_of_the_independent_calculation():
    theta = 2 * np.pi * np.arange(6) / 6
    grid = np.stack(np.meshgrid(theta, theta, indexing="ij"), axis=-1)
    found = bands.bloch_hamiltonian(kondo(CELL), spins.tetrahedral(CELL), grid)
    np.testing.assert_allclose(found, found.conj().swapaxes(-1, -2), atol=1e-14)
    expected = np.linalg.eigvalsh(bloch_hamiltonians(1, 6))
    np.testing.assert_allclose(np.linalg.eigvalsh(found), expected, atol=1e-12)


def test_without_phases_it_is_the_periodic_hamiltonian():
    lat = lattice.triangular(3, 4)
    s = spins.random(12, 0)
    found = bands.bloch_hamiltonian(kondo(lat), s, (0.0, 0.0))
    np.testing.assert_allclose(found, model.hamiltonian(kondo(lat), s).numpy(), atol=1e-12)


def test_gap_of_tetrahedral_order():
    """1.394 on 24 x 24 (DESIGN's golden value): a grid of 12 phases on the cell of 2 x 2."""
    s = spins.tetrahedral(CELL)
    assert bands.band_gap(kondo(CELL), s) == pytest.approx(1.394, abs=5e-4)
    lat = lattice.triangular(8)
    state = exact.solve(kondo(lat), spins.tetrahedral(lat))
    direct = state.eigenvalues[32] - state.eigenvalues[31]
    assert bands.band_gap(kondo(CELL), s, 4) == pytest.approx(direct, abs=1e-10)


@pytest.mark.parametrize("lat", [CELL, lattice.triangular(4, 2), lattice.triangular(4)])
def test_the_number_does_not_depend_on_the_cell_or_on_rotations_of_the_spins(lat):
    for chirality in (1, -1):
        s = spins.tetrahedral(lat, chirality)
        expected = bands.chern_number(kondo(CELL), spins.tetrahedral(CELL, chirality))
        turned = spins.rotate(s, spins.random_rotation(0))
        assert bands.chern_number(kondo(lat), turned, 8) == expected
        # Time reversal turns the spins over.
        assert bands.chern_number(kondo(lat), -turned, 8) == -expected


def test_noise_does_not_change_the_number():
    lat = lattice.triangular(6)
    s = spins.perturbed(spins.tetrahedral(lat), 0.15, 0)
    clean = bands.chern_number(kondo(CELL), spins.tetrahedral(CELL))
    assert bands.chern_number(kondo(lat), s, 6) == clean
    assert 0 < bands.band_gap(kondo(lat), s, 6) < 1.394


def test_coplanar_and_ferromagnetic_insulators_have_none():
    lat = lattice.square(2)
    assert bands.chern_number(SDModel(lat, 6.0, filling=0.5), spins.neel(lat)) == 0
    strong = SDModel(CELL, 12.0, filling=0.5)
    assert bands.chern_number(strong, spins.ferromagnetic(CELL)) == 0


@laws.bad_input(
    {
        "filling": (
            lambda: bands.chern_number(kondo(CELL, 0.3), spins.tetrahedral(CELL)),
            "filling",
            0.3,
        ),
        "metal": (
            lambda: bands.chern_number(kondo(CELL), spins.ferromagnetic(CELL)),
            "spins",
            "gap",
        ),
        "batch": (
            lambda: bands.band_gap(kondo(CELL), spins.tetrahedral(CELL)[None]),
            "spins",
            "(1, 4, 3)",
        ),
        "phases": (
            lambda: bands.bloch_hamiltonian(kondo(CELL), spins.tetrahedral(CELL), [0.0]),
            "phases",
        ),
        "grid": (
            lambda: bands.band_gap(kondo(CELL), spins.tetrahedral(CELL), 1),
            "n_phases",
            1,
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
