"""Training: it learns, it is reproducible, and its numbers mean what they say."""

import copy
import functools
import json
from dataclasses import replace

import laws
import numpy as np
import pytest
import torch

from sdml import dataset, evaluation, forcefield, lattice, spins, training
from sdml.dataset import Dataset
from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor.moments import MomentEnvironment
from sdml.forcefield import ForceField
from sdml.model import SDModel
from sdml.training import TrainingRun, TrainingSettings

MODEL = SDModel(lattice.square(6), 6.0, 0.485, electron_kT=0.05)
ENVIRONMENT = SymmetryEnvironment("square", bond_radius=2.0, pair_radius=1.0)
MOMENTS = MomentEnvironment("square", radius=2, n_steps=4, exchange_coupling=6.0)
SETTINGS = TrainingSettings(n_epochs=30, batch_size=4, learning_rate=1e-2, seed=3)


def force_field(model=MODEL, seed=0):
    return ForceField(model, ENVIRONMENT, hidden_widths=(16,), seed=seed)


def grand_canonical(seed=0):
    return ForceField(MODEL, MOMENTS, (16,), seed, grand_canonical=True)


every_force_field = pytest.mark.parametrize("made", [force_field, grand_canonical])


def weights_of(ff):
    """All weights and scales, one after the other."""
    return torch.cat([w.double().ravel() for w in ff.state_dict().values()])


@pytest.fixture(scope="module")
def snapshots():
    """24 random states to train on and 8 to validate."""
    return dataset.split(dataset.random_states(MODEL, 32, seed=0), held_out=range(-32, -24))


@pytest.fixture(scope="module")
def trained(snapshots):
    """A force field and the history of its training."""
    ff = force_field()
    return ff, training.train(ff, snapshots[0], SETTINGS, validation=snapshots[1])


def synthetic(states, field, energy=None, model=MODEL, density=None, mu=None):
    """Snapshots with fields that no electrons made."""
    n, zeros = len(states), np.zeros(len(states))
    return Dataset(
        model,
        states,
        field,
        np.zeros((n, states.shape[1])) if density is None else density,
        zeros if energy is None else energy,
        zeros if mu is None else mu,
        np.arange(n),
        zeros,
    )


def test_training_lowers_the_loss_and_beats_no_field(snapshots, trained):
    ff, history = trained
    assert [record["epoch"] for record in history] == list(range(1, 31))
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    errors = evaluation.evaluate(ff, snapshots[1])
    assert errors["torque_r2"] > 0.2
    assert errors["torque_r2"] == pytest.approx(history[-1]["torque_r2"])
    assert errors["field_mse"] < 0.5 * snapshots[1].local_field.var()


@every_force_field
def test_the_same_seed_gives_the_same_weights(snapshots, made):
    settings = replace(SETTINGS, n_epochs=3)
    weights = []
    for seed in (3, 3, 4):
        ff = made()
        training.train(ff, snapshots[0], replace(settings, seed=seed))
        weights.append(weights_of(ff))
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
        for name in ("spins", "local_field", "energy", "density", "chemical_potential")
    }


def own_labels(ff, s, mu=None):
    """Snapshots on which the force field makes no error, at its own chemical potential or mu."""
    if not ff.grand_canonical:
        return synthetic(s, ff.local_field(s), ff.energy(s))
    states, given = torch.as_tensor(s), torch.full((len(s), 1), mu, dtype=torch.float64)
    with torch.no_grad():
        density = ff._density(ff.first_layer(ff.features(states)), given[:, 0]).numpy()
        energy = ff(states, given).numpy()
    field = ff.field(states, mu=given).numpy()
    return synthetic(s, field, energy, density=density, mu=given[:, 0].numpy())


def prepared(made, data):
    """A force field in double precision with the scales of a data set and random weights."""
    ff = made().double()
    tensors = batch_of(data)
    longitudinal = (tensors["local_field"] * tensors["spins"]).sum(-1)
    ff.standardize(tensors["spins"], tensors["energy"], longitudinal, tensors["chemical_potential"])
    return ff


@every_force_field
def test_a_force_field_has_no_loss_on_its_own_labels(snapshots, made):
    ff, s = prepared(made, snapshots[0]), snapshots[0].spins[:4]
    scales = training.data_scales(snapshots[0])
    settings = TrainingSettings(1, energy_weight=1.0)
    found = training.loss(ff, batch_of(own_labels(ff, s, mu=-6.0)), scales, settings)
    assert found.item() < 1e-20


@pytest.mark.parametrize(
    "made, term",
    [
        (force_field, "transverse"),
        (force_field, "longitudinal"),
        (force_field, "energy"),
        (force_field, "density"),
        (grand_canonical, "transverse"),
        (grand_canonical, "longitudinal"),
        (grand_canonical, "energy"),
        (grand_canonical, "density"),
    ],
)
def test_each_term_of_the_loss(snapshots, made, term):
    """Errors put by hand into the labels of a force field are what the loss measures."""
    ff, s = prepared(made, snapshots[0]), snapshots[0].spins[:4]
    across = spins.transverse(s, np.broadcast_to([1.0, 2.0, 3.0], s.shape))
    shift = {"transverse": 0.1 * across, "longitudinal": 0.2 * s}.get(term, 0)
    own = own_labels(ff, s, mu=-6.0)
    labels = replace(
        own,
        local_field=own.local_field + shift,
        energy=own.energy + 3 * (term == "energy"),
        density=own.density + 0.3 * (term == "density"),
    )
    scales = training.Scales(transverse=0.5, longitudinal=0.25, energy=2.0, density=0.1)
    weights = {"transverse": 2.0, "longitudinal": 3.0, "energy": 5.0, "density": 7.0}
    expected = {
        "transverse": 2 * 0.1**2 * (across**2).mean() / 0.5,
        "longitudinal": 3 * 0.2**2 / 0.25,
        "energy": 5 * 3**2 / 2,
        "density": 7 * 0.3**2 / 0.1 if ff.grand_canonical else 0,
    }[term]
    settings = TrainingSettings(1, **{f"{name}_weight": w for name, w in weights.items()})
    found = training.loss(ff, batch_of(labels), scales, settings)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-20)


@every_force_field
def test_slope_of_the_loss_in_the_weights(snapshots, made):
    """Differentiating a field that is itself a derivative, against central differences."""
    ff = prepared(made, snapshots[0])
    batch, scales = batch_of(snapshots[0].select(slice(0, 3))), training.data_scales(snapshots[0])
    settings = TrainingSettings(1, energy_weight=0.1)
    weights = list(ff.parameters())
    training.loss(ff, batch, scales, settings).backward(inputs=weights)
    for weight in weights:
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
    errors = evaluation.field_errors(data, along_z((0.5, 0.5, 4)).local_field)
    assert errors["field_mse"] == pytest.approx((0.25 + 0.25 + 1) / 3)
    assert errors["torque_mse"] == pytest.approx((0.25 + 0.25) / 3)
    assert errors["torque_r2"] == pytest.approx(1 - 0.5 / 1)
    assert errors["torque_correlation"] == pytest.approx(0.5)


def test_field_errors_of_the_truth_and_of_nothing(snapshots):
    data = snapshots[1]
    perfect = evaluation.field_errors(data, data.local_field)
    assert (perfect["field_mse"], perfect["torque_r2"]) == (0, 1)
    along = (data.local_field * data.spins).sum(-1, keepdims=True) * data.spins
    no_torque = evaluation.field_errors(data, along + 1e-30 * data.local_field)
    assert no_torque["torque_r2"] == pytest.approx(0, abs=1e-9)
    assert no_torque["field_mse"] == pytest.approx(no_torque["torque_mse"])


def test_data_scales_by_hand():
    data = along_z((1, 0, 5))
    data.local_field[1] = [0, 2, 7]
    scales = training.data_scales(replace(data, energy=np.array([3.0, 7.0])))
    assert scales.transverse == pytest.approx((1 + 4) / 2 / 3)
    assert scales.longitudinal == pytest.approx(1)
    assert scales.energy == pytest.approx(4)
    density = np.array([0.8, 1.2]).repeat(36).reshape(2, 36)
    assert training.data_scales(replace(data, density=density)).density == pytest.approx(0.04)


def test_energy_error_is_per_site(snapshots):
    ff = force_field().double()
    s = snapshots[1].spins
    shifted = synthetic(s, ff.local_field(s), ff.energy(s) + 36 * np.array([3.0, 4.0] * 4))
    assert evaluation.evaluate(ff, shifted)["energy_rms"] == pytest.approx(np.sqrt(12.5))


COLLINEAR = [spins.neel(MODEL.lattice), spins.ferromagnetic(MODEL.lattice)]


def collinear(n=4):
    """Exact labels of ordered spins: no torque, and every site like the others."""
    states = np.stack([COLLINEAR[k % 2] for k in range(n)])
    return dataset.label(MODEL, states, np.arange(n), np.zeros(n))


@every_force_field
def test_flat_labels_train_to_finite_weights(tmp_path, made):
    data = collinear()
    assert (data.local_field.std((0, 1)) > 0).any()
    scales = training.data_scales(data)
    assert scales.transverse == 1e-8
    ff = made()
    history = training.train(ff, data, replace(SETTINGS, n_epochs=3), validation=data)
    assert np.isfinite([row["loss"] for row in history]).all()
    assert all("torque_r2" not in row for row in history)
    assert torch.isfinite(weights_of(ff)).all()
    errors = evaluation.evaluate(ff, data)
    assert np.isfinite(list(errors.values())).all()
    assert "torque_r2" not in errors
    forcefield.save(ff, tmp_path / "ff.safetensors")
    ff.card = evaluation.card(ff, data, data, SETTINGS)
    forcefield.save(ff, tmp_path / "ff.safetensors")
    assert forcefield.load(tmp_path / "ff.safetensors").card == json.loads(json.dumps(ff.card))
    assert "transverse R² –" in evaluation.card_text(ff)
    assert "pair exchange" in evaluation.report(ff, data)


def test_one_and_the_same_state_trains_to_finite_weights():
    """All scales at their floors."""
    data = dataset.label(MODEL, np.stack([COLLINEAR[1]] * 2), [0, 1], [0.0, 0.0])
    ff = force_field()
    history = training.train(ff, data, replace(SETTINGS, n_epochs=2, energy_weight=1.0))
    assert np.isfinite(history[-1]["loss"])
    assert torch.isfinite(weights_of(ff)).all()


def test_patience_needs_a_torque_to_wait_for(snapshots):
    settings = replace(SETTINGS, patience=2)
    laws.assert_refused(
        lambda: training.train(force_field(), snapshots[0], settings, collinear()),
        "validation",
        "patience 2",
        "transverse",
    )


@pytest.mark.filterwarnings("ignore:invalid value")  # of labels infinite in single precision
@pytest.mark.parametrize("what", ["energy", "weights"])
def test_a_loss_that_is_no_number_ends_the_training(snapshots, tmp_path, what):
    """Named with its epoch; the weights and the checkpoint are those before."""
    data, path, settings = snapshots[0], tmp_path / "c.safetensors", replace(SETTINGS, n_epochs=3)
    ff = force_field()

    def spoil(row):
        if row["epoch"] == 2:
            with torch.no_grad():
                ff.network[0].weight[0, 0] = torch.nan

    if what == "energy":
        data = replace(data, energy=np.where(np.arange(len(data)) == 5, 1e39, data.energy))
    with pytest.raises(
        FloatingPointError, match=rf"loss: .* epoch {3 if what == 'weights' else 1}"
    ):
        training.train(ff, data, settings, report=spoil, checkpoint=path)
    assert path.exists() == (what == "weights")


def test_steps_that_blow_the_weights_up_are_told(snapshots, monkeypatch):
    """Also in the last epoch, after which no loss is taken."""
    steps = []

    def exploding(self, *_):
        steps.append(1)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(torch.inf)

    monkeypatch.setattr(torch.optim.Adam, "step", exploding)
    settings = replace(SETTINGS, n_epochs=1, batch_size=len(snapshots[0]))
    with pytest.raises(FloatingPointError, match=r"weights: .* epoch 1"):
        training.train(force_field(), snapshots[0], settings)
    assert steps == [1]


@pytest.mark.parametrize("shape", [(6, 8), (4, 9)])
def test_snapshots_of_an_oblong_lattice(shape):
    """4 x 9 sites are as many as 6 x 6: the lattice of the data counts, not their number."""
    ff = force_field().double()
    lat = lattice.square(*shape)
    s = spins.random(2 * lat.n_sites, seed=0).reshape(2, lat.n_sites, 3)
    field, energy = ff.on(lat).local_field(s), ff.on(lat).energy(s)
    own = synthetic(s, field, energy, replace(MODEL, lattice=lat))
    errors = evaluation.evaluate(ff, own)
    assert errors["field_mse"] < 1e-20
    assert errors["energy_rms"] < 1e-10
    np.testing.assert_allclose(evaluation.predict(ff, own), field, atol=1e-12)
    history = training.train(ff, own, TrainingSettings(2, learning_rate=1e-3))
    assert np.isfinite(history[-1]["loss"])


@pytest.mark.parametrize("kind", ["square", "triangular", "lieb"])
def test_pair_exchange_finds_the_couplings_of_a_heisenberg_model(kind):
    """Sites of the Lieb lattice differ in their numbers of neighbors."""
    lat = getattr(lattice, kind)(6)
    model = SDModel(lat, 1.0, 0.5)
    matrix = np.zeros((lat.n_sites, lat.n_sites))
    for shell, coupling in enumerate((0.7, -0.3, 0.2), start=1):
        for i, j in lat.bonds(shell):
            matrix[[i, j], [j, i]] += coupling

    def heisenberg(seed):
        s = spins.random(3 * lat.n_sites, seed).reshape(3, lat.n_sites, 3)
        field = matrix @ s
        return synthetic(s, field + 5 * s, model=model)

    known, unknown = heisenberg(0), heisenberg(1)
    found = evaluation.pair_exchange_field(known, unknown, n_shells=3)
    expected = spins.transverse(unknown.spins, unknown.local_field)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    fewer = evaluation.pair_exchange_field(known, unknown, n_shells=2)
    assert 0 < evaluation.field_errors(unknown, fewer)["torque_r2"] < 0.99


def test_pair_exchange_explains_part_of_the_exact_torque(snapshots):
    """Three shells reach R2 near 0.8 on random states of this model (30 x 30)."""
    field = evaluation.pair_exchange_field(*snapshots)
    assert 0.6 < evaluation.field_errors(snapshots[1], field)["torque_r2"] < 0.95


def test_the_zero_of_the_energy_is_that_of_the_training_data(snapshots, trained):
    """Fields leave it open; the mean energy fixes it."""
    ff, data = trained[0], snapshots[0]
    found = np.mean([ff.energy(s) for s in data.spins])
    assert found == pytest.approx(data.energy.mean(), abs=36 * 1e-5)


def test_the_card_tells_data_and_errors(snapshots, trained):
    ff, _ = trained
    card = evaluation.card(ff, *snapshots, SETTINGS, remark="a test")
    assert json.loads(json.dumps(card)) == card
    assert card["held_out_errors"] == evaluation.evaluate(ff, snapshots[1])
    baseline = evaluation.pair_exchange_field(*snapshots)
    assert card["pair_exchange_errors"] == evaluation.field_errors(snapshots[1], baseline)
    described = copy.copy(ff)
    described.card = card
    text = evaluation.card_text(described)
    for word in ("a test", "J = 6.0", "0.485", "24 snapshots", "8 snapshots"):
        assert word in text
    assert f"transverse R² {card['held_out_errors']['torque_r2']:.3g}" in text
    assert f"| random | 288 | {card['held_out_stages']['random']['torque_mse']:.2e} |" in text


@pytest.fixture(scope="module")
def grand_trained():
    """A grand-canonical force field trained on random states of 8 x 8 sites, and others."""
    model = replace(MODEL, lattice=lattice.square(8))
    data = dataset.split(dataset.random_states(model, 48, seed=0), held_out=range(-48, -40))
    environment = MomentEnvironment("square", radius=3, n_steps=6, exchange_coupling=6.0)
    ff = ForceField(model, environment, (16,), seed=0, grand_canonical=True)
    history = training.train(ff, data[0], SETTINGS, data[1])
    return ff, data, history


def test_a_grand_canonical_force_field_learns_the_density(grand_trained):
    ff, (_, unknown), history = grand_trained
    found = ff.density(unknown.spins)
    np.testing.assert_allclose(found.mean(-1), 2 * 0.485, atol=1e-5)
    error = ((found - unknown.density) ** 2).mean()
    assert error < 0.4 * unknown.density.var()
    assert np.corrcoef(found.ravel(), unknown.density.ravel())[0, 1] > 0.8
    assert history[-1]["torque_r2"] > 0.85


def test_a_grand_canonical_force_field_finds_the_chemical_potential(grand_trained):
    ff, (_, unknown), _ = grand_trained
    found = ff.chemical_potential(unknown.spins)
    assert np.abs(found - unknown.chemical_potential).max() < 0.15
    errors = evaluation.evaluate(ff, unknown)
    # Its own mu costs next to nothing beside the mu of the labels.
    given = evaluation.field_errors(unknown, evaluation.predict(ff, unknown, labeled_mu=True))
    assert errors["torque_r2"] > given["torque_r2"] - 0.02
    assert errors["torque_r2"] == pytest.approx(given["torque_r2"], abs=0.02)


def test_labeled_mu_means_nothing_to_a_canonical_force_field(snapshots, trained):
    ff, data = trained[0], snapshots[1]
    np.testing.assert_array_equal(
        evaluation.predict(ff, data, labeled_mu=True), evaluation.predict(ff, data)
    )


class InterruptedRunError(Exception):
    """What stops a run between two epochs, as the end of the power would."""


def interrupted(ff, data, settings, path, n_epochs):
    """Train, and break off after the checkpoint of an epoch is written."""

    def stop(row):
        if row["epoch"] > n_epochs:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        training.train(ff, data[0], settings, data[1], stop, checkpoint=path)


CHECKPOINTED = replace(SETTINGS, n_epochs=6, averaging=0.9)


@pytest.fixture(scope="module")
def undisturbed(snapshots):
    """Weights and history of a whole run, trained once for each force field and patience."""

    @functools.cache
    def run(made, patience):
        ff = made()
        history = training.train(ff, *swapped(snapshots, replace(CHECKPOINTED, patience=patience)))
        return weights_of(ff), history

    return run


@every_force_field
@pytest.mark.parametrize("done", [1, 3, 5])
@pytest.mark.parametrize("patience", [0, 100])
def test_an_interrupted_run_goes_on_bit_for_bit(
    snapshots, undisturbed, tmp_path, made, done, patience
):
    """Weights, optimizer, learning rate, order of the snapshots, running means, best epoch."""
    settings = replace(CHECKPOINTED, patience=patience)
    (weights, expected), path = undisturbed(made, patience), tmp_path / "run.ckpt"
    interrupted(made(), snapshots, settings, path, done)
    again = made(seed=8)  # its own weights do not matter
    rows = []
    history = training.train(again, snapshots[0], settings, snapshots[1], rows.append, path)
    assert history == expected
    assert [row["epoch"] for row in rows] == list(range(done + 1, 7))
    assert torch.equal(weights_of(again), weights)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_finished_run_is_not_trained_again(snapshots, tmp_path):
    path = tmp_path / "run.ckpt"
    ff, again = force_field(), force_field(seed=5)
    expected = training.train(ff, *swapped(snapshots, CHECKPOINTED), checkpoint=path)
    rows = []
    history = training.train(again, *swapped(snapshots, CHECKPOINTED), rows.append, path)
    assert not rows
    assert history == expected
    assert torch.equal(weights_of(again), weights_of(ff))


def swapped(data, settings):
    """Training set, settings and validation set, in the order of the arguments."""
    return data[0], settings, data[1]


IMPATIENT = TrainingSettings(40, 4, learning_rate=0.1, averaging=0, patience=3)
"""A rate so high that the validation error rises again."""


def few(snapshots):
    """Too few states to train on."""
    return snapshots[0].select(slice(0, 4)), snapshots[1]


def impatient(snapshots, path=None):
    ff = force_field()
    return ff, training.train(ff, *swapped(few(snapshots), IMPATIENT), checkpoint=path)


def test_patience_stops_and_keeps_the_best_epoch(snapshots):
    ff, history = impatient(snapshots)
    scores = [row["torque_r2"] for row in history]
    best = int(np.argmax(scores))
    assert len(history) == best + 1 + 3 < 40
    assert max(scores) > scores[-1]
    assert evaluation.evaluate(ff, snapshots[1])["torque_r2"] == pytest.approx(
        scores[best], abs=1e-6
    )


def test_a_run_stopped_by_patience_stays_so(snapshots, tmp_path):
    ff, history = impatient(snapshots, tmp_path / "run.ckpt")
    again, same = impatient(snapshots, tmp_path / "run.ckpt")
    assert same == history
    assert torch.equal(weights_of(again), weights_of(ff))


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_best_epoch_survives_an_interruption(snapshots, tmp_path, after):
    ff, history = impatient(snapshots)
    interrupted(
        force_field(), few(snapshots), IMPATIENT, tmp_path / "run", len(history) - 3 + after
    )
    again, same = impatient(snapshots, tmp_path / "run")
    assert same == history
    assert torch.equal(weights_of(again), weights_of(ff))


def test_without_patience_the_last_epoch_is_kept(snapshots, trained):
    ff, history = trained
    found = evaluation.evaluate(ff, snapshots[1])["torque_r2"]
    assert found == pytest.approx(history[-1]["torque_r2"], abs=1e-6)


def test_an_epoch_without_a_number_is_never_the_best():
    run = TrainingRun(force_field(), replace(SETTINGS, patience=2), 30)
    for score in (0.1, 0.3, np.nan, np.nan):
        assert not run.finished
        run.close_epoch(1.0, score)
        for mean in run.mean.parameters():
            mean.data += 1
    assert run.finished
    run.finish()
    for weight, start in zip(run.parameters, force_field().parameters(), strict=True):
        torch.testing.assert_close(weight, start + 1)  # as it was in the second epoch


def test_weights_are_averaged_over_the_last_steps(snapshots):
    """The running mean by hand, from the weights after every step."""
    ff = force_field()
    settings = TrainingSettings(3, batch_size=8, averaging=0.8, seed=1)
    steps, means = [], []
    tensors = training._as_tensors(ff, snapshots[0])
    run = TrainingRun(ff, settings, 9)
    update, start = run.mean.update_parameters, weights_of(ff)

    def watched(current):
        update(current)
        steps.append(weights_of(current))
        means.append(weights_of(run.mean.module))

    run.mean.update_parameters = watched
    for _ in range(3):
        run.epoch(tensors, training.data_scales(snapshots[0]))
        run.close_epoch(0.0, None)
    run.finish()
    assert len(steps) == 9
    expected = start
    for k, weights in enumerate(steps, start=1):
        decay = min(0.8, k / (k + 10))
        expected = decay * expected + (1 - decay) * weights
        torch.testing.assert_close(means[k - 1], expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(weights_of(ff), means[-1])
    assert not torch.equal(means[-1], steps[-1])


@pytest.mark.parametrize("n_steps", [1, 2, 9, 10, 11, 100, 1000])
def test_the_rate_rises_over_a_tenth_and_falls_to_zero(n_steps):
    """Whatever the number of steps: 10 once divided by zero."""
    run, rates = TrainingRun(force_field(), SETTINGS, n_steps), []
    for _ in range(n_steps):
        rates.append(run.optimizer.param_groups[0]["lr"] / SETTINGS.learning_rate)
        run.optimizer.step()
        run.scheduler.step()
    warm_up = max(n_steps // 10, 1)
    steps = np.arange(1, n_steps + 1)
    falling = np.cos(np.pi * np.maximum(steps - warm_up, 0) / (n_steps + 1 - warm_up))
    by_hand = np.minimum(steps / warm_up, 1) * (1 + falling) / 2
    np.testing.assert_allclose(rates, by_hand, rtol=1e-12)
    assert abs(run.optimizer.param_groups[0]["lr"]) < 1e-12
    np.testing.assert_allclose(rates[:warm_up], np.arange(1, warm_up + 1) / warm_up)
    assert all(0 < b < a for a, b in zip(rates[warm_up - 1 :], rates[warm_up:], strict=False))
    assert rates[-1] < 0.1 or n_steps < 9
    assert rates[-1] == pytest.approx((np.pi / 2 / (n_steps + 1 - warm_up)) ** 2, rel=0.05) or (
        n_steps < 9
    )


@pytest.fixture
def checkpoint(snapshots, tmp_path):
    """One written in the middle of a run."""
    path = tmp_path / "run.ckpt"
    interrupted(force_field(), snapshots, CHECKPOINTED, path, 2)
    return path


def go_on(snapshots, path, settings=CHECKPOINTED, ff=None):
    training.train(ff or force_field(), *swapped(snapshots, settings), checkpoint=path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoints_are_refused(snapshots, checkpoint, kept):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept * len(content))])
    laws.assert_refused(lambda: go_on(snapshots, checkpoint), "checkpoint", checkpoint.name)


def test_altered_checkpoints_are_refused(snapshots, checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 1
    checkpoint.write_bytes(content)
    laws.assert_refused(lambda: go_on(snapshots, checkpoint), checkpoint.name, "checksum")


def test_foreign_files_are_refused_as_checkpoints(snapshots, tmp_path):
    weights, text = tmp_path / "ff.safetensors", tmp_path / "notes.txt"
    forcefield.save(force_field(), weights)
    text.write_text("epoch 3")
    for path in (weights, text):
        before = path.read_bytes()
        laws.assert_refused(lambda path=path: go_on(snapshots, path), "checkpoint", path.name)
        assert path.read_bytes() == before


def test_checkpoints_of_other_runs_are_refused(snapshots, checkpoint):
    before = checkpoint.read_bytes()
    wider = ForceField(MODEL, ENVIRONMENT, hidden_widths=(17,))
    deeper = ForceField(MODEL, ENVIRONMENT, hidden_widths=(16, 16))
    other = (wider, deeper, grand_canonical(), force_field().double())
    fewer = snapshots[0].select(slice(0, 12)), snapshots[1]
    settings = replace(CHECKPOINTED, learning_rate=2e-3)
    named = "checkpoint", checkpoint.name
    laws.assert_refused(
        lambda: go_on(snapshots, checkpoint, settings), *named, "other settings", 0.01
    )
    laws.assert_refused(lambda: go_on(fewer, checkpoint), *named, "other data")
    learned, judges = snapshots
    turned = 2 * spins.transverse(learned.spins, learned.local_field)
    reversed_torques = replace(learned, local_field=learned.local_field - turned)
    for data in ((reversed_torques, judges), (learned, judges.select(slice(1)))):
        laws.assert_refused(lambda data=data: go_on(data, checkpoint), *named, "other data")
    for ff in other:
        laws.assert_refused(
            lambda ff=ff: go_on(snapshots, checkpoint, ff=ff), *named, "another force field"
        )
    assert checkpoint.read_bytes() == before


def test_a_refused_checkpoint_leaves_the_weights(snapshots, checkpoint):
    ff = force_field(seed=4)
    before = [w.clone() for w in ff.parameters()]
    with pytest.raises(ValueError, match="other settings"):
        go_on(snapshots, checkpoint, replace(CHECKPOINTED, seed=11), ff)
    assert all(torch.equal(a, b) for a, b in zip(ff.parameters(), before, strict=True))


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
        "density weight": (lambda: TrainingSettings(1, density_weight=-2), "density_weight", -2),
        "averaging": (lambda: TrainingSettings(1, averaging=1), "averaging", "[0, 1)", 1),
        "averaging nan": (lambda: TrainingSettings(1, averaging=np.nan), "averaging", "nan"),
        "patience": (lambda: TrainingSettings(1, patience=-1), "patience", -1),
        "patience with nothing to judge by": (
            lambda: training.train(force_field(), two(), TrainingSettings(2, patience=1)),
            "validation",
            "patience 1",
        ),
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
            lambda: evaluation.evaluate(force_field(), two(TRIANGULAR)),
            "triangular",
            "square",
        ),
        "field shape": (
            lambda: evaluation.field_errors(two(), two().local_field[:1]),
            "field",
            "(1, 36, 3)",
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
