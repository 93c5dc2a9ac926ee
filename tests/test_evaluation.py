"""By what a force field is judged: stages of a quench, errors of the torque, the baseline."""

from dataclasses import replace

import laws
import numpy as np
import pytest

from sdml import evaluation, lattice, spins
from sdml.dataset import Dataset
from sdml.model import SDModel


def snapshots(sites, times, seed=0) -> Dataset:
    """Made-up labels at the given times: random fields, densities 1 but for one hole a frame."""
    rng, shape = np.random.default_rng(seed), (len(times), sites.n_sites)
    states = np.stack([spins.random(sites.n_sites, rng) for _ in times])
    density = np.ones(shape)
    density[:, 0] = 0.5
    return Dataset(
        SDModel(sites, 2.0, filling=0.5),
        states,
        rng.normal(size=(*shape, 3)),
        density,
        energy=np.zeros(len(times)),
        chemical_potential=np.zeros(len(times)),
        trajectory=np.zeros(len(times), dtype=np.int64),
        time=np.array(times, dtype=float),
    )


@pytest.mark.parametrize(
    "kind, boundary", [("triangular", 120.0), ("square", 200.0)], ids=["triangular", "square"]
)
def test_stages_divide_the_frames_by_time(kind, boundary):
    data = snapshots(getattr(lattice, kind)(4), [0.0, boundary - 1, boundary, 2 * boundary])
    stages, found = evaluation.STAGES[kind], evaluation.stage_sites(data)
    frames = {name: chosen.any(1).tolist() for name, chosen in found.items()}
    assert frames["pooled"] == [True] * 4
    assert frames["random"] == [True, False, False, False]
    assert frames[stages.before] == [False, True, False, False]
    assert frames[stages.after] == [False, False, True, True]
    assert ("holes" in found) == (kind == "square")
    if stages.holes:
        np.testing.assert_array_equal(np.argwhere(found["holes"]), [[1, 0], [2, 0], [3, 0]])


def test_frames_without_a_transverse_field_belong_to_no_stage():
    data = snapshots(lattice.square(4), [0.0, 10.0])
    along = (data.local_field * data.spins).sum(-1, keepdims=True) * data.spins
    still = np.where(data.time[:, None, None] > 0, along, data.local_field)
    found = evaluation.stage_sites(replace(data, local_field=still))
    assert set(found) == {"pooled", "random"}
    assert found["pooled"].any(1).tolist() == [True, False]


def test_another_lattice_has_a_start_and_a_quench():
    honeycomb = lattice.from_cell(
        [[np.sqrt(3), 0], [np.sqrt(3) / 2, 1.5]], [[0, 0], [np.sqrt(3) / 2, 0.5]], (2, 2)
    )
    data = snapshots(honeycomb, [0.0, 1.0, 1e4])
    found = evaluation.stage_errors(data, data.local_field)
    assert set(found) == {"pooled", "random", "quench"}
    assert found["quench"]["sites"] == 2 * honeycomb.n_sites


def test_errors_are_those_of_their_definition():
    """Noise of known variance along and across the spins."""
    data, sigma = snapshots(lattice.triangular(30), [0.0]), 0.3
    noise = sigma * np.random.default_rng(1).normal(size=data.local_field.shape)
    found = evaluation.field_errors(data, data.local_field + noise)
    assert found["field_mse"] == pytest.approx(sigma**2, rel=0.1)
    assert found["torque_mse"] == pytest.approx(2 / 3 * sigma**2, rel=0.1)
    assert found["torque_r2"] == pytest.approx(1 - sigma**2, rel=0.02)
    along = 5 * data.spins
    assert evaluation.field_errors(data, data.local_field + along)["torque_r2"] == pytest.approx(1)
    assert "| pooled | 900 |" in evaluation.stage_table(
        evaluation.stage_errors(data, data.local_field)
    )


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_collinear_labels_have_no_r2(noise):
    """Rounding is no signal: what is divided by it would say anything."""
    data = snapshots(lattice.square(4), [0.0, 10.0])
    along = 3.0 * data.spins + noise * data.local_field
    flat, predicted = replace(data, local_field=along), 3.0 * data.spins + 0.1
    errors = evaluation.field_errors(flat, predicted)
    assert errors.keys() == {"sites", "field_mse", "torque_mse"}
    assert errors["field_mse"] == pytest.approx(0.01, rel=1e-6)
    assert all(np.isfinite(value) for value in errors.values())
    table = evaluation.stage_table({"pooled": errors})
    assert table.splitlines()[-1].split(" | ")[4:6] == ["–", "–"]
    # Weak fields with a direction of their own are no rounding.
    weak = replace(data, local_field=1e-6 * data.local_field)
    assert evaluation.field_errors(weak, weak.local_field)["torque_r2"] == 1.0


def test_a_field_without_a_torque_has_no_correlation():
    data = snapshots(lattice.square(4), [0.0])
    errors = evaluation.field_errors(data, 2.0 * data.spins)
    assert errors["torque_r2"] == pytest.approx(0, abs=1e-12)
    assert "torque_correlation" not in errors


def test_no_site_has_no_errors():
    data = snapshots(lattice.square(4), [0.0])
    none = np.zeros(data.density.shape, dtype=bool)
    laws.assert_refused(lambda: evaluation.field_errors(data, data.local_field, none), "sites")
    empty = data.select(slice(0, 0))
    laws.assert_refused(lambda: evaluation.field_errors(empty, empty.local_field), "sites")


def test_pair_exchange_finds_a_field_that_is_one():
    data = snapshots(lattice.square(6), [0.0, 1.0])
    sites = data.model.lattice
    field = sum(j * data.spins[:, sites.neighbors(k)].sum(2) for k, j in ((1, -0.7), (3, 0.2)))
    exact = replace(data, local_field=field)
    found = evaluation.pair_exchange_field(exact, exact)
    assert evaluation.field_errors(exact, found)["torque_r2"] == pytest.approx(1)


def test_stage_fields_are_transverse_and_give_the_errors_of_the_stages():
    data = snapshots(lattice.square(4), [0.0, 10.0, 300.0])
    predicted = data.local_field + np.random.default_rng(1).normal(size=data.local_field.shape)
    found, errors = (
        evaluation.stage_fields(data, predicted),
        evaluation.stage_errors(data, predicted),
    )
    assert list(found) == list(errors)
    for stage, (exact, network) in found.items():
        assert exact.shape == network.shape == (errors[stage]["sites"], 3)
        assert ((network - exact) ** 2).mean() == pytest.approx(errors[stage]["torque_mse"])
