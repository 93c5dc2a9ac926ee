"""Interactive twins of the static figures; nothing is created in a batch run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import clear_output
from matplotlib.figure import Figure

BATCH = "SDML_BATCH"
"""Set (to anything) by the runner and the tests: widgets are left out of stored notebooks."""


def player(draw: Callable[[int], Figure], n_frames: int, interval_ms: int = 300) -> Any:
    """A play button and a slider over frames.

    Parameters
    ----------
    draw : callable
        Frame number -> a new figure.
    n_frames : int
    interval_ms : int
        Time a frame stays when played.

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    play = ipywidgets.Play(max=n_frames - 1, interval=interval_ms)
    slider = ipywidgets.IntSlider(max=n_frames - 1, description="frame")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    picture = ipywidgets.Output()

    def show(change: dict[str, Any]) -> None:
        with picture:
            clear_output(wait=True)
            figure = draw(change["new"])
            plt.show()
            plt.close(figure)

    slider.observe(show, names="value")
    show({"new": 0})
    return ipywidgets.VBox([ipywidgets.HBox([play, slider]), picture])
