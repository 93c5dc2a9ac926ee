"""Cost of `exact.solve` over the bare eigen-solve of the same matrix, by three libraries.

Interleaved, one warm-up, minimum of five:
``python benchmarks/exact_field.py [length]`` (default 30).
"""

import sys

import numpy as np
import scipy.linalg
import torch
from timing import shortest_times

from sdml import exact, lattice, spins
from sdml.model import hamiltonian, paper_model


def main(length: int) -> None:
    model = paper_model(lattice.square(length))
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
