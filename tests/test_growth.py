"""Growth laws recovered from synthetic lengths of a known law; seeds differ coherently."""

import laws
import numpy as np
import pytest

from sdml.coarsening import growth

TIME = np.geomspace(20, 400, 20)
TRUTHS = {
    "plain": lambda t: 0.9 * t**0.7,
    "offset": lambda t: 3 + 0.9 * t**0.7,
    "origin": lambda t: 0.9 * (t - 9) ** 0.7,
    "linear": lambda t: 8 + 0.06 * t,
    "diffusive": lambda t: np.sqrt(30 + 2.0 * t),
}


def synthetic(law, n_seeds=8, scatter=0.02, seed=0, time=TIME):
    """Lengths (n_seeds, n_times); every seed strays by a slow random walk in ln t."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((n_seeds, len(time))) * scatter
    return TRUTHS[law](time) * np.exp(np.cumsum(steps, axis=1) / np.sqrt(5))


def fitted(law, *given):
    """Parameters by name."""
    return {k: v.value for k, v in growth.interval(law, TIME, *given, n_resamples=2).items()}


@pytest.mark.parametrize("law", growth.PARAMETERS)
def test_a_law_without_scatter_is_recovered(law):
    expected = {"plain": (0.9, 0.7), "offset": (0.9, 0.7, 3), "origin": (0.9, 0.7, 9)}[law]
    np.testing.assert_allclose([*fitted(law, synthetic(law, scatter=0)).values()], expected, 1e-4)


@pytest.mark.parametrize("law", ["offset", "origin"])
def test_linear_growth_has_the_exponent_one_with_either_constant(law):
    """L = 8 + 0.06 t is 0.06 (t + 133)."""
    found = fitted(law, synthetic("linear", scatter=0))
    constant = {"offset": 8, "origin": -8 / 0.06}[law]
    np.testing.assert_allclose([*found.values()], [0.06, 1, constant], rtol=1e-3)


def test_diffusive_growth_has_the_exponent_one_half_with_its_origin():
    """L^2 = 30 + 2 t is 2 (t + 15)."""
    found = fitted("origin", synthetic("diffusive", scatter=0))
    np.testing.assert_allclose([*found.values()], [2**0.5, 0.5, -15], rtol=1e-3)


def test_a_slope_of_two_thirds_can_be_a_linear_law():
    """The trap: L = 8 + 0.06 t looks like t^0.5 to t^0.7 in a double-logarithmic plot."""
    late = TIME > 100
    L = synthetic("linear", n_seeds=6)
    slope = growth.interval("plain", TIME[late], L[:, late])["n"]
    assert 0.55 < slope.value < 0.75 and slope.interval[1] < 0.85
    n = growth.interval("offset", TIME, L, n_resamples=100)["n"]
    assert n.interval[0] < 1 < n.interval[1] and n.interval[0] > 0.6


@pytest.mark.parametrize("law, power, slope", [("linear", 1, 0.06), ("diffusive", 2, 2.0)])
def test_local_slopes_are_constant_under_their_law(law, power, slope):
    L = synthetic(law, scatter=0.005)
    centers, found = growth.local_slopes(TIME, L, power, window=6, n_resamples=100)
    inside = [e.interval[0] <= slope <= e.interval[1] for e in found]
    assert len(centers) == len(TIME) - 5 and np.mean(inside) > 0.7
    _, wrong = growth.local_slopes(TIME, L, 3 - power, window=6, n_resamples=2)
    assert not 0.7 < wrong[-1].value / wrong[0].value < 1.4


def test_intervals_cover_the_truth():
    """95 % intervals of n from 4 seeds hold 0.7 in most of 30 repetitions; plain ones do not."""
    held = 0
    for seed in range(30):
        L = synthetic("plain", n_seeds=4, seed=seed, time=TIME[::3])
        low, high = growth.interval("plain", TIME[::3], L, n_resamples=60)["n"].interval
        held += low <= 0.7 <= high
    assert 26 <= held


def test_an_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).standard_normal(6)
    found = growth.bootstrap(lambda i: np.array([values[i].mean()]), 6, 20000, 0)[0]
    half = 2.5706 * values.std(ddof=1) / np.sqrt(6)
    np.testing.assert_allclose(np.subtract(*found.interval[::-1]), 2 * half, rtol=0.05)


def test_a_single_seed_has_a_value_and_no_interval():
    found = growth.interval("plain", TIME, TABLE[:1])["n"]
    assert np.isnan(found.interval).all()
    assert found.value == pytest.approx(growth.interval("plain", TIME, TABLE[[0, 0]])["n"].value)


def test_usable_stops_at_the_box_and_where_one_domain_wins():
    L = np.array([[10.0, 20, 30, 20], [10, 22, 26, 40], [10, 12, 14, 16]])
    m = np.array([[0.0, 0.1, 0.1, 0.0], [0, 0.1, -0.1, 0.1], [0, -0.2, 0, 0]])
    assert growth.usable(L, m, box_length=140).tolist() == [True] * 4
    # The mean is 23 and 25 at the last two times; it stays out once it was.
    assert growth.usable(L, m, box_length=88).tolist() == [True, True, False, False]
    assert growth.usable(L[:, ::-1], m, box_length=100).tolist() == [False] * 4
    # Seed 2 wins at the second time and stops all.
    lost = np.where(m == -0.2, -0.4, m)
    assert growth.usable(L, lost, box_length=140).tolist() == [True, False, False, False]


TABLE = synthetic("linear")


def holed(values, *place):
    """With one value that is none."""
    copy = np.array(values, dtype=float)
    copy[place] = np.nan
    return copy


def masked(values):
    return np.ma.masked_array(values, np.arange(np.size(values)).reshape(np.shape(values)) == 3)


BALANCED = np.zeros_like(TABLE)
GROWN = np.where(TIME > 200, 1.0, BALANCED)


@laws.bad_input(
    {
        "time": (lambda: growth.interval("plain", holed(TIME, 3), TABLE), "time"),
        "time masked": (lambda: growth.interval("plain", masked(TIME), TABLE), "time", "masked"),
        "lengths": (lambda: growth.interval("plain", TIME, holed(TABLE, 0, 3)), "lengths"),
        "lengths masked": (
            lambda: growth.interval("plain", TIME, masked(TABLE)),
            "lengths",
            "masked",
        ),
        "slopes": (lambda: growth.local_slopes(TIME, holed(TABLE, 0, 3)), "lengths"),
        "usable": (lambda: growth.usable(holed(TABLE, 0, 3), BALANCED, 900), "lengths", "nan"),
        "imbalance": (lambda: growth.usable(TABLE, holed(BALANCED, 0, 3), 900), "imbalance", "nan"),
        "imbalance masked": (lambda: growth.usable(TABLE, masked(BALANCED), 900), "imbalance"),
    }
)
def test_what_is_no_number_is_named(call, mentioned):
    laws.assert_refused(call, *mentioned)


def test_what_does_not_count_may_be_no_number():
    """Times after the box was reached."""
    expected = growth.usable(TABLE, GROWN, 900)
    assert expected.any() and not expected.all()
    late = holed(TABLE, 0, -1), holed(GROWN, 1, -1)
    np.testing.assert_array_equal(growth.usable(*late, 900), expected)


@laws.bad_input(
    {
        "law": (lambda: growth.interval("cubic", TIME, TABLE), "law", "cubic", "offset"),
        "shape": (lambda: growth.interval("plain", TIME, TABLE[0]), "lengths", "(20,)"),
        "time": (lambda: growth.interval("plain", TIME - 20, TABLE), "time"),
        "few": (lambda: growth.interval("offset", TIME[:3], TABLE[:, :3]), "time", "offset"),
        "infinite": (lambda: growth.interval("plain", TIME, TABLE * np.inf), "lengths"),
        "negative": (lambda: growth.interval("plain", TIME, -TABLE), "lengths", "positive"),
        "window": (lambda: growth.local_slopes(TIME, TABLE, window=50), "window", 50),
        "imbalance": (lambda: growth.usable(TABLE, TABLE[:2], 9), "imbalance", "(2, 20)"),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
