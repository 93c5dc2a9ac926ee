"""Training: it learns, it is reproducible, and its numbers mean what they say."""

import copy
import functools
import json
from dataclasses import replace

import laws
import numpy as np
import pytest
import torch

from sdml import dataset, lattice, spins, training
from sdml.dataset import Dataset
from sdml.descriptor import SymmetryEnvironment
from sdml.forcefield import ForceField
from sdml.model import SDModel
from sdml.training import TrainingSettings

MODEL = SDModel(lattice.square(6), 6.0, 0.485, electron_kT=0.05)
ENVIRONMENT = SymmetryEnvironment("square", bond_radius=2.0, pair_radius=1.0)
SETTINGS = TrainingSettings(n_epochs=30, batch_size=4, learning_rate=1e-2, seed=3)


def force_field(model=MODEL, seed=0):
    return ForceField(model, ENVIRONMENT, hidden_widths=(16,), seed=seed)


@pytest.fixture(scope="module")
def snapshots():
    """24 random states to train on and 8 to validate."""
    return dataset.split(dataset.random_states(MODEL, 32, seed=0), held_out=range(-32, -24))


@pytest.fixture(scope="module")
def trained(snapshots):
    """A force field and the history of its training."""
    ff = force_field()
    return ff, training.train(ff, snapshots[0], SETTINGS, validation=snapshots[1])


def synthetic(states, field, energy=None, model=MODEL):
    """Snapshots with fields that no electrons made."""
    n, zeros = len(states), np.zeros(len(states))
    return Dataset(
        model,
        states,
        field,
        np.zeros((n, states.shape[1])),
        zeros if energy is None else energy,
        np.arange(n),
        zeros,
    )


def test_training_lowers_the_loss_and_beats_no_field(snapshots, trained):
    ff, history = trained
    assert [record["epoch"] for record in history] == list(range(1, 31))
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    errors = training.evaluate(ff, snapshots[1])
    assert errors["torque_r2"] > 0.2
    assert errors["torque_r2"] == pytest.approx(history[-1]["torque_r2"])
    assert errors["field_mse"] < 0.5 * snapshots[1].local_field.var()


def test_the_same_seed_gives_the_same_weights(snapshots):
    settings = replace(SETTINGS, n_epochs=3)
    weights = []
    for seed in (3, 3, 4):
        ff = force_field()
        training.train(ff, snapshots[0], replace(settings, seed=seed))
        weights.append(torch.cat([w.ravel() for w in ff.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_epoch_is_reported(snapshots):
    seen = []
    settings = replace(SETTINGS, n_epochs=2)
    history = training.train(force_field(), snapshots[0], settings, report=seen.append)
    assert seen == history
    assert len(seen) == 2


def batch_of(data, dtype=torch.float64):
    return {
        name: torch.as_tensor(getattr(data, name)).to(dtype)
        for name in ("spins", "local_field", "energy")
    }


def test_a_force_field_has_no_loss_on_its_own_labels(snapshots):
    ff = force_field().double()
    s = snapshots[0].spins[:4]
    own = synthetic(s, ff.local_field(s), ff.energy(s))
    scales = training.data_scales(snapshots[0])
    settings = TrainingSettings(1, energy_weight=1.0)
    assert training.loss(ff, batch_of(own), scales, settings).item() < 1e-20


@pytest.mark.parametrize("term", ["transverse", "longitudinal", "energy"])
def test_each_term_of_the_loss(snapshots, term):
    """Errors put by hand into the labels of a force field are what the loss measures."""
    ff = force_field().double()
    s = snapshots[0].spins[:4]
    across = spins.transverse(s, np.broadcast_to([1.0, 2.0, 3.0], s.shape))
    shift = {"transverse": 0.1 * across, "longitudinal": 0.2 * s, "energy": 0}[term]
    labels = synthetic(s, ff.local_field(s) + shift, ff.energy(s) + 3 * (term == "energy"))
    scales = training.Scales(transverse=0.5, longitudinal=0.25, energy=2.0)
    weights = {"transverse_weight": 2.0, "longitudinal_weight": 3.0, "energy_weight": 5.0}
    expected = {
        "transverse": 2 * 0.1**2 * (across**2).mean() / 0.5,
        "longitudinal": 3 * 0.2**2 / 0.25,
        "energy": 5 * 3**2 / 2,
    }[term]
    found = training.loss(ff, batch_of(labels), scales, TrainingSettings(1, **weights))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_slope_of_the_loss_in_the_weights(snapshots):
    """Differentiating a field that is itself a derivative, against central differences."""
    ff = force_field().double()
    batch, scales = batch_of(snapshots[0].select(slice(0, 3))), training.data_scales(snapshots[0])
    settings = TrainingSettings(1, energy_weight=0.1)
    training.loss(ff, batch, scales, settings).backward()
    for weight in ff.parameters():
        index = tuple(n // 2 for n in weight.shape)
        values, step = [], 1e-5
        for shift in (step, -2 * step):
            with torch.no_grad():
                weight[index] += shift
            values.append(training.loss(ff, batch, scales, settings).item())
        with torch.no_grad():
            weight[index] += step
        slope = (values[0] - values[1]) / (2 * step)
        assert float(weight.grad[index]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def along_z(field, n=2):
    """n snapshots of a ferromagnet along z, the same field on every spin."""
    s = np.tile([0.0, 0, 1], (n, 36, 1))
    return synthetic(s, np.tile(np.array(field, dtype=float), (n, 36, 1)))


def test_field_errors_by_hand():
    """Exact (1, 0, 5), found (1/2, 1/2, 4), spin along z."""
    data = along_z((1, 0, 5))
    errors = training.field_errors(data, along_z((0.5, 0.5, 4)).local_field)
    assert errors["field_mse"] == pytest.approx((0.25 + 0.25 + 1) / 3)
    assert errors["torque_mse"] == pytest.approx((0.25 + 0.25) / 3)
    assert errors["torque_r2"] == pytest.approx(1 - 0.5 / 1)
    assert errors["torque_correlation"] == pytest.approx(0.5)


def test_field_errors_of_the_truth_and_of_nothing(snapshots):
    data = snapshots[1]
    perfect = training.field_errors(data, data.local_field)
    assert (perfect["field_mse"], perfect["torque_r2"]) == (0, 1)
    along = (data.local_field * data.spins).sum(-1, keepdims=True) * data.spins
    no_torque = training.field_errors(data, along + 1e-30 * data.local_field)
    assert no_torque["torque_r2"] == pytest.approx(0, abs=1e-9)
    assert no_torque["field_mse"] == pytest.approx(no_torque["torque_mse"])


def test_data_scales_by_hand():
    data = along_z((1, 0, 5))
    data.local_field[1] = [0, 2, 7]
    scales = training.data_scales(replace(data, energy=np.array([3.0, 7.0])))
    assert scales.transverse == pytest.approx((1 + 4) / 2 / 3)
    assert scales.longitudinal == pytest.approx(1)
    assert scales.energy == pytest.approx(4)


def test_energy_error_is_per_site(snapshots):
    ff = force_field().double()
    s = snapshots[1].spins
    shifted = synthetic(s, ff.local_field(s), ff.energy(s) + 36 * np.array([3.0, 4.0] * 4))
    assert training.evaluate(ff, shifted)["energy_rms"] == pytest.approx(np.sqrt(12.5))


@pytest.mark.parametrize("shape", [(6, 8), (4, 9)])
def test_snapshots_of_an_oblong_lattice(shape):
    """4 x 9 sites are as many as 6 x 6: the lattice of the data counts, not their number."""
    ff = force_field().double()
    lat = lattice.square(*shape)
    s = spins.random(2 * lat.n_sites, seed=0).reshape(2, lat.n_sites, 3)
    field, energy = ff.on(lat).local_field(s), ff.on(lat).energy(s)
    own = synthetic(s, field, energy, replace(MODEL, lattice=lat))
    errors = training.evaluate(ff, own)
    assert errors["field_mse"] < 1e-20
    assert errors["energy_rms"] < 1e-10
    np.testing.assert_allclose(training.predict(ff, own), field, atol=1e-12)
    history = training.train(ff, own, TrainingSettings(2, learning_rate=1e-3))
    assert np.isfinite(history[-1]["loss"])


@pytest.mark.parametrize("kind", ["square", "triangular"])
def test_pair_exchange_finds_the_couplings_of_a_heisenberg_model(kind):
    lat = getattr(lattice, kind)(6)
    model = SDModel(lat, 1.0, 0.5)
    couplings = (0.7, -0.3, 0.2)

    def heisenberg(seed):
        s = spins.random(3 * 36, seed).reshape(3, 36, 3)
        field = sum(J * s[:, lat.neighbors(k)].sum(2) for k, J in enumerate(couplings, start=1))
        return synthetic(s, field + 5 * s, model=model)

    known, unknown = heisenberg(0), heisenberg(1)
    found = training.pair_exchange_field(known, unknown, n_shells=3)
    expected = spins.transverse(unknown.spins, unknown.local_field)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    fewer = training.pair_exchange_field(known, unknown, n_shells=2)
    assert 0 < training.field_errors(unknown, fewer)["torque_r2"] < 0.99


def test_pair_exchange_explains_part_of_the_exact_torque(snapshots):
    """Three shells reach R2 near 0.8 on random states of this model (30 x 30)."""
    field = training.pair_exchange_field(*snapshots)
    assert 0.6 < training.field_errors(snapshots[1], field)["torque_r2"] < 0.95


def test_the_zero_of_the_energy_is_that_of_the_training_data(snapshots, trained):
    """Fields leave it open; the mean energy fixes it."""
    ff, data = trained[0], snapshots[0]
    found = np.mean([ff.energy(s) for s in data.spins])
    assert found == pytest.approx(data.energy.mean(), abs=36 * 1e-5)


def test_the_card_tells_data_and_errors(snapshots, trained):
    ff, _ = trained
    card = training.card(ff, *snapshots, SETTINGS, remark="a test")
    assert json.loads(json.dumps(card)) == card
    assert card["held_out_errors"] == training.evaluate(ff, snapshots[1])
    baseline = training.pair_exchange_field(*snapshots)
    assert card["pair_exchange_errors"] == training.field_errors(snapshots[1], baseline)
    described = copy.copy(ff)
    described.card = card
    text = training.card_text(described)
    for word in ("a test", "J = 6.0", "0.485", "24 snapshots", "8 snapshots"):
        assert word in text
    assert f"torque_r2 | {card['held_out_errors']['torque_r2']:.3g}" in text


TRIANGULAR = SDModel(lattice.triangular(6), 6.0, 0.485, electron_kT=0.05)
ONE_EPOCH = TrainingSettings(1)


@functools.cache
def two(model=MODEL):
    """Two random states."""
    return dataset.random_states(model, 2, seed=0)


@laws.bad_input(
    {
        "epochs": (lambda: TrainingSettings(0), "n_epochs", 0),
        "batch": (lambda: TrainingSettings(1, batch_size=0), "batch_size", 0),
        "rate": (lambda: TrainingSettings(1, learning_rate=-1e-3), "learning_rate", -0.001),
        "rate nan": (lambda: TrainingSettings(1, learning_rate=np.nan), "learning_rate", "nan"),
        "weight": (lambda: TrainingSettings(1, energy_weight=-1), "energy_weight", -1),
        "nothing to train on": (
            lambda: training.train(force_field(), two().select(slice(0, 0)), ONE_EPOCH),
            "training",
        ),
        "another lattice": (
            lambda: training.train(force_field(), two(TRIANGULAR), ONE_EPOCH),
            "triangular",
            "square",
        ),
        "another model": (
            lambda: training.train(
                force_field(replace(MODEL, exchange_coupling=3.0)), two(), ONE_EPOCH
            ),
            "training",
        ),
        "evaluate another lattice": (
            lambda: training.evaluate(force_field(), two(TRIANGULAR)),
            "triangular",
            "square",
        ),
        "field shape": (
            lambda: training.field_errors(two(), two().local_field[:1]),
            "field",
            "(1, 36, 3)",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
