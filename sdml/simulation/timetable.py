"""When a run is written down, and how warm it is when."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Schedule", "Steps", "Timetable", "logarithmic_steps", "timetable"]

Steps = int | Sequence[int]
Schedule = Sequence[tuple[float, float]]
IntArray = NDArray[np.int64]
LISTED = "listed"


@dataclass(frozen=True)
class Timetable:
    """Steps of a run of ``n_steps`` at which observables are saved and frames are kept."""

    n_steps: int
    saved: IntArray
    frames: IntArray

    @property
    def marks(self) -> IntArray:
        """All steps at which something is to be done, ascending."""
        return np.union1d(np.union1d(self.saved, self.frames), [self.n_steps])

    def agrees(self, other: "Timetable", step: int) -> bool:
        """Whether both write the same up to a step.

        The shorter may write at its own end what the longer does not: lists that are spaced evenly
        in the logarithm all close with their last step (:func:`logarithmic_steps`).
        """
        shorter, longer = sorted((self, other), key=lambda table: table.n_steps)
        end = [shorter.n_steps] if shorter.n_steps < longer.n_steps else []
        for brief, full in ((shorter.saved, longer.saved), (shorter.frames, longer.frames)):
            common = np.setdiff1d(brief, np.setdiff1d(end, full))
            if not np.array_equal(common[common <= step], full[full <= step]):
                return False
        return True


def timetable(n_steps: int, save_every: Steps, frames_every: Steps | None) -> Timetable:
    """The steps 0, ``every``, 2 ``every``, ... or those listed, up to ``n_steps``.

    ValueError for steps that are not allowed: ``n_steps`` must be a multiple of ``save_every``.
    """
    if n_steps < 0 or int(n_steps) != n_steps:
        raise ValueError(f"n_steps: must be an integer >= 0, got {n_steps}")
    saved = steps("save_every", save_every, n_steps)
    if spacing(save_every) != LISTED and n_steps % save_every:  # type: ignore[operator]
        raise ValueError(f"n_steps: must be a multiple of save_every = {save_every}, got {n_steps}")
    frames = saved if frames_every is None else steps("frames_every", frames_every, n_steps)
    return Timetable(int(n_steps), saved, frames)


def steps(argument: str, every: Steps, n_steps: int) -> IntArray:
    """The steps of a list or a spacing, 0 among them, up to ``n_steps``; ValueError otherwise."""
    if isinstance(every, (int, np.integer)):
        require_positive(argument, int(every))
        return np.arange(0, n_steps + 1, every, dtype=np.int64)
    steps = np.asarray(every)
    if steps.ndim != 1 or not len(steps) or steps.dtype.kind not in "iu" or steps.min() < 0:
        raise ValueError(f"{argument}: must be a number of steps or a list of steps, got {every}")
    steps = np.union1d([0], steps)
    return steps[steps <= n_steps].astype(np.int64)


def spacing(every: Steps | None) -> int | str | None:
    """A cadence in few words, for a header."""
    if every is None:
        return None
    return int(every) if isinstance(every, (int, np.integer)) else LISTED


def logarithmic_steps(n_steps: int, per_decade: int = 10) -> list[int]:
    """Steps 0, 1, ..., ``n_steps``, evenly spaced in their logarithm, each once.

    A list for a longer run begins with those of a shorter one, but for their ends: a run that is
    made longer drops the row at its old end unless the longer list has it too.
    """
    require_positive("n_steps", n_steps)
    require_positive("per_decade", per_decade)
    exponents = np.arange(0, per_decade * np.log10(n_steps) + 1e-9) / per_decade
    steps = np.unique(np.round(10**exponents).astype(int))
    return [0, *(int(k) for k in steps if k < n_steps), n_steps]


def temperatures(schedule: Schedule) -> Schedule:
    """Pairs of a piecewise linear kT(t), constant outside, in plain numbers; ValueError if none."""
    table = np.asarray(schedule, dtype=float)
    if table.ndim != 2 or table.shape[1:] != (2,) or not np.isfinite(table).all():
        raise ValueError(f"schedule: must be pairs of a time and a kT, got {schedule}")
    if (np.diff(table[:, 0]) <= 0).any() or (table[:, 1] < 0).any():
        raise ValueError(f"schedule: times must ascend and kT be >= 0, got {schedule}")
    return tuple((time, kT) for time, kT in table.tolist())


def require_positive(argument: str, value: int) -> None:
    """ValueError unless the value is at least 1."""
    if value < 1:
        raise ValueError(f"{argument}: must be at least 1, got {value}")
