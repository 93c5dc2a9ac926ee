"""Absolute folders of the project.

Every folder hangs on `root`, the checkout that holds this package; the environment variable
``SDML_HOME`` overrides it, for a copy of the project elsewhere or an installation outside a
checkout. ``SDML_BUILD`` is the folder that a run writes to; the runner sets it for notebooks.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEFAULT_PROFILE = "quick"
PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """Folder of the checkout, or ``SDML_HOME`` where that is set.

    Raises
    ------
    ValueError
        If ``SDML_HOME`` is set and is not an existing folder.
    """
    home = os.environ.get("SDML_HOME")
    if not home:
        return PACKAGE.parent
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


def weights() -> Path:
    """Released weights and their cards: part of the package."""
    return PACKAGE / "weights"


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


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, and its folder, whole or not at all; an unchanged one keeps its time stamp."""
    if path.exists() and path.read_bytes() == content:
        return path
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` of text in UTF-8."""
    return write_bytes(path, text.encode())


def json_text(value: Any) -> str:
    """Indented strict JSON; numpy and torch values become plain numbers and lists.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, or is no number, text, list or mapping.
    """
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ValueError(f"{value!r} of type {type(value).__name__} cannot be stored as JSON")


def loaded(path: Path) -> Any:
    """Content of a JSON file; a ValueError names one that is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error


def digest(found: Iterable[Path], folder: Path) -> str:
    """SHA-256 over names (relative to `folder`) and contents of files, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(found):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
