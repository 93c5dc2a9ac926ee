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
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from sdml.lattice import Lattice

DIVERGING = "RdBu_r"
SEQUENTIAL = "viridis"
COLUMN_WIDTH = 3.4
"""Width of one column of a journal page, inches."""
PAGE_WIDTH = 7.0
"""Width of both columns, inches."""
MARKERS = ("o", "s", "^", "D")
"""Of the curves of one panel, so that they can be told apart in grey."""


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
    rows: int, columns: int, height: float = 2.6, width: float = COLUMN_WIDTH, **options: Any
) -> tuple[Figure, Any]:
    """A figure with a grid of axes of the given size in inches; axes as a flat array.

    ``options`` are those of ``matplotlib.pyplot.subplots``, such as ``sharey``.
    """
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    return figure, axes.ravel()


def mosaic(layout: str, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure of the given size in inches, its axes by the letters of ``layout``, as "ab;ac"."""
    return plt.subplot_mosaic(layout, figsize=size, **options)


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


def correlation_map(axes: Axes, lattice: Lattice, correlation: NDArray[Any]) -> PolyCollection:
    """Mean S_i . S_j of a site with its neighbours on a diverging scale, -1 to 1."""
    return site_map(axes, lattice, correlation, cmap=DIVERGING, clim=(-1, 1))


def density_map(axes: Axes, lattice: Lattice, density: NDArray[Any]) -> PolyCollection:
    """Electrons per site on a sequential scale, holes dark."""
    return site_map(axes, lattice, density, cmap="magma", clim=(0.4, 1.05))


def momentum_map(axes: Axes, lattice: Lattice, values: NDArray[Any]) -> Any:
    """Numbers (N,) on the momenta of a lattice, as coloured hexagons."""
    q = np.round(lattice.momenta, 6)
    artist = axes.scatter(q[:, 0], q[:, 1], c=values, s=9, marker="h", cmap=SEQUENTIAL)
    axes.set(aspect="equal", xlabel="$q_x$", ylabel="$q_y$")
    return artist


def environment(
    axes: Axes,
    vectors: NDArray[np.float64],
    values: NDArray[np.float64],
    title: str = "",
    limit: float | None = None,
) -> Any:
    """Numbers on the sites (K, 2) around a centre as coloured discs, scale -limit ... limit."""
    limit = limit or max(float(np.abs(values).max()), 1e-12)
    artist = axes.scatter(
        vectors[:, 0],
        vectors[:, 1],
        c=values,
        s=180,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        edgecolors="0.4",
        clip_on=False,
    )
    axes.plot(0, 0, "k+")
    _bare(axes, title)
    return artist


def irrep_patterns(vectors: NDArray[np.float64], basis: Mapping[str, Any]) -> Figure:
    """Rows of the first copy of every irrep on the sites (K, 2) of one orbit, on one scale.

    ``basis`` is that of :func:`sdml.symmetry.irrep_basis`; partners are numbered.
    """
    rows = {
        f"${name[0]}_{name[1:]}" + (f"^{{({k})}}$" if len(copies[0]) > 1 else "$"): row
        for name, copies in basis.items()
        for k, row in enumerate(copies[0], start=1)
    }
    figure, axes = panels(1, len(rows), height=1.5, width=1.2)
    limit = max(float(np.abs(row).max()) for row in rows.values())
    for panel, (name, row) in zip(axes, rows.items(), strict=True):
        artist = environment(panel, vectors, row, name, limit)
    figure.colorbar(artist, ax=axes, label="pattern (norm 1)", shrink=0.9, ticks=[-0.5, 0, 0.5])
    return figure


def spins_around(
    axes: Axes, vectors: NDArray[np.float64], spins: NDArray[np.float64], title: str = ""
) -> Any:
    """Spins (1 + K, 3) on a centre and the sites (K, 2) around it: arrows for x and y, colour z."""
    places = np.concatenate([np.zeros((1, 2)), vectors])
    axes.scatter(places[:, 0], places[:, 1], s=12, color="0.8")
    axes.plot(0, 0, "o", ms=15, mfc="none", mec="0.6", mew=0.8)
    artist = axes.quiver(
        *places.T, spins[:, 0], spins[:, 1], spins[:, 2], pivot="mid", cmap=SEQUENTIAL,
        clim=(-1, 1), angles="xy", scale_units="xy", scale=1.3, width=0.02, ec="0.2", lw=0.3,
    )  # fmt: skip
    _bare(axes, title)
    return artist


def spins_on_map(
    axes: Axes,
    places: NDArray[np.float64],
    spins: NDArray[np.float64],
    chirality: NDArray[np.float64],
    title: str = "",
) -> Any:
    """Spins (n, 3) at places (n, 2) over their chirality (n,): arrows for x and y, grey for z."""
    x, y = places.T
    axes.scatter(
        x,
        y,
        c=chirality,
        marker="h",
        s=260,
        cmap=DIVERGING,
        alpha=0.7,
        lw=0,
        vmin=-0.77,
        vmax=0.77,
    )
    artist = axes.quiver(
        x, y, spins[:, 0], spins[:, 1], spins[:, 2], pivot="mid", cmap="Greys_r", clim=(-1, 1),
        angles="xy", scale_units="xy", scale=1.25, width=0.012, headwidth=3, headlength=3.5,
        headaxislength=3.2, ec="k", lw=0.3,
    )  # fmt: skip
    _bare(axes, title)
    return artist


def _bare(axes: Axes, title: str) -> None:
    """A picture of sites: true proportions, no frame."""
    axes.set(aspect="equal", xticks=[], yticks=[], title=title)
    axes.margins(0.15)
    sns.despine(ax=axes, left=True, bottom=True)


def before_and_after(
    axes: Axes,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    names: Sequence[str],
    ylabel: str = "",
) -> Axes:
    """Named numbers, open circles before and dots after a change, joined where they moved."""
    place = np.arange(len(before))
    axes.vlines(place, before, after, color="0.6", lw=0.8)
    axes.plot(place, before, "o", ms=5, mfc="w", mec="0.4", label="before")
    axes.plot(place, after, "o", ms=2.6, color="C3", label="after")
    axes.set_xticks(place, names, rotation=90, fontsize="x-small")
    axes.set(ylabel=ylabel)
    axes.margins(x=0.03)
    return axes


def descriptor_change(
    axes: Sequence[Axes], vectors: NDArray[np.float64], before: Any, after: Any, title: str = ""
) -> Any:
    """A row of :func:`change_panels`: spins, covariant and invariant numbers before and after.

    ``before`` and ``after`` are two :class:`sdml.plotting.widgets.View`.
    """
    spins_around(axes[0], vectors, before.spins, "before")
    arrows = spins_around(axes[1], vectors, after.spins, title or "after")
    names = before.covariant_names
    before_and_after(axes[2], before.covariants, after.covariants, names, "coefficient")
    names = before.feature_names
    before_and_after(axes[3], before.centre_features, after.centre_features, names, "feature")
    change = _two_digits(np.abs(after.features - before.features).max())
    axes[2].set_title("coefficients, centre bonds")
    axes[3].set_title(f"largest change of all {len(before.features)}: {change}")
    axes[2].legend(fontsize="small", ncols=2, loc="upper center")
    for panel in axes[2:4]:
        panel.margins(y=0.2)
    return arrows


def _two_digits(value: float) -> str:
    """0.12, 1.0 or 1.2e-15, the last as a power of ten."""
    mantissa, exponent = f"{value:.1e}".split("e")
    if abs(int(exponent)) < 3:
        return f"{value:#.2g}"
    return rf"${mantissa}\cdot10^{{{int(exponent)}}}$"


def change_panels(rows: int) -> tuple[Figure, Any]:
    """A figure with rows of four panels for :func:`descriptor_change`; axes (rows, 4).

    The two pictures of spins stand on top of each other; names are written in the last row only.
    """
    figure = plt.figure(figsize=(PAGE_WIDTH, 2.7 * rows + 0.5))
    grid = figure.add_gridspec(2 * rows, 3, width_ratios=(1.3, 1.9, 2.3))
    places = [(slice(0, 1), 0), (slice(1, 2), 0), (slice(0, 2), 1), (slice(0, 2), 2)]
    axes = np.array(
        [
            [figure.add_subplot(grid[2 * k + part.start : 2 * k + part.stop, column])
             for part, column in places]
            for k in range(rows)
        ]
    )  # fmt: skip
    for row in axes[:-1, 2:]:
        for panel in row:
            panel.tick_params(labelbottom=False)
    return figure, axes


def descriptor_figure(vectors: NDArray[np.float64], before: Any, after: Any) -> Figure:
    """A new figure of :func:`descriptor_change`, for the explorer."""
    figure, axes = change_panels(1)
    arrows = descriptor_change(axes[0], vectors, before, after)
    spin_scale(figure, axes, arrows)
    return figure


def spin_scale(figure: Figure, axes: Any, arrows: Any) -> Any:
    """The colour bar of the arrows below the pictures of spins of :func:`change_panels`."""
    bar = figure.colorbar(arrows, ax=axes[-1, 1], location="bottom", shrink=0.8, aspect=12)
    bar.set_label("$S^z$")
    bar.set_ticks([-1, 0, 1])
    return bar


def parity(axes: Axes, exact: NDArray[Any], predicted: NDArray[Any], unit: str = "$t$") -> Any:
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


def level_density(
    axes: Axes, eigenvalues: NDArray[Any], chemical_potential: float, n_bins: int = 80
) -> Axes:
    """Histogram of one-electron levels, normalised to one; those up to mu are filled in blue."""
    density, edges = np.histogram(np.ravel(eigenvalues), n_bins, density=True)
    n_filled = int(np.searchsorted(edges, chemical_potential))
    axes.stairs(density, edges, fill=True, color="0.75")
    axes.stairs(density[:n_filled], edges[: n_filled + 1], fill=True, color="C0")
    axes.axvline(chemical_potential, color="C3", lw=1)
    axes.annotate(
        r"$\mu$", (chemical_potential, 1), xycoords=("data", "axes fraction"), xytext=(3, -3),
        textcoords="offset points", ha="left", va="top", color="C3",
    )  # fmt: skip
    axes.set(xlabel=r"$\epsilon$ ($t$)", ylabel=r"density of states (1/$t$)")
    return axes


def training_history(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss, and transverse R² of what is held out, against the epoch; name -> records."""
    figure, (left, right) = panels(1, 2)
    for name, history in histories.items():
        epochs = [row["epoch"] for row in history]
        left.semilogy(epochs, [row["loss"] for row in history], ".-", label=name)
        right.plot(epochs, [row.get("torque_r2", np.nan) for row in history], ".-", label=name)
    left.set(xlabel="epoch", ylabel="training loss")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="epoch", ylabel="transverse $R^2$, held-out quench", ylim=(0, 1))
    left.legend()
    return figure


def learning_curves(axes: Axes, curve: Mapping[int, Any], floor: float) -> Axes:
    """Transverse mean square error by stage against the number of snapshots, and a floor.

    ``curve`` maps numbers of snapshots to errors by stage (:func:`sdml.evaluation.stage_errors`).
    """
    numbers = sorted(curve)
    for stage in curve[numbers[-1]]:
        axes.loglog(numbers, [curve[n][stage]["torque_mse"] for n in numbers], "o-", label=stage)
    axes.axhline(floor, color="0.5", ls="--", lw=0.8, label="floor, random states")
    axes.set(xlabel="snapshots learned", ylabel="transverse MSE ($t^2$)")
    low, high = axes.get_ylim()
    axes.set_ylim(top=high * (high / low) ** 0.45)  # room for the legend
    axes.legend(fontsize="x-small", ncols=2, loc="upper center")
    return axes


def twin_runs(axes: Axes, runs: Sequence[Mapping[str, Any]], column: str) -> Axes:
    """One observable of the same quenches by exact fields and by a force field.

    ``runs`` are the entries of data/reference/twins_*.json; bars are standard errors over them.
    """
    for kind, style in (("exact", "k--"), ("force field", "C0o-")):
        values = np.array([run[kind][column] for run in runs])
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        axes.errorbar(runs[0]["time"], values.mean(0), error, fmt=style, ms=3, label=kind)
    axes.set_xlabel(r"time ($\hbar/t$)")
    return axes


def droplet_energies(axes: Axes, energies: Any, limits: Mapping[str, float]) -> Axes:
    """Energy per hole of droplets, a Series by number of holes, and named limits, in t."""
    axes.plot(energies.index, energies, "o-", label="droplet")
    for k, (label, value) in enumerate(limits.items()):
        axes.axhline(value, color=f"C{k + 1}", ls="--", lw=0.9, label=label)
    axes.set(xlabel="holes in the droplet", ylabel="energy per hole ($t$)")
    axes.legend(fontsize="x-small")
    return axes


def separation_energies(axes: Axes, rows: Sequence[Mapping[str, Any]], alone: float) -> Axes:
    """Energy per hole of two polarons against their distance, and of one alone.

    ``rows`` are the separations of data/reference/polarons.json.
    """
    distance = np.linalg.norm([row["displacement"] for row in rows], axis=1)
    axes.plot(distance, [row["energy_per_hole"] for row in rows], "o", ms=3)
    axes.axhline(alone, color="0.5", ls="--", lw=0.9, label="one alone")
    axes.set(xlabel="distance of two polarons (sites)", ylabel="energy per hole ($t$)")
    axes.legend(fontsize="x-small")
    return axes


def estimates(axes: Axes, x: Any, found: Sequence[Any]) -> Axes:
    """Values with their intervals (:class:`growth.Estimate`) as a line in a band."""
    low, high = np.transpose([estimate.interval for estimate in found])
    axes.plot(x, [estimate.value for estimate in found], "o-", ms=3)
    axes.fill_between(x, low, high, alpha=0.2, lw=0)
    return axes


def figure_of(draw: Callable[..., Any], *arrays: Any, title: str = "") -> Figure:
    """A figure with one panel on which ``draw(axes, *arrays)`` has drawn, for frame players."""
    figure, (axes,) = panels(1, 1, height=3.0)
    draw(axes, *arrays)
    axes.set_title(title)
    return figure


def convergence(
    axes: Axes, n_moments: Sequence[int], errors: Mapping[str, Sequence[tuple[float, float]]]
) -> Axes:
    """Errors of the field and of the energy per site, in t, of a series by its length.

    ``errors`` holds for every case the pair of them at every length.
    """
    for k, (name, found) in enumerate(errors.items()):
        field, energy = np.transpose(found)
        style = {"color": f"C{k}", "marker": MARKERS[k], "ms": 4}
        axes.semilogy(n_moments, field, **style, label=name)
        axes.semilogy(n_moments, energy, **style, ls="--", mfc="w")
    axes.plot([], [], "o-", ms=4, color="0.5", label="field, rms of a component")
    axes.plot([], [], "o--", ms=4, color="0.5", mfc="w", label="energy per site")
    axes.set(xlabel="Chebyshev moments", ylabel="error ($t$)")
    low, high = axes.get_ylim()
    axes.set_ylim(top=high * (high / low) ** 0.28)  # room for the legend
    axes.legend(fontsize="x-small", loc="upper right")
    return axes


def probing_errors(
    axes: Axes, n_probes: Sequence[int], errors: Mapping[str, Sequence[float]], n_exact: int
) -> Axes:
    """Relative errors by method against the number of vectors, of which ``n_exact`` are exact."""
    for marker, (name, found) in zip(MARKERS, errors.items(), strict=False):
        axes.loglog(n_probes, found, marker=marker, ms=4, label=name)
    axes.axhline(1, color="0.5", lw=0.6)
    axes.axvline(n_exact, color="0.5", ls="--", lw=0.8)
    axes.annotate(
        "exact", (n_exact, 1), xycoords=("data", "axes fraction"), xytext=(-2, -3), rotation=90,
        textcoords="offset points", ha="right", va="top", fontsize="x-small", color="0.4",
    )  # fmt: skip
    axes.set(xlabel="probing vectors", ylabel="relative error, transverse field")
    axes.set_xticks([*n_probes, n_exact])
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize="x-small", loc="lower left")
    return axes


def power_law(axes: Axes, x: NDArray[Any], y: Sequence[float], power: float) -> Axes:
    """A thin grey line of the given slope below the last three points, named in the middle."""
    line = 0.4 * y[-1] * (x[-3:] / x[-1]) ** power
    axes.plot(x[-3:], line, color="0.6", lw=0.8, zorder=0)
    axes.annotate(
        f"$N^{power:g}$" if power != 1 else "$N$", (x[-3:][1], line[1]), xytext=(3, -2),
        textcoords="offset points", ha="left", va="top", fontsize="x-small", color="0.4",
    )  # fmt: skip
    return axes


def relative_changes(axes: Axes, changes: Mapping[str, Any], tolerance: float) -> Axes:
    """Relative changes by operation, one column of ``changes`` a descriptor, and a tolerance."""
    markers = ("o", "^", "x")
    for shift, (name, column) in enumerate(changes.items()):
        # Zeros are drawn at the lower edge.
        values, place = np.maximum(column, 1e-17), np.arange(len(column)) + 0.2 * (shift - 1)
        axes.semilogy(place, values, markers[shift % 3], color=f"C{shift}", ms=4, label=name)
    axes.axhline(1, color="0.5", lw=0.6, zorder=0)
    axes.axhline(tolerance, color="0.5", lw=0.8, ls="--", label="tolerance")
    axes.set_xticks(np.arange(len(column)), column.index, rotation=90)
    axes.set(ylabel="largest relative change", ylim=(3e-18, 300))
    axes.set_yticks([1e-15, 1e-10, 1e-5, 1])
    return axes


def distances(above: Axes, below: Axes, table: Any) -> Axes:
    """Columns of a DataFrame, zero but for rounding the first, on one broken logarithmic scale."""
    for k, (name, column) in enumerate(table.items()):
        style = {"marker": MARKERS[k], "ls": "none", "ms": 3.5, "color": f"C{k}", "label": name}
        place = np.arange(len(column)) + 0.2 * (k - 2) * (k > 0)
        for axes in (above, below):
            axes.semilogy(place, column, **style)
    above.set(ylim=(3e-3, 300), yticks=[1e-2, 1, 1e2], ylabel="distance from start", xticks=[])
    below.set(ylim=(1e-17, 1e-14), yticks=[1e-16])
    for axes in (above, below):
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.6, len(table) - 0.4)
    below.set_xticks(np.arange(len(table)), table.index, rotation=90)
    above.spines["bottom"].set_visible(False)
    below.spines["top"].set_visible(False)
    above.legend(fontsize="x-small", ncols=2, loc="upper center", columnspacing=1)
    return above


def locality_floors(axes: Axes, floors: Any) -> Axes:
    """Floors of the transverse field of one model against the cutoff.

    ``floors`` is a DataFrame with rows of data/reference/locality.json: mean squares per component,
    t^2. Colour is the kind of states; full symbols and lines are the higher of two electron
    temperatures, open symbols and dashed lines the lower; squares are at fixed filling; the dotted
    lines are mean square fields. The legend of the axes names all but the colours and squares.
    """
    model, warm = floors.case.iloc[0].split("-")[0], floors.case.max()
    for (case, states, ensemble), rows in floors.groupby(["case", "states", "ensemble"]):
        color = {"random": "C0", "quench": "C1"}[states]
        filling = ensemble == "finite"
        fixed = "filling" if filling else r"$\mu$"
        if case == warm and not filling:
            axes.axhline(rows.signal.iloc[0], color=color, ls=":", lw=0.8, zorder=0)
        axes.errorbar(
            rows.radius + 0.1 * filling, rows.floor, rows.floor_error, color=color, lw=1, ms=4,
            marker="s" if filling else "o", mfc=color if case == warm else "w",
            ls="none" if filling else "-" if case == warm else "--",
            label=f"{states}, fixed {fixed}" if case == warm else None,
        )  # fmt: skip
    axes.set(yscale="log", title=model, ylabel="unknown mean square field ($t^2$)")
    axes.set(xlabel=r"cutoff $r_c$ (lattice constants)")
    axes.add_artist(_floor_legend(axes, [case.split("-")[1] for case in floors.case.unique()]))
    return axes


def _floor_legend(axes: Axes, temperatures: Sequence[str]) -> Legend:
    """What lines and symbols mean, in grey."""
    ordered = sorted(temperatures, key=float, reverse=True)
    lines = [
        Line2D(
            [], [], color="0.4", lw=1, ls=ls, marker="o", ms=4, mfc=face, label=f"$k_BT={kT}\\,t$"
        )
        for kT, ls, face in zip(ordered, ("-", "--"), ("0.4", "w"), strict=False)
    ]
    lines.append(Line2D([], [], color="0.4", ls=":", lw=0.8, label="mean square field"))
    names = [str(line.get_label()) for line in lines]
    return Legend(axes, lines, names, fontsize="x-small", loc="upper right", ncols=2)


def error_band(axes: Axes, low: float, high: float, label: str) -> Axes:
    """A grey band across the axes, named at its left end."""
    axes.axhspan(low, high, color="0.88", zorder=0)
    axes.text(0.02, (low * high) ** 0.5, label, transform=axes.get_yaxis_transform(), va="center",
              fontsize="x-small", color="0.25")  # fmt: skip
    return axes
