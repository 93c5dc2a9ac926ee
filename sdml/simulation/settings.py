"""How a run is watched and written down: all that a caller may choose, in one description."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sdml.lattice import Lattice
from sdml.simulation import journal, timetable
from sdml.simulation.guard import Guard
from sdml.simulation.timetable import Schedule, Steps
from sdml.spins import Seed, seed_number

__all__ = ["FRAME_DTYPES", "Observable", "Settings"]

Observable = Callable[[Lattice, Tensor], Any]
FRAME_DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Settings:
    """The keywords of :func:`sdml.simulation.quench`, their defaults and what is allowed.

    Parameters
    ----------
    observables : dict, optional
        Name -> function of (lattice, spins (N, 3)), evaluated on the device of the run. The shape
        of the result must not change.
    seed : int or generator, or sequence of them
        Of the noise; a sequence for a batch. A generator gives a number, by which the run is known.
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
        A value that is not allowed.
    """

    observables: Mapping[str, Observable] | None = None
    seed: Seed | Sequence[Seed] = 0
    checkpoint_every: int = 10
    report: Callable[[int], None] | None = None
    engine: str = ""
    schedule: Schedule | None = None
    frames_every: Steps | None = None
    frame_dtype: str = "float32"
    guard: Guard | None = None
    provenance: Mapping[str, Any] | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        timetable.require_positive("checkpoint_every", self.checkpoint_every)
        if self.frame_dtype not in FRAME_DTYPES:
            raise ValueError(
                f"frame_dtype: must be one of {FRAME_DTYPES}, got {self.frame_dtype!r}"
            )
        if self.frames_every is not None:
            timetable.steps("frames_every", self.frames_every, 0)
        try:
            numbers = [seed_number(k) for k in self.seeds]
        except ValueError as error:
            allowed = "a whole number or a generator, or a sequence of them for a batch"
            raise ValueError(f"seed: must be {allowed}, got {self.seed!r}") from error
        object.__setattr__(self, "seed", numbers if self.batched else numbers[0])
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seed: must differ from each other, got {self.seeds}")
        if self.schedule is not None:
            object.__setattr__(self, "schedule", timetable.temperatures(self.schedule))
        given = dict(self.provenance or {})
        plain = {k: journal.plain(f"provenance[{k!r}]", v) for k, v in given.items()}
        object.__setattr__(self, "provenance", plain)

    @property
    def seeds(self) -> list[int]:
        """One for each configuration."""
        return list(self.seed) if self.batched else [self.seed]  # type: ignore

    @property
    def batched(self) -> bool:
        """Whether the run has a configuration for each of several seeds."""
        return np.iterable(self.seed)
