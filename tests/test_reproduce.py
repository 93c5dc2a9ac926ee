"""The runner on tiny notebooks: parameters, failures, limits, records, publishing."""

import json
import os
import subprocess
import time
from pathlib import Path

import matplotlib.figure
import nbformat
import numpy as np
import psutil
import pytest

from sdml import cli, files
from sdml.companion import profiles, results, runner

CODE_HASH = results.code_hash
PARAMETERS = """length = 4  # sites
damping = 0.1  # per unit time
sizes = [4, 8]  # sites
shape = (2, 3)  # sites
name = "square"  # lattice
verbose = False  # or True
seed = 7  # of the draws
limit = None  # none
"""

WORK = """from matplotlib.figure import Figure
from sdml import companion
figure = Figure()
figure.subplots().plot(range(length))
companion.save_figure(figure, "line", "A line.", length=length)
companion.save_claim(id="length", quantity="length / sites", paper=4, standing="D", ours=length,
                  error=0.0, conditions="Known.", seeds=[seed], notebook="01_works",
                  verdict="reproduced")
print(length, damping, sizes, shape, name, verbose, limit)"""


def notebook(*cells: str, parameters: str = PARAMETERS) -> nbformat.NotebookNode:
    """Notebook with a parameters cell, then `cells`."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    others = [nbformat.v4.new_code_cell(source) for source in cells]
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Title"), first, *others]
    )


def make_project(folder: Path, notebooks: dict[str, nbformat.NotebookNode]) -> Path:
    """Project folder with `notebooks` and no profile changes."""
    (folder / "pyproject.toml").touch()
    (folder / "notebooks" / "profiles").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "data" / "table.txt").write_text("1")
    for stem, content in notebooks.items():
        nbformat.write(content, folder / "notebooks" / f"{stem}.ipynb")
    for profile in results.PROFILES[1:]:
        (folder / "notebooks" / "profiles" / f"{profile}.yaml").write_text("# nothing\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def settled_sources():
    """Sources edited while these tests run must not outdate their results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "code_hash", lambda: "0" * 64)
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    """Project with two notebooks that declare different parameters."""
    monkeypatch.setenv("SDML_HOME", str(tmp_path))
    monkeypatch.delenv("SDML_BUILD", raising=False)
    other = notebook(parameters="n_steps = 10  # steps")
    return make_project(tmp_path, {"01_works": notebook(WORK), "02_other": other})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Project in which `sdml reproduce` ran once."""
    folder = tmp_path_factory.mktemp("finished")
    make_project(folder, {"01_works": notebook(WORK)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDML_HOME", str(folder))
        patch.delenv("SDML_BUILD", raising=False)
        assert cli.main(["reproduce", "--profile", "laptop"]) == 0
    return folder


@pytest.fixture
def in_finished(finished, monkeypatch) -> Path:
    """The finished project, as the current one."""
    monkeypatch.setenv("SDML_HOME", str(finished))
    monkeypatch.delenv("SDML_BUILD", raising=False)
    return finished


def exit_code(*arguments: str) -> int | str | None:
    """Code with which the command stops."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return stop.value.code


def profile_text(project: Path, text: str) -> None:
    """Set the laptop profile."""
    (project / "notebooks" / "profiles" / "laptop.yaml").write_text(text)


# --- parameters ---------------------------------------------------------------------------------


def test_quick_profile_is_the_notebooks_own(project):
    first, second = profiles.plan("quick")
    assert first.parameters == first.defaults
    assert first.parameters["shape"] == (2, 3)
    assert second.parameters == {"n_steps": 10}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("1.5e-3", 1.5e-3),
        (".5", 0.5),
        ("~", None),
        ("[010, 1:30]", [10, "1:30"]),
    ],
)
def test_values_are_what_they_look_like(text, value):
    found = profiles.parsed_setting(f"x={text}")[1]
    assert (found, type(found)) == (value, type(value))


def test_a_profile_reads_numbers_as_a_setting_does(project):
    profile_text(project, "01_works: {length: 010}")
    (job,) = profiles.plan("laptop", ["01"])
    assert job.parameters["length"] == 10
    with pytest.raises(ValueError, match="length='1:30' must be of type int"):
        profiles.plan("laptop", ["01"], ["length=1:30"])


def test_words_are_answers_where_an_answer_is_wanted():
    assert [profiles.typed("x", word, False) for word in ("yes", "Off")] == [True, False]
    assert profiles.typed("x", "no", "text") == "no"
    with pytest.raises(ValueError, match="x='maybe' must be of type bool"):
        profiles.typed("x", "maybe", False)


def test_profile_overlays_and_settings_override(project):
    profile_text(project, "01_works: {length: 8, damping: 1, shape: [5, 6], limit: 3}\n02_other:\n")
    (job,) = profiles.plan("laptop", ["01"], ["damping=1e-3", "sizes=[1,2,3]"])
    assert job.parameters["length"] == 8
    assert job.parameters["damping"] == 1e-3
    assert job.parameters["shape"] == (5, 6)
    assert job.parameters["limit"] == 3
    assert job.parameters["sizes"] == [1, 2, 3]
    assert job.settings == {"damping": 1e-3, "sizes": [1, 2, 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01_works: {lenght: 8}", "unknown parameter 'lenght'; allowed: length"),
        ("02_other: {length: 8}", "unknown parameter 'length'"),
        ("07_missing: {length: 8}", "unknown notebook '07_missing'; allowed: 01_works, 02_other"),
        ("01_works: {length: 8.5}", "length=8.5 must be of type int"),
        ("01_works: {length: true}", "length=True must be of type int"),
        ("01_works: {sizes: 3}", "sizes=3 must be of type list"),
        ("01_works: {sizes: [3, x]}", r"sizes\[1\]='x' must be of type int"),
        ("01_works: {name: 3}", "name=3 must be of type str"),
        ("01_works: {damping: .nan}", "damping=nan must be a plain literal"),
        ("01_works: {limit: 2026-01-01}", "must be a plain literal"),
        ("01_works: 3", "expected 'name: value' lines"),
        ("[1, 2]", "expected 'name: value' lines"),
        ("01_works: {length", "not readable as YAML"),
    ],
)
def test_wrong_profiles_are_refused_before_anything_runs(project, text, message):
    profile_text(project, text)
    with pytest.raises(ValueError, match=message):
        profiles.plan("laptop", ["02"])
    assert not (project / "build").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "huge"}, "profile='huge' is unknown; allowed: quick, laptop, paper"),
        ({"only": ["09"]}, "--only '09' matches no notebook; allowed: 01_works, 02_other"),
        ({"only": ["01", "x"]}, "--only 'x'"),
        (
            {"settings": ["lenght=3"]},
            "--set: no selected notebook declares 'lenght'; allowed: damping, length",
        ),
        (
            {"settings": ["length=3"], "only": ["02"]},
            "--set: no selected notebook declares 'length'; allowed: n_steps",
        ),
        ({"settings": ["length"]}, "--set 'length' must have the form name=value"),
        ({"settings": ["length=[3"]}, "not readable as YAML"),
        ({"settings": ["length=long"]}, "length='long' must be of type int"),
    ],
)
def test_wrong_requests_are_refused(project, arguments, message):
    with pytest.raises(ValueError, match=message):
        profiles.plan(**arguments)


@pytest.mark.parametrize(
    "parameters", ["a = b", "a, b = 1, 2", "a = b = 1", "import os", "a = 1 +", "a = f(1)"]
)
def test_parameters_are_plain_literals(project, parameters):
    nbformat.write(notebook(parameters=parameters), project / "notebooks" / "03_wrong.ipynb")
    with pytest.raises(ValueError, match=r"03_wrong\.ipynb: the parameters cell holds only"):
        profiles.plan()


def test_notebooks_without_parameters_or_form_are_named(project):
    path = project / "notebooks" / "03_wrong.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(ValueError, match="exactly one cell is tagged 'parameters', not 0"):
        profiles.plan()
    path.write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"03_wrong\.ipynb: not a readable notebook"):
        profiles.plan()


# --- a finished run -----------------------------------------------------------------------------


def test_run_leaves_notebook_figures_claim_and_record(in_finished):
    build = in_finished / "build" / "laptop"
    names = {path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file()}
    figures = {"figures/line.pdf", "figures/line.png", "figures/line.json"}
    assert names == {"01_works.ipynb", "01_works.json", "claims/length.json", *figures}
    entry = json.loads((build / "01_works.json").read_text())
    assert entry["status"] == "finished"
    assert entry["failure"] is None
    assert entry["seeds"] == {"seed": 7}
    assert entry["parameters"]["shape"] == [2, 3]
    assert {"python", "torch", "numpy"} <= set(entry["versions"])
    assert entry["code_version"]
    assert entry["wall_time_seconds"] > 0
    assert entry["peak_memory_bytes"] > 2**24


def test_finished_run_is_published(in_finished):
    figures = in_finished / "figures"
    assert {path.name for path in figures.iterdir()} == {
        "line.pdf",
        "line.png",
        "line.json",
        "claims.json",
    }
    sidecar = json.loads((figures / "line.json").read_text())
    assert (sidecar["profile"], sidecar["notebook"]) == ("laptop", "01_works")
    (claim,) = results.claims()
    assert (claim.profile, claim.ours, claim.seeds) == ("laptop", 4, [7])


def test_resume_skips_what_is_up_to_date(in_finished, capsys):
    assert cli.main(["reproduce", "--profile", "laptop", "--resume"]) == 0
    assert "[1/1] 01_works (laptop): up to date" in capsys.readouterr().out
    assert cli.main(["figures"]) == 0
    assert "from profile laptop: line, length" in capsys.readouterr().out


def test_resume_sees_every_change(in_finished):
    (job,) = profiles.plan("laptop")
    shared = runner.shared_inputs()
    assert runner.is_current(job, shared)
    (other,) = profiles.plan("laptop", settings=["length=5"])
    assert not runner.is_current(other, shared)
    table = in_finished / "data" / "table.txt"
    try:
        table.write_text("2")
        assert not runner.is_current(job, runner.shared_inputs())
    finally:
        table.write_text("1")
    figure = in_finished / "build" / "laptop" / "figures" / "line.png"
    drawn = figure.read_bytes()
    try:
        figure.write_bytes(b"drawn by hand")
        assert not runner.is_current(job, shared)
    finally:
        figure.write_bytes(drawn)
    original = job.notebook.read_text()
    try:
        job.notebook.write_text(original.replace("A line.", "A longer line."))
        assert not runner.is_current(job, shared)
    finally:
        job.notebook.write_text(original)


def test_hash_of_files_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = files.digest(tmp_path.iterdir(), tmp_path)
    assert files.digest(tmp_path.iterdir(), tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = files.digest(tmp_path.iterdir(), tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, renamed, files.digest(tmp_path.iterdir(), tmp_path)}) == 3


def test_hash_of_the_code_sees_the_folders_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PACKAGE", tmp_path)
    (tmp_path / "model.py").write_text("t = 1")
    folder = tmp_path / "kpm"
    folder.mkdir()
    found = [CODE_HASH()]
    for name, text in (("series.py", "a = 1"), ("series.py", "a = 2"), ("probes.py", "a = 1")):
        (folder / name).write_text(text)
        found.append(CODE_HASH())
    (folder / "probes.py").rename(tmp_path / "probes.py")
    found.append(CODE_HASH())
    assert len(set(found)) == 5


# --- other runs ---------------------------------------------------------------------------------


def test_settings_reach_the_notebook_and_are_not_published(project):
    settings = ["length=6", "damping=2", "shape=[1,1]", "limit=[x]"]
    assert cli.main(["reproduce", "--only", "01", "--set", *settings]) == 0
    executed = nbformat.read(project / "build" / "quick" / "01_works.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "6 2.0 [4, 8] (1, 1) square False ['x']\n"
    assert not (project / "figures").exists()


def test_store_writes_clean_executed_notebooks(project):
    assert cli.main(["store", "--only", "01"]) == 0
    stored = nbformat.read(project / "notebooks" / "01_works.ipynb", as_version=4)
    nbformat.validate(stored)
    assert stored.nbformat_minor >= 5
    assert [cell.get("execution_count") for cell in stored.cells] == [None, 1, 2]
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert [dict(cell.metadata) for cell in stored.cells] == [{}, {"tags": ["parameters"]}, {}]
    (job,) = profiles.plan("quick", ["01"])
    assert runner.is_current(job, runner.shared_inputs()), "storing must not outdate the run"


def test_failing_cell_is_named_and_kept(project, capsys):
    failing = notebook("a = 1", "# third\nassert a == 2, 'two lines\\nthe last'", "b = 3")
    nbformat.write(failing, project / "notebooks" / "02_other.ipynb")
    assert exit_code("reproduce", "--only", "02") == 1
    message = "FAILED 02_other.ipynb, cell 4 (# third): AssertionError: the last"
    assert message in capsys.readouterr().err
    build = project / "build" / "quick"
    assert {path.name for path in build.iterdir()} == {"02_other.failed.ipynb", "02_other.json"}
    entry = json.loads((build / "02_other.json").read_text())
    assert entry["status"] == "failed"
    assert "AssertionError" in entry["failure"]
    assert not (project / "figures").exists()


def test_leaving_a_notebook_early_is_a_failure(project, capsys):
    leaving = notebook("import sys\nsys.exit(0)", "b = 3")
    nbformat.write(leaving, project / "notebooks" / "02_other.ipynb")
    assert exit_code("reproduce", "--only", "02") == 1
    assert "02_other.ipynb, cell 3 (import sys)" in capsys.readouterr().err


def test_time_limit_ends_the_kernel(project, capsys):
    folder = project / "notebooks"
    nbformat.write(notebook("import os", "while True: pass"), folder / "02_other.ipynb")
    start = time.monotonic()
    assert exit_code("reproduce", "--only", "02", "--timeout", "10") == 1
    assert time.monotonic() - start < 30
    assert "time limit of 10 s reached" in capsys.readouterr().err
    assert (project / "build" / "quick" / "02_other.failed.ipynb").exists()
    # On a busy machine the limit may come before the first cell: a kernel is known by its folder.
    folders = [process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])]
    assert not [name for name in folders if name.startswith(str(project))]


def test_interrupt_ends_papermill_and_keeps_no_result(project):
    (job,) = profiles.plan("quick", ["01"])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Other tests may have left multiprocessing's own tracker running.
    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        runner.run([job], advance=interrupt)
    assert {path.name for path in (project / "build" / "quick").iterdir()} == {
        "01_works.failed.ipynb"
    }
    assert not set(psutil.Process().children()) - before


# --- figures and claims -------------------------------------------------------------------------


@pytest.fixture
def running(project, monkeypatch):
    """Function that sets the environment of a running notebook of a profile."""

    def run(profile: str) -> Path:
        monkeypatch.setenv("SDML_BUILD", str(files.root() / "build" / profile))
        monkeypatch.setenv("SDML_NOTEBOOK", "01_works")
        return files.build()

    return run


def draw(**details: object) -> None:
    """Save the same small figure."""
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([0, 1])
    results.save_figure(figure, "line", "A line.", **details)


def test_same_figure_gives_the_same_bytes(running):
    folder = running("quick") / "figures"
    draw()
    drawn = [folder / f"line{ending}" for ending in (".pdf", ".png", ".json")]
    first = [path.read_bytes() for path in drawn]
    draw()
    assert [path.read_bytes() for path in drawn] == first


def test_only_an_equal_or_larger_profile_replaces(running):
    for profile, standing in (("laptop", "laptop"), ("quick", "laptop"), ("paper", "paper")):
        folder = running(profile)
        draw(size=np.float64(2.5))
        results.save_claim(
            id="a", quantity="b", paper=None, standing="S", ours=np.float64(1.0), error=None,
            seeds=np.arange(2), notebook="01_works", verdict="consistent", conditions="c",
        )  # fmt: skip
        published = results.publish(folder, ["01_works"])
        assert published == ([] if profile == "quick" else ["line", "a"])
        assert files.loaded(files.figures() / "line.json")["profile"] == standing
        assert [claim.profile for claim in results.claims()] == [standing]


def test_figure_from_a_reference_result_carries_its_profile(running):
    folder = running("quick")
    draw(profile="paper")
    results.publish(folder, ["01_works"])
    assert files.loaded(files.figures() / "line.json")["profile"] == "paper"


def test_figures_of_other_notebooks_are_not_published(running):
    folder = running("quick")
    draw(notebook="09_gone")
    assert results.publish(folder, ["01_works"]) == []


def test_wrong_figures_and_claims_are_refused(running):
    folder = running("quick")
    with pytest.raises(ValueError, match=r"name='\.\./line'"):
        results.save_figure(matplotlib.figure.Figure(), "../line", "A line.")
    with pytest.raises(ValueError, match="JSON compliant"):
        draw(error=float("nan"))
    with pytest.raises(ValueError, match="cannot be stored as JSON"):
        draw(axes=object())
    with pytest.raises(ValueError, match="notebook='05' of claim 'a' must be the running notebook"):
        results.save_claim(id="a", quantity="b", paper=1, standing="S", ours=1, error=None,
                          conditions="c", seeds=[], notebook="05", verdict="open")  # fmt: skip
    assert not folder.exists()


def test_entries_of_a_claim_that_are_missing_or_unknown_are_named(running):
    folder = running("quick")
    with pytest.raises(ValueError, match=r"missing or unknown: conditions, error, notebok, ours$"):
        results.save_claim(id="a", quantity="b", paper=1, standing="S", seeds=[], notebok="05",
                           notebook="01_works", verdict="differs")  # fmt: skip
    entries = {"id": "a", "quantity": "b", "paper": 1, "standing": "S", "error": None}
    entries |= {"seeds": [], "notebook": "01_works", "verdict": "open", "conditions": "c"}
    with pytest.raises(ValueError, match="JSON compliant"):
        results.save_claim(ours=float("nan"), **entries)
    with pytest.raises(ValueError, match=r"seeds=\[0\.5\] must be a list of integers"):
        results.save_claim(ours=1, **entries | {"seeds": [0.5]})
    assert not folder.exists()


def test_provenance_is_one_line_without_folders(running):
    running("quick")
    line = results.provenance()
    assert line.endswith("profile quick")
    assert "torch" in line
    assert "\n" not in line
    assert str(files.root()) not in line


def test_a_run_in_a_folder_of_its_own_counts_as_quick(running):
    running("my_runs")
    assert results.provenance().endswith("profile quick")


def test_code_version_without_git_names_the_sources(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert results.code_version() == results.hashed_version()


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "a.json", "old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_make_passes_variables_on():
    make = ["make", "-n", "-C", str(files.root()), "reproduce"]
    variables = ["PROFILE=laptop", "ONLY=05 06", "SET=a=1 b=[1,2]", "RESUME=1"]
    done = subprocess.run([*make, *variables], capture_output=True, text=True, check=True)
    expected = "sdml reproduce --profile laptop --only 05 06 --resume --set 'a=1' 'b=[1,2]'"
    assert expected in " ".join(done.stdout.split())
