"""The store of a run: one HDF5 file that is laid out whole at its start and then filled in place.

All rows that a run will write exist from the start, filled with nan, on disk space that is already
taken. What a run adds later is bytes at known places of contiguous variables: the structure of the
file never changes, so that it can be opened at any moment, and nothing is written twice.

A checkpoint goes to one of two slots in turn: the spins in full precision and the states of the
noise generators, then the numbers of valid rows with a checksum over all of it, and only then to
disk. A process that is killed while it writes a slot leaves the other, and rows beyond those that
the valid checkpoint counts do not exist for a reader.
"""

import errno
import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from sdml import __version__, files

__all__ = ["Checkpoint", "Store", "Variable", "create", "latest", "opened"]

FILE_FORMAT = "sdml-run-2"
COMMIT = ("step", "n_saved", "n_frames", "milliseconds", "checksum")
OVERHEAD = 4096
"""Bytes of structure a variable, about."""
SLOTS = ("spins", "generators")
LOOKS = 5
"""How often a reader looks for a checkpoint before it gives up."""


class Variable(NamedTuple):
    """Names of the axes, the first of which is filled along the run; shape; dtype; unit."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    units: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """From where a run goes on.

    Attributes
    ----------
    step, n_saved, n_frames : int
        Steps done, and valid rows of observables and of frames.
    seconds : float
        Wall time so far.
    spins : (N, 3) or (B, N, 3)
        In the dtype of the run.
    generators : (B, n_bytes) uint8
        States of the noise generators; no bytes at kT = 0.
    """

    step: int
    n_saved: int
    n_frames: int
    seconds: float
    spins: NDArray[Any]
    generators: NDArray[np.uint8]


class Store:
    """A run's store, open for writing; who opens it holds its lock (:func:`lock.held`).

    Parameters
    ----------
    path : path
        An existing store.

    Attributes
    ----------
    failed : bool
        Whether it could not be written; then what it holds is its last checkpoint.

    Raises
    ------
    ValueError
        Not a readable store.
    OSError
        It cannot be written; the message names it and the last checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.failed = path, False
        with opened(path) as file:
            self._places = dict(_places(file))
            self._slot, self.checkpoint = _latest(file)
        with self._explained():
            self._file = os.open(path, os.O_RDWR)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, name: str, row: int, value: NDArray[Any]) -> None:
        """One row of a variable; it counts from the next checkpoint on."""
        offset, shape, dtype = self._places[name]
        if value.shape != shape[1:]:
            raise ValueError(f"{name}: shape must stay {shape[1:]}, got {value.shape}")
        if not np.can_cast(value.dtype, dtype, "same_kind"):
            raise ValueError(f"{name}: dtype must stay {dtype}, got {value.dtype}")
        data = memoryview(np.ascontiguousarray(value, dtype).tobytes())
        offset += row * len(data)
        with self._explained():
            while data:
                done = os.pwrite(self._file, data, offset)
                data, offset = data[done:], offset + done

    def commit(self, checkpoint: Checkpoint) -> None:
        """Make the rows so far valid and the checkpoint the one to go on from."""
        slot = 1 - self._slot
        for name in SLOTS:
            self.write(f"checkpoint/{name}", slot, getattr(checkpoint, name))
        with self._explained():
            os.fsync(self._file)
        self.write("checkpoint/commits", slot, _signed(checkpoint))
        with self._explained():
            os.fsync(self._file)
        self._slot, self.checkpoint = slot, checkpoint

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            reason = (
                f"{error.strerror}: the run cannot be written; its last checkpoint, at step "
                f"{self.checkpoint.step}, is intact, and the same call goes on from there"
            )
            raise OSError(error.errno, reason, str(self.path)) from error


def create(
    path: Path,
    header: dict[str, Any],
    attributes: Mapping[str, Any],
    scales: Mapping[str, tuple[NDArray[Any], str]],
    variables: Mapping[str, Variable],
    checkpoint: Checkpoint,
    rows: Mapping[str, NDArray[Any]],
) -> None:
    """Lay out a store and put it in its place, whole, under its lock.

    Parameters
    ----------
    path : path
    header : dict
        Plain values.
    attributes : dict
        Texts and numbers for people, beside the header.
    scales : dict
        Name of an axis -> values, unit.
    variables : dict
        Name -> variable.
    checkpoint : Checkpoint
        The first one.
    rows : dict
        Name of a variable -> rows (n, ...) that the checkpoint counts.

    Raises
    ------
    OSError
        No space for the whole run, or no right to write; what lies at ``path`` is as it was.
    """
    slots = {f"checkpoint/{name}": getattr(checkpoint, name) for name in SLOTS}
    slots["checkpoint/commits"] = _signed(checkpoint)
    own = {name: Variable((), (2, *v.shape), v.dtype) for name, v in slots.items()}
    planned = {**variables, **own}
    # Of the file, a little more than less.
    size = sum(values.nbytes for values, _ in scales.values()) + OVERHEAD * (1 + len(planned))
    size += sum(math.prod(v.shape) * v.dtype.itemsize + 8 * sum(v.shape) for v in planned.values())
    first = {**rows, **{name: value[None] for name, value in slots.items()}}
    try:
        _sweep(path)
        with files.replacing(path) as partial:
            # HDF5 itself stumbles over a full disk.
            _take_space(partial, size)
            with h5py.File(partial, "w") as file:
                file.attrs["format"], file.attrs["sdml_version"] = FILE_FORMAT, __version__
                file.attrs["header"] = json.dumps(header)
                file.attrs.update(attributes)
                for name, (values, units) in scales.items():
                    _scale(file, name, values, units)
                for name, variable in planned.items():
                    _lay_out(file, name, variable)
                for name, values in first.items():
                    file[name][: len(values)] = values
                file["checkpoint"].attrs["columns"] = list(COMMIT)
            _take_space(partial, os.path.getsize(partial))
    except (OSError, RuntimeError) as error:
        reason = f"the store of the run cannot be made ({error})"
        raise OSError(getattr(error, "errno", 0) or errno.EIO, reason, str(path)) from error


def _sweep(path: Path) -> None:
    """Remove what killed processes left; under the lock there are no living ones."""
    stray = re.compile(rf"{re.escape(path.name)}\.\d+\.partial")
    for found in path.parent.iterdir() if path.parent.exists() else ():
        if stray.fullmatch(found.name):
            found.unlink(missing_ok=True)


def _scale(file: h5py.File, name: str, values: NDArray[Any], units: str = "") -> None:
    file[name] = values
    file[name].make_scale(name)
    if units:
        file[name].attrs["units"] = units


def _lay_out(file: h5py.File, name: str, variable: Variable) -> None:
    """A contiguous variable whose place in the file is fixed now."""
    axes, shape, dtype, units = variable
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    fill = np.nan if np.issubdtype(dtype, np.floating) else None
    dataset = file.create_dataset(name, shape, dtype, fillvalue=fill, dcpl=plan)
    if units:
        dataset.attrs["units"] = units
    for axis, scale in enumerate(axes):
        if scale not in file:
            _scale(file, scale, np.arange(shape[axis]))
        dataset.dims[axis].attach_scale(file[scale])


def _take_space(path: Path, size: int) -> None:
    """The disk must not turn out to be full in the middle of a run."""
    with open(path, "ab") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not every disk can promise
                raise
        os.fsync(file.fileno())


def _places(file: h5py.File) -> Iterator[tuple[str, tuple[int, tuple[int, ...], Any]]]:
    """Offset, shape and dtype of every variable."""
    found: list[str] = []
    file.visit(found.append)
    for name in found:
        if isinstance(file[name], h5py.Dataset):
            yield name, (file[name].id.get_offset() or 0, file[name].shape, file[name].dtype)


def _signed(checkpoint: Checkpoint) -> NDArray[np.int64]:
    """The row of a checkpoint in the table of commits."""
    numbers = [checkpoint.step, checkpoint.n_saved, checkpoint.n_frames]
    row = np.array([*numbers, round(1e3 * checkpoint.seconds), 0], np.int64)
    content = row[:-1], checkpoint.spins, checkpoint.generators
    row[-1] = zlib.crc32(b"".join(part.tobytes() for part in content))
    return row


def _latest(file: h5py.File) -> tuple[int, Checkpoint]:
    """The valid slot of the larger step; KeyError if there is none.

    While it is read, a writer may replace both; what it wrote meanwhile is there at the next look.
    """
    for _ in range(LOOKS):
        commits = file["checkpoint/commits"][()]
        for slot in np.argsort(-commits[:, 0], kind="stable"):
            step, n_saved, n_frames, milliseconds, _ = (int(x) for x in commits[slot])
            spins, generators = (file[f"checkpoint/{name}"][slot] for name in SLOTS)
            found = Checkpoint(step, n_saved, n_frames, 1e-3 * milliseconds, spins, generators)
            if n_saved > 0 and (_signed(found) == commits[slot]).all():
                return int(slot), found
    raise KeyError("no valid checkpoint")


def latest(file: h5py.File) -> Checkpoint:
    """The checkpoint of an open store to go on from."""
    return _latest(file)[1]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The store for reading; whatever is missing in it becomes one ValueError with its name."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FILE_FORMAT:
                raise ValueError(f"path: {path.name!r} is not a store of format {FILE_FORMAT!r}")
            yield file
    except (OSError, KeyError) as error:
        raise ValueError(f"path: {path.name!r} is not a readable store ({error})") from error
