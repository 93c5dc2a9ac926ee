"""The `sdml` command.

One function a subcommand: it declares the arguments and holds the call. What a subcommand needs is
imported when it runs, so that the physics commands work without Jupyter. Only this module prints.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdml import __version__

if TYPE_CHECKING:
    from sdml.dataset import Dataset
    from sdml.forcefield import Environment, ForceField
    from sdml.model import SDModel
    from sdml.profiles import Job
    from sdml.reproduce import Advance, Report

Arguments = argparse.Namespace
Commands = Any  # argparse does not name the type that add_subparsers returns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 on success, 1 if a run failed, 2 for input that is not allowed."""
    # Threads that wait by spinning make small solves a hundred times slower on a busy machine. Read
    # by OpenMP when torch is imported, which no subcommand has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parsed = command_line().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"sdml {parsed.command}: {error}", file=sys.stderr)
        return 2
    return 0


def command_line() -> argparse.ArgumentParser:
    """Parser with all subcommands."""
    description = "Machine-learning force fields for the spin dynamics of metallic magnets."
    parser = argparse.ArgumentParser(prog="sdml", description=description)
    parser.add_argument("--version", action="version", version=f"sdml {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    readers = (reproduce, store, figures, tables, claims)
    for subcommand in (*readers, label, gather, train, quench):
        subcommand(commands)
    return parser


def reproduce(commands: Commands) -> None:
    """`sdml reproduce`: run the notebooks and publish their figures."""

    def run(given: Arguments) -> None:
        from sdml import profiles, reproduce

        jobs = profiles.plan(given.profile, given.only, given.set)
        with _supervised(jobs) as (report, advance):
            reproduce.run(jobs, given.timeout, given.resume, report, advance)
        _renew_tables()

    command = commands.add_parser("reproduce", help="run the notebooks and publish their figures")
    command.add_argument("--profile", default="quick", help="quick (default), laptop or paper")
    _add_list(command, "--set", "NAME=VALUE", "override parameters; such a run is not published")
    _add_run_options(command)
    command.set_defaults(run=run)


def store(commands: Commands) -> None:
    """`sdml store`: execute the quick profile into ``notebooks/``."""

    def run(given: Arguments) -> None:
        from sdml import profiles, reproduce

        jobs = profiles.plan("quick", given.only)
        options = {"time_limit": given.timeout, "resume": given.resume}
        with _supervised(jobs) as (report, advance):
            reproduce.store(jobs, report=report, advance=advance, **options)
        _renew_tables()

    command = commands.add_parser("store", help="execute the quick profile into notebooks/")
    _add_run_options(command)
    command.set_defaults(run=run)


def figures(commands: Commands) -> None:
    """`sdml figures`: publish the figures of the largest finished profile."""

    def run(given: Arguments) -> None:
        from sdml import profiles, reproduce

        with _supervised(profiles.plan()) as (report, advance):
            reproduce.figures(report, advance)
        _renew_tables()

    command = commands.add_parser("figures", help="publish the largest finished profile's figures")
    command.set_defaults(run=run)


def tables(commands: Commands) -> None:
    """`sdml tables`: renew the tables of the README and of ``docs/``."""

    def run(given: Arguments) -> None:
        _renew_tables()

    command = commands.add_parser("tables", help="renew the tables of the README and of docs/")
    command.set_defaults(run=run)


def _renew_tables() -> None:
    from sdml import paths
    from sdml import tables as made

    for page in made.renew():
        print(f"renewed the table of {page.relative_to(paths.root())}")


def claims(commands: Commands) -> None:
    """`sdml claims`: print the numbers of the paper beside ours."""

    def run(given: Arguments) -> None:
        from sdml import record

        print(record.claims_table(record.claims()))

    command = commands.add_parser("claims", help="print the numbers of the paper beside ours")
    command.set_defaults(run=run)


def label(commands: Commands) -> None:
    """`sdml label`: make labelled snapshots, one store a quench; what is already there is kept."""

    def run(given: Arguments) -> None:
        from sdml import forcefield, labelling, workers
        from sdml.dynamics import LandauLifshitz

        _set_threads(given)
        model, folder = _model(given), Path(given.output)
        equation = LandauLifshitz(given.dt, given.damping, given.kT)
        if given.driver is not None:
            forcefield.load(given.driver).on(model.lattice)  # refused before the first label
        solver = _solver(given)
        random: labelling.RandomStates | None = None
        jobs: dict[str, labelling.Job] = {}
        if given.random:
            path = folder / "random.h5"
            random = labelling.RandomStates(path, model, given.random, given.random_seed, solver)
            jobs |= random.jobs()
        for seed in given.quench_seeds:
            path = folder / f"quench_{seed}.h5"
            jobs[path.name] = labelling.quench_job(
                path, model, equation, given.save_times, seed, given.driver, solver, given.start
            )
        where = given.workers, given.scheduler, given.threads
        with _failing_jobs():
            for name, labelled in workers.run(jobs, *where, _tell_failure):
                if labelled:
                    print(f"wrote {name}", flush=True)
        if random is not None and random.gather():
            print("wrote random.h5", flush=True)

    command = commands.add_parser("label", help="make labelled snapshots")
    _add_model_options(command)
    _add_dynamics_options(command)
    command.add_argument(
        "--random", type=int, default=50, help="number of random states, 0 for none"
    )
    command.add_argument("--random-seed", type=int, default=0)
    command.add_argument("--quench-seeds", type=int, nargs="*", default=[])
    command.add_argument("--save-times", type=float, nargs="+", default=[10.0, 30.0, 100.0])
    command.add_argument(
        "--driver", help="force field that drives the quenches; by default the exact fields do"
    )
    command.add_argument(
        "--start",
        default="random",
        help="of the quenches: random spins, or a texture that --kT heats (tetrahedral, neel, ...)",
    )
    command.add_argument(
        "--engine", choices=["exact", "kpm"], default="exact", help="of the labels"
    )
    command.add_argument("--n-moments", type=int, help="of kpm, by default from electron_kT")
    command.add_argument("--n-probes", type=int, help="of kpm, by default the exact trace")
    command.add_argument("--workers", type=int, default=1, help="processes of this machine")
    command.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="Dask scheduler whose workers, seeing the same files, do the work (extra: cluster)",
    )
    command.add_argument("--output", required=True, help="folder of the stores")
    command.set_defaults(run=run)


def _solver(given: Arguments) -> Any:
    """The engine of the labels; a seed makes the probes those of every other run."""
    from sdml import exact, kpm

    if given.engine == "exact":
        if given.n_moments or given.n_probes:
            raise ValueError("--n-moments, --n-probes: belong to --engine kpm")
        return exact.solve
    return partial(kpm.solve, n_moments=given.n_moments, n_probes=given.n_probes, seed=0)


def gather(commands: Commands) -> None:
    """`sdml gather`: one store of some of the snapshots of many stores."""

    def run(given: Arguments) -> None:
        from sdml import dataset

        if Path(given.output).resolve() in [Path(path).resolve() for path in given.stores]:
            raise ValueError(f"--output: must not be one of the stores, got {given.output!r}")
        parts = [dataset.load(path) for path in given.stores]
        thinned = [part.select(slice(None, None, given.every)) for part in parts]
        dataset.save(dataset.join(thinned), given.output)
        print(f"{given.output}: {sum(map(len, thinned))} of {sum(map(len, parts))} snapshots")

    command = commands.add_parser("gather", help="join stores of snapshots to one")
    command.add_argument("stores", nargs="+", help="files made by sdml label")
    command.add_argument("--every", type=_count, default=1, help="keep every so manyth snapshot")
    command.add_argument("--output", required=True, help="the .h5 store")
    command.set_defaults(run=run)


@contextmanager
def _failing_jobs() -> Iterator[None]:
    """Jobs that failed become exit code 1."""
    from sdml.workers import JobError

    try:
        yield
    except JobError:
        print("some jobs failed; the same command goes on from here", file=sys.stderr)
        sys.exit(1)


def _tell_failure(name: str, error: BaseException) -> None:
    print(f"FAILED {name}: {str(error) or repr(error)}", file=sys.stderr, flush=True)


def train(commands: Commands) -> None:
    """`sdml train`: fit force fields to stores and save them with their held-out errors."""

    def run(given: Arguments) -> None:
        from sdml import dataset, evaluation, forcefield

        _set_threads(given)
        data = dataset.join([dataset.load(path) for path in given.stores])
        if given.evaluate:
            field = forcefield.load(given.evaluate)
            print(evaluation.report(field, data))
            return
        if not given.output or not (given.hold_out or given.judge):
            raise ValueError("--output, and --hold-out or --judge: needed to train, or --evaluate")
        fitted, held_out = dataset.split(data, given.hold_out)
        judged = (
            dataset.join([dataset.load(path) for path in given.judge]) if given.judge else held_out
        )
        members = [
            _trained(given, number, fitted, held_out, judged)
            for number in range(1, given.members + 1)
        ]
        if given.members > 1:
            _calibrate(given, members, judged)

    command = commands.add_parser("train", help="fit a force field to labelled snapshots")
    command.add_argument("stores", nargs="+", help="files made by sdml label")
    command.add_argument(
        "--hold-out",
        type=int,
        nargs="+",
        default=[],
        metavar="TRAJECTORY",
        help="quenches that are not learned, but scored after every epoch",
    )
    command.add_argument(
        "--judge", nargs="+", help="stores to judge the result by, by default what is held out"
    )
    command.add_argument(
        "--evaluate", metavar="WEIGHTS", help="only judge these weights by all the stores"
    )
    command.add_argument("--descriptor", choices=["moments", "symmetry", "raw"], default="moments")
    command.add_argument("--radius", type=int, default=4, help="of moments: reach in bonds")
    command.add_argument("--n-steps", type=int, default=12, help="of moments: length of a walk")
    command.add_argument("--bond-radius", type=float, default=2.0, help="of symmetry and raw")
    command.add_argument("--pair-radius", type=float, default=2.0, help="of symmetry and raw")
    command.add_argument("--grand-canonical", action="store_true", help="the network reads mu")
    command.add_argument("--hidden-widths", type=int, nargs="+", default=[64, 32])
    command.add_argument("--epochs", type=int, default=30)
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--learning-rate", type=float, default=3e-3)
    command.add_argument("--longitudinal-weight", type=float, default=0.2)
    command.add_argument(
        "--hole-weight", type=float, default=0.0, help="further weight of sites with holes"
    )
    command.add_argument("--averaging", type=float, default=0.99, help="decay of the mean weights")
    command.add_argument("--patience", type=int, default=0, help="epochs without gain; 0: never")
    command.add_argument("--checkpoint", help="file to write every epoch and to go on from")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--members",
        type=_count,
        default=1,
        help="of a committee: as many seeds from --seed on, in output, output_2, ...",
    )
    command.add_argument("--threads", type=int)
    command.add_argument("--remark", default="", help="a sentence for the card")
    command.add_argument("--output", help="the .safetensors file")
    command.set_defaults(run=run)


def _trained(
    given: Arguments, number: int, fitted: "Dataset", held_out: "Dataset", judged: "Dataset"
) -> "ForceField":
    """Member 1, 2, ... trained, saved and judged; its seed and files go by its number."""
    from sdml import committee, forcefield, training

    seed, output = given.seed + number - 1, committee.numbered(given.output, number)
    environment = _environment(given, fitted.model)
    field = forcefield.ForceField(
        fitted.model, environment, given.hidden_widths, seed, given.grand_canonical
    )
    settings = training.TrainingSettings(
        given.epochs,
        given.batch_size,
        given.learning_rate,
        longitudinal_weight=given.longitudinal_weight,
        hole_weight=given.hole_weight,
        averaging=given.averaging,
        patience=given.patience,
        seed=seed,
    )
    training.train(
        field,
        fitted,
        settings,
        held_out if given.hold_out else None,
        lambda row: print(row, flush=True),
        committee.numbered(given.checkpoint, number) if given.checkpoint else None,
    )
    forcefield.save(field, output)  # judging can fail, the weights must not be lost
    field.card = training.card(field, fitted, judged, settings, given.remark)
    forcefield.save(field, output)
    output.with_suffix(".md").write_text(training.card_text(field))
    print(training.card_text(field))
    return field


def _calibrate(given: Arguments, members: "Sequence[ForceField]", judged: "Dataset") -> None:
    """Save the members as a committee that knows its errors, and print how well it does."""
    from sdml import committee

    made = committee.Committee(members).calibrated(judged)
    committee.save(made, given.output)
    print(f"{made.calibration}\n\n{made.reliability(judged).table()}")


def _environment(given: Arguments, model: "SDModel") -> "Environment":
    from sdml.descriptor import SymmetryEnvironment
    from sdml.moments import MomentEnvironment
    from sdml.rawbonds import RawBondEnvironment

    kind = model.lattice.name
    if given.descriptor == "moments":
        return MomentEnvironment(kind, given.radius, given.n_steps, model.exchange_coupling)
    bonds = SymmetryEnvironment if given.descriptor == "symmetry" else RawBondEnvironment
    return bonds(kind, given.bond_radius, given.pair_radius)


def quench(commands: Commands) -> None:
    """`sdml quench`: run a force field to a store, or many seeds; existing runs go on."""

    def run(given: Arguments) -> None:
        from sdml import ensemble, workers

        _set_threads(given)
        settings = _settings(given)
        with _stopping_runs(), _failing_jobs():
            if given.seeds is None or given.together:
                seed = given.seed if given.seeds is None else given.seeds
                done = ensemble.quench(given.output, settings, seed)
                rows = f"{len(done.time)} rows of observables, {len(done.frames)} frames"
                print(f"{given.output}: {rows} to t = {done.step * given.dt:g}")
                return
            jobs = ensemble.jobs(given.output, settings, given.seeds)
            where = given.workers, given.scheduler, given.threads
            for name, step in workers.run(jobs, *where, _tell_failure):
                print(f"{name}: {step} steps", flush=True)

    command = commands.add_parser("quench", help="run a force field from random spins")
    command.add_argument("--force-field", required=True, help="a released name or a file")
    command.add_argument("--committee", action="store_true", help="the mean of all its members")
    command.add_argument("--length", type=int, default=48)
    command.add_argument(
        "--initial", default="random", help="random, an order such as neel, or the store of a run"
    )
    _add_dynamics_options(command)
    command.add_argument("--method", default="sib", help="sib (default), heun, adams or midpoint")
    command.add_argument(
        "--schedule", type=_point, nargs="+", metavar="TIME:KT", help="kT(t), linear in between"
    )
    command.add_argument("--steps", type=int, default=100)
    _add_store_options(command)
    command.add_argument("--seed", type=int, default=0)
    _add_ensemble_options(command)
    command.add_argument("--device", default="cpu")
    command.add_argument("--output", required=True, help="the .h5 store; a folder for --seeds")
    command.set_defaults(run=run)


def _add_store_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--save-every", type=_count, default=10, help="steps, of the observables")
    command.add_argument(
        "--save-per-decade", type=_count, help="save at so many steps a decade, not evenly"
    )
    command.add_argument("--frames-every", type=_count, help="steps; by default as saved")
    command.add_argument("--frame-dtype", default="float32", help="float32 (default) or float16")
    command.add_argument("--checkpoint-every", type=_count, default=10, help="saved steps")
    command.add_argument("--observables", nargs="*", default=[], metavar="NAME")
    command.add_argument("--guard", action="store_true", help="watch the trained range")
    command.add_argument("--warn-above", type=float, default=0.01, help="fraction of sites")
    command.add_argument("--stop-above", type=float, help="fraction of sites; implies --guard")


def _add_ensemble_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=int, nargs="+", help="one run each, quench_SEED.h5")
    command.add_argument("--together", action="store_true", help="all seeds as one batch and store")
    command.add_argument("--workers", type=int, default=1, help="processes of this machine")
    command.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="Dask scheduler whose workers, seeing the same files, do the work (extra: cluster)",
    )


def _settings(given: Arguments) -> Any:
    from sdml import ensemble
    from sdml.dynamics import LandauLifshitz
    from sdml.timetable import logarithmic_steps

    save_every: Any = given.save_every
    if given.save_per_decade:
        save_every = tuple(logarithmic_steps(given.steps, given.save_per_decade))
    return ensemble.Quench(
        given.force_field,
        given.length,
        LandauLifshitz(given.dt, given.damping, given.kT, given.method),
        given.steps,
        save_every,
        given.frames_every,
        tuple(given.schedule) if given.schedule else None,
        given.frame_dtype,
        given.checkpoint_every,
        tuple(given.observables),
        given.initial,
        given.committee,
        given.guard or given.stop_above is not None,
        given.warn_above,
        given.stop_above,
        given.device,
    )


@contextmanager
def _stopping_runs() -> Iterator[None]:
    """A run that its guard, nan, an iteration that fails or the disk has stopped: exit code 1."""
    try:
        yield
    except (RuntimeError, FloatingPointError, OSError) as reason:
        print(f"STOPPED {reason}", file=sys.stderr)
        sys.exit(1)


def _point(text: str) -> tuple[float, float]:
    time, separator, kT = text.partition(":")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} must be TIME:KT")
    return float(time), float(kT)


def _add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lattice", choices=("square", "triangular"), required=True)
    command.add_argument("--length", type=int, required=True, help="L of the L x L lattice")
    command.add_argument("--exchange-coupling", type=float, required=True)
    command.add_argument("--filling", type=float, required=True)
    command.add_argument("--electron-kT", type=float, required=True)


def _model(given: Arguments) -> Any:
    from sdml import lattice
    from sdml.model import SDModel

    sites = getattr(lattice, given.lattice)(given.length)
    return SDModel(
        sites, given.exchange_coupling, filling=given.filling, electron_kT=given.electron_kT
    )


def _add_dynamics_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dt", type=float, default=0.5, help="time step, hbar/t")
    command.add_argument("--damping", type=float, default=0.1)
    command.add_argument("--kT", type=float, default=0.0, help="temperature of the bath")
    command.add_argument("--threads", type=int)


def _set_threads(given: Arguments) -> None:
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    _add_list(command, "--only", "NOTEBOOK", "stems or beginnings of stems, e.g. 05")
    limit = "limit for one notebook"
    command.add_argument("--timeout", type=_positive, metavar="SECONDS", help=limit)
    command.add_argument("--resume", action="store_true", help="skip notebooks that are up to date")


def _add_list(command: argparse.ArgumentParser, name: str, item: str, text: str) -> None:
    command.add_argument(name, action="extend", nargs="+", default=[], metavar=item, help=text)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} must be positive")
    return value


@contextmanager
def _supervised(jobs: Sequence["Job"]) -> Iterator[tuple["Report", "Advance"]]:
    """Progress of `jobs` while the body runs them; failures and stops become exit codes."""
    from sdml.reproduce import NotebookError

    # By default SIGTERM ends Python at once and would leave the kernel of the notebook running.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with _progress(jobs) as callables:
            yield callables
    except NotebookError as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _progress(jobs: Sequence["Job"]) -> Iterator[tuple["Report", "Advance"]]:
    """A bar over the cells of all `jobs` on a terminal; one plain line a notebook elsewhere."""
    from tqdm import tqdm

    plain = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    total = sum(job.n_cells for job in jobs)
    done: dict[str, int] = {}
    with tqdm(total=total, unit="cell", disable=plain, smoothing=0, leave=False) as bar:

        def advance(job: "Job", n_cells: int) -> None:
            done[job.stem] = n_cells
            bar.set_description(job.stem, refresh=False)
            bar.n = sum(done.values())
            bar.refresh()

        def report(line: str) -> None:
            tqdm.write(line)
            sys.stdout.flush()

        yield report, advance
