"""The site: it builds without a network, and every link within it leads somewhere."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from test_layers import ROOMS

from sdml import files

EXTRA = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_design", "sphinx_copybutton")
FACES = {"kpm", "simulation", "descriptor", "forcefield"}
"""Folders of which the reference shows what others import, and not the modules behind it."""


class Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        target = given.get("href") or given.get("src")
        if target:
            (self.links if tag == "a" else self.loaded).append(target)


@cache
def page(path: Path) -> Page:
    """A page of the site, read once."""
    return Page(path.read_text(encoding="utf-8"))


def is_broken(source: Path, target: str) -> bool:
    """Whether a link of the page `source` within the site leads nowhere."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return False
    file = (source.parent / unquote(parts.path)).resolve() if parts.path else source
    anchor = unquote(parts.fragment)
    known = file.is_file() and (
        not anchor or file.suffix != ".html" or anchor in page(file).anchors
    )
    return not known


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    if any(importlib.util.find_spec(name) is None for name in EXTRA):
        pytest.skip("the extra 'site' is not installed: `make site` installs it")
    folder = tmp_path_factory.mktemp("site")
    options = [
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(folder / "doctrees"),
        "-c",
        "docs",
    ]
    options += ["-D", "public_address=https://github.com/owner/name"]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(folder / "html")]
    home = {**os.environ, "PYTHONPATH": str(files.root())}
    done = subprocess.run(command, cwd=files.root(), env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_notebook_has_a_page_with_a_picture(site):
    for notebook in files.notebooks().glob("*.ipynb"):
        loaded = page(site / "notebooks" / f"{notebook.stem}.html").loaded
        assert any(name.endswith(".png") for name in loaded), notebook.stem


@pytest.mark.slow
def test_no_link_is_broken(site):
    # What the theme brings along holds templates too.
    pages = [p for p in sorted(site.rglob("*.html")) if "_static" not in p.parts]
    assert len(pages) > 10
    found = {(p, link) for p in pages for link in [*page(p).links, *page(p).loaded]}
    broken = [f"{p.relative_to(site)}: {link}" for p, link in found if is_broken(p, link)]
    assert sorted(broken) == []


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        foreign = [name for name in page(path).loaded if urlsplit(name).netloc]
        assert foreign == [], path.relative_to(site)


@pytest.mark.slow
def test_equations_are_drawn_without_a_script(site):
    assert "<math" in (site / "notebooks" / "01_model_hamiltonian.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_notebooks_open_elsewhere_where_the_address_is_known(site):
    links = page(site / "notebooks" / "00_overview.html").links
    place = "owner/name/blob/HEAD/notebooks/00_overview.ipynb"
    assert f"https://colab.research.google.com/github/{place}" in links
    repository = "https%3A%2F%2Fgithub.com%2Fowner%2Fname"
    query = "urlpath=lab/tree/notebooks/00_overview.ipynb"
    assert f"https://mybinder.org/v2/git/{repository}/HEAD?{query}" in links
    first_cell = (site / "docs" / "online.html").read_text(encoding="utf-8")
    assert "git clone --depth 1 https://github.com/owner/name sdml" in re.sub(
        "<[^>]+>", "", first_cell
    )


def public_modules() -> set[str]:
    """Names below ``sdml`` of what a reader may look up: rooms, and the modules of open folders."""
    sources = [path.relative_to(files.PACKAGE) for path in files.PACKAGE.rglob("*.py")]
    parts = {path.with_suffix("").parts for path in sources if path.stem[0] != "_"}
    return FACES | {".".join(names) for names in parts if names[0] not in FACES}


def test_every_room_is_in_the_reference_in_reading_order():
    docs = files.root() / "docs"
    storeys = re.findall(r"^reference/\w+$", (docs / "reference.md").read_text(), re.MULTILINE)
    text = "\n".join((docs / f"{name}.md").read_text(encoding="utf-8") for name in storeys)
    named = re.findall(r"automodule:: sdml\.([\w.]+)", text)
    assert len(set(named)) == len(named)
    assert set(named) - public_modules() == {"cli", "forcefield.committee"}
    assert public_modules() <= set(named)
    rooms = [name.partition(".")[0] for name in named]
    assert rooms == sorted(rooms, key=ROOMS.index)
    for name in named:
        assert importlib.import_module(f"sdml.{name}").__doc__


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "a.html").write_text('<a id="here" href="b.html#there">')
    (tmp_path / "b.html").write_text('<h1 id="there">')
    for target in ("b.html", "b.html#there", "#here", "https://example.org/x"):
        assert not is_broken(tmp_path / "a.html", target)
    for target in ("c.html", "b.html#nowhere", "#nowhere"):
        assert is_broken(tmp_path / "a.html", target)
