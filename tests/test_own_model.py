"""The page on models of one's own does what it says."""

import re
from pathlib import Path

import pytest
import torch

from sdml import files, forcefield, spins
from sdml.descriptor import SymmetryEnvironment

PAGE = files.root() / "docs" / "own_model.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
NAMES = ["term", "coupling", "rashba", "kagome", "skyrmions", "descriptor"]
MOST_LINES = {"kagome": 26, "coupling": 15, "rashba": 16}


def code_lines(block: str) -> int:
    """Lines that are neither empty nor only a comment."""
    lines = (line.strip() for line in block.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def names_of(number: int, folder: Path) -> dict:
    """What block `number` leaves behind, run in `folder`."""
    names: dict = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(BLOCKS[number], f"{PAGE.name}, block {number}", "exec"), names)
    return names


@pytest.fixture(scope="module")
def term(tmp_path_factory) -> dict:
    """Names of the block on a term of one's own."""
    return names_of(0, tmp_path_factory.mktemp("term"))


@pytest.fixture(scope="module")
def honeycomb(tmp_path_factory) -> dict:
    """Names of the block on a descriptor of one's own."""
    return names_of(NAMES.index("descriptor"), tmp_path_factory.mktemp("lattice"))


@pytest.mark.parametrize(("name", "block"), list(zip(NAMES, BLOCKS, strict=True)), ids=NAMES)
def test_it_is_short(name, block):
    assert code_lines(block) < MOST_LINES.get(name, 60)


def test_terms_on_bonds_have_equal_fields_by_both_engines(tmp_path):
    names = names_of(NAMES.index("coupling"), tmp_path)
    assert names["state"].local_field.shape == (64, 3)
    exec(compile(BLOCKS[NAMES.index("rashba")], "rashba", "exec"), names)
    assert names["difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bar"), [("kagome", 0.9), ("skyrmions", 0.85)])
def test_moments_learn_it(name, bar, tmp_path):
    assert names_of(NAMES.index(name), tmp_path)["errors"]["torque_r2"] > bar


@pytest.mark.slow
def test_the_terms_are_learned_and_turn_the_spins(term):
    assert term["errors"]["torque_r2"] > 0.8
    axis = term["run"].observables["axis"]
    assert axis[0] == pytest.approx(1 / 3, abs=0.05)
    assert axis[-1] > 0.8
    assert len(axis) == 6


@pytest.mark.slow
def test_a_descriptor_of_ones_own_learns_a_honeycomb(honeycomb):
    assert honeycomb["errors"]["torque_r2"] > 0.7
    assert honeycomb["run"].spins.shape == (128, 3)


@pytest.mark.slow
def test_its_features_are_invariant(honeycomb):
    lat, made = honeycomb["large"], honeycomb["field"].descriptor
    table = made.neighbor_table(lat)
    states = torch.as_tensor(spins.random(lat.n_sites, seed=2))
    found = made(states, table)
    turned = spins.rotate(states, torch.as_tensor(spins.random_rotation(3)))
    torch.testing.assert_close(made(turned, table), found)
    torch.testing.assert_close(made(-states, table), found)
    for operation in lat.point_group.matrices:
        permutation = lat.site_permutation(operation)
        moved = torch.empty_like(states)
        moved[permutation] = states
        torch.testing.assert_close(made(moved, table)[permutation], found)


@pytest.mark.slow
def test_it_is_read_back_after_its_class_was_entered(honeycomb, tmp_path, monkeypatch):
    field, made = honeycomb["field"], honeycomb["ShellEnvironment"]
    forcefield.save(field, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="ShellEnvironment"):
        forcefield.load(tmp_path / "own.safetensors")
    monkeypatch.setitem(forcefield.ENVIRONMENTS, "ShellEnvironment", made)
    loaded = forcefield.load(tmp_path / "own.safetensors").on(honeycomb["small"])
    state = spins.random(honeycomb["small"].n_sites, seed=4)
    assert loaded.energy(state) == pytest.approx(field.on(honeycomb["small"]).energy(state))


def test_the_descriptors_of_the_package_refuse_it():
    with pytest.raises(ValueError, match="'square' or 'triangular'"):
        SymmetryEnvironment("honeycomb", 2.0, 1.0)
