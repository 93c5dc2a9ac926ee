"""A force field lives on one lattice at a time: which it is, and what is refused."""

import dataclasses
from dataclasses import dataclass, replace
from functools import partial

import laws
import numpy as np
import pytest
import torch

from sdml import (
    cli,
    dataset,
    dynamics,
    ensemble,
    evaluation,
    exact,
    forcefield,
    lattice,
    model,
    simulation,
    spins,
    training,
)
from sdml.descriptor import RawBondEnvironment, SymmetryEnvironment
from sdml.forcefield import ForceField, committee, potential
from sdml.forcefield.committee import Committee
from sdml.model import SDModel
from sdml.simulation import Guard

EQUATION = dynamics.LandauLifshitz(0.1, 0.2)
STRAINED = lattice.from_cell([[1.0, 0.0], [0.0, 1.2]], [[0.0, 0.0]], (12, 12), "square")
MIRRORED = lattice.from_cell([[1.0, 0.0], [-0.5, 0.75**0.5]], [[0, 0]], (12, 12), "triangular")
RENAMED = lattice.from_cell([[1, 0], [0, 1]], [[0.5, 0.5]], (12, 13), "grid")


@dataclass(frozen=True)
class NearEnvironment:
    """Bonds to the nearest neighbors, of any lattice."""

    kind: str

    def descriptor(self):
        return NearDescriptor(self)


class NearDescriptor(torch.nn.Module):
    n_features = 2

    def __init__(self, environment):
        super().__init__()
        self.environment = environment

    def neighbor_table(self, sites):
        return torch.as_tensor(sites.neighbors())

    def forward(self, s, table):
        bonds = (s[..., table, :] * s[..., None, :]).sum(-1)
        return torch.stack([bonds.mean(-1), (bonds**2).mean(-1)], -1)


def honeycomb(*shape):
    cell = [[3**0.5, 0.0], [3**0.5 / 2, 1.5]]
    return lattice.from_cell(cell, [[0.0, 0.0], [0.0, 1.0]], shape, name="honeycomb")


def force_field(sites, seed=0, environment=None, **terms):
    """Random weights and the scales of random states of the lattice, in double precision."""
    if environment is None:
        near = NearEnvironment(sites.name)
        known = RawBondEnvironment("square", 1.0, 1.0)
        environment = known if sites.name == "square" else near
    made = ForceField(SDModel(sites, 2.0, 0.4, electron_kT=0.1, **terms), environment, (4,), seed)
    states = torch.as_tensor(np.stack([spins.random(sites.n_sites, k) for k in range(3)]))
    zeros = torch.zeros(3)
    made.standardize(states, zeros, torch.randn(states.shape[:2]), zeros)
    return made.double()


def pair(sites, **terms):
    return Committee([force_field(sites, seed, **terms) for seed in (1, 2)])


def run(path, sites, field, guard=None):
    start = spins.random(sites.n_sites, seed=0)
    return simulation.quench(path, sites, start, field, EQUATION, 2, 1, guard=guard)


def test_the_same_crystal_of_another_name_is_as_good(tmp_path):
    trained = honeycomb(4, 4)
    mine = lattice.from_cell(trained.vectors, trained.basis, (5, 4), "mine")
    field, s = force_field(trained), spins.random(40, seed=3)
    right = field.on(honeycomb(5, 4)).local_field(s)
    np.testing.assert_array_equal(field.on(mine).local_field(s), right)


@pytest.mark.parametrize("made", [force_field, pair])
def test_the_lattice_is_the_given_one_else_that_of_the_training_else_square(made):
    field = made(lattice.square(12, 27))
    assert field.lattice_of(324).shape == (12, 27)  # as many as 18 x 18
    assert field.lattice_of(169).shape == (13, 13)
    assert field.on(lattice.square(18)).lattice_of(324).shape == (18, 18)
    laws.assert_refused(lambda: field.lattice_of(170), "spins", 170, 324)
    cells = made(honeycomb(4, 9))
    assert cells.lattice_of(72) == honeycomb(4, 9)
    assert cells.lattice_of(128) == honeycomb(8, 8)
    assert cells.on(honeycomb(6, 6)).lattice_of(72).shape == (6, 6)
    laws.assert_refused(lambda: cells.lattice_of(81), "spins", 81, "2 L^2")
    s = spins.random(72, seed=3)
    tiled = np.tile(s.reshape(9, 4, 2, 3), (1, 2, 1, 1)).reshape(144, 3)
    large = cells.on(honeycomb(8, 9))
    np.testing.assert_allclose(large.energy(tiled), 2 * cells.energy(s), rtol=1e-12)


@pytest.mark.parametrize("made", [force_field, pair])
@pytest.mark.parametrize("method", ["field", "local_field"])
def test_a_run_refuses_the_field_of_another_lattice(tmp_path, made, method):
    field, oblong = made(lattice.square(12)), lattice.square(12, 27)
    wrong, turned = getattr(field, method), getattr(field.on(lattice.square(27, 12)), method)
    for k, given in enumerate((wrong, partial(wrong), turned)):
        path = tmp_path / f"{k}.h5"
        laws.assert_refused(
            lambda p=path, g=given: run(p, oblong, g), "local_field", "(12, 27)", ".on(lattice)"
        )
        assert not path.exists()
    run(tmp_path / "right.h5", oblong, getattr(field.on(oblong), method))
    run(tmp_path / "own.h5", lattice.square(12), wrong)
    run(tmp_path / "larger.h5", lattice.square(18), wrong)
    run(tmp_path / "free.h5", oblong, torch.zeros_like)


@pytest.mark.parametrize("made", [force_field, pair])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_keeps_the_dtype_of_its_spins(tmp_path, made, dtype):
    """Whatever that of the weights is, with the unchecked field as with the other."""
    field, sites = made(lattice.square(12)).float(), lattice.square(12)
    start = torch.as_tensor(spins.random(144, seed=0)).to(dtype)
    ends = [
        simulation.quench(tmp_path / f"{k}.h5", sites, start, given, EQUATION, 2, 1).spins
        for k, given in enumerate((field.field, field.local_field))
    ]
    assert {end.dtype for end in ends} == {start.numpy().dtype}
    np.testing.assert_array_equal(*ends)


def test_a_run_of_another_size_or_crystal_names_the_field(tmp_path):
    field = force_field(lattice.square(12))
    bound = field.on(lattice.square(13))
    for sites in (lattice.square(12, 14), STRAINED, lattice.triangular(12)):
        laws.assert_refused(
            lambda s=sites: run(tmp_path / "a.h5", s, bound.field), "local_field", ".on(lattice)"
        )
    same = replace(lattice.square(12), name="grid", triangles=())
    run(tmp_path / "b.h5", same, field.field)


def test_a_guard_and_a_driver_are_of_the_lattice_too(tmp_path):
    field, oblong = force_field(lattice.square(12)), lattice.square(12, 27)
    right = field.on(oblong)
    laws.assert_refused(
        lambda: run(tmp_path / "a.h5", oblong, right.field, Guard(field)), "guard", "(12, 27)"
    )
    run(tmp_path / "b.h5", oblong, right.field, Guard(right, warn_above=1.0))
    strip = replace(field.model, lattice=lattice.square(9, 16))
    laws.assert_refused(
        lambda: dataset.quench(strip, EQUATION, [0.1], 1, driver=field),
        "driver",
        "(9, 16)",
        ".on(lattice)",
    )


@pytest.mark.parametrize("sites", [STRAINED, MIRRORED], ids=["square", "triangular"])
def test_a_name_does_not_make_a_lattice(sites):
    environment = SymmetryEnvironment(sites.name, 2.0, 1.0)
    named = getattr(lattice, sites.name)(12)
    laws.assert_refused(
        lambda: environment.descriptor().neighbor_table(sites), "lattice", sites.vectors
    )
    laws.assert_refused(
        lambda: ForceField(SDModel(sites, 2.0, 0.4), environment), "environment", sites.vectors
    )
    field = force_field(named, environment=environment)
    laws.assert_refused(lambda: field.on(sites), "lattice", sites.vectors)
    states = np.stack([spins.random(144, seed=0)] * 2)
    data = dataset.label(replace(field.model, lattice=sites), states, [0, 1], [0.0, 0.0])
    for judge in (evaluation.evaluate, Committee([field, field]).calibrated):
        arguments = (field, data) if judge is evaluation.evaluate else (data,)
        laws.assert_refused(lambda j=judge, a=arguments: j(*a), "lattice", sites.vectors)


def test_a_square_lattice_by_another_name_is_one():
    """Wherever its origin is."""
    field = force_field(lattice.square(12))
    s = spins.random(156, seed=0)
    np.testing.assert_array_equal(
        field.on(RENAMED).local_field(s), field.on(lattice.square(12, 13)).local_field(s)
    )
    ForceField(SDModel(RENAMED, 2.0, 0.4), RawBondEnvironment("square", 1.0, 1.0)).energy(s)


def test_a_run_does_not_start_from_a_strained_lattice(tmp_path):
    simulation.quench(
        tmp_path / "a.h5", STRAINED, spins.random(144, 0), torch.zeros_like, EQUATION, 1, 1
    )
    asked = ensemble.Quench("square", 12, EQUATION, 1, 1, initial=str(tmp_path / "a.h5"))
    laws.assert_refused(lambda: ensemble.quench(tmp_path / "b.h5", asked, 1), "initial", "square")


def test_a_run_of_cells_of_several_sites(tmp_path, monkeypatch):
    """Of plain data: its force field says what the cells are."""
    monkeypatch.setitem(forcefield.ENVIRONMENTS, "NearEnvironment", NearEnvironment)
    forcefield.save(force_field(honeycomb(4, 4)), tmp_path / "own.safetensors")
    asked = ensemble.Quench(str(tmp_path / "own.safetensors"), 6, EQUATION, 1, 1)
    assert ensemble.quench(tmp_path / "a.h5", asked, 1).spins.shape == (72, 3)


# --- terms of the spins

LADDER = 0.7


def ladder_energy(own, s):
    """A bond term beside those of the package, as CONTRIBUTING tells to add it."""
    i, j = torch.as_tensor(own.lattice.bonds()).T
    return model_energy(own, s) - LADDER * (s[..., i, 2] * s[..., j, 2]).sum(-1)


def ladder_field(own, s):
    table = torch.as_tensor(own.lattice.neighbors())
    field = model_field(own, s).clone()
    field[..., 2] += LADDER * s[..., table, 2].sum(-1)
    return field


model_energy, model_field = model.spin_energy, model.spin_field


@pytest.mark.parametrize("made", [force_field, pair])
@pytest.mark.parametrize("shape", [(12, 12), (24, 24), (12, 14)])
def test_a_term_of_bonds_is_that_of_the_lattice_of_the_spins(monkeypatch, made, shape):
    sites = lattice.square(*shape)
    s = spins.random(sites.n_sites, seed=5)
    field = made(lattice.square(12))
    fields = [field.on(sites)] if shape[0] != shape[1] else [field, field.on(sites)]
    free = SDModel(sites, 0.0, 0.0)  # no electrons: exact.solve gives the terms alone
    without = numbers(fields, s)
    for place in (exact, potential):
        monkeypatch.setattr(place, "spin_energy", ladder_energy)
    monkeypatch.setattr(exact, "spin_field", ladder_field)
    expected = exact.solve(free, s)
    for (energy, h), (energy_0, h_0) in zip(numbers(fields, s), without, strict=True):
        assert energy - energy_0 == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(h - h_0, expected.local_field, atol=1e-10)


def numbers(fields, s):
    """Energies and fields, those of the members of a committee too."""
    found = [(f.energy(s), f.local_field(s)) for f in fields]
    if isinstance(fields[0], Committee):
        own = fields[0].member_fields(torch.as_tensor(s)).mean(0).numpy()
        found.append((fields[0].energy(s), own))
    return found


def test_another_model_is_not_forgotten():
    """A field put on later counts, and so does the lattice of the training."""
    field, s = force_field(lattice.square(12)), spins.random(144, seed=1)
    before = field.local_field(s)
    field.model = replace(field.model, zeeman=(0.0, 0.0, 0.5))
    np.testing.assert_allclose(field.local_field(s) - before, [[0, 0, 0.5]] * 144, atol=1e-12)
    sites = lattice.square(9, 16)
    data = dataset.random_states(replace(field.model, lattice=sites), 2, seed=0)
    training.train(field, data, training.TrainingSettings(1))
    assert field.lattice_of(144) == sites
    assert field.least_length == 9
    np.testing.assert_array_equal(field.energy(s), field.on(sites).energy(s))


# --- too small


@pytest.mark.parametrize("kind", ["square", "triangular"])
def test_released_weights_refuse_what_is_too_small(tmp_path, kind, capsys):
    for made in (forcefield.load(kind), committee.load(kind)):
        for length in (2, 6, 11):
            s = spins.random(length**2, seed=0)
            for call in (made.energy, made.local_field, made.extrapolation):
                laws.assert_refused(lambda c=call, s=s: c(s), "spins", 12, (length, length))
        sites = getattr(lattice, kind)(11, 40)
        laws.assert_refused(lambda m=made, s=sites: m.on(s), "lattice", 12, "(11, 40)")
        assert made.energy(spins.random(144, seed=0)) < 0
    given = ["quench", "--force-field", kind, "--length", "2", "--steps", "2", "--guard"]
    assert cli.main([*given, "--output", str(tmp_path / "q.h5")]) == 2
    assert "at least 12" in capsys.readouterr().err
    assert "L >= 12" in evaluation.card_text(forcefield.load(kind))


def test_a_network_of_a_small_lattice_goes_down_to_its_length():
    own = SDModel(lattice.square(6), 2.0, 0.4, electron_kT=0.1)
    data = dataset.random_states(own, 4, seed=0)
    field = ForceField(own, RawBondEnvironment("square", 1.0, 1.0), (4,))
    assert field.least_length == 1  # nothing was learned yet
    training.train(field, data, training.TrainingSettings(1))
    assert evaluation.evaluate(field, data)["sites"] == 4 * 36
    field.local_field(spins.random(36, seed=0))
    field.on(lattice.square(6, 20))
    laws.assert_refused(lambda: field.energy(spins.random(25, seed=0)), "spins", 6, "(5, 5)")
    laws.assert_refused(lambda: field.on(lattice.square(5, 20)), "lattice", 6, "(5, 20)")
    # Labels of a smaller lattice tell how well it does there.
    small = dataset.random_states(dataclasses.replace(own, lattice=lattice.square(4)), 2, seed=1)
    assert np.isfinite(evaluation.evaluate(field, small)["torque_r2"])
