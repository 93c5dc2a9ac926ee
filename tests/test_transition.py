"""Cumulants in their known limits, errors against repetitions, known autocorrelations."""

import cumulants
import laws
import numpy as np
import pytest


def correlated(n, memory, seed):
    """Gaussian samples with autocorrelation memory^k."""
    rng = np.random.default_rng(seed)
    m = np.empty(n)
    m[0] = rng.standard_normal()
    for k, noise in enumerate(rng.standard_normal(n - 1), start=1):
        m[k] = memory * m[k - 1] + np.sqrt(1 - memory**2) * noise
    return m


def test_cumulant_of_gaussian_samples_is_zero():
    found = cumulants.binder_cumulant(0.1 * np.random.default_rng(0).standard_normal(40000))
    assert abs(found.value) < 3 * found.error and found.error < 0.02


def test_cumulant_of_two_sharp_signs_is_two_thirds():
    m = 0.7 * np.random.default_rng(0).choice([-1.0, 1.0], 1000)
    found = cumulants.binder_cumulant(m)
    assert found.value == pytest.approx(2 / 3) and found.error < 1e-12


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_cumulant_of_coexisting_phases_falls_below_zero(share):
    """Weight p at +-1, the rest at 0: U = 1 - 1 / (3 p), negative for p < 1/3."""
    rng = np.random.default_rng(0)
    m = rng.choice([-1.0, 1.0], 40000) * (rng.random(40000) < share)
    found = cumulants.binder_cumulant(m)
    assert found.value == pytest.approx(1 - 1 / (3 * share), abs=4 * found.error)


def test_susceptibility_of_gaussian_and_of_ordered_samples():
    """N var (1 - 2 / pi) / kT, and N var / kT about +-m0."""
    rng = np.random.default_rng(0)
    m = 0.1 * rng.standard_normal(40000)
    free = cumulants.susceptibility(m, 100, 0.5)
    assert free.value == pytest.approx(100 * 0.01 * (1 - 2 / np.pi) / 0.5, abs=4 * free.error)
    ordered = cumulants.susceptibility(m + np.sign(m), 100, 0.5)
    one_sign = cumulants.susceptibility(1 + 0.1 * rng.standard_normal(40000), 100, 0.5)
    assert one_sign.value == pytest.approx(2.0, abs=4 * one_sign.error)
    assert ordered.value == pytest.approx(free.value, abs=4 * free.error)


def test_energy_cumulant_and_specific_heat():
    rng = np.random.default_rng(0)
    e = -2.6 + 0.01 * rng.standard_normal(20000)
    one = cumulants.energy_cumulant(e)
    # V = 2/3 - (4/3) (sigma / e)^2 to leading order.
    assert 2 / 3 - one.value == pytest.approx(4 / 3 * (0.01 / 2.6) ** 2, rel=0.05)
    heat = cumulants.specific_heat(e, 400, 0.2)
    assert heat.value == pytest.approx(400 * 1e-4 / 0.04, abs=4 * heat.error)
    two = cumulants.energy_cumulant(e + 0.1 * rng.choice([-1.0, 1.0], 20000))
    assert 2 / 3 - two.value == pytest.approx(4 / 3 * (0.1**2 + 0.01**2) / 2.6**2, rel=0.05)
    square = cumulants.energy_cumulant(rng.standard_normal(1000)).value
    plain = np.random.default_rng(1).standard_normal(1000)
    assert cumulants.energy_cumulant(plain).value == pytest.approx(
        cumulants.binder_cumulant(plain).value, abs=1e-10
    )
    assert abs(square) < 0.2


def test_jackknife_errors_are_the_scatter_of_repetitions():
    found = [cumulants.binder_cumulant(correlated(4000, 0.8, seed)) for seed in range(40)]
    scatter = np.std([f.value for f in found], ddof=1)
    mean_error = np.mean([f.error for f in found])
    assert mean_error == pytest.approx(scatter, rel=0.35)


def test_blocks_of_single_samples_miss_the_autocorrelation():
    slow = [correlated(4000, 0.95, seed) for seed in range(6)]
    blocked, naive = (
        np.mean([cumulants.binder_cumulant(m, n).error for m in slow]) for n in (20, 4000)
    )
    assert naive < 0.6 * blocked


def test_autocorrelation_time():
    """(1 + a) / (1 - a) for rho = a^k."""
    assert cumulants.autocorrelation_time(correlated(40000, 0.8, 0)) == pytest.approx(9, rel=0.15)
    white = np.random.default_rng(0).standard_normal(40000)
    assert cumulants.autocorrelation_time(white) == pytest.approx(1, abs=0.1)


def test_a_series_too_short_for_its_autocorrelation_is_no_measurement():
    """A drift, a jump and a slow walk: the sum would end in what is left of few pairs."""
    walk = np.cumsum(np.random.default_rng(0).standard_normal(1000))
    for samples in (np.arange(100.0), np.repeat([0.0, 1.0], 50), walk):
        with pytest.raises(cumulants.TooShortError, match=r"samples.*autocorrelation") as caught:
            cumulants.autocorrelation_time(samples)
        assert caught.value.estimate > 0.1 * len(samples)


@laws.bad_input(
    {
        "shape": (lambda: cumulants.binder_cumulant(np.ones((2, 30))), "samples", "(2, 30)"),
        "nan": (lambda: cumulants.binder_cumulant(np.full(30, np.nan)), "samples"),
        "blocks": (lambda: cumulants.binder_cumulant(np.ones(5)), "n_blocks", 20),
        "kT": (lambda: cumulants.susceptibility(np.ones(30), 4, 0.0), "kT", 0.0),
        "constant": (lambda: cumulants.autocorrelation_time(np.ones(30)), "samples"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
