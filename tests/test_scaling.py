"""Circular averages, and the tails of discs and of straight stripes."""

import coarsening
import laws
import numpy as np
import pytest

from sdml import lattice, observables
from sdml.coarsening import scaling

KINDS = pytest.mark.parametrize("kind", [lattice.square, lattice.triangular])


def discs(lat, radius, seed, n_discs=8):
    """Discs of one sign, of radius to 2 radius, in a sea of the other."""
    rng = np.random.default_rng(seed)
    periods = np.array(lat.vectors) * np.array(lat.shape)[:, None]
    x = np.full(lat.n_sites, -1.0)
    for place, scale in zip(rng.random((n_discs, 2)), rng.uniform(1, 2, n_discs), strict=True):
        fraction = (lat.cells / np.array(lat.shape) - place + 0.5) % 1 - 0.5
        x[np.linalg.norm(fraction @ periods, axis=1) < radius * scale] = 1.0
    return x


def test_the_averages_are_those_of_the_double_sums():
    lat = lattice.triangular(24)
    x = np.random.default_rng(0).standard_normal((2, lat.n_sites))
    q, found = scaling.circular_structure_factor(lat, x)
    waves = np.exp(-1j * lat.momenta @ lat.positions.T)
    factor, sizes = np.abs(x @ waves.T) ** 2 / lat.n_sites, np.linalg.norm(lat.momenta, axis=1)
    ring = np.round(sizes / (2 * np.pi / 24)).astype(int)
    for k, radius in enumerate(q):
        assert radius == pytest.approx(sizes[ring == k].mean())
        np.testing.assert_allclose(found[:, k], factor[:, ring == k].mean(-1), atol=1e-12)
    _, correlation = coarsening.circular_correlation(lat, x)
    np.testing.assert_allclose(correlation[:, 0], (x**2).mean(-1))


@KINDS
def test_porod_tail_of_discs(kind):
    """S ~ q^-3 for smooth sharp walls, its amplitude set by the wall length W.

    C = 1 - (4 / pi) (W / A) r gives a S = 8 (W / A) / q^3: the transform of r is -2 pi / q^3.
    """
    lat = kind(512)
    fields = np.stack([discs(lat, radius, k) for k, radius in enumerate((25, 28, 31, 34))])
    q, factor = scaling.circular_structure_factor(lat, fields)
    found = scaling.tail(q, factor.mean(0), (0.35, 1.6))
    assert found.exponent == pytest.approx(3, abs=0.15)
    area = abs(np.linalg.det(lat.vectors))
    inside = (q > 0.4) & (q < 0.7)
    amplitude = (area * factor.mean(0) * q**3)[inside].mean()
    walls = observables.wall_density(lat, fields).mean()
    assert amplitude == pytest.approx(8 * walls, rel=0.05)


def test_noise_within_domains_is_the_background():
    lat = lattice.triangular(512)
    rng = np.random.default_rng(0)
    x = np.stack([discs(lat, 28, k) for k in range(4)])
    q, factor = scaling.circular_structure_factor(lat, x + 0.3 * rng.standard_normal(x.shape))
    found = scaling.tail(q, factor.mean(0), (0.3, 1.6))
    assert found.exponent == pytest.approx(3, abs=0.25)
    assert found.background == pytest.approx(0.09, rel=0.3)
    assert np.polyfit(np.log(q[25:130]), np.log(factor.mean(0)[25:130]), 1)[0] > -2.6


def test_straight_stripes_have_a_tail_along_their_normal_only():
    """q^-2 along the normal, nothing along the wall; S = N (2 / (n sin))^2 of irregular stripes."""
    lat, rng = lattice.triangular(512), np.random.default_rng(0)
    total = 0.0
    for _ in range(24):
        edges = np.sort(rng.choice(512, 16, replace=False))
        rows = np.where(np.searchsorted(edges, np.arange(512), side="right") % 2, 1.0, -1.0)
        factor = observables.structure_factor(lat, rows[lat.cells[:, 1]]).reshape(512, 512)
        total = total + factor[1:257, 0]
    q = np.arange(1, 257) / 512 * np.linalg.norm(lat.reciprocal_vectors[1])
    found = scaling.tail(q, total, (0.3, 1.5))
    assert found.exponent == pytest.approx(2, abs=0.15)
    assert factor[0, 1:257].max() < 1e-9


def test_a_tail_with_background_is_recovered():
    q = np.linspace(0.1, 2, 60)
    found = scaling.tail(q, 0.7 * q**-2.5 + 0.2, (0.1, 2))
    assert found.exponent == pytest.approx(2.5, abs=1e-4)
    assert found.background == pytest.approx(0.2, abs=1e-4)
    assert found.amplitude == pytest.approx(0.7, abs=1e-4)


LAT, Q = lattice.square(8), np.linspace(0.1, 1, 9)


def holed(values, *place):
    """With one value that is none."""
    copy = np.array(values, dtype=float)
    copy[place] = np.nan
    return copy


def masked(values):
    return np.ma.masked_array(values, np.arange(np.size(values)).reshape(np.shape(values)) == 3)


CURVE = np.arange(1.0, 10.0)


@laws.bad_input(
    {
        "q": (lambda: scaling.tail(holed(CURVE, 3), CURVE**-3, (1, 9)), "q", "nan"),
        "q masked": (lambda: scaling.tail(masked(CURVE), CURVE, (1, 9)), "q", "masked"),
        "factor": (lambda: scaling.tail(CURVE, holed(CURVE, 3), (1, 9)), "factor", "nan"),
    }
)
def test_what_is_no_number_is_named(call, mentioned):
    laws.assert_refused(call, *mentioned)


def test_what_lies_outside_the_window_may_be_no_number():
    q, S = CURVE, CURVE**-3
    assert scaling.tail(q, holed(S, 8), (1, 8)) == scaling.tail(q, S, (1, 8))


@laws.bad_input(
    {
        "size": (lambda: coarsening.circular_correlation(LAT, np.ones(9)), "values", "(9,)"),
        "window": (lambda: scaling.tail(Q, Q, (5, 6)), "window", 0, "(5, 6)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
