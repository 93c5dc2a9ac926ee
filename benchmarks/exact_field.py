"""Cost of `exact.solve` over the bare eigen-solve of the same matrix, by three libraries.

Interleaved, one warm-up, minimum of five:
``python benchmarks/exact_field.py [length]`` (default 30).
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch

from sdml import exact, lattice, spins
from sdml.model import SDModel, hamiltonian

REPETITIONS = 5


def shortest_times(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Minimum wall time of every call, the calls taking turns after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(REPETITIONS + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number:
                times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def main(length: int) -> None:
    model = SDModel(lattice.square(length), 6.0, filling=0.485, electron_kT=0.0025)
    state = spins.random(length**2, 0)
    matrix = hamiltonian(model, state)
    array = matrix.numpy()
    times = shortest_times(
        {
            "numpy.linalg.eigh": lambda: np.linalg.eigh(array),
            "scipy.linalg.eigh, evd": lambda: scipy.linalg.eigh(array, driver="evd"),
            "scipy.linalg.eigh, evr": lambda: scipy.linalg.eigh(array, driver="evr"),
            "torch.linalg.eigh": lambda: torch.linalg.eigh(matrix),
            "exact.solve": lambda: exact.solve(model, state),
        }
    )
    fastest = min(value for name, value in times.items() if name != "exact.solve")
    print(f"square {length} x {length}, {torch.get_num_threads()} threads")
    for name, value in times.items():
        print(f"{name:24s} {value:8.3f} s   {value / fastest:5.2f} x the fastest bare solve")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
