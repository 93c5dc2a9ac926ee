"""The model of a TOML file: all that :class:`sdml.model.SDModel` can say, by its names there.

::

    exchange_coupling = 2.0
    filling = 0.4              # or chemical_potential
    electron_kT = 0.1
    hopping = [1.0, 0.0, 0.5]  # by shell

    [lattice]
    name = "square"            # with length and width; or vectors, basis and shape
    length = 12

Complex numbers are text, "1+0.5j".
"""

import dataclasses
import difflib
import inspect
import tomllib
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sdml import lattice
from sdml.model import SDModel, from_description

MAKERS = tuple(name for name in lattice.__all__ if name.islower() and name != "from_cell")
"""Lattices that need only a length."""


def load(path: str) -> SDModel:
    """The model of a file.

    ValueError if the file cannot be read, or for a key that is unknown, with the nearest known one,
    for one that is missing and for a value that is not allowed.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        if "lattice" in table:
            table["lattice"] = _lattice(table["lattice"])
        _require_keys("the model", table, SDModel)
        return from_description(table)
    except (OSError, ValueError) as error:
        raise ValueError(f"--model: {path!r} holds no model ({error})") from error


def _lattice(table: Any) -> Any:
    """Vectors, basis and shape, those of a lattice that is given by its name and size too."""
    if not isinstance(table, dict):
        raise ValueError(f"lattice: must be a table with a name, got {table!r}")
    if {"vectors", "basis", "shape"} & set(table):
        return {"name": "custom"} | table
    allowed = "lattice: needs vectors, basis and shape, or a name of"
    _require_known(allowed, str(table.get("name")), MAKERS)
    sizes, maker = {k: v for k, v in table.items() if k != "name"}, getattr(lattice, table["name"])
    _require_keys("lattice", sizes, maker)
    if not all(type(n) is int for n in sizes.values()):
        raise ValueError(f"lattice: must have whole numbers of cells, got {sizes}")
    return dataclasses.asdict(maker(**sizes))


def _require_keys(where: str, table: dict[str, Any], kind: Callable[..., Any]) -> None:
    """ValueError unless the keys of a table are parameters, and those of its own tables too."""
    parameters = inspect.signature(kind).parameters
    for key in table:
        _require_known(f"{where}: keys must be of", key, tuple(parameters))
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in table]
    if missing:
        raise ValueError(
            f"{where}: needs {', '.join(missing)}, got {', '.join(table) or 'nothing'}"
        )
    hints = typing.get_type_hints(kind)
    for key, value in table.items():
        parts = [
            k for k in (hints[key], *typing.get_args(hints[key])) if dataclasses.is_dataclass(k)
        ]
        many = parts and typing.get_origin(hints[key]) is Sequence
        if many and not (isinstance(value, list) and all(isinstance(x, dict) for x in value)):
            raise ValueError(f"{key}: must be a list of tables, [[{key}]], got {value!r}")
        for entry in value if many else [value]:
            if parts and isinstance(entry, dict):
                _require_keys(key, entry, parts[0])  # type: ignore[arg-type]


def _require_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{what} {', '.join(known)}, got {name!r}{hint}")
