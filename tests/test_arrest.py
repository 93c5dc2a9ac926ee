"""Verdicts on synthetic series whose law is known."""

import numpy as np
import pytest

from sdml.phase_separation import arrest

TIME = np.arange(5.0, 1001.0, 5.0)


def series(exponent, saturation=np.inf, noise=0.05, n_runs=5, seed=0):
    """(1 / t^exponent + 1 / saturation)^-1, each run with its own amplitude and a slow error."""
    rng = np.random.default_rng(seed)
    grown = 1 / (TIME**-exponent + 1 / saturation)
    slow = np.cumsum(rng.standard_normal((n_runs, len(TIME))), axis=1) / np.sqrt(len(TIME))
    return grown * np.exp(noise * (rng.standard_normal((n_runs, 1)) + slow))


def test_a_power_law_grows_with_its_exponent():
    late = arrest.late(TIME, series(2 / 3), after=200)
    assert late.slope == pytest.approx(2 / 3, abs=3 * late.slope_error)
    assert 0 < late.slope_error < 0.1
    assert late.verdict() == "growing"


def test_a_plateau_is_arrested_and_has_its_level():
    late = arrest.late(TIME, series(2.0, saturation=7.6, noise=0.02), after=200)
    assert late.verdict() == "arrested"
    assert late.level == pytest.approx(7.6, abs=3 * late.level_error + 0.01)


def test_few_noisy_runs_decide_nothing():
    late = arrest.late(TIME, series(0.1, noise=0.8, n_runs=3), after=400)
    assert late.verdict() == "undecided"


def test_two_runs_say_less_than_four():
    """The interval is Student's: 12.7 errors for two runs, 3.2 for four."""
    verdicts = [arrest.Late(0.02, 0.03, 6.5, 0.2, (300, 1000), n).verdict() for n in (2, 4)]
    assert verdicts == ["undecided", "arrested"]
    assert arrest.Late(-0.3, 0.01, 6.5, 0.2, (300, 1000), 4).verdict() == "undecided"  # it shrinks
    assert arrest.Late(0.02, 0.0, 6.5, 0.2, (300, 1000), 2).verdict() == "growing"


def test_numbers_of_clusters_fall():
    late = arrest.late(TIME, series(-2 / 3), after=200)
    assert late.verdict(-arrest.AREA_EXPONENT) == "growing"


def test_the_error_is_that_of_repeating_the_experiment():
    found = [arrest.late(TIME, series(0.5, n_runs=6, seed=k), after=200) for k in range(40)]
    spread = np.std([late.slope for late in found])
    typical = np.sqrt(np.mean([late.slope_error**2 for late in found]))
    assert 0.7 < typical / spread < 1.4


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: arrest.late(TIME, series(1.0, n_runs=1), 100), "values"),
        (lambda: arrest.late(TIME, series(1.0), 2000), "values"),
        (lambda: arrest.late(TIME, np.zeros((2, len(TIME))), 100), "values"),
        (lambda: arrest.late(TIME, np.ones((2, 3)), 100), "values"),
        (lambda: arrest.late(TIME, series(1.0), 100).verdict(0.0), "exponent"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()


@pytest.mark.parametrize("name", ["time", "values"])
@pytest.mark.parametrize("mask", [False, True])
def test_what_is_no_number_is_named(name, mask):
    given = {"time": TIME.copy(), "values": series(0.5)}
    given[name][..., 150] = np.nan
    if mask:
        given[name] = np.ma.masked_invalid(given[name])
    with pytest.raises(ValueError, match=f"^{name}: .*{'masked' if mask else 'nan'}"):
        arrest.late(**given, after=200)


def test_values_before_the_window_may_be_no_number():
    """An infinite length is stored as nan."""
    early = series(0.5)
    early[:, 3] = np.nan
    assert arrest.late(TIME, early, after=200) == arrest.late(TIME, series(0.5), after=200)
