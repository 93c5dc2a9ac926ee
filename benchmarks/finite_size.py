"""The finite-size error of the labels: periodic boundaries against the average over four twists.

    python benchmarks/finite_size.py [--cases NAME ...] [--states 4] [--output NAME]

Both models of the released force fields at three sizes, random states and frames of quenches that
the released force fields drive. The random start of every quench is measured as a random state.
About five minutes on one core. ``--output`` writes data/reference/NAME.json.
"""

import argparse
import dataclasses
import time
from typing import Any

import numpy as np
import results

from sdml import dynamics, finite_size, forcefield, lattice, spins
from sdml.model import SDModel

CASES: dict[str, dict[str, Any]] = {
    "triangular": {
        "model": {"exchange_coupling": 3.0, "filling": 0.25, "electron_kT": 0.05},
        "lengths": (12, 18, 24),
        "equation": {"dt": 1.0, "damping": 0.3},
        "steps": (20, 100),
    },
    "square": {
        "model": {"exchange_coupling": 6.0, "filling": 0.485, "electron_kT": 0.0025},
        "lengths": (16, 20, 24),
        "equation": {"dt": 0.5, "damping": 0.1},
        "steps": (40, 200),
    },
}


def states_of(kind: str, length: int, n_states: int) -> dict[str, np.ndarray]:
    """Random states and what becomes of them, named after the time, in one batch each."""
    case = CASES[kind]
    sites = getattr(lattice, kind)(length)
    state = np.stack([spins.random(sites.n_sites, 2000 + k) for k in range(n_states)])
    field = forcefield.load(kind).on(sites).local_field
    found, done = {"random": state}, 0
    for step in case["steps"]:
        state = dynamics.integrate(state, field, n_steps=step - done, **case["equation"])
        found[f"t = {step * case['equation']['dt']:g}"], done = state, step
    return found


def measured(kinds: list[str], n_states: int) -> list[dict]:
    rows = []
    for kind in kinds:
        for length in CASES[kind]["lengths"]:
            model = SDModel(getattr(lattice, kind)(length), **CASES[kind]["model"])
            for name, states in states_of(kind, length, n_states).items():
                error = finite_size.finite_size_error(model, states)
                row = {"case": kind, "length": length, "states": name}
                rows.append(row | dataclasses.asdict(error) | {"relative": error.relative})
                results.show(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--states", type=int, default=4, help="random starts for each size")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    cases = {name: CASES[name] | {"weights": results.weights(name)} for name in given.cases}
    origin = results.origin(cases=cases)
    start = time.perf_counter()
    rows = measured(given.cases, given.states)
    origin["seconds"] = round(time.perf_counter() - start)
    results.keep(given.output, {"origin": origin, "errors": rows})


if __name__ == "__main__":
    main()
