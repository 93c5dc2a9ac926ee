"""Widgets draw what their controls show, and are left out of batch runs."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sdml import lattice, plotting, spins
from sdml.descriptor import SymmetryEnvironment
from sdml.plotting import widgets

LATTICES = {"square": lattice.square(6), "triangular": lattice.triangular(6)}
DESCRIPTORS = {kind: SymmetryEnvironment(kind, 2, 1).descriptor() for kind in LATTICES}
START = spins.random(36, 0)
every_kind = pytest.mark.parametrize("kind", LATTICES)


def test_the_slider_changes_the_picture(monkeypatch):
    monkeypatch.delenv(widgets.BATCH, raising=False)
    drawn = []

    def draw(frame):
        drawn.append(frame)
        return plt.figure()

    view = widgets.player(draw, times=range(4))
    play, slider = view.children[0].children
    slider.value = 3
    assert drawn == [0, 3]
    assert (len(slider.options) - 1, play.max) == (3, 3)
    assert not plt.get_fignums(), "figures must be closed"


def test_no_widget_in_a_batch_run(monkeypatch):
    monkeypatch.setenv(widgets.BATCH, "1")
    assert widgets.player(plt.figure, times=range(4)) is None
    explored = DESCRIPTORS["square"], LATTICES["square"], START
    assert widgets.descriptor_explorer(plt.figure, *explored) is None
    assert widgets.loss_picture(plt.figure) is None


def test_the_loss_is_drawn_after_every_epoch(monkeypatch):
    monkeypatch.delenv(widgets.BATCH, raising=False)
    drawn, shown = [], []

    def draw(history):
        drawn.append([row["epoch"] for row in history])
        return plotting.training_history({"live": history})

    monkeypatch.setattr(widgets, "display", lambda display_id: SimpleNamespace(update=shown.append))
    report = widgets.loss_picture(draw)
    for epoch in (1, 2, 3):
        report({"epoch": epoch, "loss": 1 / epoch, "torque_r2": 0.5})
    assert drawn == [[1], [1, 2], [1, 2, 3]]
    assert len(shown) == 3
    assert not plt.get_fignums(), "figures must be closed"


@pytest.fixture
def explorer(monkeypatch):
    """(controls by name, drawn views) of an explorer of the triangular lattice."""
    monkeypatch.delenv(widgets.BATCH, raising=False)
    drawn = []

    def draw(before, after):
        drawn.append((before, after))
        return plt.figure()

    explored = DESCRIPTORS["triangular"], LATTICES["triangular"], START
    box = widgets.descriptor_explorer(draw, *explored).children[0]
    names = ("site", "polar", "azimuth", "operation")
    return dict(zip(names, box.children, strict=True)), drawn


def test_the_explorer_starts_unchanged(explorer):
    _, ((before, after),) = explorer
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not plt.get_fignums(), "figures must be closed"


def test_a_turned_spin_changes_the_drawn_features(explorer):
    controls, drawn = explorer
    table = DESCRIPTORS["triangular"].neighbor_table(LATTICES["triangular"])
    controls["site"].value = int(table[0, 0])
    controls["polar"].value = 90
    controls["azimuth"].value = 45
    tilted, turned = drawn[-2][1], drawn[-1][1]
    for view in (tilted, turned):
        moved = np.abs(view.spins - drawn[-1][0].spins).max(axis=1) > 0.1
        np.testing.assert_array_equal(np.flatnonzero(moved), [1])  # the first neighbour alone
        assert view.spins[1] @ drawn[-1][0].spins[1] == pytest.approx(0, abs=1e-12)
        assert np.abs(view.features - drawn[-1][0].features).max() > 0.1
    assert np.abs(turned.features - tilted.features).max() > 0.01


def test_an_operation_moves_the_coefficients_and_leaves_the_features(explorer):
    controls, drawn = explorer
    controls["polar"].value = 60
    features = drawn[-1][1].features
    assert np.abs(features - drawn[-1][0].features).max() > 0.1
    for name in controls["operation"].options[1:]:
        controls["operation"].value = name
        after = drawn[-1][1]
        np.testing.assert_allclose(after.features, features, atol=1e-12)
        assert np.abs(after.spins - drawn[0][0].spins).max() > 0.1, name


@every_kind
def test_operations_are_the_point_group_and_the_symmetries_of_spins(kind):
    lat, found = LATTICES[kind], widgets.operations(LATTICES[kind])
    assert len(found) == lat.point_group.order + 2
    np.testing.assert_array_equal(found["none"](START), START)
    half = found["rotation by 180°"](START)
    i, j = (lat.site_index(np.array([cell]), 0)[0] for cell in ([1, 0], [-1, 0]))
    np.testing.assert_array_equal(half[i], START[j])
    fixed = found["mirror at 0°"](START)[lat.cells[:, 1] == 0]
    np.testing.assert_array_equal(fixed, START[lat.cells[:, 1] == 0])
    np.testing.assert_array_equal(found["time reversal"](START), -START)
    bonds = found["all spins turned"](START) @ found["all spins turned"](START).T
    np.testing.assert_allclose(bonds, START @ START.T, atol=1e-12)


@every_kind
def test_a_view_holds_coefficients_and_features_of_the_center_bonds(kind):
    view = widgets.view(DESCRIPTORS[kind], LATTICES[kind], START)
    n_bonds = len(view.spins) - 1
    bonds = view.spins[1:] @ view.spins[0]
    assert len(view.covariants) == len(view.covariant_names) == n_bonds
    assert (view.covariants**2).sum() == pytest.approx((bonds**2).sum())  # an orthogonal basis
    shown = dict(zip(view.feature_names, view.center_features, strict=True))
    assert shown["$f_{A_1}$ (1)"] == pytest.approx(view.covariants[0])
    size = len(LATTICES[kind].displacements(1)[0])
    assert shown["$f_{A_1}$ (1)"] == pytest.approx(bonds[:size].sum() / np.sqrt(size))
    amplitude = view.covariants[[name == "$f_{B_1}$ (1)" for name in view.covariant_names]]
    assert shown["$|f_{B_1}|^2$ (1)"] == pytest.approx((amplitude**2).sum())


def test_the_figure_of_the_explorer_shows_both_views():
    descriptor, lat = DESCRIPTORS["triangular"], LATTICES["triangular"]
    before = widgets.view(descriptor, lat, START)
    after = widgets.view(descriptor, lat, widgets.turned(START, 0, 90, 0))
    figure = plotting.descriptor_figure(descriptor.environment.sites()[1], before, after)
    coefficients, features = figure.axes[2:4]
    for panel, name in ((coefficients, "covariants"), (features, "center_features")):
        drawn = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
        np.testing.assert_array_equal(drawn["before"], getattr(before, name))
        np.testing.assert_array_equal(drawn["after"], getattr(after, name))
    plt.close(figure)
