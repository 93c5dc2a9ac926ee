"""Draw what long runs measured on given axes: curves against time, temperature and size.

Arrays and tables in, axes out; no physics is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Series = tuple[FloatArray, FloatArray, FloatArray]
TIME = r"time ($\hbar/t$)"


def with_errors(axes: Axes, series: Mapping[str, Series], legend: bool = True) -> Axes:
    """(x, mean, standard error) by label; the error is left out where it is nan."""
    for k, (label, (x, mean, error)) in enumerate(series.items()):
        style = {"fmt": "o-" if k % 2 == 0 else "s--", "ms": 3, "lw": 1, "elinewidth": 0.8}
        axes.errorbar(x, mean, error if np.isfinite(error).all() else None, label=label, **style)
    if legend:
        axes.legend(fontsize="xx-small")
    return axes


def transition(axes: Sequence[Axes], table: Any, names: Mapping[str, str]) -> Sequence[Axes]:
    """Columns of a table against kT, a panel each: a colour a size, open symbols on cooling.

    ``table`` (pandas) has the columns length, way, kT and, for every one of ``names`` (column ->
    label of the axis), its standard error as ``<column>_error``.
    """
    for k, (length, rows) in enumerate(table.groupby("length")):
        for way, part in rows.groupby("way"):
            style = {"fmt": "o-" if way == "heating" else "s:", "ms": 3, "lw": 1, "color": f"C{k}"}
            style["mfc"] = f"C{k}" if way == "heating" else "white"
            for panel, name in zip(axes, names, strict=True):
                label = f"${length}^2$, {way}"
                panel.errorbar(part.kT, part[name], part[f"{name}_error"], label=label, **style)
    for panel, label in zip(axes, names.values(), strict=True):
        panel.set(xlabel="$kT$ (t)", ylabel=label)
    axes[0].legend(fontsize="xx-small")
    return axes


def tail(axes: Axes, q: FloatArray, factors: Mapping[str, FloatArray], power: float) -> Axes:
    """Structure factors over q, both logarithmic, and a line q^power beside the last of them."""
    for label, factor in factors.items():
        axes.loglog(q, factor, lw=1, label=label)
    middle = len(q) // 3
    guide = factor[middle] * (q / q[middle]) ** power
    near = (q > q[middle] / 3) & (q < 2 * q[middle])
    axes.loglog(q[near], 2 * guide[near], "k--", lw=1, label=f"$q^{{{power:g}}}$")
    axes.legend(fontsize="xx-small")
    return axes


def overlaps(axes: Axes, since: Mapping[str, tuple[FloatArray, FloatArray]]) -> Axes:
    """Two-time overlaps against the time that has passed since the waiting time."""
    for label, (passed, overlap) in since.items():
        axes.semilogx(
            passed, overlap, "o-" if label.startswith("exact") else "s--", ms=3, label=label
        )
    axes.set(ylim=(0, 1.02), xlabel=r"$t - t_w$ ($\hbar/t$)", ylabel="overlap of the spins")
    axes.legend(fontsize="xx-small")
    return axes


def shares(axes: Axes, sizes: Mapping[str, tuple[FloatArray, FloatArray]]) -> Axes:
    """Share of clusters of s sites or more against s."""
    for label, (size, share) in sizes.items():
        axes.step(size, share, where="mid", lw=1, label=label)
    axes.set(yscale="log", xlabel="sites $s$", ylabel="share of clusters with $s$ sites or more")
    axes.legend(fontsize="xx-small")
    return axes
