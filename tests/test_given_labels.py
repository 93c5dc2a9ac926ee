"""Labels from elsewhere: taken as they are, checked by name, learned and judged like our own."""

from dataclasses import replace

import laws
import numpy as np
import pytest
import torch

from sdml import dataset, evaluation, exact, forcefield, lattice, spins, training
from sdml.descriptor import MomentEnvironment
from sdml.model import SDModel

MODEL = SDModel(lattice.square(6), 6.0, 0.485, electron_kT=0.05)
OWN = dataset.random_states(MODEL, 6, seed=0)
SETTINGS = training.TrainingSettings(n_epochs=2)


def given(model=MODEL, **changed):
    """The arrays of our own labels as another code would give them."""
    labels = {name: getattr(OWN, name) for name in ("spins", "local_field", "energy")}
    return dataset.from_arrays(model, **labels | changed)


def network(grand_canonical=False):
    environment = MomentEnvironment("square", 1, 2, MODEL.exchange_coupling)
    return forcefield.ForceField(MODEL, environment, [4], grand_canonical=grand_canonical)


def test_all_arrays_are_kept_in_double_precision_and_copied():
    known = {name: getattr(OWN, name) for name in ("density", "chemical_potential", "time")}
    found = given(**known, trajectory=[3, 3, 4, 4, 5, 5])
    for name, values in found.arrays().items():
        expected = [3, 3, 4, 4, 5, 5] if name == "trajectory" else getattr(OWN, name)
        np.testing.assert_array_equal(values, expected)
        assert not np.shares_memory(values, getattr(OWN, name))
    assert found.provenance == {"engine": "given"}
    assert found.trajectory.dtype == np.int64


@pytest.mark.parametrize("kind", [list, torch.tensor, np.float32])
def test_arrays_of_any_kind(kind):
    found = given(energy=kind(OWN.energy), local_field=kind(OWN.local_field))
    np.testing.assert_allclose(found.energy, OWN.energy, rtol=1e-6)
    assert {values.dtype for values in found.arrays().values()} == {np.dtype("f8"), np.dtype("i8")}


def test_snapshots_without_a_run_are_independent_random_states():
    found = given()
    np.testing.assert_array_equal(found.trajectory, OWN.trajectory)
    np.testing.assert_array_equal(found.time, 0)
    assert found.unknown == ["density", "chemical_potential"]


def test_a_fixed_chemical_potential_is_known():
    fixed = replace(MODEL, filling=None, chemical_potential=-1.5)
    np.testing.assert_array_equal(given(fixed).chemical_potential, -1.5)


def test_empty_bands_have_no_finite_chemical_potential():
    empty = replace(MODEL, filling=0.0)
    assert np.isneginf(dataset.random_states(empty, 1, seed=0).chemical_potential).all()


@pytest.mark.parametrize("known", [(), ("density",), ("chemical_potential",)])
def test_a_store_keeps_what_is_known(tmp_path, known):
    path = tmp_path / "theirs.h5"
    made = dataset.join([given(**{name: getattr(OWN, name) for name in known})] * 2)
    dataset.save(made, path)
    found = dataset.load(path)
    assert found.unknown == made.unknown
    assert (found.model, found.provenance) == (made.model, made.provenance)
    for name, values in made.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), values)
    learned, held_out = dataset.split(found, [-1])
    assert (len(learned), len(held_out)) == (10, 2)


def test_they_teach_what_our_own_labels_teach():
    """A canonical force field learns from fields alone; both are judged alike."""
    found = []
    for data in (OWN, given()):
        field = network()
        training.train(field, data.select(slice(5)), SETTINGS, data.select(slice(5, None)))
        judged = (
            evaluation.evaluate(field, data),
            evaluation.stage_errors(data, evaluation.predict(field, data)),
        )
        found.append((field.state_dict(), judged, evaluation.report(field, data)))
    (ours, *own), (theirs, *others) = found
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert own == others


def test_holes_are_judged_where_the_density_is_known():
    later = {"time": np.ones(6), "trajectory": np.ones(6)}
    assert "holes" not in evaluation.stage_sites(given(**later))
    assert "holes" in evaluation.stage_sites(given(**later, density=OWN.density))


def test_a_fixed_mu_field_of_another_code_is_ours():
    """The published grand potential: one turned spin on 6 x 6 sites, see the golden values."""
    model = SDModel(lattice.square(6), 0.5, chemical_potential=0.103, hopping=(1.0, 0.0, 0.5))
    states = spins.ferromagnetic(model.lattice)[None].copy()
    states[0, 0] = np.ones(3) / np.sqrt(3)
    field = exact.solve(model, states).local_field
    field[0, 0] = (0.0507965, 0.0507965, 0.01548)
    theirs = dataset.from_arrays(model, states, field, [36 * -1.98657216])
    ours = dataset.label(model, states, [-1], [0.0])
    np.testing.assert_allclose(theirs.energy, ours.energy, atol=36 * 1e-8)
    np.testing.assert_allclose(theirs.local_field, ours.local_field, atol=1e-6)


def spoiled(name, value=np.nan):
    values = np.array(getattr(OWN, name))
    values.flat[3] = value
    return {name: values}


@laws.bad_input(
    {
        "density nan": (lambda: given(**spoiled("density")), "density", "nan"),
        "density nan in a set": (lambda: replace(OWN, **spoiled("density")), "density", "nan"),
        "density high": (lambda: given(**spoiled("density", 2.1)), "density", "[0, 2]", 2.1),
        "density low": (lambda: given(**spoiled("density", -0.1)), "density", "[0, 2]", -0.1),
        "density shape": (lambda: given(density=OWN.density[:, :9]), "density", "(6, 36)"),
        "field nan": (lambda: given(**spoiled("local_field")), "local_field", "nan"),
        "field inf": (lambda: given(**spoiled("local_field", np.inf)), "local_field", "infinite"),
        "field shape": (lambda: given(local_field=OWN.energy), "local_field", "(6, 36, 3)"),
        "field text": (lambda: given(local_field="field.npy"), "local_field", "real"),
        "energy nan": (lambda: given(**spoiled("energy")), "energy", "nan"),
        "one energy": (lambda: given(energy=1.0), "energy", "(6,)", "()"),
        "no energy": (lambda: given(energy=None), "energy"),
        "no spins": (lambda: given(spins=None), "spins"),
        "spins nan": (lambda: given(**spoiled("spins")), "spins", "nan"),
        "spins long": (lambda: given(spins=2 * OWN.spins), "spins", "|S| = 1"),
        "sites": (lambda: given(spins=OWN.spins[:, :9]), "spins", "(6, 9, 3)"),
        "mu nan": (lambda: given(**spoiled("chemical_potential")), "chemical_potential", "nan"),
        "mu shape": (lambda: given(chemical_potential=0.1), "chemical_potential", "(6,)"),
        "time nan": (lambda: given(**spoiled("time")), "time", "nan"),
        "trajectory": (lambda: given(trajectory=np.full(6, 0.5)), "trajectory", 0.5),
        "complex": (lambda: given(energy=OWN.energy + 0j), "energy", "complex"),
        "joined": (lambda: dataset.join([OWN, given()]), "parts", "density"),
        "holes": (
            lambda: training.train(network(), given(), replace(SETTINGS, hole_weight=1.0)),
            "training",
            "density",
        ),
        "grand-canonical": (
            lambda: training.train(network(True), given(density=OWN.density), SETTINGS),
            "training",
            "chemical_potential",
        ),
        "validation": (
            lambda: training.train(network(True), OWN, SETTINGS, given()),
            "validation",
            "chemical_potential",
        ),
        "labelled mu": (
            lambda: evaluation.predict(network(True), given(), labeled_mu=True),
            "data",
            "chemical_potential",
        ),
    }
)
def test_bad_labels_are_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
