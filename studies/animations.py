"""The two quenches as moving pictures: chiral domains that grow, holes that gather and freeze.

    python studies/animations.py [--only triangular|square]      # or: make animations

Each is one run of a released force field from random spins, `build/animations/KIND.h5`; one that
was stopped goes on from its last checkpoint, and one that is there is only drawn. Frames are evenly
spaced in the logarithm of time. Written are `figures/quench_KIND.gif` and its sidecar. Both
together take about four minutes of one core.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdml import files, forcefield, lattice, observables, plotting, simulation, spins
from sdml.coarsening import domains
from sdml.companion import results
from sdml.dynamics import LandauLifshitz
from sdml.lattice import Lattice

N_FRAMES = 44
N_COLORS = 32
"""Of a map: fewer make smaller files."""
FRAMES_PER_SECOND = 8
FAINT = 0.1
"""Sites with fewer holes get no dot."""
HOLD = 16
"""How many times the last frame is shown, so that the eye can rest on it."""


@dataclass(frozen=True)
class Quench:
    """One run; frames are drawn of its start and from the step ``first`` on."""

    length: int
    equation: LandauLifshitz
    n_steps: int
    first: int
    seed: int
    caption: str


QUENCHES = {
    "triangular": Quench(
        length=96,
        equation=LandauLifshitz(dt=2.0, damping=0.3, method="adams"),
        n_steps=640,
        first=15,
        seed=1,
        caption="Domains of two chiralities grow on the triangular lattice",
    ),
    "square": Quench(
        length=60,
        equation=LandauLifshitz(dt=0.5, damping=0.05, kT=0.001, method="adams"),
        n_steps=2000,
        first=4,
        seed=1,
        caption="Ferromagnetic clusters with holes form on the square lattice and freeze",
    ),
}


def folder() -> Path:
    return files.root() / "build" / "animations"


def run(kind: str) -> simulation.Run:
    asked = QUENCHES[kind]
    sites = getattr(lattice, kind)(asked.length)
    field = forcefield.load(kind).on(sites)
    measured: dict[str, simulation.Observable] = (
        {"length": lambda sites, s: torch.as_tensor(domains.domain_lengths(sites, s))}
        if kind == "triangular"
        else {"density": lambda _, s: field.density(s)}
    )
    steps = [0, *np.unique(np.geomspace(asked.first, asked.n_steps, N_FRAMES).round().astype(int))]
    return simulation.quench(
        folder() / f"{kind}.h5",
        sites,
        torch.as_tensor(spins.random(sites.n_sites, asked.seed), dtype=torch.float32),
        field.field,
        asked.equation,
        asked.n_steps,
        steps,
        observables=measured,
        seed=asked.seed,
        engine=f"{kind} {forcefield.checksum(field)[:12]}",
        frames_every=steps,
        report=lambda step: print(f"{kind} time {step * asked.equation.dt:g}", flush=True),
    )


def canvas() -> tuple[Figure, Axes, Axes, Axes]:
    """420 x 540 pixels: a map, its scale, and a curve against time."""
    figure = Figure(figsize=(4.2, 5.4), dpi=100, layout="none")
    places = (0.03, 0.335, 0.94, 0.6), (0.2, 0.3, 0.6, 0.02), (0.2, 0.095, 0.76, 0.12)
    above, scale, below = (figure.add_axes(place) for place in places)
    return figure, above, scale, below


def chirality(
    above: Axes, sites: Lattice, found: simulation.Run
) -> tuple[Any, np.ndarray, np.ndarray, Callable[[int], Any]]:
    values = observables.site_chirality(sites, found.frames.astype(float))
    picture = plotting.chirality_map(above, sites, values[0])
    return picture, values, found.observables["length"][:, 0], lambda k: None


def holes(
    above: Axes, sites: Lattice, found: simulation.Run
) -> tuple[Any, np.ndarray, np.ndarray, Callable[[int], Any]]:
    frames, missing = found.frames.astype(float), 1 - found.observables["density"]
    values = observables.site_correlation(sites, frames)
    picture = plotting.correlation_map(above, sites, values[0])
    dots = above.scatter(*sites.positions.T, c="gold", lw=0)
    number = np.array([len(observables.cluster_sizes(sites, s)) for s in frames])
    return picture, values, number, lambda k: dots.set_sizes(30 * missing[k] * (missing[k] > FAINT))


PANELS: dict[str, Any] = {
    "triangular": {
        "draw": chirality,
        "scale": "site chirality: domains of two signs",
        "ticks": (-0.77, 0, 0.77),
        "curve": {"ylabel": "domain\nsize", "xticks": (30, 100, 300, 1000), "yticks": (3, 10, 30)},
    },
    "square": {
        "draw": holes,
        "scale": "mean $S_i\\cdot S_j$ of a site; dots: holes",
        "ticks": (-1, 0, 1),
        "curve": {
            "ylabel": "clusters",
            "xticks": (3, 10, 30, 100, 300, 1e3),
            "yticks": (100, 300),
        },
    },
}


def animation(kind: str, found: simulation.Run) -> FuncAnimation:
    figure, above, scale, below = canvas()
    panel, sites = PANELS[kind], getattr(lattice, kind)(QUENCHES[kind].length)
    picture, values, curve, more = panel["draw"](above, sites, found)
    picture.set(antialiased=False, linewidth=0, cmap=picture.get_cmap().resampled(N_COLORS))
    bar = {"orientation": "horizontal", "ticks": panel["ticks"], "label": panel["scale"]}
    figure.colorbar(picture, cax=scale, **bar)
    below.loglog(found.time[1:], curve[1:], lw=1.2)
    below.set(xlabel=plotting.TIME, **panel["curve"])
    below.yaxis.set_label_coords(-0.12, 0.5)
    for axis in (below.xaxis, below.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    (mark,) = below.plot([], [], "o", color="k", ms=5)

    def show(k: int) -> None:
        picture.set_array(values[k])
        more(k)
        mark.set_data([max(found.time[k], found.time[1])], [curve[k]])
        above.set_title(rf"time {found.time[k]:.0f} $\hbar/t$")

    order = [*range(len(found.time)), *[len(found.time) - 1] * HOLD]
    return FuncAnimation(figure, show, order)


def write(kind: str) -> None:
    """The picture and its sidecar into ``figures/``."""
    asked, name, found = QUENCHES[kind], f"quench_{kind}", run(kind)
    drawn = folder() / f"{name}.gif"
    animation(kind, found).save(drawn, PillowWriter(FRAMES_PER_SECOND))
    files.write_bytes(files.figures() / drawn.name, drawn.read_bytes())
    sidecar = {"name": name, "caption": asked.caption, **results.origin()}
    sidecar |= {"command": "make animations", "script": "studies/animations.py"}
    sidecar |= {key: found.header[key] for key in ("equation", "engine", "seed")}
    sidecar |= {"length": asked.length, "end": float(found.time[-1])}
    files.write_text(files.figures() / f"{name}.json", files.json_text(sidecar))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=QUENCHES)
    only = parser.parse_args().only
    for kind in [only] if only else QUENCHES:
        write(kind)
