"""The chemical potential that holds a number of electrons, where densities fall too."""

import functools

import numpy as np
import pytest
import torch

from sdml.forcefield import equilibration
from sdml.forcefield.equilibration import chemical_potential

LOW, HIGH = torch.tensor(-3.0).double(), torch.tensor(2.0).double()
TOLERANCE = 1e-12


def wave(shift):
    """An excess with three roots, at -1 and about -1 +- 1, and its energy (...)."""
    shift = torch.as_tensor(shift, dtype=torch.float64)

    def excess(mu):
        x = mu + 1
        return 0.1 * (x**3 - x) + shift

    def energy(mu):
        x = mu + 1
        return -0.1 * (x**4 / 4 - x**2 / 2) - shift * x

    return excess, energy


def highest(energy, low=-3.2, high=2.2):
    """Where E is largest, on a fine grid."""
    grid = torch.linspace(low, high, 540_001, dtype=torch.float64)
    return float(grid[energy(grid).argmax()])


@pytest.mark.parametrize("shift", [-0.5, -0.03, -0.005, 0.002, 0.03, 0.5])
@pytest.mark.parametrize("error", [None, 0.0, 0.03, -0.03])
def test_of_several_roots_that_of_the_largest_energy(shift, error):
    """Also where a sample, with an excess of its own, has its largest energy elsewhere."""
    excess, energy = wave(shift)
    sample = None if error is None else lambda mu: excess(mu) + error * (1 + 0.3 * mu)
    found = chemical_potential(excess, LOW, HIGH, TOLERANCE, sample)
    assert abs(float(excess(found))) < TOLERANCE
    assert float(found) == pytest.approx(highest(energy), abs=1e-5)


def test_the_energy_is_continuous_though_the_root_jumps():
    shifts = torch.linspace(-0.02, 0.02, 400, dtype=torch.float64)
    excess, energy = wave(shifts)
    mu = chemical_potential(excess, LOW.expand(400), HIGH.expand(400), TOLERANCE)
    jumps = mu.diff().abs()
    assert jumps.max() > 1.9  # from one side of the maximum to the other
    barrier = 0.1 / 4  # between the maxima, at shift = 0
    assert energy(mu).diff().abs().max() < 0.01 * barrier


def test_every_member_of_a_batch_by_itself():
    shifts = [-0.4, -0.01, 0.01, 0.3]
    many = chemical_potential(wave(shifts)[0], LOW.expand(4), HIGH.expand(4), TOLERANCE)
    single = [chemical_potential(wave(x)[0], LOW, HIGH, TOLERANCE) for x in shifts]
    np.testing.assert_allclose(many, single, rtol=0, atol=1e-9)


@pytest.mark.parametrize("width", [1e-3, 0.1, 3.0])
def test_the_only_root_of_a_density_that_rises(width):
    """Narrow steps need the search in a cell, wide ones few secants."""

    def excess(mu):
        return torch.special.expit((mu - 0.123) / width) - 0.4

    expected = 0.123 + width * np.log(0.4 / 0.6)
    for sample in (None, lambda mu: excess(mu) + 0.01):
        found = chemical_potential(excess, LOW, HIGH, TOLERANCE, sample)
        assert float(found) == pytest.approx(expected, abs=1e-9)


def test_the_range_is_left_only_as_far_as_it_must_be():
    looked = []

    def excess(mu):
        looked.append(mu)
        return mu - 2.1

    assert float(chemical_potential(excess, LOW, HIGH, TOLERANCE)) == pytest.approx(2.1)
    assert max(float(x.max()) for x in looked) == pytest.approx(2.2)


def test_a_search_without_result_says_so(monkeypatch):
    with pytest.raises(RuntimeError, match=r"none in \[-4.00, 3.00\] holds the electrons"):
        chemical_potential(torch.ones_like, LOW, HIGH, TOLERANCE)
    monkeypatch.setattr(equilibration, "ITERATIONS", 1)
    with pytest.raises(RuntimeError, match=r"last estimate .* after 1 steps"):
        chemical_potential(wave(0.1)[0], LOW, HIGH, TOLERANCE)


def test_along_a_run_mu_is_followed_and_the_largest_energy_found_again():
    """Between two searches from nothing the energies of two roots part by 2 a unit of shift."""
    shifts, change = torch.linspace(-0.02, 0.02, 401, dtype=torch.float64), 0.04 / 400
    known, searches = None, []
    for shift in shifts:
        excess, energy = wave(torch.stack([shift, -shift, shift + 0.3]))

        def search(excess=excess):
            searches.append(excess)
            return chemical_potential(excess, LOW.expand(3), HIGH.expand(3), TOLERANCE)

        known = equilibration.followed(known, excess, search, TOLERANCE)
        assert excess(known.mu).abs().max() < TOLERANCE
        lost = energy(search()) - energy(known.mu)
        assert lost.max() < 2.1 * change * equilibration.SEARCHED_EVERY
    assert len(searches) - len(shifts) < 1.1 * len(shifts) / equilibration.SEARCHED_EVERY


def test_each_of_a_batch_is_followed_by_itself():
    """One of them jumps and is searched from nothing; the others do not notice."""
    paths = torch.tensor([[0.1, 0.101, 0.102, 0.103], [-0.5, 0.5, -0.5, 0.5]]).double().T

    def followed(columns):
        known, found = None, []
        for shift in paths[:, columns]:
            excess, _ = wave(shift)
            ends = LOW.expand(len(shift)), HIGH.expand(len(shift))
            search = functools.partial(chemical_potential, excess, *ends, TOLERANCE)
            known = equilibration.followed(known, excess, search, TOLERANCE)
            found.append(known.mu)
        return torch.stack(found)

    both = followed([0, 1])
    assert torch.equal(both, torch.cat([followed([0]), followed([1])], dim=1))
