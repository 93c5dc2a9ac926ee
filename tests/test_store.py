"""Stores of runs: killed at any moment, on full and forbidden disks, opened half way."""

import errno
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import laws
import numpy as np
import pytest
import torch
import xarray

from sdml import lattice, observables, simulation, spins
from sdml.dynamics import LandauLifshitz
from sdml.simulation import lock, store

LATTICE = lattice.square(8)
START = spins.random(64, seed=0)
NEIGHBORS = torch.as_tensor(LATTICE.neighbors())
KILLS = int(os.environ.get("SDML_KILLS", "6"))
"""How often a run is killed; SDML_KILLS=200 for the whole check."""


def heisenberg(s):
    return s[..., NEIGHBORS, :].sum(-2)


def run(path, n_steps=300, **changes):
    """A warm run that writes something every third step and a checkpoint every sixth."""
    arguments = {
        "lattice": LATTICE,
        "spins": START,
        "local_field": heisenberg,
        "equation": LandauLifshitz(dt=0.1, damping=0.2, kT=0.3),
        "n_steps": n_steps,
        "save_every": 3,
        "observables": {"chirality": observables.site_chirality},
        "seed": 7,
        "checkpoint_every": 2,
        "frames_every": 10,
    }
    return simulation.quench(path, **(arguments | changes))


def assert_same(found, expected):
    """All that two stores hold, bit for bit."""
    assert found.header == expected.header
    assert found.step == expected.step
    for name in ("time", "frame_time", "frames", "spins"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for group in ("observables", "guard"):
        mine, others = getattr(found, group), getattr(expected, group)
        assert mine.keys() == others.keys()
        for name, values in others.items():
            np.testing.assert_array_equal(mine[name], values)


ADAMS = LandauLifshitz(dt=0.1, damping=0.2, kT=0.3, method="adams")
"""Knows the angular velocity of the step before."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undisturbed run."""
    return run(tmp_path_factory.mktemp("whole") / "run.h5")


@pytest.fixture(scope="module")
def whole_of_adams(tmp_path_factory):
    return run(tmp_path_factory.mktemp("adams") / "run.h5", equation=ADAMS)


def quietly(path, changes):
    torch.set_num_threads(1)
    run(path, **changes)


def test_a_run_killed_at_any_moment_resumes_bit_for_bit(tmp_path, whole, whole_of_adams):
    """With one method and the other in turn."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "sdml.simulation", "sdml.lattice"])
    quietly_ended = context.Process(target=quietly, args=(tmp_path / "first.h5", {}))
    quietly_ended.start()  # starts the server
    quietly_ended.join()
    rng, found_steps = np.random.default_rng(0), []
    for k in range(KILLS):
        path = tmp_path / f"{k}.h5"
        changes, expected = (({}, whole), ({"equation": ADAMS}, whole_of_adams))[k // 2 % 2]
        process = context.Process(target=quietly, args=(path, changes))
        process.start()
        time.sleep(rng.uniform(0.0, 1.0) * max(whole.seconds, 0.1))
        while not path.exists() and k % 2 == 0 and process.is_alive():
            time.sleep(1e-3)  # every other kill falls into the run for sure
        time.sleep(rng.uniform(0.0, 0.9) * whole.seconds)
        process.kill()
        process.join()
        if path.exists():
            found_steps.append(simulation.load(path).step)
        assert_same(run(path, **changes), expected)
        assert sorted(os.listdir(tmp_path)) == sorted({"first.h5", path.name})
        path.unlink()
    assert any(0 < step < 300 for step in found_steps)


def test_a_finished_run_loses_the_lock_of_a_process_killed_at_its_end(tmp_path, whole):
    path = tmp_path / "run.h5"
    run(path)
    (tmp_path / "run.h5.lock").touch()
    assert_same(run(path), whole)
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("n_writes", [0, 1, 2, 7, 8, 9, 10, 11, 12, 13, 14, 40])
@pytest.mark.parametrize("torn", [0.0, 0.5])
def test_every_write_can_be_the_last(tmp_path, monkeypatch, whole, n_writes, torn):
    """The disk fails at a write, part of which it may have done."""
    path, written = tmp_path / "run.h5", []
    original = os.pwrite

    def pwrite(file, data, offset):
        written.append(len(data))
        if len(written) > n_writes:
            original(file, bytes(data)[: int(torn * len(data))], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match=r"No space left.*checkpoint, at step \d+, is intact"):
        run(path)
    monkeypatch.undo()
    kept = simulation.load(path)
    np.testing.assert_array_equal(kept.frames, whole.frames[: len(kept.frames)])
    assert_same(run(path), whole)


def test_a_checkpoint_does_not_write_the_history_again(tmp_path, monkeypatch):
    written = []
    original = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda f, data, at: (written.append(len(data)), original(f, data, at))[1]
    )
    sizes = []
    for n_steps in (300, 600):
        written.clear()
        run(tmp_path / f"{n_steps}.h5", n_steps)
        sizes.append(sum(written))
    assert sizes[1] < 2.01 * sizes[0]


def test_a_full_disk_is_told_before_the_first_step(tmp_path):
    """Space for the whole run is taken at its start; here the size of files is limited."""
    path = tmp_path / "run.h5"
    run(path, 60)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 4096, hard))
    try:
        for target in (path, tmp_path / "other.h5"):
            with pytest.raises(OSError, match="cannot be made") as failure:
                run(target, 3000)
            assert str(target) in str(failure.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]
    assert_same(run(path, 90), run(tmp_path / "other.h5", 90))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_forbidden_folder_ends_the_run_with_an_intact_store():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder / "run.h5", 60)
        before = (folder / "run.h5").read_bytes()
        folder.chmod(0o555)
        os.seteuid(65534)
        try:
            for target in (folder / "run.h5", folder / "new.h5"):
                with pytest.raises(PermissionError) as failure:
                    run(target, 90)
                assert str(target) in str(failure.value)
            with pytest.raises(PermissionError, match="cannot be made"):
                run(folder / "below" / "run.h5", 90)
        finally:
            os.seteuid(0)
        assert (folder / "run.h5").read_bytes() == before
        folder.chmod(0o755)
        run(folder / "run.h5", 90)


def test_a_store_that_may_only_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"

    def interrupt(step):
        if step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, report=interrupt)
    original = os.open

    def refuse(name, flags, *more):
        if flags & os.O_RDWR and str(name) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(name, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=r"step 30, is intact.*run\.h5"):
        run(path)


def test_two_processes_do_not_write_one_store(tmp_path, whole):
    """The other may want a longer run, which replaces the store; this one may have read its own."""
    path, refusals = tmp_path / "run.h5", []

    def meddle(step):
        if step == 30:
            simulation.load(path)
            with multiprocessing.get_context("forkserver").Pool(1) as pool:
                refusals.extend(pool.starmap(refusal_of, [(path, 60), (path, 90)]))

    found = run(path, 60, report=meddle)
    assert len(refusals) == 2
    assert all("written by another process" in said for said in refusals), refusals
    np.testing.assert_array_equal(found.frames, whole.frames[: len(found.frames)])
    assert found.step == 60
    assert os.listdir(tmp_path) == ["run.h5"]
    assert_same(run(path), whole)


def refusal_of(path, n_steps):
    try:
        run(path, n_steps)
    except ValueError as error:
        return str(error)
    return ""


def test_two_calls_do_not_begin_one_store(tmp_path, whole):
    """A second one comes while the first measures the start, before there is a store."""
    path, refusals = tmp_path / "run.h5", []

    def chirality(sites, s):
        if not refusals:
            refusals.append("none")
            refusals[0] = refusal_of(path, 90)
        return observables.site_chirality(sites, s)

    assert_same(run(path, observables={"chirality": chirality}), whole)
    assert "written by another process" in refusals[0]


def test_a_complete_run_is_read_without_the_right_to_write(tmp_path):
    path = tmp_path / "run.h5"
    found = run(path, 60)
    with lock.held(path):
        assert_same(run(path, 60), found)


def test_only_what_was_left_of_the_same_store_is_swept(tmp_path):
    for name in ("run.h5.77.partial", "run.h5.x.77.partial", "other.h5.77.partial"):
        (tmp_path / name).touch()
    run(tmp_path / "run.h5", 60)
    kept = ["other.h5.77.partial", "run.h5", "run.h5.x.77.partial"]
    assert sorted(os.listdir(tmp_path)) == kept


def test_xarray_opens_a_batch_half_way(tmp_path):
    """Rows that are not there yet are nan; the seeds, sites and times are named."""
    path, seen = tmp_path / "run.h5", []
    batch = np.stack([START, -START])

    def look(step):
        if step == 150:
            with xarray.open_dataset(path, engine="h5netcdf") as opened:
                seen.append(opened.load())

    run(path, report=look, spins=batch, seed=[3, 4], frame_dtype="float16")
    (half,) = seen
    assert half["frames"].dims == ("frame_time", "seed", "site", "component")
    assert half["frames"].dtype == np.float16
    assert half["seed"].values.tolist() == [3, 4]
    filled = np.isfinite(half["frames"]).all(("seed", "site", "component"))
    np.testing.assert_array_equal(filled, half["frame_time"] <= 15.0)
    assert half.attrs["device"] == "cpu"
    with xarray.open_dataset(path, engine="h5netcdf", group="observables") as opened:
        assert opened["chirality"].dims[:2] == ("time", "seed")
        assert opened["chirality"].shape == (101, 2, 64)
    with xarray.open_dataset(path, engine="h5netcdf", group="guard") as opened:
        assert float(opened["norm_drift"].max()) < 1e-14


@pytest.mark.parametrize("slot", [0, 1])
def test_a_damaged_checkpoint_gives_way_to_the_other(tmp_path, whole, slot):
    path = tmp_path / "run.h5"
    run(path, 60)
    with store.opened(path) as file:
        offset = file["checkpoint/spins"].id.get_offset()
        commits = file["checkpoint/commits"][:, 0]
    with open(path, "r+b") as file:
        file.seek(offset + slot * START.nbytes + 100)
        file.write(b"\x55" * 8)
    assert simulation.load(path).step == commits[1 - slot]
    assert_same(run(path), whole)


@pytest.mark.parametrize("n_overtaken", [1, store.LOOKS - 1])
def test_a_reader_outlasts_a_writer(tmp_path, monkeypatch, n_overtaken):
    """Two commits between its reads of the table and of the spins leave it no valid pair."""
    path, looks = tmp_path / "run.h5", []
    run(path, 60)
    original = np.argsort

    def overtaken(*arguments, **options):
        """Between the two reads."""
        looks.append(out.checkpoint.step)
        for _ in range(2 if len(looks) <= n_overtaken else 0):
            now = out.checkpoint
            out.commit(replace(now, step=now.step + 1, spins=np.roll(now.spins, 1, axis=0)))
        return original(*arguments, **options)

    with store.Store(path) as out, store.opened(path) as file:
        monkeypatch.setattr(np, "argsort", overtaken)
        found = store.latest(file)
    assert looks == list(range(60, 60 + 2 * n_overtaken + 1, 2))
    assert found.step == 60 + 2 * n_overtaken


def test_two_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "run.h5"
    run(path, 60)
    with store.opened(path) as file:
        offset = file["checkpoint/commits"].id.get_offset()
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\x55" * 80)
    laws.assert_refused(lambda: run(path), "path", "run.h5", "no valid checkpoint")
