"""Sphinx: the site of ``make site``, from the checkout as it is, without a network.

The source folder is the checkout, so that links between README, docs and notebooks hold on the site
as they do on a code host. Equations become MathML, for which no script is loaded.
"""

import re
from itertools import pairwise
from typing import Any

from docutils.nodes import Element, SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import sdml

project = "sdml"
author = "The sdml authors"
copyright = "the sdml authors"
release = version = sdml.__version__

root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "notebooks/*.ipynb", "data/README.md"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "VISION.md"),
]
exclude_patterns = [".*", "build", "benchmarks", "dist", "sdml", "studies", "tests"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Names of arrays as the modules have them, not what they stand for.
autodoc_type_aliases = {name: name for name in ("FloatArray", "IntArray", "SpinArray")}
napoleon_google_docstring = False
napoleon_use_ivar = True
# The notebooks quote the README, and files of the checkout are offered to be downloaded.
suppress_warnings = ["myst.header", "myst.xref_missing", "config.cache"]

html_theme = "alabaster"
html_extra_path = ["start"]
html_static_path = ["static"]  # its custom.css is read by the theme
html_theme_options = {
    "page_width": "1240px",  # code of 100 characters without a bar to scroll
    "body_max_width": "none",
    "code_font_size": "0.78em",
    "description": "A companion you can run",
}
html_math_renderer = "mathml"
html_show_sourcelink = False


def setup(app: Any) -> None:
    """Equations as MathML; docstrings as they are meant."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", readable, priority=400)


def inline_math(translator: Any, node: Element) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def block_math(translator: Any, node: Element) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=True))
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
