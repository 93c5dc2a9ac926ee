"""Draw what long runs measured on given axes: curves against time, temperature and size.

Arrays and tables in, axes out; no physics is computed here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from sdml.plotting.style import Style

__all__ = [
    "electron_histogram",
    "estimates",
    "growth_laws",
    "heated",
    "overlaps",
    "shares",
    "transition",
    "with_errors",
]

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]
Series = tuple[FloatArray, FloatArray, FloatArray]
POINTS: Style = {"ms": 3, "lw": 1}
DENSITY_BINS = np.linspace(0.4, 1.1, 36).tolist()


def with_errors(axes: Axes, series: Mapping[str, Series], legend: bool = True) -> Axes:
    """(x, mean, standard error) by label; the error is left out where it is nan."""
    for k, (label, (x, mean, error)) in enumerate(series.items()):
        bars, mark = error if np.isfinite(error).any() else None, ("o-", "s--")[k % 2]
        axes.errorbar(x, mean, bars, fmt=mark, elinewidth=0.8, label=label, **POINTS)
    if legend:
        axes.legend(fontsize="xx-small")
    return axes


def estimates(axes: Axes, x: Any, found: Sequence[Any]) -> Axes:
    """Values with their intervals (:class:`growth.Estimate`) as a line in a band."""
    low, high = np.transpose([estimate.interval for estimate in found])
    axes.plot(x, [estimate.value for estimate in found], "o-", ms=3)
    axes.fill_between(x, low, high, alpha=0.2, lw=0)
    return axes


def growth_laws(axes: Sequence[Axes], drawn: Mapping[str, Any]) -> None:
    """S(q), drawn but for a guide, then L(t), local exponents against L, and exponents by law.

    ``drawn`` is label -> (time, length, fit), (length, slopes), law; slopes as for
    :func:`estimates`, law as of :meth:`reference.History.law`.
    """
    structure, lengths, local, exponents = axes
    for k, ((time, length, fit), (at, slopes), law) in enumerate(drawn.values()):
        lengths.loglog(time, length, "o", ms=2)
        lengths.loglog(time, fit, "k", lw=0.6)
        estimates(local, at, slopes)
        for j, (name, mark) in enumerate({"plain": "o", "offset": "s", "origin": "^"}.items()):
            value, low, high = law[name]
            bar: Style = {"xerr": [[value - low], [high - value]], "fmt": f"C{k}{mark}", "ms": 3}
            exponents.errorbar(value, k + 0.25 * (j - 1), **bar)
    for n, dash in ((1, "--"), (0.5, ":")):
        time = np.array([60.0, 400.0])
        guide = 9 * (time / 60) ** n
        lengths.loglog(time, guide, "k" + dash, lw=1, label=rf"$\propto t^{{{n:g}}}$")
        local.axhline(n, color="k", ls=dash, lw=1)
        exponents.axvline(n, color="k", ls=dash, lw=1)
    q = np.array([0.5, 2.0])
    structure.loglog(q, 60 * q**-3, "k:", label=r"$\propto q^{-3}$")
    structure.set(xlabel="$q$", ylabel=r"$S_\chi(q)$")
    lengths.set(xlabel=r"$t$ ($\hbar/t$; sweeps)", ylabel="length $L$")
    local.set(xscale="log", xlabel="length $L$", ylabel=r"$d\ln L\,/\,d\ln t$", ylim=(0, 1.8))
    for axis in (local.xaxis, lengths.yaxis):
        axis.set_ticks([5, 10, 20, 40], ["5", "10", "20", "40"])
        axis.minorticks_off()
    exponents.set_yticks(range(len(drawn)), drawn, fontsize="x-small")
    exponents.set(xlabel="exponent $n$", xlim=(-0.1, 1.4), ylim=(len(drawn) - 0.4, -0.6))
    for panel in (structure, lengths):
        panel.legend(fontsize="xx-small", handlelength=1.2)


def heated(axes: Axes, series: Mapping[str, Series], warm: Sequence[tuple[float, float]]) -> Axes:
    """:func:`with_errors`, a bar below for the times (begin, end) of each warm bath."""
    with_errors(axes, series)
    low, high = axes.get_ylim()
    room = high - low
    axes.set_ylim(low - 0.25 * room, high + 0.35 * room)  # for the bars and the legend
    for k, times in enumerate(warm):
        height = 0.03 + 0.04 * k
        bar: Style = {"lw": 4, "alpha": 0.5, "solid_capstyle": "butt", "color": f"C{k}"}
        axes.plot(times, [height] * 2, transform=axes.get_xaxis_transform(), **bar)
    return axes


def transition(axes: Sequence[Axes], table: Any, names: Mapping[str, str]) -> Sequence[Axes]:
    """Columns of a table against kT, a panel each: a color a size, open symbols on cooling.

    ``table`` (pandas) has the columns length, way, kT and, for every one of ``names`` (column ->
    label of the axis), its standard error as ``<column>_error``.
    """
    for k, (length, rows) in enumerate(table.groupby("length")):
        for way, part in rows.groupby("way"):
            mark, face = ("o-", f"C{k}") if way == "heating" else ("s:", "white")
            style: Style = {"fmt": mark, "color": f"C{k}", "mfc": face} | POINTS
            for panel, name in zip(axes, names, strict=True):
                x, y, error = part[["kT", name, f"{name}_error"]].to_numpy(float).T
                panel.errorbar(x, y, error, label=f"${length}^2$, {way}", **style)
    for panel, label in zip(axes, names.values(), strict=True):
        panel.set(xlabel="$kT$ (t)", ylabel=label)
    axes[0].legend(fontsize="xx-small")
    return axes


def overlaps(axes: Axes, since: Mapping[str, Pair], style: str = "o-") -> Axes:
    """Two-time overlaps against the time that has passed since the waiting time."""
    for k, (label, (passed, overlap)) in enumerate(since.items()):
        axes.semilogx(passed, overlap, style, color=f"C{k}", label=label, **POINTS)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(ylim=(0, 1.02), xlabel=r"$t - t_w$ ($\hbar/t$)", ylabel="two-time overlap")
    axes.legend(fontsize="xx-small")
    return axes


def shares(axes: Axes, sizes: Mapping[str, Pair]) -> Axes:
    """Share of clusters of s sites or more against s."""
    for label, (size, share) in sizes.items():
        axes.step(size, share, where="mid", lw=1, label=label)
    axes.set(yscale="log", xlabel="sites $s$", ylabel=r"share of clusters $\geq s$")
    axes.legend(fontsize="xx-small")
    return axes


def electron_histogram(axes: Axes, densities: Mapping[str, FloatArray]) -> Axes:
    """Distribution of the electrons per site, densities (..., N) by label."""
    for label, density in densities.items():
        axes.hist(np.ravel(density), DENSITY_BINS, density=True, histtype="step", label=label)
    axes.set(yscale="log", xlabel="electrons $n_i$", ylabel="probability density")
    axes.legend(fontsize="xx-small", loc="upper center")
    return axes
