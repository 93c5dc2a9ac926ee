"""pyproject.toml, environment.yml, requirements.lock and the package agree."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sdml
from sdml import files

CONDA_NAMES = {"torch": "pytorch"}
ONLY_CONDA = {"python", "pip", "setuptools"}
NOT_LOCKED = {"site"}
CORE_LIBRARIES = {"torch", "numpy", "scipy", "numba", "h5py", "safetensors", "tqdm", "filelock"}
COMPANION = ["plotting", "companion"]
IMPORTED = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict:
    """The whole of pyproject.toml."""
    return tomllib.loads((files.root() / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def required(project) -> dict[str, Requirement]:
    """All requirements, those of the extras that are locked included, by canonical name."""
    extras = project["project"]["optional-dependencies"].items()
    locked = [texts for name, texts in extras if name not in NOT_LOCKED]
    texts = sum(locked, project["project"]["dependencies"])
    return {canonicalize_name(Requirement(text).name): Requirement(text) for text in texts}


@pytest.fixture(scope="module")
def pinned() -> dict[str, Requirement]:
    """Lines of requirements.lock by canonical name."""
    lines = (files.root() / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def conda_environment() -> tuple[dict[str, Requirement], list[str]]:
    """Packages of environment.yml from conda-forge by name, and what it leaves to pip."""
    text = (files.root() / "environment.yml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["dependencies"]
    packages = [Requirement(entry) for entry in entries if isinstance(entry, str)]
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    return {package.name: package for package in packages}, pip


def test_conda_environment_has_the_same_names_and_ranges(project, required):
    packages, _ = conda_environment()
    assert packages["python"].specifier == project["project"]["requires-python"]
    expected = {CONDA_NAMES.get(k, k): v.specifier for k, v in required.items()}
    found = {k: v.specifier for k, v in packages.items() if k not in ONLY_CONDA}
    assert found == expected


def test_conda_environment_installs_the_checkout():
    _, pip = conda_environment()
    assert pip == ["-e ."]


def test_build_requirement_agrees_with_the_conda_environment(project):
    (build,) = map(Requirement, project["build-system"]["requires"])
    packages, _ = conda_environment()
    assert packages["setuptools"].specifier == build.specifier


def test_lock_satisfies_the_ranges(project, required, pinned):
    (build,) = map(Requirement, project["build-system"]["requires"])
    for name, requirement in {**required, build.name: build}.items():
        assert name in pinned, f"{name} is missing in requirements.lock"
        (pin,) = pinned[name].specifier
        assert requirement.specifier.contains(pin.version), f"{pinned[name]} is outside its range"


def test_lock_pins_exactly_and_portably(pinned):
    for pin in pinned.values():
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert "+" not in specifier.version, f"{pin} has a local tag"
        assert pin.url is None
        assert pin.marker is None
    assert str(pinned["torch"]) == "torch==2.13.0"
    assert "sdml" not in pinned


def test_make_lock_serves_what_is_locked(project):
    """The extras that the other tests expect in the lock; torch stays as it is."""
    make = ["make", "-n", "-C", str(files.root()), "lock"]
    done = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    extras = set(project["project"]["optional-dependencies"]) - NOT_LOCKED
    assert set(re.findall(r"--extra (\w+)", done)) == extras
    assert """--upgrade-package "$(grep '^torch==' requirements.lock)\"""" in done


def test_the_core_needs_few_libraries_and_no_package_is_asked_for_twice(project):
    core, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    assert {Requirement(text).name for text in core} == CORE_LIBRARIES
    texts = [*core, *extras["notebooks"], *extras["cluster"], *extras["vtk"], *extras["dev"]]
    names = [canonicalize_name(Requirement(text).name) for text in texts]
    assert len(names) == len(set(names))


def imported_by(rooms: list[str]) -> set[str]:
    """What the notebooks and some rooms of the package import from other packages."""
    texts = [p.read_text("utf-8") for r in rooms for p in (files.PACKAGE / r).glob("*.py")]
    for notebook in files.notebooks().glob("*.ipynb"):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {name for text in texts for name in IMPORTED.findall(text)}
    return names - sys.stdlib_module_names - {"sdml"}


def test_what_notebooks_and_their_tools_import_is_in_the_extra(project):
    """By its own name, not by what another package needs."""
    core, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    declared = {Requirement(text).name for text in [*core, *extras["notebooks"]]}
    declared |= {"yaml", "IPython"}  # of pyyaml, and of ipykernel
    imported = imported_by(COMPANION)
    assert {"pandas", "matplotlib", "nbformat"} <= imported
    assert imported <= declared


def test_torch_and_python_ranges(project, required):
    assert required["torch"].specifier == ">=2.11"
    assert project["project"]["requires-python"] == ">=3.11"


def test_the_metadata_say_where_the_paper_is_and_that_there_are_types(project):
    text = (files.root() / "CITATION.cff").read_text(encoding="utf-8")
    (article,) = yaml.safe_load(text)["references"]
    assert set(project["project"]["urls"].values()) == {f"https://doi.org/{article['doi']}"}
    assert "Typing :: Typed" in project["project"]["classifiers"]
    assert (files.PACKAGE / "py.typed").is_file()


def test_version_has_one_source(project):
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sdml.__version__"}
    assert metadata.version("sdml") == sdml.__version__


def test_python_versions_in_the_metadata(project):
    """Every release that is named satisfies the range, and the running one is named."""
    versions = {
        entry.rpartition(":: ")[2]
        for entry in project["project"]["classifiers"]
        if entry.startswith("Programming Language :: Python :: 3.")
    }
    assert versions == {"3.11", "3.12", "3.13"}
    requires = SpecifierSet(project["project"]["requires-python"])
    assert all(requires.contains(version) for version in versions)
    oldest = min(versions, key=Version)
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


# --- Binder and Colab ---------------------------------------------------------------------------


def binder(name: str) -> str:
    """Text of a file of the Binder configuration."""
    return (files.root() / ".binder" / name).read_text(encoding="utf-8")


def test_binder_installs_the_extra_of_the_notebooks_as_locked():
    """The checkout is named from where Binder runs, the lock from the folder of the file."""
    lines = [line for line in binder("requirements.txt").splitlines() if line[:1] != "#"]
    assert lines[1:] == ["-c ../requirements.lock", "-e .[notebooks]"]


def test_binder_takes_a_python_of_the_metadata(project):
    version = binder("runtime.txt").strip().removeprefix("python-")
    assert f"Programming Language :: Python :: {version}" in project["project"]["classifiers"]


def test_colab_installs_the_core_which_suffices():
    """What the notebooks and their figures import besides it is part of Colab."""
    text = (files.root() / "docs" / "online.md").read_text(encoding="utf-8")
    assert "\n%pip install --quiet .\n%env SDML_HOME=.\n" in text
    part_of_colab = {"matplotlib", "seaborn", "pandas", "ipywidgets", "IPython"}
    assert imported_by(["plotting"]) <= CORE_LIBRARIES | part_of_colab


# --- Continuous integration ---------------------------------------------------------------------


def test_the_workflow_runs_what_ci_runs(project):
    """On both systems, with the oldest and the newest Python of the metadata, and monthly."""
    path = files.root() / ".github" / "workflows" / "ci.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    started = workflow[True]  # YAML 1.1 reads the key "on" as true
    assert set(started) == {"push", "pull_request", "schedule"}
    (schedule,) = started["schedule"]
    _, _, day, month, weekday = schedule["cron"].split()
    assert day.isdigit() and month == weekday == "*"
    (job,) = workflow["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert job["runs-on"] == "${{ matrix.os }}"
    classifiers = project["project"]["classifiers"]
    named = sorted(
        (text.rpartition(" ")[2] for text in classifiers if "Python :: 3." in text), key=Version
    )
    assert matrix["python"] == [named[0], named[-1]]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(files.root() / ".ci" / "run", os.X_OK)
