"""Explorers of the physics, each a figure for the page and the controls that redraw it.

The figures draw given arrays; the widgets choose what is computed, and are None in a batch run.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sdml import observables
from sdml import spins as spin_arrays
from sdml.bands import Spectrum, spectral_function, spectrum
from sdml.dynamics import LandauLifshitz, trajectory
from sdml.forcefield import ForceField
from sdml.lattice import Lattice
from sdml.model import SDModel
from sdml.plotting import maps, style
from sdml.plotting.widgets import BATCH, picture, player, show

__all__ = [
    "course_figure",
    "hamiltonian_explorer",
    "live_quench",
    "map_player",
    "short_quench",
    "spectrum_figure",
]

FloatArray = NDArray[np.float64]


# --- frames of a run


def map_player(
    draw: Callable[..., Any], lattice: Lattice, values: FloatArray, times: FloatArray
) -> Any:
    """A :func:`player` of maps: ``draw(axes, lattice, values[k])`` of frames (T, N).

    ``times`` (T,) in hbar / t are those of the slider and of the titles.
    """

    def drawn(k: int) -> Figure:
        figure, (axes,) = style.panels(1, 1, height=3.0)
        draw(axes, lattice, values[k])
        axes.set_title(f"$t$ = {times[k]:g} $\\hbar/t$")
        return figure

    return player(drawn, times)


# --- electrons


def spectrum_figure(found: Spectrum) -> Figure:
    """Spins, bands, levels and local fields of a :class:`sdml.bands.Spectrum`, four panels."""
    figure = plt.figure(figsize=(style.PAGE_WIDTH, 5.2))
    # A fixed layout: to find one takes as long as all the rest of a redraw. Set here, for a figure
    # made without one is given that of the style when it is saved.
    figure.set_layout_engine("none")
    area = {"left": 0.1, "right": 0.98, "wspace": 0.1}
    above = figure.add_gridspec(1, 2, width_ratios=(2.6, 1), bottom=0.56, top=0.94, **area)
    area["wspace"] = 0.5
    below = figure.add_gridspec(1, 2, width_ratios=(1.3, 1), bottom=0.09, top=0.46, **area)
    axes = [figure.add_subplot(place) for place in (below[0], above[0], above[1], below[1])]
    state, model = found.state, found.model
    arrows = _spin_map(axes[0], model.lattice, found.spins)
    figure.colorbar(arrows, ax=axes[0], label="$S^z$", ticks=[-1, 0, 1], aspect=15, pad=0.03)
    per_site = f"{state.energy / model.lattice.n_sites:.4f}".replace("-", "−")
    _bands(axes[1], found)
    axes[1].set_title(
        f"$J = {model.exchange_coupling:g}\\,t$, filling {model.filling:g}: "
        f"energy {per_site} $t$ per site"
    )
    _sideways_levels(axes[2], state.eigenvalues, state.chemical_potential)
    axes[2].set(ylim=axes[1].get_ylim(), yticklabels=[])
    along = (state.local_field * found.spins).sum(-1)
    across = np.linalg.norm(spin_arrays.transverse(found.spins, state.local_field), axis=-1)
    _fields(axes[3], along, across)
    return figure


def _spin_map(axes: Axes, lattice: Lattice, spins: FloatArray) -> Any:
    """Spins (N, 3) on their sites: arrows for x and y, color for z."""
    places = maps.wrapped_positions(lattice)
    axes.scatter(places[:, 0], places[:, 1], s=7, color="0.7")
    artist = maps.arrows(axes, places, spins, scale=1.2, width=0.015)
    xlim, ylim = zip(places.min(0) - 0.7, places.max(0) + 0.7, strict=True)
    style.unframed(axes, xlim=xlim, ylim=ylim)
    return artist


def _bands(axes: Axes, found: Spectrum) -> None:
    """The spectral function along the path, from light to dark, and the chemical potential."""
    path, levels = found.path, found.state.eigenvalues
    energies = np.linspace(levels.min() - 0.4, levels.max() + 0.4, 160)
    width = 1.5 * (energies[1] - energies[0])
    shade = spectral_function(found, energies, width)
    axes.pcolorfast(path.distance, energies, np.sqrt(shade[:-1, :-1]), cmap="Greys")
    if np.isfinite(found.state.chemical_potential):
        axes.axhline(found.state.chemical_potential, color="C3", lw=1)
    for tick in path.ticks:
        axes.axvline(tick, color="0.7", lw=0.6)
    axes.set_xticks(path.ticks, path.labels)
    axes.set(xlim=path.ticks[[0, -1]], ylim=energies[[0, -1]], ylabel=r"energy $\epsilon$ ($t$)")


def _sideways_levels(axes: Axes, levels: FloatArray, chemical_potential: float) -> None:
    """Density of levels against their energy upwards, filled up to the chemical potential."""
    edges = np.linspace(levels.min() - 0.1, levels.max() + 0.1, 80)
    density, _ = np.histogram(levels, edges, density=True)
    middle = (edges[:-1] + edges[1:]) / 2
    axes.fill_betweenx(middle, density, step="mid", color="0.8")
    occupied = middle <= chemical_potential
    axes.fill_betweenx(middle, density, where=occupied, step="mid", color="C0")
    if np.isfinite(chemical_potential):
        axes.axhline(chemical_potential, color="C3", lw=1)
        place: style.Style = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        place |= {"color": "C3", "ha": "right", "va": "bottom"}
        axes.annotate(r"$\mu$", (1, chemical_potential), (-2, 1), **place)
    axes.set(xlabel="levels (1/$t$)", xlim=(0, None))


def _fields(axes: Axes, along: FloatArray, across: FloatArray) -> None:
    """A dot for every site: the field across its spin against the field along it."""
    axes.plot(along, across, "o", ms=6, alpha=0.6, mew=0)
    axes.set(xlabel=r"field along, $\mathbf{h}\cdot\mathbf{S}$ ($t$)")
    axes.set(ylabel=r"field across, $|\mathbf{h}_\perp|$ ($t$)")
    reach = max(float(np.abs(along).max()), 1e-3)
    # What is zero but for rounding must look like zero.
    high = max(1.2 * float(across.max()), 0.1)
    axes.set(xlim=(min(0, 1.15 * float(along.min())), 1.15 * reach), ylim=(-0.1 * high, high))


def hamiltonian_explorer(
    draw: Callable[[Spectrum], Figure],
    cases: Mapping[str, tuple[Lattice, FloatArray]],
    exchange_coupling: float = 3.0,
    filling: float = 0.25,
    electron_kT: float = 0.0,
) -> Any:
    """Choose spins, exchange and filling, and see bands, levels, energy and fields.

    Parameters
    ----------
    draw : callable
        Spectrum -> a new figure.
    cases : mapping
        Name -> lattice and spins (N, 3) of one repeat. The time of a picture is that of
        :func:`sdml.bands.spectrum`: 36 sites are seen at once, 144 are not.
    exchange_coupling, filling, electron_kT : float
        At the start; in t, N_e / 2N, and in t.

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    texture = ipywidgets.Dropdown(options=list(cases), description="spins")
    coupling = _slider("J / t", exchange_coupling, 0, 10, 0.1)
    filled = _slider("filling", filling, 0, 1, 0.005)

    def drawn() -> Figure:
        lattice, spins = cases[texture.value]
        model = SDModel(lattice, coupling.value, filling=filled.value, electron_kT=electron_kT)
        return draw(spectrum(model, spins))

    controls = [texture, coupling, filled]
    return ipywidgets.VBox([ipywidgets.HBox(controls), picture(drawn, controls)])


# --- a quench

MEASURES = {
    "square": observables.site_correlation,
    "triangular": observables.site_chirality,
}
"""What is shown of every site: the order that the two stories of the paper are about."""
LOOKS = {
    "square": (maps.correlation_map, r"mean $S_i\cdot S_j$ of a site", r"S_i\cdot S_j"),
    "triangular": (maps.chirality_map, r"site chirality $\chi$", r"\chi"),
}
"""How the values of a course are drawn, what they are called, and their symbol."""


@dataclass(frozen=True)
class Course:
    """A quench so far.

    Attributes
    ----------
    lattice : Lattice
    spins : (N, 3) tensor
        The last ones, in the precision of the force field.
    values : (N,)
        Site chirality (triangular) or mean S_i . S_j with the neighbours (square) of the last ones.
    time : (T,)
        hbar / t.
    order : (T,)
        Mean of |values| over the sites.
    energy : (T,)
        Of the force field, t per site.
    """

    lattice: Lattice
    spins: Tensor
    values: FloatArray
    time: FloatArray
    order: FloatArray
    energy: FloatArray


def begun(field: ForceField, length: int, seed: int) -> Course:
    """Random spins on the ``length`` x ``length`` lattice of a force field, at time 0.

    Raises
    ------
    ValueError
        The force field is neither of a square nor of a triangular lattice.
    """
    if field.model.lattice.name not in MEASURES:
        kinds = sorted(MEASURES)
        raise ValueError(f"field: must be of one of {kinds}, got {field.model.lattice.name!r}")
    spins = torch.as_tensor(spin_arrays.random(length**2, seed)).to(field.dtype)
    return _seen(field, spins, 0.0)


def continued(
    course: Course,
    field: ForceField,
    equation: LandauLifshitz | Callable[[int], LandauLifshitz],
    n_steps: int = 5,
    rng: torch.Generator | None = None,
) -> Iterator[Course]:
    """The course after every ``n_steps`` steps more, without end, each with one more point.

    ``equation`` may be a function of the step, which is asked at each: damping and temperature can
    change on the way. ``rng`` makes the noise.

    Raises
    ------
    ValueError
        ``n_steps`` below 1.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps: must be at least 1, got {n_steps}")
    marks = count(n_steps, n_steps)
    dt = (equation(0) if callable(equation) else equation).dt
    begun = float(course.time[-1])
    for step, spins in trajectory(course.spins, field.field, equation, marks, rng):
        course = _seen(field, spins, begun + step * dt, course)
        yield course


def short_quench(
    field: ForceField,
    length: int,
    equation: LandauLifshitz,
    n_frames: int = 20,
    n_steps: int = 5,
    seed: int = 0,
) -> Course:
    """A course from random spins: ``n_frames`` times ``n_steps`` steps of ``equation``.

    ``seed`` gives the spins, and the noise where the equation has a temperature.
    """
    course, rng = begun(field, length, seed), torch.Generator().manual_seed(seed)
    *_, last = course, *islice(continued(course, field, equation, n_steps, rng), n_frames)
    return last


def _seen(field: ForceField, spins: Tensor, time: float, earlier: Course | None = None) -> Course:
    lattice = field.lattice_of(len(spins))
    values = MEASURES[lattice.name](lattice, spins).double().numpy()
    energy = float(field.energy(spins)) / lattice.n_sites
    now = {"time": time, "order": float(np.abs(values).mean()), "energy": energy}
    curves = {name: np.append(getattr(earlier, name, ()), value) for name, value in now.items()}
    return Course(lattice, spins, values, **curves)


def course_figure(course: Course) -> Figure:
    """The last map of a :class:`Course`, and its order and energy in time."""
    draw, name, symbol = LOOKS[course.lattice.name]
    figure, (left, middle, right) = style.panels(1, 3, height=2.4, width=2.9)
    artist: Any = draw(left, course.lattice, course.values)
    figure.colorbar(artist, ax=left, label=name, shrink=0.9)
    left.set_title(f"$t$ = {course.time[-1]:g} $\\hbar/t$")
    for panel, curve in ((middle, course.order), (right, course.energy)):
        panel.plot(course.time, curve, "o-", ms=3)
        panel.set_xlabel(style.TIME)
    middle.set(ylabel=rf"order $\langle|{symbol}|\rangle$", ylim=(0, artist.norm.vmax * 1.05))
    right.set_ylabel("energy per site ($t$)")
    return figure


def live_quench(
    draw: Callable[[Course], Figure],
    course: Course,
    field: ForceField,
    equation: LandauLifshitz,
    n_frames: int = 500,
    n_steps: int = 5,
    seed: int = 0,
) -> Any:
    """Play and pause a quench; sliders set damping and kT, "restart" draws new random spins.

    Parameters
    ----------
    draw : callable
        Course -> a new figure.
    course : Course
        Shown first, and gone on from.
    field : ForceField
    equation : LandauLifshitz
        Time step and method; damping and kT at the start, later as the sliders say.
    n_frames, n_steps : int
        Most frames until it pauses by itself, and steps between two of them.
    seed : int
        Of the noise, and of the spins: the first restart takes seed + 1.

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    damping = _slider("damping", equation.damping, 0.02, 1, 0.02)
    kT = _slider("kT / t", equation.kT, 0, 0.1, 0.005)
    # The browser counts, and leaves numbers out while a frame is being computed: none queue up, and
    # what a slider or the pause says is heard in between.
    play = ipywidgets.Play(max=n_frames, interval=200, show_repeat=False)
    restart = ipywidgets.Button(description="restart")
    output, rng = ipywidgets.Output(), torch.Generator().manual_seed(seed)
    seeds = count(seed + 1)

    def chosen(_: int) -> LandauLifshitz:
        return replace(equation, damping=damping.value, kT=kT.value)

    frames = continued(course, field, chosen, n_steps, rng)

    def first_frame() -> Figure:
        nonlocal frames
        start = begun(field, course.lattice.length, next(seeds))
        frames = continued(start, field, chosen, n_steps, rng)
        return draw(start)

    def counted(change: Any) -> None:
        if change["new"] > 0:  # stopped, or played on from the last number, it returns to 0
            show(output, lambda: draw(next(frames)))

    play.observe(counted, names="value")
    restart.on_click(lambda _: show(output, first_frame))
    show(output, partial(draw, course))
    return ipywidgets.VBox([ipywidgets.HBox([play, restart, damping, kT]), output])


def _slider(name: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider that reports where it is let go; it reaches to ``value`` at least."""
    return ipywidgets.FloatSlider(
        value, min=min(low, value), max=max(high, value), step=step, description=name,
        continuous_update=False, readout_format=".3f",
    )  # fmt: skip
