"""The `sdml` command.

What it accepts is in :mod:`sdml.cli.arguments`, what it does in :mod:`sdml.cli.notebooks` and
:mod:`sdml.cli.commands`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdml import files
from sdml.cli import notebooks
from sdml.cli.arguments import command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    0 on success, 1 if a run failed, 2 for input that is not allowed, 130 if it was interrupted.
    """
    # Threads that wait by spinning make small solves a hundred times slower on a busy machine. Read
    # by OpenMP when torch is imported, which the subcommands do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parsed = command_line().parse_args(arguments)
    try:
        _command(parsed.command)(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as after head: the rest goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        print(f"sdml {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = "; the same command goes on from the last checkpoint"
        print(f"interrupted{hint if _goes_on(parsed) else ''}", file=sys.stderr)
        return 130
    return 0


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    """What a subcommand does; those that load torch are imported when one of them is called."""
    if hasattr(notebooks, name):
        return _in_the_checkout()(getattr(notebooks, name))
    from sdml.cli import commands

    return getattr(commands, name)


@contextmanager
def _in_the_checkout() -> Iterator[None]:
    """ValueError outside a checkout, and where the packages of the notebooks are missing."""
    files.root()
    try:
        yield
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed: pip install 'sdml[notebooks]'"
        raise ValueError(missing) from error


def _goes_on(given: argparse.Namespace) -> bool:
    """Whether the command, stopped and given again, goes on from what it has written by now."""
    if given.command == "train":
        return bool(given.checkpoint) and Path(given.checkpoint).exists()
    return given.command in ("label", "quench") and Path(given.output).exists()
