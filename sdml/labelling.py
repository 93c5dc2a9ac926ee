"""Labelling at scale: independent jobs, each of which can be killed and goes on where it stopped.

A job is a callable without arguments that can be sent to another process; it returns whether there
was anything left to do. One job is a whole quench, resumable frame by frame, or a block of random
states, written whole. What it writes does not depend on where and in which order the jobs run.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sdml import dataset, exact, forcefield
from sdml.dataset import Solver
from sdml.dynamics import LandauLifshitz
from sdml.lattice import Lattice
from sdml.model import SDModel

Job = Callable[[], bool]
BLOCK = 8
"""Random states that a killed job loses at most."""
TOLERANCE = 1e-9
"""Relative error of a time that is a multiple of dt, by the rounding of either."""


@dataclass(frozen=True)
class RandomStates:
    """``n_snapshots`` random states of a seed, in a store made of blocks.

    Parameters
    ----------
    path : path
        The store; its blocks lie beside it, in the folder ``<path>.blocks``, until it is there.
    model : SDModel
    n_snapshots, seed : int
    solver : callable, optional
        The engine of the labels, :func:`sdml.exact.solve` or another that can be sent to a worker.
    """

    path: Path
    model: SDModel
    n_snapshots: int
    seed: int
    solver: Solver = exact.solve

    def __post_init__(self) -> None:
        if self.n_snapshots < 1:
            raise ValueError(f"n_snapshots: must be at least 1, got {self.n_snapshots}")
        object.__setattr__(self, "path", Path(self.path).absolute())

    @property
    def folder(self) -> Path:
        """Where the blocks are until all are there."""
        return self.path.with_name(self.path.name + ".blocks")

    def sizes(self) -> dict[int, int]:
        """Number of the first state of a block -> its length."""
        starts = range(0, self.n_snapshots, BLOCK)
        return {first: min(BLOCK, self.n_snapshots - first) for first in starts}

    def jobs(self) -> dict[str, Job]:
        """Name -> job of every block; none if the store is there. ValueError if it is another."""
        if self.path.exists():
            self._checked(self.path, self.n_snapshots)
            return {}
        names = {first: f"{self.path.stem}_{first:06d}" for first in self.sizes()}
        return {name: partial(self.label_block, first) for first, name in names.items()}

    def label_block(self, first: int) -> bool:
        """Write one block, unless it is there."""
        target, size = self._block(first), self.sizes()[first]
        if target.exists():
            self._checked(target, size)
            return False
        states = dataset.random_states(self.model, size, self.seed, self.solver, first)
        dataset.save(states, target)
        return True

    def gather(self) -> bool:
        """Join the blocks to the store and remove them; False if the store was there."""
        if not self.path.exists():
            parts = [self._checked(self._block(k), size) for k, size in self.sizes().items()]
            whole = replace(dataset.join(parts), provenance=parts[0].provenance)
            dataset.save(whole, self.path)
            shutil.rmtree(self.folder)
            return True
        return False

    def _block(self, first: int) -> Path:
        return self.folder / f"{first:06d}.h5"

    def _checked(self, target: Path, size: int) -> dataset.Dataset:
        data = dataset.load(target)
        provenance = {"engine": dataset.engine_name(self.solver), "random_seed": self.seed}
        dataset.require_origin(target, data, self.model, provenance)
        if len(data) != size:
            raise ValueError(f"path: {target.name!r} holds {len(data)} snapshots, not {size}")
        return data


def quench_job(
    path: str | os.PathLike[str],
    model: SDModel,
    equation: LandauLifshitz,
    save_times: Sequence[float],
    seed: int,
    driver: str | None = None,
    solver: Solver = exact.solve,
    texture: str = "random",
) -> Job:
    """The job of one quench; ``driver`` names the force field that drives it, released or a file.

    ``solver`` labels, and drives without a driver; ``texture`` as of :func:`sdml.dataset.start`.
    ValueError for a texture that is not allowed and for times that are no multiples of dt, which
    :func:`sdml.dataset.quench` would round.
    """
    _require_multiples(save_times, equation.dt)
    dataset.save_steps(save_times, equation)
    dataset.start(model.lattice, seed, texture)
    # A worker of a cluster may run in another folder.
    if driver is not None and Path(driver).is_file():
        driver = str(Path(driver).absolute())
    target = Path(path).absolute()
    begin = partial(
        dataset.quench,
        model,
        equation,
        tuple(save_times),
        seed,
        solver,
        path=target,
        texture=texture,
    )
    return partial(label_quench, begin, target, driver, model.lattice)


def _require_multiples(save_times: Sequence[float], dt: float) -> None:
    for time in save_times:
        steps = time / dt
        if not (math.isfinite(steps) and math.isclose(steps, round(steps), rel_tol=TOLERANCE)):
            raise ValueError(f"save_times: must be multiples of dt = {dt}, got {time}")


def label_quench(
    quench: Callable[..., object], path: Path, driver: str | None, lattice: Lattice
) -> bool:
    """Begin the quench of a store or go on with it; False if it was finished."""
    finished = dataset.is_complete(path)
    if driver is None:
        quench()
    else:
        field = forcefield.load(driver).on(lattice)
        quench(driver=field.local_field, force_field=forcefield.checksum(field))
    return not finished
