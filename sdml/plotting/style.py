"""The one style of all figures: sizes, colors and marks, figures with panels, and small helpers."""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["MARKERS", "TIME", "lettered_rows", "panels", "use_style"]

Style = dict[str, Any]
"""What matplotlib is told of lines, marks and texts, by keyword."""
DIVERGING = "RdBu_r"
SEQUENTIAL = "viridis"
COLUMN_WIDTH = 3.4
"""Width of one column of a journal page, inches."""
PAGE_WIDTH = 7.0
"""Width of both columns, inches."""
MARKERS = ("o", "s", "^", "D")
"""Of the curves of one panel, so that they can be told apart in grey."""
TIME = r"time ($\hbar/t$)"


def use_style() -> None:
    """The one style of all figures: color-blind safe, readable at the width of a column."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "pdf.fonttype": 42,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "image.interpolation": "nearest",
        }
    )


def panels(
    rows: int, columns: int, height: float = 2.6, width: float = COLUMN_WIDTH, **options: Any
) -> tuple[Figure, Any]:
    """A figure with a grid of axes of the given size in inches; axes as a flat array.

    ``options`` are those of ``matplotlib.pyplot.subplots``, such as ``sharey``.
    """
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    return figure, axes.ravel()


def lettered_rows(columns: Sequence[int], heights: Sequence[float]) -> tuple[Figure, list[Any]]:
    """A figure of the width of a page, and its axes row by row, panels lettered (a), (b), ...

    ``columns`` are the panels of each row, ``heights`` those of the rows in inches.
    """
    figure = plt.figure(figsize=(PAGE_WIDTH, sum(heights)))
    parts = figure.subfigures(len(columns), 1, squeeze=False, height_ratios=heights)
    rows = [np.ravel(part.subplots(1, n)) for part, n in zip(parts[:, 0], columns, strict=True)]
    for letter, panel in zip(ascii_lowercase, np.concatenate(rows), strict=False):
        panel.set_title(f"({letter})", loc="left")
    return figure, rows


def unframed(axes: Axes, margin: float = 0.15, **properties: Any) -> None:
    """Make axes a picture of sites: true proportions, no ticks, no frame."""
    axes.set(aspect="equal", xticks=[], yticks=[], **properties)
    axes.margins(margin)
    sns.despine(ax=axes, left=True, bottom=True)
