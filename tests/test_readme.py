"""The README does what it says: its example runs, its links lead somewhere."""

import re

import pytest

from sdml import files, observables

README = files.root() / "README.md"


def test_the_example_reaches_tetrahedral_order():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    chirality = observables.site_chirality(names["lat"], names["S"])
    assert abs(chirality).mean() > 0.5 * observables.TETRAHEDRAL_CHIRALITY


def anchors(page: str) -> set[str]:
    """Targets of ``#`` links to the headings of a page, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README.read_text())))
)
def test_every_link_leads_somewhere(target):
    file, _, anchor = target.partition("#")
    page = files.root() / file if file else README
    assert page.is_file()
    assert not anchor or anchor in anchors(page.read_text())


def test_every_published_figure_is_named():
    figures = {path.stem for path in (files.root() / "figures").glob("*.png")}
    assert figures == set(re.findall(r"\[(\w+)\]\(figures/\1\.png\)", README.read_text()))


def test_both_quenches_move_and_are_small():
    """Each animation is shown, has a sidecar with its caption and command, and loads quickly."""
    folder = files.root() / "figures"
    shown = set(re.findall(r"!\[[^]]+\]\(figures/(\w+)\.gif\)", README.read_text()))
    assert shown == {path.stem for path in folder.glob("*.gif")}
    assert shown == {"quench_triangular", "quench_square"}
    for name in shown:
        assert {"caption", "command"} <= files.loaded(folder / f"{name}.json").keys()
        assert (folder / f"{name}.gif").stat().st_size < 3e6
