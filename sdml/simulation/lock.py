"""The right of one process to write a file, by a lock beside it.

The lock of ``run.h5`` is the empty file ``run.h5.lock``, which exists while ``run.h5`` is written.
The kernel takes it back when its process ends, however that happens: after a kill the file may be
left, locks nothing, can be deleted, and goes with the next run. The file that is written cannot
bear the lock itself: it is replaced as a whole at times, HDF5 has locks of its own on it, and a
process gives up its POSIX locks on a file whenever it closes that file, if only after reading it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

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
    # The soft fallback is a file that locks as long as it exists, after a kill too.
    lock = FileLock(beside, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        said = f"path: {path.name!r} is written by another process, or another call of this one"
        raise ValueError(said) from error
    except OSError as error:
        if error.errno not in WITHOUT:
            reason = f"{error.strerror}: the store of the run cannot be made or written"
            raise OSError(error.errno, reason, str(beside)) from error
    try:
        yield
    finally:
        # While it is held: who has opened the file by now sees that it is deleted, and gives up.
        with suppress(OSError):  # the folder may be read-only by now
            beside.unlink()
        lock.release()


def sweep(path: Path) -> None:
    """Delete the lock that a killed process left beside ``path``, if nobody holds it."""
    if _beside(path).exists():
        with suppress(ValueError, OSError), held(path):  # it is held, or the folder is read-only
            pass


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
