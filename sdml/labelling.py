"""Labelling at scale: independent jobs, each of which can be killed and goes on where it stopped.

A job is a callable without arguments that can be sent to another process; it returns whether there
was anything left to do. One job is a whole quench, resumable frame by frame, or a block of random
states, written whole. What it writes does not depend on where and in which order the jobs run.
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sdml import dataset, exact, forcefield, spins
from sdml.dataset import Solver
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel

__all__ = ["QuenchJob", "RandomStates"]

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
        object.__setattr__(self, "seed", spins.seed_number(self.seed))

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
            self._checked(self.path, self.n_snapshots, self.solver)
            return {}
        stem, blocks = self.path.stem, self.sizes()
        return {f"{stem}_{first:06d}": partial(self.label_block, first) for first in blocks}

    def label_block(self, first: int) -> bool:
        """Write one block, unless it is there."""
        target, size = self._block(first), self.sizes()[first]
        if target.exists():
            self._checked(target, size, self.solver)
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

    def _checked(self, target: Path, size: int, solver: Solver | None = None) -> dataset.Dataset:
        data = dataset.load(target)
        provenance = {"engine": dataset.engine_name(self.solver), "random_seed": self.seed}
        dataset.require_origin(target, data, self.model, provenance, solver)
        if len(data) != size:
            raise ValueError(f"path: {target.name!r} holds {len(data)} snapshots, not {size}")
        return data


@dataclass(frozen=True)
class QuenchJob:
    """The job of one quench in a store of its own; called, it begins it or goes on with it.

    Parameters
    ----------
    path : path
        The store.
    model, equation, save_times, seed, solver, texture
        See :func:`sdml.dataset.quench`; times are multiples of dt.
    driver : str, optional
        The force field that drives it, released or a file; without one the fields of ``solver`` do.

    Raises
    ------
    ValueError
        A texture that is not allowed, or times that are no multiples of dt, which
        :func:`sdml.dataset.quench` would round.
    """

    path: str | os.PathLike[str]
    model: SDModel
    equation: LandauLifshitz
    save_times: Sequence[float]
    seed: int
    driver: str | None = None
    solver: Solver = exact.solve
    texture: str = "random"

    def __post_init__(self) -> None:
        for time in self.save_times:
            steps = time / self.equation.dt
            if not (math.isfinite(steps) and math.isclose(steps, round(steps), rel_tol=TOLERANCE)):
                allowed = f"multiples of dt = {self.equation.dt}"
                raise ValueError(f"save_times: must be {allowed}, got {time}")
        dataset.save_steps(self.save_times, self.equation)
        object.__setattr__(self, "seed", spins.seed_number(self.seed))
        spins.start(self.texture, self.model.lattice, self.seed)
        # A worker of a cluster may run in another folder.
        object.__setattr__(self, "path", Path(self.path).absolute())
        if self.driver is not None and Path(self.driver).is_file():
            object.__setattr__(self, "driver", str(Path(self.driver).absolute()))

    def __call__(self) -> bool:
        """Whether there was anything left to do."""
        finished, driver = dataset.is_complete(self.path), None
        if self.driver is not None:
            driver = forcefield.load(self.driver).on(self.model.lattice)
        recipe = self.model, self.equation, self.save_times, self.seed, self.solver
        dataset.quench(*recipe, driver=driver, path=self.path, texture=self.texture)
        return not finished
