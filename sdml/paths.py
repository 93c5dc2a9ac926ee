"""Absolute folders of the project.

Every folder hangs on `root`, the checkout that holds this package; the environment variable
``SDML_HOME`` overrides it, for a copy of the project elsewhere or an installation outside a
checkout. ``SDML_BUILD`` is the folder that a run writes to; `sdml.reproduce` sets it for notebooks.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULT_PROFILE = "quick"


def root() -> Path:
    """Folder of the checkout, or ``SDML_HOME`` where that is set.

    Raises
    ------
    ValueError
        If ``SDML_HOME`` is set and is not an existing folder.
    """
    home = os.environ.get("SDML_HOME")
    if not home:
        return Path(__file__).resolve().parents[1]
    folder = Path(home).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(
            f"SDML_HOME={home!r} is not an existing folder; unset it or name a checkout"
        )
    return folder


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write beside ``target``; it takes its place, whole, when the body succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(argument: str, target: Path) -> None:
    """Make the folder of a file that is to be written, and try whether it takes files.

    Raises
    ------
    ValueError
        The target is a folder, or its own folder cannot be made or written to; names the argument.
    """
    try:
        if target.is_dir():
            raise ValueError(f"{argument}: must be a file, got the folder {str(target)!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"{argument}: must be a file in a folder that can be made and written to, got "
            f"{str(target)!r} ({error.strerror})"
        ) from error


def data() -> Path:
    """Stored artefacts with their manifest."""
    return root() / "data"


def models() -> Path:
    """Released weights and their cards."""
    return data() / "models"


def reference() -> Path:
    """Full-size results behind the figures."""
    return data() / "reference"


def figures() -> Path:
    """Published figures and ``claims.json``."""
    return root() / "figures"


def notebooks() -> Path:
    """Notebooks as stored, executed in the quick profile."""
    return root() / "notebooks"


def profiles() -> Path:
    """Parameter overlays of the larger profiles."""
    return notebooks() / "profiles"


def build(profile: str | None = None) -> Path:
    """Folder that a run of `profile` writes to; it may not exist yet.

    Without an argument it is the folder of the run in progress (``SDML_BUILD``), else that of the
    quick profile, so that a notebook opened by hand writes where ``make reproduce`` does.
    """
    running = os.environ.get("SDML_BUILD")
    if profile is None and running:
        return Path(running).expanduser().resolve()
    return root() / "build" / (profile or DEFAULT_PROFILE)
