"""Holes in the antiferromagnet at J = 6: polarons, droplets, coexistence and barriers.

    python studies/polarons.py [--parts NAME ...] [--output polarons]

Exact diagonalization, and in the part ``networks`` the released force fields beside it. About 25
minutes on one core; every finished part is kept in build/arrest/polarons and not computed again.
Energies are above the Neel state with one electron a site, in units of t. ``--output`` writes the
parts into data/reference/NAME.json, whose other parts stay.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import coexistence
import droplets
import landscape
import numpy as np

from sdml import dataset, exact, files, forcefield, lattice, observables, spins
from sdml.companion import results
from sdml.dynamics import LandauLifshitz
from sdml.model import PAPER_CASES, SDModel, paper_model

MODEL = PAPER_CASES["square"] | {"filling": 0.5}
LENGTH, BAND_LENGTH, MOMENTA = 16, 12, 64
HOLES, MOST_FLIPPED = tuple(range(1, 9)), 16
DENSITY_HOLES = (1, 2, 3, 5, 8)
DOPING = np.round(np.linspace(0, 0.4, 201), 4)
SPIRAL_DOPING = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
PUBLISHED_DOPING = 0.03
ELECTRON_KT = (0.0025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
N_IMAGES, BAND_STEPS = 9, 100
CANTING, TILTING = (20, 40, 60), (0.2, 0.4, 0.6, 0.8, 1.2)
HEAT, QUENCHED = (0.01, 0.02, 0.03, 0.05, 0.08), (20, 50, 100, 200, 400)
HEATED_TIMES, BACKGROUND_SEEDS = (200, 300, 400), (1, 2, 3)
HOPS = (((6, 6), (1, 1)), ((6, 6), (1, -1)), ((2, 3), (1, 1)), ((2, 3), (1, -1)))
"""Where a polaron sits, and how far it hops."""
NETWORKS = ("square", "square_2", "square_paper", "square_paper_2")
FAR = [(8, 0), (12, 4), (0, 8), (8, 8), (4, 12), (12, 12)]
MOVES = {
    "hop": [
        [*FAR, (4, 4), (0, 0)],
        [*FAR, (4, 4), (0, 0), (1, 1)],
        [*FAR, (4, 4), (1, 1)],
    ],
    "merge": [[*FAR, (0, 0), (2, 2)], [*FAR, (0, 0), (1, 1), (2, 2)]],
}
"""Flipped spins before, on the way and after."""


def model_on(length: int) -> SDModel:
    return SDModel(lattice.square(length), **MODEL)


def homogeneous() -> dict[str, Any]:
    """Energy per hole of conical states on many momenta, and the Maxwell construction."""
    model = model_on(MOMENTA)
    ferromagnet = coexistence.conical_energy(model, (0, 0), 0.0, DOPING)
    neel = coexistence.conical_energy(model, coexistence.NEEL, np.pi / 2, DOPING)
    tangent = coexistence.coexistence(DOPING, np.minimum(ferromagnet, neel), PUBLISHED_DOPING)
    families = {
        "canted": [coexistence.NEEL],
        "spiral along x": [(q, np.pi) for q in np.linspace(0, np.pi, 33)],
        "spiral along the diagonal": [(q, q) for q in np.linspace(0, np.pi, 33)],
    }
    rows = []
    for name, wave_vectors in families.items():
        for angle in np.linspace(0, np.pi / 2, 13) if name == "canted" else [np.pi / 2]:
            for q in wave_vectors:
                energy = coexistence.conical_energy(model, q, angle, SPIRAL_DOPING) - neel[0]
                rows += [
                    {"family": name, "doping": x, "wave_vector": q, "angle": angle, "energy": e / x}
                    for x, e in zip(SPIRAL_DOPING, energy, strict=True)
                ]
    best = [
        min((r for r in rows if (r["family"], r["doping"]) == key), key=lambda r: r["energy"])
        for key in sorted({(r["family"], r["doping"]) for r in rows})
    ]
    return {
        "doping": DOPING,
        "ferromagnet": ferromagnet - neel[0],
        "neel": neel - neel[0],
        "maxwell": dataclasses.asdict(tangent),
        "best_per_hole": best,
    }


def droplet_rows() -> list[dict[str, Any]]:
    """Droplets of n holes, and what canting adds: relaxed from a perturbed start."""
    model = model_on(LENGTH)
    reference = droplets.neel_energy(model)
    rows = []
    for found in droplets.droplets(model, HOLES, MOST_FLIPPED):
        row = {
            "n_holes": found.n_holes,
            "n_flipped": len(found.flipped),
            "energy_per_hole": found.energy_per_hole,
            "flipped": model.lattice.cells[list(found.flipped)],
        }
        rows.append(row | relaxed_row(model, found, reference))
    return rows


def relaxed_row(model: SDModel, droplet: droplets.Droplet, reference: float) -> dict[str, Any]:
    doped = droplets.with_holes(model, droplet.n_holes)
    start = droplets.flipped_neel(model.lattice, droplet.flipped)
    state, energy = landscape.relaxed(
        landscape.exact_potential(doped), spins.perturbed(start, 0.1, seed=0)
    )
    solved = exact.solve(doped, state)
    row = {
        "relaxed_per_hole": (energy - reference) / droplet.n_holes,
        # The largest angle to the common axis tells collinear droplets from canted ones.
        "largest_canting": canting(state),
        "smallest_density": solved.density.min(),
    }
    if droplet.n_holes in DENSITY_HOLES:
        row["density"] = np.round(solved.density, 4)
    return row


def canting(state: np.ndarray) -> float:
    """Largest angle (radians) of a spin to the axis on which most lie."""
    axis = np.linalg.svd(state, full_matrices=False)[2][0]
    return float(np.arccos(np.clip(abs(state @ axis), 0, 1)).max())


def stripes() -> list[dict[str, Any]]:
    """Ferromagnetic stripes along the diagonal: 1, 2, 3 adjacent lines of flipped spins.

    The lattice is periodic along the stripe, and its width keeps stripes apart.
    """
    model = model_on(LENGTH)
    x, y = model.lattice.cells.T
    rows = []
    for n_lines in (1, 2, 3):
        # Lines x - y = 0, 2, 4 hold one sublattice.
        flipped = np.flatnonzero(np.isin((x - y) % LENGTH, 2 * np.arange(n_lines)))
        numbers = range(LENGTH // 4, 2 * LENGTH * n_lines)
        found = droplets.energies(model, droplets.flipped_neel(model.lattice, flipped), numbers)
        per_hole = found / np.array(numbers)
        best = int(per_hole.argmin())
        rows.append(
            {"lines": n_lines, "n_holes": numbers[best], "energy_per_hole": per_hole[best]}
            | {"holes_per_flipped": numbers[best] / len(flipped)}
        )
    return rows


def separations() -> list[dict[str, Any]]:
    model = model_on(LENGTH)
    return [
        {
            "displacement": (x, y),
            "energy_per_hole": droplets.separation_energy(model, (x, y)) / 2,
        }
        for x in range(1, LENGTH // 2 + 1)
        for y in range(x + 1)
    ]


def trapping() -> list[dict[str, Any]]:
    """Free energy gained by trapping against electron_kT, and where it vanishes."""
    rows = []
    for length in (6, 8, 12, 16, 20):
        gain = [droplets.trapping_energy(model_on(length), kT) for kT in ELECTRON_KT]
        lost = next(k for k, g in enumerate(gain) if g < 0)
        crossing = np.interp(
            0, gain[lost - 1 : lost + 1][::-1], ELECTRON_KT[lost - 1 : lost + 1][::-1]
        )
        rows.append(
            {"length": length, "electron_kT": ELECTRON_KT, "gain": gain, "vanishes_at": crossing}
        )
    return rows


def barriers() -> list[dict[str, Any]]:
    """Bands between collinear states, from a slightly perturbed geodesic path."""
    model = model_on(BAND_LENGTH)
    pair = [(0, 0), (1, 1), (2, 2)]
    five, four = [*pair, (3, 3), (4, 4)], [*pair, (3, 3)]
    pairs: dict[str, tuple[int, Any, Any]] = {
        "hop (1, 1), both spins together": (1, [(0, 0)], [(1, 1)]),
        "hop (1, 1), first half over two flipped spins": (1, [(0, 0)], [(0, 0), (1, 1)]),
        "hop (2, 0), both spins together": (1, [(0, 0)], [(2, 0)]),
        "approach of two, (3, 3) to (2, 2)": (2, [(0, 0), (3, 3)], [(0, 0), (2, 2)]),
        "two merge over a third flipped spin": (2, [(0, 0), (2, 2)], pair),
        "a third joins the two over another flipped spin": (3, [*pair, (4, 4)], five),
        "and one spin flips back": (3, five, four),
    }
    return [band_row(model, name, *ends) for name, ends in pairs.items()]


def band_row(model: SDModel, name: str, n_holes: int, start: Any, end: Any) -> dict[str, Any]:
    lat = model.lattice
    ends = [
        droplets.flipped_neel(lat, lat.site_index(np.array(c) + BAND_LENGTH // 2, 0))
        for c in (start, end)
    ]
    path = landscape.geodesic(*ends, N_IMAGES)
    path[1:-1] = spins.perturbed(path[1:-1], 0.02, seed=0)
    potential = landscape.exact_potential(droplets.with_holes(model, n_holes))
    band = landscape.minimum_energy_path(potential, path, BAND_STEPS)
    energies = band.energies - droplets.neel_energy(model)
    return {
        "path": name,
        "n_holes": n_holes,
        "energies": energies,
        "barrier": band.barrier,
        "gain": energies[0] - energies[-1],
        "residual": band.residual,
    }


def background_states(model: SDModel) -> Iterator[tuple[str, float, list[np.ndarray]]]:
    """Kind, parameter, and states without holes in which the Neel order is less than perfect."""
    neel = spins.neel(model.lattice)
    yield "Neel", 0, [neel]
    for degrees in CANTING:
        angle = np.deg2rad(degrees)
        yield "canted", degrees, [np.cos(angle) * neel + np.sin(angle) * np.array([1.0, 0, 0])]
    for strength in TILTING:
        yield "tilted", strength, [spins.perturbed(neel, strength, k) for k in BACKGROUND_SEEDS]
    for kT in HEAT:
        bath = LandauLifshitz(0.5, 0.2, kT)
        warm = dataset.quench(model, bath, HEATED_TIMES, seed=1, texture="neel")
        yield "heated", kT, [*warm.spins]
    runs = [
        dataset.quench(model, LandauLifshitz(0.5, 0.05), QUENCHED, seed=k).spins
        for k in BACKGROUND_SEEDS
    ]
    for n, t in enumerate(QUENCHED):
        yield "quenched", t, [frames[n] for frames in runs]


def backgrounds() -> list[dict[str, Any]]:
    """How firmly one hole is trapped, against the Neel order around it: means over hops."""
    model = model_on(BAND_LENGTH)
    lat, rows = model.lattice, []
    for kind, parameter, states in background_states(model):
        found = []
        for state in states:
            for start, step in HOPS:
                ends = lat.site_index(np.array([start, np.add(start, step)]) % BAND_LENGTH, 0)
                found.append(droplets.hop(model, state, *map(int, ends)))
        row = {"kind": kind, "parameter": parameter, "hops": len(found)}
        row["order"] = float(np.mean([observables.neel_order(lat, s) for s in states]))
        row["correlation"] = float(np.mean([observables.site_correlation(lat, s) for s in states]))
        for name in ("gain", "barrier"):
            values = np.array([hop[name] for hop in found])
            row[name] = values.mean()
            row[f"{name}_error"] = values.std(ddof=1) / len(values) ** 0.5
        rows.append(row)
    return rows


def networks() -> list[dict[str, Any]]:
    """A polaron hops and two merge by exact energies and those of networks, other spins at rest.

    At the filling of the published quench, with one polaron for every hole.
    """
    model = paper_model(lattice.square(LENGTH))
    lat, neel = model.lattice, spins.neel(model.lattice)
    engines: dict[str, Callable[[Any], Any]] = {"exact": lambda s: exact.solve(model, s).energy}
    engines |= {name: forcefield.load(name).on(lat).energy for name in NETWORKS}
    rows = []
    for path, flips in MOVES.items():
        states = [droplets.flipped_neel(lat, lat.site_index(np.array(f), 0)) for f in flips]
        legs = [landscape.geodesic(*ends, N_IMAGES) for ends in itertools.pairwise(states)]
        for engine, energy in engines.items():
            along = np.array([float(energy(s)) for leg in legs for s in leg])
            row = {"path": path, "engine": engine, "barrier": along.max() - along[0]}
            row["gain"] = along[0] - along[-1]
            rows.append(row | {"polarons": along[0] - float(energy(neel))})
    return rows


def sizes() -> list[dict[str, Any]]:
    """One polaron on lattices of several sizes."""
    rows = []
    for length in (8, 12, 16, 20, 24):
        model = model_on(length)
        middle = lattice.square(length).site_index(np.array([length // 2] * 2), 0)
        state = droplets.flipped_neel(model.lattice, [int(middle)])
        rows.append({"length": length, "energy": droplets.energies(model, state, [1])[0]})
    return rows


PARTS: dict[str, Callable[[], Any]] = {
    "sizes": sizes,
    "homogeneous": homogeneous,
    "separations": separations,
    "stripes": stripes,
    "trapping": trapping,
    "droplets": droplet_rows,
    "barriers": barriers,
    "backgrounds": backgrounds,
    "networks": networks,
}


def part(name: str) -> dict[str, Any]:
    """The result of one part, from its file where that exists."""
    path = files.root() / "build" / "arrest" / "polarons" / f"{name}.json"
    if not path.exists():
        start = time.perf_counter()
        result = PARTS[name]()
        seconds = round(time.perf_counter() - start, 1)
        origin = results.origin() | {"seconds": seconds}
        files.write_text(path, files.json_text({"origin": origin, "result": result}))
        print(f"{name}: {seconds} s", flush=True)
    return files.loaded(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    found = {name: part(name) for name in given.parts}
    lengths = {"droplets": LENGTH, "barriers": BAND_LENGTH, "momenta": MOMENTA}
    path = files.reference() / f"{given.output}.json"
    partly = path.exists() and set(given.parts) != set(PARTS)
    kept = files.loaded(path) if partly else {}
    kept.setdefault("origin", results.measured_origin(model=MODEL, lengths=lengths))
    kept.setdefault("origins", {}).update({k: value["origin"] for k, value in found.items()})
    parts = {name: value["result"] for name, value in found.items()}
    results.save_reference(given.output, kept | parts)


if __name__ == "__main__":
    main()
