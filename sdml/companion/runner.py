"""The notebooks, run by one command.

A profile is the notebooks' own parameters (quick) overlaid by ``notebooks/profiles/<name>.yaml``.
Each notebook runs through papermill in a process of its own and leaves in ``build/<profile>/`` the
executed notebook, its figures and claims, and a JSON record. Changed values are injected here and
not by papermill, which only warns about a misspelt name and turns tuples into text.
"""

import copy
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import nbformat
import psutil
from nbformat import NotebookNode

from sdml import files, workers
from sdml.companion import profiles, results
from sdml.companion.profiles import Job, Parameters, prepared, read_notebook

__all__ = ["NotebookError", "execute", "figures", "is_current", "run", "shared_inputs", "store"]

TIME_LIMITS = {"quick": 600.0, "laptop": 4 * 3600.0, "paper": 48 * 3600.0}
POLL_SECONDS = 0.25


class NotebookError(RuntimeError):
    """A notebook failed or reached its time limit; the message names it, the cell and the cause."""


Report = Callable[[str], None]
Advance = Callable[[Job, int], None]


def silent(*_: object) -> None:
    """Report nothing."""


# --- what is up to date ------------------------------------------------------------------------


def shared_inputs() -> str:
    """Hash of what all notebooks depend on: the package, its weights, libraries, ``data/``."""
    stored = [path for path in files.data().rglob("*") if path.is_file()]
    weights = files.digest(files.weights().iterdir(), files.weights())
    data = files.digest(stored, files.root())
    return _hash([results.code_hash(), results.versions(), weights, data])


def input_hash(job: Job, shared: str) -> str:
    """Hash of all inputs of a job: its notebook's cells, its parameters and `shared_inputs`."""
    return _hash([shared, _sources(read_notebook(job.notebook)), repr(job.parameters)])


def is_current(job: Job, shared: str) -> bool:
    """Whether the build folder holds the finished, untouched results of exactly these inputs."""
    if not (job.output(".json").is_file() and job.output(".ipynb").is_file()):
        return False
    entry = files.loaded(job.output(".json"))
    hashes = {"input_hash": input_hash(job, shared), "results_hash": _results_hash(job)}
    return entry == entry | hashes | {"status": "finished"}


def _hash(value: Any) -> str:
    return hashlib.sha256(files.json_text(value).encode()).hexdigest()


def _sources(notebook: NotebookNode) -> list[list[str]]:
    return [[cell.cell_type, cell.source, *profiles.tags(cell)] for cell in notebook.cells]


# --- running ------------------------------------------------------------------------------------


def run(
    jobs: Sequence[Job],
    time_limit: float | None = None,
    resume: bool = False,
    report: Report = silent,
    advance: Advance = silent,
) -> None:
    """Run `jobs` in order and publish their figures and claims; stops at the first failure.

    Parameters
    ----------
    jobs : sequence of Job
    time_limit : float, optional
        Seconds for one notebook; by default ``TIME_LIMITS`` of the profile.
    resume : bool
        Skip jobs whose results are up to date.
    report : callable
        Called with one line of text for each notebook.
    advance : callable
        Called several times a second with the running job and the number of its finished cells.

    Raises
    ------
    NotebookError
        Names the notebook, the cell and the last line of the exception.
    """
    shared = shared_inputs()
    for position, job in enumerate(jobs, start=1):
        outcome = "up to date"
        if not (resume and is_current(job, shared)):
            entry = execute(job, time_limit or TIME_LIMITS[job.profile], shared, advance)
            memory = entry["peak_memory_bytes"] / 2**20
            outcome = f"finished in {entry['wall_time_seconds']:.1f} s, {memory:.0f} MiB"
        advance(job, job.n_cells)
        report(f"[{position}/{len(jobs)}] {job.stem} ({job.profile}): {outcome}")
    _publish(jobs, report)


def execute(job: Job, time_limit: float, shared: str, advance: Advance = silent) -> Parameters:
    """Run one notebook and return its record.

    The result bears the notebook's name only once all cells have run; a half-executed one is kept
    as ``<stem>.failed.ipynb``.
    """
    _forget(job)
    entry = _circumstances(job, shared)
    running = files.write_text(job.output(".running.ipynb"), nbformat.writes(prepared(job)))
    start, ending = time.monotonic(), ".failed.ipynb"
    try:
        problem, peak = _watched(job, time_limit, advance)
        failure = _failure(job, running, problem)
        ending = ending if failure else ".ipynb"
    finally:
        os.replace(running, job.output(ending))
    entry |= {"status": "failed" if failure else "finished", "failure": failure}
    entry |= {"wall_time_seconds": time.monotonic() - start, "peak_memory_bytes": peak}
    entry["results_hash"] = _results_hash(job)
    files.write_text(job.output(".json"), files.json_text(entry))
    if failure:
        raise NotebookError(failure)
    return entry


def _forget(job: Job) -> None:
    endings = (".json", ".ipynb", ".failed.ipynb", ".running.ipynb")
    for path in [*map(job.output, endings), *_results(job)]:
        path.unlink(missing_ok=True)


def _results(job: Job) -> list[Path]:
    folders = [files.build(job.profile) / name for name in ("figures", "claims")]
    sidecars = [path for folder in folders for path in results.left_by([job.stem], folder)]
    return [path for sidecar in sidecars for path in sidecar.parent.glob(f"{sidecar.stem}.*")]


def _results_hash(job: Job) -> str:
    # A notebook run by hand may write over the figures of the last full run.
    return files.digest(_results(job), files.build(job.profile))


def _circumstances(job: Job, shared: str) -> Parameters:
    return results.origin() | {
        "notebook": job.stem,
        "input_hash": input_hash(job, shared),
        "profile": job.profile,
        "parameters": job.parameters,
        "settings": job.settings,
        "seeds": {name: value for name, value in job.parameters.items() if "seed" in name},
        "code_version": results.code_version(),
        "threads": _environment(job)["OMP_NUM_THREADS"],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _environment(job: Job) -> dict[str, str]:
    # Without MPLBACKEND the kernel draws inline; progress bars would end up in stored outputs.
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return {
        # Threads of many small solves wait for each other while another process holds a core.
        **dict.fromkeys(workers.THREADS, "1"),
        **inherited,
        "SDML_HOME": str(files.root()),
        "SDML_BUILD": str(files.build(job.profile)),
        "SDML_NOTEBOOK": job.stem,
        "SDML_BATCH": "1",
        "TQDM_DISABLE": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
    }


def _papermill(job: Job, log: IO[bytes]) -> psutil.Popen:
    name = job.output(".running.ipynb").name
    options = ["--kernel", "python3", "--cwd", str(files.notebooks()), "--no-progress-bar"]
    return psutil.Popen(
        [sys.executable, "-m", "papermill", name, name, *options, "--log-level", "ERROR"],
        cwd=files.build(job.profile),
        env=_environment(job),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _watched(job: Job, time_limit: float, advance: Advance) -> tuple[str | None, int]:
    """Run papermill and leave none of its processes behind; what went wrong, and peak memory."""
    start, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as log:
        process = _papermill(job, log)
        # The kernel leads a session of its own, so papermill's process group does not hold it.
        family: set[psutil.Process] = {process}
        try:
            while process.poll() is None:
                if time.monotonic() - start > time_limit:
                    return f"time limit of {time_limit:g} s reached", peak
                # Where one of them ends at this moment, the next look tells the memory.
                with suppress(psutil.Error):
                    members = [process, *process.children(recursive=True)]
                    family.update(members)
                    peak = max(peak, sum(member.memory_info().rss for member in members))
                advance(job, _cells_done(job.output(".running.ipynb")))
                with suppress(psutil.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            return _last_line(log) if process.returncode else None, peak
        finally:
            with suppress(psutil.NoSuchProcess):
                family.update(process.children(recursive=True))
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()
            psutil.wait_procs(family, timeout=POLL_SECONDS)


def _cells_done(path: Path) -> int:
    # Papermill may be writing at this moment; the next look sees more.
    with suppress(ValueError):
        return sum(_status(cell) == "completed" for cell in read_notebook(path).cells)
    return 0


def _status(cell: NotebookNode) -> str | None:
    return cell.metadata.get("papermill", {}).get("status")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    text = log.read().decode(errors="replace").rstrip()
    return text.rpartition("\n")[2] or "papermill left no message"


def _failure(job: Job, executed: Path, problem: str | None) -> str | None:
    """Message that names notebook, cell and exception; None if every cell ran."""
    with suppress(ValueError):
        declared = enumerate(read_notebook(job.notebook).cells, start=1)
        numbers = {cell.get("id"): str(number) for number, cell in declared}
        for cell in read_notebook(executed).cells:
            if cause := _cause(cell, problem):
                number = numbers.get(cell.id, "of injected parameters")
                first_line = cell.source.strip().partition("\n")[0]
                return f"{job.notebook.name}, cell {number} ({first_line}): {cause}"
        return problem and f"{job.notebook.name}: {problem}"
    # Papermill was stopped while it wrote; the cell stays unknown.
    return f"{job.notebook.name}: {problem or 'not readable after the run'}"


def _cause(cell: NotebookNode, problem: str | None) -> str | None:
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            last_line = output.evalue.strip().rpartition("\n")[2]
            return f"{output.ename}: {last_line}"
    if _status(cell) == "running":
        return problem or "did not finish"
    # Papermill takes sys.exit() for the regular end of a notebook and leaves the rest undone.
    skipped = cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    return "did not run" if skipped and problem is None else None


# --- stored notebooks and figures ---------------------------------------------------------------


def store(jobs: Sequence[Job], *options: Any) -> None:
    """`run` quick jobs with its other `options` and put the executed notebooks into ``notebooks/``.

    Raises
    ------
    ValueError
        If a job has other parameters than its notebook, or a notebook was edited while it ran.
    """
    for job in jobs:
        if job.parameters != job.defaults:
            raise ValueError(f"{job.stem}: stored notebooks run with their own parameters")
    run(jobs, *options)
    for job in jobs:
        executed = read_notebook(job.output(".ipynb"))
        if _sources(executed) != _sources(read_notebook(job.notebook)):
            raise ValueError(f"{job.notebook.name} was edited while it ran; store it again")
        files.write_text(job.notebook, nbformat.writes(cleaned(executed)) + "\n")


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """An executed notebook without the traces of papermill, of the kernel and of widgets."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        tags = profiles.tags(cell)
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            # A view without its state is drawn by nobody; the plain text beside it is.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(metadata)
    return notebook


def figures(report: Report = silent, advance: Advance = silent) -> None:
    """Publish the figures of the largest finished profile; without one, run the quick profile."""
    shared = shared_inputs()
    for jobs in map(profiles.plan, reversed(results.PROFILES)):
        if all(is_current(job, shared) for job in jobs):
            return _publish(jobs, report)
    return run(profiles.plan(), resume=True, report=report, advance=advance)


def _publish(jobs: Sequence[Job], report: Report) -> None:
    for profile in sorted({job.profile for job in jobs}, key=results.profile_rank):
        stems = [job.stem for job in jobs if job.profile == profile and not job.settings]
        names = results.publish(files.build(profile), stems)
        report(f"published in figures/ from profile {profile}: {', '.join(names) or 'nothing'}")
