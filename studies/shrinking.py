"""One chiral domain in the other: how fast do straight walls, corners and curved walls move?

    python studies/shrinking.py run [--radius 20] [--kT 0] [--damping 0.3] [--time 1000]
                                    [--shapes circle ...] [--seeds 0 ...] [--method adams]
                                    [--turned two-fold]
    python studies/shrinking.py collect [--add] [--output shrinking]
    python studies/shrinking.py all     # those of `REFERENCE`, then collect

The released force field of the triangular lattice (J = 3, filling 0.25) relaxes a domain of one
chirality in the other: half the lattice between straight walls along rows of nearest neighbours or
across them, a circle, and hexagons with sides along rows or across. The spins of the domain start
turned against those outside: `three-fold`, by 120 degrees about (1, 1, 1), which makes walls across
rows cheap in all three directions, or `two-fold`, by the rotation of the cube of lowest energy
before the walls relax, 180 degrees about (1, -1, 0) or alike, which makes one of the directions
dear (`walls.py --turns`). If walls move by their curvature, or a side recedes by kinks from its
corners at a rate that does not depend on its length, a closed domain loses area at a constant rate;
if corners moved at a constant speed the square root of the area would fall linearly.
The noise of the first spins differs from seed to seed. A shape of radius 20 takes about a minute of
one core, one of radius 80 to t = 3800 an hour and a half. A run is a store build/shrinking/*.h5;
`collect` writes the areas in time to data/reference/NAME.json and maps of one seed to NAME.h5; with
`--add` the stored runs that have no stores stay.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import interfaces
import numpy as np
import torch
from command import asked
from scipy.spatial.transform import Rotation
from stores import lattice_of, reference_file, sets, write_chirality

from sdml import files, forcefield, lattice, simulation, spins
from sdml.coarsening import domains
from sdml.companion import results
from sdml.dynamics import LandauLifshitz

NOISE, SAVE_INTERVAL, DT = 0.05, 10.0, 2.0
SHAPES = ("strip along rows", "strip across rows", "circle", "hexagon along rows", "hexagon across")
THREE_FOLD = np.roll(np.eye(3), 1, axis=0)  # by 120 degrees about (1, 1, 1)
NORMALS = {"along": np.radians([90, 30, -30]), "across": np.radians([0, 60, 120])}

WEAK = "--damping 0.05 --method neutral"
REFERENCE = [
    "--shapes circle --seeds 0 1 2",
    "--shapes circle --seeds 0 1 2 --radius 40 --time 1400",
    "--shapes circle --seeds 0 1 --radius 80 --time 1700",
    f"--shapes circle --seeds 0 1 2 {WEAK}",
    f"--shapes circle --seeds 0 1 2 --radius 40 --time 1600 {WEAK}",
    f"--shapes circle --seeds 0 --radius 80 --time 3800 {WEAK}",
    "--shapes circle --turned three-fold --seeds 0 1",
    "--shapes circle --turned three-fold --seeds 0 1 --radius 40 --time 1400",
    f"--shapes circle --turned three-fold --seeds 0 1 {WEAK}",
    f"--shapes circle --turned three-fold --seeds 0 1 --radius 40 --time 1600 {WEAK}",
]
"""What `run` is asked for by `all`."""


def folder() -> Path:
    return files.root() / "build" / "shrinking"


def inside(sites: lattice.Lattice, shape: str, radius: float) -> np.ndarray:
    """The sites of the domain, about the middle of the lattice; a strip is half the lattice."""
    x, y = sites.cells.T
    if shape.startswith("strip"):
        # Lines of constant y are rows; those of constant x - y run along a1 + a2, across rows.
        line = x - y if "across" in shape else y
        return line % sites.shape[0] < sites.shape[0] / 2
    periods = np.array(sites.vectors) * np.array(sites.shape)[:, None]
    images = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ periods
    away = sites.positions - periods.sum(0) / 2 + images[:, None]
    r = away[np.linalg.norm(away, axis=-1).argmin(0), np.arange(sites.n_sites)]
    if shape == "circle":
        return np.linalg.norm(r, axis=1) < radius
    angles = NORMALS["across" if "across" in shape else "along"]
    return (abs(r @ np.stack([np.cos(angles), np.sin(angles)])) < radius).all(1)


def start(
    field: Any, sites: lattice.Lattice, domain: np.ndarray, seed: int, turned: str
) -> torch.Tensor:
    """Both chiralities, turned against each other, with a little noise."""
    outer, inner = spins.tetrahedral(sites, 1), spins.tetrahedral(sites, -1)
    cube = interfaces.cubic_rotations() if turned == "two-fold" else [THREE_FOLD]
    states = [np.where(domain[:, None], spins.rotate(inner, turn), outer) for turn in cube]
    lowest = min(states, key=lambda s: float(field.energy(s)))
    return torch.as_tensor(spins.perturbed(lowest, NOISE, seed), dtype=torch.float32)


def minority(sites: lattice.Lattice, s: torch.Tensor) -> torch.Tensor:
    """The area of the domain, in sites."""
    return (torch.as_tensor(domains.chirality_sign(sites, s)) < 0).sum().double()


def stem(shape: str, radius: float, damping: float, kT: float, turned: str) -> str:
    return f"{shape.replace(' ', '-')}_{radius:g}_a{damping:g}_kT{kT:g}_{turned}"


def run(given: argparse.Namespace) -> None:
    length = 2 * round(2 * given.radius)
    sites = lattice.triangular(length)
    field = forcefield.load("triangular").on(sites)
    every = round(SAVE_INTERVAL / DT)
    for shape, seed in itertools.product(given.shapes, given.seeds):
        name = f"{stem(shape, given.radius, given.damping, given.kT, given.turned)}_{seed}"
        found = simulation.quench(
            folder() / f"{name}.h5",
            sites,
            start(field, sites, inside(sites, shape, given.radius), seed, given.turned),
            field.field,
            LandauLifshitz(DT, given.damping, given.kT, given.method),
            round(given.time / SAVE_INTERVAL) * every,
            every,
            observables={"area": minority},
            seed=seed,
            engine=f"triangular {forcefield.checksum(field)[:12]}",
            frames_every=10 * every,
            frame_dtype="float16",
            guard=simulation.Guard(field),
            provenance={"shape": shape, "radius": given.radius, "turned": given.turned},
        )
        area = found.observables["area"]
        print(name, area[:: max(len(area) // 10, 1)].astype(int).tolist(), flush=True)


def orientation(sites: lattice.Lattice, s: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that brings perfect order, up to its chirality, nearest to some spins."""
    return Rotation.align_vectors(s[kept], spins.tetrahedral(sites, 1)[kept])[0].as_matrix()


def turns(run: simulation.Run) -> list[float]:
    """Degrees by which the domain has turned against its surroundings since the start, by frame."""
    sites, found = lattice_of(run), []
    for frame in run.frames.astype(float):
        frame /= np.linalg.norm(frame, axis=-1, keepdims=True)
        sign = np.asarray(domains.chirality_sign(sites, frame))
        # Spins of the other chirality are those of the first, all reversed.
        inside, outside = (orientation(sites, k * frame, k * sign > 0) for k in (-1, 1))
        found.append(outside.T @ inside)
    angles = [Rotation.from_matrix(turn @ found[0].T).magnitude() for turn in found]
    return np.degrees(angles).round(1).tolist()


def row_of(runs: list[simulation.Run]) -> dict[str, Any]:
    n_times = min(len(run.time) for run in runs)
    return runs[0].header["provenance"] | {
        "length": lattice_of(runs[0]).length,
        "equation": runs[0].header["equation"],
        "engine": runs[0].header["engine"],
        "seeds": [run.header["seed"] for run in runs],
        "time": runs[0].time[:n_times].tolist(),
        "area": [run.observables["area"][:n_times].tolist() for run in runs],
        "turn": [runs[0].frame_time.tolist(), turns(runs[0])],
        "outside": round(max(float(run.guard["outside"].max()) for run in runs), 5),
    }


def collect(output: str, add: bool) -> None:
    origin, rows = results.measured_origin(model="J = 3, filling 0.25"), {}
    for row in files.loaded(files.reference() / f"{output}.json")["runs"] if add else []:
        settings = (row["equation"][name] for name in ("damping", "kT"))
        rows[stem(row["shape"], row["radius"], *settings, row["turned"])] = row
    found = sets(folder(), r"[a-z-]+_\d+_a.*-fold_\d+")
    with reference_file(output, origin, rows.keys() - found.keys()) as file:
        for name, paths in found.items():
            runs = [simulation.load(path) for path in paths]
            rows[name] = row_of(runs)
            picked = np.unique(np.linspace(0, len(runs[0].frame_time) - 1, 5).astype(int))
            group = file.create_group(name)
            group["time"] = runs[0].frame_time[picked]
            write_chirality(group, lattice_of(runs[0]), runs[0].frames[picked].astype(float))
    ordered = [rows[name] for name in sorted(rows)]
    results.save_reference(output, {"origin": origin, "runs": ordered})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parsers = parser.add_subparsers(dest="action", required=True)
    running = parsers.add_parser("run")
    for name, usual in {"radius": 20.0, "kT": 0.0, "damping": 0.3, "time": 1000.0}.items():
        running.add_argument(f"--{name}", type=float, default=usual)
    running.add_argument("--method", default="adams")
    running.add_argument("--turned", choices=["two-fold", "three-fold"], default="two-fold")
    running.add_argument("--seeds", type=int, nargs="+", default=[0])
    running.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    collecting = parsers.add_parser("collect")
    collecting.add_argument("--add", action="store_true", help="to what is stored")
    parsers.add_parser("all").set_defaults(add=False)
    for action in ("collect", "all"):
        parsers.choices[action].add_argument("--output", default="shrinking")
    given = parser.parse_args()
    for each in asked(parser, given, REFERENCE):
        run(each)
    if given.action != "run":
        collect(given.output, given.add)


if __name__ == "__main__":
    main()
