"""The growth of Ising domains after a quench to T = 0 judges the estimators of the domain length.

    python studies/ising.py [--length 512] [--sweeps 1000] [--seeds 16] [--output NAME]

Heat bath at zero temperature: a spin takes the sign of the sum of its neighbours, a random one
where the sum vanishes, sublattice by sublattice, on the square and the triangular lattice. Domains
of this non-conserved order grow as t^1/2 (Allen and Cahn, Acta Metall. 27, 1085 (1979),
doi 10.1016/0001-6160(79)90196-2), and so must their lengths by any fair estimator. Seeds that end
in a state which no flip can change (a stripe or a single domain) are excluded. About eight minutes
on one core. ``--output`` writes data/reference/NAME.json.
"""

import argparse
import time
from typing import Any

import numba
import numpy as np

from sdml import lattice
from sdml.coarsening import domains
from sdml.companion import results

LATTICES = {"square": lattice.square, "triangular": lattice.triangular}
COLORS = {"square": 2, "triangular": 3}
FIRST_SWEEP, N_TIMES = 10, 25


@numba.njit
def heat_bath_sweep(spins, steps, n_colors, rng):
    """One sweep at T = 0 of a grid (Ly, Lx), the sites of one color at a time; changes ``spins``.

    The color of a site is x + y modulo 2 (square) or x - y modulo 3 (triangular): no two
    neighbours share one. Returns the number of spins that a flip does not cost energy.
    """
    height, width = spins.shape
    loose = 0
    for color in range(n_colors):
        for y in range(height):
            for x in range(width):
                if (x + y * (n_colors - 1)) % n_colors != color:
                    continue
                total = 0
                for k in range(len(steps)):
                    total += spins[(y + steps[k, 1]) % height, (x + steps[k, 0]) % width]
                loose += total * spins[y, x] <= 0
                if total == 0:
                    spins[y, x] = 1 if rng.random() < 0.5 else -1
                else:
                    spins[y, x] = 1 if total > 0 else -1
    return loose


def quench(sites: lattice.Lattice, sweeps: np.ndarray, seed: int) -> tuple[np.ndarray, bool]:
    """Spins (n_times, N) after the given numbers of sweeps, and whether they still move."""
    rng = np.random.default_rng(seed)
    spins = rng.choice(np.array([-1, 1], np.int8), sites.shape[::-1])
    steps = sites.displacements(1.0)[0][:, :2]
    frames, done, loose = [], 0, 1
    for sweep in sweeps:
        for _ in range(sweep - done):
            loose = heat_bath_sweep(spins, steps, COLORS[sites.name], rng)
        frames.append(spins.ravel().copy())
        done = sweep
    return np.array(frames), loose > 0


def measured(kind: str, length: int, n_sweeps: int, seeds: range) -> dict[str, Any]:
    """Lengths by estimator (n_seeds, n_times), and the mean spin."""
    sites = LATTICES[kind](length - length % COLORS[kind])
    sweeps = np.unique(np.geomspace(FIRST_SWEEP, n_sweeps, N_TIMES).round().astype(int))
    kept, found, mean = [], [], []
    for seed in seeds:
        frames, moving = quench(sites, sweeps, seed)
        if moving:
            kept.append(seed)
            found.append([domains.lengths(sites, frame.astype(float)) for frame in frames])
            mean.append(frames.mean(-1, dtype=float))
    lengths, imbalance = np.array(found), np.array(mean)
    return {
        "lattice": kind,
        "length": sites.length,
        "seeds": kept,
        "frozen_seeds": sorted(set(seeds) - set(kept)),
        "sweeps": sweeps.tolist(),
        "lengths": {
            name: lengths[..., k].round(5).tolist() for k, name in enumerate(domains.ESTIMATORS)
        },
        "mean_spin": imbalance.round(6).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    origin = results.measured_origin(
        dimensions="lengths: estimator, seed, time; mean_spin: seed, time",
        units="lengths in lattice constants, time in sweeps",
    )
    start = time.perf_counter()
    runs = [measured(kind, given.length, given.sweeps, range(given.seeds)) for kind in LATTICES]
    origin["seconds"] = round(time.perf_counter() - start)
    results.save_reference(given.output, {"origin": origin, "runs": runs})


if __name__ == "__main__":
    main()
