"""The paper's figures P1 ... P5 alone, drawn from data/reference in under two minutes.

    python studies/paper_figures.py [NAME ...]

A figure is drawn by the cells of its notebook: the one that saves it, and of those before it only
the ones that set a name which is read later. Live quenches and trainings of these notebooks are not
among them. Files go to build/paper_figures and are published in figures/ like those of a full run.
"""

import argparse
import ast
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from sdml import files
from sdml.companion import profiles, results

SAVED = re.compile(r'save_figure\(\s*figure,\s*"(P\d+)"')


def names(source: str) -> tuple[set[str], set[str], set[str]]:
    """Names that a cell reads before anything sets them, that it sets, and that it changes."""
    nodes = list(ast.walk(ast.parse(source)))
    bound = {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    used = {x.id for x in nodes if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Load)}
    bound |= {x.id for x in nodes if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    parts = (
        x.value for x in nodes if isinstance(x, ast.Subscript) and isinstance(x.ctx, ast.Store)
    )
    changed = {x.id for x in parts if isinstance(x, ast.Name)}
    return used - bound, bound, changed


def needed(sources: list[str], saving: Iterable[int]) -> list[str]:
    """The cells that save figures, and those that they rest on, in order."""
    wanted: set[str] = set()
    chosen = []
    for k, source in reversed(list(enumerate(sources))):
        reads, bound, changed = names(source)
        if k in saving or wanted & (bound | changed):
            wanted = (wanted - bound) | reads
            chosen.append(source)
    return chosen[::-1]


def drawn(notebook: Path, wanted: Iterable[str]) -> list[str]:
    """Draw those of the wanted figures that a notebook saves; their names."""
    cells = profiles.read_notebook(notebook).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    saved = {match[1]: k for k, x in enumerate(sources) if (match := SAVED.search(x))}
    chosen = {name: k for name, k in saved.items() if name in wanted}
    os.environ["SDML_NOTEBOOK"] = notebook.stem
    space = {"__name__": "__main__"}
    for source in needed(sources, chosen.values()):
        exec(compile(source, notebook.name, "exec"), space)
    return list(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[f"P{k}" for k in range(1, 6)])
    given = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    folder = files.build("paper_figures") / files.DEFAULT_PROFILE
    os.environ["SDML_BUILD"] = str(folder)
    found = []
    for notebook in sorted(files.notebooks().glob("0*.ipynb")):
        begin = time.perf_counter()
        if chosen := drawn(notebook, given.names):
            print(f"{', '.join(chosen)}: {time.perf_counter() - begin:.0f} s", flush=True)
            results.publish(folder, [notebook.stem])
            found += chosen
    if missing := set(given.names) - set(found):
        parser.error(f"names: no notebook saves {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
