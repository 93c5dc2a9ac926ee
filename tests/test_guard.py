"""The guard of a run: what it reads, when it warns, when it stops."""

import warnings

import laws
import numpy as np
import pytest
import torch

from sdml import simulation, spins
from sdml.descriptor.raw import RawBondEnvironment
from sdml.dynamics import LandauLifshitz
from sdml.forcefield import ForceField, potential
from sdml.forcefield.committee import Calibration, Committee
from sdml.lattice import square
from sdml.model import SDModel
from sdml.simulation.guard import Guard, OutsideTrainedRange

LATTICE = square(12)
MODEL = SDModel(LATTICE, 6.0, 0.5)
START = torch.as_tensor(spins.random(144, seed=0), dtype=torch.float32)
N_STEPS = 12


def untrained(seed):
    return ForceField(MODEL, RawBondEnvironment("square", 1.0, 1.0), (4,), seed)


def trained_on(*states, seed=0):
    """Weights that know the spread of their features in these states."""
    field, data = untrained(seed), torch.stack([torch.as_tensor(s) for s in states])
    zeros = torch.zeros(len(data))
    field.standardize(data, zeros, torch.zeros(data.shape[:-1]), zeros)
    return field


KNOWING = trained_on(*(spins.random(144, seed=k) for k in range(6)))
ORDERED = trained_on(*(spins.perturbed(spins.neel(LATTICE), 0.05, seed=k) for k in range(3)))
COMMITTEE = Committee([trained_on(START, seed=k) for k in (1, 2, 3)], Calibration())


def run(path, guard, start=START, **changes):
    arguments = {"n_steps": N_STEPS, "save_every": 3, "guard": guard} | changes
    field = guard.forcefield.field
    return simulation.quench(path, LATTICE, start, field, LandauLifshitz(0.05, 0.3), **arguments)


def test_readings_are_those_of_the_force_field(tmp_path):
    found = run(tmp_path / "run.h5", Guard(COMMITTEE, warn_above=1.0))
    for k, frame in enumerate(found.frames):
        outside = (COMMITTEE.extrapolation(frame) > 1).mean()
        np.testing.assert_allclose(found.guard["outside"][k], outside, atol=1e-12)
        spread = np.sqrt((COMMITTEE.spread(frame).astype(float) ** 2).mean())
        np.testing.assert_allclose(found.guard["spread"][k], spread, rtol=1e-5)
        energy = COMMITTEE.energy(frame) / 144
        np.testing.assert_allclose(found.guard["energy_per_site"][k], energy, rtol=1e-5, atol=1e-6)
    drift = found.guard["energy_per_site"] - found.guard["energy_per_site"][0]
    np.testing.assert_allclose(found.guard["energy_drift"], drift, atol=1e-12)
    assert np.diff(drift).max() < 1e-6


def test_readings_are_asked_for_once(monkeypatch):
    """One evaluation of the descriptor and one check of the spins."""
    calls = {"features": 0, "as_tensor": 0}

    def count(place, name):
        original = getattr(place, name)

        def counted(*arguments):
            calls[name] += 1
            return original(*arguments)

        monkeypatch.setattr(place, name, counted)

    count(ForceField, "features")
    count(potential, "as_tensor")
    guard = Guard(COMMITTEE, spread_limit=0.1)
    assert set(guard.readings(START.double())) == {"energy_per_site", "outside", "spread"}
    assert calls == {"features": 1, "as_tensor": 1}


def test_a_run_within_the_range_is_quiet(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(tmp_path / "run.h5", Guard(KNOWING, warn_above=0.2, stop_above=0.5))
    assert found.step == N_STEPS
    assert found.guard["outside"].max() <= 0.2


def test_a_run_outside_warns_once(tmp_path):
    with pytest.warns(UserWarning) as caught:
        found = run(tmp_path / "run.h5", Guard(ORDERED))
    share = f"{100 * found.guard['outside'][0]:.3g} %"
    assert [str(w.message) for w in caught if "guard" in str(w.message)] == [
        f"guard: {share} of the sites are outside the trained range at step 0, expected are 1 %"
    ]
    assert found.guard["outside"].min() > 0.5


def test_a_run_outside_stops_and_stays_stopped(tmp_path):
    """From order, which is known, warm spins leave the range; the store ends where they do."""
    path, start = tmp_path / "run.h5", spins.perturbed(spins.neel(LATTICE), 0.03, seed=9)
    guard = Guard(ORDERED, warn_above=1.0, stop_above=0.3)
    options = {"start": torch.as_tensor(start).float(), "schedule": [(0.0, 3.0)], "n_steps": 120}
    for _ in range(2):
        with pytest.raises(OutsideTrainedRange, match=r"[0-9] % of the sites .* allowed are 30 %"):
            run(path, guard, **options)
        kept = simulation.load(path)
        assert 0 < kept.step < 120
        assert kept.guard["outside"][-1] > 0.3
        assert kept.guard["outside"][:-1].max() <= 0.3
    going_on = run(path, Guard(ORDERED, warn_above=1.0), **options)
    whole = run(tmp_path / "whole.h5", Guard(ORDERED, warn_above=1.0), **options)
    np.testing.assert_array_equal(going_on.spins, whole.spins)


def test_members_that_differ_are_outside(tmp_path):
    limit = float(COMMITTEE.spread(START).median())
    guard = Guard(COMMITTEE, warn_above=1.0, spread_limit=limit)
    assert 0.4 < float(guard.readings(START)["outside"]) <= 1.0
    with pytest.raises(OutsideTrainedRange, match="step 0"):
        run(tmp_path / "run.h5", Guard(COMMITTEE, stop_above=0.3, spread_limit=limit))
    assert simulation.load(tmp_path / "run.h5").step == 0


def test_a_batch_has_readings_a_seed(tmp_path):
    both = torch.stack([START, torch.as_tensor(spins.neel(LATTICE)).float()])
    found = run(tmp_path / "run.h5", Guard(ORDERED, warn_above=1.0), both, seed=[1, 2])
    assert found.guard["outside"].shape == (5, 2)
    assert found.guard["outside"][0, 0] > 0.5 > found.guard["outside"][0, 1]


def test_weights_that_do_not_know_their_range_say_so(tmp_path):
    with pytest.warns(UserWarning, match="whitening is None.*not recorded"):
        found = run(tmp_path / "run.h5", Guard(untrained(1)))
    assert set(found.guard) == {"norm_drift", "energy_drift", "energy_per_site"}
    laws.assert_refused(lambda: Guard(untrained(1), stop_above=0.1), "stop_above", 0.1, "whitening")


@laws.bad_input(
    {
        "warn": ({"warn_above": 2.0}, "warn_above", 2.0),
        "stop": ({"stop_above": -0.1}, "stop_above", -0.1),
        "alone": ({"spread_limit": 0.1}, "spread_limit", "committee"),
    }
)
def test_limits_that_are_not_allowed(call, mentioned):
    laws.assert_refused(lambda: Guard(KNOWING, **call), *mentioned)
    if "spread_limit" not in call:
        laws.assert_refused(lambda: simulation.Limits(**call), *mentioned)
