"""The finite-size error of the labels: periodic boundaries against the average over four twists.

The field of a state S on a lattice of L x L sites with periodic boundaries differs from that of the
same state on a large lattice. With antiperiodic boundaries the electrons sample other momenta; the
average over the four twists 0 and pi is the field of S repeated on 2L x 2L sites
(:func:`sdml.bands.repeated`), and the difference from it measures the error of a label.

    python studies/finite_size.py [--cases NAME ...] [--states 4] [--output NAME]

Both models of the released force fields at three sizes, random states and frames of quenches that
the released force fields drive. The random start of every quench is measured as a random state.
About five minutes on one core. ``--output`` writes data/reference/NAME.json.
"""

import argparse
import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdml import bands, dynamics, exact, forcefield, lattice, spins
from sdml.companion import results
from sdml.model import PAPER_CASES, SDModel, paper_model

CASES: dict[str, dict[str, Any]] = {
    "triangular": {
        "model": PAPER_CASES["triangular"],
        "lengths": (12, 18, 24),
        "equation": {"dt": 1.0, "damping": 0.3},
        "steps": (20, 100),
    },
    "square": {
        "model": PAPER_CASES["square"],
        "lengths": (16, 20, 24),
        "equation": {"dt": 0.5, "damping": 0.1},
        "steps": (40, 200),
    },
}


@dataclass(frozen=True)
class FiniteSizeError:
    """How far periodic boundaries are from the average over the four twists.

    Attributes
    ----------
    mse : float
        Mean square difference of the transverse field h - (h . S) S, over states, sites and
        components, t^2.
    mean_square : float
        Of the averaged transverse field itself; ``mse / mean_square`` is the part of the signal
        that is an artefact of the size.
    chemical_potential : float
        Root mean square difference of the chemical potential, t.
    n_states : int
    """

    mse: float
    mean_square: float
    chemical_potential: float
    n_states: int

    @property
    def relative(self) -> float:
        """``mse / mean_square``."""
        return self.mse / self.mean_square


def finite_size_error(model: SDModel, states: np.ndarray) -> FiniteSizeError:
    """The error of the fields of states (n, N, 3), five diagonalizations a state."""
    periodic = exact.solve(model, states)
    averaged = [bands.repeated(model, s, n_phases=2) for s in states]
    expected = spins.transverse(states, np.stack([a.local_field for a in averaged]))
    difference = spins.transverse(states, periodic.local_field) - expected
    shift = periodic.chemical_potential - [a.chemical_potential for a in averaged]
    return FiniteSizeError(
        mse=float((difference**2).mean()),
        mean_square=float((expected**2).mean()),
        chemical_potential=float((shift**2).mean() ** 0.5),
        n_states=len(states),
    )


def states_of(kind: str, length: int, n_states: int) -> dict[str, np.ndarray]:
    """Random states and what becomes of them, named after the time, in one batch each."""
    case = CASES[kind]
    sites = getattr(lattice, kind)(length)
    state = np.stack([spins.random(sites.n_sites, 2000 + k) for k in range(n_states)])
    field = forcefield.load(kind).on(sites).local_field
    equation = dynamics.LandauLifshitz(**case["equation"])
    run = dynamics.trajectory(spins.as_tensor(state), field, equation, case["steps"])
    return {"random": state} | {f"t = {k * equation.dt:g}": s.numpy() for k, s in run}


def measured(kinds: list[str], n_states: int) -> list[dict]:
    rows = []
    for kind in kinds:
        for length in CASES[kind]["lengths"]:
            model = paper_model(getattr(lattice, kind)(length))
            for name, states in states_of(kind, length, n_states).items():
                error = finite_size_error(model, states)
                row = {"case": kind, "length": length, "states": name}
                rows.append(row | dataclasses.asdict(error) | {"relative": error.relative})
                print(results.row_text(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--states", type=int, default=4, help="random starts for each size")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    cases = {
        name: CASES[name] | {"weights": forcefield.checksum(forcefield.load(name))}
        for name in given.cases
    }
    origin = results.measured_origin(cases=cases)
    start = time.perf_counter()
    rows = measured(given.cases, given.states)
    origin["seconds"] = round(time.perf_counter() - start)
    results.save_reference(given.output, {"origin": origin, "errors": rows})


if __name__ == "__main__":
    main()
