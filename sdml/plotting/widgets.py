"""Interactive twins of the static figures; nothing is created in a batch run."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import clear_output, display
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sdml import spins as spin_arrays
from sdml.descriptor import Feature, SymmetryDescriptor, orbit_coefficients
from sdml.lattice import Lattice

__all__ = [
    "BATCH",
    "View",
    "descriptor_explorer",
    "loss_picture",
    "operations",
    "player",
    "selector",
    "turned",
    "view",
]

FloatArray = NDArray[np.float64]
Operation = Callable[[FloatArray], FloatArray]
BATCH = "SDML_BATCH"
"""Set (to anything) by the runner and the tests: widgets are left out of stored notebooks."""
SYMBOLS = {"value": "f_{%s}", "amplitude": "|f_{%s}|^2", "phase": r"\eta_{%s}"}
"""Of the invariants, with a place for the irrep."""


def player(
    draw: Callable[[int], Figure], times: Sequence[float] | FloatArray, interval_ms: int = 300
) -> Any:
    """A button that plays, pauses and stops, and a slider over frames.

    Parameters
    ----------
    draw : callable
        Frame number -> a new figure.
    times : (n_frames,)
        Of the frames, in hbar / t, as the slider shows them.
    interval_ms : int
        Time a frame stays when played.

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    play = ipywidgets.Play(max=len(times) - 1, interval=interval_ms)
    frames = [(f"{time:g}", k) for k, time in enumerate(times)]
    slider = ipywidgets.SelectionSlider(options=frames, description="time (ħ/t)")
    ipywidgets.jslink((play, "value"), (slider, "index"))
    shown = picture(lambda: draw(slider.value), [slider])
    return ipywidgets.VBox([ipywidgets.HBox([play, slider]), shown])


def picture(draw: Callable[[], Figure], controls: list[Any]) -> Any:
    """An output that holds the figure of ``draw()``, drawn again when a control changes."""
    output = ipywidgets.Output()

    def redraw(_: Any = None) -> None:
        show(output, draw)

    for control in controls:
        control.observe(redraw, names="value")
    redraw()
    return output


def show(output: Any, draw: Callable[[], Figure]) -> None:
    """Put the figure of ``draw()``, or its error, in the place of what an output held before."""
    with output:
        clear_output(wait=True)
        figure = draw()
        # Not plt.show(), which would take the other open figures of the cell along.
        display(figure)
        plt.close(figure)


def selector(draw: Callable[[str, Any], Figure], cases: Mapping[str, Any]) -> Any:
    """A button for each case, and the figure ``draw(name, case)`` of the chosen one.

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    chosen = ipywidgets.ToggleButtons(options=list(cases))
    shown = picture(lambda: draw(chosen.value, cases[chosen.value]), [chosen])
    return ipywidgets.VBox([chosen, shown])


def loss_picture(
    draw: Callable[[list[dict[str, float]]], Figure],
) -> Callable[[dict[str, float]], None] | None:
    """A picture of a training while it runs, drawn again after every epoch.

    Parameters
    ----------
    draw : callable
        Records of the epochs so far -> a new figure.

    Returns
    -------
    callable, or None in a batch run
        The ``report`` of :func:`sdml.training.train`; its picture appears with the first epoch.
    """
    if os.environ.get(BATCH):
        return None
    history: list[dict[str, float]] = []
    handle = display(display_id=True)

    def report(row: dict[str, float]) -> None:
        history.append(row)
        figure = draw(history)
        handle.update(figure)
        plt.close(figure)

    return report


# --- the descriptor


class View(NamedTuple):
    """What the paper's descriptor sees from one site.

    Attributes
    ----------
    spins : (1 + K, 3)
        The center, and the environment by distance.
    covariants : (n,)
        Irrep coefficients of the center bonds, orbit by orbit: they move with the operations.
    covariant_names : n names
        Irrep (d of them for dimension d), and in brackets the number of the orbit.
    features : (F,)
        All invariants.
    center_features : (m,)
        Those of the center bonds.
    feature_names : m names
    """

    spins: FloatArray
    covariants: FloatArray
    covariant_names: tuple[str, ...]
    features: FloatArray
    center_features: FloatArray
    feature_names: tuple[str, ...]


def view(descriptor: SymmetryDescriptor, lattice: Lattice, spins: FloatArray) -> View:
    """What ``descriptor`` sees from site 0 of ``lattice`` when the spins are (N, 3)."""
    environment, table = descriptor.environment, descriptor.neighbor_table(lattice)
    around = spins[np.append(0, table[0])]
    orbits = [orbit for orbit in environment.orbits() if orbit.members[0, 0] == -1]
    parts = [orbit_coefficients(environment.group, orbit, k) for k, orbit in enumerate(orbits)]
    bonds = [around[1:][orbit.members[:, 1]] @ around[0] for orbit in orbits]
    features = descriptor(torch.as_tensor(spins), table)[0].numpy()
    of_center = [k for k, label in enumerate(descriptor.features) if label.orbit < len(orbits)]
    labels = [descriptor.features[k] for k in of_center]
    return View(
        around,
        np.concatenate([part.basis @ b for part, b in zip(parts, bonds, strict=True)]),
        tuple(_name("value", label) for part in parts for label in part.labels),
        features,
        features[of_center],
        tuple(_name(label.invariant, label) for label in labels),
    )


def _name(invariant: str, label: Feature) -> str:
    symbol = SYMBOLS[invariant] % f"{label.irrep[0]}_{label.irrep[1:]}"
    return f"${symbol}$ ({label.orbit + 1})"


def turned(spins: FloatArray, site: int, polar: float, azimuth: float) -> FloatArray:
    """A copy with one spin turned by the angle ``polar`` away from itself, in degrees.

    ``azimuth`` is the direction, about the spin, in which it is turned.
    """
    theta, phi = np.deg2rad([polar, azimuth])
    first, second = np.linalg.svd(spins[site][None])[2][1:]  # unit vectors across the spin
    across = np.cos(phi) * first + np.sin(phi) * second
    changed = spins.copy()
    changed[site] = np.cos(theta) * spins[site] + np.sin(theta) * across
    return changed


def operations(lattice: Lattice) -> dict[str, Operation]:
    """Name -> what it does to spins (N, 3): the point group about site 0, and the spin symmetries.

    Spins are carried from site to site without being turned: turning all of them is a symmetry of
    its own.
    """
    group = lattice.point_group
    found: dict[str, Operation] = {"none": np.copy}
    for number, matrix in enumerate(group.matrices[1:], start=1):
        mirror, power = divmod(number, group.n_fold)
        angle = 360 * power / group.n_fold
        axis = (np.rad2deg(group.mirror_angle) + angle / 2) % 180
        name = f"mirror at {axis:g}°" if mirror else f"rotation by {angle:g}°"
        source = np.argsort(lattice.site_permutation(matrix))
        found[name] = partial(np.take, indices=source, axis=0)
    rotation = spin_arrays.random_rotation(0)
    found["all spins turned"] = partial(spin_arrays.rotate, rotation=rotation)
    found["time reversal"] = np.negative
    return found


def descriptor_explorer(
    draw: Callable[[View, View], Figure],
    descriptor: SymmetryDescriptor,
    lattice: Lattice,
    spins: FloatArray,
) -> Any:
    """Turn one spin, then apply an operation, and see which numbers move.

    Parameters
    ----------
    draw : callable
        Views of the given and of the changed spins -> a new figure.
    descriptor : SymmetryDescriptor
    lattice : Lattice
    spins : (N, 3)

    Returns
    -------
    ipywidgets.Widget, or None in a batch run.
    """
    if os.environ.get(BATCH):
        return None
    table, actions = descriptor.neighbor_table(lattice), operations(lattice)
    places = {"center": 0} | {f"{k + 1}": site for k, site in enumerate(table[0].tolist())}
    site = ipywidgets.Dropdown(options=places, description="site")
    polar = ipywidgets.IntSlider(max=180, description="polar °", continuous_update=False)
    azimuth = ipywidgets.IntSlider(max=360, description="azimuth °", continuous_update=False)
    operation = ipywidgets.Dropdown(options=list(actions), description="operation")
    before = view(descriptor, lattice, spins)

    def compared() -> Figure:
        changed = turned(spins, site.value, polar.value, azimuth.value)
        return draw(before, view(descriptor, lattice, actions[operation.value](changed)))

    controls = [site, polar, azimuth, operation]
    return ipywidgets.VBox([ipywidgets.HBox(controls), picture(compared, controls)])
