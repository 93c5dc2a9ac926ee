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
from matplotlib.ticker import MaxNLocator
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


def correlation_map(axes: Axes, lattice: Lattice, correlation: NDArray[Any]) -> PolyCollection:
    """Mean S_i . S_j of a site with its neighbours on a diverging scale, -1 to 1."""
    return site_map(axes, lattice, correlation, cmap=DIVERGING, clim=(-1, 1))


def density_map(axes: Axes, lattice: Lattice, density: NDArray[Any]) -> PolyCollection:
    """Electrons per site on a sequential scale, holes dark."""
    return site_map(axes, lattice, density, cmap="magma", clim=(0.4, 1.05))


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
    )
    axes.plot(0, 0, "k+")
    _bare(axes, title)
    return artist


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
    axes.plot(place, before, "o", ms=5.5, mfc="w", mec="0.4", label="before")
    axes.plot(place, after, "o", ms=2.8, color="C3", label="after")
    axes.set_xticks(place, names, rotation=90, fontsize="x-small")
    axes.set(ylabel=ylabel)
    axes.margins(x=0.02)
    return axes


def descriptor_change(
    axes: Sequence[Axes], vectors: NDArray[np.float64], before: Any, after: Any, title: str = ""
) -> Any:
    """A row of :func:`change_panels`: spins, covariant and invariant numbers before and after.

    ``before`` and ``after`` are two :class:`sdml.widgets.View`.
    """
    spins_around(axes[0], vectors, before.spins, "before")
    arrows = spins_around(axes[1], vectors, after.spins, title or "after")
    names = before.covariant_names
    before_and_after(axes[2], before.covariants, after.covariants, names, "coefficient")
    names = before.feature_names
    before_and_after(axes[3], before.centre_features, after.centre_features, names, "feature")
    change = np.abs(after.features - before.features).max()
    axes[2].set_title("irrep coefficients of the centre bonds")
    axes[3].set_title(f"features; largest change of all {len(before.features)}: {change:.1g}")
    axes[2].legend(fontsize="x-small", ncols=2, loc="upper center")
    for panel in axes[2:4]:
        panel.margins(y=0.2)
    return arrows


def change_panels(rows: int) -> tuple[Figure, Any]:
    """A figure with rows of four panels for :func:`descriptor_change`; axes (rows, 4)."""
    widths = (1, 1, 1.6, 1.8)
    size = (11.0, 2.5 * rows)
    return plt.subplots(rows, 4, figsize=size, squeeze=False, width_ratios=widths)


def descriptor_figure(vectors: NDArray[np.float64], before: Any, after: Any) -> Figure:
    """A new figure of :func:`descriptor_change`, for the explorer."""
    figure, axes = change_panels(1)
    arrows = descriptor_change(axes[0], vectors, before, after)
    figure.colorbar(arrows, ax=axes[0, 0], label="$S^z$", location="left")
    return figure


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
    axes.set(xlabel="holes in the droplet", ylabel="energy per hole (t)")
    axes.legend(fontsize="x-small")
    return axes


def separation_energies(axes: Axes, rows: Sequence[Mapping[str, Any]], alone: float) -> Axes:
    """Energy per hole of two polarons against their distance, and of one alone.

    ``rows`` are the separations of data/reference/polarons.json.
    """
    distance = np.linalg.norm([row["displacement"] for row in rows], axis=1)
    axes.plot(distance, [row["energy_per_hole"] for row in rows], "o", ms=3)
    axes.axhline(alone, color="0.5", ls="--", lw=0.9)
    axes.set(xlabel="distance of two polarons", ylabel="energy per hole (t)")
    return axes


def estimates(axes: Axes, x: Any, found: Sequence[Any]) -> Axes:
    """Values with their intervals (:class:`sdml.growth.Estimate`) as a line in a band."""
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


def relative_changes(axes: Axes, changes: Mapping[str, Any], tolerance: float) -> Axes:
    """Relative changes by operation, one column of ``changes`` a descriptor, and a tolerance."""
    markers = ("o", "^", "x")
    for shift, (name, column) in enumerate(changes.items()):
        # Zeros are drawn at the lower edge.
        values, place = np.maximum(column, 1e-17), np.arange(len(column)) + 0.2 * (shift - 1)
        axes.semilogy(place, values, markers[shift % 3], color=f"C{shift}", ms=4, label=name)
    axes.axhline(tolerance, color="0.5", lw=0.8, ls="--")
    axes.set_xticks(np.arange(len(column)), column.index, rotation=90)
    axes.set(ylabel="largest relative change", ylim=(3e-18, 30))
    return axes


def locality_floors(axes: Axes, floors: Any) -> Axes:
    """Floors of the transverse field of one model against the cutoff.

    ``floors`` is a DataFrame with rows of data/reference/locality.json: mean squares per component,
    t^2. Colour is the kind of states; full symbols and lines are the higher of two electron
    temperatures, open symbols and dashed lines the lower; squares are at fixed filling; the dotted
    lines are mean square fields.
    """
    model, warm = floors.case.iloc[0].split("-")[0], floors.case.max()
    temperatures = {case.split("-")[1]: case == warm for case in floors.case}
    for (case, states, ensemble), rows in floors.groupby(["case", "states", "ensemble"]):
        color = {"random": "C0", "quench": "C1"}[states]
        filling = ensemble == "finite"
        if case == warm and not filling:
            axes.axhline(rows.signal.iloc[0], color=color, ls=":", lw=1)
        axes.errorbar(
            rows.radius + 0.1 * filling, rows.floor, rows.floor_error, color=color, lw=1, ms=4,
            marker="s" if filling else "o", mfc=color if case == warm else "w",
            ls="none" if filling else "-" if case == warm else "--",
            label=f"{states}, fixed {'filling' if filling else 'µ'}" if case == warm else None,
        )  # fmt: skip
    cases = [f"{kT} ({'full' if hot else 'open'})" for kT, hot in temperatures.items()]
    axes.set(yscale="log", title=f"{model}, $k_BT/t$ = {', '.join(cases)}")
    axes.set(xlabel=r"cutoff $r_c$ (lattice constants)")
    axes.set_ylabel("unknown mean square field ($t^2$)")
    return axes


def error_band(axes: Axes, low: float, high: float, label: str) -> Axes:
    """A grey band across the axes, named at its left end."""
    axes.axhspan(low, high, color="0.88", zorder=0)
    axes.text(0.02, (low * high) ** 0.5, label, transform=axes.get_yaxis_transform(), va="center",
              fontsize="x-small", color="0.25")  # fmt: skip
    return axes
