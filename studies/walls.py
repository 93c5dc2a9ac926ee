"""Energy of the walls between chiral domains against their direction, by exact diagonalization.

    python studies/walls.py [--starts 2] [--output NAME]

Straight walls along rows of nearest neighbours (0 degrees), perpendicular to rows (30 degrees) and
in between (19.1 degrees), in cells of several widths and lengths; the energy is the lowest of
states relaxed from the most promising relative rotations of the two domains. Fields are averaged
over boundary twists, which doubles the cell in both directions: a wall's edge channels need its
length (2 % between 6 and 8 sites of a row, 8 % at 19.1 degrees). Six minutes on one core.
``--output`` writes
data/reference/NAME.json.
"""

import argparse
import time
from functools import partial
from typing import Any

import interfaces
import numpy as np

from sdml import bands, lattice, observables, spins
from sdml.companion import results
from sdml.model import PAPER_CASES, SDModel

MODEL = PAPER_CASES["triangular"]
CELLS = {
    (1, 0): ((4, 16), (4, 20), (6, 16), (8, 16)),
    (2, 1): ((2, 44), (2, 52), (4, 44)),
    (1, 1): ((4, 28), (4, 36)),
}
N_RANDOM = 8
RELAXATION = {"n_steps": 100, "tolerance": 1e-3, "seed": 0}


def starts(sites: lattice.Lattice) -> list[np.ndarray]:
    """Two domains at all rotations of the cube and at a few random ones."""
    rotations = [spins.random_rotation(seed) for seed in range(N_RANDOM)]
    return [interfaces.two_domains(sites, r) for r in [*interfaces.cubic_rotations(), *rotations]]


def measured(direction: tuple[int, int], length: int, width: int, n_kept: int) -> dict[str, Any]:
    begin = time.perf_counter()
    sites = interfaces.oblique(direction, length, width)
    model = SDModel(sites, **MODEL)
    wall = interfaces.best_wall(
        model, partial(bands.repeated, n_phases=2), starts(sites), n_kept=n_kept, **RELAXATION
    )
    first = np.array(sites.vectors[0])
    spacing = np.sqrt(3) / 2 / np.linalg.norm(first)
    profile = observables.site_chirality(sites, wall.spins).reshape(width, length).mean(1)
    row = {
        "direction": list(direction),
        "angle": round(float(np.degrees(np.arctan2(first[1], first[0]))), 2),
        "cell": [length, width],
        "domain_width": round(float(width / 2 * spacing), 3),
        "energy": round(wall.energy, 6),
        "largest_torque": wall.torque,
        "row_spacing": round(float(spacing), 5),
        "chirality": profile.round(4).tolist(),
        "seconds": round(time.perf_counter() - begin),
    }
    print({k: v for k, v in row.items() if k != "chirality"}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=2, help="relaxed states for each cell")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    origin = results.measured_origin(
        model=MODEL,
        engine="exact diagonalization, averaged over four boundary twists",
        relaxation=RELAXATION | {"starts": given.starts},
        units="energy: t per lattice constant; angle: degrees from a row of nearest neighbours",
    )
    begin = time.perf_counter()
    rows = [
        measured(direction, length, width, given.starts)
        for direction, cells in CELLS.items()
        for length, width in cells
    ]
    origin["seconds"] = round(time.perf_counter() - begin)
    results.save_reference(given.output, {"origin": origin, "walls": rows})


if __name__ == "__main__":
    main()
