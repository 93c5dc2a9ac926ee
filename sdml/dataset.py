"""Labelled snapshots: generate, label with exact fields, store, load, split.

A store is one HDF5 file with named dimensions (xarray opens it with the h5netcdf engine), written
whole or not at all, with the model, the engine and the seeds in its attributes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sdml import __version__, dynamics, exact, paths, spins
from sdml.model import ElectronicState, SDModel, describe, from_description

Solver = Callable[[SDModel, Any], ElectronicState]
FILE_FORMAT = "sdml-snapshots-2"
DIMENSIONS = {
    "spins": ("snapshot", "site", "component"),
    "local_field": ("snapshot", "site", "component"),
    "density": ("snapshot", "site"),
    "energy": ("snapshot",),
    "chemical_potential": ("snapshot",),
    "trajectory": ("snapshot",),
    "time": ("snapshot",),
}
UNITS = {
    "local_field": "t",
    "density": "electrons per site",
    "energy": "t",
    "chemical_potential": "t",
    "time": "hbar/t",
}


@dataclass(frozen=True)
class Dataset:
    """Snapshots of one model with their labels.

    Attributes
    ----------
    model : SDModel
    spins, local_field : (n, N, 3)
    density : (n, N)
    energy : (n,)
        Total energies.
    chemical_potential : (n,)
        What holds the number of electrons.
    trajectory : (n,) int
        Snapshots with the same number come from the same run; they are held out together.
    time : (n,)
        Time after the start of the run, hbar / t.
    provenance : dict
        How the snapshots were made, plain values.
    """

    model: SDModel
    spins: NDArray[np.float64]
    local_field: NDArray[np.float64]
    density: NDArray[np.float64]
    energy: NDArray[np.float64]
    chemical_potential: NDArray[np.float64]
    trajectory: NDArray[np.int64]
    time: NDArray[np.float64]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dimensions in DIMENSIONS.items():
            shape, n_sites = getattr(self, name).shape, self.model.lattice.n_sites
            expected = (len(self.energy), n_sites, 3)[: len(dimensions)]
            if shape != expected:
                raise ValueError(f"{name}: shape must be {expected}, got {shape}")
        spins.as_tensor(self.spins)

    def __len__(self) -> int:
        return len(self.energy)

    def select(self, chosen: NDArray[Any]) -> Dataset:
        """The snapshots picked by a mask or by numbers."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in DIMENSIONS})


def label(
    model: SDModel,
    configurations: NDArray[np.float64],
    trajectory: Sequence[int] | NDArray[np.int64],
    time: Sequence[float] | NDArray[np.float64],
    solver: Solver = exact.solve,
    **provenance: Any,
) -> Dataset:
    """Snapshots (n, N, 3) with energy, field and density from an engine."""
    state = solver(model, configurations)
    return Dataset(
        model,
        np.asarray(configurations),
        state.local_field,
        state.density,
        state.energy,
        np.broadcast_to(state.chemical_potential, state.energy.shape).copy(),
        np.asarray(trajectory, dtype=np.int64),
        np.asarray(time, dtype=np.float64),
        {"engine": getattr(solver, "func", solver).__module__, **provenance},
    )


def random_states(
    model: SDModel, n_snapshots: int, seed: int, solver: Solver = exact.solve
) -> Dataset:
    """Independent random states, each a trajectory of its own (numbers -1, -2, ...)."""
    if n_snapshots < 1:
        raise ValueError(f"n_snapshots: must be at least 1, got {n_snapshots}")
    rng = np.random.default_rng(seed)
    states = np.stack([spins.random(model.lattice.n_sites, rng) for _ in range(n_snapshots)])
    numbers = -1 - np.arange(n_snapshots)
    return label(model, states, numbers, np.zeros(n_snapshots), solver, random_seed=seed)


def quench(
    model: SDModel,
    equation: dynamics.LandauLifshitz,
    save_times: Sequence[float],
    seed: int,
    solver: Solver = exact.solve,
    driver: dynamics.LocalField | None = None,
    **provenance: Any,
) -> Dataset:
    """One quench from random spins, labelled by an engine, trajectory number = seed.

    The random start and the noise both follow from ``seed``; frames are kept at the steps nearest
    to ``save_times`` (ascending, hbar / t). The engine's own fields drive the spins, or those of
    ``driver``, a force field for instance: then only the kept frames cost a label, and they are the
    states that this force field visits.
    """
    steps = np.unique(np.round(np.asarray(save_times) / equation.dt).astype(int))
    if len(steps) == 0 or steps[0] < 0:
        raise ValueError(f"save_times: must be times >= 0, got {save_times}")
    field = driver or (lambda s: solver(model, s).local_field)
    state = spins.as_tensor(spins.random(model.lattice.n_sites, seed))
    rng = dynamics.generator(equation, seed)
    frames, done = [], 0
    for step in steps:
        for _ in range(step - done):
            state = dynamics.advance(state, field, equation, rng)
        frames.append(state.numpy())
        done = int(step)
    numbers = np.full(len(steps), seed)
    recipe = {"dt": equation.dt, "damping": equation.damping, "kT": equation.kT, "seed": seed}
    recipe |= provenance
    return label(model, np.stack(frames), numbers, steps * equation.dt, solver, quenches=[recipe])


def join(parts: Sequence[Dataset]) -> Dataset:
    """All snapshots of several sets of the same model, their provenance listed."""
    if not parts:
        raise ValueError("parts: at least one set is needed, got none")
    if any(part.model != parts[0].model for part in parts):
        raise ValueError("parts: all sets must have the same model")
    merged = {name: np.concatenate([getattr(p, name) for p in parts]) for name in DIMENSIONS}
    return Dataset(parts[0].model, **merged, provenance={"parts": [p.provenance for p in parts]})


def split(data: Dataset, held_out: Sequence[int]) -> tuple[Dataset, Dataset]:
    """Training and validation set; whole trajectories are held out, never single frames."""
    unknown = set(held_out) - set(data.trajectory.tolist())
    if unknown:
        raise ValueError(f"held_out: no trajectories {sorted(unknown)} in the data")
    mask = np.isin(data.trajectory, held_out)
    return data.select(~mask), data.select(mask)


def save(data: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a store; the file appears only when it is complete."""
    with paths.replacing(Path(path)) as partial, h5py.File(partial, "w") as file:
        _write(file, data)


def _write(file: h5py.File, data: Dataset) -> None:
    sizes = dict(zip(DIMENSIONS["spins"], data.spins.shape, strict=True))
    for name, size in sizes.items():
        file[name] = np.arange(size)
        file[name].make_scale(name)
    for name, dimensions in DIMENSIONS.items():
        variable = file.create_dataset(name, data=getattr(data, name), compression="gzip")
        variable.attrs["units"] = UNITS.get(name, "1")
        for axis, dimension in enumerate(dimensions):
            variable.dims[axis].attach_scale(file[dimension])
    file.attrs["format"] = FILE_FORMAT
    file.attrs["model"] = json.dumps(describe(data.model))
    file.attrs["provenance"] = json.dumps(data.provenance)
    file.attrs["sdml_version"] = __version__


def load(path: str | os.PathLike[str]) -> Dataset:
    """Read a store. ValueError if the file is missing, truncated, altered in form or foreign."""
    name = Path(path).name
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FILE_FORMAT:
                raise ValueError(f"path: {name!r} is not a store of format {FILE_FORMAT!r}")
            model = from_description(json.loads(file.attrs["model"]))
            arrays = {f.name: file[f.name][()] for f in fields(Dataset) if f.name in DIMENSIONS}
            return Dataset(model, **arrays, provenance=json.loads(file.attrs["provenance"]))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"path: {name!r} is not a readable store ({error})") from error
