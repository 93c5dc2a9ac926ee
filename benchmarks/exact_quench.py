"""Quenches of the doped square lattice with exact fields, from random spins to t = 1000.

    python benchmarks/exact_quench.py run LENGTH SEED [SEED ...] [--dt 0.5] [--kT 0.001]
                                                                 [--time 1000]
    python benchmarks/exact_quench.py collect [--output square_exact]
    python benchmarks/exact_quench.py            # the effect of the time step, two minutes

J = 6, filling 0.485, electron_kT 0.0025, damping 0.05; fields in single precision, Adams-Bashforth
steps. A run is a store build/arrest/exact_L_seed.h5 with statistics on the fly; one that was
stopped goes on from its last checkpoint. About 6 minutes a seed at 20 x 20 and 45 at 30 x 30, one
free core. `collect`
writes data/reference/NAME.json with the statistics at times in steps of about a tenth of a decade,
the effect of the time step (runs with --kT 0 and --dt 0.5 and 0.25), and NAME.h5 with a few frames
of one seed.
"""

import argparse
import json
import re
import time
from typing import Any

import h5py
import numpy as np
import results
import torch

from sdml import exact, lattice, paths, simulation, snapshots, spins
from sdml.dynamics import LandauLifshitz
from sdml.model import SDModel

MODEL: dict[str, Any] = {"exchange_coupling": 6.0, "filling": 0.485, "electron_kT": 0.0025}
DAMPING, SAVE_INTERVAL = 0.05, 5.0
ENGINE = "exact in single precision, J = 6, filling 0.485, electron_kT 0.0025"
STATE = ("energy", "rms_torque", "chemical_potential")
PLAIN_NAME = re.compile(r"exact_(\d+)_(\d+)\.h5")
COMPARED = {"length": 12, "seed": 1, "time": 100.0}
TIMES_PER_DECADE, FRAME_TIMES = 10, (0, 10, 30, 100, 300, 1000)


def folder():
    return paths.root() / "build" / "arrest"


def store_name(length: int, seed: int, dt: float, kT: float) -> str:
    """The plain name belongs to the published noise; other settings are part of the name."""
    varied = "" if (dt, kT) == (0.5, 0.001) else f"_dt{dt:g}_kT{kT:g}"
    return f"exact_{length}_{seed}{varied}.h5"


def observables_of(model: SDModel) -> dict[str, simulation.Observable]:
    """Statistics of the spins, and per solve the density and the numbers of `STATE`."""
    solved: dict[str, Any] = {}

    def state_of(s: torch.Tensor) -> Any:
        if solved.get("spins") is not s:
            solved.update(spins=s, state=exact.solve(model, s))
        return solved["state"]

    def numbers(lat: lattice.Lattice, s: torch.Tensor) -> torch.Tensor:
        state = state_of(s)
        torque = snapshots.rms_torque(s, state.local_field)
        return torch.stack([state.energy / lat.n_sites, torque, state.chemical_potential])

    return {
        "statistics": snapshots.statistics_row,
        "state": numbers,
        "density": lambda lat, s: state_of(s).density,
    }


def run(length: int, seed: int, dt: float, kT: float, final_time: float) -> None:
    sites = lattice.square(length)
    model = SDModel(sites, **MODEL)
    every = round(SAVE_INTERVAL / dt)
    start = time.perf_counter()

    def report(step: int) -> None:
        if step % (4 * every) == 0:
            passed = time.perf_counter() - start
            print(f"L {length} seed {seed} t {step * dt:g} after {passed:.0f} s", flush=True)

    simulation.quench(
        folder() / store_name(length, seed, dt, kT),
        sites,
        torch.as_tensor(spins.random(sites.n_sites, seed)),
        lambda s: exact.local_field(model, s, "single"),
        LandauLifshitz(dt, DAMPING, kT, "adams"),
        round(final_time / SAVE_INTERVAL) * every,
        every,
        observables_of(model),
        seed,
        checkpoint_every=2,
        report=report,
        engine=ENGINE,
    )


def chosen(times: np.ndarray) -> np.ndarray:
    """Indices of the frames nearest to a logarithmic grid, and of the first and last one."""
    if len(times) < 2:
        return np.arange(len(times))
    decades = np.log10(times[-1] / times[1])
    grid = np.geomspace(times[1], times[-1], max(round(decades * TIMES_PER_DECADE), 1) + 1)
    nearest = abs(times[:, None] - grid).argmin(0)
    return np.unique(np.concatenate([[0], nearest, [len(times) - 1]]))


def row_of(path: Any) -> dict[str, Any]:
    """The statistics of one store at the chosen times, columns by name."""
    found = simulation.load(path)
    sites = lattice.square(found.header["lattice"]["shape"][0])
    picked = chosen(found.time)
    columns = snapshots.statistics(
        sites, found.frames[picked].astype(float), found.observables["density"][picked]
    )
    for name, values in zip(STATE, found.observables["state"][picked].T, strict=True):
        columns[name] = values
    rounded = {name: _finite(values) for name, values in columns.items()}
    return {
        "length": sites.length,
        "seed": found.header["seed"],
        "equation": found.header["equation"],
        "holes": round(float((1 - found.observables["density"][0]).sum()), 6),
        "time": found.time[picked],
        "statistics": rounded,
    }


def time_step_rows() -> list[dict[str, Any]]:
    """How far runs without noise and with half the time step are from each other."""
    rows = []
    for coarse in sorted(folder().glob("exact_*_dt0.5_kT0.h5")):
        fine = coarse.with_name(coarse.name.replace("_dt0.5", "_dt0.25"))
        if not fine.exists():
            continue
        pair = [simulation.load(path) for path in (coarse, fine)]
        shared = min(len(found.time) for found in pair)
        frames = [found.frames[:shared].astype(float) for found in pair]
        distance = np.sqrt(((frames[0] - frames[1]) ** 2).sum(-1).mean(-1))
        sites = lattice.square(pair[0].header["lattice"]["shape"][0])
        statistics = [snapshots.statistics(sites, each) for each in frames]
        picked = chosen(pair[0].time[:shared])
        rows.append(
            {
                "length": sites.length,
                "seed": pair[0].header["seed"],
                "dt": [found.header["equation"]["dt"] for found in pair],
                "time": pair[0].time[picked],
                "rms_spin_difference": _finite(distance[picked]),
                "statistics": [
                    {name: _finite(values[picked]) for name, values in each.items()}
                    for each in statistics
                ],
            }
        )
    return rows


def compare_time_steps() -> None:
    """One small quench without noise, with the usual and half the time step."""
    for dt in (0.5, 0.25):
        run(COMPARED["length"], COMPARED["seed"], dt, 0.0, COMPARED["time"])
    for row in time_step_rows():
        for instant, distance in zip(row["time"], row["rms_spin_difference"], strict=True):
            print(f"L {row['length']} seed {row['seed']} t {instant:g}: spins differ {distance:g}")


def _finite(values: np.ndarray) -> list[float | None]:
    """Six digits; null for an infinite length."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]


def collect(output: str) -> None:
    stores = sorted(p for p in folder().glob("exact_*.h5") if PLAIN_NAME.fullmatch(p.name))
    runs = sorted((row_of(p) for p in stores), key=lambda r: (r["length"], r["seed"]))
    origin = results.origin(
        model=MODEL,
        engine=ENGINE,
        script="benchmarks/exact_quench.py",
        columns="see sdml.snapshots.statistics; energy per site, rms |S x h|, mu",
    )
    results.keep(output, {"origin": origin, "runs": runs, "time_step": time_step_rows()})
    if stores:
        shown = max(stores, key=lambda p: (_number(p, 1), -_number(p, 2)))
        write_frames(shown, paths.reference() / f"{output}.h5", origin)


def _number(path: Any, group: int) -> int:
    """Length (1) or seed (2) in the name of a store."""
    found = PLAIN_NAME.fullmatch(path.name)
    assert found is not None
    return int(found[group])


def write_frames(source: Any, target: Any, origin: dict[str, Any]) -> None:
    """A few frames and densities of one run as float16."""
    found = simulation.load(source)
    instants = [t for t in FRAME_TIMES if t <= found.time[-1]]
    picked = [int(abs(found.time - t).argmin()) for t in instants]
    with paths.replacing(target) as partial, h5py.File(partial, "w") as file:
        file.attrs["origin"] = json.dumps(origin)
        file.attrs["header"] = json.dumps(found.header)
        file["time"] = found.time[picked]
        file["time"].attrs["units"] = "hbar/t"
        file["spins"] = found.frames[picked].astype(np.float16)
        file["density"] = found.observables["density"][picked].astype(np.float16)
        file["time"].make_scale("time")
        for name in ("spins", "density"):
            file[name].dims[0].attach_scale(file["time"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parsers = parser.add_subparsers(dest="action", required=False)
    running = parsers.add_parser("run")
    running.add_argument("length", type=int)
    running.add_argument("seeds", type=int, nargs="+")
    running.add_argument("--dt", type=float, default=0.5)
    running.add_argument("--kT", type=float, default=0.001)
    running.add_argument("--time", type=float, default=1000.0)
    collecting = parsers.add_parser("collect")
    collecting.add_argument("--output", default="square_exact", help="name in data/reference")
    given = parser.parse_args()
    if given.action == "collect":
        collect(given.output)
    elif given.action == "run":
        for seed in given.seeds:
            run(given.length, seed, given.dt, given.kT, given.time)
    else:
        compare_time_steps()


if __name__ == "__main__":
    main()
