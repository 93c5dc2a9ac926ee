"""Profiles: which notebooks run, and with which parameters.

A profile is the notebooks' own parameters (quick) overlaid by ``notebooks/profiles/<name>.yaml``
and by single settings. All names and types are checked before anything runs.
"""

import ast
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from sdml import files
from sdml.companion import results

__all__ = ["Job", "declared_parameters", "parsed_setting", "plan", "prepared", "read_notebook"]

Parameters = dict[str, Any]
ANSWERS = {"yes": True, "on": True, "no": False, "off": False}
"""Words of YAML 1.1 for what is true or false: texts, unless such a value is wanted."""


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters of one profile.

    Attributes
    ----------
    notebook : pathlib.Path
    profile : str
    defaults : dict
        Parameters as the notebook declares them.
    parameters : dict
        Parameters of this run.
    settings : dict
        Those that override the profile; results of such a run are not published.
    """

    notebook: Path
    profile: str
    defaults: Parameters
    parameters: Parameters
    settings: Parameters = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Name of the notebook."""
        return self.notebook.stem

    @property
    def n_cells(self) -> int:
        """Number of cells that will run."""
        return len(prepared(self).cells)

    def output(self, ending: str) -> Path:
        """File of this job in its build folder, e.g. ``output('.json')``."""
        return files.build(self.profile) / f"{self.stem}{ending}"


# --- parameters ---------------------------------------------------------------------------------


def read_notebook(path: Path) -> NotebookNode:
    """Notebook at `path`; a ValueError names a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise ValueError(f"{path}: not a readable notebook ({error})") from error


def declared_parameters(path: Path) -> Parameters:
    """Names and values in the one cell tagged ``parameters``, which may hold nothing else."""
    cells = [cell for cell in read_notebook(path).cells if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"{path.name}: exactly one cell is tagged 'parameters', not {len(cells)}")
    try:
        return dict(_assignment(statement) for statement in ast.parse(cells[0].source).body)
    except (SyntaxError, ValueError) as error:
        problem = "the parameters cell holds only 'name = literal' lines"
        raise ValueError(f"{path.name}: {problem} ({error})") from error


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, ast.literal_eval(value)
    raise ValueError(f"line {statement.lineno}: {ast.unparse(statement)}")


def typed(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of the notebook's `default`; integers may become floats, lists tuples.

    Raises
    ------
    ValueError
        If the type differs otherwise, or `value` cannot be written as a Python literal.
    """
    kind = type(default)
    if kind in (list, tuple) and isinstance(value, list):
        alike = len({type(item) for item in default}) == 1
        pattern = default[0] if alike else None
        return kind(typed(f"{name}[{k}]", item, pattern) for k, item in enumerate(value))
    if kind is float and type(value) in (int, str):
        # YAML reads 1e-3, without a point, as text.
        with suppress(ValueError):
            value = float(value)
    if kind is bool and isinstance(value, str):
        value = ANSWERS.get(value.lower(), value)
    if default is not None and type(value) is not kind:
        raise ValueError(f"{name}={value!r} must be of type {kind.__name__}, like {default!r}")
    try:
        ast.literal_eval(repr(value))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{name}={value!r} must be a plain literal") from error
    return value


def parsed_setting(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``, the value read as YAML 1.2."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"--set {text!r} must have the form name=value")
    return name.strip(), _yaml(value, f"--set {text!r}")


def overlay(profile: str, declared: Mapping[str, Parameters]) -> dict[str, Parameters]:
    """Parameters that `profile` changes, by notebook; `declared` holds those of all notebooks."""
    if results.profile_rank(profile) == 0:
        return {}
    path = files.notebooks() / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        raise ValueError(f"profile={profile!r} needs {path}, which does not exist")
    changes = _mapping(_yaml(path.read_text(encoding="utf-8"), path.name), path.name)
    _require_known(f"{path.name}: unknown notebook", changes, declared)
    return {
        stem: _declared(f"{path.name}, {stem}", _mapping(values, path.name), declared[stem])
        for stem, values in changes.items()
    }


def _declared(source: str, values: Parameters, defaults: Parameters) -> Parameters:
    _require_known(f"{source}: unknown parameter", values, defaults)
    return {k: typed(f"{source}: parameter {k}", v, defaults[k]) for k, v in values.items()}


def _require_known(problem: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{problem} {name!r}; allowed: {', '.join(known)}")


def _mapping(value: Any, source: str) -> Parameters:
    if not isinstance(value, dict | None):
        raise ValueError(f"{source}: expected 'name: value' lines, found {value!r}")
    return value or {}


RESOLVERS = {
    first: [rule for rule in rules if rule[0].endswith((":null", ":merge", ":timestamp"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Yaml(yaml.SafeLoader):
    """YAML 1.2 and the numbers of Python: 010 is ten; 1:30, yes and off are texts."""

    yaml_implicit_resolvers = RESOLVERS

    def whole(self, node: yaml.ScalarNode) -> int:
        digits = node.value.replace("_", "")
        return int(digits, 0 if digits.lstrip("+-")[1:2] in tuple("xob") else 10)


for _kind, _pattern in {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?([0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)",
    "float": r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), None)
_Yaml.add_constructor("tag:yaml.org,2002:int", _Yaml.whole)


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not readable as YAML ({error})") from error


# --- what to run --------------------------------------------------------------------------------


def plan(
    profile: str = "quick", only: Iterable[str] = (), settings: Iterable[str] = ()
) -> list[Job]:
    """Jobs of the selected notebooks in reading order; everything is checked before anything runs.

    Parameters
    ----------
    profile : {'quick', 'laptop', 'paper'}
    only : iterable of str
        Stems or beginnings of stems, e.g. ``05``; all notebooks by default.
    settings : iterable of str
        ``name=value`` texts that override the profile in each selected notebook declaring the name.

    Raises
    ------
    ValueError
        For an unknown profile, notebook or parameter, or a value of the wrong type.
    """
    declared = {p: declared_parameters(p) for p in sorted(files.notebooks().glob("*.ipynb"))}
    if not declared:
        raise ValueError(f"no notebooks in {files.notebooks()}")
    changes = overlay(profile, {path.stem: defaults for path, defaults in declared.items()})
    chosen = _selected(list(declared), list(only))
    values = dict(map(parsed_setting, settings))
    used = {name for path in chosen for name in declared[path]}
    _require_known("--set: no selected notebook declares", values, sorted(used))
    jobs = []
    for path in chosen:
        defaults = declared[path]
        own = {name: value for name, value in values.items() if name in defaults}
        settings = _declared(f"--set, {path.stem}", own, defaults)
        parameters = defaults | changes.get(path.stem, {}) | settings
        jobs.append(Job(path, profile, defaults, parameters, settings))
    return jobs


def _selected(notebooks: list[Path], only: list[str]) -> list[Path]:
    for choice in only:
        if not any(path.stem.startswith(choice) for path in notebooks):
            allowed = ", ".join(path.stem for path in notebooks)
            raise ValueError(f"--only {choice!r} matches no notebook; allowed: {allowed}")
    return [path for path in notebooks if not only or path.stem.startswith(tuple(only))]


def prepared(job: Job) -> NotebookNode:
    """The notebook with the changed parameters in a cell of their own behind the declared ones."""
    notebook = read_notebook(job.notebook)
    changed = {k: v for k, v in job.parameters.items() if v != job.defaults[k]}
    if changed:
        source = "\n".join(f"{name} = {value!r}" for name, value in changed.items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
        place = next(k for k, cell in enumerate(notebook.cells) if "parameters" in tags(cell))
        notebook.cells.insert(place + 1, cell)
    return notebook


def tags(cell: NotebookNode) -> list[str]:
    """Tags of a cell."""
    return list(cell.metadata.get("tags", []))
