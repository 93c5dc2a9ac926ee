"""The recipes of CONTRIBUTING run as they stand."""

import re

import pytest

from sdml import files

PAGE = (files.root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"### (.*?)\n.*?```python\n(.*?)```", PAGE, re.DOTALL)


def test_there_is_a_recipe_for_each():
    assert [title for title, _ in RECIPES] == ["A lattice", "A term of the model", "A descriptor"]


@pytest.mark.parametrize(("title", "code"), RECIPES, ids=[title for title, _ in RECIPES])
def test_recipe_runs(title, code):
    exec(compile(code, f"CONTRIBUTING.md, {title}", "exec"), {"__name__": "recipe"})


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:sdml|tests)/[^`]*)`", PAGE))))
def test_named_files_exist(path):
    assert (files.root() / path).is_file()


def test_named_targets_exist():
    makefile = (files.root() / "Makefile").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"`make ([a-z ]+)`", PAGE)).split()
    assert named
    assert [target for target in named if f"\n{target}:" not in makefile] == []
