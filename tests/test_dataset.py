"""Labelled snapshots: made reproducibly, stored whole or not at all, split by trajectory."""

import functools
import os
from dataclasses import replace

import h5py
import laws
import numpy as np
import pytest
import xarray

from sdml import dataset, dynamics, exact, kpm, lattice, spins
from sdml.dataset import DIMENSIONS
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel

MODEL = SDModel(lattice.triangular(4), 3.0, 0.25, electron_kT=0.05, zeeman=(0, 0, 0.1))
EQUATION = LandauLifshitz(dt=0.5, damping=0.2, kT=0.01)


@pytest.fixture(scope="module")
def snapshots():
    """Two random states and two quenches of three frames."""
    quenches = [dataset.quench(MODEL, EQUATION, (0, 1, 2.5), seed) for seed in (5, 6)]
    return dataset.join([dataset.random_states(MODEL, 2, seed=0), *quenches])


def assert_same(a, b):
    for name in DIMENSIONS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (a.model, a.provenance) == (b.model, b.provenance)


def test_labels_are_the_exact_state(snapshots):
    for k in (0, 1, 4, 7):
        state = exact.solve(MODEL, snapshots.spins[k])
        for name in ("energy", "local_field", "density", "chemical_potential"):
            np.testing.assert_array_equal(getattr(snapshots, name)[k], getattr(state, name))


def test_the_chemical_potential_holds_the_electrons(snapshots):
    """Filled to it, the levels of every snapshot hold 2 N filling electrons."""
    assert snapshots.chemical_potential.shape == (len(snapshots),)
    assert np.ptp(snapshots.chemical_potential) > 1e-3
    for s, mu, density in zip(
        snapshots.spins, snapshots.chemical_potential, snapshots.density, strict=True
    ):
        fixed = replace(MODEL, filling=None, chemical_potential=mu)
        np.testing.assert_allclose(exact.solve(fixed, s).density, density, atol=1e-10)


def test_a_fixed_chemical_potential_is_that_of_every_snapshot(tmp_path):
    model = replace(MODEL, filling=None, chemical_potential=-1.5)
    data = dataset.random_states(model, 3, seed=0)
    np.testing.assert_array_equal(data.chemical_potential, [-1.5, -1.5, -1.5])
    dataset.save(data, tmp_path / "data.h5")
    assert_same(dataset.load(tmp_path / "data.h5"), data)


def test_labels_can_be_written_to(snapshots):
    """Torch warns of arrays that cannot."""
    assert snapshots.chemical_potential.flags.writeable
    assert dataset.random_states(MODEL, 1, seed=0).chemical_potential.flags.writeable


def test_random_states_are_trajectories_of_their_own():
    data = dataset.random_states(MODEL, 3, seed=0)
    assert len(set(data.trajectory.tolist())) == 3
    assert np.abs(data.spins[0] - data.spins[1]).max() > 0.1
    assert_same(data, dataset.random_states(MODEL, 3, seed=0))
    assert np.abs(data.spins - dataset.random_states(MODEL, 3, seed=1).spins).max() > 0.1


def test_a_quench_is_the_trajectory_of_its_seed():
    data = dataset.quench(MODEL, EQUATION, (0, 1, 2.5), seed=5)
    start = spins.random(16, seed=5)
    np.testing.assert_array_equal(data.spins[0], start)
    np.testing.assert_array_equal(data.time, [0, 1, 2.5])
    for frame, n_steps in ((1, 2), (2, 5)):
        expected = dynamics.integrate(
            start, lambda s: exact.solve(MODEL, s).local_field, 0.5, n_steps, 0.2, 0.01, seed=5
        )
        np.testing.assert_array_equal(data.spins[frame], expected)
    assert set(data.trajectory.tolist()) == {5}


def test_a_quench_runs_with_its_method_and_names_it():
    """From frame to frame, so that the second of two steps is one of Adams and Bashforth."""
    for method in sorted(dynamics.METHODS):
        equation = replace(EQUATION, kT=0.0, method=method)
        data = dataset.quench(MODEL, equation, (0, 1), seed=5)
        settings = {"dt": 0.5, "n_steps": 2, "damping": 0.2, "method": method}
        start = spins.random(16, seed=5)
        expected = dynamics.integrate(
            start, lambda s: exact.solve(MODEL, s).local_field, **settings
        )
        np.testing.assert_array_equal(data.spins[1], expected)
        assert data.provenance["quenches"][0]["method"] == method
    by_adams = dataset.quench(MODEL, replace(EQUATION, kT=0.0, method="adams"), (0, 1), seed=5)
    by_sib = dataset.quench(MODEL, replace(EQUATION, kT=0.0), (0, 1), seed=5)
    assert np.abs(by_adams.spins[1] - by_sib.spins[1]).max() > 1e-6


def test_a_quench_is_reproducible():
    first, second, other = (dataset.quench(MODEL, EQUATION, (0, 1), seed) for seed in (5, 5, 6))
    assert_same(first, second)
    assert np.abs(first.spins[1] - other.spins[1]).max() > 0.1


def scaled(model, s, factor=1.0):
    state = exact.solve(model, s)
    return replace(state, local_field=factor * state.local_field)


def partial_of(n_moments):
    return functools.partial(kpm.solve, n_moments=n_moments, n_probes=4)


SOLVERS = {
    "lambda": (lambda m, s: scaled(m, s), lambda m, s: scaled(m, s, 1.01)),
    "argument": (functools.partial(scaled), functools.partial(lambda m, s: scaled(m, s, 0.99))),
}


@pytest.mark.parametrize("solver, other", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("kept", [1, 2])
def test_an_unnamed_solver_goes_on_with_its_own_labels_only(tmp_path, solver, other, kept):
    path, times = tmp_path / "quench.h5", (0, 1)
    whole = dataset.quench(MODEL, replace(EQUATION, kT=0.0), times, 5, solver)
    begun = whole.select(slice(kept))
    dataset._save_begun(begun, path, None, complete=kept == 2)
    asked = MODEL, replace(EQUATION, kT=0.0), times, 5
    laws.assert_refused(lambda: dataset.quench(*asked, other, path=path), "quench.h5", "solver")
    assert_same(dataset.quench(*asked, solver, path=path), whole)


def test_a_solver_of_random_probes_goes_on_with_its_labels(tmp_path):
    path = tmp_path / "quench.h5"
    for _ in range(2):
        dataset.quench(MODEL, EQUATION, (0, 1), 5, partial_of(32), path=path)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_seeds_of_numpy_are_stored_as_numbers(tmp_path, kind):
    path = tmp_path / "quench.h5"
    found = dataset.quench(MODEL, EQUATION, (0, 1), kind(5), path=path)
    assert_same(found, dataset.quench(MODEL, EQUATION, (0, 1), 5, path=path))
    states = dataset.random_states(MODEL, 2, kind(5))
    dataset.save(states, tmp_path / "states.h5")
    assert_same(dataset.load(tmp_path / "states.h5"), dataset.random_states(MODEL, 2, 5))


def test_states_of_a_generator_bear_its_number():
    states = dataset.random_states(MODEL, 2, np.random.default_rng(1))
    assert_same(states, dataset.random_states(MODEL, 2, states.provenance["random_seed"]))


def test_a_set_has_memory_of_its_own(snapshots):
    given = np.stack([spins.random(16, 0), spins.random(16, 1)])
    made = dataset.label(MODEL, given, [0, 1], [0.0, 0.0])
    given[0] = 0
    assert np.abs(made.spins[0]).max() > 0
    part = snapshots.select(slice(2))
    assert not np.shares_memory(part.spins, snapshots.spins)


@pytest.mark.parametrize("times", [(0.1, 0.2, 0.3), (0, 0.1), (1, 5, 5.2), (0.5, 0.5001)])
def test_times_of_one_step_are_refused(times):
    laws.assert_refused(
        lambda: dataset.quench(MODEL, EQUATION, times, seed=5), "save_times", "dt = 0.5", times
    )


def test_a_time_that_comes_twice_counts_once():
    assert len(dataset.quench(MODEL, EQUATION, (1, 0, 1.0, 1 + 1e-13), seed=5)) == 2


def test_save_times_are_the_nearest_steps():
    data = dataset.quench(MODEL, EQUATION, (0.6, 1.9), seed=5)
    np.testing.assert_array_equal(data.time, [0.5, 2.0])


def test_a_split_holds_out_whole_trajectories(snapshots):
    training, validation = dataset.split(snapshots, held_out=[5, -2])
    assert len(training) + len(validation) == len(snapshots) == 8
    assert set(validation.trajectory.tolist()) == {5, -2}
    assert set(training.trajectory.tolist()) == {6, -1}
    both = np.concatenate([training.spins, validation.spins])
    assert {s.tobytes() for s in both} == {s.tobytes() for s in snapshots.spins}
    for name in DIMENSIONS:
        expected = getattr(snapshots, name)[snapshots.trajectory == 6]
        np.testing.assert_array_equal(getattr(training, name)[training.trajectory == 6], expected)


def test_round_trip(snapshots, tmp_path):
    dataset.save(snapshots, tmp_path / "new" / "data.h5")
    assert_same(dataset.load(tmp_path / "new" / "data.h5"), snapshots)
    assert os.listdir(tmp_path / "new") == ["data.h5"]


def test_xarray_opens_a_store(snapshots, tmp_path):
    dataset.save(snapshots, tmp_path / "data.h5")
    with xarray.open_dataset(tmp_path / "data.h5", engine="h5netcdf") as opened:
        assert dict(opened.sizes) == {"snapshot": 8, "site": 16, "component": 3}
        assert opened["local_field"].dims == ("snapshot", "site", "component")
        assert opened["local_field"].attrs["units"] == "t"
        assert opened["time"].attrs["units"] == "hbar/t"
        assert opened["chemical_potential"].dims == ("snapshot",)
        assert opened["chemical_potential"].attrs["units"] == "t"
        for name in DIMENSIONS:
            np.testing.assert_array_equal(opened[name], getattr(snapshots, name))


def test_a_store_names_its_engine(snapshots):
    for solver in (exact.solve, functools.partial(exact.solve, device="cpu")):
        data = dataset.label(MODEL, snapshots.spins[:1], [0], [0.0], solver)
        assert data.provenance["engine"] == "sdml.exact"


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_stores_are_refused(snapshots, tmp_path, kept):
    path = tmp_path / "data.h5"
    dataset.save(snapshots, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    laws.assert_refused(lambda: dataset.load(path), "path", "data.h5")


def test_missing_foreign_and_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["spins"] = np.zeros((2, 16, 3))
    (tmp_path / "text.h5").write_text("spins")
    for name in ("missing.h5", "foreign.h5", "text.h5"):
        laws.assert_refused(lambda name=name: dataset.load(tmp_path / name), "path", name)


def test_stores_of_the_first_format_are_refused(snapshots, tmp_path):
    """They have no chemical potential."""
    path = tmp_path / "data.h5"
    dataset.save(snapshots, path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "sdml-snapshots-1"
        del file["chemical_potential"]
    laws.assert_refused(lambda: dataset.load(path), "data.h5", dataset.FILE_FORMAT)


@pytest.mark.parametrize("missing", ["spins", "time", "chemical_potential", "model", "provenance"])
def test_incomplete_stores_are_refused(snapshots, tmp_path, missing):
    path = tmp_path / "data.h5"
    dataset.save(snapshots, path)
    with h5py.File(path, "a") as file:
        holder = file.attrs if missing in file.attrs else file
        del holder[missing]
    laws.assert_refused(lambda: dataset.load(path), "path", "data.h5", missing)


def test_stores_of_another_shape_are_refused(snapshots, tmp_path):
    path = tmp_path / "data.h5"
    dataset.save(snapshots, path)
    with h5py.File(path, "a") as file:
        del file["energy"]
        file["energy"] = np.zeros(5)
    laws.assert_refused(lambda: dataset.load(path), "data.h5")


@pytest.mark.parametrize("failing", ["description", "rename"])
def test_a_failed_save_leaves_the_old_store_and_nothing_else(
    snapshots, tmp_path, monkeypatch, failing
):
    path = tmp_path / "data.h5"
    dataset.save(snapshots, path)
    before = path.read_bytes()

    def break_off(*arguments):
        raise OSError("disk full")

    if failing == "rename":
        monkeypatch.setattr(os, "replace", break_off)
    provenance = {"notes": object()} if failing == "description" else {}
    with pytest.raises((TypeError, OSError)):
        dataset.save(replace(snapshots, provenance=provenance), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["data.h5"]


OTHER = SDModel(lattice.triangular(4), 2.0, 0.25, electron_kT=0.05)


@functools.cache
def two():
    """Two random states."""
    return dataset.random_states(MODEL, 2, seed=0)


@laws.bad_input(
    {
        "field shape": (
            lambda: replace(two(), local_field=two().local_field[:1]),
            "local_field",
            "(1, 16, 3)",
        ),
        "chemical potential": (
            lambda: replace(two(), chemical_potential=two().chemical_potential[:1]),
            "chemical_potential",
            "(2,)",
            "(1,)",
        ),
        "sites": (lambda: replace(two(), spins=two().spins[:, :9]), "spins", "(2, 9, 3)"),
        "spins nan": (lambda: replace(two(), spins=np.nan * two().spins), "spins", "nan"),
        "spins not unit": (lambda: replace(two(), spins=2 * two().spins), "spins"),
        "label": (
            lambda: dataset.label(MODEL, 2 * two().spins, [0, 1], [0, 0]),
            "spins",
            "deviation is 1",
        ),
        "held out": (lambda: dataset.split(two(), held_out=[-1, 7]), "held_out", 7),
        "models": (lambda: dataset.join([two(), dataset.random_states(OTHER, 1, seed=0)]), "parts"),
        "no parts": (lambda: dataset.join([]), "parts"),
        "no times": (lambda: dataset.quench(MODEL, EQUATION, (), seed=0), "save_times"),
        "times": (lambda: dataset.quench(MODEL, EQUATION, (-1, 1), seed=0), "save_times", -1),
        "time nan": (lambda: dataset.quench(MODEL, EQUATION, (0, np.nan), 0), "save_times", "nan"),
        "seed": (lambda: dataset.quench(MODEL, EQUATION, (0, 1), True), "seed", True),
        "no seed": (lambda: dataset.random_states(MODEL, 1, None), "seed", None),
        "no snapshots": (lambda: dataset.random_states(MODEL, 0, seed=0), "n_snapshots", 0),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
