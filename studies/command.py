"""The command line that the studies with many runs share."""

import argparse
from collections.abc import Sequence


def asked(
    parser: argparse.ArgumentParser, given: argparse.Namespace, reference: Sequence[str]
) -> list[argparse.Namespace]:
    """The runs that the action `run` is asked for; for `all` those of the stored reference."""
    if given.action == "all":
        return [parser.parse_args(["run", *line.split()]) for line in reference]
    return [given] if given.action == "run" else []
