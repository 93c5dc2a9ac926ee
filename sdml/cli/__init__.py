"""The `sdml` command.

What it accepts is in :mod:`sdml.cli.arguments`, what it does in :mod:`sdml.cli.commands`.
"""

import os
import sys
from collections.abc import Sequence

from sdml.cli import commands
from sdml.cli.arguments import command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    0 on success, 1 if a run failed, 2 for input that is not allowed, 130 if it was interrupted.
    """
    # Threads that wait by spinning make small solves a hundred times slower on a busy machine. Read
    # by OpenMP when torch is imported, which no subcommand has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parsed = command_line().parse_args(arguments)
    try:
        getattr(commands, parsed.command)(parsed)
    except ValueError as error:
        print(f"sdml {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = "; the same command goes on from the last checkpoint"
        print(f"interrupted{hint if commands.goes_on(parsed) else ''}", file=sys.stderr)
        return 130
    return 0
