"""Tables of the pages people read: claims in the README, parameters and figures in ``docs/``.

They are made from ``figures/``, the notebooks and the profiles, and from nothing else: a page is
current if making it again changes nothing.
"""

import ast
import re
import tokenize
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path

from sdml import files
from sdml.companion import profiles, results
from sdml.companion.profiles import Job
from sdml.companion.results import Claim, in_short

__all__ = ["claims_markdown", "gallery_markdown", "parameters_markdown", "renew"]


def renew() -> list[Path]:
    """Write the tables anew into the pages that exist; the pages that changed.

    Raises
    ------
    ValueError
        If a page has lost the marks between which its table stands.
    """
    changed = []
    for path, table in pages().items():
        if path.is_file():
            old = path.read_text(encoding="utf-8")
            new = with_table(old, *table())
            if new != old:
                changed.append(files.write_text(path, new))
    return changed


def pages() -> dict[Path, Callable[[], tuple[str, str]]]:
    """Page -> what makes the name and the text of its table."""
    docs = files.root() / "docs"
    return {
        files.root() / "README.md": lambda: ("claims", claims_markdown(results.claims())),
        docs / "parameters.md": lambda: ("parameters", parameters_markdown()),
        docs / "gallery.md": lambda: ("figures", gallery_markdown()),
    }


def with_table(page: str, name: str, table: str) -> str:
    """`page` with `table` between the marks of `name`."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    parts = re.split(f"({re.escape(begin)}|{re.escape(end)})", page)
    if parts[1::2] != [begin, end]:
        raise ValueError(f"page: must hold {begin!r} and {end!r} once each, in this order")
    head, tail = parts[0], parts[-1]
    return f"{head}{begin}\n\n{table}\n\n{end}{tail}"


# --- claims -------------------------------------------------------------------------------------


def claims_markdown(entries: Iterable[Claim]) -> str:
    """Claims in the order of the notebooks, one a row."""
    ordered = sorted(entries, key=lambda claim: (claim.notebook, claim.id))
    head = ("claim", "paper", "ours", "verdict", "conditions", "notebook")
    return _table(head, map(_claim_row, ordered))


def _claim_row(claim: Claim) -> tuple[str, ...]:
    ours = in_short(claim.ours)
    return (
        f"`{claim.id}`: {claim.quantity}",
        f"{in_short(claim.paper)} ({results.STANDINGS[claim.standing]})",
        ours if claim.error is None else f"{ours} ± {in_short(claim.error)}",
        claim.verdict,
        claim.conditions,
        f"[{claim.notebook[:2]}](notebooks/{claim.notebook}.ipynb)",
    )


# --- parameters ---------------------------------------------------------------------------------


def parameters_markdown() -> str:
    """A section for each notebook: every parameter, its meaning, and its value in each profile."""
    plans = [profiles.plan(profile) for profile in results.PROFILES]
    return "\n\n".join(map(_parameter_section, zip(*plans, strict=True)))


def _parameter_section(jobs: tuple[Job, ...]) -> str:
    meanings = parameter_comments(jobs[0].notebook)
    rows = (
        (f"`{name}`", meanings[name], f"`{value!r}`", *(_changed(job, name) for job in jobs[1:]))
        for name, value in jobs[0].defaults.items()
    )
    return f"## {jobs[0].stem}\n\n{_table(('parameter', 'meaning, unit', *results.PROFILES), rows)}"


def _changed(job: Job, name: str) -> str:
    value = job.parameters[name]
    return "" if value == job.defaults[name] else f"`{value!r}`"


def parameter_comments(path: Path) -> dict[str, str]:
    """Parameter -> the comment on its line; ValueError if one has none."""
    (cell,) = (c for c in profiles.read_notebook(path).cells if "parameters" in profiles.tags(c))
    tokens = tokenize.generate_tokens(StringIO(cell.source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    statements = [s for s in ast.parse(cell.source).body if isinstance(s, ast.Assign)]
    names = {ast.unparse(statement.targets[0]): statement.lineno for statement in statements}
    missing = [name for name, line in names.items() if line not in comments]
    if missing:
        raise ValueError(f"{path.name}: parameter {', '.join(missing)} must have a comment")
    return {name: comments[line] for name, line in names.items()}


# --- figures ------------------------------------------------------------------------------------


def gallery_markdown() -> str:
    """Every published figure with its caption, and the notebook or command that draws it."""
    paths = sorted(p for ending in ("png", "gif") for p in files.figures().glob(f"*.{ending}"))
    return "\n\n".join(map(_picture, paths))


def _picture(path: Path) -> str:
    sidecar = files.loaded(path.with_suffix(".json"))
    name, notebook = sidecar["name"], sidecar["notebook"]
    page = f"[{notebook}](../notebooks/{notebook}.ipynb), profile {sidecar['profile']}"
    drawn = f"{page}; [PDF](../figures/{name}.pdf)" if notebook else f"`{sidecar['command']}`"
    # In an alternative text brackets would end it.
    words = sidecar["caption"].replace("[", "(").replace("]", ")").replace("\n", " ")
    return f"## {name}\n\n![{words}](../figures/{path.name})\n\n{words} ({drawn})"


# --- Markdown -----------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
