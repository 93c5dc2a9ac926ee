"""Long runs: the store, resuming bit for bit, and stopping on a field that is not finite."""

import os
from dataclasses import replace

import h5py
import laws
import numpy as np
import pytest
import torch
import xarray

from sdml import dynamics, exact, kpm, lattice, observables, simulation, spins
from sdml.dynamics import METHODS, LandauLifshitz
from sdml.model import SDModel
from sdml.simulation import store

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

    expected = 0
    for n_steps, done, known in ((12, 12, 2), (20, 8, 1), (20, 0, 1)):
        run(tmp_path / "run.h5", local_field=counted, n_steps=n_steps)
        expected += 2 * done + known  # the field is known by its values, compared in every call
        assert len(calls) == expected


OTHERS = {
    "larger": lambda s: 1.001 * heisenberg(s),
    "another": lambda s: -heisenberg(s),
    "uniaxial": lambda s: heisenberg(s) + s * s.new_tensor([0.0, 0.0, 0.02]),
    "local": lambda s: heisenberg(s) + torch.eye(16)[:, :1].to(s) * 0.1,
}
STARTS = {"random": START, "neel": spins.neel(LATTICE)}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("n_steps", [20, 30, 10])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.filterwarnings("ignore:n_steps")
def test_a_run_goes_on_in_its_own_field_only(tmp_path, start, n_steps, other):
    """Complete, made longer or shorter than its store, which has been made longer before."""
    path, given = tmp_path / "run.h5", {"spins": start}
    for length in (4, 20):
        run(path, **given, n_steps=length)
    before = path.read_bytes()
    asked = {**given, "local_field": other, "n_steps": n_steps}
    laws.assert_refused(lambda: run(path, **asked), "path", "run.h5", "local_field")
    assert path.read_bytes() == before
    run(path, **given, n_steps=n_steps)


def test_a_store_that_knows_nothing_of_its_field_is_read_only(tmp_path):
    path = tmp_path / "run.h5"
    whole = run(path)
    with h5py.File(path, "a") as file:
        del file.attrs["field"]
    laws.assert_refused(lambda: run(path), "path", "run.h5", "earlier version")
    assert_same_run(simulation.load(path), whole)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_run_measures_what_it_was_begun_with(tmp_path, start):
    """An observable of the same name; along x both are 0 at the start of a Neel state."""
    path = tmp_path / "run.h5"
    given = {"spins": start, "observables": MEASURED | {"m": lambda _, s: s[:, 0].mean()}}
    other = given["observables"] | {"m": lambda _, s: s[:, 1].mean()}
    for n_steps in (10, 20):
        run(path, **given, n_steps=n_steps)
        with pytest.raises(ValueError, match=r"run.h5.*different in observables\['m'\]:"):
            run(path, **given | {"observables": other})


def test_rows_that_are_nan_or_infinite_or_noise_are_those_of_the_run(tmp_path):
    rng = np.random.default_rng(0)
    measured = {
        "nan": lambda _, s: s[:2, 0] * np.nan,
        "infinite": lambda _, s: torch.tensor([1.0, torch.inf, -torch.inf]),
        "complex": lambda _, s: s[:, 0] + 1j * s[:, 1],
        "noise": lambda _, s: rng.standard_normal(100),
        "nothing": lambda _, s: s[:0, 0],
    }
    for n_steps in (10, 20, 20):
        run(tmp_path / "run.h5", observables=measured, n_steps=n_steps)
    finite = measured | {"infinite": lambda _, s: torch.tensor([1.0, 5.0, -torch.inf])}
    laws.assert_refused(
        lambda: run(tmp_path / "run.h5", observables=finite), "run.h5", "observables['infinite']"
    )


def test_a_field_of_random_probes_is_known_within_its_noise(tmp_path):
    """Two vectors: the field errs by more than a tenth of itself, otherwise at every call."""
    model = SDModel(LATTICE, 2.0, filling=0.4, electron_kT=0.1)

    def field(coupling, seed):
        rng = np.random.default_rng(seed)
        given = replace(model, exchange_coupling=coupling)
        return lambda s: kpm.solve(given, s, 32, 8, seed=rng).local_field

    path, asked = tmp_path / "run.h5", {"equation": EQUATION, "observables": None}
    for seed, n_steps in ((1, 4), (2, 8), (3, 8)):
        run(path, local_field=field(2.0, seed), n_steps=n_steps, **asked)
    for other in (field(8.0, 4), lambda s: 4 * field(2.0, 5)(s)):
        laws.assert_refused(
            lambda given=other: run(path, local_field=given, n_steps=8, **asked), "local_field"
        )


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_a_seed_may_be_any_whole_number(tmp_path, kind):
    assert_same_run(run(tmp_path / "a.h5", seed=kind(7)), run(tmp_path / "b.h5"))
    assert simulation.Settings(seed=(kind(3), 4)).seeds == [3, 4]


def test_a_run_of_a_generator_is_known_by_the_number_it_gives(tmp_path):
    for make in (lambda: torch.Generator().manual_seed(5), lambda: np.random.default_rng(5)):
        path = tmp_path / f"{type(make()).__module__}.h5"
        found = run(path, seed=make(), n_steps=8)
        seed = found.header["seed"]
        assert_same_run(run(path, seed=make()), run(tmp_path / f"{seed}.h5", seed=seed))


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


@pytest.mark.parametrize("method", dynamics.METHODS)
def test_an_engine_that_refuses_nan_does_not_hide_it(tmp_path, method):
    """Its ValueError about the spins is not what has gone wrong."""
    breaking = broken_after(100 if method == "midpoint" else 20)

    def guarded(s):
        return breaking(spins.as_tensor(s))

    equation = replace(WARM, method=method)
    with pytest.raises(FloatingPointError, match=r"spins: not finite.* the run ends at step"):
        run(tmp_path / "run.h5", local_field=guarded, equation=equation, checkpoint_every=100)
    kept, whole = simulation.load(tmp_path / "run.h5"), run(tmp_path / "w.h5", equation=equation)
    assert kept.step > 0
    np.testing.assert_array_equal(kept.frames, whole.frames[: len(kept.frames)])


def test_an_error_of_the_engine_itself_comes_as_it_is(tmp_path):
    def wrong(s):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match=r"^no such model$"):
        run(tmp_path / "run.h5", local_field=wrong)


@pytest.mark.parametrize("culprit", ["report", "observables"])
def test_an_error_of_the_user_about_files_loses_nothing(tmp_path, culprit):
    """Only an error of the store itself says that it cannot be written."""
    calls = []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise BrokenPipeError("nobody listens")
        return 0.0

    changes = {"report": fails} if culprit == "report" else {"observables": {"x": fails}}
    with pytest.raises(BrokenPipeError, match="nobody listens"):
        run(tmp_path / "run.h5", checkpoint_every=100, **changes)
    assert simulation.load(tmp_path / "run.h5").step == (12 if culprit == "report" else 8)


def test_noise_does_not_go_on_on_another_device(tmp_path):
    """What a store of a run on a GPU holds, as far as that can be had without one."""
    path = tmp_path / "run.h5"
    for name, equation in (("cold.h5", EQUATION), ("run.h5", WARM)):
        run(tmp_path / name, n_steps=8, equation=equation)
        with h5py.File(tmp_path / name, "a") as file:
            file.attrs["device"] = "cuda:0"
    before = path.read_bytes()
    laws.assert_refused(lambda: run(path), "path", "run.h5", "cuda:0", "cpu")
    assert path.read_bytes() == before
    assert run(path, n_steps=8).step == 8, "it can be read"
    assert run(tmp_path / "cold.h5", equation=EQUATION).step == 20, "without noise all is well"
    with h5py.File(path, "a") as file:
        found = store.latest(file)
        file.attrs["device"] = "cpu"
        del file["checkpoint/generators"]
        file["checkpoint/generators"] = np.zeros((2, 1, 16), np.uint8)
        sixteen = replace(found, generators=np.zeros((1, 16), np.uint8))
        file["checkpoint/commits"][:] = store._signed(sixteen)
    laws.assert_refused(lambda: run(path), "path", "run.h5", "cpu")


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


def test_a_batch_of_seeds_equals_one_run_a_seed(tmp_path):
    """Bit for bit: spins, frames, observables; also of functions of one configuration only."""
    starts, seeds = [spins.random(16, seed=k) for k in range(3)], [5, 6, 7]
    measured = MEASURED | {
        "largest": lambda lat, s: int(observables.cluster_sizes(lat, s, smallest=1)[0])
    }
    for method in METHODS:
        options = {"equation": replace(WARM, method=method), "observables": measured}
        together = run(
            tmp_path / f"{method}.h5",
            spins=np.stack(starts),
            seed=seeds,
            local_field=lambda s: -s[..., NEIGHBORS, :].sum(-2),
            **options,
        )
        for k, seed in enumerate(seeds):
            path = tmp_path / f"{method}_{seed}.h5"
            alone = run(path, spins=starts[k], seed=seed, **options)
            np.testing.assert_array_equal(together.spins[k], alone.spins)
            np.testing.assert_array_equal(together.frames[:, k], alone.frames)
            for name, values in alone.observables.items():
                np.testing.assert_array_equal(together.observables[name][:, k], values)


def test_a_batch_resumes_bit_for_bit(tmp_path):
    options = {"spins": np.stack([START, -START]), "seed": [1, 2]}
    options["local_field"] = lambda s: -s[..., NEIGHBORS, :].sum(-2)
    whole = run(tmp_path / "whole.h5", **options)
    run(tmp_path / "parts.h5", n_steps=8, **options)
    assert_same_run(run(tmp_path / "parts.h5", **options), whole)


def test_a_schedule_is_the_temperature_at_the_middle_of_every_step(tmp_path):
    found = run(tmp_path / "run.h5", equation=EQUATION, schedule=[(0.5, 0.4), (1.5, 0.0)])
    s, rng = torch.as_tensor(START), torch.Generator().manual_seed(7)
    for step in range(20):
        kT = float(np.interp(0.1 * (step + 0.5), [0.5, 1.5], [0.4, 0.0]))
        s = dynamics.evolve(s, heisenberg, [replace(EQUATION, kT=kT)], rng)
    np.testing.assert_array_equal(found.spins, s)
    assert found.header["schedule"] == [[0.5, 0.4], [1.5, 0.0]]
    constant = run(tmp_path / "constant.h5", equation=EQUATION, schedule=[(0.0, 0.3)])
    np.testing.assert_array_equal(constant.frames, run(tmp_path / "warm.h5").frames)


def test_observables_and_frames_have_their_own_times(tmp_path):
    whole = run(tmp_path / "whole.h5", save_every=1)
    steps = simulation.logarithmic_steps(20, per_decade=4)
    assert steps == [0, 1, 2, 3, 6, 10, 18, 20]
    found = run(tmp_path / "run.h5", save_every=steps, frames_every=8)
    np.testing.assert_allclose(found.time, 0.1 * np.array(steps))
    np.testing.assert_allclose(found.frame_time, [0, 0.8, 1.6])
    np.testing.assert_array_equal(found.frames, whole.frames[::8])
    np.testing.assert_array_equal(found.observables["neel"], whole.observables["neel"][steps])
    np.testing.assert_array_equal(found.spins, whole.spins)
    run(tmp_path / "parts.h5", save_every=steps[:5], frames_every=8, n_steps=9)
    assert_same_run(run(tmp_path / "parts.h5", save_every=steps, frames_every=8), found)
    laws.assert_refused(
        lambda: run(tmp_path / "run.h5", save_every=[4, 40], frames_every=8, n_steps=40),
        "another run",
        "save_every",
    )


@pytest.mark.parametrize("length", [1, 4, 7, 12, 20])
@pytest.mark.parametrize("every", [None, 4], ids=["frames too", "frames every 4"])
def test_a_run_at_times_of_a_logarithm_can_be_made_longer(tmp_path, length, every):
    """The row at the old end goes, unless the longer run has it as well."""

    def of_length(path, n_steps):
        steps = simulation.logarithmic_steps(n_steps, per_decade=4)
        return run(path, save_every=steps, frames_every=every, n_steps=n_steps)

    whole = of_length(tmp_path / "whole.h5", 30)
    short = of_length(tmp_path / "parts.h5", length)
    assert short.time[-1] == pytest.approx(0.1 * length)
    of_length(tmp_path / "parts.h5", 22)
    longer = of_length(tmp_path / "parts.h5", 30)
    assert_same_run(longer, whole)
    np.testing.assert_array_equal(longer.spins, whole.spins)
    with pytest.warns(UserWarning, match=f"n_steps: {length} are asked for, .*to step 30"):
        assert_same_run(of_length(tmp_path / "parts.h5", length), whole)


def test_lists_that_differ_before_the_end_are_other_runs(tmp_path):
    path = tmp_path / "run.h5"
    run(path, save_every=[1, 4, 9], n_steps=9)
    for other in ([1, 9, 20], [1, 3, 4, 20], [1, 4, 8, 20]):
        call = lambda other=other: run(path, save_every=other)  # noqa: E731
        laws.assert_refused(call, "path", "save_every")
    brief = tmp_path / "brief.h5"  # has nothing to give at step 9
    run(brief, save_every=[1, 4], frames_every=3, n_steps=9)
    call = lambda: run(brief, save_every=[1, 4, 9], frames_every=3)  # noqa: E731
    laws.assert_refused(call, "path", "save_every")
    laws.assert_refused(lambda: run(path, save_every=[1, 4], n_steps=9), "path", "save_every")


def test_a_shorter_run_is_not_cut_out_of_a_longer_one_without_a_word(tmp_path):
    whole = run(tmp_path / "run.h5")
    with pytest.warns(UserWarning, match=r"n_steps: 10 are asked for, .*'run.h5'.* to step 20"):
        assert_same_run(run(tmp_path / "run.h5", n_steps=10), whole)


def test_packed_frames_lose_digits_and_the_run_none(tmp_path):
    whole = run(tmp_path / "whole.h5")
    packed = run(tmp_path / "packed.h5", frame_dtype="float16")
    with h5py.File(tmp_path / "packed.h5") as file:
        np.testing.assert_array_equal(file["frames"], whole.frames.astype(np.float16))
    np.testing.assert_allclose(np.linalg.norm(packed.frames, axis=-1), 1, atol=3e-7)
    np.testing.assert_array_equal(packed.spins, whole.spins)
    np.testing.assert_allclose(packed.frames, whole.frames, atol=5e-4)


def test_the_length_of_the_spins_is_watched(tmp_path):
    assert run(tmp_path / "run.h5").guard["norm_drift"].max() < 1e-15
    single = run(tmp_path / "single.h5", spins=START.astype(np.float32))
    assert 0 < single.guard["norm_drift"].max() < 2e-7


@pytest.mark.parametrize("asked, shown", [(True, True), (False, False), (None, False)])
def test_progress_is_for_people(tmp_path, capsys, asked, shown):
    run(tmp_path / "run.h5", progress=asked)
    assert ("spin-steps" in capsys.readouterr().err) == shown


@laws.bad_input(
    {
        "no seeds": ({"seed": []}, "spins", "(16, 3)"),
        "one start": ({"seed": [1, 2]}, "spins", "(16, 3)", "[1, 2]"),
        "twice": ({"spins": np.stack([START] * 2), "seed": [1, 1]}, "seed", "[1, 1]"),
        "frames_every": ({"frames_every": 0}, "frames_every", 0),
        "frame_dtype": ({"frame_dtype": "int8"}, "frame_dtype", "int8"),
        "listed": ({"save_every": [-1, 2]}, "save_every", "[-1, 2]"),
        "times": ({"equation": EQUATION, "schedule": [(1, 0), (0, 1)]}, "schedule"),
        "cold": ({"equation": EQUATION, "schedule": [(1, -0.5)]}, "schedule", -0.5),
        "pairs": ({"equation": EQUATION, "schedule": [1, 2, 3]}, "schedule"),
        "no seed": ({"seed": None}, "seed", None, "whole number"),
        "half a seed": ({"seed": 1.5}, "seed", 1.5),
        "true": ({"seed": True}, "seed", True),
        "text": ({"seed": "12"}, "seed", "'12'"),
        "some seeds": ({"spins": np.stack([START] * 2), "seed": [1, None]}, "seed", "[1, None]"),
        "object": ({"provenance": {"by": object}}, "provenance['by']", "object"),
        "not finite": ({"provenance": {"a": 1, "b": [np.nan]}}, "provenance['b']", "nan"),
        "two temperatures": ({"schedule": [(0, 1)]}, "equation", 0.3),
    }
)
def test_bad_options_are_refused_and_write_nothing(tmp_path, call, mentioned):
    laws.assert_refused(lambda: run(tmp_path / "run.h5", **call), *mentioned)
    assert os.listdir(tmp_path) == []


def test_an_unknown_keyword_is_named_beside_those_there_are(tmp_path):
    with pytest.raises(TypeError, match=r"^save: .*'observables', 'seed', 'checkpoint_every'"):
        run(tmp_path / "run.h5", save=3)
    assert os.listdir(tmp_path) == []


@laws.bad_input(
    {
        "checkpoint_every": ({"checkpoint_every": 0}, "checkpoint_every", 0),
        "frames_every": ({"frames_every": [-1, 2]}, "frames_every", "[-1, 2]"),
        "frame_dtype": ({"frame_dtype": "int8"}, "frame_dtype", "int8", "float16"),
        "seed": ({"seed": [1, 1]}, "seed", "[1, 1]"),
        "schedule": ({"schedule": [(0, -1.0)]}, "schedule", -1.0),
        "provenance": ({"provenance": {"by": object}}, "provenance['by']", "object"),
    }
)
def test_settings_know_what_is_allowed(call, mentioned):
    laws.assert_refused(lambda: simulation.Settings(**call), *mentioned)


def test_an_equation_of_numbers_of_numpy_is_stored(tmp_path):
    equation = LandauLifshitz(np.float32(0.5), np.int64(1))
    assert run(tmp_path / "run.h5", equation=equation).header["equation"]["damping"] == 1


def test_numbers_of_numpy_tell_where_a_run_comes_from(tmp_path):
    origin = {"a": np.float32(0.5), "b": np.arange(3), "c": {"d": (np.int64(2), "e")}}
    for _ in range(2):
        found = run(tmp_path / "run.h5", provenance=origin)
        assert found.header["provenance"] == {"a": 0.5, "b": [0, 1, 2], "c": {"d": [2, "e"]}}
    plain = found.header["provenance"]
    assert run(tmp_path / "run.h5", provenance=plain).step == 20


@pytest.mark.parametrize("names", [("x", "x_1"), ("x_1", "x"), ("x", "x_1", "x_1_")])
def test_an_observable_may_be_called_like_the_axis_of_another(tmp_path, names):
    measured = {"x": lambda lat, s: s[:5].sum(-1), "x_1": lambda lat, s: s[0]}
    measured["x_1_"] = lambda lat, s: s[1, 0]
    found = run(tmp_path / "run.h5", observables={name: measured[name] for name in names})
    with xarray.open_dataset(tmp_path / "run.h5", engine="h5netcdf", group="observables") as opened:
        assert set(opened.data_vars) == set(names)
        assert opened["x"].shape == (11, 5)
        for name in names:
            np.testing.assert_array_equal(opened[name], found.observables[name])


def test_an_observable_may_work_in_place(tmp_path):
    def lost(_, s):
        s.zero_()
        return 0.0

    found = [
        run(tmp_path / f"{name}.h5", observables=of)
        for name, of in {"without": {}, "with": {"lost": lost}}.items()
    ]
    np.testing.assert_array_equal(found[0].spins, found[1].spins)
    np.testing.assert_array_equal(found[0].frames, found[1].frames)


def test_an_observable_keeps_what_follows_a_whole_number(tmp_path):
    """A mean that is 0 at the start, and numbers of Python in all their digits."""
    seen = iter([0, 0.7, 0.1 + 1e-12])
    found = simulation.quench(
        tmp_path / "run.h5", LATTICE, START, heisenberg, EQUATION, 2, 1,
        observables={"mean": lambda lat, s: next(seen)}, seed=np.int64(3),
    )  # fmt: skip
    assert found.observables["mean"].tolist() == [0, 0.7, 0.1 + 1e-12]
    assert found.header["seed"] == 3
