"""The wheel and the source distribution, installed outside a checkout with the core's libraries."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numba
import pytest
from packaging.requirements import Requirement

from sdml import files, observables

pytestmark = pytest.mark.slow

MODEL = "--lattice square --length 6 --exchange-coupling 6 --filling 0.485 --electron-kT 0.05"
SIZE = "--descriptor symmetry --bond-radius 1.0 --pair-radius 1.0 --hidden-widths 4 --epochs 1"
COMMANDS = {
    "quench": "--force-field triangular --length 12 --steps 2 --output q.h5",
    "label": f"{MODEL} --random 2 --quench-seeds 1 --save-times 0 1 --output labels",
    "train": f"labels/random.h5 --judge labels/quench_1.h5 {SIZE} --output fit.safetensors",
}
"""What must work with the core alone."""


def core_libraries(names: list[str], folder: Path) -> Path:
    """A folder with nothing but the named packages of this environment and what these need."""
    folder.mkdir()
    found: set[str] = set()
    while names:
        name = names.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another system, or of another build of torch
        if name in found:
            continue
        found.add(name)
        for top in {path.parts[0] for path in distribution.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
        for needed in map(Requirement, distribution.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                names.append(needed.name)
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Path:
    """The libraries of the core and what builds it, without those of the extras."""
    project = tomllib.loads((files.root() / "pyproject.toml").read_text(encoding="utf-8"))
    texts = project["project"]["dependencies"] + project["build-system"]["requires"]
    names = [Requirement(text).name for text in texts]
    return core_libraries(names, tmp_path_factory.mktemp("libraries") / "core")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of what distributions are made of: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(files.root() / name, folder)
    shutil.copytree(files.PACKAGE, folder / "sdml", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(command: list[str], folder: Path, code: int = 0, **others: str) -> str:
    """What a program says in a folder, both of its outputs; nothing leads it to the checkout."""
    ours = ("SDML_", "PYTHON", "NUMBA_CACHE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(command, cwd=folder, env=kept | others, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def installed(archive: Path, libraries: Path, folder: Path) -> Path:
    """The programs of a new environment with the archive and the libraries."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "libraries.pth").write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    run([*pip, *options, str(archive)], folder.parent)
    lend_kernels(site / "sdml")
    return folder / "bin"


def lend_kernels(package: Path) -> None:
    """Kernels that were compiled in the checkout, to files that hold the same source.

    What a new installation compiles itself is the matter of tests/test_compiled.py.
    """
    for source in files.PACKAGE.rglob("*.py"):
        copy = package / source.relative_to(files.PACKAGE)
        if copy.read_bytes() == source.read_bytes():
            os.utime(copy, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
            (copy.parent / "__pycache__").mkdir(exist_ok=True)
            for kernel in source.parent.glob(f"__pycache__/{source.stem}.*.nb[ic]"):
                shutil.copy(kernel, copy.parent / "__pycache__")


def say(programs: Path, code: str, folder: Path) -> list[str]:
    """Lines that Python code prints, after where it takes the package from."""
    lines = ["import importlib.util, sdml, sys", "print(sdml.__file__)", code]
    told = run([str(programs / "python"), "-c", "\n".join(lines)], folder).splitlines()
    assert Path(told[0]).is_relative_to(programs.parent / "lib")
    return told[1:]


@pytest.fixture(scope="module")
def wheel(sources, libraries, tmp_path_factory) -> Path:
    """The programs of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir"]
    build = [sys.executable, "-m", "pip", "wheel", *options, str(folder), str(sources)]
    run(build, folder)
    (archive,) = folder.glob("*.whl")
    return installed(archive, libraries, folder / "environment")


def test_the_wheel_has_the_weights_and_no_notebooks(wheel, tmp_path):
    code = """
from sdml import forcefield
from sdml.forcefield import committee
for name in ("triangular", "square"):
    print(name, len(forcefield.load(name).card) > 0, len(committee.load(name).members))
print([name for name in ("pandas", "matplotlib", "nbformat") if importlib.util.find_spec(name)])
from sdml import files
print(files.build())
"""
    expected = ["triangular True 4", "square True 4", "[]", str(tmp_path / "build" / "quick")]
    assert say(wheel, code, tmp_path) == expected


def test_the_example_of_the_readme_runs(wheel, tmp_path):
    page = (files.root() / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    deviation, chirality = map(float, say(wheel, example, tmp_path))
    assert 0 < deviation < 0.1
    assert chirality > 0.5 * observables.TETRAHEDRAL_CHIRALITY
    assert not list(tmp_path.iterdir())


def test_the_commands_of_the_core_run(wheel, tmp_path):
    """One as a user calls it, the others in one process, as the program calls them."""
    (first, options), *others = COMMANDS.items()
    run([str(wheel / "sdml"), first, *options.split()], tmp_path)
    calls = [[name, *options.split()] for name, options in others]
    code = f"from sdml import cli; print([cli.main(arguments) for arguments in {calls}])"
    assert say(wheel, code, tmp_path)[-1] == str([0] * len(calls))
    assert {"q.h5", "labels", "fit.safetensors"} <= {path.name for path in tmp_path.iterdir()}


def test_commands_of_the_checkout_say_that_they_need_it(wheel, tmp_path):
    for name in ("reproduce", "store", "figures", "tables", "claims"):
        said = run([str(wheel / "sdml"), name], tmp_path, code=2)
        assert said.startswith(f"sdml {name}: this needs a checkout")
        assert "set SDML_HOME" in said and "pip install 'sdml[notebooks]'" in said
    said = run([str(wheel / "sdml"), "tables"], tmp_path, code=2, SDML_HOME=str(tmp_path))
    assert f"SDML_HOME={str(tmp_path)!r} is not a checkout" in said


def test_without_the_extra_it_is_named(wheel, tmp_path):
    home = {"SDML_HOME": str(files.root())}
    said = run([str(wheel / "sdml"), "reproduce"], tmp_path, code=2, **home)
    assert "pip install 'sdml[notebooks]'" in said and "is not installed" in said
    assert "field-mse" in run([str(wheel / "sdml"), "claims"], tmp_path, **home)


def test_the_source_distribution_is_complete(sources, libraries, tmp_path):
    code = "from setuptools import build_meta; print(build_meta.build_sdist('.'))"
    name = run([sys.executable, "-c", code], sources).splitlines()[-1]
    programs = installed(sources / name, libraries, tmp_path / "environment")
    page = (files.root() / "README.md").read_text(encoding="utf-8")
    imports = re.findall(r"^from sdml.*$", page, re.MULTILINE)
    assert len(imports) == 2
    load = "print(forcefield.load('triangular').model.exchange_coupling)"
    assert say(programs, "\n".join([*imports, load]), tmp_path) == ["3.0"]


# --- a package that cannot be written to ---------------------------------------------------------


def test_kernels_are_kept_elsewhere_where_the_package_and_the_home_cannot_be_written(tmp_path):
    """Files in the place of folders: nobody, not even root, can write below them."""
    package, temporary = tmp_path / "installed" / "sdml", tmp_path / "temporary"
    shutil.copytree(files.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *(path for path in package.iterdir() if path.is_dir())]:
        (folder / "__pycache__").touch()
    temporary.mkdir()
    (tmp_path / "home").touch()
    home = str(tmp_path / "home")
    settings = {"HOME": home, "XDG_CACHE_HOME": home, "TMPDIR": str(temporary)}
    settings["PYTHONPATH"] = str(package.parent)
    refused = "import numba; from sdml import files; numba.njit(files.build, cache=True)"
    said = run([sys.executable, "-c", refused], tmp_path, code=1, **settings)
    assert "no locator available" in said

    code = """
import tempfile
from pathlib import Path
import numpy as np
from sdml.descriptor import walks
from sdml.kpm import recursion
print(recursion.__file__, recursion._folded(np.ones(recursion.LANES)) == recursion.LANES)
(folder,) = Path(tempfile.gettempdir()).glob("sdml-*")
print(len(list(folder.rglob("*.nbc"))))
kernels = [k for room in (recursion, walks) for k in vars(room).values() if hasattr(k, "py_func")]
print(len(kernels) > 5, all(Path(k.stats.cache_path).is_relative_to(folder) for k in kernels))
"""
    said = run([sys.executable, "-c", code], tmp_path, **settings).splitlines()
    assert said == [f"{package / 'kpm' / 'recursion.py'} True", "1", "True True"]
    assert os.listdir(temporary) == [], "it goes with the process"


def test_where_the_package_can_be_written_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    files.prepare_kernel_cache()
    assert numba.config.CACHE_DIR == ""
