"""Threads, random examples and published data for all tests."""

import os
from pathlib import Path

import hypothesis
import pytest

# Before numpy and torch are imported: several test processes with many threads each are far slower
# than with one, because the threads of small solves wait for each other.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")

# A busy machine must not turn a slow example into a failure, nor a rerun draw others.
hypothesis.settings.register_profile("sdml", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sdml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """Empty checkout, as the current one."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("SDML_HOME", str(tmp_path))
    monkeypatch.delenv("SDML_BUILD", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def authors_data() -> Path:
    """Folder of the snapshots published with arXiv:2105.08221."""
    from sdml.phase_separation import published  # not before the threads are set

    folder = published.folder()
    if folder is None:
        pytest.skip("SDML_AUTHORS_DATA is not set: the published snapshots are not checked")
    return folder
