"""Energy of the walls between chiral domains against their direction, by exact diagonalization.

    python studies/walls.py [--starts 2] [--output NAME]
    python studies/walls.py --networks [--starts 2] [--output NAME]
    python studies/walls.py --turns [--output NAME]

Straight walls along rows of nearest neighbours (0 degrees), perpendicular to rows (30 degrees) and
in between (13.9 and 19.1 degrees), in cells of several widths and lengths; the energy is the lowest
of states relaxed from the most promising relative rotations of the two domains. Fields are averaged
over boundary twists, which doubles the cell in both directions: a wall's edge channels need its
length (2 % between 6 and 8 sites of a row; 10 % between 2 and 6 periods at 19.1 degrees, 13 %
between 4 and 8 at 30). Half an hour on one busy core.
``--output`` writes data/reference/NAME.json.

``--networks`` adds the part ``networks`` to that file: the energies that every released network
gives to the same walls, one cell a direction, and to uniform orders. A wall counts as exact fields
relaxed it, and as the network itself relaxes it from there. Networks know no twists: the cell is
repeated until it fills an L x L lattice, which has the same walls and the same energy per length.

``--turns`` adds the part ``turns``: the energies of walls across rows, which run in three
directions, for each kind of rotation of the cube that turns one domain against the other, sharp and
as the released network relaxes them. Some minutes.
"""

import argparse
import itertools
import math
import time
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import Any

import interfaces
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sdml import bands, exact, files, forcefield, lattice, observables, spins
from sdml.companion import results
from sdml.dynamics import LandauLifshitz, trajectory
from sdml.forcefield import ForceField
from sdml.model import PAPER_CASES, SDModel

MODEL = PAPER_CASES["triangular"]
CELLS = {
    (1, 0): ((4, 16), (4, 20), (6, 16), (8, 16)),
    (3, 1): ((2, 60), (4, 60)),
    (2, 1): ((2, 44), (2, 52), (4, 44), (6, 44)),
    (1, 1): ((4, 28), (4, 36), (8, 28)),
}
N_RANDOM = 8
RELAXATION = {"n_steps": 100, "tolerance": 1e-3, "seed": 0}
COMPARED = {(1, 0): (4, 16), (1, 1): (4, 28), (2, 1): (2, 44)}
ORDERS = {
    "ferromagnet": spins.ferromagnetic,
    "stripe": spins.stripe,
    "coplanar 90°": spins.coplanar_90,
    "tetrahedral": spins.tetrahedral,
}
ORDER_LENGTH = 24
ACROSS = {30: (1, -1), 90: (1, 2), 150: (2, 1)}
"""Angle of a wall across rows -> numbers (a, b): along it a x + b y is constant."""
TURNS = {
    "0°": (0, 0, 0),
    "180° about (0, 0, 1)": (0, 0, 180),
    "90° about (0, 0, 1)": (0, 0, 90),
    "180° about (1, -1, 0)": (90 * 2**0.5, -90 * 2**0.5, 0),
    "120° about (1, 1, 1)": (40 * 3**0.5,) * 3,
}
"""One rotation of each kind that the cube has, as a rotation vector in degrees."""
TURNED_LENGTH, TURNED_STEPS = 48, 150


def starts(sites: lattice.Lattice) -> list[np.ndarray]:
    """Two domains at all rotations of the cube and at a few random ones."""
    rotations = [spins.random_rotation(seed) for seed in range(N_RANDOM)]
    return [interfaces.two_domains(sites, r) for r in [*interfaces.cubic_rotations(), *rotations]]


def exact_wall(model: SDModel, n_kept: int) -> interfaces.Wall:
    solve = partial(bands.repeated, n_phases=2)
    return interfaces.best_wall(model, solve, starts(model.lattice), n_kept=n_kept, **RELAXATION)


def measured(direction: tuple[int, int], length: int, width: int, n_kept: int) -> dict[str, Any]:
    begin = time.perf_counter()
    sites = interfaces.oblique(direction, length, width)
    wall = exact_wall(SDModel(sites, **MODEL), n_kept)
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


def filling(cell: lattice.Lattice) -> np.ndarray:
    """(L^2,) the site of the cell on every site of the smallest lattice that repeats of it fill."""
    integers = np.round(np.array(cell.vectors) @ np.linalg.inv(interfaces.PLANE)).astype(int)
    large = lattice.triangular(math.lcm(*cell.shape))
    steps = np.round(large.cells @ np.linalg.inv(integers)).astype(int)
    return cell.site_index(steps, 0)


def network_solver(network: ForceField, cell: lattice.Lattice) -> interfaces.Solver:
    """Energy and field of one repeat, from the network on the lattice that the repeats fill."""
    sites = filling(cell)
    _, first = np.unique(sites, return_index=True)

    def solve(_: SDModel, state: Any) -> Any:
        large = state[sites]
        energy = network.energy(large) / len(sites) * len(first)
        return SimpleNamespace(energy=energy, local_field=network.local_field(large)[first])

    return solve


def order_energies(loaded: dict[str, ForceField]) -> dict[str, dict[str, float]]:
    """Energy a site (t) of uniform orders, by exact fields and by every network."""
    sites = lattice.triangular(ORDER_LENGTH)
    model = SDModel(sites, **MODEL)
    engines: dict[str, Any] = {"exact": lambda state: exact.solve(model, state).energy}
    engines |= {name: network.energy for name, network in loaded.items()}
    states = {key: order(sites) for key, order in ORDERS.items()}
    return {
        name: {key: float(energy(state)) / sites.n_sites for key, state in states.items()}
        for name, energy in engines.items()
    }


def compared(direction: tuple[int, int], loaded: dict[str, ForceField], n_kept: int) -> Any:
    """Energies of one wall, t per lattice constant."""
    shape = COMPARED[direction]
    model = SDModel(interfaces.oblique(direction, *shape), **MODEL)
    wall = exact_wall(model, n_kept)
    row: dict[str, Any] = {"direction": list(direction), "cell": list(shape)}
    row |= {"length": math.lcm(*shape), "exact": wall.energy, "same_spins": {}, "relaxed": {}}
    for name, network in loaded.items():
        solve = network_solver(network, model.lattice)
        own = interfaces.relaxed(model, wall.spins, solve, n_steps=RELAXATION["n_steps"])
        row["same_spins"][name] = interfaces.wall_energy(model, wall.spins, solve)
        row["relaxed"][name] = own.energy
    print(row, flush=True)
    return row


def add_networks(origin: dict[str, Any], n_kept: int, output: str | None) -> None:
    """The part ``networks``, written whenever more of it is ready."""
    paths = sorted(files.weights().glob("triangular*.safetensors"))
    loaded = {path.stem: forcefield.load(path) for path in paths}
    origin["weights"] = {name: forcefield.checksum(network) for name, network in loaded.items()}
    origin["units"] = "walls: t per lattice constant; orders: t a site"
    origin["order_lattice"] = f"{ORDER_LENGTH} x {ORDER_LENGTH}, periodic"
    loaded = {name: network.double() for name, network in loaded.items()}
    part: dict[str, Any] = {"origin": origin, "orders": order_energies(loaded), "walls": []}
    print(part["orders"], flush=True)
    stored = files.loaded(files.reference() / f"{output}.json") if output else {}
    for direction in COMPARED:
        results.save_reference(output, stored | {"networks": part})
        part["walls"].append(compared(direction, loaded, n_kept))
    results.save_reference(output, stored | {"networks": part})


def turned_walls() -> dict[str, Any]:
    """Energies of sharp and of relaxed walls by turn and direction, t per lattice constant."""
    sites = lattice.triangular(TURNED_LENGTH)
    network = forcefield.load("triangular").on(sites)
    outer, inner = spins.tetrahedral(sites, 1), spins.tetrahedral(sites, -1)
    # Two walls, each of L steps between second neighbours before it closes.
    length, ground = 2 * 3**0.5 * TURNED_LENGTH, float(network.energy(outer))
    equation, rows = LandauLifshitz(1.0, 1.0, 0.0), []
    for (name, turn), (angle, (a, b)) in itertools.product(TURNS.items(), ACROSS.items()):
        domain = sites.cells @ np.array([a, b]) % TURNED_LENGTH < TURNED_LENGTH / 2
        turned = spins.rotate(inner, Rotation.from_rotvec(turn, degrees=True).as_matrix())
        sharp = np.where(domain[:, None], turned, outer)
        start = torch.as_tensor(spins.perturbed(sharp, 0.02, seed=1), dtype=torch.float32)
        ((_, end),) = trajectory(start, network.field, equation, np.array([TURNED_STEPS]))
        energies = [(float(network.energy(s)) - ground) / length for s in (sharp, end)]
        rows.append(
            {"turn": name, "angle": angle, **dict(zip(("sharp", "relaxed"), energies, strict=True))}
        )
        print(rows[-1], flush=True)
    settings = {"length": TURNED_LENGTH, "n_steps": TURNED_STEPS, "equation": asdict(equation)}
    return {"origin": results.measured_origin(model=MODEL, **settings), "walls": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=2, help="relaxed states for each cell")
    parser.add_argument("--networks", action="store_true", help="what networks say of the same")
    parser.add_argument("--turns", action="store_true", help="one domain turned against the other")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    origin = results.measured_origin(
        model=MODEL,
        engine="exact diagonalization, averaged over four boundary twists",
        relaxation=RELAXATION | {"starts": given.starts},
        units="energy: t per lattice constant; angle: degrees from a row of nearest neighbours",
    )
    if given.networks:
        return add_networks(origin, given.starts, given.output)
    path = files.reference() / f"{given.output}.json"
    stored = files.loaded(path) if given.output and path.exists() else {}
    if given.turns:
        return results.save_reference(given.output, stored | {"turns": turned_walls()})
    begin = time.perf_counter()
    rows = [
        measured(direction, length, width, given.starts)
        for direction, cells in CELLS.items()
        for length, width in cells
    ]
    origin["seconds"] = round(time.perf_counter() - begin)
    results.save_reference(given.output, stored | {"origin": origin, "walls": rows})


if __name__ == "__main__":
    main()
