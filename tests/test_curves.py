"""Curves of long runs hold the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sdml.plotting import curves


@pytest.fixture
def axes():
    figure, panels = plt.subplots(1, 3)
    yield panels
    plt.close(figure)


def labels(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_error_bars_only_where_there_is_an_error(axes):
    x, y = np.arange(3.0), np.array([1.0, 2.0, 4.0])
    curves.with_errors(axes[0], {"a": (x, y, 0.1 * y), "b": (x, 2 * y, np.nan)})
    assert labels(axes[0]) == ["a", "b"]
    bars = [container.has_yerr for container in axes[0].containers]
    assert bars == [True, False]
    np.testing.assert_allclose(axes[0].containers[1].lines[0].get_ydata(), 2 * y)
    curves.with_errors(axes[1], {"a": (x, y, y)}, legend=False)
    assert axes[1].get_legend() is None


def test_the_time_of_a_warm_bath_is_a_bar_below_its_curve(axes):
    x = np.array([0.0, 400.0, 1000.0])
    curves.heated(axes[0], {"warm": (x, x, x), "hot": (x, x, x)}, [(400, 900), (400, 600)])
    bars = axes[0].lines[-2:]
    assert [list(bar.get_xdata()) for bar in bars] == [[400, 900], [400, 600]]
    assert [bar.get_color() for bar in bars] == ["C0", "C1"]
    assert bars[0].get_ydata()[0] != bars[1].get_ydata()[0]
    assert labels(axes[0]) == ["warm", "hot"]


def test_a_transition_has_a_colour_a_size_and_open_symbols_on_cooling(axes):
    rows = [
        {"length": n, "way": way, "kT": kT, "order": n * kT, "order_error": 0.1}
        for n in (12, 18)
        for way in ("heating", "cooling")
        for kT in (0.01, 0.02)
    ]
    curves.transition(axes[:1], pd.DataFrame(rows), {"order": "mean order"})
    lines = [container.lines[0] for container in axes[0].containers]
    assert len(lines) == 4 and axes[0].get_ylabel() == "mean order"
    assert {line.get_color() for line in lines} == {"C0", "C1"}
    assert [line.get_markerfacecolor() == "white" for line in lines] == [True, False] * 2
    np.testing.assert_allclose(lines[2].get_ydata(), [0.18, 0.36])


def test_overlaps_and_shares(axes):
    passed, kept = np.array([1.0, 10.0]), np.array([1.0, 0.5])
    curves.overlaps(axes[0], {"exact": (passed, kept)}, "s:")
    assert labels(axes[0]) == ["exact"] and axes[0].get_xscale() == "log"
    np.testing.assert_allclose(axes[0].lines[0].get_data(), (passed, kept))
    curves.shares(axes[1], {"exact": (np.array([5.0, 8.0]), np.array([1.0, 0.25]))})
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [1, 0.25])


def test_histograms_of_electrons_hold_all_sites(axes):
    densities = {"a": np.full(16, 0.9), "b": np.r_[np.full(8, 0.5), np.ones(24)].reshape(2, 16)}
    curves.electron_histogram(axes[0], densities)
    assert sorted(labels(axes[0])) == ["a", "b"]
    width = np.diff(curves.DENSITY_BINS)[0]
    tops = sorted(patch.get_xy()[:, 1].max() * width for patch in axes[0].patches)
    np.testing.assert_allclose(tops, [0.75, 1.0])
