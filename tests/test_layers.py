"""Imports go strictly to an earlier room, outsiders see a room's face, the core needs no notebooks.

A room is a module or a folder at the top of `sdml`; a folder's face is its `__init__`.
"""

import ast
import sys
from pathlib import Path

import pytest

from sdml import files

GROUND = ["files", "spins", "symmetry", "lattice", "terms", "model", "observables", "dynamics"]
ELECTRONS = ["exact", "bands", "kpm"]
RUNS = ["simulation"]
LEARNING = ["descriptor", "forcefield", "dataset", "evaluation", "training"]
MANY = ["ensemble", "labelling", "workers"]
STORIES = ["coarsening", "phase_separation"]
COMPANION = ["plotting", "companion", "cli"]
CORE = [*GROUND, *ELECTRONS, *RUNS, *LEARNING, *MANY]
ROOMS = [*CORE, *STORIES, *COMPANION, "__main__"]
ORDER = {name: number for number, name in enumerate(ROOMS)}
AT_MOST = 27
"""Entries at the top of the package."""
NOT_ROOMS = {"__init__", "__main__", "py", "__pycache__", "weights"}

CORE_LIBRARIES = {"torch", "numpy", "scipy", "numba", "h5py", "safetensors", "tqdm", "filelock"}
DRAWING = {"matplotlib", "seaborn", "IPython", "ipywidgets", "papermill", "nbformat"}
TALKING = {"cli"}
FORBIDDEN_NAMES = {"utils", "util", "common", "core", "io", "helpers", "misc"}

PACKAGE = files.PACKAGE
SOURCES = sorted(PACKAGE.rglob("*.py"))
OUTSIDE = sorted(
    p for name in ("studies", "benchmarks") for p in (files.root() / name).glob("*.py")
)


def dotted(path: Path) -> tuple[str, ...]:
    """Parts of a module's name below ``sdml``: ('kpm', 'series'), ('kpm',) for its face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(source: str) -> set[tuple[str, ...]]:
    """Names that `source` imports, wherever it does so, in parts; those of ``sdml`` are absolute.

    ``from sdml.kpm import series`` gives ('sdml', 'kpm'): what is asked for is in the face.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {tuple(alias.name.split(".")) for alias in names}
            case ast.ImportFrom(module=module, names=names, level=0):
                within = module == "sdml"
                found |= (
                    {(module, alias.name) for alias in names}
                    if within
                    else {tuple((module or "").split("."))}
                )
            case ast.ImportFrom():
                found.add(("relative",))
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=name)]
            ):
                found.add(tuple(str(name).split(".")))
    return found


def arrows(source: str) -> set[tuple[str, ...]]:
    """Parts below ``sdml`` of what `source` imports from it."""
    own = {parts[1:] or ("sdml",) for parts in imported(source) if parts[0] == "sdml"}
    return {parts for parts in own if not parts[0].startswith("__") or parts[0] == "__main__"}


def wrong_arrows(module: tuple[str, ...], source: str) -> list[str]:
    """Imports that point to a room that is not earlier, or past the face of another folder."""
    wrong = [("relative",)] if ("relative",) in imported(source) else []
    for parts in arrows(source):
        if parts[0] == module[0]:
            continue  # within a folder
        if len(parts) > 1 or ORDER.get(parts[0], len(ORDER)) >= ORDER[module[0]]:
            wrong.append(parts)
    return sorted(".".join(parts) for parts in wrong)


def circles(folder: str) -> list[str]:
    """Modules of a folder that import each other in a circle, its face left out."""
    found = {
        path.stem: {
            name
            for name in [path_.stem for path_ in (PACKAGE / folder).glob("*.py")]
            if f"from sdml.{folder}.{name} import" in path.read_text(encoding="utf-8")
            or name in names_from_face(path, folder)
        }
        for path in (PACKAGE / folder).glob("*.py")
        if path.stem != "__init__"
    }
    while free := [name for name, needs in found.items() if not needs & set(found)]:
        for name in free:
            del found[name]
    return sorted(found)


def names_from_face(path: Path, folder: str) -> set[str]:
    """What a module takes by ``from sdml.FOLDER import ...``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == f"sdml.{folder}"
        for alias in node.names
    }


def printing_lines(source: str) -> list[int]:
    """Lines that call print."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if getattr(call.func, "id", None) == "print"]


def name_of(path: Path) -> str:
    return ".".join(dotted(path)) or "sdml"


def test_the_rooms_are_few_and_known():
    entries = {path.stem for path in PACKAGE.iterdir()} - NOT_ROOMS
    assert entries == set(ROOMS) - {"__main__"}, "a room without a place: put it in the order"
    assert len(entries) <= AT_MOST


def test_no_module_is_named_after_nothing():
    assert not FORBIDDEN_NAMES & {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_to_the_faces_of_earlier_rooms(path: Path):
    source, module = path.read_text(encoding="utf-8"), dotted(path)
    if not module:
        assert not imported(source), "import sdml must load nothing"
    else:
        assert wrong_arrows(module, source) == []


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.stem)
def test_studies_and_benchmarks_see_faces_only(path: Path):
    deep = [parts for parts in arrows(path.read_text(encoding="utf-8")) if len(parts) > 1]
    assert deep == []


@pytest.mark.parametrize("folder", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_no_circles_within_a_folder(folder: str):
    assert circles(folder) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_core_imports_few_libraries(path: Path):
    roots = {parts[0] for parts in imported(path.read_text(encoding="utf-8"))}
    foreign = roots - sys.stdlib_module_names - {"sdml"}
    if dotted(path)[:1] and dotted(path)[0] in CORE:
        # the extra `cluster` is imported when it is asked for
        assert foreign - CORE_LIBRARIES - {"distributed"} == set()
    elif dotted(path)[:1] and dotted(path)[0] in STORIES:
        assert not foreign & DRAWING


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_command_line_prints(path: Path):
    if dotted(path)[:1] != ("cli",):
        assert printing_lines(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from sdml import training", ["training"]),
        ("from sdml.training import train", ["training"]),
        ("import sdml.training", ["training"]),
        ("from . import training", ["relative"]),
        ("def f():\n    from sdml import training", ["training"]),
        ("if TYPE_CHECKING:\n    from sdml.training import train", ["training"]),
        ("importlib.import_module('sdml.training')", ["training"]),
        ("from sdml import lattice, kpm, nothing, __version__", ["kpm", "nothing"]),
        ("import sdml", ["sdml"]),
        ("from sdml.model import SDModel\nimport numpy", []),
    ],
)
def test_a_wrong_arrow_is_seen(source: str, wrong: list[str]):
    assert wrong_arrows(("exact",), source) == wrong


def test_outsiders_see_the_face_of_a_folder():
    assert wrong_arrows(("simulation", "loop"), "from sdml.kpm.series import Interval") == [
        "kpm.series"
    ]
    assert wrong_arrows(("simulation", "loop"), "from sdml.simulation.store import Store") == []
    assert wrong_arrows(("simulation",), "from sdml.simulation.store import Store") == []
