"""Ensembles of runs: the same here, in processes and after a worker has died; the command."""

import os
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import laws
import numpy as np
import pytest
import torch

from sdml import (
    cli,
    dynamics,
    ensemble,
    forcefield,
    lattice,
    observables,
    simulation,
    spins,
    workers,
)
from sdml.descriptor.raw import RawBondEnvironment
from sdml.dynamics import LandauLifshitz
from sdml.ensemble import Quench
from sdml.forcefield import ForceField
from sdml.model import SDModel

SITES = lattice.square(12)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A small force field, not trained, that knows the range of random spins."""
    environment = RawBondEnvironment("square", 1.0, 1.0)
    field = ForceField(SDModel(SITES, 6.0, 0.5), environment, (4,), 1)
    data = torch.stack([torch.as_tensor(spins.random(144, seed=k)) for k in range(4)])
    field.standardize(data, torch.zeros(4), torch.randn(4, 144), torch.zeros(4))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    forcefield.save(field, path)
    return str(path)


@pytest.fixture
def settings(weights) -> Quench:
    equation = LandauLifshitz(0.1, 0.2, 0.1)
    often = simulation.Settings(checkpoint_every=1)
    return Quench(weights, 12, equation, 20, 5, often, observables=("energy", "neel"))


def assert_same(found: Path, expected: Path) -> None:
    first, second = simulation.load(found), simulation.load(expected)
    np.testing.assert_array_equal(first.spins, second.spins)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.header == second.header


def dies_once(job, marker: Path):
    """Kills its process while the job is under way, the first time."""
    if not marker.exists():
        marker.touch()
        original, calls = dynamics.evolve, []

        def evolve(*arguments):
            calls.append(1)
            if len(calls) > 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        dynamics.evolve = evolve
        job()
        raise AssertionError("it lives")
    return job()


@pytest.mark.slow
def test_an_ensemble_is_the_same_in_processes_and_after_a_death(tmp_path, settings):
    seeds = [1, 2]
    here = ensemble.jobs(tmp_path / "here", settings, seeds)
    assert dict(workers.run(here)) == {f"quench_{k}.h5": 20 for k in seeds}
    there = ensemble.jobs(tmp_path / "there", settings, seeds)
    there = {name: partial(dies_once, job, tmp_path / name) for name, job in there.items()}
    assert dict(workers.run(there, n_workers=2, n_threads=1)) == dict.fromkeys(here, 20)
    for name in here:
        assert_same(tmp_path / "there" / name, tmp_path / "here" / name)


def test_a_batch_holds_the_runs_of_its_seeds(tmp_path, settings):
    """Within the rounding of matrix products of other sizes."""
    together = ensemble.quench(tmp_path / "all.h5", settings, [1, 2])
    for k, seed in enumerate((1, 2)):
        alone = ensemble.quench(tmp_path / f"{seed}.h5", settings, seed)
        np.testing.assert_allclose(together.spins[k], alone.spins, atol=1e-4)
        np.testing.assert_array_equal(together.frames[0, k], alone.frames[0])


@pytest.mark.parametrize("name", [*ensemble.OBSERVABLES, "energy"])
def test_every_observable_can_be_measured(tmp_path, settings, name):
    found = ensemble.quench(tmp_path / "run.h5", replace(settings, observables=(name,)), [1, 2])
    assert found.observables[name].shape[:2] == (5, 2)
    assert np.isfinite(found.observables[name]).all()


def test_a_run_starts_from_an_order_or_from_another_run(tmp_path, settings):
    ordered = replace(settings, initial="neel")
    first = ensemble.quench(tmp_path / "a.h5", ordered, 1)
    np.testing.assert_array_equal(first.frames[0], spins.neel(SITES))
    second = ensemble.quench(tmp_path / "b.h5", replace(settings, initial=tmp_path / "a.h5"), 1)
    np.testing.assert_array_equal(second.frames[0], first.spins)
    smaller = replace(settings, initial=str(tmp_path / "a.h5"), length=13)
    expected = "initial", "(13, 13)", "(12, 12)"
    laws.assert_refused(lambda: ensemble.quench(tmp_path / "c.h5", smaller, 1), *expected)
    ensemble.quench(tmp_path / "two.h5", settings, [1, 2])
    batch = replace(settings, initial=str(tmp_path / "two.h5"))
    laws.assert_refused(lambda: ensemble.quench(tmp_path / "c.h5", batch, 1), "initial", "(144, 3)")


def test_a_run_does_not_start_from_another_lattice(tmp_path, settings):
    """Even of as many sites: a triangular one, or a strip."""
    for name, other in (("t", lattice.triangular(12)), ("s", lattice.square(9, 16))):
        path = tmp_path / f"{name}.h5"
        start = spins.random(144, seed=1)
        simulation.quench(path, other, start, torch.zeros_like, settings.equation, 5, 5)
        elsewhere = replace(settings, initial=str(path))
        expected = "initial", "square", "(12, 12)", other.name, other.shape
        laws.assert_refused(lambda e=elsewhere: ensemble.quench("x.h5", e, 1), *expected)


def test_a_run_tells_its_model_and_weights(tmp_path, settings, weights):
    header = ensemble.quench(tmp_path / "run.h5", settings, 1).header
    assert header["engine"] == "small.safetensors"
    expected = forcefield.checksum(forcefield.load(weights))
    assert header["provenance"]["weights_sha256"] == [expected]
    assert header["provenance"]["model"]["exchange_coupling"] == 6.0


def test_names_that_are_not_known(settings):
    for changes, mentioned in (
        ({"observables": ("spin",)}, ("observables", "chirality", "spin")),
        ({"initial": "chaos"}, ("initial", "neel", "chaos")),
    ):
        laws.assert_refused(lambda c=changes: replace(settings, **c), *mentioned)


@pytest.mark.parametrize("device", ["foo", "", "meta", "cuda:99"])
def test_devices_that_are_not_here(tmp_path, settings, weights, capsys, device):
    elsewhere = replace(settings, device=device)
    laws.assert_refused(lambda: ensemble.quench(tmp_path / "a.h5", elsewhere, 1), "device", "cpu")
    for target, options in ((tmp_path / "a.h5", []), (tmp_path, ["--seeds", "1", "2"])):
        assert command(weights, target, "--device", device, *options) == 2
        told = capsys.readouterr().err
        assert told.startswith("sdml quench: device: must be 'cpu' or ") and repr(device) in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seeds", [(), ("--seeds", "3")])
def test_an_interrupted_command_goes_on(tmp_path, weights, monkeypatch, capsys, seeds):
    output = tmp_path / ("runs" if seeds else "run.h5")
    evolve, calls = dynamics.evolve, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return evolve(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(dynamics, "evolve", interrupted)
        assert command(weights, output, *seeds) == 130
    told = "interrupted; the same command goes on from the last checkpoint\n"
    assert capsys.readouterr().err == told
    store = output / "quench_3.h5" if seeds else output
    assert simulation.load(store).step == 10
    assert command(weights, output, *seeds) == 0
    assert simulation.load(store).step == 20


def command(weights, output, *options):
    fixed = "--length 12 --dt 0.1 --steps 20"
    if "--save-per-decade" not in options:
        options = ("--save-every", "5", *options)
    return cli.main(
        ["quench", "--force-field", weights, *fixed.split(), "--output", str(output), *options]
    )


def test_the_command_makes_one_run(tmp_path, weights, capsys):
    options = "--schedule 0:0.2 1.5:0 --observables neel clusters --frames-every 7 --guard"
    options += " --frame-dtype float16 --method heun --warn-above 1 --save-per-decade 5"
    assert command(weights, tmp_path / "run.h5", *options.split()) == 0
    assert "9 rows of observables, 3 frames to t = 2\n" in capsys.readouterr().out
    found = simulation.load(tmp_path / "run.h5")
    assert found.header["schedule"] == [[0.0, 0.2], [1.5, 0.0]]
    assert found.header["equation"]["method"] == "heun"
    np.testing.assert_allclose(found.frame_time, [0, 0.7, 1.4])
    np.testing.assert_allclose(found.time[[0, 1, -1]], [0, 0.1, 2])
    neel = observables.neel_order(SITES, found.frames[0])
    assert found.observables["neel"][0] == pytest.approx(float(neel), abs=1e-3)
    assert "outside" in found.guard


def test_the_command_makes_many_runs(tmp_path, weights, capsys):
    assert command(weights, tmp_path, "--seeds", "3", "4", "--kT", "0.1") == 0
    assert capsys.readouterr().out == "quench_3.h5: 20 steps\nquench_4.h5: 20 steps\n"
    batch = ["--seeds", "3", "4", "--kT", "0.1", "--together"]
    assert command(weights, tmp_path / "all.h5", *batch) == 0
    both = simulation.load(tmp_path / "all.h5")
    for k, seed in enumerate((3, 4)):
        alone = simulation.load(tmp_path / f"quench_{seed}.h5")
        np.testing.assert_allclose(both.spins[k], alone.spins, atol=1e-4)


def test_one_run_is_a_file_and_many_are_a_folder(tmp_path, weights, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for output, options in ((".", []), (".", ["--seeds", "1", "2", "--together"])):
        assert command(weights, output, *options) == 2
        assert "--output: must be a file, " in capsys.readouterr().err
    assert command(weights, "file", "--seeds", "1", "2") == 2
    assert "--output: must be a folder for --seeds, got the file 'file'" in capsys.readouterr().err
    assert os.listdir() == ["file"]


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_smallest_and_the_largest_seed(tmp_path, weights, seed):
    assert command(weights, tmp_path / "one.h5", "--seed", str(seed), "--kT", "0.1") == 0
    batch = ["--seeds", str(seed), "7", "--together", "--kT", "0.1"]
    assert command(weights, tmp_path / "all.h5", *batch) == 0
    both, alone = (simulation.load(tmp_path / name) for name in ("all.h5", "one.h5"))
    assert both.header["seed"] == [seed, 7]
    np.testing.assert_allclose(both.spins[0], alone.spins, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        ("--together", ("--together", "--seeds")),
        ("--seed 0 --seeds 1", ("--seed:", "--seeds")),
        ("--warn-above 0", ("--warn-above", "--guard")),
        ("--save-every 5 --save-per-decade 5", ("--save-every", "--save-per-decade")),
        ("--workers 2", ("--workers", "--seeds")),
        ("--scheduler tcp://nowhere:1", ("--scheduler", "--seeds")),
        ("--seeds 1 2 --together --workers 2", ("--workers", "--together")),
        ("--seeds 1 2 --together --scheduler tcp://nowhere:1", ("--scheduler", "--together")),
    ],
)
def test_options_that_would_do_nothing(tmp_path, weights, capsys, options, mentioned):
    assert command(weights, tmp_path / "run.h5", *options.split()) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in mentioned) and told.startswith("sdml quench: --")
    assert not list(tmp_path.iterdir())


def test_what_is_not_asked_for_has_its_default(tmp_path, weights):
    """Ten steps between observables, seed 0, and a warning from one site in a hundred on."""
    output = ["--length", "12", "--dt", "0.1", "--output"]
    start = ["quench", "--force-field", weights, "--steps", "20", "--initial", "neel", "--guard"]
    with pytest.warns(UserWarning, match=r"guard: .* expected are 1 %$"):
        assert cli.main([*start, *output, str(tmp_path / "run.h5")]) == 0
    header = simulation.load(tmp_path / "run.h5").header
    assert (header["save_every"], header["seed"]) == (10, 0)


def test_a_seed_runs_once(tmp_path, weights, settings, capsys):
    laws.assert_refused(lambda: ensemble.jobs(tmp_path, settings, [3, 4, 3]), "seeds", [3, 4, 3])
    assert command(weights, tmp_path / "twice", "--seeds", "3", "3") == 2
    assert "seeds: must differ from each other, got [3, 3]" in capsys.readouterr().err
    assert not (tmp_path / "twice").exists()


def test_the_command_names_the_runs_that_fail(tmp_path, weights, capsys):
    """In one line when they do, and not as a crash; the others go on."""
    stopping = ["--seeds", "3", "4", "--initial", "neel", "--stop-above", "0"]
    with pytest.raises(SystemExit) as stop:
        command(weights, tmp_path, *stopping)
    assert stop.value.code == 1
    told = capsys.readouterr().err.splitlines()
    for seed, line in zip((3, 4), told, strict=False):
        assert re.match(f"STOPPED quench_{seed}.h5: guard: .* % of the sites .* are 0 %$", line)
    assert len(told) == 2  # to give the command again would not help
    command(weights, tmp_path / "free", "--seeds", "3")
    other = command(weights, tmp_path / "free", "--seeds", "4", "3", "--kT", "0.2")
    assert other == 2
    caught = capsys.readouterr()
    assert "quench_3.h5: path: 'quench_3.h5' holds another run" in caught.err
    assert "quench_4.h5: 20 steps" in caught.out


def test_the_command_says_what_is_tried_again(tmp_path, weights, monkeypatch, capsys):
    """What the machine did to a run, and not what the run would do again."""
    errors = [FloatingPointError("nan"), *[OSError(5, "gone")] * 2]

    def failing(*arguments):
        raise errors.pop(0)

    with monkeypatch.context() as patch:
        patch.setattr(dynamics, "evolve", failing)
        with pytest.raises(SystemExit) as stop:
            command(weights, tmp_path, "--seeds", "3", "4")
    assert stop.value.code == 1 and not errors
    stopped, failed, advice = capsys.readouterr().err.splitlines()
    assert stopped.startswith("STOPPED quench_3.h5: nan, at step 5 ")
    assert failed == "FAILED quench_4.h5: [Errno 5] gone"
    assert advice.startswith("some jobs failed; the same command tries them again")
    assert command(weights, tmp_path, "--seeds", "3", "4") == 0


def test_the_command_stops_with_its_guard(tmp_path, weights, capsys):
    with pytest.raises(SystemExit) as stop:
        command(weights, tmp_path / "run.h5", "--initial", "neel", "--stop-above", "0")
    assert stop.value.code == 1
    assert "STOPPED guard: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        command(weights, tmp_path / "y.h5", "--method", "midpoint", "--dt", "1e6")
    assert stop.value.code == 1
    assert re.fullmatch("STOPPED midpoint: .* is too large\n", capsys.readouterr().err)
    assert command(weights, tmp_path / "x.h5", "--observables", "spin") == 2
    assert "observables" in capsys.readouterr().err
