"""What the subcommands of `sdml` accept: one function each, which adds its arguments to a parser.

What they do with them is in :mod:`sdml.cli.notebooks` and :mod:`sdml.cli.commands`.
"""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sdml import __version__

Add = Callable[..., argparse.Action]
"""The method `add_argument` of the parser of a subcommand."""
LARGEST_SEED = 2**63 - 1
"""Stores keep seeds in 64 bits."""
MODEL_FILE = "file with everything that SDModel can say"
SAVE_EVERY = 10
"""Steps between observables, or what divides --steps too, unless options say otherwise."""


def command_line() -> argparse.ArgumentParser:
    """Parser with all subcommands; the name of the chosen one is its ``command``."""
    description = "Machine-learning force fields for the spin dynamics of metallic magnets."
    parser = argparse.ArgumentParser(prog="sdml", description=description)
    parser.add_argument("--version", action="version", version=f"sdml {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    def command(name: str, text: str) -> Add:
        return commands.add_parser(name, help=text).add_argument

    reproduce(command("reproduce", "run the notebooks and publish their figures"))
    store(command("store", "execute the quick profile into notebooks/"))
    command("figures", "publish the largest finished profile's figures")
    command("tables", "renew the tables of the README and of docs/")
    command("claims", "print the numbers of the paper beside ours")
    label(command("label", "make labelled snapshots"))
    gather(command("gather", "join stores of snapshots to one"))
    train(command("train", "fit a force field to labelled snapshots"))
    quench(command("quench", "run a force field from random spins"))
    export(command("export", "write the frames of a store for other programs"))
    return parser


# --- notebooks


def reproduce(add: Add) -> None:
    """`sdml reproduce`."""
    add("--profile", default="quick", help="quick (default), laptop or paper")
    _add_list(add, "--set", "NAME=VALUE", "override parameters; such a run is not published")
    _add_run_options(add)


def store(add: Add) -> None:
    """`sdml store`."""
    _add_run_options(add)


def _add_run_options(add: Add) -> None:
    _add_list(add, "--only", "NOTEBOOK", "stems or beginnings of stems, e.g. 05")
    add("--timeout", type=_positive, metavar="SECONDS", help="limit for one notebook")
    add("--resume", action="store_true", help="skip notebooks that are up to date")


def _add_list(add: Add, name: str, item: str, text: str) -> None:
    add(name, action="extend", nargs="+", default=[], metavar=item, help=text)


# --- labels


def label(add: Add) -> None:
    """`sdml label`."""
    add("--model", metavar="TOML", help=f"{MODEL_FILE}, instead of the five options after it")
    add("--lattice", choices=("square", "triangular"))
    add("--length", type=_count, help="L of the L x L lattice")
    add("--exchange-coupling", type=float)
    add("--filling", type=float)
    add("--electron-kT", type=float)
    _add_dynamics_options(add)
    add("--random", type=int, default=50, help="number of random states, 0 for none")
    add("--random-seed", type=_seed, default=0)
    add("--quench-seeds", type=_seed, nargs="*", default=[])
    add(
        "--save-times",
        type=float,
        nargs="+",
        default=[10.0, 30.0, 100.0],
        help="of the quenches: multiples of dt, in any order",
    )
    add("--driver", help="force field that drives the quenches; by default the exact fields do")
    add(
        "--start",
        default="random",
        help="of the quenches: random spins, or a texture that --kT heats (tetrahedral, neel, ...)",
    )
    add("--engine", choices=["exact", "kpm"], default="exact", help="of the labels")
    add("--n-moments", type=_count, help="of kpm, by default from electron_kT")
    add("--n-probes", type=_count, help="of kpm, by default the exact trace")
    _add_workers(add)
    add("--output", required=True, help="folder of the stores")


def gather(add: Add) -> None:
    """`sdml gather`."""
    add("stores", nargs="+", help="files made by sdml label")
    add("--every", type=_count, default=1, help="keep every so manyth snapshot")
    add("--output", required=True, help="the .h5 store")


def _add_dynamics_options(add: Add) -> None:
    add("--dt", type=float, default=0.5, help="time step, hbar/t")
    add("--damping", type=float, default=0.1)
    add("--kT", type=float, default=0.0, help="temperature of the bath")
    add("--threads", type=_count)


def _add_workers(add: Add) -> None:
    add("--workers", type=_count, default=1, help="processes of this machine")
    add(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="Dask scheduler whose workers, seeing the same files, do the work (extra: cluster)",
    )


# --- force fields


def train(add: Add) -> None:
    """`sdml train`."""
    add("stores", nargs="+", help="files made by sdml label")
    add("--model", metavar="TOML", help=f"{MODEL_FILE}: the stores must be of it, of any shape")
    add(
        "--hold-out",
        type=int,
        nargs="+",
        default=[],
        metavar="TRAJECTORY",
        help="quenches that are not learned, but scored after every epoch",
    )
    add("--judge", nargs="+", help="stores to judge the result by, by default what is held out")
    add("--evaluate", metavar="WEIGHTS", help="only judge these weights by all the stores")
    add("--descriptor", choices=["moments", "symmetry", "raw"], default="moments")
    add("--radius", type=int, default=4, help="of moments: reach in bonds")
    add("--n-steps", type=int, default=12, help="of moments: length of a walk")
    add("--bond-radius", type=float, default=2.0, help="of symmetry and raw")
    add("--pair-radius", type=float, default=2.0, help="of symmetry and raw")
    add("--grand-canonical", action="store_true", help="the network reads mu")
    add("--hidden-widths", type=int, nargs="+", default=[64, 32])
    add("--epochs", dest="n_epochs", type=int, default=30)
    add("--batch-size", type=int, default=4)
    add("--learning-rate", type=float, default=3e-3)
    add("--longitudinal-weight", type=float, default=0.2)
    add("--hole-weight", type=float, default=0.0, help="further weight of sites with holes")
    add("--averaging", type=float, default=0.99, help="decay of the mean weights")
    add("--patience", type=int, default=0, help="epochs without gain; 0: never")
    add("--checkpoint", help="file to write every epoch and to go on from")
    add("--seed", type=_seed, default=0)
    add(
        "--members",
        type=_count,
        default=1,
        help="of a committee: as many seeds from --seed on, in output, output_2, ...",
    )
    add("--threads", type=_count)
    add("--remark", default="", help="a sentence for the card")
    add("--output", help="the .safetensors file")


# --- runs


def quench(add: Add) -> None:
    """`sdml quench`."""
    add("--force-field", required=True, help="a name or a file; engines drive those of sdml label")
    add("--committee", action="store_true", help="the mean of all its members")
    add("--model", metavar="TOML", help=f"{MODEL_FILE}: that of the force field, of any shape")
    add("--length", type=_count, help="L of the L x L cells, by default 48 or as in --model")
    add("--initial", default="random", help="random, an order such as neel, or the store of a run")
    _add_dynamics_options(add)
    add("--method", default="sib", help="sib (default), heun, adams, neutral or midpoint")
    add("--schedule", type=_point, nargs="+", metavar="TIME:KT", help="kT(t), linear in between")
    add("--steps", type=int, default=100)
    add(
        "--save-every",
        type=_count,
        help="steps, of the observables; by default 10, or less where it does not divide --steps",
    )
    add("--save-per-decade", type=_count, help="save at so many steps a decade, not evenly")
    add("--frames-every", type=_count, help="steps; by default as saved")
    add("--frame-dtype", default="float32", help="float32 (default) or float16")
    add("--checkpoint-every", type=_count, default=10, help="saved steps")
    add("--observables", nargs="*", default=[], metavar="NAME")
    add("--guard", action="store_true", help="watch the trained range")
    add("--warn-above", type=float, help="fraction of sites, 0.01 by default")
    add("--stop-above", type=float, help="fraction of sites; implies --guard")
    add("--seed", type=_seed, help="of one run, 0 by default")
    add("--seeds", type=_seed, nargs="+", help="one run each, quench_SEED.h5")
    add("--together", action="store_true", help="all seeds as one batch and store")
    _add_workers(add)
    add("--device", default="cpu")
    add("--output", required=True, help="the .h5 store; a folder for --seeds")


def export(add: Add) -> None:
    """`sdml export`."""
    add("store", help="the .h5 store of a run, or of labelled snapshots")
    add("--vtk", action="store_true", help="as .pvd and .vtu files, for ParaView (extra: vtk)")
    add("--output", help="the .pvd file; by default beside the store, with its name")


# --- values


def _count(text: str) -> int:
    return _value(text, int, lambda n: 1 <= n <= LARGEST_SEED, "a whole number >= 1")


def _seed(text: str) -> int:
    allowed = f"a whole number from 0 to {LARGEST_SEED}"
    return _value(text, int, lambda n: 0 <= n <= LARGEST_SEED, allowed)


def _positive(text: str) -> float:
    return _value(text, float, lambda value: value > 0, "a number > 0")


def _point(text: str) -> tuple[float, float]:
    return _value(text, _pair, lambda p: all(map(math.isfinite, p)), "TIME:KT, such as 200:0.05")


def _pair(text: str) -> tuple[float, float]:
    time, kT = text.split(":")
    return float(time), float(kT)


def _value(
    text: str, read: Callable[[str], Any], holds: Callable[[Any], bool], allowed: str
) -> Any:
    """What `read` makes of the text, where it can and the value is allowed."""
    with suppress(ValueError):
        value = read(text)
        if holds(value):
            return value
    raise argparse.ArgumentTypeError(f"must be {allowed}, got {text!r}")
