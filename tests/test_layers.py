"""Imports go strictly to a lower floor, and the physics needs no notebooks."""

import ast
import sys
from pathlib import Path

import pytest

from sdml import paths

PLAIN = ["timetable", "guard", "lock", "growth", "transition", "arrest", "filling"]
NEAR = ["orbits", "neighborhood", "walks"]
ON_SPINS = ["clusters", "polarons", "topology", "interfaces"]
ON_FIELDS = ["domains", "orientation", "scaling", "vortices", "snapshots"]
FLOORS = [
    ["paths", "spins", "symmetry", "chebyshev", "recursion", *PLAIN],
    ["lattice", "store", "histories", "runs"],
    ["rings"],
    ["model", "observables", "dynamics", "journal", "probing", *NEAR],
    ["exact", "kpm", "descriptor", "rawbonds", "moments", *ON_SPINS],
    ["forcefield", "locality", "finite_size", "landscape", "coexistence", *ON_FIELDS, "bands"],
    ["simulation", "committee", "courses", "published"],
    ["dataset"],
    ["evaluation", "labelling", "ensemble"],
    ["training", "record"],
    ["plotting", "curves", "widgets", "profiles", "workers"],
    ["explorers"],
    ["reproduce", "tables", "arguments"],
    ["progress"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
PHYSICS_TOP = 9
PHYSICS_LIBRARIES = {"torch", "numpy", "scipy", "numba", "h5py", "safetensors", "tqdm"}
TALKING = {"cli", "commands", "progress"}
FORBIDDEN_NAMES = {"utils", "util", "common", "core", "io", "helpers", "misc"}

SOURCES = sorted((paths.root() / "sdml").rglob("*.py"))


def imported(source: str) -> set[str]:
    """Dotted names that `source` imports, wherever it does so; names of ``sdml`` are absolute."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                package = ".".join(filter(None, ["sdml" if level else "", module]))
                within = package == "sdml"
                found |= {f"sdml.{alias.name}" for alias in names} if within else {package}
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=name)]
            ):
                found.add(name)
    return found


def arrows(source: str) -> set[str]:
    """Modules of ``sdml`` that `source` imports."""
    parts = [name.split(".") for name in imported(source)]
    own = {part[1] if len(part) > 1 else "sdml" for part in parts if part[0] == "sdml"}
    return {name for name in own if not (name.startswith("__") and name != "__main__")}


def wrong_arrows(module: str, source: str) -> list[str]:
    """Imports of `module` that do not point to a strictly lower floor."""
    return sorted(
        name for name in arrows(source) if name not in FLOOR or FLOOR[name] >= FLOOR[module]
    )


def printing_lines(source: str) -> list[int]:
    """Lines that call print."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if getattr(call.func, "id", None) == "print"]


def test_package_is_flat_and_known():
    folder = paths.root() / "sdml"
    stems = {path.relative_to(folder).with_suffix("").as_posix() for path in SOURCES}
    assert stems - {"__init__"} <= set(FLOOR), "a module without a floor: put it on one"


def test_no_module_is_named_after_nothing():
    assert not FORBIDDEN_NAMES & {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_imports_point_down(path: Path):
    source = path.read_text(encoding="utf-8")
    if path.stem == "__init__":
        assert not imported(source), "import sdml must load nothing"
    else:
        assert wrong_arrows(path.stem, source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_physics_imports_few_libraries(path: Path):
    if FLOOR.get(path.stem, PHYSICS_TOP) > PHYSICS_TOP:
        return
    roots = {name.partition(".")[0] for name in imported(path.read_text(encoding="utf-8"))}
    assert roots - PHYSICS_LIBRARIES - sys.stdlib_module_names - {"sdml"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_the_command_line_prints(path: Path):
    if path.stem not in TALKING:
        assert printing_lines(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from sdml import training",
        "from sdml.training import train",
        "import sdml.training",
        "from . import training",
        "from .training import train",
        "def f():\n    from sdml import training",
        "if TYPE_CHECKING:\n    from sdml.training import train",
        "importlib.import_module('sdml.training')",
    ],
)
def test_an_upward_arrow_is_seen(source: str):
    assert wrong_arrows("exact", source) == ["training"]


def test_arrows_within_a_floor_and_to_unknown_modules_are_wrong():
    assert wrong_arrows("exact", "from sdml import kpm, lattice, nothing, __version__") == [
        "kpm",
        "nothing",
    ]
    assert wrong_arrows("exact", "import sdml") == ["sdml"]
    assert wrong_arrows("exact", "from sdml.model import SDModel\nimport numpy") == []
