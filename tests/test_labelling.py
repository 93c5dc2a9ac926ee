"""Labelling at scale: killed at any moment, it goes on; where jobs run does not matter."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import laws
import numpy as np
import pytest

from sdml import cli, dataset, dynamics, exact, forcefield, labelling, lattice, observables, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel, describe

MODEL = SDModel(lattice.triangular(4), 3.0, 0.25, electron_kT=0.05)
NOISY = LandauLifshitz(dt=0.5, damping=0.2, kT=0.01)
STILL = LandauLifshitz(dt=0.5, damping=0.2)
TIMES = (0, 1, 2.5)
COMMAND = (
    "label --lattice square --length 4 --exchange-coupling 6 --filling 0.485 --electron-kT 0.05 "
    "--kT 0.01 --random 19 --quench-seeds 3 4 --save-times 0 1 2 --output"
).split()
KILLED = """
import importlib, os, signal, sys
module, name, calls, path = sys.argv[1:]
from test_labelling import MODEL, NOISY, TIMES
from sdml import labelling
module = importlib.import_module(module)
original, done = getattr(module, name), 0
def killing(*arguments, **options):
    global done
    done += 1
    if done == int(calls):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(module, name, killing)
labelling.QuenchJob(path, MODEL, NOISY, TIMES, 5)()
"""


def assert_same(a, b):
    """Bit for bit, arrays, model and provenance."""
    assert dataset.checksums(a) == dataset.checksums(b)


def kill_in(module: str, name: str, calls: int, path: Path) -> None:
    """A quench in another process, killed when it calls a function for the given time."""
    arguments = [sys.executable, "-c", KILLED, module, name, str(calls), str(path)]
    search = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.pathsep.join(search)})
    assert done.returncode == -signal.SIGKILL


def frames_in(path: Path) -> int:
    """Snapshots of a store, finished or not."""
    with h5py.File(path) as file:
        return len(file["energy"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, name, calls, kept",
    [
        ("sdml.dynamics", "thermal_noise", 1, 1),  # once a step
        ("sdml.dynamics", "thermal_noise", 5, 2),
        ("os", "replace", 2, 1),
        ("h5py", "File", 2, 1),
    ],
)
def test_a_killed_quench_loses_at_most_one_frame_and_goes_on(tmp_path, module, name, calls, kept):
    path = tmp_path / "quench.h5"
    kill_in(module, name, calls, path)
    assert frames_in(path) == kept
    laws.assert_refused(lambda: dataset.load(path), "quench.h5", "unfinished", kept)
    assert labelling.QuenchJob(path, MODEL, NOISY, TIMES, 5)()
    assert_same(dataset.load(path), dataset.quench(MODEL, NOISY, TIMES, 5))


@pytest.mark.slow
def test_a_force_field_drives_and_is_named(tmp_path, monkeypatch):
    """A quench that broke off goes on under the same force field only."""
    model = SDModel(lattice.triangular(12), 3.0, 0.25, electron_kT=0.05)
    path, equation = tmp_path / "quench.h5", LandauLifshitz(1.0, 0.3)
    field = forcefield.load("triangular").on(model.lattice)
    expected = dataset.quench(model, equation, (0, 2), 5, driver=field)
    assert expected.provenance["quenches"][0]["force_field"] == forcefield.checksum(field)
    job = labelling.QuenchJob(path, model, equation, (0, 2), 5, "triangular")
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(dynamics, "thermal_noise", None)
        job()
    assert frames_in(path) == 1
    by_exact_fields = labelling.QuenchJob(path, model, equation, (0, 2), 5)
    laws.assert_refused(by_exact_fields, "quench.h5", "provenance")
    assert job()
    assert_same(dataset.load(path), expected)


@pytest.mark.parametrize("kT, method", [(0.0, "sib"), (0.01, "sib"), (0.01, "adams")])
@pytest.mark.parametrize("calls", range(6))
def test_an_interrupted_quench_is_the_undisturbed_one(tmp_path, monkeypatch, calls, kT, method):
    """Broken off in any of its six steps."""
    equation, path = LandauLifshitz(0.5, 0.2, kT, method), tmp_path / "quench.h5"
    original, done = dynamics.thermal_noise, []

    def interrupted(*arguments):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(1)
        return original(*arguments)

    job = labelling.QuenchJob(path, MODEL, equation, (*TIMES, 3), 5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dynamics, "thermal_noise", interrupted)
        job()
    assert not dataset.is_complete(path)
    assert [job(), job()] == [True, False]
    assert_same(dataset.load(path), dataset.quench(MODEL, equation, (*TIMES, 3), 5))


def test_a_quench_that_was_stopped_is_complete_with_the_times_that_it_has(tmp_path):
    """Asked for no more than its frames; for fewer it is refused, and keeps them."""
    path, times = tmp_path / "quench.h5", (0, 1, 2, 3)
    frames = dataset.quench(MODEL, STILL, times, 5).select(slice(3))
    dataset._save_begun(frames, path, None, complete=False)
    laws.assert_refused(labelling.QuenchJob(path, MODEL, STILL, times[:2], 5), "quench.h5", "times")
    job = labelling.QuenchJob(path, MODEL, STILL, times[:3], 5)
    assert [job(), job()] == [True, False]
    assert_same(dataset.load(path), frames)


def test_a_finished_quench_is_left_alone(tmp_path):
    path = tmp_path / "quench.h5"
    job = labelling.QuenchJob(path, MODEL, NOISY, TIMES, 5)
    job()
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert not job()
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)


def test_another_quench_is_refused(tmp_path):
    path = tmp_path / "quench.h5"
    labelling.QuenchJob(path, MODEL, NOISY, TIMES, 5)()
    other = SDModel(lattice.triangular(4), 2.0, 0.25, electron_kT=0.05)
    calm = LandauLifshitz(0.5, 0.2)
    for job, mentioned in (
        (labelling.QuenchJob(path, other, NOISY, TIMES, 5), "model"),
        (labelling.QuenchJob(path, MODEL, calm, TIMES, 5), "provenance"),
        (labelling.QuenchJob(path, MODEL, NOISY, TIMES, 6), "provenance"),
        (labelling.QuenchJob(path, MODEL, NOISY, (0, 1), 5), "2.5"),
    ):
        laws.assert_refused(job, "quench.h5", "other snapshots", mentioned)


def test_blocks_of_random_states_are_the_whole(tmp_path):
    whole = labelling.RandomStates(tmp_path / "random.h5", MODEL, 19, seed=2)
    jobs = list(whole.jobs().values())
    assert len(jobs) == 3
    assert [job() for job in reversed(jobs)] == [True, True, True]
    assert [job() for job in jobs] == [False, False, False]
    assert whole.gather()
    assert_same(dataset.load(whole.path), dataset.random_states(MODEL, 19, seed=2))
    assert os.listdir(tmp_path) == ["random.h5"]
    assert whole.jobs() == {}
    assert not whole.gather()
    for n_snapshots, seed in ((18, 2), (19, 3)):
        other = labelling.RandomStates(whole.path, MODEL, n_snapshots, seed)
        laws.assert_refused(other.jobs, "random.h5")


def test_labels_by_moments_are_those_by_diagonalization(tmp_path):
    """The same states, labelled by both engines; each store knows its own."""
    command = "--lattice square --length 4 --exchange-coupling 6 --filling 0.485 --electron-kT 0.1"
    runs = "--random 3 --quench-seeds 4 --save-times 0 1"
    for engine in ("exact", "kpm"):
        options = [*command.split(), *runs.split(), "--engine", engine]
        assert cli.main(["label", *options, "--output", str(tmp_path / engine)]) == 0
    for name in ("random.h5", "quench_4.h5"):
        exact, kpm = (dataset.load(tmp_path / engine / name) for engine in ("exact", "kpm"))
        np.testing.assert_allclose(kpm.spins, exact.spins, atol=1e-4)
        np.testing.assert_allclose(kpm.local_field, exact.local_field, atol=1e-3)
        np.testing.assert_allclose(kpm.energy, exact.energy, atol=1e-3)
        engines = [data.provenance["engine"] for data in (exact, kpm)]
        assert engines == ["sdml.exact", "sdml.kpm n_moments=None n_probes=None seed=0"]


def test_moments_belong_to_their_engine(tmp_path, capsys):
    assert cli.main([*COMMAND, str(tmp_path), "--n-moments", "10"]) == 2
    assert "--engine kpm" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_heated_order_is_a_thermal_state(tmp_path):
    """kT / 2 for each of the two directions of a spin, nearly; the order is still there."""
    model = replace(MODEL, lattice=lattice.triangular(6))
    for kT in (0.0005, 0.005):
        equation, path = LandauLifshitz(1.0, 0.5, kT), tmp_path / f"{kT}.h5"
        job = labelling.QuenchJob(path, model, equation, (0, 30, 40, 50), 1, texture="tetrahedral")
        assert job()
        data = dataset.load(path)
        assert data.provenance["quenches"][0]["start"] == "tetrahedral"
        np.testing.assert_array_equal(data.spins[0], spins.tetrahedral(model.lattice))
        assert observables.scalar_chirality(model.lattice, data.spins[-1]).mean() > 0.6
        assert 0.6 < (data.energy[1:].mean() - data.energy[0]) / (36 * kT) < 1.1


def test_an_unknown_start_is_refused(tmp_path):
    def job(texture):
        return labelling.QuenchJob(tmp_path / "a.h5", MODEL, NOISY, TIMES, 1, texture=texture)

    laws.assert_refused(lambda: job("helix"), "start", "helix", "tetrahedral")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", dataset.DIMENSIONS)
def test_altered_snapshots_are_refused(tmp_path, name):
    path = tmp_path / "data.h5"
    dataset.save(dataset.random_states(MODEL, 3, seed=0), path)
    with h5py.File(path, "a") as file:
        values = file[name][()]
        values[1] = np.flip(values[1]) if values.ndim > 1 else values[1] + 1
        file[name][...] = values
    laws.assert_refused(lambda: dataset.load(path), "data.h5", "SHA-256", "[1]")


@pytest.mark.parametrize("name", ["model", "provenance"])
def test_an_altered_origin_is_refused(tmp_path, name):
    path = tmp_path / "data.h5"
    dataset.save(dataset.random_states(MODEL, 1, seed=7), path)
    with h5py.File(path, "a") as file:
        file.attrs[name] = file.attrs[name].replace("0.05", "0.04").replace("7", "8")
    laws.assert_refused(lambda: dataset.load(path), "data.h5", "SHA-256")


def test_a_store_may_word_its_model_otherwise(tmp_path, monkeypatch):
    """Checksums are of the text that is there: a later version describes models with more words."""
    path, data = tmp_path / "data.h5", dataset.random_states(MODEL, 1, seed=7)

    def fewer_words(model):
        return {k: v for k, v in describe(model).items() if k != "easy_axis"}

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "describe", fewer_words)
        dataset.save(data, path)
    assert_same(dataset.load(path), data)


def stores(folder: Path) -> dict[str, list[str]]:
    """Name -> checksums of every store of a folder."""
    return {p.name: dataset.checksums(dataset.load(p)) for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, list[str]]:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("serial")
    assert cli.main([*COMMAND, str(folder)]) == 0
    found = stores(folder)
    assert list(found) == ["quench_3.h5", "quench_4.h5", "random.h5"]
    return found


def test_the_command_says_what_it_wrote_and_goes_on(tmp_path, serial, capsys):
    assert cli.main([*COMMAND, str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(f"wrote {name}" in printed for name in serial)
    (tmp_path / "quench_4.h5").unlink()
    assert cli.main([*COMMAND, str(tmp_path)]) == 0
    assert capsys.readouterr().out == "wrote quench_4.h5\n"
    assert stores(tmp_path) == serial


@pytest.mark.slow
def test_two_processes_write_the_same_stores(tmp_path, serial):
    assert cli.main([*COMMAND, str(tmp_path), "--workers", "2", "--threads", "1"]) == 0
    assert stores(tmp_path) == serial


@pytest.mark.slow
def test_a_cluster_writes_the_same_stores(tmp_path, serial):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1") as cluster:
        address = cluster.scheduler_address
        assert cli.main([*COMMAND, str(tmp_path), "--scheduler", address]) == 0
    assert stores(tmp_path) == serial


def test_states_of_another_unnamed_solver_are_refused(tmp_path):
    def other(model, s):
        state = exact.solve(model, s)
        return replace(state, energy=state.energy + 1.0)

    own = labelling.RandomStates(tmp_path / "random.h5", MODEL, 3, 0)
    assert own.label_block(0)
    other.__module__ = "sdml.exact"  # as of the store
    foreign = replace(own, solver=other)
    laws.assert_refused(lambda: foreign.label_block(0), "000000.h5", "solver")
    own.gather()
    laws.assert_refused(foreign.jobs, "random.h5", "solver")
    assert own.jobs() == {}


@pytest.mark.parametrize("dt", [0.1, 0.3, 0.7, 1 / 3])
def test_times_are_multiples_of_the_step(dt):
    """Whatever the rounding of the product; nothing in between is moved to a step."""
    equation = replace(NOISY, dt=dt)
    for steps in (0, 1, 3, 1001, 10**7 + 1):
        labelling.QuenchJob(
            "x.h5", MODEL, equation, (0, steps * dt, float(f"{steps * dt:.12g}")), 5
        )
        for off in (0.5, 0.1, math.nan, math.inf):
            time = (steps + off) * dt
            expected = "save_times", "multiples of dt", dt, time
            late = partial(labelling.QuenchJob, "x.h5", MODEL, equation, (0, time), 5)
            laws.assert_refused(late, *expected)


def test_the_command_refuses_times_between_steps(tmp_path, capsys):
    given = [*COMMAND, str(tmp_path), "--save-times", "0", "0.7"]
    assert cli.main(given) == 2
    told = "sdml label: save_times: must be multiples of dt = 0.5, got 0.7\n"
    assert capsys.readouterr().err == told
    assert not list(tmp_path.iterdir())


@laws.bad_input(
    {
        "random": (lambda: labelling.RandomStates(Path("x.h5"), MODEL, 0, 0), "n_snapshots", 0),
        "times": (partial(labelling.QuenchJob, "x.h5", MODEL, NOISY, (-1,), 0), "save_times", -1),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)


def test_a_driver_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys):
    assert cli.main([*COMMAND, str(tmp_path), "--driver", "nothing.safetensors"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
