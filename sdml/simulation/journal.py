"""What a run writes down: which variables its store has, how it is begun, made longer and read."""

import datetime
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from sdml import files
from sdml.simulation import store, timetable
from sdml.simulation.store import Checkpoint, Variable
from sdml.simulation.timetable import Timetable
from sdml.spins import differ, not_reproduced, rms

__all__ = ["Layout", "Run", "begin", "complete", "extended", "load"]

ENERGIES = ("guard/spread", "guard/energy_per_site", "guard/energy_drift")
"""Rows in units of t; the others have none."""

FIELD_TOLERANCE, ROW_TOLERANCE = 1e-4, 1e-3
"""Relative differences of a field and of observables by rounding, on whatever machine."""
OBSERVED = "observables/"
RAW = {"frames", "guard/norm_drift", "guard/outside", "guard/energy_drift"}
"""Rows that are compared apart, or that rounding decides."""


@dataclass(frozen=True)
class Run:
    """A run read from its store, up to its last checkpoint.

    Attributes
    ----------
    time : (n,)
        Times of the observables, hbar / t.
    frames : (n_frames, [B,] N, 3) float32
        Unpacked and of unit length; good to 5e-4 if the store packs them as float16.
    observables : dict
        Name -> (n, [B,] ...).
    header : dict
        Lattice, equation of motion, seed, start and version, plain values.
    frame_time : (n_frames,)
        Times of the frames.
    guard : dict
        Name -> (n, [B]): ``norm_drift``, the largest abs(|S| - 1), and with a guard its readings
        and ``energy_drift``, the energy per site above that of the start.
    spins : ([B,] N, 3)
        At the last checkpoint, in the dtype of the run.
    step : int
        Of the last checkpoint.
    seconds : float
        Wall time.
    """

    time: NDArray[np.float64]
    frames: NDArray[np.float32]
    observables: dict[str, NDArray[Any]]
    header: dict[str, Any]
    frame_time: NDArray[np.float64]
    guard: dict[str, NDArray[np.float64]]
    spins: NDArray[Any]
    step: int
    seconds: float


@dataclass(frozen=True)
class Layout:
    """What decides about the variables of a store.

    Parameters
    ----------
    header : dict
        What makes two runs the same run (their length may differ); plain values.
    plan : Timetable
    dt : float
    device : str
    field : callable
        What tells the field of the run from others: some numbers, the same at every call but for
        noise of the field itself.
    measured : callable
        Spins in the dtype of the run, None for the start -> name -> row of the run.
    """

    header: dict[str, Any]
    plan: Timetable
    dt: float
    device: str
    field: Callable[[], NDArray[np.float64]]
    measured: Callable[[NDArray[Any] | None], dict[str, NDArray[Any]]]

    @property
    def batch(self) -> tuple[str, ...]:
        """The axis of the seeds, of a batch."""
        return ("seed",) if isinstance(self.header["seed"], list) else ()


def begin(
    path: Path,
    layout: Layout,
    checkpoint: Checkpoint,
    rows: Mapping[str, NDArray[Any]],
    field: NDArray[np.float64] | None = None,
) -> None:
    """Lay out the store of a run that has done no step, or the steps of its checkpoint.

    ``rows`` (n, ...) are those that the checkpoint counts, by name; ``field`` is what is known of
    the field, by default what two calls give now: they differ by its noise.
    """
    header, plan = layout.header, layout.plan
    scales = {"time": (plan.saved * layout.dt, "hbar/t")}
    if header["frames_every"] is not None:
        scales["frame_time"] = (plan.frames * layout.dt, "hbar/t")
    if layout.batch:
        scales["seed"] = (np.array(header["seed"]), "")
    variables = {name: _variable(layout, name, rows) for name in rows}
    attributes = {
        "n_steps": plan.n_steps,
        "device": layout.device,
        "torch_version": str(torch.__version__),
        "field": [layout.field(), layout.field()] if field is None else field,
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    store.create(path, header, attributes, scales, variables, checkpoint, rows)


def _variable(layout: Layout, name: str, rows: Mapping[str, NDArray[Any]]) -> Variable:
    values = rows[name]
    if name == "frames":
        axes = (_frame_axis(layout.header), *layout.batch, "site", "component")
        return Variable(axes, (len(layout.plan.frames), *values.shape[1:]), values.dtype)
    own = [_own_axis(f"{name}_{k}", rows) for k in range(1 + len(layout.batch), values.ndim)]
    shape, units = (len(layout.plan.saved), *values.shape[1:]), "t" if name in ENERGIES else ""
    return Variable(("time", *layout.batch, *own), shape, values.dtype, units)


def _own_axis(name: str, taken: Mapping[str, Any]) -> str:
    """An observable may bear the name of another one's axis, such as ``x_1`` beside ``x``."""
    return _own_axis(name + "_", taken) if name in taken else name


def _frame_axis(header: Mapping[str, Any]) -> str:
    return "time" if header["frames_every"] is None else "frame_time"


def complete(path: Path, layout: Layout) -> bool:
    """Whether the run of a store is as long as the plan, or longer.

    ValueError if it is another run, or not readable.
    """
    with store.opened(path) as file:
        checkpoint, _ = _compared(file, path, layout)
        if checkpoint.step < layout.plan.n_steps:
            return False
        _require_same_physics(file, path, layout, checkpoint)
        return True


def extended(path: Path, layout: Layout) -> bool:
    """Make room for the plan in a store; False if its run is as long already.

    ValueError if it is another run, not readable, or noise of another device.
    """
    plan = layout.plan
    with store.opened(path) as file:
        checkpoint, planned = _compared(file, path, layout)
        if plan.n_steps <= checkpoint.step:
            return False
        _require_device(path, str(file.attrs["device"]), layout.device, checkpoint)
        _require_same_physics(file, path, layout, checkpoint)
        if plan.n_steps == planned.n_steps and plan.agrees(planned, plan.n_steps):
            return True
        saved = np.isin(planned.saved[: checkpoint.n_saved], plan.saved)
        framed = np.isin(planned.frames[: checkpoint.n_frames], plan.frames)
        rows = {name: _valid(file, name, checkpoint) for name in _filled(layout.header)}
        field = file.attrs["field"]
    rows = {name: values[framed if name == "frames" else saved] for name, values in rows.items()}
    n_saved, n_frames = int(saved.sum()), int(framed.sum())
    begin(path, layout, replace(checkpoint, n_saved=n_saved, n_frames=n_frames), rows, field)
    return True


def _compared(file: h5py.File, path: Path, layout: Layout) -> tuple[Checkpoint, Timetable]:
    """What a store has reached and has room for; ValueError if it holds another run."""
    checkpoint, planned = store.latest(file), _planned(file, layout.dt)
    header, stored = layout.header, json.loads(file.attrs["header"])
    different = sorted(k for k in header if stored.get(k) != header[k])
    if not layout.plan.agrees(planned, min(checkpoint.step, layout.plan.n_steps)):
        cadences = ("save_every", "frames_every")
        different = different or [k for k in cadences if header[k] == timetable.LISTED]
    if different:
        raise ValueError(f"path: {path.name!r} holds another run, different in {different}")
    return checkpoint, planned


def _require_device(path: Path, stored: str, asked: str, checkpoint: Checkpoint) -> None:
    n_bytes = checkpoint.generators.shape[-1]  # 0 without noise: there are no generators
    same = torch.device(stored).type == torch.device(asked).type
    if n_bytes and not (same and n_bytes == torch.Generator(asked).get_state().numel()):
        raise ValueError(
            f"path: {path.name!r} is a run on device {stored!r}; its noise cannot go on on the "
            f"device of the spins, {asked!r}, whose generators are others"
        )


def _require_same_physics(
    file: h5py.File, path: Path, layout: Layout, checkpoint: Checkpoint
) -> None:
    """ValueError if the field or an observable is another than that of the store."""
    if "field" not in file.attrs:
        raise ValueError(
            f"path: {path.name!r} was begun by an earlier version, which kept nothing of its field "
            "to compare; read it with simulation.load, or give another path"
        )
    last, filled = checkpoint.n_saved - 1, [n for n in _filled(layout.header) if n not in RAW]
    ends: dict[int, NDArray[Any] | None] = {0: None}
    if last and round(file["time"][last] / layout.dt) == checkpoint.step:
        ends[last] = checkpoint.spins
    series = {name: _valid(file, name, checkpoint) for name in filled}
    different: set[str] = set()
    for row, spins in ends.items():
        stored = {name: values[row] for name, values in series.items()}
        evaluate = partial(layout.measured, spins)
        different |= set(not_reproduced(stored, evaluate, ROW_TOLERANCE, series))
    named = [f"observables[{n[12:]!r}]" for n in filled if n in different and n[:12] == OBSERVED]
    named += ["guard"] if len(named) < len(different) else []
    first, second = file.attrs["field"]
    tolerance = max(FIELD_TOLERANCE * rms(first), 5 * rms(first, second))
    named += ["local_field"] if differ(first, layout.field(), tolerance) else []
    if named:
        raise ValueError(
            f"path: {path.name!r} holds another run, different in {', '.join(named)}: what is "
            "given does not return the values in the store; give what the run was begun with"
        )


def _planned(file: h5py.File, dt: float) -> Timetable:
    """What a store has room for."""
    saved = np.round(file["time"][()] / dt).astype(np.int64)
    frames = saved if "frame_time" not in file else np.round(file["frame_time"][()] / dt)
    return Timetable(int(file.attrs["n_steps"]), saved, frames.astype(np.int64))


def _filled(header: Mapping[str, Any]) -> list[str]:
    """Names of the variables that grow along a run."""
    readings = ["norm_drift", *(["energy_drift"] if header["guard"] else []), *header["guard"]]
    measured = [f"observables/{name}" for name in header["observables"]]
    return ["frames", *measured, *(f"guard/{name}" for name in readings)]


def _valid(file: h5py.File, name: str, checkpoint: Checkpoint) -> NDArray[Any]:
    n_rows = checkpoint.n_frames if name == "frames" else checkpoint.n_saved
    return file[name][:n_rows]


def plain(argument: str, value: Any) -> Any:
    """A value as it is read again from a header; numpy's become numbers and lists.

    ValueError with the name of the argument for what is not made of numbers, texts, lists, dicts.
    """
    try:
        return json.loads(files.json_text(value))
    except (TypeError, ValueError) as error:
        allowed = "finite numbers, texts, lists and dicts"
        raise ValueError(f"{argument}: must be made of {allowed}, got {value!r}") from error


def load(path: str | os.PathLike[str]) -> Run:
    """Read a run. ValueError if the file is missing, truncated or foreign."""
    with store.opened(Path(path)) as file:
        header, checkpoint = json.loads(file.attrs["header"]), store.latest(file)
        rows = {name: _valid(file, name, checkpoint) for name in _filled(header)}
        time = file["time"][: checkpoint.n_saved]
        frame_time = file[_frame_axis(header)][: checkpoint.n_frames]
    frames = rows.pop("frames").astype(np.float32)
    if header["frame_dtype"] != "float32":
        frames /= np.linalg.norm(frames, axis=-1, keepdims=True)
    groups: dict[str, dict[str, NDArray[Any]]] = {"observables": {}, "guard": {}}
    for name, values in rows.items():
        group, _, own = name.partition("/")
        groups[group][own] = values
    state = checkpoint.spins, checkpoint.step, checkpoint.seconds
    return Run(time, frames, groups["observables"], header, frame_time, groups["guard"], *state)
