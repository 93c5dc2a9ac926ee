"""Frames of stores as files of other programs: those of VTK, which ParaView opens as a series."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from sdml import dataset, files, lattice, observables, simulation

Frames = dict[str, NDArray[Any]]
"""Of all frames: ``time`` (n,), hbar / t, ``trajectory`` (n,), and values (n, N, ...) by name."""


def vtk(store: str, target: Path) -> list[Path]:
    """Write a .pvd of the frames of a store, or one a seed or trajectory with its number.

    The .vtu of every frame, in a folder beside it with its name, has the sites as points, with
    their spins, the site-averaged chirality where the lattice has triangles, and what else the
    store holds of every site at the times of the frames, such as the density.

    Returns
    -------
    list of Path
        The .pvd files.

    Raises
    ------
    ValueError
        What is no store, what cannot be written, and where meshio is not installed.
    """
    sites, frames = _frames(store)
    if sites.triangles:
        frames["chirality"] = observables.site_chirality(sites, frames["spins"])
    time, numbers = frames.pop("time"), frames.pop("trajectory")
    written = []
    for number in np.unique(numbers):
        own = numbers == number
        name = target.stem if own.all() else f"{target.stem}_{number}"
        written.append(target.with_name(f"{name}.pvd"))
        _write(written[-1], sites, time[own], {k: values[own] for k, values in frames.items()})
    return written


def _frames(store: str) -> tuple[lattice.Lattice, Frames]:
    """The lattice and the frames of a run or of labelled snapshots."""
    try:
        run = simulation.load(store)
    except ValueError as no_run:
        try:
            data = dataset.load(store)
        except ValueError as error:
            raise ValueError(f"store: neither a run ({no_run}) nor snapshots ({error})") from error
        kept = ("time", "trajectory", "spins", "density")
        return data.model.lattice, {k: v for k, v in data.arrays().items() if k in kept}
    n, shape, rows = len(run.frames), run.frames.shape[1:-1], np.isin(run.time, run.frame_time)
    frames: Frames = {
        name: values[rows].swapaxes(0, -2).reshape(-1, shape[-1])
        for name, values in run.observables.items()
        if rows.sum() == n and values.shape[1:] == shape
    }
    seeds = np.atleast_1d(run.header["seed"])
    frames |= {"time": np.tile(run.frame_time, len(seeds)), "trajectory": np.repeat(seeds, n)}
    frames["spins"] = run.frames.swapaxes(0, -3).reshape(-1, shape[-1], 3)
    return lattice.from_cell(**run.header["lattice"]), frames


def _write(target: Path, sites: lattice.Lattice, time: NDArray[Any], frames: Frames) -> None:
    try:
        import meshio
    except ModuleNotFoundError as error:
        raise ValueError("--vtk: meshio is not installed: pip install 'sdml[vtk]'") from error
    points, folder = np.pad(sites.positions, ((0, 0), (0, 1))), target.with_suffix("")
    corners = [("vertex", np.arange(len(points))[:, None])]
    files.require_writable("--output", target)
    files.require_writable("--output", folder / "000000.vtu")
    lines = ['<VTKFile type="Collection" version="0.1">', "<Collection>"]
    for k, moment in enumerate(time):
        file = folder / f"{k:06d}.vtu"
        own = {name: np.ascontiguousarray(values[k]) for name, values in frames.items()}
        meshio.write(file, meshio.Mesh(points, corners, own))
        place = quoteattr(f"{folder.name}/{file.name}")
        lines.append(f'<DataSet timestep="{moment:.17g}" file={place}/>')
    files.write_text(target, "\n".join([*lines, "</Collection>", "</VTKFile>", ""]))
