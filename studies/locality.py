"""The locality floor: what no force field with cutoff r_c can know of the transverse field.

    python studies/locality.py [--cases NAME ...] [--centers 64] [--output NAME]

Both models at two electron temperatures on 24 x 24, random states and quench frames (driven by the
released force fields). ``infinite`` fixes the chemical potential at the mean of the states: the
floor of a large sample. ``finite`` fixes the filling of every state, as the labels of a training
set of this size do; the chemical potential then carries news from everywhere, at two radii here.
About 15 to 20 minutes on one core. ``--output`` writes data/reference/NAME.json.
"""

import argparse
import dataclasses
import time
from functools import partial
from typing import Any

import numpy as np
from floors import exact_field, locality_floors, site_field

from sdml import dynamics, exact, forcefield, lattice, spins
from sdml.companion import results
from sdml.model import SDModel, paper_model

LENGTH, N_STATES = 24, 12
RADII, FINITE_RADII = (1, 2, 3, 4, 5, 6), (3, 6)
FROM_MEAN = 6
"""States whose mean chemical potential stands for that of a large sample."""
QUENCHES = {
    "triangular": {"dt": 1.0, "n_steps": 120, "damping": 0.3},
    "square": {"dt": 0.5, "n_steps": 120, "damping": 0.1},
}
# The number of moments goes as 1 / electron_kT: fewer centers, and diagonalization at fixed
# filling, where the series is too long.
CASES: dict[str, dict[str, Any]] = {
    "triangular-0.05": {"share": 1.0, "finite_engine": "kpm"},
    "triangular-0.02": {"share": 1.0, "finite_engine": "kpm"},
    "square-0.02": {"share": 1.0, "finite_engine": "kpm"},
    "square-0.0025": {"share": 0.5, "finite_engine": "exact"},
}
FIELDS = {"kpm": partial(site_field, n_probes=64, seed=0), "exact": exact_field}
"""Of one site, at fixed filling."""


def model_of(case: str) -> SDModel:
    name, electron_kT = case.split("-")
    return paper_model(getattr(lattice, name)(LENGTH), electron_kT=float(electron_kT))


def random_states() -> np.ndarray:
    return np.stack([spins.random(LENGTH**2, 1000 + k) for k in range(N_STATES)])


def quench_frames(name: str) -> np.ndarray:
    """Last frames of independent quenches, all in one batch."""
    field = forcefield.load(name).local_field
    return dynamics.integrate(random_states(), field, **QUENCHES[name])


def floors(case: str, states: np.ndarray, kind: str, n_centers: int) -> list[dict]:
    """Rows of both ensembles; random states are redrawn, frames spliced with each other."""
    model = model_of(case)
    outer = None if kind == "random" else states
    mu = np.mean(exact.solve(model, states[:FROM_MEAN]).chemical_potential)
    infinite = dataclasses.replace(model, filling=None, chemical_potential=float(mu))
    n_infinite = max(2, int(n_centers * CASES[case]["share"]))
    n_finite = max(2, n_centers // 4)
    field = FIELDS[CASES[case]["finite_engine"]]
    both = {
        "infinite": locality_floors(infinite, states, outer, RADII, n_infinite, 0),
        "finite": locality_floors(model, states, outer, FINITE_RADII, n_finite, 0, field=field),
    }
    rows = []
    for ensemble, found in both.items():
        for floor in found:
            row = {"case": case, "states": kind, "ensemble": ensemble}
            rows.append(row | {"chemical_potential": float(mu)} | dataclasses.asdict(floor))
            print(results.row_text(rows[-1]), flush=True)
    return rows


def measured(cases: list[str], n_centers: int) -> list[dict]:
    rows = []
    frames = {name: quench_frames(name) for name in {case.split("-")[0] for case in cases}}
    for case in cases:
        states = {"random": random_states(), "quench": frames[case.split("-")[0]]}
        for kind, s in states.items():
            rows += floors(case, s, kind, n_centers)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--centers", type=int, default=64)
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    quenches = {
        name: QUENCHES[name] | {"weights": forcefield.checksum(forcefield.load(name))}
        for name in QUENCHES
    }
    origin = results.measured_origin(length=LENGTH, quenches=quenches)
    print(results.row_text(origin), flush=True)
    start = time.perf_counter()
    rows = measured(given.cases, given.centers)
    origin["seconds"] = round(time.perf_counter() - start)
    results.save_reference(given.output, {"origin": origin, "floors": rows})


if __name__ == "__main__":
    main()
