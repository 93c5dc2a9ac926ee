"""Stored notebooks: their form, and that nbval really compares them."""

import ast
import json
import re
import subprocess
import sys
import tokenize
from io import StringIO
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from sdml import files

CHECK = "# NBVAL_CHECK_OUTPUT"
MAX_CODE_LINES = 150
MAX_CELL_LINES = 22
MIN_NOTEBOOKS = 7
NOTEBOOKS = sorted(files.notebooks().glob("*.ipynb"))
STORY = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
"""What a reader reads in an hour; the appendices may be longer."""
MAX_STORY_WORDS = 900
MAX_PARAGRAPH = 90
MAX_STORY_CODE_LINES = 120
MIN_STORY_COMPARED = 4

FORBIDDEN_OUTPUT = {
    "an absolute path": re.compile(
        r"(?<![\w.:/])/(home|root|tmp|usr|opt|work|mnt|var|Users)/|[A-Z]:\\\\"
    ),
    "a progress bar": re.compile(r"\d%\||it/s\b|s/it\b"),
    "a warning": re.compile(r"\b\w*Warning\b"),
}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells that are not empty."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def output_text(cell: NotebookNode) -> str:
    """All text among the outputs of a code cell."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "".join(texts)


def code_lines(cell: NotebookNode) -> int:
    """Lines of a cell that are neither empty nor only a comment."""
    lines = (line.strip() for line in cell.source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def paragraphs(notebook: NotebookNode) -> list[str]:
    """Paragraphs and list items of the text; rows of tables are left out."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = [line for line in cell.source.splitlines() if not line.startswith("|")]
            found += re.split(r"\n\s*\n|\n(?=- )", "\n".join(lines))
    return found


def commented_lines(source: str) -> set[int]:
    """Lines of `source` that carry a comment."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def is_plain_assignment(statement: ast.stmt) -> bool:
    """Whether `statement` is ``name = literal`` on one line."""
    match statement:
        case ast.Assign(targets=[ast.Name()], value=value) if statement.end_lineno == value.lineno:
            try:
                ast.literal_eval(value)
            except ValueError:
                return False
            return True
    return False


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> NotebookNode:
    """A stored notebook."""
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=STORY, ids=lambda path: path.stem)
def chapter(request) -> NotebookNode:
    """A stored notebook of the story."""
    return nbformat.read(request.param, as_version=4)


# --- form ---------------------------------------------------------------------------------------


def test_all_notebooks_are_there():
    numbers = [path.stem.partition("_")[0] for path in NOTEBOOKS]
    story = [number for number in numbers if number.isdigit()]
    appendices = numbers[len(story) :]
    assert len(story) >= MIN_NOTEBOOKS
    assert story == [f"{k:02d}" for k in range(len(story))]
    assert appendices == [f"A{k}" for k in range(1, len(appendices) + 1)]


def test_format_is_valid(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert "papermill" not in notebook.metadata
    widgets = notebook.metadata.get("widgets", {})
    assert all(view.get("state") for view in widgets.values()), "widgets without state"


def test_one_parameters_cell_of_commented_literals(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert not any("injected-parameters" in c.metadata.get("tags", []) for c in notebook.cells)
    statements = ast.parse(cell.source).body
    assert statements
    lines = [statement.lineno for statement in statements]
    assert len(set(lines)) == len(lines), "one parameter a line"
    for statement in statements:
        assert is_plain_assignment(statement), f"not a plain literal: {ast.unparse(statement)}"
    assert set(lines) <= commented_lines(cell.source), "a parameter lacks its unit comment"


def test_executed_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_something_is_checked(notebook):
    checked = [cell for cell in code_cells(notebook) if CHECK in cell.source]
    assert checked, f"no cell is marked {CHECK}"
    for cell in checked:
        assert output_text(cell).strip(), f"nothing to compare: {cell.source}"


def test_a_picture_is_stored(notebook):
    assert any(
        "image/png" in output.get("data", {})
        for cell in code_cells(notebook)
        for output in cell.outputs
    )


def test_a_figure_is_shown_as_it_is_saved(notebook):
    """Drawn and saved in one cell: one that is changed later stands unfinished in the notebook."""
    for cell in code_cells(notebook):
        if re.search(r"^save_figure\(", cell.source, re.MULTILINE):
            assert any("image/png" in o.get("data", {}) for o in cell.outputs), cell.source


def test_outputs_are_clean(notebook):
    for cell in code_cells(notebook):
        kinds = {output.get("name", output.output_type) for output in cell.outputs}
        assert not kinds & {"stderr", "error"}, f"{kinds} in the output of {cell.source}"
        for what, pattern in FORBIDDEN_OUTPUT.items():
            found = pattern.search(output_text(cell))
            assert found is None, f"{what} in the output of {cell.source}"


def test_no_definitions(notebook):
    for cell in code_cells(notebook):
        assert not re.search(r"^\s*(async\s+def|def|class)\s", cell.source, re.MULTILINE)


def test_size(notebook):
    lines = [code_lines(cell) for cell in code_cells(notebook)]
    assert max(lines) <= MAX_CELL_LINES
    assert sum(lines) <= MAX_CODE_LINES


def test_paragraphs_are_short(notebook):
    assert max(len(paragraph.split()) for paragraph in paragraphs(notebook)) <= MAX_PARAGRAPH


def test_a_chapter_is_short_to_read(chapter):
    assert sum(len(paragraph.split()) for paragraph in paragraphs(chapter)) <= MAX_STORY_WORDS


def test_a_chapter_has_little_code(chapter):
    lines = [len(cell.source.splitlines()) for cell in code_cells(chapter)]
    assert max(lines) <= MAX_CELL_LINES
    assert sum(lines) <= MAX_STORY_CODE_LINES


def test_the_headline_numbers_of_a_chapter_are_compared(chapter):
    compared = [cell for cell in code_cells(chapter) if cell.source.startswith(CHECK)]
    assert len(compared) >= MIN_STORY_COMPARED
    for cell in compared:
        assert re.search(r"\d|True", output_text(cell)), f"no number: {cell.source}"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an absolute path", "saved to /home/me/figure.pdf"),
        ("an absolute path", "'/tmp/x'"),
        ("a progress bar", " 45%|████▌     | 9/20 [00:01<00:01,  8.5it/s]"),
        ("a warning", "cell.py:3: UserWarning: not converged"),
    ],
)
def test_unclean_outputs_are_seen(what, text):
    assert FORBIDDEN_OUTPUT[what].search(text)
    assert not FORBIDDEN_OUTPUT[what].search("energy -2.6238 t at q = (1/2, 0), 25% filling")


# --- comparison ---------------------------------------------------------------------------------


def stored_energy(path: Path, output: str) -> Path:
    """Small notebook whose checked cell prints ``energy -2.6238``, stored with `output`."""
    stream = nbformat.v4.new_output("stream", name="stdout", text=output)
    source = f"{CHECK}\nprint('energy', round(-2.62376, 4), 'in', 3.25, 's')"
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=[stream])
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)
    return path


def compared(path: Path) -> subprocess.CompletedProcess[str]:
    """Outcome of nbval on one notebook, as ``make test`` calls it."""
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider"]
    rules = ["--nbval-sanitize-with", str(files.root() / "nbval.cfg")]
    command = [sys.executable, "-m", "pytest", *options, *rules, "--rootdir", str(path.parent)]
    return subprocess.run([*command, str(path)], cwd=path.parent, capture_output=True, text=True)


def test_unaltered_output_passes(tmp_path):
    """Run times may differ, by the rules of nbval.cfg."""
    done = compared(stored_energy(tmp_path / "small.ipynb", "energy -2.6238 in 9.75 s\n"))
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_altered_output_fails(tmp_path):
    done = compared(stored_energy(tmp_path / "small.ipynb", "energy -2.6239 in 3.25 s\n"))
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout


def test_sanitising_keeps_the_numbers_of_stored_checks():
    """A rule that swallowed physics would make the comparison of the stored notebooks empty."""
    rules = re.findall(r"^regex: (.*)$", (files.root() / "nbval.cfg").read_text(), re.MULTILINE)
    assert rules
    for path in NOTEBOOKS:
        for cell in code_cells(nbformat.read(path, as_version=4)):
            text = output_text(cell) if CHECK in cell.source else ""
            left = text
            for rule in rules:
                left = re.sub(rule, "", left)
            assert bool(left.strip()) == bool(text.strip()), f"{path.name}: {json.dumps(text)}"
