"""Diagrams of single notebooks on given axes: electrons, descriptors, force fields, energies.

Arrays and tables in, axes out; no physics is computed here.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from sdml.plotting.maps import environment, spins_around
from sdml.plotting.style import MARKERS, PAGE_WIDTH, SEQUENTIAL, Style, lettered_rows, panels

__all__ = [
    "convergence",
    "descriptor_figure",
    "distances",
    "droplet_energies",
    "error_histogram",
    "learning_curves",
    "level_density",
    "locality_floors",
    "method_figure",
    "parity",
    "parity_figure",
    "probing_errors",
    "relative_changes",
    "separation_energies",
    "training_history",
]

FloatArray = NDArray[np.float64]
REFERENCE: Style = {"color": "0.5", "lw": 0.8}
"""A thin grey line to compare with."""
ARROW: Style = {"arrowstyle": "-|>", "color": "0.3"}

# --- electrons


def level_density(axes: Axes, eigenvalues: NDArray[Any], chemical_potential: float) -> Axes:
    """Histogram of one-electron levels, normalized to one; those up to mu are filled in blue."""
    density, edges = np.histogram(np.ravel(eigenvalues), bins=80, density=True)
    n_filled = int(np.searchsorted(edges, chemical_potential))
    axes.stairs(density, edges, fill=True, color="0.75")
    axes.stairs(density[:n_filled], edges[: n_filled + 1], fill=True, color="C0")
    axes.axvline(chemical_potential, color="C3", lw=1)
    style: Style = {"xycoords": ("data", "axes fraction"), "ha": "left", "va": "top", "color": "C3"}
    axes.annotate(r"$\mu$", (chemical_potential, 1), (3, -3), textcoords="offset points", **style)
    axes.set(xlabel=r"$\epsilon$ ($t$)", ylabel=r"density of states (1/$t$)")
    return axes


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
    _raise_top(axes, 0.28)
    axes.legend(fontsize="x-small", loc="upper right")
    return axes


def _raise_top(axes: Axes, share: float) -> None:
    """Room for the legend: a logarithmic axis is made longer by ``share`` of its length."""
    low, high = axes.get_ylim()
    axes.set_ylim(top=high * (high / low) ** share)


def probing_errors(
    axes: Axes, n_probes: Sequence[int], errors: Mapping[str, Sequence[float]], n_exact: int
) -> Axes:
    """Relative errors by method against the number of vectors, of which ``n_exact`` are exact."""
    for marker, (name, found) in zip(MARKERS, errors.items(), strict=False):
        axes.loglog(n_probes, found, marker=marker, ms=4, label=name)
    axes.axhline(1, color="0.5", lw=0.6)
    axes.axvline(n_exact, ls="--", **REFERENCE)
    style: Style = {"rotation": 90, "ha": "right", "va": "top", "fontsize": "x-small"}
    style |= {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate("exact", (n_exact, 1), (-2, -3), color="0.4", **style)
    axes.set(xlabel="probing vectors", ylabel="relative error, transverse field")
    axes.set(xticks=[*n_probes, n_exact], yticks=[0.1, 0.2, 0.5, 1, 2, 5, 10])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize="x-small", loc="lower left")
    return axes


# --- descriptors


def method_figure(
    vectors: FloatArray, spins: FloatArray, orbit: FloatArray, basis: Mapping[str, Any]
) -> Figure:
    """The method in five steps: environment, variables, irreps, network, energy and field.

    ``vectors`` (K, 2) lead to the sites around a center, ``spins`` (1 + K, 3) belong to both, the
    first sites make an ``orbit`` (k, 2); ``basis`` is that of :func:`sdml.symmetry.irrep_basis`.
    """
    figure, (axes,) = lettered_rows((5,), (1.9,))
    spins_around(axes[0], vectors, spins)
    environment(axes[1], vectors, spins[1:] @ spins[0], limit=1)
    for k, (name, copies) in enumerate(basis.items()):
        inset = axes[2].inset_axes((0.5 * (k % 2), 0.55 - 0.5 * (k // 2), 0.45, 0.4))
        shown = environment(inset, orbit, copies[0][0], limit=0.7)
        shown.set_sizes([40])
        inset.set_title(f"${name[0]}_{name[1:]}$", fontsize="small", pad=1)
    axes[2].set_axis_off()
    _network(axes[3], (5, 4, 3, 1))
    axes[4].set_axis_off()
    field = r"$\mathbf{h}_i=-\partial E/\partial\mathbf{S}_i$" + "\nautomatic\ndifferentiation"
    axes[4].text(0.5, 0.5, r"$E=\sum_i\,\varepsilon_i$" + "\n\n" + field, ha="center", va="center")
    texts = (
        "spins around a site",
        r"$\mathbf{S}_j\cdot\mathbf{S}_k$, $\mathbf{S}_i\cdot\mathbf{S}_j\times\mathbf{S}_k$",
        r"irreps $f^\Gamma_r$: $|f^\Gamma_r|^2$, $\eta^\Gamma_r$",
        r"network: $\varepsilon_i$ of a site",
        "energy and field",
    )
    for panel, text in zip(axes, texts, strict=True):
        place: Style = {"xycoords": ("axes fraction", "subfigure fraction"), "ha": "center"}
        panel.annotate(text, (0.5, 0.02), **place)
    for panel in axes[:-1]:
        panel.annotate("", (1.11, 0.5), (1.01, 0.5), xycoords="axes fraction", arrowprops=ARROW)
    return figure


def _network(axes: Axes, widths: Sequence[int]) -> None:
    """Layers of nodes, all joined to those of the next."""
    layers = [
        np.stack([np.full(n, float(x)), np.arange(n) - (n - 1) / 2], axis=1)
        for x, n in enumerate(widths)
    ]
    for left, right in pairwise(layers):
        for start in left:
            for end in right:
                axes.plot(*np.transpose([start, end]), **REFERENCE)
    axes.plot(*np.concatenate(layers).T, "o", ms=7, color="C0", clip_on=False)
    axes.set_axis_off()


def descriptor_figure(
    vectors: FloatArray, before: Any, *after: Any, titles: Sequence[str] = ("after",)
) -> Figure:
    """Spins, covariant and invariant numbers before and after changes, a row for each change.

    Parameters
    ----------
    vectors : (K, 2)
        From the center to the sites of its environment.
    before, *after : :class:`sdml.plotting.widgets.View`
        What a descriptor sees from the center.
    titles : n names
        Of the changes.
    """
    figure = plt.figure(figsize=(PAGE_WIDTH, 2.7 * len(after) + 0.5))
    grid = figure.add_gridspec(2 * len(after), 3, width_ratios=(1.3, 1.9, 2.3))
    for k, (view, title) in enumerate(zip(after, titles, strict=True)):
        rows = slice(2 * k, 2 * k + 2)
        places = [grid[2 * k, 0], grid[2 * k + 1, 0], grid[rows, 1], grid[rows, 2]]
        axes = [figure.add_subplot(place) for place in places]
        spins_around(axes[0], vectors, before.spins, "before")
        arrows = spins_around(axes[1], vectors, view.spins, title)
        _moved(axes[2], before.covariants, view.covariants, before.covariant_names)
        _moved(axes[3], before.center_features, view.center_features, before.feature_names)
        change = _two_digits(np.abs(view.features - before.features).max())
        axes[2].set(title="coefficients, center bonds", ylabel="coefficient")
        all_of_them = f"largest change of all {len(before.features)}: {change}"
        axes[3].set(title=all_of_them, ylabel="feature")
        axes[2].legend(fontsize="small", ncols=2, loc="upper center")
        for panel in axes[2:]:
            panel.tick_params(labelbottom=view is after[-1])
    place: Style = {"location": "bottom", "shrink": 0.8, "aspect": 12}
    figure.colorbar(arrows, ax=axes[1], label="$S^z$", ticks=[-1, 0, 1], **place)
    return figure


def _moved(axes: Axes, before: FloatArray, after: FloatArray, names: Sequence[str]) -> None:
    """Named numbers, open circles before and dots after a change, joined where they moved."""
    place = np.arange(len(before))
    axes.vlines(place, before, after, color="0.6", lw=0.8)
    axes.plot(place, before, "o", ms=5, mfc="w", mec="0.4", label="before")
    axes.plot(place, after, "o", ms=2.6, color="C3", label="after")
    axes.set_xticks(place, names, rotation=90, fontsize="x-small")
    axes.margins(x=0.03, y=0.2)


def _two_digits(value: float) -> str:
    """0.12, 1.0 or 1.2e-15, the last as a power of ten."""
    mantissa, exponent = f"{value:.1e}".split("e")
    if abs(int(exponent)) < 3:
        return f"{value:#.2g}"
    return rf"${mantissa}\cdot10^{{{int(exponent)}}}$"


def relative_changes(axes: Axes, changes: Mapping[str, Any], tolerance: float) -> Axes:
    """Relative changes by operation, one column of ``changes`` a descriptor, and a tolerance."""
    markers = ("o", "^", "x")
    for shift, (name, column) in enumerate(changes.items()):
        # Zeros are drawn at the lower edge.
        values, place = np.maximum(column, 1e-17), np.arange(len(column)) + 0.2 * (shift - 1)
        axes.semilogy(place, values, markers[shift % 3], color=f"C{shift}", ms=4, label=name)
    axes.axhline(1, color="0.5", lw=0.6, zorder=0)
    axes.axhline(tolerance, ls="--", label="tolerance", **REFERENCE)
    axes.set_xticks(np.arange(len(column)), column.index, rotation=90)
    axes.set(ylabel="largest relative change", ylim=(3e-18, 300), yticks=[1e-15, 1e-10, 1e-5, 1])
    return axes


def distances(above: Axes, below: Axes, table: Any) -> Axes:
    """Columns of a DataFrame, zero but for rounding the first, on one broken logarithmic scale."""
    for axes in (above, below):
        for k, (name, column) in enumerate(table.items()):
            place = np.arange(len(column)) + 0.2 * (k - 2) * (k > 0)
            axes.semilogy(place, column, MARKERS[k], ms=3.5, color=f"C{k}", label=name)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.6, len(table) - 0.4)
    above.set(ylim=(3e-3, 300), yticks=[1e-2, 1, 1e2], ylabel="distance from start", xticks=[])
    below.set(ylim=(1e-17, 1e-14), yticks=[1e-16])
    below.set_xticks(np.arange(len(table)), table.index, rotation=90)
    above.spines["bottom"].set_visible(False)
    below.spines["top"].set_visible(False)
    above.legend(fontsize="x-small", ncols=2, loc="upper center", columnspacing=1)
    return above


# --- force fields


def locality_floors(axes: Axes, floors: Any) -> Axes:
    """Floors of the transverse field of one model against the cutoff.

    ``floors`` is a DataFrame with rows of data/reference/locality.json: mean squares per component,
    t^2. Color is the kind of states; full symbols and lines are the higher of two electron
    temperatures, open symbols and dashed lines the lower; squares are at fixed filling; the dotted
    lines are mean square fields. The legend of the axes names all but the colors and squares.
    """
    model, warm = floors.case.iloc[0].split("-")[0], floors.case.max()
    for (case, states, ensemble), rows in floors.groupby(["case", "states", "ensemble"]):
        color = {"random": "C0", "quench": "C1"}[states]
        filling, is_warm = ensemble == "finite", case == warm
        fixed, marker = ("filling", "s") if filling else (r"$\mu$", "o")
        label, line = (f"{states}, fixed {fixed}", "-") if is_warm else (None, "--")
        if is_warm and not filling:
            axes.axhline(rows.signal.iloc[0], color=color, ls=":", lw=0.8, zorder=0)
        style: Style = {"marker": marker, "ms": 4, "mfc": color if is_warm else "w", "lw": 1}
        style |= {"color": color, "ls": "none" if filling else line, "label": label}
        axes.errorbar(rows.radius + 0.1 * filling, rows.floor, rows.floor_error, **style)
    axes.set(yscale="log", title=model, ylabel="unknown mean square of a component ($t^2$)")
    axes.set(xlabel=r"cutoff $r_c$ (lattice constants)")
    axes.add_artist(_floor_legend(axes, [case.split("-")[1] for case in floors.case.unique()]))
    return axes


def _floor_legend(axes: Axes, temperatures: Sequence[str]) -> Legend:
    """What lines and symbols mean, in grey."""
    ordered = sorted(temperatures, key=float, reverse=True)
    lines = [
        Line2D([], [], c="0.4", lw=1, ls=ls, marker="o", ms=4, mfc=face, label=f"$k_BT={kT}\\,t$")
        for kT, ls, face in zip(ordered, ("-", "--"), ("0.4", "w"), strict=False)
    ]
    lines.append(Line2D([], [], color="0.4", ls=":", lw=0.8, label="mean square field"))
    names = [str(line.get_label()) for line in lines]
    return Legend(axes, lines, names, fontsize="x-small", loc="upper right", ncols=2)


def training_history(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss, and transverse R² of what is held out, against the epoch; name -> records."""
    figure, (left, right) = panels(1, 2)
    for name, history in histories.items():
        epochs = [row["epoch"] for row in history]
        left.semilogy(epochs, [row["loss"] for row in history], ".-", label=name)
        right.plot(epochs, [row.get("torque_r2", np.nan) for row in history], ".-", label=name)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="transverse $R^2$, held-out quench", ylim=(0, 1))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend()
    return figure


def learning_curves(axes: Axes, curve: Mapping[int, Any], floor: float) -> Axes:
    """Transverse mean square error by stage against the number of snapshots, and a floor.

    ``curve`` maps numbers of snapshots to errors by stage (:func:`sdml.evaluation.stage_errors`):
    the pooled ones, then those of random states, in whose color their floor is drawn.
    """
    numbers = sorted(curve)
    for stage in curve[numbers[-1]]:
        axes.loglog(numbers, [curve[n][stage]["torque_mse"] for n in numbers], "o-", label=stage)
    axes.axhline(floor, ls="--", lw=0.8, color=axes.lines[1].get_color(), label="floor of random")
    axes.set(xlabel="snapshots learned", ylabel="transverse MSE ($t^2$)")
    _raise_top(axes, 0.45)
    axes.legend(fontsize="x-small", ncols=2, loc="upper center")
    return axes


def parity_figure(cases: Mapping[str, tuple[FloatArray, FloatArray]], columns: int = 4) -> Figure:
    """:func:`parity` panels by name, each on its own scale."""
    figure, axes = panels(-(-len(cases) // columns), columns, height=2.4, width=2.5)
    for panel, (name, pair) in zip(axes, cases.items(), strict=False):
        parity(panel, *pair).set_title(name)
    for panel in axes[len(cases) :]:
        panel.set_axis_off()
    return figure


def parity(axes: Axes, exact: FloatArray, predicted: FloatArray) -> Axes:
    """Predicted against exact components in t, with R^2 and mean square error per component.

    Color is the logarithm of the number of components, from few (dark) to many (bright); the line
    is the diagonal.
    """
    dots: Style = {"bins": "log", "gridsize": 60, "cmap": SEQUENTIAL, "linewidths": 0, "mincnt": 1}
    ends = tuple(np.percentile(exact, [0.05, 99.95]))
    axes.hexbin(np.ravel(exact), np.ravel(predicted), extent=ends + ends, **dots)
    axes.plot(ends, ends, color="0.3", lw=0.8)
    axes.set(aspect="equal", xlabel="exact ($t$)", ylabel="network ($t$)", xlim=ends, ylim=ends)
    axes.locator_params(nbins=3)
    axes.tick_params(labelsize="small")
    error = ((predicted - exact) ** 2).mean()
    text = f"$R^2$ = {1 - error / exact.var():.3f}\nMSE = {_two_digits(error)}"
    axes.text(0.03, 0.97, text, va="top", fontsize="xx-small", transform=axes.transAxes)
    return axes


def error_histogram(axes: Axes, errors: Mapping[str, FloatArray]) -> Axes:
    """Distribution of errors (in t) by name, on one logarithmic scale."""
    width = 4 * max(float(np.std(values)) for values in errors.values())
    for name, values in errors.items():
        bins = np.linspace(-width, width, 61).tolist()
        axes.hist(np.ravel(values), bins, density=True, histtype="step", label=name)
    axes.set(yscale="log", xlabel="error ($t$)", ylabel="density ($1/t$)")
    axes.locator_params("x", nbins=3)
    axes.tick_params(labelsize="small")
    return axes


# --- polarons


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
