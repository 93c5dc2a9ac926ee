"""Long runs: Landau-Lifshitz dynamics with observables on the fly, frames, checkpoints and resume.

A run is one HDF5 store with named dimensions. It is replaced as a whole at every checkpoint, so
that a run killed at any moment leaves the last complete checkpoint and resumes from it bit for bit
on the same device: the checkpoint holds the spins in full precision and the state of the noise
generator.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import __version__, dynamics, paths
from sdml.dynamics import LandauLifshitz, LocalField
from sdml.lattice import Lattice
from sdml.spins import as_tensor

Observable = Callable[[Lattice, Tensor], Any]
FILE_FORMAT = "sdml-run-1"


@dataclass(frozen=True)
class Run:
    """A run read from its store.

    Attributes
    ----------
    time : (n_frames,)
        Times of the frames, hbar / t.
    frames : (n_frames, N, 3) float32
    observables : dict
        Name -> (n_frames, ...).
    header : dict
        Lattice, equation of motion, seed, start and version, plain values.
    """

    time: NDArray[np.float64]
    frames: NDArray[np.float32]
    observables: dict[str, NDArray[np.float64]]
    header: dict[str, Any]


@dataclass
class _Progress:
    """What changes along a run."""

    spins: Tensor
    rng: torch.Generator | None
    step: int
    rows: dict[str, list[Any]]


def quench(
    path: str | os.PathLike[str],
    lattice: Lattice,
    spins: Any,
    local_field: LocalField,
    equation: LandauLifshitz,
    n_steps: int,
    save_every: int,
    observables: Mapping[str, Observable] | None = None,
    seed: int = 0,
    checkpoint_every: int = 10,
    report: Callable[[int], None] | None = None,
    engine: str = "",
) -> Run:
    """Run ``n_steps`` from ``spins`` to the store at ``path``; continue the run found there.

    Parameters
    ----------
    path : path
        The HDF5 store. A store of the same run is resumed (or just read, when complete); one of a
        different run is refused.
    lattice : Lattice
    spins : (N, 3)
        Start. The run keeps its dtype; tensors keep their device.
    local_field : callable
        Tensor (N, 3) -> field: ``lambda s: exact.solve(model, s).local_field`` or
        ``forcefield.local_field``.
    equation : LandauLifshitz
    n_steps, save_every : int
        Frames and observables are kept at step 0 and every ``save_every`` steps.
    observables : dict, optional
        Name -> function of (lattice, spins), evaluated on the device of the run.
    seed : int
        Of the noise.
    checkpoint_every : int
        Frames between two writes of the store.
    report : callable, optional
        Gets the number of steps done after every frame.
    engine : str
        What ``local_field`` is, for the header; a run under another engine is another run.

    Raises
    ------
    ValueError
        Bad argument, or the store at ``path`` belongs to another run or cannot be read.
    FloatingPointError
        The spins are no longer finite; the store keeps the last good checkpoint.
    """
    start = as_tensor(spins, lattice.n_sites).detach()
    if start.ndim != 2:
        raise ValueError(f"spins: one configuration (N, 3) is needed, got {tuple(start.shape)}")
    for name, value in (("save_every", save_every), ("checkpoint_every", checkpoint_every)):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if n_steps < 0 or n_steps % save_every:
        raise ValueError(f"n_steps: must be a multiple of save_every = {save_every}, got {n_steps}")
    measured = dict(observables or {})
    header = _header(lattice, start, equation, save_every, list(measured))
    header |= {"seed": seed, "engine": engine}
    target = Path(path)
    progress = _resume(target, header, start, equation, seed)
    if progress is None:
        progress = _Progress(start, dynamics.generator(equation, seed, start.device), 0, {})
        _record(progress, lattice, measured)
        _write(target, header, progress, equation.dt)
    while progress.step < n_steps:
        reached = progress.spins
        noise_state = None if progress.rng is None else progress.rng.get_state()
        for _ in range(save_every):
            reached = dynamics.advance(reached, local_field, equation, progress.rng)
        if not bool(torch.isfinite(reached).all()):
            if progress.rng is not None and noise_state is not None:
                progress.rng.set_state(noise_state)
            _write(target, header, progress, equation.dt)
            raise FloatingPointError(
                f"spins: not finite at step {progress.step + save_every} of dt = {equation.dt}; "
                f"the store ends at step {progress.step}"
            )
        progress.spins, progress.step = reached, progress.step + save_every
        _record(progress, lattice, measured)
        if (progress.step // save_every) % checkpoint_every == 0 or progress.step >= n_steps:
            _write(target, header, progress, equation.dt)
        if report:
            report(progress.step)
    return load(target)


def _header(
    lattice: Lattice,
    start: Tensor,
    equation: LandauLifshitz,
    save_every: int,
    observables: list[str],
) -> dict[str, Any]:
    """What makes two runs the same run (their length may differ)."""
    digest = hashlib.sha256(start.cpu().numpy().tobytes()).hexdigest()
    header = {
        "lattice": dataclasses.asdict(lattice),
        "equation": dataclasses.asdict(equation),
        "save_every": save_every,
        "observables": observables,
        "start_sha256": digest,
        "dtype": str(start.dtype),
    }
    return json.loads(json.dumps(header))


def _record(progress: _Progress, lattice: Lattice, observables: Mapping[str, Observable]) -> None:
    rows = progress.rows
    rows.setdefault("step", []).append(progress.step)
    rows.setdefault("frames", []).append(progress.spins.to(torch.float32).cpu().numpy())
    for name, function in observables.items():
        value = torch.as_tensor(function(lattice, progress.spins)).detach().cpu().numpy()
        rows.setdefault("observables/" + name, []).append(value)


def _resume(
    target: Path,
    header: dict[str, Any],
    start: Tensor,
    equation: LandauLifshitz,
    seed: int,
) -> _Progress | None:
    if not target.exists():
        return None
    with _opened(target) as file:
        stored = json.loads(file.attrs["header"])
        different = sorted(k for k in header if stored.get(k) != header[k])
        if different:
            raise ValueError(f"path: {target.name!r} holds another run, different in {different}")
        spins = torch.as_tensor(file["checkpoint/spins"][()]).to(start)
        rng = dynamics.generator(equation, seed, start.device)
        if rng is not None:
            rng.set_state(torch.as_tensor(file["checkpoint/generator"][()]))
        names = ["step", "frames", *(f"observables/{k}" for k in header["observables"])]
        rows = {name: list(file[name][()]) for name in names}
        return _Progress(spins, rng, int(file["checkpoint"].attrs["step"]), rows)


def _write(target: Path, header: dict[str, Any], progress: _Progress, dt: float) -> None:
    with paths.replacing(target) as partial, h5py.File(partial, "w") as file:
        file.attrs["format"], file.attrs["sdml_version"] = FILE_FORMAT, __version__
        file.attrs["header"] = json.dumps(header)
        _write_rows(file, progress.rows, dt)
        checkpoint = file.create_group("checkpoint")
        checkpoint.attrs["step"] = progress.step
        checkpoint["spins"] = progress.spins.cpu().numpy()
        if progress.rng is not None:
            checkpoint["generator"] = progress.rng.get_state().numpy()


def _write_rows(file: h5py.File, rows: dict[str, list[Any]], dt: float) -> None:
    file["time"] = np.array(rows["step"]) * dt
    file["time"].attrs["units"] = "hbar/t"
    file["time"].make_scale("time")
    for name, values in rows.items():
        variable = file.create_dataset(name, data=np.array(values))
        own = [f"{name}_{axis}" for axis in range(1, variable.ndim)]
        scales = ["site", "component"] if name == "frames" else own
        for axis, scale in enumerate(["time", *scales]):
            if scale not in file:
                file[scale] = np.arange(variable.shape[axis])
                file[scale].make_scale(scale)
            variable.dims[axis].attach_scale(file[scale])


def load(path: str | os.PathLike[str]) -> Run:
    """Read a run. ValueError if the file is missing, truncated or foreign."""
    target = Path(path)
    with _opened(target) as file:
        header = json.loads(file.attrs["header"])
        observables = {name: file[f"observables/{name}"][()] for name in header["observables"]}
        return Run(file["time"][()], file["frames"][()], observables, header)


@contextmanager
def _opened(target: Path) -> Iterator[h5py.File]:
    """The store for reading; whatever is missing in it becomes one ValueError with its name."""
    try:
        with h5py.File(target, "r") as file:
            if file.attrs.get("format") != FILE_FORMAT:
                raise ValueError(f"path: {target.name!r} is not a store of format {FILE_FORMAT!r}")
            yield file
    except (OSError, KeyError) as error:
        raise ValueError(f"path: {target.name!r} is not a readable store ({error})") from error
