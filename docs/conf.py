"""Sphinx: the site of ``make site``, from the checkout as it is, without a network.

The source folder is the checkout, so that links between README, docs and notebooks hold on the site
as they do on a code host. Equations become MathML, for which no script is loaded. Notebooks get
links to Binder and Colab where the checkout has a public address (`public_address`, by default that
of `origin`).
"""

import os
import re
import subprocess
from contextlib import suppress
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from docutils.nodes import Element, SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import sdml

project = "sdml"
author = "The sdml authors"
copyright = "the sdml authors"
release = version = sdml.__version__

root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "docs/reference/*.md", "notebooks/*.ipynb", "data/README.md"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "VISION.md"),
]
exclude_patterns = [".*", "build", "benchmarks", "dist", "sdml", "studies", "tests"]
extensions = [
    *("myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"),
    *("sphinx_design", "sphinx_copybutton"),
]
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}
autosummary_generate = False  # its tables alone; the pages are written by hand
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Names of arrays as the modules have them, not what they stand for.
autodoc_type_aliases = {name: name for name in ("FloatArray", "IntArray", "SpinArray")}
napoleon_google_docstring = False
napoleon_use_ivar = True
# The notebooks quote the README, and files of the checkout are offered to be downloaded.
suppress_warnings = ["myst.header", "myst.xref_missing", "config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = "sdml"
html_extra_path = ["start"]
html_static_path = ["static"]
html_css_files = ["custom.css"]
templates_path = ["templates"]
html_sidebars = {"docs/index": [], "docs/gallery": []}
html_theme_options = {
    "logo": {"text": "sdml"},
    "navbar_align": "left",
    "secondary_sidebar_items": ["launch", "page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_math_renderer = "mathml"
html_show_sourcelink = False


def setup(app: Any) -> None:
    """Equations as MathML; docstrings as they are meant; notebooks that open elsewhere."""
    app.add_config_value("public_address", address_of_origin(), "env", str)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", readable, priority=400)
    app.connect("autodoc-skip-member", without_words)
    app.connect("html-page-context", launched)
    app.connect("source-read", prepared)


def address_of_origin() -> str:
    """Web address of the repository, without its ``.git``; empty if there is none."""
    command = ["git", "-C", os.path.dirname(__file__), "remote", "get-url", "origin"]
    with suppress(OSError):
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        found = re.sub(r"^git@([^:]+):", r"https://\1/", found)
        return found.removesuffix(".git") if found.startswith("https://") else ""
    return ""


def launch_links(address: str, notebook: str) -> dict[str, str]:
    """Name -> address under which a notebook of the repository opens; Colab knows GitHub alone."""
    if not address:
        return {}
    repository = quote(address, safe="")
    links = {
        "Open in Binder": f"https://mybinder.org/v2/git/{repository}/HEAD?urlpath=lab/tree/{notebook}"
    }
    if address.startswith("https://github.com/"):
        name = address.removeprefix("https://github.com/")
        colab = "https://colab.research.google.com/github"
        links["Open in Colab"] = f"{colab}/{name}/blob/HEAD/{notebook}"
    return links


def prepared(app: Any, page: str, source: list[str]) -> None:
    """Colab's first cell names the repository, where it is known; the gallery's figures open."""
    if page == "docs/online" and app.config.public_address:
        source[0] = source[0].replace("ADDRESS", app.config.public_address)
    if page == "docs/gallery":  # pictures with a width lead to the whole of them
        source[0] = re.sub(r"(!\[[^]]*\]\([^)]+\))", r"\1{width=900px}", source[0])


def launched(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """What ``templates/launch.html`` shows beside the page of a notebook."""
    address = app.config.public_address if page.startswith("notebooks/") else ""
    context["launch"] = launch_links(address, f"{page}.ipynb")


def without_words(
    app: Any, what: str, name: str, thing: Any, skip: bool, options: Any
) -> bool | None:
    """Fields of named tuples, which their class explains, are not listed again."""
    return True if str(thing.__doc__).startswith("Alias for field number") else None


def mathml(text: str, **options: bool) -> str:
    """MathML of an equation; docutils puts the index of an accented letter below it, not after."""
    accent = r"(<mo stretchy=.false.>.</mo>)"
    accented = rf"<munderover>\s*(<mi>[^<]*</mi>)\s*(<m.*?)\s*{accent}\s*</munderover>"
    letter = r"<msub><mover>\1\3</mover>\2</msub>"
    return re.sub(accented, letter, tex2mathml(text, **options), flags=re.DOTALL)


def inline_math(translator: Any, node: Element) -> None:
    translator.body.append(mathml(node.astext()))
    raise SkipNode


def block_math(translator: Any, node: Element) -> None:
    translator.body.append(mathml(node.astext(), as_block=True))
    raise SkipNode


def readable(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: |S| is a length, and indented formulas keep their shape."""
    bars = [line.replace("|", "\N{DIVIDES}") for line in lines]
    sections = [k for k, line in enumerate(bars) if re.fullmatch("-{3,}", line)]
    end = sections[0] - 1 if sections else len(bars)
    lines[:] = [*literal_formulas(bars[:end]), *bars[end:]]


def literal_formulas(lines: list[str]) -> list[str]:
    """Lines with a mark of a literal block before each indented paragraph that has none."""
    marked: list[str] = []
    literal, text = False, ""
    for before, line in pairwise(["text", *lines]):
        begins = line.startswith("    ") and not before.strip() and not literal
        marked += ["::", "", line] if begins and not text.endswith("::") else [line]
        literal = begins or (literal and (line.startswith(" ") or not line.strip()))
        text = line.strip() or text
    return marked
