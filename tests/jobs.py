"""Jobs for other processes, which import nothing else: torch would take them seconds."""

import os
import signal
import time
from pathlib import Path

from sdml import workers


def square(x: int) -> int:
    return x * x


def threads() -> list[str | None]:
    return [os.environ.get(name) for name in workers.THREADS]


def process_id() -> int:
    return os.getpid()


def dies(marker: Path, times: int) -> str:
    """Kills its process the first times."""
    attempts = len(list(marker.parent.glob(marker.name + "*")))
    if attempts < times:
        Path(f"{marker}{attempts}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def raises(marker: Path, times: int, error: type[Exception]) -> int:
    """Number of attempts; raises the first times."""
    attempts = len(list(marker.parent.glob(marker.name + "*")))
    Path(f"{marker}{attempts}").touch()
    if attempts < times:
        raise error("not now")
    return attempts + 1


def waits(marker: Path) -> None:
    """Leaves its process number and does not end."""
    marker.write_text(str(os.getpid()))
    time.sleep(600)
