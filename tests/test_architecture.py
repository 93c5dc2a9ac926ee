"""docs/architecture.md says what is there: its tree, its storeys and its walk name what exists."""

import importlib
import re

import pytest
from test_layers import ROOMS

from sdml import files

PAGE = (files.root() / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE, STOREYS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
WALK = re.findall(r"^\| \d+ \| `(\w+)\.(\w+)` \| `([\w/.]+)` \|", PAGE, re.MULTILINE)


def entries(tree: str) -> dict[str, list[str]]:
    """Room -> its modules, in the order of the tree; a room that is a module has none."""
    found: dict[str, list[str]] = {}
    for line in tree.splitlines():
        if room := re.match(r" {4}(\w+)(?:\.py|/) +\S", line):
            last = found.setdefault(room[1], [])
        elif line.startswith(" " * 6):
            last += re.findall(r"(\w+)\.py", line)
    return found


def test_every_room_is_in_the_tree_in_reading_order():
    assert [*entries(TREE), "__main__"] == ROOMS


@pytest.mark.parametrize(("room", "modules"), entries(TREE).items())
def test_a_room_of_the_tree_has_the_modules_it_names(room, modules):
    place = files.PACKAGE / room
    assert (place if modules else place.with_suffix(".py")).exists()
    there = {path.stem for path in place.glob("*.py")} - {"__init__"}
    assert sorted(modules) == sorted(there)


def test_every_room_is_on_a_storey():
    assert set(ROOMS) - {"__main__"} <= set(re.findall(r"\w+", STOREYS))


@pytest.mark.parametrize(("room", "name", "path"), WALK)
def test_the_walk_goes_by_names_that_exist(room, name, path):
    assert hasattr(importlib.import_module(f"sdml.{room}"), name)
    source = (files.root() / path).read_text(encoding="utf-8")
    assert path.endswith(f"/{name}.py") or re.search(
        rf"^(def|class) {name}\b", source, re.MULTILINE
    )


def test_the_walk_is_in_order():
    steps = [int(step) for step in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert len(WALK) == len(steps) > 10
    assert steps == sorted(steps)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:sdml|tests)/[\w/.]+)`", PAGE))))
def test_named_files_exist(path):
    assert (files.root() / path).exists()


def test_it_is_short():
    assert len(PAGE.splitlines()) <= 150
