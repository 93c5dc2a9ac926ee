"""What the subcommands on labels, force fields and runs do: one function each.

They are called with the parsed arguments. Those on notebooks are in :mod:`sdml.cli.notebooks`.
"""

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sdml import (
    dataset,
    descriptor,
    ensemble,
    evaluation,
    exact,
    files,
    forcefield,
    kpm,
    labelling,
    lattice,
    simulation,
    training,
    workers,
)
from sdml.cli import frames, model_file
from sdml.cli.arguments import SAVE_EVERY
from sdml.dataset import Dataset
from sdml.dynamics import LandauLifshitz
from sdml.forcefield import ForceField, committee
from sdml.model import SDModel

Arguments = argparse.Namespace


# --- labels


def label(given: Arguments) -> None:
    """`sdml label`: make labelled snapshots, one store a quench; what is already there is kept."""
    _set_threads(given)
    random, jobs = _labelling(given)
    for name, labelled in _outcomes(given, jobs):
        if labelled:
            print(f"wrote {name}", flush=True)
    if random is not None and random.gather():
        print("wrote random.h5", flush=True)


def _labelling(given: Arguments) -> tuple[labelling.RandomStates | None, dict[str, workers.Job]]:
    """The random states, if any, and all jobs by name."""
    said = {"--driver": given.driver, "--start": given.start != "random"}
    _refuse({f"{x}: needs --quench-seeds": y and not given.quench_seeds for x, y in said.items()})
    model = _model(given)
    folder = Path(given.output)
    equation = LandauLifshitz(given.dt, given.damping, given.kT)
    if given.driver is not None:
        forcefield.load(given.driver).on(model.lattice)  # refused before the first label
    solver = _solver(given)
    path, random = folder / "random.h5", None
    if given.random:
        random = labelling.RandomStates(path, model, given.random, given.random_seed, solver)
    jobs = dict(random.jobs() if random else {})
    for seed in given.quench_seeds:
        path = folder / f"quench_{seed}.h5"
        times = tuple(given.save_times)
        jobs[path.name] = labelling.QuenchJob(
            path, model, equation, times, seed, given.driver, solver, given.start
        )
    return random, jobs


def _model(given: Arguments) -> SDModel:
    """The model of a file, or of a few options."""
    names = ("lattice", "length", "exchange_coupling", "filling", "electron_kT")
    options = {f"--{name.replace('_', '-')}": getattr(given, name) for name in names}
    said = [name for name, value in options.items() if value is not None]
    if len(said) != (0 if given.model else len(options)):
        raise ValueError(f"--model: needed, or all of {[*options]} without it, got {said}")
    if given.model:
        return model_file.load(given.model)
    return _from_options(SDModel, given, lattice=getattr(lattice, given.lattice)(given.length))


def _of_model(given: Arguments, model: SDModel, holder: str) -> SDModel:
    """That of the file; ValueError unless it is the given one, on a lattice of any shape."""
    asked = model_file.load(given.model)
    alike = asked.lattice.same_crystal(model.lattice)
    if not alike or dataclasses.replace(asked, lattice=model.lattice) != model:
        raise ValueError(f"--model: must be that of the {holder}, {model}, got {asked}")
    return asked


def _solver(given: Arguments) -> Any:
    """The engine of the labels; a seed makes the probes those of every other run."""
    if given.engine == "exact":
        if given.n_moments or given.n_probes:
            raise ValueError("--n-moments, --n-probes: belong to --engine kpm")
        return exact.solve
    return partial(kpm.solve, n_moments=given.n_moments, n_probes=given.n_probes, seed=0)


def gather(given: Arguments) -> None:
    """`sdml gather`: one store of some of the snapshots of many stores."""
    if Path(given.output).resolve() in [Path(path).resolve() for path in given.stores]:
        raise ValueError(f"--output: must not be one of the stores, got {given.output!r}")
    files.require_writable("--output", Path(given.output))
    parts = [dataset.load(path) for path in given.stores]
    thinned = [part.select(slice(None, None, given.every)) for part in parts]
    dataset.save(dataset.join(thinned), given.output)
    print(f"{given.output}: {sum(map(len, thinned))} of {sum(map(len, parts))} snapshots")


# --- force fields


def train(given: Arguments) -> None:
    """`sdml train`: fit force fields to stores and save them with their held-out errors."""
    trained = {"--output": given.output, "--hold-out": given.hold_out, "--judge": given.judge}
    only = bool(given.evaluate)
    _refuse({f"{x}: must not be given beside --evaluate": only and y for x, y in trained.items()})
    _set_threads(given)
    data = dataset.join([dataset.load(path) for path in given.stores])
    if given.model:
        _of_model(given, data.model, "stores")
    if given.evaluate:
        field = forcefield.load(given.evaluate)
        print(evaluation.report(field, data))
        return
    if not given.output or not (given.hold_out or given.judge):
        raise ValueError("--output, and --hold-out or --judge: needed to train, or --evaluate")
    fitted, held_out = dataset.split(data, given.hold_out)
    judged = dataset.join([dataset.load(path) for path in given.judge]) if given.judge else held_out
    numbers = range(1, given.members + 1)
    _require_places(given, numbers)
    if given.judge:
        learned = {state.tobytes() for state in fitted.spins}
        if any(state.tobytes() in learned for state in judged.spins):
            allowed = "must hold no spins that are learned from"
            raise ValueError(f"--judge: {allowed}, got {given.judge}")
    hint = "; the same command goes on from the last checkpoint" if given.checkpoint else ""
    # What cannot be saved after all, on a disk that is full by then.
    unsaved = f"FAILED {given.output}: cannot be saved (", OSError, SafetensorError
    with _stopping("STOPPED ", FloatingPointError), _stopping(*unsaved, end=f"){hint}"):
        members = [_trained(given, number, fitted, held_out, judged) for number in numbers]
        if given.members > 1:
            _calibrate(given, members, judged)


def _require_places(given: Arguments, numbers: Sequence[int]) -> None:
    """The files of all members can be written, and none is another one or one that is read.

    Said before the first epoch, not after the last.
    """
    if len(numbers) > 1:
        committee.require_place(given.output, len(numbers))
    read = [*given.stores, *(given.judge or ()), *([given.model] if given.model else ())]
    taken = {Path(path).resolve() for path in read}
    for number in numbers:
        output = committee.numbered(given.output, number)
        places = [("--output", output), ("--output", _renamed(output, ".md", ".safetensors"))]
        if given.checkpoint:
            places.append(("--checkpoint", committee.numbered(given.checkpoint, number)))
        for argument, place in places:
            files.require_writable(argument, place)
            if place.resolve() in taken:
                allowed = "must be no file that is read, or written for something else"
                raise ValueError(f"{argument}: {allowed}, got {str(place)!r}")
            taken.add(place.resolve())


def _trained(
    given: Arguments, number: int, fitted: Dataset, held_out: Dataset, judged: Dataset
) -> ForceField:
    """Member 1, 2, ... trained, saved and judged; its seed and files go by its number."""
    seed, output = given.seed + number - 1, committee.numbered(given.output, number)
    environment = _environment(given, fitted.model)
    field = forcefield.ForceField(
        fitted.model, environment, given.hidden_widths, seed, given.grand_canonical
    )
    settings = _from_options(training.TrainingSettings, given, seed=seed)
    training.train(
        field,
        fitted,
        settings,
        held_out if given.hold_out else None,
        lambda row: print(row, flush=True),
        committee.numbered(given.checkpoint, number) if given.checkpoint else None,
    )
    forcefield.save(field, output)  # judging can fail, the weights must not be lost
    field.card = evaluation.card(field, fitted, judged, settings, given.remark)
    forcefield.save(field, output)
    files.write_text(_renamed(output, ".md", ".safetensors"), evaluation.card_text(field))
    print(evaluation.card_text(field))
    return field


def _environment(given: Arguments, model: SDModel) -> descriptor.Environment:
    if given.descriptor == "moments":
        return descriptor.MomentEnvironment.for_model(model, given.radius, given.n_steps)
    named = {"symmetry": descriptor.SymmetryEnvironment, "raw": descriptor.RawBondEnvironment}
    return _from_options(named[given.descriptor], given, kind=model.lattice.name)


def _calibrate(given: Arguments, members: Sequence[ForceField], judged: Dataset) -> None:
    """Save the members as a committee that knows its errors, and print how well it does."""
    made = committee.Committee(members).calibrated(judged)
    committee.save(made, given.output)
    print(f"{made.calibration}\n\n{made.reliability(judged).table()}")


# --- runs


def quench(given: Arguments) -> None:
    """`sdml quench`: run a force field to a store, or many seeds; existing runs go on."""
    _require_use(given)
    one = given.seeds is None or given.together
    _require_target(given, one)
    _set_threads(given)
    asked = _quench(given)
    if given.scheduler is None:  # a machine of the cluster may have what this one has not
        ensemble.require_device(given.device)
    with _stopping("STOPPED ", RuntimeError, FloatingPointError, OSError):
        if one:
            seeds = (given.seed or 0) if given.seeds is None else given.seeds
            done = ensemble.quench(given.output, asked, seeds)
            rows = f"{len(done.time)} rows of observables, {len(done.frames)} frames"
            print(f"{given.output}: {rows} to t = {done.step * given.dt:g}")
            return
        for name, step in _outcomes(given, ensemble.jobs(given.output, asked, given.seeds)):
            print(f"{name}: {step} steps", flush=True)


def _require_use(given: Arguments) -> None:
    """ValueError for options that would do nothing beside the others, or without another."""
    guarded = given.guard or given.stop_above is not None
    alone = given.seeds is None
    useless = {
        "--length: must not be given beside --model": bool(given.model and given.length),
        "--together: needs --seeds": given.together and alone,
        "--seed: must not be given beside --seeds": given.seed is not None and not alone,
        "--warn-above: needs --guard or --stop-above": given.warn_above is not None and not guarded,
        "--save-every: must not be given beside --save-per-decade": bool(
            given.save_every and given.save_per_decade
        ),
    }
    for name, used in (("--workers", given.workers > 1), ("--scheduler", bool(given.scheduler))):
        useless[f"{name}: needs --seeds"] = used and alone
        useless[f"{name}: must not be given beside --together, one run"] = used and given.together
    _refuse(useless)


def _refuse(useless: Mapping[str, Any]) -> None:
    for reason, found in useless.items():
        if found:
            raise ValueError(reason)


def _require_target(given: Arguments, one: bool) -> None:
    """One run is a file, runs of their own are in a folder; either may be there already."""
    target = Path(given.output)
    if one and target.is_dir():
        raise ValueError(f"--output: must be a file, the .h5 store, got the folder {str(target)!r}")
    if not one and target.is_file():
        raise ValueError(f"--output: must be a folder for --seeds, got the file {given.output!r}")


def _quench(given: Arguments) -> ensemble.Quench:
    save_every: Any = given.save_every or math.gcd(given.steps, SAVE_EVERY)
    if given.save_per_decade:
        save_every = tuple(simulation.logarithmic_steps(given.steps, given.save_per_decade))
    length: Any = given.length or 48
    if given.model:
        learned = forcefield.load(given.force_field).model
        length = _of_model(given, learned, "force field").lattice.shape
    limits = {"warn_above": given.warn_above, "stop_above": given.stop_above}
    limits = {name: value for name, value in limits.items() if value is not None}
    return ensemble.Quench(
        given.force_field,
        length,
        LandauLifshitz(given.dt, given.damping, given.kT, given.method),
        given.steps,
        save_every,
        simulation.Settings(
            checkpoint_every=given.checkpoint_every,
            schedule=given.schedule,
            frames_every=given.frames_every,
            frame_dtype=given.frame_dtype,
        ),
        observables=given.observables,
        initial=given.initial,
        committee=given.committee,
        guard=simulation.Limits(**limits) if given.guard or limits else None,
        device=given.device,
    )


def export(given: Arguments) -> None:
    """`sdml export`: write the frames of a store for other programs."""
    if not given.vtk:
        raise ValueError("--vtk: needed, there is no other format")
    target = _renamed(given.output or given.store, ".pvd", ".pvd", ".h5", ".hdf5")
    for path in frames.vtk(given.store, target):
        print(f"wrote {path}")


# --- for several commands


def _renamed(path: str | Path, ending: str, *known: str) -> Path:
    """With this ending instead of a known one; any other is part of the name, as in ff_J6.25."""
    name, suffix = os.path.splitext(path)
    return Path((name if suffix in known else str(path)) + ending)


@contextmanager
def _stopping(told: str, *errors: type[Exception], end: str = "") -> Iterator[None]:
    """What has stopped a run, such as its guard, nan or the disk: a line and exit code 1."""
    try:
        yield
    except errors as reason:
        print(f"{told}{reason}{end}", file=sys.stderr)
        sys.exit(1)


def _outcomes(given: Arguments, jobs: Mapping[str, workers.Job]) -> Iterator[tuple[str, Any]]:
    """Name and result of every job, as they end; those that fail are told of: exit code 1."""
    failed: list[str] = []

    def tell(name: str, error: BaseException) -> None:
        # These would stop there again: nothing is gained by the same command.
        stopped = isinstance(error, (simulation.OutsideTrainedRange, FloatingPointError))
        if not stopped:
            failed.append(name)
        word, reason = "STOPPED" if stopped else "FAILED", str(error) or repr(error)
        print(f"{word} {name}: {reason}", file=sys.stderr, flush=True)

    try:
        yield from workers.run(jobs, given.workers, given.scheduler, given.threads, tell)
    except workers.JobError:
        if failed:
            hint = "the same command tries them again, from their last checkpoints"
            print(f"some jobs failed; {hint}", file=sys.stderr)
        sys.exit(1)


def _from_options(settings: Any, given: Arguments, **others: Any) -> Any:
    """A dataclass of settings from the options that have the names of its fields, and others."""
    values = vars(given) | others
    names = (field.name for field in dataclasses.fields(settings))
    return settings(**{name: values[name] for name in names if name in values})


def _set_threads(given: Arguments) -> None:
    if given.threads:
        torch.set_num_threads(given.threads)
