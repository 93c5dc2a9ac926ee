"""The right of one process to write a file, by a lock beside it.

The lock of ``run.h5`` is the empty file ``run.h5.lock``, which exists while ``run.h5`` is written.
The kernel takes it back when its process ends, however that happens: after a kill the file may be
left, locks nothing, can be deleted, and goes with the next run. The file that is written cannot
bear the lock itself: it is replaced as a whole at times, HDF5 has locks of its own on it, and a
process gives up its POSIX locks on a file whenever it closes that file, if only after reading it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Answers of a file system that has no locks: there it is on the user that one process writes."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody else, another thread of this process included, holds the lock while the body runs.

    Parameters
    ----------
    path : path
        Of the file to be written; neither it nor its folder needs to exist.

    Raises
    ------
    ValueError
        It is held already.
    OSError
        No right to write in the folder.
    """
    beside = _beside(path)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(beside)
    except BlockingIOError as error:
        said = f"path: {path.name!r} is written by another process, or another call of this one"
        raise ValueError(said) from error
    except OSError as error:
        reason = f"{error.strerror}: the store of the run cannot be made or written"
        raise OSError(error.errno, reason, str(beside)) from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may be read-only by now
            beside.unlink()  # while it is held, see `_locked`
        os.close(file)


def sweep(path: Path) -> None:
    """Delete the lock that a killed process left beside ``path``, if nobody holds it."""
    if _beside(path).exists():
        with suppress(ValueError, OSError), held(path):  # it is held, or the folder is read-only
            pass


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _locked(beside: Path) -> int:
    """The open lock file; BlockingIOError if it is held."""
    while True:
        file = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
            # Its last holder may have deleted it meanwhile: then the next one would make another.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(beside)):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
