"""Draw given arrays on given axes, in true lattice geometry; no physics is computed here.

Every function returns the artist that carries the colours, or the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sdml.lattice import Lattice

DIVERGING = "RdBu_r"
SEQUENTIAL = "viridis"
COLUMN_WIDTH = 3.4
"""Width of one column of a journal page, inches."""


def use_style() -> None:
    """The one style of all figures: colour-blind safe, readable at the width of a column."""
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
    rows: int, columns: int, height: float = 2.6, width: float = COLUMN_WIDTH
) -> tuple[Figure, Any]:
    """A figure with a grid of axes of the given size in inches; axes as a flat array."""
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    return figure, axes.ravel()


def wrapped_positions(lattice: Lattice) -> NDArray[np.float64]:
    """Positions (N, 2) moved by periods into an upright rectangle 0 <= x < Lx."""
    positions = lattice.positions.copy()
    positions[:, 0] %= lattice.shape[0] * lattice.vectors[0][0]
    return positions


def site_map(axes: Axes, lattice: Lattice, values: NDArray[Any], **style: Any) -> PolyCollection:
    """Values (N,) as filled Wigner-Seitz cells (hexagons or squares)."""
    corners = _cell_outline(lattice)
    cells = wrapped_positions(lattice)[:, None] + corners[None]
    artist = PolyCollection(list(cells), array=np.asarray(values), linewidths=0.3, **style)
    artist.set_edgecolor("face")
    axes.add_collection(artist)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.autoscale_view()
    axes.margins(0)
    sns.despine(ax=axes, left=True, bottom=True)
    return artist


def _cell_outline(lattice: Lattice) -> NDArray[np.float64]:
    """Corners of the Wigner-Seitz cell of a square or triangular lattice."""
    sides = len(lattice.displacements(1.01)[0])
    angle = (np.arange(sides) + 0.5) * 2 * np.pi / sides
    return 0.5 / np.cos(np.pi / sides) * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def chirality_map(axes: Axes, lattice: Lattice, chirality: NDArray[Any]) -> PolyCollection:
    """Site chirality on a diverging scale that saturates at tetrahedral order."""
    return site_map(axes, lattice, chirality, cmap=DIVERGING, clim=(-0.77, 0.77))


def environment(
    axes: Axes, vectors: NDArray[np.float64], values: NDArray[np.float64], title: str = ""
) -> Any:
    """Numbers on the sites (K, 2) around a centre as coloured discs, symmetric scale."""
    limit = max(float(np.abs(values).max()), 1e-12)
    artist = axes.scatter(
        vectors[:, 0],
        vectors[:, 1],
        c=values,
        s=180,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        edgecolors="0.4",
    )
    axes.plot(0, 0, "k+")
    axes.set(aspect="equal", xticks=[], yticks=[], title=title)
    axes.margins(0.15)
    sns.despine(ax=axes, left=True, bottom=True)
    return artist


def parity(axes: Axes, exact: NDArray[Any], predicted: NDArray[Any], unit: str = "t") -> Any:
    """Predicted against exact values as a density of points, with the diagonal."""
    low, high = np.percentile(exact, [0.05, 99.95])
    extent = (low, high, low, high)
    artist = axes.hexbin(
        np.ravel(exact), np.ravel(predicted), bins="log", gridsize=60, extent=extent,
        cmap=SEQUENTIAL, linewidths=0, mincnt=1,
    )  # fmt: skip
    axes.plot([low, high], [low, high], color="0.3", lw=0.8)
    axes.set(aspect="equal", xlabel=f"exact ({unit})", ylabel=f"network ({unit})")
    axes.set(xlim=(low, high), ylim=(low, high))
    return artist


def level_density(axes: Axes, eigenvalues: NDArray[Any], n_bins: int = 80, **style: Any) -> Axes:
    """Histogram of one-electron levels, normalised to one."""
    axes.hist(np.ravel(eigenvalues), bins=n_bins, density=True, histtype="stepfilled", **style)
    axes.set(xlabel=r"$\epsilon$ (t)", ylabel=r"density of states (1/t)")
    return axes


def curves(
    axes: Axes, x: Sequence[float] | NDArray[Any], series: Mapping[str, Any], **style: Any
) -> Axes:
    """Several labelled lines over one abscissa."""
    for label, y in series.items():
        axes.plot(x, y, label=label, **style)
    axes.legend()
    return axes


def figure_of(draw: Callable[..., Any], *arrays: Any, title: str = "") -> Figure:
    """A figure with one panel on which ``draw(axes, *arrays)`` has drawn, for frame players."""
    figure, (axes,) = panels(1, 1, height=3.0)
    draw(axes, *arrays)
    axes.set_title(title)
    return figure
