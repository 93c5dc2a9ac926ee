"""Long runs: Landau-Lifshitz dynamics with observables on the fly, frames, checkpoints and resume.

A run is one HDF5 store with named dimensions, see :mod:`sdml.simulation.store`. Killed at any
moment it loses what came after its last checkpoint and goes on from there, bit for bit on the same
device. A batch of seeds is one run: every configuration has its own noise and gets the observables
that it would get alone; its spins agree with those of a run of its own to the last bit if the field
does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
import os
import sys
import time as clock
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sdml import dynamics
from sdml.dynamics import LandauLifshitz, LocalField
from sdml.lattice import Lattice
from sdml.simulation import journal, lock, timetable
from sdml.simulation.guard import Guard, OutsideTrainedRange
from sdml.simulation.journal import Layout, Run, load
from sdml.simulation.store import Checkpoint, Store
from sdml.simulation.timetable import (
    Schedule,
    Steps,
    Timetable,
    logarithmic_steps,
    require_positive,
)
from sdml.spins import as_tensor

Observable = Callable[[Lattice, Tensor], Any]
FRAME_DTYPES = ("float32", "float16")
__all__ = ["Guard", "OutsideTrainedRange", "Run", "load", "logarithmic_steps", "quench"]


@dataclass
class _Driver:
    """What a run is made of."""

    lattice: Lattice
    start: Tensor
    local_field: LocalField
    equation: LandauLifshitz
    schedule: NDArray[np.float64] | None
    seeds: list[int]
    observables: dict[str, Observable]
    frame_dtype: str
    guard: Guard | None
    energy: Tensor = field(init=False)  # per site, of the start

    def __post_init__(self) -> None:
        if self.guard is not None:
            self.energy = self.guard.readings(self.start)["energy_per_site"]

    def generators(self) -> list[torch.Generator]:
        """One a seed; none if there is no noise."""
        hottest = self.equation.kT if self.schedule is None else float(self.schedule[:, 1].max())
        warm = dataclasses.replace(self.equation, kT=hottest)
        made = [dynamics.generator(warm, seed, self.start.device) for seed in self.seeds]
        return [rng for rng in made if rng is not None]

    def equation_at(self, step: int) -> LandauLifshitz:
        """With the temperature at the middle of a step."""
        if self.schedule is None:
            return self.equation
        kT = np.interp((step + 0.5) * self.equation.dt, *self.schedule.T)
        return dataclasses.replace(self.equation, kT=float(kT))

    def advanced(self, spins: Tensor, rngs: list[torch.Generator], step: int, to: int) -> Tensor:
        """The spins at a later step; raises if they are not finite."""
        rng = None if not rngs else rngs if spins.ndim == 3 else rngs[0]
        equations = (self.equation_at(k) for k in range(step, to))
        broken = f"at step {to} of dt = {self.equation.dt}; the store ends at step {step}"
        try:
            spins = dynamics.evolve(spins, self.local_field, equations, rng)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, {broken}") from error
        if not bool(torch.isfinite(spins).all()):
            raise FloatingPointError(f"spins: not finite {broken}")
        return spins

    def measured(self, spins: Tensor) -> dict[str, Tensor]:
        """Observables and readings of the guard, a row each."""
        rows = {f"observables/{k}": self._observed(f, spins) for k, f in self.observables.items()}
        deviation = torch.linalg.vector_norm(spins.double(), dim=-1) - 1
        rows["guard/norm_drift"] = deviation.abs().amax(-1)
        if self.guard is not None:
            readings = self.guard.readings(spins)
            readings["energy_drift"] = readings["energy_per_site"] - self.energy
            rows |= {f"guard/{name}": value for name, value in readings.items()}
        return rows

    def _observed(self, function: Observable, spins: Tensor) -> Tensor:
        """One configuration at a time: what a function makes of a batch is its own affair."""
        if spins.ndim == 2:
            return _row(function(self.lattice, spins))
        return torch.stack([_row(function(self.lattice, s)) for s in spins])

    def frame(self, spins: Tensor) -> NDArray[Any]:
        return spins.to(getattr(torch, self.frame_dtype)).cpu().numpy()


def _row(value: Any) -> Tensor:
    """A value as a tensor of real or complex numbers: 0 at the start may be 0.7 later."""
    found = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    exact = found.dtype.is_floating_point or found.dtype.is_complex
    return found.detach() if exact else found.detach().double()


@dataclass(frozen=True)
class _State:
    """A run at one of its marks: all that a checkpoint needs, still on the device."""

    step: int
    n_saved: int
    n_frames: int
    spins: Tensor
    generators: list[Tensor]

    def checkpoint(self, seconds: float) -> Checkpoint:
        states = [state.numpy() for state in self.generators]
        packed = np.stack(states) if states else np.zeros((1, 0), np.uint8)
        spins = self.spins.cpu().numpy()
        return Checkpoint(self.step, self.n_saved, self.n_frames, seconds, spins, packed)


def quench(
    path: str | os.PathLike[str],
    lattice: Lattice,
    spins: Any,
    local_field: LocalField,
    equation: LandauLifshitz,
    n_steps: int,
    save_every: Steps,
    observables: Mapping[str, Observable] | None = None,
    seed: int | Sequence[int] = 0,
    checkpoint_every: int = 10,
    report: Callable[[int], None] | None = None,
    engine: str = "",
    *,
    schedule: Schedule | None = None,
    frames_every: Steps | None = None,
    frame_dtype: str = "float32",
    guard: Guard | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Run:
    """Run ``n_steps`` from ``spins`` to the store at ``path``; continue the run found there.

    Parameters
    ----------
    path : path
        The HDF5 store. A store of the same run is resumed (or just read, when complete); one of a
        different run is refused. While it is written ``path`` + '.lock' lies beside it and keeps
        others away (:mod:`sdml.simulation.lock`); reading it is always allowed.
    lattice : Lattice
    spins : (N, 3) or (B, N, 3)
        Start, of one configuration or one for each seed. The run keeps its dtype; tensors keep
        their device.
    local_field : callable
        Tensor -> field of the same shape: ``lambda s: exact.solve(model, s).local_field`` or
        ``forcefield.field``.
    equation : LandauLifshitz
        'adams' starts anew at every time of observables or frames, so that what a run is resumed
        from is all it knows. Made longer at a step that is no such time, it starts anew there too,
        and differs within the errors of dt from a run that was longer from the start.
    n_steps : int
        More than the store holds make its run longer; fewer give all of it, with a warning.
    save_every : int or sequence of int
        Observables are kept at step 0 and every ``save_every`` steps, of which ``n_steps`` is a
        multiple, or at the steps listed (see :func:`logarithmic_steps`). Lists for a shorter and
        a longer run must agree up to the end of the shorter; the row at that very end is dropped
        when the run becomes longer and the new list does not have it.
    observables : dict, optional
        Name -> function of (lattice, spins (N, 3)), evaluated on the device of the run. The shape
        of the result must not change.
    seed : int or sequence of int
        Of the noise; a sequence for a batch.
    checkpoint_every : int
        Times of observables or frames between two checkpoints.
    report : callable, optional
        Gets the number of steps done at every such time.
    engine : str
        What ``local_field`` is, for the header; a run under another engine is another run.
    schedule : sequence of (time, kT), optional
        Temperature of the bath, linear in between and constant outside; ``equation.kT`` must be 0.
        A step takes its value at the middle of the step.
    frames_every : int or sequence of int, optional
        Frames are kept at step 0 and every so many steps; by default with the observables.
    frame_dtype : {'float32', 'float16'}
        Of the frames in the store. Checkpoints hold all digits.
    guard : Guard, optional
        Watches the force field at the times of the observables.
    provenance : dict, optional
        Plain values for the header, by which runs are told apart; those of numpy are converted.
    progress : bool, optional
        A bar with the time left and the rate; by default on a terminal outside CI.

    Raises
    ------
    ValueError
        Bad argument, or the store at ``path`` belongs to another run, cannot be read, is written
        by another process, or holds the noise of another kind of device.
    FloatingPointError
        The spins are no longer finite; the store keeps the last good state, as it does after all
        that ``local_field``, observables and ``report`` raise.
    RuntimeError
        The iteration of 'midpoint' does not converge: dt is too large.
    OutsideTrainedRange
        The guard stopped the run; the store ends there.
    OSError
        Full disk, or no right to write; the last checkpoint is intact. Space for the whole run is
        taken at its start.
    """
    start, seeds = _batch(as_tensor(spins, lattice.n_sites).detach(), seed)
    require_positive("checkpoint_every", checkpoint_every)
    if frame_dtype not in FRAME_DTYPES:
        raise ValueError(f"frame_dtype: must be one of {FRAME_DTYPES}, got {frame_dtype!r}")
    plan = timetable.timetable(n_steps, save_every, frames_every)
    if schedule is not None and equation.kT:
        raise ValueError(f"equation: kT must be 0 where a schedule gives it, got {equation.kT}")
    table = None if schedule is None else timetable.temperatures(schedule)
    parts = (local_field, equation, table, seeds, dict(observables or {}), frame_dtype, guard)
    driver = _Driver(lattice, start, *parts)
    header = _header(driver, save_every, frames_every)
    header |= {"seed": seeds if np.iterable(seed) else seeds[0], "engine": engine}
    origin = dict(provenance or {})
    header["provenance"] = {k: journal.plain(f"provenance[{k!r}]", v) for k, v in origin.items()}
    target, header = Path(path), json.loads(json.dumps(header))
    layout = Layout(header, plan, equation.dt, str(start.device))
    if guard is not None:
        guard.announce()
    if not (target.exists() and journal.complete(target, layout)):
        with lock.held(target):
            if _prepared(target, layout, driver):
                with Store(target) as out, _bar(progress, n_steps, start) as bar:
                    _run(out, driver, plan, checkpoint_every, report, bar)
                return load(target)
    lock.sweep(target)
    found = load(target)
    if found.step > n_steps:
        longer = f"the run at {target.name!r} is longer and comes whole, to step {found.step}"
        warnings.warn(f"n_steps: {n_steps} are asked for, {longer}", stacklevel=2)
    if guard is not None and found.step in plan.saved:  # what was stopped at its end stays so
        guard.heed(guard.readings(torch.from_numpy(found.spins).to(start)), found.step, True)
    return found


def _run(
    out: Store,
    driver: _Driver,
    plan: Timetable,
    checkpoint_every: int,
    report: Callable[[int], None] | None,
    bar: Any,
) -> None:
    began = clock.monotonic() - out.checkpoint.seconds
    state, rngs = _restored(out.checkpoint, driver)
    bar.update(state.step * state.spins[..., 0].numel())
    warned, uncommitted = False, 0
    try:
        # A run that was stopped does not slip away.
        if driver.guard is not None and state.step in plan.saved:
            warned = driver.guard.heed(driver.guard.readings(state.spins), state.step, warned)
        for mark in plan.marks[plan.marks > state.step]:
            reached = driver.advanced(state.spins, rngs, state.step, int(mark))
            saved, framed = mark in plan.saved, mark in plan.frames
            rows = driver.measured(reached) if saved else {}
            for name, value in rows.items():
                out.write(name, state.n_saved, value.cpu().numpy())
            if framed:
                out.write("frames", state.n_frames, driver.frame(reached))
            states = [rng.get_state() for rng in rngs]
            bar.update((int(mark) - state.step) * reached[..., 0].numel())
            counts = state.n_saved + saved, state.n_frames + framed
            state = _State(int(mark), *counts, reached, states)
            uncommitted += 1
            if uncommitted >= checkpoint_every or state.step >= plan.n_steps:
                out.commit(state.checkpoint(clock.monotonic() - began))
                uncommitted = 0
            if driver.guard is not None and saved:
                readings = {name.removeprefix("guard/"): value for name, value in rows.items()}
                warned = driver.guard.heed(readings, state.step, warned)
            if report:
                report(state.step)
    except BaseException:
        if state.step > out.checkpoint.step and not out.failed:  # what is good is kept
            out.commit(state.checkpoint(clock.monotonic() - began))
        raise


def _batch(start: Tensor, seed: int | Sequence[int]) -> tuple[Tensor, list[int]]:
    """The start and a seed for each configuration; ValueError unless they belong together."""
    seeds = _seeds(seed)
    expected = (len(seeds), *start.shape[-2:]) if np.iterable(seed) else start.shape[-2:]
    if tuple(start.shape) != tuple(expected) or not seeds:
        raise ValueError(
            f"spins: (N, 3) with one seed or (B, N, 3) with a list of B is needed, got "
            f"{tuple(start.shape)} with seed = {seed}"
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seed: must differ from each other, got {seeds}")
    return start, seeds


def _seeds(seed: Any) -> list[int]:
    try:
        return [operator.index(one) for one in (seed if np.iterable(seed) else [seed])]
    except TypeError as error:
        allowed = "a whole number, or a sequence of them for a batch"
        raise ValueError(f"seed: must be {allowed}, got {seed!r}") from error


def _header(driver: _Driver, save_every: Steps, frames_every: Steps | None) -> dict[str, Any]:
    """What makes two runs the same run (their length may differ)."""
    digest = hashlib.sha256(driver.start.cpu().numpy().tobytes()).hexdigest()
    return {
        "lattice": dataclasses.asdict(driver.lattice),
        "equation": dataclasses.asdict(driver.equation),
        "schedule": None if driver.schedule is None else driver.schedule.tolist(),
        "save_every": timetable.spacing(save_every),
        "frames_every": timetable.spacing(frames_every),
        "frame_dtype": driver.frame_dtype,
        "observables": list(driver.observables),
        "guard": [] if driver.guard is None else sorted(driver.guard.quantities),
        "start_sha256": digest,
        "dtype": str(driver.start.dtype),
    }


def _prepared(target: Path, layout: Layout, driver: _Driver) -> bool:
    """Make room for the plan at the path; False if the run there is as long already."""
    if target.exists():
        return journal.extended(target, layout)
    state = _State(0, 1, 1, driver.start, [rng.get_state() for rng in driver.generators()])
    rows = {name: value.cpu().numpy() for name, value in driver.measured(driver.start).items()}
    rows["frames"] = driver.frame(driver.start)
    journal.begin(target, layout, state.checkpoint(0.0), {k: v[None] for k, v in rows.items()})
    return layout.plan.n_steps > 0


def _restored(checkpoint: Checkpoint, driver: _Driver) -> tuple[_State, list[torch.Generator]]:
    rngs = driver.generators()
    states = [torch.from_numpy(row.copy()) for row in checkpoint.generators[: len(rngs)]]
    for rng, state in zip(rngs, states, strict=True):
        rng.set_state(state)
    spins = torch.from_numpy(checkpoint.spins).to(driver.start)
    counts = checkpoint.step, checkpoint.n_saved, checkpoint.n_frames
    return _State(*counts, spins, states), rngs


def _bar(wanted: bool | None, n_steps: int, start: Tensor) -> Any:
    """Spin-steps with their rate and the time left; for people only, unless asked for."""
    people = sys.stderr.isatty() and not os.environ.get("CI")
    total = n_steps * start[..., 0].numel()
    shown = people if wanted is None else wanted
    return tqdm(total=total, unit=" spin-steps", unit_scale=True, disable=not shown, leave=False)
