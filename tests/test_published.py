"""The reader of the authors' snapshots, on files of the same form."""

import laws
import numpy as np
import pytest

from sdml import lattice, spins
from sdml.phase_separation import published, snapshots


def write(path, length=4, seed=0):
    """A file of theirs with random spins, 0.97 electrons a site and fields 5 S + x."""
    sites = lattice.square(length)
    s = spins.random(sites.n_sites, seed)
    half = np.full((sites.n_sites, 1), 0.485)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, np.hstack([sites.positions, half, s, 5 * s + [1, 0, 0]]))
    return s


def test_columns_of_a_snapshot(tmp_path):
    s = write(tmp_path / "c7.dat")
    found = published.snapshot(tmp_path / "c7.dat")
    assert found.lattice.n_sites == 16
    np.testing.assert_allclose(found.spins, s, atol=1e-12)
    np.testing.assert_allclose(found.density, 0.97)
    row = snapshots.solved_statistics(*found)
    expected = snapshots.statistics(found.lattice, s)
    assert row["correlation"] == pytest.approx(expected["correlation"])
    assert row["clusters_per_1000"] == pytest.approx(expected["n_clusters"] / 0.016)
    # S x (5 S + x) is the part of x across S.
    assert row["rms_torque"] == pytest.approx(np.sqrt((1 - s[:, 0] ** 2).mean()))


def test_rows_of_both_runs_in_the_order_of_their_steps(tmp_path, monkeypatch):
    for k in (10, 9):
        write(tmp_path / published.QUENCH / f"c{k}.dat")
    write(tmp_path / published.NETWORK / "c0.dat", length=6)
    monkeypatch.setenv("SDML_AUTHORS_DATA", str(tmp_path))
    assert [*published.rows()] == [
        "published, exact, c9",
        "published, exact, c10",
        "published, network, c0",
    ]


def test_without_the_snapshots(tmp_path, monkeypatch):
    monkeypatch.delenv("SDML_AUTHORS_DATA", raising=False)
    assert published.folder() is None and published.rows() == {}
    monkeypatch.setenv("SDML_AUTHORS_DATA", str(tmp_path / "nowhere"))
    laws.assert_refused(published.rows, "SDML_AUTHORS_DATA", "nowhere")


def test_other_tables_are_refused(tmp_path):
    np.savetxt(tmp_path / "c0.dat", np.ones((15, 9)))
    laws.assert_refused(lambda: published.snapshot(tmp_path / "c0.dat"), "path", "c0.dat")
    np.savetxt(tmp_path / "c1.dat", np.ones((16, 4)))
    laws.assert_refused(lambda: published.snapshot(tmp_path / "c1.dat"), "path", "c1.dat")
