"""Quenches of the doped square lattice from random spins: does phase separation freeze?

    python studies/arrest.py run ENGINE LENGTH SEED [SEED ...] [--dt 0.5] [--damping 0.05]
                                    [--kT 0.001] [--heat KT FROM UNTIL] [--time 1000]
    python studies/arrest.py density STORE [--n-probes 64] [--output densities]
    python studies/arrest.py rates SET ENGINE [--output rates]
    python studies/arrest.py relax [--output relaxed]
    python studies/arrest.py inherent [--output inherent]
    python studies/arrest.py keep STORE [STORE ...]
    python studies/arrest.py add [--output arrest]
    python studies/arrest.py collect [--output arrest]
    python studies/arrest.py all

ENGINE is exact (diagonalization in single precision), a force field (square, or a file), or
published_kind or published_kind_transverse (see published_kind.py). J = 6,
filling 0.485, electron_kT 0.0025, Adams-Bashforth steps. A run is a store
build/arrest/ENGINE_L_seed.h5 (settings other than the defaults are part of its name) with
statistics on the fly; one that was stopped, or is to be longer, goes on from its last checkpoint.
With --heat the bath is warmer between two times. One free core takes about 6 minutes a seed for
exact 20 x 20, 90 to 150 for exact 30 x 30, and 6 for the force field at 100 x 100. `keep` writes
what `collect` needs of one run to data/reference/seeds/ (some 100 kB), so that runs made at
different times and places can be collected together; `add` puts these seeds into a stored reference
(its sets by name, new ones behind them) and removes their files. `collect` writes
data/reference/NAME.json with the statistics at times in steps of about a tenth of a decade, and
NAME.h5 with a few frames of one seed of each set and the densities at the end of all. `density`
takes four frames of one store and writes their electron density by the kernel polynomial method
beside that of the engine that drove them (data/reference/NAME.h5): the electrons of lattices too
large for diagonalization. `rates` asks, on the frames of a set of exact runs (exact_30_kT0), how
fast the motion driven by another engine would dissipate their exact energy. `relax` judges the ends
of some runs by exact fields: the torque and the holes at the end, and again after a relaxation
without noise. `inherent` relaxes frames of the heated runs by the force field that drove them,
which takes away thermal motion and leaves the clusters (inherent structures: Stillinger and Weber,
Phys. Rev. A 25, 978 (1982), doi 10.1103/PhysRevA.25.978). `all` makes every run of the stored
reference and collects them.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import landscape
import numpy as np
import published_kind
import torch
from command import asked
from stores import describe, digits, lattice_of, reference_file, sets, write_compressed

from sdml import exact, files, forcefield, kpm, lattice, observables, simulation, spins
from sdml.companion import results
from sdml.dynamics import LandauLifshitz, angular_velocity, evolve
from sdml.model import PAPER_CASES, SDModel, paper_model
from sdml.phase_separation import clusters, snapshots

MODEL = PAPER_CASES["square"]
MODEL_TEXT = "J = {exchange_coupling:g}, filling {filling:g}, electron_kT {electron_kT:g}"
DEFAULTS = {"dt": 0.5, "damping": 0.05, "kT": 0.001}
LETTERS = {"dt": "dt", "damping": "a", "kT": "kT"}
SAVE_INTERVAL, RAMP = 10.0, 50.0
STATE = ("energy", "rms_torque", "chemical_potential")
REFERENCE = (
    "exact 12 1 2 3 4",
    "exact 12 1 2 3 4 --dt 0.25",
    "exact 20 1 2 3 4",
    "exact 30 1 2",
    "exact 30 1 2 3 4 --kT 0",
    "square 20 1 2 3 4",
    "square 30 1 2 3 4",
    "square 30 1 2 3 4 --kT 0",
    "square_paper 30 1 2 3 4 --kT 0",
    "square 60 1 2 --time 1500 --heat 0.02 400 1200",
    "square 60 1 2 --time 2400 --heat 0.03 400 2000",
    "square 60 1 2 --time 1500 --heat 0.05 400 1200",
    "square 60 1 2 3 4 --time 4000 --kT 0.01",
    "square 60 1 2 --damping 0.2",
    "square 100 1 2 3 4",
    "square 100 1 2 --damping 0.5 --kT 0 --time 400",
    "square_paper 100 1 2",
)
"""What `run` is asked for by `all`."""
AGES = (100, 300)
DENSITY_TIMES = (10, 50, 200, 1000)
EVEN_TIMES = 48
RELAXED = {"exact_20": 4, "square_20": 4, "square_30_kT0": 2}
"""Sets whose ends are judged by exact fields, and how many of their seeds."""
RELAXATION, RELAXATION_TIME = LandauLifshitz(0.5, 0.2, 0.0, "adams"), 200.0
INHERENT_INTERVAL = 200.0
RATES_WINDOWS = ((10.0, 100.0), (100.0, 300.0))
TIMES_PER_DECADE, FRAME_TIMES = 10, (0, 10, 30, 100, 200, 300, 500, 600, 1000)


def folder() -> Path:
    return files.root() / "build" / "arrest"


def set_name(given: argparse.Namespace) -> str:
    """Engine, length and whatever is not the default."""
    varied = [
        f"{LETTERS[name]}{getattr(given, name):g}"
        for name, usual in DEFAULTS.items()
        if getattr(given, name) != usual
    ]
    heated = ["heat" + "-".join(f"{value:g}" for value in given.heat)] if given.heat else []
    return "_".join([Path(given.engine).stem, str(given.length), *varied, *heated])


class Engine(NamedTuple):
    """The field that drives, and (energy, torque, mu) and density at the times that are saved."""

    description: str
    local_field: Callable[[torch.Tensor], Any]
    state: Callable[[torch.Tensor], tuple[list[Any], Any]]


def exact_engine(model: SDModel) -> Engine:
    def state(s: torch.Tensor) -> tuple[list[Any], Any]:
        found = exact.solve(model, s.double())
        torque = snapshots.rms_torque(s.double(), found.local_field)
        return [found.energy, torque, found.chemical_potential], found.density

    return Engine(
        "exact in single precision", lambda s: exact.local_field(model, s, "single"), state
    )


def network_engine(name: str, sites: lattice.Lattice) -> Engine:
    field = forcefield.load(name).on(sites)

    def state(s: torch.Tensor) -> tuple[list[Any], Any]:
        torque = snapshots.rms_torque(s, field.local_field(s))
        return [field.energy(s), torque, field.chemical_potential(s)], field.density(s)

    checksum = forcefield.checksum(field)[:12]
    return Engine(f"{Path(name).stem} {checksum}", field.field, state)


def published_kind_engine(name: str, sites: lattice.Lattice) -> Engine:
    """A network of the published kind, which knows no density and no chemical potential."""
    network = published_kind.trained_network(name, sites)
    unknown = torch.full((sites.n_sites,), torch.nan)

    def state(s: torch.Tensor) -> tuple[list[Any], Any]:
        torque = snapshots.rms_torque(s, network.field(s))
        return [network(s).detach(), torque, torch.nan], unknown

    return Engine(f"{name}, one training", network.field, state)


def statistics_row(sites: lattice.Lattice, s: torch.Tensor) -> torch.Tensor:
    """The entries of `snapshots.SPIN_STATISTICS` as one vector, an observable."""
    row = snapshots.statistics(sites, s)
    return torch.stack([torch.as_tensor(row[k]).double() for k in snapshots.SPIN_STATISTICS], -1)


def observables_of(engine: Engine) -> dict[str, simulation.Observable]:
    """Statistics of the spins, and of one evaluation the density and the numbers of `STATE`."""
    found: dict[str, Any] = {}

    def state_of(s: torch.Tensor) -> tuple[list[Any], Any]:
        if found.get("spins") is not s:
            found.update(spins=s, state=engine.state(s))
        return found["state"]

    def numbers(lat: lattice.Lattice, s: torch.Tensor) -> torch.Tensor:
        energy, torque, mu = (torch.as_tensor(x).double().squeeze() for x in state_of(s)[0])
        return torch.stack([energy / lat.n_sites, torque, mu])

    return {
        "statistics": statistics_row,
        "state": numbers,
        "density": lambda lat, s: torch.as_tensor(state_of(s)[1]).float(),
    }


def heated(given: argparse.Namespace) -> list[tuple[float, float]] | None:
    """The bath of --heat: warmer between two times, with linear ramps."""
    if not given.heat:
        return None
    warm, begin, end = given.heat
    cool = given.kT
    return [(begin, cool), (begin + RAMP, warm), (end - RAMP, warm), (end, cool)]


def run(given: argparse.Namespace, seed: int) -> None:
    sites = lattice.square(given.length)
    if given.engine == "exact":
        engine, dtype = exact_engine(paper_model(sites)), torch.float64
    elif given.engine in (published_kind.NAME, published_kind.TRANSVERSE):
        engine, dtype = published_kind_engine(given.engine, sites), torch.float32
    else:
        engine, dtype = network_engine(given.engine, sites), torch.float32
    every = round(SAVE_INTERVAL / given.dt)
    n_steps = round(given.time / SAVE_INTERVAL) * every
    schedule, name = heated(given), set_name(given)
    start = time.perf_counter()

    def report(step: int) -> None:
        if step % (5 * every) == 0:
            passed = time.perf_counter() - start
            print(f"{name} seed {seed} t {step * given.dt:g} after {passed:.0f} s", flush=True)

    simulation.quench(
        folder() / f"{name}_{seed}.h5",
        sites,
        torch.as_tensor(spins.random(sites.n_sites, seed), dtype=dtype),
        engine.local_field,
        LandauLifshitz(given.dt, given.damping, 0.0 if schedule else given.kT, "adams"),
        n_steps,
        every,
        observables=observables_of(engine),
        seed=seed,
        checkpoint_every=1,
        report=report,
        engine=f"{engine.description}, {MODEL_TEXT.format(**MODEL)}",
        schedule=schedule,
    )


def chosen(times: np.ndarray, evenly: bool) -> np.ndarray:
    """Indices of the frames nearest to a grid, logarithmic or even, and of the first and last."""
    if len(times) < 2 or evenly:
        return np.arange(0, len(times), max(len(times) // EVEN_TIMES, 1))
    decades = np.log10(times[-1] / times[1])
    grid = np.geomspace(times[1], times[-1], max(round(decades * TIMES_PER_DECADE), 1) + 1)
    nearest = abs(times[:, None] - grid).argmin(0)
    named = [abs(times - t).argmin() for t in FRAME_TIMES if t <= times[-1]]
    return np.unique(np.concatenate([[0], nearest, named, [len(times) - 1]]))


def row_of(path: Path) -> dict[str, Any]:
    """The statistics of one store at the chosen times, columns by name."""
    found = simulation.load(path)
    sites = lattice_of(found)
    picked = chosen(found.time, evenly=bool(found.header["schedule"]))
    density = found.observables["density"][picked].astype(float)
    frames = found.frames[picked].astype(float)
    known = bool(np.isfinite(density).all())
    columns = snapshots.statistics(sites, frames, density if known else None)
    for name, values in zip(STATE, found.observables["state"][picked].T, strict=True):
        columns[name] = values
    for age in AGES:
        if age < found.time[-1]:
            k = abs(found.time - age).argmin()
            columns[f"overlap_{age}"] = snapshots.overlap(frames, found.frames[k].astype(float))
            if known:
                then = found.observables["density"][k].astype(float)
                columns[f"density_overlap_{age}"] = snapshots.density_overlap(density, then)
    return {
        "seed": found.header["seed"],
        "holes": digits((1 - density[0]).sum()),
        "electron_drift": digits(abs(density.sum(-1) - density[0].sum()).max()),
        "energy_rise": float(np.diff(found.observables["state"][:, 0]).max()),
        "cluster_sizes": sorted(map(len, clusters.clusters(sites, frames[-1]).sites)),
        "time": found.time[picked],
        "statistics": {name: digits(values) for name, values in columns.items()},
    }


def keep(store: Path) -> None:
    """One run as a row of its set, and its last density: data/reference/seeds/<store>.json."""
    name = store.stem.rpartition("_")[0]
    origin = results.measured_origin(model=MODEL, script="studies/arrest.py")
    last = simulation.load(store).observables["density"][-1]
    kept = set_row(name, [store], row_of) | {"origin": origin, "end": digits(last, 4)}
    results.save_reference(f"seeds/{store.stem}", kept)


def collect(output: str) -> None:
    origin = results.measured_origin(
        model=MODEL,
        script="studies/arrest.py",
        columns="see snapshots.statistics; energy per site, rms |S x h|, mu, overlaps",
    )
    rows = []
    with reference_file(output, origin) as file:
        for name, stores in sets(folder()).items():
            rows.append(set_row(name, stores, row_of))
            write_frames(file.create_group(name), stores)
    results.save_reference(output, {"origin": origin, "sets": rows})


def add(output: str) -> None:
    """The seeds that `keep` wrote into data/reference/OUTPUT.json, their densities into .h5."""
    path = files.reference() / f"{output}.json"
    stored = files.loaded(path)
    sets_by_name = {row["name"]: row for row in stored["sets"]}
    with h5py.File(files.reference() / f"{output}.h5", "a") as file:
        for seed in sorted((files.reference() / "seeds").glob("*.json")):
            row = files.loaded(seed)
            end, origin = np.array([row.pop("end")]), row.pop("origin")
            (run,) = row["runs"]
            run["code"] = origin["code"]
            known = sets_by_name.setdefault(row["name"], row | {"runs": []})
            if run["seed"] in [each["seed"] for each in known["runs"]]:
                raise ValueError(f"{seed.name}: this seed is in {output}.json already")
            known["runs"].append(run)
            group = file.require_group(row["name"])
            if "end" in group:
                end = np.concatenate([group["end"][()], end])
                del group["end"]
            write_compressed(group, "end", end, np.float16)
            seed.unlink()
        describe(file, stored["origin"])
    results.save_reference(output, stored | {"sets": list(sets_by_name.values())})


def set_row(name: str, stores: list[Path], row: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What the runs of a set share, and a row for each."""
    header = simulation.load(stores[0]).header
    common = {key: header[key] for key in ("equation", "schedule", "engine")}
    length = header["lattice"]["shape"][0]
    return {"name": name, "length": length, **common, "runs": [row(path) for path in stores]}


def write_frames(group: h5py.Group, stores: list[Path]) -> None:
    """Mean S_i . S_j of every site, and densities, of a few frames of the first run.

    And the densities at the end of every run, (n_runs, N).
    """
    ends = np.stack([simulation.load(store).observables["density"][-1] for store in stores])
    write_compressed(group, "end", ends, np.float16)
    found = simulation.load(stores[0])
    picked = [int(abs(found.time - t).argmin()) for t in FRAME_TIMES if t <= found.time[-1]]
    group["time"] = found.time[picked]
    frames = found.frames[picked].astype(float)
    around = observables.site_correlation(lattice_of(found), frames)
    for name, values in (("bonds", around), ("density", found.observables["density"][picked])):
        write_compressed(group, name, values, np.float16)


def density(store: Path, n_probes: int, output: str) -> None:
    """Of the frames at `DENSITY_TIMES`, by colored probing, with the estimated field error."""
    found = simulation.load(store)
    sites = lattice_of(found)
    picked = [int(abs(found.time - t).argmin()) for t in DENSITY_TIMES]
    columns: dict[str, list[np.ndarray]] = {"kpm": [], "driver": [], "bonds": []}
    errors = []
    for k in picked:
        frame = found.frames[k].astype(float)
        state = kpm.solve(paper_model(sites), frame, n_probes=n_probes, seed=0)
        columns["kpm"].append(state.density)
        columns["driver"].append(found.observables["density"][k])
        columns["bonds"].append(observables.site_correlation(sites, frame))
        errors.append(float(state.field_error))
        difference = columns["kpm"][-1] - columns["driver"][-1]
        row = {"time": float(found.time[k]), "field error": errors[-1]}
        row["rms difference of the densities"] = float(np.sqrt((difference**2).mean()))
        print(results.row_text(row), flush=True)
    origin = results.measured_origin(model=MODEL, engine=found.header["engine"], n_probes=n_probes)
    origin |= {"seed": found.header["seed"], "field_error": errors, "store": store.name}
    with reference_file(output, origin) as file:
        file["time"] = found.time[picked]
        for name, values in columns.items():
            write_compressed(file, name, np.stack(values), np.float16)


def rate_ratio(model: SDModel, driver: Any, damping: float, frame: np.ndarray) -> float:
    """dE/dt = -sum h . dS/dt, h exact, of the motion that ``driver`` drives over that of h."""
    s = torch.as_tensor(frame)
    exactly = exact.local_field(model, s, "single").double()
    by_driver, by_exact = (
        (exactly * torch.linalg.cross(angular_velocity(s, h, damping), s)).sum()
        for h in (driver.local_field(s), exactly)
    )
    return float(by_driver / by_exact)


def rates(name: str, engine: str, output: str) -> None:
    """Of every seed of a set of exact runs, at the times saved in `RATES_WINDOWS`."""
    ratios = []
    for store in sets(folder())[name]:
        found = simulation.load(store)
        sites, damping = lattice_of(found), found.header["equation"]["damping"]
        model, driver = paper_model(sites), forcefield.load(engine).on(sites)
        picked = (found.time >= RATES_WINDOWS[0][0]) & (found.time < RATES_WINDOWS[-1][-1])
        frames = spins.normalize(found.frames[picked].astype(float))
        ratios.append([rate_ratio(model, driver, damping, frame) for frame in frames])
        print(
            results.row_text({"store": store.name, "mean ratio": float(np.mean(ratios[-1]))}),
            flush=True,
        )
    origin = results.measured_origin(
        model=MODEL, script="studies/arrest.py", set=name, engine=engine
    )
    time, ratio = found.time[picked], np.round(ratios, 4)
    means = [mean_ratio(time, ratio, *window) for window in RATES_WINDOWS]
    kept = {"origin": origin, "time": time.tolist(), "ratio": ratio.tolist(), "windows": means}
    results.save_reference(output, kept)


def mean_ratio(time: np.ndarray, ratio: np.ndarray, begin: float, end: float) -> dict[str, float]:
    """Of all times in [begin, end) and all seeds, with the standard error."""
    values = ratio[:, (begin <= time) & (time < end)]
    error = values.std(ddof=1) / np.sqrt(values.size)
    return {"from": begin, "until": end, "ratio": float(values.mean()), "error": float(error)}


def at_rest(local_field: Callable[[torch.Tensor], Any], frame: torch.Tensor) -> torch.Tensor:
    """The spins (N, 3) after `RELAXATION_TIME` without noise."""
    n_steps = round(RELAXATION_TIME / RELAXATION.dt)
    return evolve(spins.normalize(frame), local_field, [RELAXATION] * n_steps)


def judged(model: SDModel, frame: np.ndarray, driver: np.ndarray | None = None) -> dict[str, Any]:
    """Statistics of one frame by exact electrons, and its holes by the driver's."""
    found = exact.solve(model, frame)
    numbers = snapshots.solved_statistics(model.lattice, frame, found.density, found.local_field)
    row: dict[str, Any] = {name: digits(value) for name, value in numbers.items()}
    if driver is not None:
        theirs = snapshots.statistics(model.lattice, frame, driver)
        row["holes_in_clusters_by_driver"] = float(np.squeeze(theirs["holes_in_clusters"]))
    return row


def relax(output: str) -> None:
    rows = [
        relaxed_row(name, store)
        for name, n_seeds in RELAXED.items()
        for store in sets(folder())[name][:n_seeds]
    ]
    equation = dataclasses.asdict(RELAXATION)
    origin = results.measured_origin(model=MODEL, script="studies/arrest.py", equation=equation)
    results.save_reference(output, {"origin": origin, "time": RELAXATION_TIME, "rows": rows})


def relaxed_row(name: str, store: Path) -> dict[str, Any]:
    """The last frame of a run by exact fields, and what is left of it without noise."""
    found = simulation.load(store)
    model = paper_model(lattice_of(found))
    frame = spins.normalize(found.frames[-1].astype(float))
    after = at_rest(lambda s: exact.local_field(model, s, "single"), torch.as_tensor(frame))
    row = {"set": name, "seed": found.header["seed"], "time": float(found.time[-1])}
    row["before"] = judged(model, frame, found.observables["density"][-1].astype(float))
    row["before"]["thermal_torque"] = thermal(model, frame, found.header["equation"]["kT"])
    row["after"] = judged(model, after.numpy())
    torques = {f"torque {k}": row[k]["rms_torque"] for k in ("before", "after")}
    print(results.row_text({"store": store.name} | torques), flush=True)
    return row


def thermal(model: SDModel, frame: np.ndarray, kT: float) -> float:
    """The rms torque that the bath alone would cause there, by exact fields."""
    return landscape.thermal_torque(landscape.exact_potential(model), frame, kT) if kT else 0.0


def inherent(output: str) -> None:
    rows = [
        set_row(name, stores, inherent_row)
        for name, stores in sets(folder()).items()
        if simulation.load(stores[0]).header["schedule"]
    ]
    equation = dataclasses.asdict(RELAXATION)
    origin = results.measured_origin(model=MODEL, script="studies/arrest.py", equation=equation)
    results.save_reference(output, {"origin": origin, "time": RELAXATION_TIME, "sets": rows})


def inherent_row(path: Path) -> dict[str, Any]:
    """Statistics of relaxed frames: of the last cold one, of warm ones, and of the end."""
    found = simulation.load(path)
    sites, schedule = lattice_of(found), found.header["schedule"]
    begin, until = schedule[0][0], schedule[-2][0]
    times = [*np.arange(begin, until, INHERENT_INTERVAL), until, found.time[-1]]
    picked = [int(abs(found.time - t).argmin()) for t in times]
    field = forcefield.load(found.header["engine"].split()[0]).on(sites)
    rested = [at_rest(field.field, torch.as_tensor(found.frames[k]).float()) for k in picked]
    density = np.stack([np.asarray(field.density(s)) for s in rested]).astype(float)
    frames = torch.stack(rested).double().numpy()
    columns = snapshots.statistics(sites, frames, density)
    columns["density_overlap"] = snapshots.density_overlap(density, density[0])
    print(
        results.row_text({"store": path.name, "clusters": str(columns["n_clusters"])}), flush=True
    )
    return {
        "seed": found.header["seed"],
        "cluster_sizes": sorted(map(len, clusters.clusters(sites, frames[-1]).sites)),
        "time": found.time[picked],
        "statistics": {name: digits(values) for name, values in columns.items()},
    }


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parsers = whole.add_subparsers(dest="action", required=True)
    running = parsers.add_parser("run")
    running.add_argument("engine")
    running.add_argument("length", type=int)
    running.add_argument("seeds", type=int, nargs="+")
    for name, usual in DEFAULTS.items():
        running.add_argument(f"--{name}", type=float, default=usual)
    running.add_argument("--heat", type=float, nargs=3, metavar=("KT", "FROM", "UNTIL"))
    running.add_argument("--time", type=float, default=1000.0)
    looking = parsers.add_parser("density")
    looking.add_argument("store", type=Path)
    looking.add_argument("--n-probes", type=int, default=64)
    looking.add_argument("--output", default="densities")
    parsers.add_parser("keep").add_argument("stores", type=Path, nargs="+")
    comparing = parsers.add_parser("rates")
    comparing.add_argument("set")
    comparing.add_argument("engine")
    comparing.add_argument("--output", default="rates")
    outputs = {"relax": "relaxed", "inherent": "inherent", "add": "arrest"}
    outputs |= {"collect": "arrest", "all": "arrest"}
    for name, output in outputs.items():
        parsers.add_parser(name).add_argument("--output", default=output)
    return whole


def main() -> None:
    given = parser().parse_args()
    if given.action == "density":
        return density(given.store, given.n_probes, given.output)
    if given.action == "keep":
        for store in given.stores:
            keep(store)
        return None
    if given.action == "relax":
        return relax(given.output)
    if given.action == "inherent":
        return inherent(given.output)
    if given.action == "add":
        return add(given.output)
    if given.action == "rates":
        return rates(given.set, given.engine, given.output)
    for each in asked(parser(), given, REFERENCE):
        for seed in each.seeds:
            run(each, seed)
    if given.action == "all":
        density(folder() / "square_100_1.h5", 64, "densities")
        rates("exact_30_kT0", "square", "rates")
        relax("relaxed")
        inherent("inherent")
    if given.action != "run":
        collect(given.output)


if __name__ == "__main__":
    main()
