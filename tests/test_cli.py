"""The command line: what it accepts, says and imports."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from sdml import cli, dataset, evaluation, files, forcefield, training
from sdml.cli import arguments, commands
from sdml.descriptor.moments import MomentEnvironment
from sdml.forcefield import committee

CLAIM = {
    "id": "field-mse",
    "quantity": "field MSE per spin",
    "paper": 1.6e-5,
    "standing": "M",
    "ours": 2.5e-5,
    "error": None,
    "conditions": "unknown are the states",
    "origin": "quick",
    "seeds": [1, 2],
    "notebook": "04_training",
    "verdict": "consistent",
}


def stored_claims(home: Path, entries: object) -> None:
    """Write figures/claims.json."""
    (home / "figures").mkdir()
    (home / "figures" / "claims.json").write_text(json.dumps(entries))


def test_help_names_the_subcommands(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("reproduce", "store", "figures", "tables", "claims"):
        assert name in text


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "sdml", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("sdml ")


def test_command_line_imports_lazily():
    code = "import sys, sdml.cli; sdml.cli.command_line(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "nbformat", "papermill", "yaml", "psutil"}


def test_claims_are_printed_as_a_table(home, capsys):
    stored_claims(home, [CLAIM, {**CLAIM, "id": "freezing", "ours": None, "verdict": "open"}])
    assert cli.main(["claims"]) == 0
    header, rule, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["id", "quantity", "paper"]
    assert set(rule) == {"-", " "}
    assert "1.6e-05" in first and "from a summary" in first
    assert second.startswith("freezing ")


def test_a_reader_may_go():
    """As head does: no traceback, neither when printing nor at the end."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sdml", "claims"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=files.root())
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_tables_are_renewed_and_named(home, capsys):
    stored_claims(home, [CLAIM])
    (home / "README.md").write_text("<!-- begin claims --><!-- end claims -->\n")
    assert cli.main(["tables"]) == 0
    assert capsys.readouterr().out == "renewed the table of README.md\n"
    assert cli.main(["tables"]) == 0
    assert capsys.readouterr().out == ""
    (home / "README.md").write_text("no marks\n")
    assert cli.main(["tables"]) == 2
    assert "begin claims" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"id": "x"}, "list of claims"),
        ([{"id": "x"}], "has the keys"),
        ([{**CLAIM, "verdict": "true"}], "verdict='true' must be one of reproduced, consistent"),
        ([{**CLAIM, "origin": "huge"}], "origin='huge' must be a file of data/reference or one of"),
        ([{**CLAIM, "verdict": "differs"}], "conditions='unknown are the states' must be known"),
        ([{**CLAIM, "conditions": ""}], "conditions='' must be text"),
        ([{**CLAIM, "ours": "2.5e-5"}], "ours='2.5e-5' must be a number, None"),
        ([{**CLAIM, "standing": "X"}], "standing='X'"),
        ([{**CLAIM, "id": "Field MSE"}], "id='Field MSE'"),
        ([{**CLAIM, "seeds": 3}], "seeds=3 must be a list of integers"),
        ([{**CLAIM, "ours": None}], "ours=None"),
        ([{**CLAIM, "paper": [1]}], "paper=[1]"),
        ([CLAIM, CLAIM], "field-mse appears more than once"),
    ],
)
def test_broken_claims_are_refused(home, capsys, entries, message):
    stored_claims(home, entries)
    assert cli.main(["claims"]) == 2
    assert message in capsys.readouterr().err


def test_missing_and_truncated_claims_are_refused(home, capsys):
    assert cli.main(["claims"]) == 2
    assert "claims.json" in capsys.readouterr().err
    stored_claims(home, [])
    (home / "figures" / "claims.json").write_text('[{"id": "fi')
    assert cli.main(["claims"]) == 2
    assert "not a readable JSON file" in capsys.readouterr().err


CHECKOUT_COMMANDS = ["reproduce", "store", "figures", "tables", "claims"]


@pytest.mark.parametrize("command", CHECKOUT_COMMANDS)
def test_a_folder_that_is_no_checkout_is_named(monkeypatch, tmp_path, capsys, command):
    monkeypatch.setenv("SDML_HOME", "/does/not/exist")
    assert cli.main([command]) == 2
    assert "SDML_HOME='/does/not/exist' is not an existing folder" in capsys.readouterr().err
    monkeypatch.setenv("SDML_HOME", str(tmp_path))
    assert cli.main([command]) == 2
    assert f"SDML_HOME={str(tmp_path)!r} is not a checkout" in capsys.readouterr().err


@pytest.mark.parametrize("command", CHECKOUT_COMMANDS)
def test_what_needs_a_checkout_says_so_outside_one(monkeypatch, tmp_path, capsys, command):
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "site-packages" / "sdml")
    for unset in (None, ""):
        monkeypatch.delenv("SDML_HOME", raising=False)
        if unset is not None:
            monkeypatch.setenv("SDML_HOME", unset)
        assert cli.main([command]) == 2
        error = capsys.readouterr().err
        assert f"sdml {command}: this needs a checkout" in error
        assert "set SDML_HOME" in error


def test_runs_outside_a_checkout_write_to_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SDML_BUILD", raising=False)
    monkeypatch.setenv("SDML_HOME", "")
    assert files.build() == files.root() / "build" / "quick"
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "site-packages" / "sdml")
    assert files.build() == tmp_path / "build" / "quick"
    assert files.build("paper") == tmp_path / "build" / "paper"
    monkeypatch.setenv("SDML_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="is not a checkout"):
        files.build()


@pytest.mark.parametrize("command", ["reproduce", "store", "figures", "tables"])
def test_a_missing_package_of_the_notebooks_names_the_extra(home, monkeypatch, capsys, command):
    for name in [name for name in sys.modules if name.startswith("sdml.companion")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("sdml.companion")
    monkeypatch.setitem(sys.modules, "nbformat", None)
    assert cli.main([command]) == 2
    error = capsys.readouterr().err
    assert error == f"sdml {command}: nbformat is not installed: pip install 'sdml[notebooks]'\n"


def test_a_project_without_notebooks_is_named(home, capsys):
    assert cli.main(["reproduce"]) == 2
    assert "no notebooks" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[str]:
    """Labelled snapshots of 6 x 6 sites: random states (-1 ... -6) and the quench of seed 3."""
    folder = tmp_path_factory.mktemp("stores")
    model = "--lattice square --length 6 --exchange-coupling 6 --filling 0.485 --electron-kT 0.05"
    runs = "--random 6 --quench-seeds 3 --save-times 0 1 2"
    assert cli.main(["label", *model.split(), *runs.split(), "--output", str(folder)]) == 0
    return [str(path) for path in sorted(folder.iterdir())]


def test_gather_takes_some_snapshots_of_every_store(stores, tmp_path, capsys):
    output = tmp_path / "compact.h5"
    assert cli.main(["gather", *stores, "--every", "2", "--output", str(output)]) == 0
    parts = [dataset.load(path) for path in stores]
    expected, found = np.concatenate([p.energy[::2] for p in parts]), dataset.load(output)
    np.testing.assert_array_equal(found.energy, expected)
    assert f"{len(expected)} of {sum(map(len, parts))} snapshots" in capsys.readouterr().out


def train(stores: list[str], output: Path, *options: str) -> int:
    """`sdml train` for two epochs with the quench held out."""
    fixed = ["--hold-out", "3", "--epochs", "2", "--hidden-widths", "4", "--output", str(output)]
    return cli.main(["train", *stores, *fixed, *options])


MOMENTS = ("--descriptor", "moments", "--radius", "2", "--n-steps", "3")
DESCRIPTORS = {
    "MomentEnvironment": MOMENTS,
    "SymmetryEnvironment": ("--descriptor", "symmetry", "--pair-radius", "1"),
    "RawBondEnvironment": ("--descriptor", "raw", "--bond-radius", "1.5", "--pair-radius", "1"),
}


@pytest.mark.parametrize("environment", DESCRIPTORS)
def test_train_takes_every_descriptor(stores, tmp_path, capsys, environment):
    path = tmp_path / "ff.safetensors"
    assert train(stores, path, *DESCRIPTORS[environment], "--remark", "a trial") == 0
    found = forcefield.load(path)
    assert type(found.descriptor.environment).__name__ == environment
    assert not found.grand_canonical
    assert found.card["held_out_quenches"] == [3]
    text = path.with_suffix(".md").read_text()
    assert environment in text and "a trial" in text and "canonical" in text
    printed = capsys.readouterr().out
    assert text in printed
    assert printed.count("'epoch'") == 2


def test_moments_take_the_coupling_of_the_data(stores, tmp_path):
    """By default a far-sighted descriptor."""
    path = tmp_path / "ff.safetensors"
    assert train(stores, path, "--radius", "1", "--n-steps", "2") == 0
    expected = MomentEnvironment("square", 1, 2, exchange_coupling=6.0)
    assert forcefield.load(path).descriptor.environment == expected


def test_train_a_grand_canonical_force_field(stores, tmp_path):
    path = tmp_path / "ff.safetensors"
    # Before it has learned the densities it finds no chemical potential.
    learned = ("--epochs", "20", "--batch-size", "1", "--learning-rate", "1e-2")
    assert train(stores, path, *MOMENTS, "--grand-canonical", *learned) == 0
    assert forcefield.load(path).grand_canonical
    assert "grand-canonical" in path.with_suffix(".md").read_text()


def test_train_goes_on_from_a_checkpoint(stores, tmp_path, capsys):
    """The second call finds the run finished and saves the same weights."""
    path, checkpoint = tmp_path / "ff.safetensors", tmp_path / "run.ckpt"
    options = (*MOMENTS, "--checkpoint", str(checkpoint), "--patience", "5", "--averaging", "0.5")
    assert train(stores, path, *options) == 0
    first = forcefield.checksum(forcefield.load(path))
    settings = forcefield.load(path).card["settings"]
    assert (settings["patience"], settings["averaging"]) == (5, 0.5)
    capsys.readouterr()
    assert train(stores, path, *options) == 0
    assert "'epoch'" not in capsys.readouterr().out
    assert forcefield.checksum(forcefield.load(path)) == first
    assert train(stores, path, *options, "--learning-rate", "1e-2") == 2
    assert "checkpoint" in capsys.readouterr().err
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert train(stores, path, *options) == 2
    assert "run.ckpt" in capsys.readouterr().err
    assert forcefield.checksum(forcefield.load(path)) == first


def test_train_the_members_of_a_committee(stores, tmp_path, capsys):
    """Seeds in a row, each with files of its own; a second call finds all runs finished."""
    path = tmp_path / "ff.safetensors"
    options = (
        *MOMENTS,
        "--members",
        "2",
        "--seed",
        "5",
        "--checkpoint",
        str(tmp_path / "run.ckpt"),
    )
    assert train(stores, path, *options) == 0
    printed = capsys.readouterr().out
    assert printed.count("'epoch'") == 4
    assert "| spread | error | sites |" in printed
    names = {"ff.safetensors", "ff_2.safetensors", "ff.md", "ff_2.md", "run.ckpt", "run_2.ckpt"}
    assert {p.name for p in tmp_path.iterdir()} == names
    made = committee.load(path)
    assert [ff.card["settings"]["seed"] for ff in made.members] == [5, 6]
    assert made.calibration.snapshots == 3
    assert train(stores, path, *options) == 0
    assert "'epoch'" not in capsys.readouterr().out
    assert committee.load(path).calibration == made.calibration
    single = tmp_path / "single.safetensors"
    assert train(stores, single, *MOMENTS, "--seed", "6") == 0
    weights = [ff.state_dict() for ff in (forcefield.load(single), made.members[1])]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


@pytest.mark.parametrize("members", ["0", "-1", "two"])
def test_a_committee_has_members(stores, tmp_path, capsys, members):
    with pytest.raises(SystemExit) as stop:
        train(stores, tmp_path / "ff.safetensors", f"--members={members}")
    assert stop.value.code == 2
    assert "--members" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, mentioned",
    [
        (("--radius", "3", "--n-steps", "2"), "radius <= n_steps"),
        (("--averaging", "1"), "averaging"),
        (("--patience", "-1"), "patience"),
        (("--hold-out", "7"), "held_out"),
    ],
)
def test_settings_that_are_not_allowed(stores, tmp_path, capsys, options, mentioned):
    assert train(stores, tmp_path / "ff.safetensors", *options) == 2
    assert mentioned in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--hold-out", "3"], ["--output", "weights.safetensors"]])
def test_training_needs_a_place_and_a_judge(stores, tmp_path, monkeypatch, capsys, options):
    """Said before the first epoch, not after the last."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *stores, *options]) == 2
    message = capsys.readouterr().err
    assert "--output" in message and "--judge" in message and "epoch" not in message
    assert not list(tmp_path.iterdir())


def test_nothing_is_judged_by_what_it_learned(stores, tmp_path, capsys):
    copied = shutil.copy(stores[-1], tmp_path / "judge.h5")
    told = str(copied)
    assert train(stores, tmp_path / "ff.safetensors", *MOMENTS, "--judge", told) == 2
    caught = capsys.readouterr()
    assert caught.err.startswith("sdml train: --judge: must hold no spins") and told in caught.err
    assert "epoch" not in caught.out
    assert [path.name for path in tmp_path.iterdir()] == ["judge.h5"]


@pytest.mark.parametrize("option", ["--output", "--checkpoint"])
@pytest.mark.parametrize(
    ("target", "allowed"), [(".", "must be a file"), ("taken/ff", "can be made and written to")]
)
def test_places_that_take_no_file(stores, tmp_path, monkeypatch, capsys, option, target, allowed):
    """Said before the first epoch, not after the last."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert train(stores, Path("ff.safetensors"), *MOMENTS, option, target) == 2
    caught = capsys.readouterr()
    assert caught.err.startswith(f"sdml train: {option}: ") and allowed in caught.err
    assert f"got the folder {target!r}" in caught.err or f"got {target!r}" in caught.err
    assert "epoch" not in caught.out
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    "options",
    [
        ("--output", "random.h5"),
        ("--output", "judge.h5", "--judge", "judge.h5"),
        ("--checkpoint", "ff.safetensors"),
        ("--checkpoint", "ff.md"),
        ("--members", "2", "--checkpoint", "ff_2.md"),
        ("--output", "ff", "--members", "2", "--checkpoint", "ff"),
    ],
)
def test_places_that_hold_something_else(stores, tmp_path, monkeypatch, capsys, options):
    """Neither a store that is read nor another file of the same training is overwritten."""
    monkeypatch.chdir(tmp_path)
    for path in stores:
        shutil.copy(path, tmp_path)
    shutil.copy(stores[0], "judge.h5")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    own = [Path(path).name for path in stores]
    assert train(own, Path("ff.safetensors"), *MOMENTS, *options) == 2
    caught = capsys.readouterr()
    assert re.match(r"sdml train: --(output|checkpoint): must be no file that", caught.err)
    assert "epoch" not in caught.out
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_larger_committee_is_in_the_way_before_the_first_epoch(stores, tmp_path, capsys):
    (tmp_path / "ff_3.safetensors").touch()
    path = tmp_path / "ff.safetensors"
    assert train(stores, path, *MOMENTS, "--members", "2") == 2
    caught = capsys.readouterr()
    assert "ff_3.safetensors" in caught.err and "epoch" not in caught.out


def test_names_with_a_dot_keep_what_follows_it(stores, tmp_path):
    """The cards of two couplings, and one of weights that are called like a card."""
    for name in ("ff_J6.25", "ff_J6.50", "weights.md"):
        assert train(stores, tmp_path / name, *MOMENTS, "--epochs", "1") == 0
        assert forcefield.load(tmp_path / name).model.exchange_coupling == 6
        assert "Judged on" in (tmp_path / f"{name}.md").read_text()


def test_a_loss_that_is_no_number_stops_the_training(stores, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "loss", lambda *_: torch.tensor(torch.nan))
    output = tmp_path / "ff.safetensors"
    with pytest.raises(SystemExit) as stop:
        train(stores, output, *MOMENTS)
    assert stop.value.code == 1
    assert re.match(r"STOPPED loss: .* in epoch 1;", capsys.readouterr().err)
    assert not output.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("full")])
def test_weights_that_cannot_be_saved(stores, tmp_path, monkeypatch, capsys, error):
    """A line and not a crash."""

    def fail(*arguments):
        raise error

    monkeypatch.setattr(forcefield, "save", fail)
    output = tmp_path / "ff.safetensors"
    for options in ((), ("--checkpoint", str(tmp_path / "run.ckpt"))):
        with pytest.raises(SystemExit) as stop:
            train(stores, output, *MOMENTS, *options)
        assert stop.value.code == 1
        told = capsys.readouterr().err
        assert told.startswith(f"FAILED {output}: cannot be saved ({error})")
        assert ("goes on from the last checkpoint" in told) == bool(options)


def test_an_unknown_descriptor_is_refused(stores, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train(stores, tmp_path / "ff.safetensors", "--descriptor", "cubic")
    assert stop.value.code == 2
    assert "moments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "goes_on"), [((), False), (("--checkpoint", "run.ckpt"), True)]
)
def test_an_interrupted_training(stores, tmp_path, monkeypatch, capsys, options, goes_on):
    """Goes on where it was told to keep what it had; no crash in either case."""
    monkeypatch.chdir(tmp_path)
    written, judged = evaluation.card, []

    def interrupted(*arguments):
        judged.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "card", interrupted)
    assert train(stores, tmp_path / "ff.safetensors", *MOMENTS, *options) == 130
    told = capsys.readouterr().err
    assert (
        told.startswith("interrupted") and ("goes on from the last checkpoint" in told) == goes_on
    )
    monkeypatch.setattr(evaluation, "card", written)
    assert train(stores, tmp_path / "ff.safetensors", *MOMENTS, *options) == 0
    assert ("'epoch'" in capsys.readouterr().out) != goes_on
    assert len(judged) == 1


@pytest.mark.parametrize("name", ["quench", "label", "train"])
@pytest.mark.parametrize("threads", ["-2", "0", "two"])
def test_threads_are_counted(name, threads, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--threads", threads])
    assert stop.value.code == 2
    assert "argument --threads: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train a.h5 --evaluate w --judge b.h5", "--judge: must not be given beside --evaluate"),
        ("train a.h5 --evaluate w --hold-out 1", "--hold-out: must not be given beside --evaluate"),
        ("train a.h5 --evaluate w --output new", "--output: must not be given beside --evaluate"),
        ("label --output out --driver triangular", "--driver: needs --quench-seeds"),
        ("label --output out --start neel", "--start: needs --quench-seeds"),
    ],
)
def test_options_that_would_do_nothing_are_refused(command, said, capsys):
    assert cli.main(command.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("quench", "--seed"),
        ("quench", "--seeds"),
        ("train", "--seed"),
        ("label", "--random-seed"),
        ("label", "--quench-seeds"),
    ],
)
@pytest.mark.parametrize("seed", ["-1", str(2**63), "1.5"])
def test_seeds_fit_into_a_store(name, option, seed, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, option, seed])
    assert stop.value.code == 2
    said = f"argument {option}: must be a whole number from 0 to {2**63 - 1}, got '{seed}'"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option", "value", "allowed"),
    [
        ("quench", "--schedule", "0", "TIME:KT"),
        ("quench", "--schedule", "0:hot", "TIME:KT"),
        ("quench", "--schedule", "0:inf", "TIME:KT"),
        ("quench", "--save-every", "often", "a whole number >= 1"),
        ("quench", "--workers", "0", "a whole number >= 1"),
        ("quench", "--length", "0", "a whole number >= 1"),
        ("label", "--length", "0", "a whole number >= 1"),
        ("label", "--n-moments", "0", "a whole number >= 1"),
        ("label", "--n-probes", "0", "a whole number >= 1"),
    ],
)
def test_values_that_are_not_allowed(name, option, value, allowed, capsys):
    """The message says what is."""
    with pytest.raises(SystemExit) as stop:
        cli.main([name, option, value])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert f"argument {option}: must be {allowed}" in told and f"got '{value}'" in told


def test_snapshots_are_gathered_to_a_file(stores, tmp_path, capsys):
    assert cli.main(["gather", *stores, "--output", str(tmp_path)]) == 2
    assert f"--output: must be a file, got the folder '{tmp_path}'" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_time_limits_are_positive(seconds, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", f"--timeout={seconds}"])
    assert stop.value.code == 2
    assert "--timeout" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "every"), [(100, 10), (15, 5), (2, 2), (7, 1)])
def test_a_quench_is_saved_every_ten_steps_or_what_divides_its_length(steps, every):
    given = ["quench", "--force-field", "square", "--steps", str(steps), "--output", "q.h5"]
    assert commands._quench(arguments.command_line().parse_args(given)).save_every == every
