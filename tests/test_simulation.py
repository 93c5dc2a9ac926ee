"""Long runs: the store, resuming bit for bit, and stopping on a field that is not finite."""

import os
from dataclasses import replace

import h5py
import laws
import numpy as np
import pytest
import torch
import xarray

from sdml import dynamics, exact, lattice, observables, simulation, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel

LATTICE = lattice.square(4)
START = spins.random(16, seed=0)
EQUATION = LandauLifshitz(dt=0.1, damping=0.2)
WARM = replace(EQUATION, kT=0.3)
NEIGHBORS = torch.as_tensor(LATTICE.neighbors())
MEASURED = {
    "neel": observables.neel_order,
    "chirality": observables.site_chirality,
}


def heisenberg(s):
    return -s[NEIGHBORS].sum(1)


def run(path, **changes):
    """A run of 20 steps, five frames apart, unless changed."""
    arguments = {
        "lattice": LATTICE,
        "spins": START,
        "local_field": heisenberg,
        "equation": WARM,
        "n_steps": 20,
        "save_every": 2,
        "observables": MEASURED,
        "seed": 7,
        "checkpoint_every": 2,
    }
    return simulation.quench(path, **(arguments | changes))


def assert_same_run(found, expected):
    assert found.header == expected.header
    np.testing.assert_array_equal(found.time, expected.time)
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert found.observables.keys() == expected.observables.keys()
    for name, values in expected.observables.items():
        np.testing.assert_array_equal(found.observables[name], values)


def checkpoint(path):
    """The spins in full precision."""
    return simulation.load(path).spins


@pytest.mark.parametrize("equation", [EQUATION, WARM], ids=["kT = 0", "kT > 0"])
def test_a_run_is_the_trajectory_of_the_integrator(tmp_path, equation):
    found = run(tmp_path / "run.h5", equation=equation)
    np.testing.assert_allclose(found.time, np.arange(0, 2.1, 0.2))
    seed = 7 if equation.kT else None
    for frame in (0, 1, 10):
        s = dynamics.integrate(
            START, heisenberg, 0.1, 2 * frame, equation.damping, equation.kT, seed
        )
        np.testing.assert_array_equal(found.frames[frame], s.astype(np.float32))
        neel = observables.neel_order(LATTICE, s)
        assert found.observables["neel"][frame] == neel
        np.testing.assert_array_equal(
            found.observables["chirality"][frame], observables.site_chirality(LATTICE, s)
        )
    np.testing.assert_array_equal(checkpoint(tmp_path / "run.h5"), s)


@pytest.mark.parametrize("equation", [EQUATION, WARM], ids=["kT = 0", "kT > 0"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stop", [2, 8, 14, 20])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, equation, dtype, stop):
    start = START.astype(dtype)
    whole = run(tmp_path / "whole.h5", equation=equation, spins=start)

    def interrupt(step):
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.h5", equation=equation, spins=start, report=interrupt)
    resumed = run(tmp_path / "cut.h5", equation=equation, spins=start)
    assert_same_run(resumed, whole)
    np.testing.assert_array_equal(
        checkpoint(tmp_path / "cut.h5"), checkpoint(tmp_path / "whole.h5")
    )


def test_resuming_does_not_repeat_what_is_done(tmp_path):
    calls = []

    def counted(s):
        calls.append(1)
        return heisenberg(s)

    run(tmp_path / "run.h5", local_field=counted, n_steps=12)
    first = len(calls)
    run(tmp_path / "run.h5", local_field=counted)
    assert len(calls) == first * 20 / 12
    run(tmp_path / "run.h5", local_field=counted)
    assert len(calls) == first * 20 / 12


def test_a_run_can_be_made_longer(tmp_path):
    whole = run(tmp_path / "whole.h5")
    run(tmp_path / "parts.h5", n_steps=6)
    assert_same_run(run(tmp_path / "parts.h5"), whole)


def test_how_often_the_store_is_written_does_not_matter(tmp_path):
    expected = run(tmp_path / "a.h5")
    for every in (1, 3, 100):
        assert_same_run(run(tmp_path / f"{every}.h5", checkpoint_every=every), expected)


def test_a_run_of_no_steps_holds_the_start(tmp_path):
    found = run(tmp_path / "run.h5", n_steps=0)
    np.testing.assert_array_equal(found.frames, START[None].astype(np.float32))
    assert_same_run(simulation.load(tmp_path / "run.h5"), found)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"seed": 8}, "seed"),
        ({"equation": replace(WARM, dt=0.05)}, "equation"),
        ({"equation": replace(WARM, method="heun")}, "equation"),
        ({"spins": spins.random(16, seed=1)}, "start"),
        ({"spins": START.astype(np.float32)}, "dtype"),
        ({"save_every": 4}, "save_every"),
        ({"observables": {"neel": observables.neel_order}}, "observables"),
        ({"lattice": lattice.square(2, 8), "observables": MEASURED}, "lattice"),
    ],
    ids=["seed", "dt", "method", "start", "dtype", "save_every", "observables", "lattice"],
)
def test_a_store_of_another_run_is_refused_and_kept(tmp_path, changes, named):
    path = tmp_path / "run.h5"
    run(path)
    before = path.read_bytes()
    laws.assert_refused(lambda: run(path, **changes), "path", "run.h5", named)
    assert path.read_bytes() == before


def broken_after(n_calls):
    """A field that becomes nan."""
    calls = []

    def field(s):
        calls.append(1)
        return heisenberg(s) * (float("nan") if len(calls) > n_calls else 1)

    return field


def test_a_field_that_is_not_finite_stops_the_run_and_keeps_the_last_good_store(tmp_path):
    path = tmp_path / "run.h5"
    whole = run(tmp_path / "whole.h5")
    with pytest.raises(FloatingPointError, match="14"):
        run(path, local_field=broken_after(2 * 13))
    kept = simulation.load(path)
    assert kept.time[-1] >= 0.8
    assert len(kept.frames) == len(kept.time)
    np.testing.assert_array_equal(kept.frames, whole.frames[: len(kept.frames)])
    assert sorted(os.listdir(tmp_path)) == ["run.h5", "whole.h5"]
    # With the field repaired the run goes on as if nothing had happened.
    assert_same_run(run(path), whole)


def test_a_run_that_breaks_early_keeps_its_good_frames(tmp_path):
    """Also before the first regular checkpoint."""
    with pytest.raises(FloatingPointError):
        run(tmp_path / "run.h5", local_field=broken_after(2 * 9), checkpoint_every=100)
    kept = simulation.load(tmp_path / "run.h5")
    np.testing.assert_allclose(kept.time, [0, 0.2, 0.4, 0.6, 0.8])


def test_a_failed_write_leaves_the_last_store_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    run(path, n_steps=8)
    before = path.read_bytes()

    def break_off(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", break_off)
    with pytest.raises(OSError, match="disk full"):
        run(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]


def test_xarray_opens_a_run(tmp_path):
    found = run(tmp_path / "run.h5")
    with xarray.open_dataset(tmp_path / "run.h5", engine="h5netcdf") as opened:
        assert opened["frames"].dims[0] == "time"
        np.testing.assert_array_equal(opened["frames"], found.frames)
        assert opened["time"].attrs["units"] == "hbar/t"
    with xarray.open_dataset(tmp_path / "run.h5", engine="h5netcdf", group="observables") as opened:
        np.testing.assert_array_equal(opened["neel"], found.observables["neel"])


def test_a_run_tells_what_it_was(tmp_path):
    header = run(tmp_path / "run.h5").header
    assert header["seed"] == 7
    assert header["equation"] == {"dt": 0.1, "damping": 0.2, "kT": 0.3, "method": "sib"}
    assert header["lattice"]["shape"] == [4, 4]


def test_tensors_and_electrons_drive_a_run(tmp_path):
    model = SDModel(LATTICE, 6.0, 0.5)
    found = run(
        tmp_path / "run.h5",
        spins=torch.as_tensor(START),
        local_field=lambda s: exact.solve(model, s).local_field,
        equation=LandauLifshitz(dt=0.2, damping=0.5),
        observables={"energy": lambda lat, s: exact.solve(model, s).energy},
    )
    energies = found.observables["energy"]
    assert (np.diff(energies) < 0).all()
    assert energies[0] == exact.solve(model, START).energy


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_stores_are_refused(tmp_path, kept):
    path = tmp_path / "run.h5"
    run(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for call in (lambda: simulation.load(path), lambda: run(path)):
        laws.assert_refused(call, "path", "run.h5")


@pytest.mark.parametrize(
    "missing, action",
    [
        ("checkpoint", run),
        ("frames", run),
        ("header", run),
        ("frames", simulation.load),
        ("time", simulation.load),
        ("header", simulation.load),
    ],
)
def test_incomplete_stores_are_refused(tmp_path, missing, action):
    path = tmp_path / "run.h5"
    run(path)
    with h5py.File(path, "a") as file:
        holder = file.attrs if missing in file.attrs else file
        del holder[missing]
    laws.assert_refused(lambda: action(path), "path", "run.h5")


def test_missing_and_foreign_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["frames"] = np.zeros((2, 16, 3))
    for name in ("foreign.h5", "missing.h5"):
        laws.assert_refused(lambda name=name: simulation.load(tmp_path / name), "path", name)


@laws.bad_input(
    {
        "nan": ({"spins": np.full((16, 3), np.nan)}, "spins", "nan"),
        "sites": ({"spins": START[:9]}, "spins", "(9, 3)"),
        "steps": ({"n_steps": 21}, "n_steps", 21),
        "negative": ({"n_steps": -2}, "n_steps", -2),
        "save_every": ({"save_every": 0}, "save_every", 0),
        "checkpoint_every": ({"checkpoint_every": 0}, "checkpoint_every", 0),
        "batch": ({"spins": np.stack([START, START])}, "spins", "(2, 16, 3)"),
    }
)
def test_bad_input_is_refused_and_writes_nothing(tmp_path, call, mentioned):
    laws.assert_refused(lambda: run(tmp_path / "run.h5", **call), *mentioned)
    assert os.listdir(tmp_path) == []
