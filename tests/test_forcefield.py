"""The force field: symmetric energy, its gradient, files, other lattices, released weights."""

import functools
import json
import os
from dataclasses import replace

import laws
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from sdml import dataset, dynamics, forcefield, lattice, paths, spins, training
from sdml.descriptor import SymmetryEnvironment
from sdml.forcefield import ForceField
from sdml.model import SDModel

ENVIRONMENTS = {
    "square": SymmetryEnvironment("square", bond_radius=2.3, pair_radius=1.5),
    "triangular": SymmetryEnvironment("triangular", bond_radius=2.0, pair_radius=1.0),
}
RELEASED = ["triangular", "square"]
STATE = spins.random(49, seed=0)
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])


def random_force_field(kind, **terms):
    """Random weights and scales of a random data set, in double precision."""
    model = SDModel(getattr(lattice, kind)(7), 3.0, 0.25, electron_kT=0.05, **terms)
    ff = ForceField(model, ENVIRONMENTS[kind], hidden_widths=(8, 4), seed=1)
    rng = np.random.default_rng(2)
    states = torch.as_tensor(spins.random(4 * 49, rng).reshape(4, 49, 3))
    energies, longitudinal = rng.normal(-120, 2, 4), rng.normal(1.2, 0.1, (4, 49))
    ff.standardise(states, torch.as_tensor(energies), torch.as_tensor(longitudinal))
    ff.card = {"note": "random weights", "errors": {"torque_r2": 0.0}}
    return ff.double()


@every_kind
def test_energy_and_field_have_the_symmetries_of_the_model(kind):
    ff = random_force_field(kind)
    moves = laws.symmetries(ff.model.lattice)
    fluctuation = ff.energy(STATE) - 49 * float(ff.output_mean[0])
    assert abs(fluctuation) > 0.1
    laws.assert_invariant(
        lambda s: ff.energy(s) - 49 * float(ff.output_mean[0]), STATE, moves, rtol=1e-10
    )
    laws.assert_equivariant(ff.local_field, STATE, moves, rtol=1e-10)
    laws.assert_site_invariant(lambda s: ff.local_energies(s)[:, None], STATE, moves, rtol=1e-10)


@every_kind
@pytest.mark.parametrize(
    "terms", [{}, {"zeeman": (0.3, -0.2, 0.5), "easy_axis": 0.4}], ids=["bare", "anisotropy"]
)
def test_field_is_minus_the_gradient(kind, terms):
    ff = random_force_field(kind, **terms)
    laws.assert_field_is_gradient(ff.energy, ff.local_field, STATE)
    laws.assert_transverse_field_is_gradient(ff.energy, ff.local_field, STATE, atol=1e-7)


@every_kind
def test_field_is_minus_the_gradient_off_the_sphere(kind):
    ff = random_force_field(kind, zeeman=(0.3, -0.2, 0.5), easy_axis=0.4)
    lengths = np.random.default_rng(0).uniform(0.7, 1.3, (49, 1))
    laws.assert_field_is_gradient(
        lambda s: ff(torch.as_tensor(s)).detach().numpy(),
        lambda s: ff.field(torch.as_tensor(s)).numpy(),
        lengths * STATE,
        step=1e-5,
    )


@every_kind
def test_energy_is_the_sum_over_sites_and_the_exact_anisotropy(kind):
    bare, full = (
        random_force_field(kind, **terms)
        for terms in ({}, {"zeeman": (0.3, -0.2, 0.5), "easy_axis": 0.4})
    )
    np.testing.assert_allclose(bare.energy(STATE), bare.local_energies(STATE).sum(), rtol=1e-12)
    zeeman = np.array([0.3, -0.2, 0.5])
    anisotropy = -(STATE @ zeeman).sum() - 0.4 * (STATE[:, 2] ** 2).sum()
    np.testing.assert_allclose(full.energy(STATE) - bare.energy(STATE), anisotropy, rtol=1e-10)
    field = zeeman + 0.8 * STATE * [0, 0, 1]
    np.testing.assert_allclose(full.local_field(STATE) - bare.local_field(STATE), field, atol=1e-10)


@every_kind
def test_the_second_output_is_the_longitudinal_field(kind):
    """The local energies know directions only, so that the torque is theirs alone."""
    ff = random_force_field(kind)
    _, longitudinal = ff.site_outputs(torch.as_tensor(STATE))
    along = (ff.local_field(STATE) * STATE).sum(-1)
    np.testing.assert_allclose(along, longitudinal.detach(), atol=1e-12)


@every_kind
def test_energy_is_extensive(kind):
    """A state repeated 2 x 2 has four times the energy and the same fields."""
    ff = random_force_field(kind)
    tiled = np.tile(STATE.reshape(7, 7, 3), (2, 2, 1)).reshape(196, 3)
    np.testing.assert_allclose(ff.energy(tiled), 4 * ff.energy(STATE), rtol=1e-12)
    field = np.tile(ff.local_field(STATE).reshape(7, 7, 3), (2, 2, 1)).reshape(196, 3)
    np.testing.assert_allclose(ff.local_field(tiled), field, atol=1e-12)


@every_kind
def test_a_field_reaches_twice_the_radius_of_the_environment(kind):
    ff = random_force_field(kind)
    lat = getattr(lattice, kind)(12)
    s = spins.random(144, seed=0)
    changed = s.copy()
    changed[0] = -s[0]
    moved = np.abs(ff.local_field(changed) - ff.local_field(s)).max(-1) > 1e-10
    corners, _ = lat.displacements(2 * ENVIRONMENTS[kind].bond_radius)
    within = lat.site_index(corners[:, :2], 0)
    assert set(np.flatnonzero(moved)) <= {0, *within.tolist()}
    assert moved[[0, 1, 2]].all()


def test_other_shapes_of_the_lattice():
    ff = random_force_field("triangular")
    oblong = lattice.triangular(14, 7)
    tiled = np.tile(STATE.reshape(7, 7, 3), (1, 2, 1)).reshape(98, 3)
    np.testing.assert_allclose(ff.on(oblong).energy(tiled), 2 * ff.energy(STATE), rtol=1e-12)
    np.testing.assert_array_equal(
        ff.on(lattice.triangular(7)).local_field(STATE), ff.local_field(STATE)
    )
    moves = laws.translations(oblong)
    laws.assert_equivariant(ff.on(oblong).local_field, spins.random(98, seed=0), moves)
    # The lattice is chosen for the copy, not for the original.
    np.testing.assert_array_equal(ff.lattice_of(49).shape, (7, 7))


def test_weights_are_shared_with_other_shapes():
    ff = random_force_field("square")
    other = ff.on(lattice.square(7))
    with torch.no_grad():
        ff.network[0].weight.mul_(1.1)
    assert other.energy(STATE) == ff.energy(STATE)


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 2)])
def test_batches_equal_singles(batch):
    ff = random_force_field("square")
    s = spins.random(49 * int(np.prod(batch)), seed=4).reshape(*batch, 49, 3)
    energies, fields = ff.energy(s), ff.local_field(s)
    assert energies.shape == batch
    assert fields.shape == (*batch, 49, 3)
    for index in np.ndindex(batch):
        np.testing.assert_allclose(energies[index], ff.energy(s[index]), rtol=1e-12)
        np.testing.assert_allclose(fields[index], ff.local_field(s[index]), atol=1e-12)


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_in_the_kind_and_dtype_of_the_spins(as_kind, dtype):
    ff = random_force_field("square").float()
    s = as_kind(STATE.astype(dtype))
    field = ff.local_field(s)
    assert type(field) is type(s)
    assert field.dtype == s.dtype
    assert ff.energy(s).dtype == s.dtype
    assert not (isinstance(s, torch.Tensor) and (field.requires_grad or s.requires_grad))


def test_precisions_agree():
    double = random_force_field("triangular")
    expected, energy = double.local_field(STATE), double.energy(STATE)
    single = double.float()
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.local_field(STATE), expected, atol=1e-5)
    np.testing.assert_allclose(single.energy(STATE), energy, rtol=1e-6)
    # Tables stay float64, so that going back loses only the rounding of the weights.
    assert single.double().descriptor.basis_1.dtype == torch.float64
    laws.assert_invariant(single.energy, STATE, laws.symmetries(lattice.triangular(7)))


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    model = SDModel(lattice.square(7), 6.0, 0.5)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    energies = [
        ForceField(model, ENVIRONMENTS["square"], (8,), seed).energy(STATE) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(torch.rand(3), expected)
    assert energies[0] == energies[1] != energies[2]


def test_precession_in_its_field_conserves_the_energy():
    ff = random_force_field("triangular")

    def drift(dt):
        end = dynamics.integrate(STATE, ff.local_field, dt, round(2 / dt), damping=0.0)
        return abs(ff.energy(end) - ff.energy(STATE))

    assert drift(0.02) < min(drift(0.08) / 8, 1e-3)


@every_kind
@pytest.mark.parametrize("precision", ["float", "double"])
def test_saving_and_loading_changes_no_bit(tmp_path, kind, precision):
    ff = getattr(random_force_field(kind), precision)()
    forcefield.save(ff, tmp_path / "ff.safetensors")
    again = forcefield.load(tmp_path / "ff.safetensors")
    assert again.dtype == ff.dtype
    assert (again.model, again.card, again.hidden_widths) == (ff.model, ff.card, ff.hidden_widths)
    assert again.descriptor.environment == ff.descriptor.environment
    np.testing.assert_array_equal(again.local_field(STATE), ff.local_field(STATE))
    assert again.energy(STATE) == ff.energy(STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["ff.safetensors"]


@pytest.fixture
def saved(tmp_path):
    """A saved force field."""
    path = tmp_path / "ff.safetensors"
    forcefield.save(random_force_field("square"), path)
    return path


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_files_are_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    laws.assert_refused(lambda: forcefield.load(saved), saved.name)


def test_altered_weights_are_refused(saved):
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name)


def description_of(path):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return json.loads(file.metadata()["description"]), tensors


@pytest.mark.parametrize("what", ["coupling", "card", "radius", "widths"])
def test_an_altered_description_is_refused(saved, what):
    """Weights without the model that they stand for are as bad as altered weights."""
    description, tensors = description_of(saved)
    match what:
        case "coupling":
            description["model"]["exchange_coupling"] = 4.0
        case "card":
            description["card"]["errors"]["torque_r2"] = 0.99
        case "radius":
            description["environment"]["bond_radius"] = 2.2
        case "widths":
            description["hidden_widths"] = [4, 8]
    with safe_open(saved, framework="pt") as file:
        checksum = file.metadata()["sha256"]
    metadata = {"description": json.dumps(description), "sha256": checksum}
    safetensors.torch.save_file(tensors, saved, metadata)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, "checksum")


@pytest.mark.parametrize("missing", ["format", "model", "environment", "hidden_widths", "card"])
def test_an_incomplete_description_is_refused(saved, missing):
    """Also where the checksum fits: the file was written so."""
    description, tensors = description_of(saved)
    del description[missing]
    text = json.dumps(description)
    metadata = {"description": text, "sha256": forcefield._digest(text, tensors)}
    safetensors.torch.save_file(tensors, saved, metadata)
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, missing)


def test_weights_without_checksum_are_refused(saved):
    description, tensors = description_of(saved)
    safetensors.torch.save_file(tensors, saved, {"description": json.dumps(description)})
    laws.assert_refused(lambda: forcefield.load(saved), saved.name, "sha256")


@pytest.mark.parametrize("metadata", [None, {}, {"description": "[]"}, {"description": "{"}])
def test_foreign_safetensors_are_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata)
    laws.assert_refused(lambda: forcefield.load(path), path.name)


def test_other_files_are_refused(tmp_path):
    pickled, text = tmp_path / "ff.pt", tmp_path / "ff.txt"
    torch.save({"weight": torch.zeros(3)}, pickled)
    text.write_text("weights")
    for path in (pickled, text):
        laws.assert_refused(lambda path=path: forcefield.load(path), path.name)


def test_unknown_names_are_refused(tmp_path):
    laws.assert_refused(lambda: forcefield.load("honeycomb"), "name_or_path", "honeycomb")
    laws.assert_refused(lambda: forcefield.load(tmp_path / "none"), "name_or_path", "none")
    laws.assert_refused(lambda: forcefield.load(tmp_path), "name_or_path", tmp_path.name)


@pytest.mark.parametrize("failing", ["os.replace", "safetensors.torch.save_file"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch, failing):
    before = saved.read_bytes()
    write = safetensors.torch.save_file

    def break_off(*arguments):
        if failing != "os.replace":
            write(*arguments)
        raise OSError("disk full")

    module, name = failing.rsplit(".", 1)
    monkeypatch.setattr(os if module == "os" else safetensors.torch, name, break_off)
    with pytest.raises(OSError, match="disk full"):
        forcefield.save(random_force_field("square"), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.fixture(params=RELEASED)
def released(request):
    """A force field shipped with the project."""
    if not (paths.models() / f"{request.param}.safetensors").is_file():
        pytest.skip(f"no released weights {request.param!r} yet")
    return forcefield.load(request.param)


def test_released_weights_have_the_symmetries(released):
    lat = getattr(lattice, released.model.lattice.name)(12)
    s, ff = spins.random(144, seed=0), released.double()
    laws.assert_invariant(ff.energy, s, laws.symmetries(lat), rtol=1e-10)
    laws.assert_equivariant(ff.local_field, s, laws.symmetries(lat), rtol=1e-10)
    laws.assert_field_is_gradient(ff.energy, ff.local_field, s)


def test_released_weights_know_the_exact_field(released):
    """On a random start and early frames of a new quench, on a size they were not trained on."""
    model = replace(released.model, lattice=getattr(lattice, released.model.lattice.name)(12))
    equation = dynamics.LandauLifshitz(dt=0.5, damping=0.1)
    data = dataset.quench(model, equation, (0, 5, 10), seed=7)
    assert training.evaluate(released, data)["torque_r2"] > 0.5


@functools.cache
def square_field():
    """One force field for all refusals."""
    return random_force_field("square")


@laws.bad_input(
    {
        "nan": (lambda: square_field().energy(np.nan * STATE), "spins", "nan"),
        "not unit": (lambda: square_field().local_field(2 * STATE), "spins", "deviation is 1"),
        "not a square": (lambda: square_field().energy(STATE[:48]), "spins", 48),
        "components": (lambda: square_field().energy(STATE[:, :2]), "spins", "(49, 2)"),
        "lattice": (lambda: square_field().on(lattice.triangular(7)), "lattice", "triangular"),
        "size": (lambda: square_field().on(lattice.square(7, 8)).energy(STATE), "spins", 56, 49),
        "environment": (
            lambda: ForceField(SDModel(lattice.square(7), 1, 0.5), ENVIRONMENTS["triangular"]),
            "environment",
            "triangular",
            "square",
        ),
        "widths": (
            lambda: ForceField(
                SDModel(lattice.square(7), 1, 0.5), ENVIRONMENTS["square"], hidden_widths=(8, 0)
            ),
            "hidden_widths",
            0,
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
