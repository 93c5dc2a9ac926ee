"""Long runs: Landau-Lifshitz dynamics with observables on the fly, frames, checkpoints and resume.

A run is one HDF5 store with named dimensions, see :mod:`sdml.simulation.store`. Killed at any
moment it loses what came after its last checkpoint and goes on from there, bit for bit on the same
device. A batch of seeds is one run: every configuration has its own noise and gets the observables
that it would get alone; its spins agree with those of a run of its own to the last bit if the field
does.

While a store is written its path + '.lock' lies beside it and keeps others away
(:mod:`sdml.simulation.lock`); reading it is always allowed. Lists of steps for a shorter and a
longer run must agree up to the end of the shorter; the row at that very end is dropped when the run
becomes longer and the new list does not have it.

'adams' and 'neutral' start anew at every time of observables or frames, so that what a run is
resumed from is all it knows. Made longer at a step that is no such time, it starts anew there too,
and differs within the errors of dt from a run that was longer from the start.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time as clock
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
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
from sdml.simulation.journal import Layout, Run
from sdml.simulation.settings import Observable, Settings
from sdml.simulation.store import Checkpoint, Store
from sdml.simulation.timetable import Steps, Timetable
from sdml.spins import as_tensor, perturbed

__all__ = ["quench"]

N_PROJECTIONS = 32


@dataclass
class _Motion:
    """What a run is made of; refuses what does not belong together."""

    lattice: Lattice
    start: Tensor
    local_field: LocalField
    equation: LandauLifshitz
    settings: Settings

    def __post_init__(self) -> None:
        seeds, shape = self.settings.seeds, self.start.shape
        expected = (len(seeds), *shape[-2:]) if self.settings.batched else shape[-2:]
        if tuple(shape) != tuple(expected) or not seeds:
            raise ValueError(
                f"spins: (N, 3) with one seed or (B, N, 3) with a list of B is needed, got "
                f"{tuple(shape)} with seed = {self.settings.seed}"
            )
        if self.settings.schedule is not None and self.equation.kT:
            given = self.equation.kT
            raise ValueError(f"equation: kT must be 0 where a schedule gives it, got {given}")
        called = getattr(self.local_field, "func", self.local_field)  # of a partial
        self.lattice.require_of(getattr(called, "__self__", None), "local_field")
        if self.settings.guard is not None:
            self.lattice.require_of(self.settings.guard.forcefield, "guard")

    @cached_property
    def energy(self) -> Tensor:
        """That of the start, per site, by the force field that is guarded."""
        assert self.settings.guard is not None
        return self.settings.guard.readings(self.start)["energy_per_site"]

    def generators(self, state: Checkpoint | None = None) -> list[torch.Generator]:
        """One a seed, as at the start or in a state; none if there is no noise."""
        hottest = max([self.equation.kT, *(kT for _, kT in self.settings.schedule or ())])
        warm = dataclasses.replace(self.equation, kT=hottest)
        made = [dynamics.generator(warm, k, self.start.device) for k in self.settings.seeds]
        rngs = [rng for rng in made if rng is not None]
        if state is not None and rngs:
            for rng, row in zip(rngs, state.generators, strict=True):
                rng.set_state(torch.from_numpy(row.copy()))
        return rngs

    def spins_of(self, state: Checkpoint | Run) -> Tensor:
        """On the device of the run."""
        return torch.from_numpy(state.spins).to(self.start)

    def equation_at(self, step: int) -> LandauLifshitz:
        """With the temperature at the middle of a step."""
        if self.settings.schedule is None:
            return self.equation
        kT = np.interp((step + 0.5) * self.equation.dt, *np.transpose(self.settings.schedule))
        return dataclasses.replace(self.equation, kT=float(kT))

    def rows(self, spins: Any = None) -> dict[str, NDArray[Any]]:
        """Observables and readings of the guard, of the start or of spins in its dtype."""
        s = self.start if spins is None else torch.as_tensor(spins).to(self.start)
        functions, guard = self.settings.observables or {}, self.settings.guard
        rows = {f"observables/{k}": self._observed(f, s) for k, f in functions.items()}
        deviation = torch.linalg.vector_norm(s.double(), dim=-1) - 1
        rows["guard/norm_drift"] = deviation.abs().amax(-1)
        if guard is not None:
            readings = guard.readings(s)
            readings["energy_drift"] = readings["energy_per_site"] - self.energy
            rows |= {f"guard/{name}": value for name, value in readings.items()}
        return {name: value.cpu().numpy() for name, value in rows.items()}

    def projections(self) -> NDArray[np.float64]:
        """The field near the start, in t, on ``N_PROJECTIONS`` patterns of random signs.

        Near: at an ordered start many fields agree. As large as the field in the root mean square.
        """
        near = torch.as_tensor(perturbed(self.start, 0.3, 0)).to(self.start)
        field = torch.as_tensor(self.local_field(near)).detach().cpu().double().numpy().ravel()
        rng = np.random.default_rng(0)
        signs = (rng.choice([-1.0, 1.0], field.size) for _ in range(N_PROJECTIONS))
        return np.array([pattern @ field for pattern in signs]) / np.sqrt(field.size)

    def trajectory(
        self, spins: Tensor, marks: Any, rngs: list[torch.Generator], begun: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Step and spins at each mark, see :func:`sdml.dynamics.trajectory`."""
        noise = rngs if self.settings.batched else next(iter(rngs), None)
        return dynamics.trajectory(spins, self.local_field, self.equation_at, marks, noise, begun)

    def _observed(self, function: Observable, spins: Tensor) -> Tensor:
        """One configuration at a time: what a function makes of a batch is its own affair."""
        if spins.ndim == 2:
            return _row(function(self.lattice, spins.clone()))
        return torch.stack([_row(function(self.lattice, s)) for s in spins.clone()])

    def frame(self, spins: Tensor) -> NDArray[Any]:
        return spins.to(getattr(torch, self.settings.frame_dtype)).cpu().numpy()

    def header(self, save_every: Steps) -> dict[str, Any]:
        """What makes two runs the same run (their length may differ), plain values."""
        chosen = self.settings
        header = {
            "lattice": dataclasses.asdict(self.lattice),
            "equation": dataclasses.asdict(self.equation),
            "schedule": chosen.schedule,
            "save_every": timetable.spacing(save_every),
            "frames_every": timetable.spacing(chosen.frames_every),
            "frame_dtype": chosen.frame_dtype,
            "observables": list(chosen.observables or {}),
            "guard": [] if chosen.guard is None else sorted(chosen.guard.quantities),
            "start_sha256": hashlib.sha256(self.start.cpu().numpy().tobytes()).hexdigest(),
            "dtype": str(self.start.dtype),
            "seed": chosen.seeds if chosen.batched else chosen.seeds[0],
            "engine": chosen.engine,
            "provenance": chosen.provenance,
        }
        plain: dict[str, Any] = json.loads(json.dumps(header))
        return plain


def _row(value: Any) -> Tensor:
    """A value as a tensor of real or complex numbers: 0 at the start may be 0.7 later."""
    found = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    exact = found.dtype.is_floating_point or found.dtype.is_complex
    return found.detach() if exact else found.detach().double()


def quench(
    path: str | os.PathLike[str],
    lattice: Lattice,
    spins: Any,
    local_field: LocalField,
    equation: LandauLifshitz,
    n_steps: int,
    save_every: Steps,
    **settings: Any,
) -> Run:
    """Run ``n_steps`` from ``spins`` to the store at ``path``; continue the run found there.

    Parameters
    ----------
    path : path
        The HDF5 store. One of the same run is resumed (or just read, when complete), others are
        refused: field and observables are evaluated anew and compared with what they gave.
    lattice : Lattice
    spins : (N, 3) or (B, N, 3)
        Start, of one configuration or one for each seed. The run keeps its dtype; tensors keep
        their device.
    local_field : callable
        Tensor -> field of the same shape: ``lambda s: exact.solve(model, s).local_field`` or
        ``forcefield.field``, whose lattice must be that of the run: ``forcefield.on(lattice)``.
    equation : LandauLifshitz
    n_steps : int
        More than the store holds make its run longer; fewer give all of it, with a warning.
    save_every : int or sequence of int
        Observables are kept at step 0 and every ``save_every`` steps, of which ``n_steps`` is a
        multiple, or at the steps listed (see :func:`logarithmic_steps`).
    **settings
        ``observables``, ``seed``, ``checkpoint_every``, ``report``, ``engine``, ``schedule``,
        ``frames_every``, ``frame_dtype``, ``guard``, ``provenance`` and ``progress``: the fields of
        :class:`Settings`.

    Raises
    ------
    ValueError
        Bad argument, or the store at ``path`` belongs to another run, cannot be read, is written
        by another process, or holds the noise of another kind of device.
    TypeError
        Unknown keyword.
    FloatingPointError
        The spins are no longer finite; the store keeps the last good state, as it does after all
        that ``local_field``, observables and ``report`` raise.
    RuntimeError
        The iteration of 'midpoint' does not converge: dt is too large.
    OutsideTrainedRange
        The guard stopped the run; the store ends there.
    OSError
        Full disk, or no right to write; the last checkpoint is intact. Space is taken at the start.
    """
    chosen = _chosen(settings)
    start = as_tensor(spins, lattice.n_sites).detach()
    motion = _Motion(lattice, start, local_field, equation, chosen)
    plan = timetable.timetable(n_steps, save_every, chosen.frames_every)
    header, device = motion.header(save_every), str(start.device)
    layout = Layout(header, plan, equation.dt, device, motion.projections, motion.rows)
    return _completed(Path(path), motion, layout)


def _chosen(settings: dict[str, Any]) -> Settings:
    allowed = [field.name for field in dataclasses.fields(Settings)]
    for name in settings:
        if name not in allowed:
            raise TypeError(f"{name}: no keyword of quench, which are {allowed}")
    return Settings(**settings)


def _completed(target: Path, motion: _Motion, layout: Layout) -> Run:
    """The run of a store, which is begun or made longer where it has to be."""
    plan, guard = layout.plan, motion.settings.guard
    if guard is not None:
        guard.announce()
    if not (target.exists() and journal.complete(target, layout)):
        with lock.held(target):
            if _prepared(target, layout, motion):
                with Store(target) as out:
                    _run(out, motion, plan)
                return journal.load(target)
    lock.sweep(target)
    found = journal.load(target)
    if found.step > plan.n_steps:
        longer = f"the run at {target.name!r} is longer and comes whole, to step {found.step}"
        warnings.warn(f"n_steps: {plan.n_steps} are asked for, {longer}", stacklevel=3)
    if guard is not None and found.step in plan.saved:  # what was stopped at its end stays so
        guard.heed(guard.readings(motion.spins_of(found)), found.step, True)
    return found


def _run(out: Store, motion: _Motion, plan: Timetable) -> None:
    settings, guard = motion.settings, motion.settings.guard
    state, rngs = out.checkpoint, motion.generators(out.checkpoint)
    began = clock.monotonic() - state.seconds
    start, marks = motion.spins_of(state), plan.marks[plan.marks > state.step]
    warned, uncommitted = False, 0
    try:
        # A run that was stopped does not slip away.
        if guard is not None and state.step in plan.saved:
            warned = guard.heed(guard.readings(start), state.step, warned)
        with _bar(settings.progress, plan.n_steps, state) as bar:
            for mark, spins in motion.trajectory(start, marks, rngs, state.step):
                saved, framed = mark in plan.saved, mark in plan.frames
                rows = motion.rows(spins) if saved else {}
                for name, value in rows.items():
                    out.write(name, state.n_saved, value)
                if framed:
                    out.write("frames", state.n_frames, motion.frame(spins))
                bar.update((mark - state.step) * spins[..., 0].numel())
                counts = mark, state.n_saved + saved, state.n_frames + framed
                state = _checkpoint(counts, clock.monotonic() - began, spins, rngs)
                uncommitted += 1
                if uncommitted >= settings.checkpoint_every or mark >= plan.n_steps:
                    out.commit(state)
                    uncommitted = 0
                if guard is not None and saved:
                    readings = {k.removeprefix("guard/"): value for k, value in rows.items()}
                    warned = guard.heed(readings, mark, warned)
                if settings.report:
                    settings.report(mark)
    except BaseException:
        if state.step > out.checkpoint.step and not out.failed:  # what is good is kept
            out.commit(state)
        raise


def _prepared(target: Path, layout: Layout, motion: _Motion) -> bool:
    """Make room for the plan at the path; False if the run there is as long already."""
    if target.exists():
        return journal.extended(target, layout)
    first = _checkpoint((0, 1, 1), 0.0, motion.start, motion.generators())
    rows = motion.rows() | {"frames": motion.frame(motion.start)}
    journal.begin(target, layout, first, {k: v[None] for k, v in rows.items()})
    return layout.plan.n_steps > 0


def _checkpoint(
    counts: tuple[int, int, int], seconds: float, spins: Tensor, rngs: list[torch.Generator]
) -> Checkpoint:
    """After so many steps, rows of observables and frames."""
    states = [rng.get_state().numpy() for rng in rngs]
    packed = np.stack(states) if states else np.zeros((1, 0), np.uint8)
    return Checkpoint(*counts, seconds, spins.cpu().numpy(), packed)


def _bar(wanted: bool | None, n_steps: int, state: Checkpoint) -> Any:
    """Spin-steps with their rate and the time left; for people only, unless asked for."""
    people = sys.stderr.isatty() and not os.environ.get("CI")
    shown, n_spins = people if wanted is None else wanted, state.spins[..., 0].size
    looks = {"unit": " spin-steps", "unit_scale": True, "disable": not shown, "leave": False}
    return tqdm(total=n_steps * n_spins, initial=state.step * n_spins, **looks)
