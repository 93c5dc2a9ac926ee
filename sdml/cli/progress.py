"""What a person sees of running notebooks: a bar, lines, and exit codes for failures and stops."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdml.companion import profiles, runner


@contextmanager
def supervised(
    jobs: Sequence["profiles.Job"],
) -> Iterator[tuple["runner.Report", "runner.Advance"]]:
    """Progress of `jobs` while the body runs them; failures and stops become exit codes."""
    from sdml.companion import runner

    # By default SIGTERM ends Python at once and would leave the kernel of the notebook running.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with _progress(jobs) as callables:
            yield callables
    except runner.NotebookError as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _progress(jobs: Sequence["profiles.Job"]) -> Iterator[tuple["runner.Report", "runner.Advance"]]:
    """A bar over the cells of all `jobs` on a terminal; one plain line a notebook elsewhere."""
    from tqdm import tqdm

    plain = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    total = sum(job.n_cells for job in jobs)
    done: dict[str, int] = {}
    with tqdm(total=total, unit="cell", disable=plain, smoothing=0, leave=False) as bar:

        def advance(job: "profiles.Job", n_cells: int) -> None:
            done[job.stem] = n_cells
            bar.set_description(job.stem, refresh=False)
            bar.n = sum(done.values())
            bar.refresh()

        def report(line: str) -> None:
            tqdm.write(line)
            sys.stdout.flush()

        yield report, advance
