"""The frame player draws the frame its slider shows, and is left out of batch runs."""

import matplotlib.pyplot as plt

from sdml import widgets


def test_the_slider_changes_the_picture(monkeypatch):
    monkeypatch.delenv(widgets.BATCH, raising=False)
    drawn = []

    def draw(frame):
        drawn.append(frame)
        return plt.figure()

    view = widgets.player(draw, n_frames=4)
    play, slider = view.children[0].children
    slider.value = 3
    assert drawn == [0, 3]
    assert (slider.max, play.max) == (3, 3)
    assert not plt.get_fignums(), "figures must be closed"


def test_no_widget_in_a_batch_run(monkeypatch):
    monkeypatch.setenv(widgets.BATCH, "1")
    assert widgets.player(plt.figure, n_frames=4) is None
