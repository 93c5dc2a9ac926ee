"""Domain lengths against theory, the patterns they scale with, and coarsening."""

import importlib

import laws
import numpy as np
import pytest
import torch

from sdml import files, lattice, observables, spins
from sdml.coarsening import domains, growth

ROOT3 = np.sqrt(3)
SQUARE, TRIANGULAR = lattice.square(64), lattice.triangular(64)
by_name = {"ids": lambda x: getattr(x, "name", None)}
BOTH = pytest.mark.parametrize("lat", [SQUARE, TRIANGULAR], **by_name)


def area(lat):
    return abs(np.linalg.det(lat.vectors)) * lat.n_cells


@BOTH
def test_lengths_are_those_of_the_sign_by_every_estimator(lat):
    x = np.random.default_rng(0).standard_normal((2, lat.n_sites))
    found = domains.lengths(lat, x)
    assert domains.ESTIMATORS == ("wall", "correlation", "moment", "first_moment")
    for k, name in enumerate(domains.ESTIMATORS):
        np.testing.assert_array_equal(
            found[:, k], observables.domain_length(lat, np.sign(x), name), err_msg=name
        )


def gaussian_field(lat, width, rng):
    """A random field with the correlation exp(-r^2 / 2 width^2): its sign has that of OJK."""
    q2 = (lat.momenta**2).sum(-1).reshape(lat.shape[::-1])
    noise = np.fft.fft2(rng.standard_normal(lat.shape[::-1]))
    return np.fft.ifft2(noise * np.exp(-q2 * width**2 / 4)).real.ravel()


@pytest.mark.parametrize("kind", [lattice.square, lattice.triangular])
def test_lengths_of_signs_of_a_gaussian_field(kind):
    """C = (2 / pi) arcsin exp(-r^2 / 2 w^2): half-width w sqrt(ln 2), area per wall pi w.

    The density of zeros of a Gaussian field along a line is sqrt(-g''(0)) / pi = 1 / (pi w) (Rice),
    that of wall length in the plane pi / 2 times as much, 1 / (2 w).
    """
    lat, width, rng = kind(256), 5.0, np.random.default_rng(0)
    fields = np.stack([gaussian_field(lat, width, rng) for _ in range(6)])
    wall, half, moment, _ = domains.lengths(lat, fields).mean(0)
    assert wall == pytest.approx(2 * width, rel=0.04)
    assert half == pytest.approx(width * np.sqrt(np.log(2)), rel=0.04)
    assert wall / half == pytest.approx(2.402, rel=0.03)
    assert 6.5 < moment / half < 8.5


@BOTH
def test_lengths_scale_with_the_pattern(lat):
    """Twice the pattern on twice the lattice, three estimators and the biased one."""
    rng = np.random.default_rng(1)
    waves, phases = rng.integers(-3, 4, (12, 2)), rng.uniform(0, 2 * np.pi, 12)
    kind = getattr(lattice, lat.name)
    small, large = (
        domains.lengths(k, np.cos(2 * np.pi * k.cells / n @ waves.T + phases).sum(-1))
        for n, k in ((96, kind(96)), (192, kind(192)))
    )
    np.testing.assert_allclose(large[:3] / small[:3], 2, rtol=0.03)
    assert large[3] / small[3] < 1.95


def test_domain_lengths_of_two_tetrahedral_domains():
    """Half of the box left-handed, half right-handed: two walls of 24 lattice constants."""
    lat = lattice.triangular(24)
    upper = lat.cells[:, 1] >= 12
    s = np.where(upper[:, None], spins.tetrahedral(lat, 1), spins.tetrahedral(lat, -1))
    found = domains.domain_lengths(lat, s)
    assert found[0] == pytest.approx(area(lat) / 48, rel=0.02)
    assert domains.imbalance(lat, s) == pytest.approx(0, abs=1 / 12)
    assert abs(domains.chirality_sign(lat, s)).tolist() == [1.0] * lat.n_sites


@pytest.mark.parametrize("chirality", [1, -1])
def test_one_domain_has_no_finite_length(chirality):
    lat = lattice.triangular(12)
    s = spins.perturbed(spins.tetrahedral(lat, chirality), 0.1, 0)
    assert (domains.domain_lengths(lat, s) == np.inf).all()
    assert domains.imbalance(lat, s) == chirality


def test_smoothing_is_the_mean_of_a_site_and_its_neighbors():
    for lat in (SQUARE, TRIANGULAR):
        x = np.random.default_rng(0).standard_normal(lat.n_sites)
        expected = (x + x[lat.neighbors()].sum(1)) / (1 + lat.neighbors().shape[1])
        found = domains._smoothed(lat, torch.as_tensor(x))
        np.testing.assert_allclose(found, expected, atol=1e-13)


def test_spin_length_is_that_of_the_twist_of_tetrahedral_order():
    """Spins turned by a wave of wave vector k about an axis: peaks at M +- k only."""
    lat = lattice.triangular(48)
    for periods in (2, 4, 8):
        angle = 2 * np.pi * periods * lat.cells[:, 0] / 48
        c, s = np.cos(angle), np.sin(angle)
        x, y, z = spins.tetrahedral(lat).T
        turned = np.stack([c * x - s * y, s * x + c * y, 0 * z], axis=-1)
        turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
        k = np.linalg.norm(lat.reciprocal_vectors[0]) * periods / 48
        assert abs(2 * np.pi / domains.spin_length(lat, turned) - k) < np.pi / 48


def test_spin_length_does_not_see_global_rotations_and_is_infinite_in_perfect_order():
    lat = lattice.triangular(16)
    s = spins.random(lat.n_sites, 0)
    turned = spins.rotate(s, spins.random_rotation(1, proper=False))
    np.testing.assert_allclose(domains.spin_length(lat, turned), domains.spin_length(lat, s))
    assert domains.spin_length(lat, spins.tetrahedral(lat)) == np.inf


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounding_makes_no_finite_length(dtype):
    """A uniform sign and perfect order, on lattices whose Fourier transforms round."""
    for length in range(2, 41):
        lat = lattice.triangular(length)
        for sign in (1, -1):
            assert (domains.lengths(lat, np.full(lat.n_sites, sign, dtype)) == np.inf).all()
        if length % 2 == 0:
            turned = spins.rotate(spins.tetrahedral(lat).astype(dtype), spins.random_rotation(1))
            assert domains.spin_length(lat, turned) == np.inf
            chirality = observables.site_chirality(lat, turned)
            assert observables.domain_length(lat, chirality) == np.inf


def test_one_flipped_site_has_a_finite_length():
    lat = lattice.triangular(100)
    x = np.ones(lat.n_sites, dtype="float32")
    x[17] = -1
    assert domains.lengths(lat, x)[2] == pytest.approx(2.467, abs=1e-3)
    assert observables.domain_length(lat, x) == pytest.approx(2.467, abs=1e-3)


def test_batches_kinds_and_single_precision():
    lat = lattice.triangular(12)
    s = spins.random(4 * lat.n_sites, 0).reshape(2, 2, lat.n_sites, 3)
    for function, tail in ((domains.domain_lengths, (4,)), (domains.spin_length, ())):
        together = function(lat, s)
        assert together.shape == (2, 2, *tail)
        np.testing.assert_allclose(together[1, 0], function(lat, s[1, 0]), rtol=1e-12)
        tensor = function(lat, torch.as_tensor(s, dtype=torch.float32))
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor, together, rtol=1e-4)


def test_every_estimator_but_the_first_moment_finds_the_law_of_ising_domains(monkeypatch):
    """L ~ t^1/2 after a quench to T = 0, small: studies/ising.py has 512^2 and 16 seeds."""
    monkeypatch.syspath_prepend(str(files.root() / "benchmarks"))
    ising = importlib.import_module("ising")
    sites, sweeps = lattice.triangular(258), np.array([6, 12, 24, 48])
    frames = np.stack([ising.quench(sites, sweeps, seed)[0] for seed in range(12)])
    lengths = domains.lengths(sites, frames.astype(float))
    wall, half, moment, biased = (
        growth.interval("plain", sweeps, lengths[..., k], 50)["n"].value for k in range(4)
    )
    assert abs(wall - 0.5) < 0.03 and abs(half - 0.5) < 0.03 and abs(moment - 0.5) < 0.08
    assert biased < 0.44


HONEYCOMB = lattice.from_cell([[ROOT3, 0], [ROOT3 / 2, 1.5]], [[0, 0], [0, 1]], (4, 4), "honeycomb")


@laws.bad_input(
    {
        "size": (lambda: domains.lengths(SQUARE, np.ones(9)), "values", "(9,)"),
        "spins": (lambda: domains.domain_lengths(TRIANGULAR, spins.random(9, 0)), "spins", "(9"),
        "basis": (lambda: domains.lengths(HONEYCOMB, np.ones(32)), "lattice", "honeycomb"),
        "square": (lambda: domains.spin_length(SQUARE, spins.random(4096, 0)), "lattice"),
        "two sites a cell": (
            lambda: domains.spin_length(
                lattice.from_cell([[1, 0], [0, 3]], [[0, 0], [0.5, 1]], (4, 4), "triangular"),
                spins.random(32, 0),
            ),
            "lattice",
            "one site",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
