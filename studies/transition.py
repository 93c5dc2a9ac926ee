"""Where chirality sets in on the triangular lattice: Langevin runs with the released force field.

    python studies/transition.py run LENGTH [LENGTH ...] [--between 0.015 0.042]
    python studies/transition.py collect [--output transition]

J = 3, filling 0.25, electron_kT 0.05. From perfect order up in temperature and down again: every
temperature starts from the end of the one before, its first fifth is left out. A temperature is a
store build/transition/L_way_kT.h5; a run that was stopped goes on from there. 12, 18 and 24 take
about 3, 6 and 10 minutes of one core. `collect` writes data/reference/NAME.json: mean chirality,
Binder cumulant, susceptibility, specific heat and energy cumulant by temperature, with errors.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

import cumulants
import numpy as np
import torch

from sdml import files, forcefield, lattice, observables, simulation, spins
from sdml.companion import results
from sdml.dynamics import LandauLifshitz

TEMPERATURES = (0.015, 0.02, 0.024, 0.027, 0.03, 0.033, 0.037, 0.042)
DT, DAMPING, SAVE_EVERY, N_SAMPLES = 2.0, 0.5, 5, 400
WAYS = {"heating": 1, "cooling": -1}
QUANTITIES = ("chirality", "energy")


def folder() -> Path:
    return files.root() / "build" / "transition"


def store_of(length: int, way: str, kT: float) -> Path:
    return folder() / f"{length}_{way}_{kT:g}.h5"


def run(length: int, lowest: float, highest: float) -> None:
    sites = lattice.triangular(length)
    field = forcefield.load("triangular").on(sites)
    measured: dict[str, simulation.Observable] = {
        "chirality": lambda lat, s: torch.as_tensor(observables.scalar_chirality(lat, s)).mean(),
        "energy": lambda lat, s: torch.as_tensor(field.energy(s)).double() / lat.n_sites,
    }
    state: Any = spins.tetrahedral(sites)
    visited = [kT for kT in TEMPERATURES if lowest <= kT <= highest]
    for way, order in WAYS.items():
        for kT in visited[::order]:
            found = simulation.quench(
                store_of(length, way, kT),
                sites,
                torch.as_tensor(state, dtype=torch.float32),
                field.field,
                LandauLifshitz(DT, DAMPING, kT, "adams"),
                N_SAMPLES * SAVE_EVERY,
                SAVE_EVERY,
                observables=measured,
                seed=length,
                checkpoint_every=50,
                engine=f"triangular {forcefield.checksum(field)[:12]}",
                frames_every=N_SAMPLES * SAVE_EVERY,
                guard=simulation.Guard(field),
            )
            state = found.spins
            print(f"L {length} {way} kT {kT:g} after {found.seconds:.0f} s", flush=True)


def finished(store: Path) -> bool:
    return store.exists() and len(simulation.load(store).time) == N_SAMPLES + 1


def row_of(length: int, way: str, kT: float) -> dict[str, Any]:
    found = simulation.load(store_of(length, way, kT))
    chirality, energy = (found.observables[name][N_SAMPLES // 5 :] for name in QUANTITIES)
    measures = {
        "binder": cumulants.binder_cumulant(chirality),
        "susceptibility": cumulants.susceptibility(chirality, length**2, kT),
        "specific_heat": cumulants.specific_heat(energy, length**2, kT),
        "energy_cumulant": cumulants.energy_cumulant(energy),
        "chirality": cumulants.jackknife(chirality[None], lambda mean: abs(float(mean[0]))),
        "energy": cumulants.jackknife(energy[None], lambda mean: float(mean[0])),
    }
    row: dict[str, Any] = {"length": length, "way": way, "kT": kT}
    for name, measured in measures.items():
        row |= {name: measured.value, f"{name}_error": measured.error}
    row["autocorrelation"] = None  # longer than so many samples tell
    with suppress(cumulants.TooShortError):
        row["autocorrelation"] = cumulants.autocorrelation_time(chirality) * SAVE_EVERY * DT
    row["outside"] = float(found.guard["outside"].mean())
    return row


def collect(output: str) -> None:
    lengths = sorted({int(path.name.partition("_")[0]) for path in folder().glob("*.h5")})
    rows = [
        row_of(length, way, kT)
        for length in lengths
        for way, order in WAYS.items()
        for kT in TEMPERATURES[::order]
        if finished(store_of(length, way, kT))
    ]
    weights = forcefield.checksum(forcefield.load("triangular"))
    settings = {"dt": DT, "damping": DAMPING, "samples": N_SAMPLES, "apart": SAVE_EVERY * DT}
    origin = results.measured_origin(weights=weights, model="J = 3, filling 0.25", **settings)
    results.save_reference(output, {"origin": origin, "rows": rows})
    for row in rows:
        print({k: np.round(v, 5) if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parsers = parser.add_subparsers(dest="action", required=True)
    running = parsers.add_parser("run")
    running.add_argument("lengths", type=int, nargs="+")
    running.add_argument("--between", type=float, nargs=2, default=(0.0, 1.0), metavar="KT")
    parsers.add_parser("collect").add_argument("--output", default="transition")
    given = parser.parse_args()
    if given.action == "collect":
        collect(given.output)
    else:
        for length in given.lengths:
            run(length, *given.between)


if __name__ == "__main__":
    main()
