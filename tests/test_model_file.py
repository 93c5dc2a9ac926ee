"""Models in TOML files: all that SDModel can say, and nothing that it cannot."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import laws
import numpy as np
import pytest

from sdml import cli, dataset, forcefield, lattice, simulation
from sdml.cli import model_file
from sdml.model import SDModel, describe

SQUARE = """
exchange_coupling = 6
filling = 0.485
electron_kT = 0.05
[lattice]
name = "square"
length = 6
"""
KAGOME = lattice.from_cell(
    ((2, 0), (1, 3**0.5)),
    ((0, 0), (1, 0), (0.5, 0.75**0.5)),
    (3, 4),
    "mine",
    (((0, 0, 0), (0, 0, 1), (0, 0, 2)),),
)
FULL = SDModel(
    KAGOME,
    -1.5,
    chemical_potential=-0.7,
    electron_kT=0.1,
    hopping=(1.0, 0.0, 0.5),
    zeeman=(0.0, 0.1, 0.2),
    easy_axis=-0.3,
)


def said(value) -> str:
    """A value as TOML: what JSON writes, but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {said(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(said, value)) + "]"
    return json.dumps(value)


@pytest.fixture
def write(tmp_path):
    """A function that writes a text to a file and returns its path."""

    def written(text: str) -> str:
        (tmp_path / "model.toml").write_text(text)
        return str(tmp_path / "model.toml")

    return written


def test_a_file_says_all_that_a_model_can(write):
    """Every parameter of the constructor, whatever they are by now."""
    held = {k: v for k, v in describe(FULL).items() if v is not None}
    unsaid = {f.name for f in dataclasses.fields(SDModel)} - set(held) - {"filling"}
    assert all(getattr(FULL, name) in ((), None) for name in unsaid)
    assert model_file.load(write("\n".join(f"{k} = {said(v)}" for k, v in held.items()))) == FULL


def test_lattices_by_name_and_by_cell(write):
    head = "exchange_coupling = 6\nfilling = 0.485\n"
    for name in model_file.MAKERS:
        made = getattr(lattice, name)(3, 4)
        text = f'{head}[lattice]\nname = "{name}"\nlength = 3\nwidth = 4\n'
        assert model_file.load(write(text)) == SDModel(made, 6.0, 0.485)
    text = f"{head}[lattice]\nvectors = [[1, 0], [0, 2]]\nbasis = [[0, 0]]\nshape = [3, 4]\n"
    made = lattice.from_cell([[1, 0], [0, 2]], [[0, 0]], (3, 4))
    assert model_file.load(write(text)) == SDModel(made, 6.0, 0.485)


def test_the_smallest_file_is_the_model_of_the_options(write, tmp_path):
    model = replace(SDModel(lattice.square(6), 6.0, 0.485), electron_kT=0.05)
    assert model_file.load(write(SQUARE)) == model


BAD = {
    "misspelt": (("filling", "fillng"), "'fillng'", "did you mean 'filling'?", "easy_axis"),
    "misspelt J": (("exchange_coupling", "exchange"), "did you mean 'exchange_coupling'?"),
    "unknown": (("electron_kT", "x"), "got 'x'", "electron_kT"),
    "latice": (("[lattice]", "[latice]"), "did you mean 'lattice'?"),
    "no lattice": (('[lattice]\nname = "square"\nlength = 6', ""), "needs lattice"),
    "no J": (("exchange_coupling = 6", ""), "needs exchange_coupling"),
    "no filling": (("filling = 0.485", ""), "filling, chemical_potential", "exactly one"),
    "filling": (("0.485", "1.5"), "filling", "1.5"),
    "text": (("0.485", '"many"'), "filling", "many"),
    "kT": (("0.05", "-1"), "electron_kT", "-1"),
    "nan": (("0.05", "nan"), "electron_kT", "nan"),
    "shells": (("filling", 'hopping = [1, "x"]\nfilling'), "hopping", "x"),
    "field": (("filling", "zeeman = [0, 1]\nfilling"), "zeeman", "3"),
    "lattice name": (('"square"', '"sqare"'), "lattice", "'sqare'", "did you mean 'square'?"),
    "no name": (('name = "square"', ""), "lattice", "triangular"),
    "lattice key": (("length", "lenght"), "lattice", "'lenght'", "did you mean 'length'?"),
    "no length": (("length = 6", ""), "lattice", "needs length"),
    "length": (("length = 6", "length = -6"), "shape", "-6"),
    "length text": (("length = 6", 'length = "long"'), "lattice", "long"),
    "half a cell": (("length = 6", "length = 6.5"), "lattice", "6.5"),
    "cell key": (('name = "square"\nlength', "vectors = [[1, 0], [0, 1]]\nbase"), "did you mean"),
    "one hop": (("[lattice]", "[hops]\nbond = 1\nmatrix = 0.5\n[lattice]"), "hops", "[[hops]]"),
    "a number of hops": (("filling", "hops = 3\nfilling"), "hops", "[[hops]]", "got 3"),
    "numbers as hops": (("filling", "hops = [[1, 0.5]]\nfilling"), "[[hops]]", "0.5"),
    "one length": (
        ('name = "square"\nlength = 6', "vectors = [[1, 0], [0, 1]]\nbasis = [[0, 0]]\nshape = 3"),
        "shape", "two positive integers", "got 3",
    ),
    "no table": (('[lattice]\nname = "square"\nlength = 6', 'lattice = "square"'), "lattice"),
    "not TOML": (("=", ":"), "holds no model"),
    "twice": (("filling", "electron_kT = 0\nfilling"), "line 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_allowed_is_named(write, case):
    change, *mentioned = BAD[case]
    path = write(SQUARE.replace(*change))
    laws.assert_refused(lambda: model_file.load(path), "model.toml", *mentioned)


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_what_is_no_file_is_named(tmp_path, path):
    laws.assert_refused(lambda: model_file.load(str(tmp_path / path)), "--model", tmp_path)


def test_keys_of_tables_within_are_checked():
    """Those of terms that are dataclasses, by the type of the parameter."""

    @dataclasses.dataclass
    class Term:
        bond: int
        matrix: float = 1.0

    @dataclasses.dataclass
    class Model:
        terms: Sequence[Term]

    Model.__init__.__annotations__.clear()
    Model.__annotations__["terms"] = Sequence[Term]
    good = {"terms": [{"bond": 1}, {"bond": 2, "matrix": 0.5}]}
    model_file._require_keys("model", good, Model)
    for wrong, *words in (
        ({"bnd": 1}, "terms", "'bnd'", "did you mean 'bond'?"),
        ({"matrix": 1}, "terms", "bond"),
    ):
        bad = {"terms": [wrong]}
        laws.assert_refused(lambda bad=bad: model_file._require_keys("model", bad, Model), *words)


# --- the commands


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tuple[str, Path]:
    """A model file, and the folder with labels and weights that were made of it."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "model.toml"
    file.write_text(SQUARE.replace("filling", "zeeman = [0, 0, 0.1]\nfilling"))
    options = ["--random", "3", "--output", str(folder)]
    assert cli.main(["label", "--model", str(file), *options]) == 0
    small = "--descriptor moments --radius 1 --n-steps 2 --hidden-widths 4 --epochs 1"
    options = ["--hold-out", "-1", "--output", str(folder / "fit.safetensors")]
    store, named = str(folder / "random.h5"), ["--model", str(file)]
    assert cli.main(["train", store, *named, *small.split(), *options]) == 0
    return str(file), folder


def quenched(folder: Path, *options: str) -> int:
    fixed = ["--force-field", str(folder / "fit.safetensors"), "--steps", "2"]
    return cli.main(["quench", *fixed, *options])


def test_a_file_goes_through_all_commands(labelled, tmp_path):
    file, folder = labelled
    model = model_file.load(file)
    assert dataset.load(folder / "random.h5").model == model
    assert forcefield.load(str(folder / "fit.safetensors")).model == model
    (tmp_path / "long.toml").write_text(Path(file).read_text() + "width = 8\n")
    output = tmp_path / "q.h5"
    assert quenched(folder, "--model", str(tmp_path / "long.toml"), "--output", str(output)) == 0
    run = simulation.load(output)
    assert run.header["lattice"]["shape"] == [6, 8]
    assert run.spins.shape == (48, 3)
    np.testing.assert_allclose(np.linalg.norm(run.spins, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("change", [("filling = 0.485", "filling = 0.4"), ("square", "triangular")])
def test_another_model_is_refused(labelled, tmp_path, capsys, change):
    file, folder = labelled
    (tmp_path / "other.toml").write_text(Path(file).read_text().replace(*change))
    other = ["--model", str(tmp_path / "other.toml"), "--output", str(tmp_path / "out")]
    assert cli.main(["train", str(folder / "random.h5"), "--hold-out", "-1", *other]) == 2
    assert "--model: must be that of the stores" in capsys.readouterr().err
    assert quenched(folder, *other) == 2
    assert "--model: must be that of the force field" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "m.toml", "--filling", "0.4"), ("--model", "--filling")),
        (("--lattice", "square", "--length", "6"), ("--model", "--exchange-coupling")),
        ((), ("--model", "--lattice")),
        (("--model", "missing.toml"), ("--model", "missing.toml")),
    ],
)
def test_a_model_is_given_in_one_way(tmp_path, capsys, options, words):
    assert cli.main(["label", *options, "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)


def test_a_quench_has_one_length(labelled, tmp_path, capsys):
    file, folder = labelled
    options = ["--model", file, "--length", "6", "--output", str(tmp_path / "q.h5")]
    assert quenched(folder, *options) == 2
    assert "--length: must not be given beside --model" in capsys.readouterr().err


def test_a_canonical_force_field_has_no_density(labelled, tmp_path, capsys):
    options = ["--observables", "density", "--output", str(tmp_path / "q.h5")]
    assert quenched(labelled[1], "--length", "6", *options) == 2
    assert "density, chemical_potential: need a grand-canonical" in capsys.readouterr().err
