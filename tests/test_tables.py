"""Tables of README and docs say what claims.json, the notebooks and the profiles say."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from sdml import files
from sdml.companion import profiles, results, tables

NOTEBOOKS = sorted(files.notebooks().glob("*.ipynb"))
RENEW = "not current: `make tables` renews it"
CLAIM = results.Claim(
    id="field-mse",
    quantity="error | of the field",
    paper=1.6e-5,
    standing="M",
    ours=2.25,
    error=0.5,
    conditions="All are known.",
    origin="laptop",
    seeds=[1, 2],
    notebook="04_training",
    verdict="differs",
)


def notebook_of(path: Path, *sources: str) -> Path:
    """Notebook whose first cell is tagged ``parameters``."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def saved_claims(path: Path) -> set[str]:
    """Ids of the claims that a notebook saves, read from its code."""
    cells = profiles.read_notebook(path).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    # Lines for IPython alone are no Python.
    plain = re.sub(r"^(\s*)[%!?].*$", r"\1pass", code, flags=re.MULTILINE)
    calls = [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.Call)]
    return {claim_id(call) for call in calls if ast.unparse(call.func).endswith("save_claim")}


def claim_id(call: ast.Call) -> str:
    for keyword in call.keywords:
        if keyword.arg == "id":
            return str(ast.literal_eval(keyword.value))
    raise ValueError(f"save_claim: id= must be given in the call, got {ast.unparse(call)}")


# --- the pages as they stand --------------------------------------------------------------------


@pytest.mark.parametrize("path", list(tables.pages()), ids=lambda path: path.name)
def test_page_is_current(path):
    page = path.read_text(encoding="utf-8")
    assert tables.with_table(page, *tables.pages()[path]()) == page, f"{path.name}: {RENEW}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_claims_are_those_that_the_notebook_saves(path):
    published = {claim.id for claim in results.claims() if claim.notebook == path.stem}
    hint = f"run it again: make reproduce ONLY={path.stem[:2]}"
    assert published == saved_claims(path), f"figures/claims.json and {path.name}: {hint}"


def test_every_claim_has_a_notebook():
    assert {claim.notebook for claim in results.claims()} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("page", ["README.md", "docs/parameters.md"])
def test_papermill_lines_name_declared_parameters(page):
    text = (files.root() / page).read_text(encoding="utf-8")
    lines = re.findall(r"^papermill (\S+) \S+((?: -p \S+ \S+)+)", text, re.MULTILINE)
    assert lines
    for notebook, options in lines:
        declared = profiles.declared_parameters(files.root() / notebook)
        for name, value in re.findall(r"-p (\S+) (\S+)", options):
            default = declared[name]
            assert type(profiles.parsed_setting(f"{name}={value}")[1]) is type(default)


# --- how they are made --------------------------------------------------------------------------


def test_a_claim_is_told_in_words():
    row = tables.claims_markdown([CLAIM]).splitlines()[-1]
    expected = ("error \\| of the field", "1.6e-05 (from a summary)", "2.25 ± 0.5", "known.")
    assert all(f"{text} |" in row for text in expected)


def test_what_is_open_has_no_number():
    untested = results.Claim(**{**vars(CLAIM), "ours": None, "error": None, "verdict": "open"})
    assert f"| {results.NONE} | open |" in tables.claims_markdown([untested])


def test_ids_are_read_from_the_code(tmp_path):
    code = "%matplotlib inline\nrecord.save_claim(\n    id='one', **rest\n)", "save_claim(id='two')"
    path = notebook_of(tmp_path / "x.ipynb", "a = 1  # of nothing", *code)
    assert saved_claims(path) == {"one", "two"}


def test_a_claim_without_an_id_in_the_call_is_refused(tmp_path):
    path = notebook_of(tmp_path / "x.ipynb", "a = 1", "save_claim(**claim)")
    with pytest.raises(ValueError, match=r"id= must be given"):
        saved_claims(path)


def test_comments_are_those_of_the_parameters(tmp_path):
    path = notebook_of(tmp_path / "x.ipynb", "# all\na = 1  # J / t\nb = '#'  # a # b")
    assert tables.parameter_comments(path) == {"a": "J / t", "b": "a # b"}
    with pytest.raises(ValueError, match="parameter b must have a comment"):
        tables.parameter_comments(notebook_of(tmp_path / "y.ipynb", "a = 1  # x\nb = 2"))


@pytest.mark.parametrize("page", ["", "<!-- begin claims -->", "<!-- end claims -->" * 2])
def test_a_page_without_marks_is_refused(page):
    with pytest.raises(ValueError, match=r"must hold '<!-- begin claims -->'"):
        tables.with_table(page, "claims", "| a |")


def test_renewing_touches_stale_pages_only(home, tmp_path):
    (tmp_path / "figures").mkdir()
    files.write_text(tmp_path / "figures" / "claims.json", files.json_text([vars(CLAIM)]))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- begin claims -->old<!-- end claims -->\nafter\n")
    assert tables.renew() == [readme]
    assert readme.read_text().startswith("before\n<!-- begin claims -->\n\n| claim |")
    assert readme.read_text().endswith("<!-- end claims -->\nafter\n")
    assert tables.renew() == []
