"""The command line: what it accepts, says and imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sdml import cli

CLAIM = {
    "id": "field-mse",
    "quantity": "field MSE per spin",
    "paper": 1.6e-5,
    "standing": "M",
    "ours": 2.5e-5,
    "error": None,
    "profile": "quick",
    "seeds": [1, 2],
    "notebook": "04_training",
    "verdict": "differs",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """Empty project folder."""
    monkeypatch.setenv("SDML_HOME", str(tmp_path))
    monkeypatch.delenv("SDML_BUILD", raising=False)
    return tmp_path


def stored_claims(home: Path, entries: object) -> None:
    """Write figures/claims.json."""
    (home / "figures").mkdir()
    (home / "figures" / "claims.json").write_text(json.dumps(entries))


def test_help_names_the_subcommands(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("reproduce", "store", "figures", "claims"):
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
    stored_claims(home, [CLAIM, {**CLAIM, "id": "freezing", "ours": None, "verdict": "not tested"}])
    assert cli.main(["claims"]) == 0
    header, rule, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["id", "quantity", "paper"]
    assert set(rule) == {"-", " "}
    assert "1.6e-05" in first
    assert second.startswith("freezing ")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"id": "x"}, "list of claims"),
        ([{"id": "x"}], "has the keys"),
        ([{**CLAIM, "verdict": "true"}], "verdict='true' must be one of reproduced, differs"),
        ([{**CLAIM, "profile": "huge"}], "profile='huge' must be one of quick, laptop, paper"),
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


def test_a_folder_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setenv("SDML_HOME", "/does/not/exist")
    assert cli.main(["claims"]) == 2
    assert "SDML_HOME='/does/not/exist'" in capsys.readouterr().err


def test_a_project_without_notebooks_is_named(home, capsys):
    assert cli.main(["reproduce"]) == 2
    assert "no notebooks" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_time_limits_are_positive(seconds, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", f"--timeout={seconds}"])
    assert stop.value.code == 2
    assert "--timeout" in capsys.readouterr().err
