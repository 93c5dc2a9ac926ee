"""Absolute folders of the project, and files that are written whole or not at all.

The released weights lie in the package. Notebooks, data and figures lie in the checkout, `root`:
the one that holds this package, or the one that the environment variable ``SDML_HOME`` names, for
a copy of the project elsewhere or an installation outside a checkout. ``SDML_BUILD`` is the folder
that a run writes to; the runner sets it for notebooks.
"""

import atexit
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DEFAULT_PROFILE = "quick"
PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """Folder of the checkout: ``SDML_HOME`` where that is set, else the one of this package.

    Raises
    ------
    ValueError
        If ``SDML_HOME`` is set and is no checkout, or is not and the package lies outside one.
    """
    folder = _checkout()
    if folder is None:
        raise ValueError(
            f"this needs a checkout of the project, and the package in {str(PACKAGE)!r} is outside "
            "one: set SDML_HOME to a checkout, whose notebooks need pip install 'sdml[notebooks]'"
        )
    return folder


def _checkout() -> Path | None:
    """The checkout, None outside one; ValueError for a ``SDML_HOME`` that is none."""
    home = os.environ.get("SDML_HOME")
    folder = Path(home).expanduser().resolve() if home else PACKAGE.parent
    if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
        return folder
    if home:
        wanted = "a checkout (with notebooks/)" if folder.is_dir() else "an existing folder"
        raise ValueError(f"SDML_HOME={home!r} is not {wanted}; unset it or name a checkout")
    return None


def prepare_kernel_cache() -> None:
    """Let numba keep compiled kernels in a temporary folder where it finds no other.

    It looks in ``NUMBA_CACHE_DIR``, beside the source and in the user's cache folder, and refuses a
    kernel that is to be kept when it can write to none of them. This goes before the kernels of a
    module; where numba finds a folder it changes nothing. The temporary folder goes with the
    process.
    """
    import numba

    try:
        numba.njit(_plain, cache=True)  # only looks for the folder: nothing is compiled
    except RuntimeError:
        folder = tempfile.TemporaryDirectory(prefix="sdml-", ignore_cleanup_errors=True)
        atexit.register(folder.cleanup)
        numba.config.CACHE_DIR = folder.name  # type: ignore[attr-defined]


_forked = False


def _mark_forked() -> None:
    """In a child: whether its parent's numba had started the threads of OpenMP."""
    global _forked
    numba = sys.modules.get("numba")
    with suppress(AttributeError, ValueError):  # not imported, or no threads started
        _forked = _forked or numba.threading_layer() == "omp"  # type: ignore[union-attr]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


def require_kernel_threads() -> None:
    """The door of the compiled parallel kernels.

    Raises
    ------
    RuntimeError
        This process was forked from one whose kernels had run: OpenMP would end it.
    """
    if _forked:
        raise RuntimeError(
            "compiled kernels had run in the process from which this one was forked, and OpenMP "
            "cannot go on in a fork: start processes by multiprocessing.get_context('spawn')"
        )


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


def build(profile: str | None = None) -> Path:
    """Folder that a run of `profile` writes to; it may not exist yet.

    Without an argument it is the folder of the run in progress (``SDML_BUILD``), else that of the
    quick profile, so that a notebook opened by hand writes where ``make reproduce`` does. It is in
    the checkout, outside one in the working folder.
    """
    running = os.environ.get("SDML_BUILD")
    if profile is None and running:
        return Path(running).expanduser().resolve()
    return (_checkout() or Path.cwd()) / "build" / (profile or DEFAULT_PROFILE)


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


def sets(path: str | os.PathLike[str], made: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """Name -> ``made(row, store)`` of every set in the store of a study; ValueError if it is none.

    A store is a JSON object, and its ``sets`` are a list of rows, each with a ``name``.
    """
    target = Path(path)
    try:
        store = loaded(target)
        return {row["name"]: made(row, store) for row in store["sets"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path: {target.name!r} is no store of a study ({error!r})") from error


def digest(found: Iterable[Path], folder: Path) -> str:
    """SHA-256 over names (relative to `folder`) and contents of files, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(found):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
