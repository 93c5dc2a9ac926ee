"""What the subcommands of `sdml` accept: one function each, which adds its arguments to a parser.

What they do with them is in :mod:`sdml.cli.commands`.
"""

import argparse
import math

from sdml import __version__

Parser = argparse.ArgumentParser
LARGEST_SEED = 2**63 - 1
"""Stores keep seeds in 64 bits."""
SAVE_EVERY = 10
"""Steps between observables, or what divides --steps too, unless options say otherwise."""


def command_line() -> Parser:
    """Parser with all subcommands; the name of the chosen one is its ``command``."""
    description = "Machine-learning force fields for the spin dynamics of metallic magnets."
    parser = Parser(prog="sdml", description=description)
    parser.add_argument("--version", action="version", version=f"sdml {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    reproduce(commands.add_parser("reproduce", help="run the notebooks and publish their figures"))
    store(commands.add_parser("store", help="execute the quick profile into notebooks/"))
    commands.add_parser("figures", help="publish the largest finished profile's figures")
    commands.add_parser("tables", help="renew the tables of the README and of docs/")
    commands.add_parser("claims", help="print the numbers of the paper beside ours")
    label(commands.add_parser("label", help="make labelled snapshots"))
    gather(commands.add_parser("gather", help="join stores of snapshots to one"))
    train(commands.add_parser("train", help="fit a force field to labelled snapshots"))
    quench(commands.add_parser("quench", help="run a force field from random spins"))
    return parser


# --- notebooks


def reproduce(command: Parser) -> None:
    """`sdml reproduce`."""
    command.add_argument("--profile", default="quick", help="quick (default), laptop or paper")
    _add_list(command, "--set", "NAME=VALUE", "override parameters; such a run is not published")
    _add_run_options(command)


def store(command: Parser) -> None:
    """`sdml store`."""
    _add_run_options(command)


def _add_run_options(command: Parser) -> None:
    _add_list(command, "--only", "NOTEBOOK", "stems or beginnings of stems, e.g. 05")
    limit = "limit for one notebook"
    command.add_argument("--timeout", type=_positive, metavar="SECONDS", help=limit)
    command.add_argument("--resume", action="store_true", help="skip notebooks that are up to date")


def _add_list(command: Parser, name: str, item: str, text: str) -> None:
    command.add_argument(name, action="extend", nargs="+", default=[], metavar=item, help=text)


# --- labels


def label(command: Parser) -> None:
    """`sdml label`."""
    _add_model_options(command)
    _add_dynamics_options(command)
    command.add_argument(
        "--random", type=int, default=50, help="number of random states, 0 for none"
    )
    command.add_argument("--random-seed", type=_seed, default=0)
    command.add_argument("--quench-seeds", type=_seed, nargs="*", default=[])
    command.add_argument(
        "--save-times",
        type=float,
        nargs="+",
        default=[10.0, 30.0, 100.0],
        help="of the quenches: multiples of dt, in any order",
    )
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
    _add_workers(command)
    command.add_argument("--output", required=True, help="folder of the stores")


def gather(command: Parser) -> None:
    """`sdml gather`."""
    command.add_argument("stores", nargs="+", help="files made by sdml label")
    command.add_argument("--every", type=_count, default=1, help="keep every so manyth snapshot")
    command.add_argument("--output", required=True, help="the .h5 store")


def _add_model_options(command: Parser) -> None:
    command.add_argument("--lattice", choices=("square", "triangular"), required=True)
    command.add_argument("--length", type=int, required=True, help="L of the L x L lattice")
    command.add_argument("--exchange-coupling", type=float, required=True)
    command.add_argument("--filling", type=float, required=True)
    command.add_argument("--electron-kT", type=float, required=True)


def _add_dynamics_options(command: Parser) -> None:
    command.add_argument("--dt", type=float, default=0.5, help="time step, hbar/t")
    command.add_argument("--damping", type=float, default=0.1)
    command.add_argument("--kT", type=float, default=0.0, help="temperature of the bath")
    command.add_argument("--threads", type=_count)


def _add_workers(command: Parser) -> None:
    command.add_argument("--workers", type=_count, default=1, help="processes of this machine")
    command.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="Dask scheduler whose workers, seeing the same files, do the work (extra: cluster)",
    )


# --- force fields


def train(command: Parser) -> None:
    """`sdml train`."""
    _add_stores(command)
    _add_descriptor_options(command)
    _add_training_options(command)
    command.add_argument("--threads", type=_count)
    command.add_argument("--remark", default="", help="a sentence for the card")
    command.add_argument("--output", help="the .safetensors file")


def _add_stores(command: Parser) -> None:
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


def _add_descriptor_options(command: Parser) -> None:
    command.add_argument("--descriptor", choices=["moments", "symmetry", "raw"], default="moments")
    command.add_argument("--radius", type=int, default=4, help="of moments: reach in bonds")
    command.add_argument("--n-steps", type=int, default=12, help="of moments: length of a walk")
    command.add_argument("--bond-radius", type=float, default=2.0, help="of symmetry and raw")
    command.add_argument("--pair-radius", type=float, default=2.0, help="of symmetry and raw")
    command.add_argument("--grand-canonical", action="store_true", help="the network reads mu")
    command.add_argument("--hidden-widths", type=int, nargs="+", default=[64, 32])


def _add_training_options(command: Parser) -> None:
    command.add_argument("--epochs", dest="n_epochs", type=int, default=30)
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--learning-rate", type=float, default=3e-3)
    command.add_argument("--longitudinal-weight", type=float, default=0.2)
    command.add_argument(
        "--hole-weight", type=float, default=0.0, help="further weight of sites with holes"
    )
    command.add_argument("--averaging", type=float, default=0.99, help="decay of the mean weights")
    command.add_argument("--patience", type=int, default=0, help="epochs without gain; 0: never")
    command.add_argument("--checkpoint", help="file to write every epoch and to go on from")
    command.add_argument("--seed", type=_seed, default=0)
    command.add_argument(
        "--members",
        type=_count,
        default=1,
        help="of a committee: as many seeds from --seed on, in output, output_2, ...",
    )


# --- runs


def quench(command: Parser) -> None:
    """`sdml quench`."""
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
    _add_saving_options(command)
    command.add_argument("--seed", type=_seed, help="of one run, 0 by default")
    command.add_argument("--seeds", type=_seed, nargs="+", help="one run each, quench_SEED.h5")
    command.add_argument("--together", action="store_true", help="all seeds as one batch and store")
    _add_workers(command)
    command.add_argument("--device", default="cpu")
    command.add_argument("--output", required=True, help="the .h5 store; a folder for --seeds")


def _add_saving_options(command: Parser) -> None:
    command.add_argument(
        "--save-every",
        type=_count,
        help="steps, of the observables; by default 10, or less where it does not divide --steps",
    )
    command.add_argument(
        "--save-per-decade", type=_count, help="save at so many steps a decade, not evenly"
    )
    command.add_argument("--frames-every", type=_count, help="steps; by default as saved")
    command.add_argument("--frame-dtype", default="float32", help="float32 (default) or float16")
    command.add_argument("--checkpoint-every", type=_count, default=10, help="saved steps")
    command.add_argument("--observables", nargs="*", default=[], metavar="NAME")
    command.add_argument("--guard", action="store_true", help="watch the trained range")
    command.add_argument("--warn-above", type=float, help="fraction of sites, 0.01 by default")
    command.add_argument("--stop-above", type=float, help="fraction of sites; implies --guard")


# --- values


def _count(text: str) -> int:
    return _whole(text, 1, "a whole number >= 1")


def _seed(text: str) -> int:
    return _whole(text, 0, f"a whole number from 0 to {LARGEST_SEED}")


def _whole(text: str, least: int, allowed: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be {allowed}, got {text!r}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return value


def _point(text: str) -> tuple[float, float]:
    time, _, kT = text.partition(":")
    point = _number(time), _number(kT)
    if not all(map(math.isfinite, point)):
        raise argparse.ArgumentTypeError(f"must be TIME:KT, such as 200:0.05, got {text!r}")
    return point


def _number(text: str) -> float:
    """nan for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
