"""Short quenches on small lattices, held in memory and continued step by step.

For eyes: what lasts or counts is a run of :mod:`sdml.simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import observables
from sdml import spins as spin_arrays
from sdml.dynamics import LandauLifshitz, trajectory
from sdml.forcefield import ForceField
from sdml.lattice import Lattice

FloatArray = NDArray[np.float64]
MEASURES = {
    "square": observables.site_correlation,
    "triangular": observables.site_chirality,
}
"""What is shown of every site: the order that the two stories of the paper are about."""


@dataclass(frozen=True)
class Course:
    """A quench so far.

    Attributes
    ----------
    lattice : Lattice
    spins : (N, 3) tensor
        The last ones, in the precision of the force field.
    values : (N,)
        Site chirality (triangular) or mean S_i . S_j with the neighbours (square) of the last ones.
    time : (T,)
        hbar / t.
    order : (T,)
        Mean of |values| over the sites.
    energy : (T,)
        Of the force field, t per site.
    """

    lattice: Lattice
    spins: Tensor
    values: FloatArray
    time: FloatArray
    order: FloatArray
    energy: FloatArray


def begun(field: ForceField, length: int, seed: int) -> Course:
    """Random spins on the ``length`` x ``length`` lattice of a force field, at time 0.

    Raises
    ------
    ValueError
        The force field is neither of a square nor of a triangular lattice.
    """
    if field.model.lattice.name not in MEASURES:
        kinds = sorted(MEASURES)
        raise ValueError(f"field: must be of one of {kinds}, got {field.model.lattice.name!r}")
    spins = torch.as_tensor(spin_arrays.random(length**2, seed)).to(field.dtype)
    nothing = np.empty(0)
    return _seen(field, field.lattice_of(length**2), spins, 0.0, (nothing, nothing, nothing))


def continued(
    course: Course,
    field: ForceField,
    equation: LandauLifshitz | Callable[[int], LandauLifshitz],
    n_steps: int = 5,
    rng: torch.Generator | None = None,
) -> Iterator[Course]:
    """The course after every ``n_steps`` steps more, without end, each with one more point.

    ``equation`` may be a function of the step, which is asked at each: damping and temperature can
    change on the way. ``rng`` makes the noise.

    Raises
    ------
    ValueError
        ``n_steps`` below 1.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps: must be at least 1, got {n_steps}")
    marks = count(n_steps, n_steps)
    dt = (equation(0) if callable(equation) else equation).dt
    begun = float(course.time[-1])
    for step, spins in trajectory(course.spins, field.field, equation, marks, rng):
        curves = course.time, course.order, course.energy
        course = _seen(field, course.lattice, spins, begun + step * dt, curves)
        yield course


def short_quench(
    field: ForceField,
    length: int,
    equation: LandauLifshitz,
    n_frames: int = 20,
    n_steps: int = 5,
    seed: int = 0,
) -> Course:
    """A course from random spins: ``n_frames`` times ``n_steps`` steps of ``equation``.

    ``seed`` gives the spins, and the noise where the equation has a temperature.
    """
    course, rng = begun(field, length, seed), torch.Generator().manual_seed(seed)
    *_, last = course, *islice(continued(course, field, equation, n_steps, rng), n_frames)
    return last


def _seen(
    field: ForceField,
    lattice: Lattice,
    spins: Tensor,
    time: float,
    earlier: tuple[FloatArray, FloatArray, FloatArray],
) -> Course:
    values = MEASURES[lattice.name](lattice, spins).double().numpy()
    energy = float(field.energy(spins)) / lattice.n_sites
    now = (time, float(np.abs(values).mean()), energy)
    curves = (np.append(curve, point) for curve, point in zip(earlier, now, strict=True))
    return Course(lattice, spins, values, *curves)
