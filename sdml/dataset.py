"""Labelled snapshots: generate, label with exact fields, take from elsewhere, store, load, split.

A store is one HDF5 file with named dimensions (xarray opens it with the h5netcdf engine), written
whole or not at all, with the model, the engine and the seeds in its attributes and the SHA-256 of
every snapshot. The store of a quench can be written frame by frame: then it is replaced after every
frame, holds what is needed to go on, and is ``complete`` only with the last.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from sdml import __version__, dynamics, exact, files, forcefield, spins
from sdml.model import ElectronicState, SDModel, describe, from_description

Solver = Callable[[SDModel, Any], ElectronicState]
FILE_FORMAT = "sdml-snapshots-3"
LABELS, LABEL_TOLERANCE = ("local_field", "density", "energy"), 1e-4
"""Relative difference of the labels of one solver by rounding, on whatever machine."""
AXES = ("snapshot", "site", "component")
ARRAYS = {
    "spins": (3, "1"),
    "local_field": (3, "t"),
    "density": (2, "electrons per site"),
    "energy": (1, "t"),
    "chemical_potential": (1, "t"),
    "trajectory": (1, "1"),
    "time": (1, "hbar/t"),
}
"""How many of the axes an array has, and its unit."""
DIMENSIONS = {name: AXES[:n_axes] for name, (n_axes, _) in ARRAYS.items()}
OPTIONAL = ("density", "chemical_potential")
"""Labels that other codes may not have."""
DENSITY_LIMIT = 1 + 1e-5
"""How far a density from elsewhere may be from 1, rounded."""


@dataclass(frozen=True)
class Dataset:
    """Snapshots of one model with their labels; :func:`from_arrays` takes them from elsewhere.

    Attributes
    ----------
    model : SDModel
    spins, local_field : (n, N, 3)
    density : (n, N), or None
        None where it is not known.
    energy : (n,)
        Total energies.
    chemical_potential : (n,), or None
        What holds the number of electrons; None where it is not known.
    trajectory : (n,) int
        Snapshots with the same number come from the same run; they are held out together.
    time : (n,)
        Time after the start of the run, hbar / t.
    provenance : dict
        How the snapshots were made, plain values.

    Raises
    ------
    ValueError
        Shapes that do not fit the lattice or each other, numbers that are not finite (but for the
        chemical potential of empty and full bands), spins that are not of unit length; names the
        array.
    """

    model: SDModel
    spins: NDArray[np.float64]
    local_field: NDArray[np.float64]
    density: NDArray[np.float64] | None
    energy: NDArray[np.float64]
    chemical_potential: NDArray[np.float64] | None
    trajectory: NDArray[np.int64]
    time: NDArray[np.float64]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = (*np.shape(self.spins)[:1], self.model.lattice.n_sites, 3)
        for name, values in self.arrays().items():
            expected = sizes[: len(DIMENSIONS[name])]
            if np.shape(values) != expected:
                raise ValueError(f"{name}: shape must be {expected}, got {np.shape(values)}")
            # Only infinity empties or fills all levels.
            if name != "chemical_potential" or self.model.filling not in (0, 1):
                spins.real_tensor(values, name)
        spins.as_tensor(self.spins)

    @property
    def unknown(self) -> list[str]:
        """Which of density and chemical_potential the labels do not have."""
        return [name for name in OPTIONAL if getattr(self, name) is None]

    def require(self, argument: str, *names: str) -> None:
        """ValueError if one of these is unknown; says of what ``argument`` it is missing."""
        for name in set(names) & set(self.unknown):
            raise ValueError(f"{argument}: needs snapshots with a {name}, got some without")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Name -> array of all that are known, in the order of a store."""
        return {k: getattr(self, k) for k in ARRAYS if k not in self.unknown}

    def __len__(self) -> int:
        return len(self.energy)

    def select(self, chosen: NDArray[Any] | slice) -> "Dataset":
        """The snapshots picked by a mask, by numbers or by a slice."""
        picked: Any = {name: np.array(values[chosen]) for name, values in self.arrays().items()}
        return replace(self, **picked)


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
    mu = np.broadcast_to(state.chemical_potential, state.energy.shape).copy()
    labels = state.local_field, state.density, state.energy, mu
    run = np.array(trajectory, dtype=np.int64), np.array(time, dtype=np.float64)
    origin = {"engine": engine_name(solver), **provenance}
    return Dataset(model, np.array(configurations), *labels, *run, origin)


def from_arrays(
    model: SDModel,
    spins: Any,
    local_field: Any,
    energy: Any,
    density: Any = None,
    chemical_potential: Any = None,
    trajectory: Any = None,
    time: Any = None,
) -> Dataset:
    """Snapshots with labels that another code or a publication gives, checked and copied.

    Parameters
    ----------
    model : SDModel
        What the labels are of; its conventions are theirs.
    spins : (n, N, 3)
        Unit vectors, in the order of the sites of ``model.lattice``.
    local_field : (n, N, 3)
        h_i = -dE/dS_i, in t. Where only the part that turns the spins is published it is enough for
        the torque: train with ``longitudinal_weight`` = 0.
    energy : (n,)
        Totals, in t.
    density : (n, N), optional
        Electrons per site, in [0, 2].
    chemical_potential : (n,), optional
        In t; by default that of the model, if it is the fixed one.
    trajectory : (n,) int, optional
        Which run a snapshot is of. By default all are independent: -1, -2, ...
    time : (n,), optional
        Time after the start of the run, hbar / t; by default 0.

    Returns
    -------
    Dataset
        Its provenance has the engine "given"; ``dataclasses.replace`` can add a source.

    Raises
    ------
    ValueError
        As of :class:`Dataset`; a density outside [0, 2], a trajectory that is no whole number.
    """
    n, mu = np.shape(spins)[:1], model.chemical_potential
    if mu is not None and chemical_potential is None:
        chemical_potential = np.full(n, mu)
    given: Any = {
        "spins": spins,
        "local_field": local_field,
        "density": density,
        "energy": energy,
        "chemical_potential": chemical_potential,
        "trajectory": -np.cumsum(np.ones(n)) if trajectory is None else trajectory,
        "time": np.zeros(n) if time is None else time,
    }
    known = {name: _copied(name, values) for name, values in given.items()}
    known["trajectory"] = known["trajectory"].astype(np.int64)
    if density is not None and not (np.abs(known["density"] - 1) < DENSITY_LIMIT).all():
        got = f"{known['density'].min():.6g} to {known['density'].max():.6g}"
        raise ValueError(f"density: must be in [0, 2], got {got}")
    return Dataset(model, **known, provenance={"engine": "given"})


def _copied(name: str, values: Any) -> Any:
    """As float64; None stays None."""
    if values is None:
        return None
    array = spins.real_tensor(values, name).detach().cpu().double().numpy().copy()
    if name == "trajectory" and (array % 1).any():
        raise ValueError(f"trajectory: must be whole numbers, got {array}")
    return array


def engine_name(solver: Solver) -> str:
    """What provenances say of an engine: its room, and settings of a partial."""
    # A room may be a folder: stores name sdml.kpm, not the module in it.
    module = ".".join(getattr(solver, "func", solver).__module__.split(".")[:2])
    settings = sorted(getattr(solver, "keywords", {}).items())
    return " ".join([module, *(f"{k}={v}" for k, v in settings if k != "device")])


def random_states(
    model: SDModel, n_snapshots: int, seed: spins.Seed, solver: Solver = exact.solve, first: int = 0
) -> Dataset:
    """Independent random states, each a trajectory of its own (numbers -1, -2, ...).

    ``first`` states of the seed are left out: blocks of states are joined to the whole. ValueError
    for no snapshot.
    """
    if n_snapshots < 1:
        raise ValueError(f"n_snapshots: must be at least 1, got {n_snapshots}")
    seed = spins.seed_number(seed)
    rng = spins.random_source(seed)
    drawn = [spins.random(model.lattice.n_sites, rng) for _ in range(first + n_snapshots)]
    states = np.stack(drawn[first:])
    numbers = -1 - np.arange(first, first + n_snapshots)
    return label(model, states, numbers, np.zeros(n_snapshots), solver, random_seed=seed)


def quench(
    model: SDModel,
    equation: dynamics.LandauLifshitz,
    save_times: Sequence[float],
    seed: spins.Seed,
    solver: Solver = exact.solve,
    driver: forcefield.ForceField | None = None,
    path: str | os.PathLike[str] | None = None,
    texture: str = "random",
) -> Dataset:
    """One quench from random spins, labelled by an engine, trajectory number = seed.

    With a ``texture`` (see :func:`sdml.spins.start`) and kT > 0 it is a run that heats an ordered
    state: its later frames are thermal states.

    The random start and the noise both follow from ``seed``, a number in the provenance; frames are
    kept at the steps nearest to ``save_times`` (hbar / t), one for each. The engine's own fields
    drive the spins, or those of a force field, the ``driver``: then only the kept frames cost a
    label, and they are the states that this force field visits. It must be of the model's lattice,
    see ``forcefield.on``. 'adams' and 'neutral' start anew at every frame.

    With ``path`` every frame is written there as soon as it is labelled, and the quench that is
    found there goes on after its last frame, bit for bit on the same machine. If it was begun with
    more times and stopped after the last of these, it is complete. The engine labels that frame
    once more: ValueError if the file cannot be read or holds another quench, or frames of later
    times; FloatingPointError if the spins are no longer finite.
    """
    steps, target = save_steps(save_times, equation), None if path is None else Path(path)
    seed = spins.seed_number(seed)
    recipe = asdict(equation) | {"seed": seed}
    if texture != "random":
        recipe["start"] = texture
    if driver is not None:
        model.lattice.require_of(driver, "driver")
        recipe["force_field"] = forcefield.checksum(driver)
    rng = dynamics.generator(equation, seed)
    data = None
    begun, done = spins.as_tensor(spins.start(texture, model.lattice, seed)), 0
    if target is not None and target.exists():
        data, complete = _begun(target, rng)
        origin = {"engine": engine_name(solver), "quenches": [recipe]}
        require_origin(target, data, model, origin, solver)
        times = (steps if complete else steps[: len(data)]) * equation.dt
        if not np.array_equal(data.time, times):
            had = f"of the times {data.time.tolist()}"
            raise ValueError(f"path: {target.name!r} holds other snapshots, {had}")
        begun, done = torch.from_numpy(data.spins[-1].copy()), int(steps[len(data) - 1])
    field = driver.local_field if driver else lambda s: solver(model, s).local_field
    marks = steps[0 if data is None else len(data) :]
    for step, state in dynamics.trajectory(begun, field, equation, marks, rng, done):
        kept, time = state.numpy()[None], [step * equation.dt]
        frame = label(model, kept, [seed], time, solver, quenches=[recipe])
        data = frame if data is None else replace(join([data, frame]), provenance=data.provenance)
        if target is not None:
            _save_begun(data, target, rng, complete=len(data) == len(steps))
    assert data is not None  # there is at least one step
    if target is not None and not is_complete(target):  # it was begun with later times, too
        save(data, target)
    return data


def save_steps(save_times: Sequence[float], equation: dynamics.LandauLifshitz) -> NDArray[np.int64]:
    """Steps nearest to the times, ascending; a time that comes twice counts once.

    ValueError if there are none, or if different times have one step.
    """
    times = np.sort(np.asarray(save_times, dtype=float)) / equation.dt
    if times.ndim != 1 or not len(times) or not (np.isfinite(times) & (times > -0.5)).all():
        raise ValueError(f"save_times: must be finite times >= 0, got {save_times}")
    steps = np.round(times).astype(np.int64)
    merged = (np.diff(steps) == 0) & ~np.isclose(np.diff(times), 0, atol=1e-9 * times[1:] + 1e-9)
    if merged.any():
        raise ValueError(
            f"save_times: must fall on different steps of dt = {equation.dt}, got {save_times}"
        )
    return np.unique(steps)


def _begun(target: Path, rng: torch.Generator | None) -> tuple[Dataset, bool]:
    """The frames of a store and whether they are all; sets the generator to where they end."""
    with _opened(target) as file:
        data, complete = _read(file), bool(file.attrs["complete"])
        if rng is not None and not complete:
            rng.set_state(torch.from_numpy(file["checkpoint/generator"][()]))
    return data, complete


def require_origin(
    target: Path,
    data: Dataset,
    model: SDModel,
    provenance: dict[str, Any],
    solver: Solver | None = None,
) -> None:
    """ValueError if the store was made of another model or in another way.

    The name of a ``solver`` does not say all of it: it labels the last snapshot again.
    """
    expected = {"model": model, "provenance": json.loads(json.dumps(provenance))}
    different = [name for name, value in expected.items() if getattr(data, name) != value]
    if solver is not None and not different and not _labels_again(solver, data):
        different = ["solver"]
    if different:
        raise ValueError(f"path: {target.name!r} holds other snapshots, different in {different}")


def _labels_again(solver: Solver, data: Dataset) -> bool:
    """Whether the last snapshot gets its labels again, but for rounding and noise of the solver."""
    last = data.select(slice(-1, None))
    stored = {name: getattr(last, name) for name in LABELS}
    return not spins.not_reproduced(
        stored, lambda: vars(solver(data.model, last.spins)), LABEL_TOLERANCE
    )


def join(parts: Sequence[Dataset]) -> Dataset:
    """All snapshots of several sets, their provenance listed.

    ValueError for no set, for sets of different models, or if they lack different labels.
    """
    if not parts:
        raise ValueError("parts: at least one set is needed, got none")
    if any(part.model != parts[0].model for part in parts):
        raise ValueError("parts: all sets must have the same model")
    unknown = {tuple(part.unknown) for part in parts}
    if len(unknown) > 1:
        raise ValueError(f"parts: all sets must lack the same labels, got {sorted(unknown)}")
    held = [part.arrays() for part in parts]
    merged: Any = {name: np.concatenate([arrays[name] for arrays in held]) for name in held[0]}
    return replace(parts[0], **merged, provenance={"parts": [p.provenance for p in parts]})


def split(data: Dataset, held_out: Sequence[int]) -> tuple[Dataset, Dataset]:
    """Training and validation set; whole trajectories are held out, never single frames.

    ValueError for a trajectory that the data do not have.
    """
    unknown = set(held_out) - set(data.trajectory.tolist())
    if unknown:
        raise ValueError(f"held_out: no trajectories {sorted(unknown)} in the data")
    mask = np.isin(data.trajectory, held_out)
    return data.select(~mask), data.select(mask)


def save(data: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a store; the file appears only when it is complete."""
    _save_begun(data, Path(path), None, complete=True)


def _save_begun(data: Dataset, target: Path, rng: torch.Generator | None, complete: bool) -> None:
    """Write the frames so far; the last spins and the state of the generator are all it needs."""
    with files.replacing(target) as partial, h5py.File(partial, "w") as file:
        for name, size in zip(AXES, data.spins.shape, strict=True):
            file[name] = np.arange(size)
            file[name].make_scale(name)
        for name, values in data.arrays().items():
            n_axes, units = ARRAYS[name]
            variable = file.create_dataset(name, data=values, compression="gzip")
            variable.attrs["units"] = units
            for axis, dimension in enumerate(AXES[:n_axes]):
                variable.dims[axis].attach_scale(file[dimension])
        file.create_dataset("sha256", data=checksums(data), dtype=h5py.string_dtype())
        file["sha256"].dims[0].attach_scale(file["snapshot"])
        file.attrs["format"] = FILE_FORMAT
        file.attrs["complete"] = complete
        if data.unknown:
            file.attrs["unknown"] = data.unknown
        file.attrs["model"], file.attrs["provenance"] = _origin_texts(data)
        file.attrs["sdml_version"] = __version__
        if rng is not None and not complete:
            file["checkpoint/generator"] = rng.get_state().numpy()


def checksums(data: Dataset, origin_texts: tuple[str, str] | None = None) -> list[str]:
    """SHA-256 of every snapshot: of its arrays, its model and its provenance.

    ``origin_texts`` are the last two as a store has them; a later version may word them otherwise.
    """
    origin = hashlib.sha256("\n".join(origin_texts or _origin_texts(data)).encode())
    found, arrays = [], data.arrays().values()
    for k in range(len(data)):
        digest = origin.copy()
        for values in arrays:
            digest.update(np.ascontiguousarray(values[k]).tobytes())
        found.append(digest.hexdigest())
    return found


def _origin_texts(data: Dataset) -> tuple[str, str]:
    return json.dumps(describe(data.model)), json.dumps(data.provenance)


def load(path: str | os.PathLike[str]) -> Dataset:
    """Read a store. ValueError if the file is missing, unfinished, altered or foreign."""
    target = Path(path)
    with _opened(target) as file:
        data = _read(file)
        if not file.attrs["complete"]:
            raise ValueError(f"unfinished, {len(data)} snapshots so far; label it again to go on")
    return data


def is_complete(path: str | os.PathLike[str]) -> bool:
    """Whether a store exists and is finished; ValueError if it cannot be read."""
    target = Path(path)
    if not target.exists():
        return False
    with _opened(target) as file:
        return bool(file.attrs["complete"])


def _read(file: h5py.File) -> Dataset:
    model = from_description(json.loads(file.attrs["model"]))
    unknown = file.attrs.get("unknown", ())
    arrays: Any = {name: None if name in unknown else file[name][()] for name in ARRAYS}
    data = Dataset(model, **arrays, provenance=json.loads(file.attrs["provenance"]))
    texts = (file.attrs["model"], file.attrs["provenance"])
    found, expected = checksums(data, texts), file["sha256"].asstr()[()].tolist()
    if found != expected:
        altered = [k for k, digest in enumerate(found) if expected[k : k + 1] != [digest]]
        raise ValueError(f"altered: the SHA-256 of snapshots {altered} is another")
    return data


@contextmanager
def _opened(target: Path) -> Iterator[h5py.File]:
    """The store for reading; whatever is wrong with it becomes one ValueError with its name."""
    try:
        with h5py.File(target, "r") as file:
            if file.attrs.get("format") != FILE_FORMAT:
                raise ValueError(f"not a store of format {FILE_FORMAT!r}")
            yield file
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"path: {target.name!r} is not a readable store ({error})") from error
