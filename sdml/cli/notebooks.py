"""What the subcommands on notebooks do: one function each, called with the parsed arguments.

The companion is imported when it is used, since its libraries need not be installed. A person sees
a bar, lines, and exit codes for failures and stops.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdml import files

if TYPE_CHECKING:
    from sdml.companion import profiles, runner

Arguments = argparse.Namespace


def reproduce(given: Arguments) -> None:
    """`sdml reproduce`: run the notebooks and publish their figures."""
    from sdml.companion import profiles, runner

    jobs = profiles.plan(given.profile, given.only, given.set)
    with _supervised(jobs) as (report, advance):
        runner.run(jobs, given.timeout, given.resume, report, advance)
    tables(given)


def store(given: Arguments) -> None:
    """`sdml store`: execute the quick profile into ``notebooks/``."""
    from sdml.companion import profiles, runner

    jobs = profiles.plan("quick", given.only)
    with _supervised(jobs) as (report, advance):
        runner.store(jobs, given.timeout, given.resume, report, advance)
    tables(given)


def figures(given: Arguments) -> None:
    """`sdml figures`: publish the figures of the largest finished profile."""
    from sdml.companion import profiles, runner

    with _supervised(profiles.plan()) as (report, advance):
        runner.figures(report, advance)
    tables(given)


def tables(given: Arguments) -> None:
    """`sdml tables`: renew the tables of the README and of ``docs/``."""
    from sdml.companion import tables as made

    for page in made.renew():
        print(f"renewed the table of {page.relative_to(files.root())}")


def claims(given: Arguments) -> None:
    """`sdml claims`: print the numbers of the paper beside ours."""
    from sdml.companion import results

    print(results.claims_table(results.claims()))


# --- progress


@contextmanager
def _supervised(
    jobs: Sequence["profiles.Job"],
) -> Iterator[tuple["runner.Report", "runner.Advance"]]:
    """Progress of `jobs` while the body runs them; failures and SIGTERM become exit codes.

    A bar over all their cells on a terminal; one plain line a notebook elsewhere.
    """
    from tqdm import tqdm

    from sdml.companion import runner

    plain = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    total = sum(job.n_cells for job in jobs)
    done: dict[str, int] = {}
    # By default SIGTERM ends Python at once and would leave the kernel of the notebook running.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
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
    except runner.NotebookError as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, previous)
