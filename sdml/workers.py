"""Run independent jobs here, in processes of this machine, or on a Dask cluster.

A job is a callable without arguments that can be sent to another process. A job whose process dies
or that meets an error of the machine (OSError) is tried once more; what it raises itself, it would
raise again. The others go on.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any

__all__ = ["Job", "JobError", "run"]

Job = Callable[[], Any]
RETRIED = (OSError, BrokenProcessPool)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class JobError(RuntimeError):
    """Some jobs failed; the message names them and their last error."""


def run(
    jobs: Mapping[str, Job],
    n_workers: int = 1,
    scheduler: str | None = None,
    n_threads: int | None = None,
    failed: Callable[[str, BaseException], None] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Name and result of every job, as they end.

    Parameters
    ----------
    jobs : dict
        Name -> callable without arguments.
    n_workers : int
        Processes of this machine, each for one job after the other; with 1 the jobs run in this
        one, in their order.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``: the jobs run on its workers, which must
        see the same files. Needs the extra ``cluster``.
    n_threads : int, optional
        Of each process, by default its share of the cores. Those of a cluster are set there.
    failed : callable, optional
        Gets the name and the error of a job that has failed, at once.

    Raises
    ------
    ValueError
        Bad argument, no such scheduler, or the first ValueError of a job, with its name.
    JobError
        Jobs failed. Both are raised when all other jobs have ended.
    """
    if n_workers < 1:
        raise ValueError(f"workers: must be at least 1, got {n_workers}")
    if scheduler is not None:
        ended = _on_cluster(jobs, scheduler)
    elif n_workers == 1:
        ended = ((name, partial(_twice, job)) for name, job in jobs.items())
    else:
        ended = _in_processes(jobs, n_workers, n_threads)
    errors: dict[str, Exception] = {}
    for name, outcome in ended:
        try:
            result = outcome()
        except Exception as raised:
            errors[name] = raised
            if failed:
                failed(name, raised)
        else:
            yield name, result
    for name, error in errors.items():
        if isinstance(error, ValueError):
            raise ValueError(f"{name}: {error}") from error
    if errors:
        listed = "; ".join(f"{name} ({error!r})" for name, error in errors.items())
        raise JobError(f"{len(errors)} of {len(jobs)} jobs failed: {listed}")


def _twice(call: Callable[[], Any]) -> Any:
    """The result at the first attempt, or at a second one if it was not the job that failed."""
    try:
        return call()
    except RETRIED:
        return call()


def _in_processes(
    jobs: Mapping[str, Job], n_workers: int, n_threads: int | None
) -> Iterator[tuple[str, Job]]:
    """As many processes as workers, each one job at a time: one that dies takes no other along."""
    share = n_threads or max(1, (os.cpu_count() or 1) // n_workers)
    threads = ThreadPoolExecutor(n_workers)
    idle = [_process() for _ in range(n_workers)]
    with _thread_numbers(share):
        try:
            names = {threads.submit(_twice, partial(_alone, j, idle)): n for n, j in jobs.items()}
            for outcome in as_completed(names):
                yield names[outcome], outcome.result
        finally:
            threads.shutdown(cancel_futures=True)
            for process in idle:
                process.shutdown()


def _process() -> ProcessPoolExecutor:
    """One process, started at its first job; forking would copy locks of the threads of torch."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_end_with_parent)


def _alone(job: Job, idle: list[ProcessPoolExecutor]) -> Any:
    """In a process that is idle, and is again afterwards; a new one replaces it if it has died."""
    process = idle.pop()
    try:
        return process.submit(job).result()
    except BrokenProcessPool:
        process = _process()
        raise
    finally:
        idle.append(process)


def _end_with_parent() -> None:
    """A parent that was killed leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # runs in a child only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _thread_numbers(n_threads: int) -> Iterator[None]:
    """Environment of the processes that are started meanwhile; libraries read it when loaded."""
    before = {name: os.environ[name] for name in THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(THREADS, str(n_threads)))
    try:
        yield
    finally:
        for name in THREADS:
            os.environ.pop(name, None)
        os.environ.update(before)


def _on_cluster(jobs: Mapping[str, Job], scheduler: str) -> Iterator[tuple[str, Job]]:
    try:
        import distributed
    except ImportError as error:
        raise ValueError(
            "scheduler: needs the package distributed, of the extra: pip install 'sdml[cluster]'"
        ) from error
    try:
        client = distributed.Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise ValueError(f"scheduler: none answers at {scheduler!r} ({error})") from error
    with client:
        names = {client.submit(_twice, job, pure=False): name for name, job in jobs.items()}
        for outcome in distributed.as_completed(list(names)):
            yield names[outcome], outcome.result
