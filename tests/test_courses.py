"""Short quenches in memory: the same as the integrator, downhill, and continued at will."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdml import dynamics, forcefield, lattice, observables, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel
from sdml.plotting import explorers

EQUATIONS = {
    "triangular": LandauLifshitz(1.0, 0.3, method="adams"),
    "square": LandauLifshitz(0.5, 0.1, method="adams"),
}
every_kind = pytest.mark.parametrize("kind", EQUATIONS)


@pytest.fixture(scope="module")
def released():
    """The released force fields by kind of lattice."""
    return {kind: forcefield.load(kind) for kind in EQUATIONS}


@every_kind
def test_without_noise_the_energy_falls_and_order_grows(released, kind):
    course = explorers.short_quench(released[kind], 12, EQUATIONS[kind], n_frames=20, seed=1)
    assert (np.diff(course.energy) < 0).all()
    assert course.order[-1] > course.order[0]
    np.testing.assert_allclose(course.time, 5 * EQUATIONS[kind].dt * np.arange(21))


@every_kind
def test_a_course_is_a_run_of_the_integrator(released, kind):
    field, equation = released[kind], LandauLifshitz(0.5, 0.2)
    course = explorers.short_quench(field, 12, equation, n_frames=2, n_steps=3, seed=4)
    start = torch.as_tensor(spins.random(144, 4)).to(field.dtype)
    # To the same marks: at each of them the search for mu begins anew.
    (_, _), (_, found) = dynamics.trajectory(start, field.local_field, equation, [3, 6])
    torch.testing.assert_close(course.spins, found)
    assert course.energy[-1] * 144 == pytest.approx(float(field.energy(found)))
    measure = observables.site_chirality if kind == "triangular" else observables.site_correlation
    np.testing.assert_allclose(course.values, measure(course.lattice, found), rtol=1e-6)
    assert course.order[-1] == pytest.approx(np.abs(course.values).mean())


def test_continuing_keeps_the_past_and_repeats_its_noise(released):
    field, hot = released["square"], LandauLifshitz(0.5, 0.3, kT=0.05)
    begun = explorers.begun(field, 12, 0)
    one, two, other = (
        next(explorers.continued(begun, field, hot, 2, torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.spins, two.spins)
    assert not torch.allclose(one.spins, other.spins, atol=1e-3)
    assert (len(begun.time), len(one.time)) == (1, 2)
    assert one.energy[0] == begun.energy[0]


def test_heat_disorders(released):
    field = released["square"]
    cold = explorers.short_quench(field, 12, LandauLifshitz(0.5, 0.3), n_frames=10)
    warm = LandauLifshitz(0.5, 0.3, kT=0.5)
    hot = next(explorers.continued(cold, field, warm, 10, torch.Generator()))
    assert hot.energy[-1] > cold.energy[-1]
    assert hot.order[-1] < cold.order[-1]


def test_bad_arguments_are_named(released):
    field = released["square"]
    with pytest.raises(ValueError, match=r"^n_steps: must be at least 1, got 0"):
        next(explorers.continued(explorers.begun(field, 12, 0), field, EQUATIONS["square"], 0))
    cell = lattice.from_cell([[1, 0], [0, 2]], [[0, 0]], (4, 4), "oblong")
    other = SimpleNamespace(model=SDModel(cell, 1.0, filling=0.5))
    with pytest.raises(ValueError, match=r"^field: must be of one of .* got 'oblong'"):
        explorers.begun(other, 4, 0)
