"""What the measurements beside this file share: where a result comes from, how it is kept."""

import argparse
import datetime
from collections.abc import Sequence
from typing import Any

import torch

from sdml import forcefield, paths, record


def origin(device: str = "cpu", **more: Any) -> dict[str, Any]:
    """Code, versions, device and date of a measurement, and ``more`` of it."""
    gpu = {} if device == "cpu" else {"device": torch.cuda.get_device_name()}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return record.origin() | gpu | {"date": date} | more


def weights(name: str) -> str:
    """SHA-256 of a released force field."""
    return forcefield.checksum(forcefield.load(name))


def show(row: dict[str, Any]) -> None:
    """Print the numbers of a row."""
    cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    print("  ".join(cells), flush=True)


def keep(name: str | None, result: dict[str, Any]) -> None:
    """Write data/reference/NAME.json; nothing without a name."""
    if name:
        record.write_text(paths.reference() / f"{name}.json", record.json_text(result))


def asked(
    parser: argparse.ArgumentParser, given: argparse.Namespace, reference: Sequence[str]
) -> list[argparse.Namespace]:
    """The runs that the action `run` is asked for; for `all` those of the stored reference."""
    if given.action == "all":
        return [parser.parse_args(["run", *line.split()]) for line in reference]
    return [given] if given.action == "run" else []
