"""Chiral domains after a quench of the triangular lattice, by the force field or by KPM.

    python studies/coarsening.py run LENGTH SEED [SEED ...] [--dt 2] [--damping 0.3] [--kT 0]
                                    [--method adams] [--time 1280]
                                    [--force-field triangular|kpm|FILE] [--label NAME]
                                    [--output coarsening] [--device cpu] [--folder FOLDER]
    python studies/coarsening.py collect [--add] [--output coarsening]
    python studies/coarsening.py all [--output coarsening|time_steps]

J = 3, filling 0.25, electron_kT 0.05. A run is a store build/OUTPUT/<label>_L_..._seed.h5 with
observables on the fly at times in steps of a sixteenth of a decade and a few frames; one that was
stopped goes on from its last checkpoint. A seed of 192 x 192 sites to t = 1280 takes about eight
minutes of one core. `--force-field kpm` takes the fields from 256 moments and 128 coloured probes
instead, with fresh phases every step: their error, 13 % of a random state's torque, acts as a bath
of kT = sigma^2 dt (1 + alpha^2) / (2 alpha), 1.5e-4 t at most; 96 x 96 sites to t = 400 take about
ten minutes. `collect` writes data/reference/OUTPUT.json (histories of all runs) and OUTPUT.h5
(curves of all, and maps of one seed of each set); with `--add` the sets and seeds that are stored
there and have no stores in the folder stay, so that a seed can be added by itself. `all` makes
every run of a stored reference and collects them: of coarsening in about 30 hours of one core
(most of them for 512 x 512 sites), of time_steps, which lie beside them, in two hours.
"""

import argparse
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import harmonics
import numpy as np
import torch
import vortices
from command import asked
from stores import (
    digits,
    lattice_of,
    reference_file,
    sets,
    shared_times,
    write_chirality,
    write_compressed,
)

from sdml import files, forcefield, kpm, lattice, observables, simulation, spins
from sdml.coarsening import domains, reference, scaling
from sdml.companion import results
from sdml.dynamics import LandauLifshitz
from sdml.lattice import Lattice
from sdml.model import paper_model

FIRST_MAP = 100.0
FRAME_TIMES = (0, 10, 30, 100, 200, 400, 800, 1280, 1600)
NAME, LABEL = "coarsening", "main"
N_MOMENTS, N_PROBES = 256, 128
COARSENING = (
    "192 1 2 3 4 5 6 7 8 9",
    "128 1 2 3 4 5",
    "128 1 2 3 4 5 --dt 1 --time 640",
    "128 1 2 3 --kT 0.002 --time 640",
    "128 1 2 3 --kT 0.01 --time 640",
    "128 1 2 3 --kT 0.02 --time 640",
    "128 1 2 3 --damping 0.05",
    "128 1 2 3 --damping 0.1 --time 640",
    "128 1 2 3 --damping 0.5 --time 640",
    "256 1 2 3 4 --time 500",
    "256 1 2 3 4 --kT 0.005 --time 500",
    "256 1 --damping 0.1 --time 800",
    "256 2 3 4 --damping 0.1 --time 632",
    "256 1 2 3 4 --damping 0.05 --method neutral --time 650",
    "512 1 2 3 4 --time 1300",
    "512 1 2 3 4 --damping 0.05 --method neutral --time 1300",
    "96 1 2 --time 400",
    "96 1 2 --time 400 --force-field triangular_2 --label second",
    "96 1 2 --time 400 --force-field kpm --label kpm",
    "192 1 2 3 4 5 --time 300 --force-field kpm --label kpm",
    "256 1 2 3 4 --time 600 --force-field triangular_paper --label paper",
    "256 1 2 3 4 --time 800 --force-field triangular_paper --label paper --damping 0.05 "
    "--method neutral",
)
TIME_STEPS = (
    "128 1 2 3 4 5 --damping 0.05 --dt 1 --time 487",
    "128 4 5 --damping 0.05 --time 474",
    "128 1 2 3 4 5 --damping 0.05 --time 474 --method neutral",
    "128 1 2 3 4 5 --time 230 --method neutral",
    "256 1 2 3 4 --damping 0.05 --dt 1 --time 565",
)
REFERENCE = {NAME: COARSENING, "time_steps": TIME_STEPS}
"""What `run` is asked for by `all`, by output."""
Engine = tuple[Callable[[torch.Tensor], Any], str, simulation.Guard | None]


def folder(output: str) -> Any:
    return files.root() / "build" / output


def mean_chirality(sites: Lattice, s: torch.Tensor) -> torch.Tensor:
    """|chi| by site, averaged: 0.77 in perfect order."""
    return torch.as_tensor(observables.site_chirality(sites, s)).abs().mean(-1)


def neighbors(sites: Lattice, s: torch.Tensor) -> torch.Tensor:
    """S_i . S_j of nearest neighbours: -1/3 in perfect order."""
    return torch.as_tensor(observables.bond_correlation(sites, s)).mean(-1)


def wall_harmonics(sites: Lattice, s: torch.Tensor) -> torch.Tensor:
    """Harmonics 2, 6 and 12 of the orientation of the walls (real and imaginary part)."""
    found = harmonics.orientation_harmonics(sites, domains.chirality_sign(sites, s), (2, 6, 12))
    return torch.view_as_real(torch.as_tensor(found))


def structure(sites: Lattice, s: torch.Tensor) -> np.ndarray:
    """Circular average of the structure factor of the sign of the chirality."""
    return scaling.circular_structure_factor(sites, domains.chirality_sign(sites, s))[1]


def circular_correlation(sites: Lattice, values: spins.SpinArray) -> tuple[np.ndarray, np.ndarray]:
    """r (k,) and the circular average (..., k) of C(r) = <x(0) x(r)>, r = 0 first, numpy.

    For a field (..., N) on one site a cell; rings one lattice constant wide.
    """
    x = observables.site_values(sites, values, one_per_cell=True).detach().double()
    rings = observables.distance_rings(sites)
    return rings.radius, rings.average(observables.spin_correlation(sites, x)).cpu().numpy()


def correlation(sites: Lattice, s: torch.Tensor) -> np.ndarray:
    return circular_correlation(sites, domains.chirality_sign(sites, s))[1]


OBSERVABLES = {
    "lengths": domains.domain_lengths,
    "imbalance": domains.imbalance,
    "spin_length": domains.spin_length,
    "wall_harmonics": wall_harmonics,
    "vortex_density": vortices.vortex_density,
    "chirality": mean_chirality,
    "neighbors": neighbors,
    "structure": structure,
    "correlation": correlation,
}


def store_of(given: argparse.Namespace, seed: int) -> Any:
    settings = f"dt{given.dt:g}_a{given.damping:g}_kT{given.kT:g}"
    if given.method != "adams":
        settings += given.method
    stores = given.folder or folder(given.output)
    return stores / f"{given.label}_{given.length}_{settings}_{seed}.h5"


def kpm_engine(sites: Lattice, device: str) -> Engine:
    """Fields of probing vectors whose phases are drawn from the spins: fresh, yet a function."""
    model = paper_model(sites)

    def field(s: torch.Tensor) -> Any:
        seed = zlib.crc32(s.cpu().numpy().tobytes())
        return kpm.solve(model, s, N_MOMENTS, N_PROBES, seed=seed, device=device).local_field

    return field, f"kpm, {N_MOMENTS} moments, {N_PROBES} probes", None


def network_engine(name: str, sites: Lattice, device: str) -> Engine:
    field = forcefield.load(name).on(sites).to(device)
    return field.field, f"{name} {forcefield.checksum(field)[:12]}", simulation.Guard(field)


def run(given: argparse.Namespace, seed: int, **settings: Any) -> simulation.Run:
    """The run of a seed to its store; ``settings`` of it may be others than those of the study."""
    sites = lattice.triangular(given.length)
    name, device = given.force_field, given.device
    is_kpm = name == "kpm"
    made = kpm_engine(sites, device) if is_kpm else network_engine(name, sites, device)
    field, engine, guard = made
    n_steps = round(given.time / given.dt)
    start = time.perf_counter()

    def report(step: int) -> None:
        passed = time.perf_counter() - start
        print(
            f"L {given.length} seed {seed} t {step * given.dt:g} after {passed:.0f} s", flush=True
        )

    chosen: dict[str, Any] = {
        "observables": OBSERVABLES,
        "seed": seed,
        "checkpoint_every": 2,
        "report": report,
        "engine": engine,
        "frames_every": [round(t / given.dt) for t in FRAME_TIMES if t <= given.time],
        "frame_dtype": "float16",
        "guard": guard,
    }
    return simulation.quench(
        store_of(given, seed),
        sites,
        torch.as_tensor(spins.random(sites.n_sites, seed), dtype=torch.float32).to(device),
        field,
        LandauLifshitz(given.dt, given.damping, given.kT, given.method),
        n_steps,
        simulation.logarithmic_steps(n_steps, reference.PER_DECADE),
        **chosen | settings,
    )


NAMES = r"(?!test_)[a-z]+_\d+_dt.*_\d+"
CURVES = ("structure", "correlation")
MAPS = ("chirality", "frame_time")
UNVARIED = {"name", "length", "equation", "engine", "seeds", "time"}
"""What a set has once, not seed by seed."""
Measured = tuple[dict[str, Any], Any]
"""Row and curves of a set."""


def collect(given: argparse.Namespace) -> None:
    """Histories of all runs as JSON; curves of all and maps of one seed of each set as HDF5."""
    found = sets(given.folder or folder(given.output), NAMES)
    path = files.reference() / f"{given.output}.h5"
    stored = files.loaded(path.with_suffix(".json"))["sets"] if given.add else []
    rows = {row["name"]: row for row in stored}
    origin = results.measured_origin(lengths=list(domains.ESTIMATORS), model="J = 3, filling 0.25")
    before = h5py.File(path) if rows else nullcontext({})
    others = rows.keys() - found.keys()
    with reference_file(given.output, origin, others) as file, before as kept:
        for name, paths in found.items():
            runs = [simulation.load(path) for path in paths]
            row, curves = histories(name, runs)
            if name in rows:
                row, curves = joined((row, curves), (rows[name], kept[name]))
            group = file.create_group(name)
            group["time"], group["seed"] = row["time"], row["seeds"]
            for curve, values in curves.items():
                write_compressed(group, curve, np.stack(values), np.float32)
            if row["seeds"][0] == runs[0].header["seed"]:
                write_maps(group, runs[0])
            else:
                for part in MAPS:
                    file.copy(kept[name][part], group)
            rows[name] = row
    ordered = [rows[name] for name in sorted(rows)]
    results.save_reference(given.output, {"origin": origin, "sets": ordered})


def histories(name: str, runs: list[Any]) -> Measured:
    """Observables of a set, (seed, time) and further axes, with five digits; its curves apart."""
    n_times = shared_times([run.time for run in runs])
    header = runs[0].header
    row = {
        "name": name,
        "length": header["lattice"]["shape"][0],
        "equation": header["equation"],
        "engine": header["engine"],
        "seeds": [r.header["seed"] for r in runs],
        "time": runs[0].time[:n_times].tolist(),
    }
    watched = [key for key in ("outside", "energy_per_site") if key in runs[0].guard]
    for key in (*(k for k in OBSERVABLES if k not in CURVES), *watched):
        values = [r.observables[key] if key in OBSERVABLES else r.guard[key] for r in runs]
        row[key] = digits(np.stack([v[:n_times] for v in values]), 5)
    return row, {curve: [r.observables[curve][:n_times] for r in runs] for curve in CURVES}


def joined(new: Measured, before: Measured) -> Measured:
    """The seeds of a set at the times that all have; those of `new` replace the same ones before.

    Raises
    ------
    ValueError
        If the two were made with another engine or equation, or do not observe the same.
    """
    (row, curves), (stored, stored_curves) = new, before
    unlike = [key for key in ("engine", "equation") if row[key] != stored[key]]
    if unlike or row.keys() != stored.keys():
        differ = unlike or sorted(row.keys() ^ stored.keys())
        raise ValueError(f"{row['name']}: the stored seeds differ in {', '.join(differ)}")
    n_times = shared_times([row["time"], stored["time"]])
    stay = [k for k, seed in enumerate(stored["seeds"]) if seed not in row["seeds"]]
    order = np.argsort([*row["seeds"], *(stored["seeds"][k] for k in stay)])

    def by_seed(values: Any, others: Any) -> list[Any]:
        both = [*values, *(others[k] for k in stay)]
        return [both[k] for k in order]

    whole = row | {"time": row["time"][:n_times], "seeds": by_seed(row["seeds"], stored["seeds"])}
    for key in row.keys() - UNVARIED:
        whole[key] = [values[:n_times] for values in by_seed(row[key], stored[key])]
    parts = {curve: by_seed(values, stored_curves[curve]) for curve, values in curves.items()}
    return whole, {curve: [v[:n_times] for v in values] for curve, values in parts.items()}


def write_maps(group: h5py.Group, run: Any) -> None:
    """Chirality of the sites at the frames of one run from `FIRST_MAP` on, noise before it."""
    shown = run.frame_time >= min(FIRST_MAP, run.frame_time[-1])
    write_chirality(group, lattice_of(run), run.frames[shown].astype(np.float32))
    group["frame_time"] = run.frame_time[shown]


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parsers = whole.add_subparsers(dest="action", required=True)
    running = parsers.add_parser("run")
    running.add_argument("length", type=int)
    running.add_argument("seeds", type=int, nargs="+")
    running.add_argument("--dt", type=float, default=2.0)
    running.add_argument("--damping", type=float, default=0.3)
    running.add_argument("--kT", type=float, default=0.0)
    running.add_argument("--method", default="adams")
    running.add_argument("--time", type=float, default=1280.0)
    running.add_argument("--force-field", default="triangular")
    running.add_argument("--label", default=LABEL)
    running.add_argument("--device", default="cpu")
    collecting = parsers.add_parser("collect")
    collecting.add_argument("--add", action="store_true", help="to what is stored")
    parsers.add_parser("all").set_defaults(add=False)
    for each in parsers.choices.values():
        each.add_argument("--output", default=NAME)
        each.add_argument("--folder", type=Path, help="of the stores, instead of build/OUTPUT")
    return whole


def main() -> None:
    given = parser().parse_args()
    lines = [f"{line} --output {given.output}" for line in REFERENCE.get(given.output, ())]
    for each in asked(parser(), given, lines):
        for seed in each.seeds:
            run(each, seed)
    if given.action != "run":
        collect(given)


if __name__ == "__main__":
    main()
