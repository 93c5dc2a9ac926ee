"""The same quench twice: by exact fields and by the force field, from the same random spins.

    python studies/twin_quenches.py STORE ... [--force-field NAME] [--output NAME]

The stores hold exact quenches (``sdml label`` without a driver). From the first frame of each the
force field drives a quench with the same equation of motion and noise; at the times of the stored
frames both are measured, the energy always by diagonalization. Trajectories part sooner or later,
as two exact ones from starts a rounding error apart do: statistics over the seeds are compared.
``--output`` writes data/reference/NAME.json.
"""

import argparse
from typing import Any

import numpy as np
import torch
from stores import digits

from sdml import dataset, dynamics, exact, forcefield, observables, spins
from sdml.companion import results
from sdml.dataset import Dataset
from sdml.dynamics import LandauLifshitz
from sdml.lattice import Lattice
from sdml.observables import distance_rings

Frames = np.ndarray


def twin(data: Dataset, name: str) -> Frames:
    """Frames (n, N, 3) of the force field at the times of the exact ones."""
    (recipe,) = data.provenance["quenches"]
    equation = LandauLifshitz(recipe["dt"], recipe["damping"], recipe["kT"])
    field = forcefield.load(name).on(data.model.lattice)
    rng = dynamics.generator(equation, recipe["seed"])
    start, steps = torch.from_numpy(data.spins[0]), np.round(data.time / equation.dt).astype(int)
    run = dynamics.trajectory(start, field.local_field, equation, steps, rng)
    return np.stack([state.numpy() for _, state in run])


def order(lattice: Lattice, s: Frames) -> dict[str, Any]:
    """What the two lattices are about: chiral domains; ferromagnetic clusters in a Neel state."""
    if lattice.name == "triangular":
        chirality = observables.site_chirality(lattice, s)
        return {
            "chirality": np.abs(chirality).mean(-1),
            "wall_length": observables.domain_length(lattice, chirality, "wall"),
        }
    sizes = [observables.cluster_sizes(lattice, frame) for frame in s]
    return {
        "neel_order": observables.neel_order(lattice, s),
        "clusters": np.array([len(x) for x in sizes]),
        "cluster_size": np.array([x.mean() if len(x) else 0.0 for x in sizes]),
    }


def measured(data: Dataset, frames: Frames) -> dict[str, Any]:
    """Observables (n,) or (n, r) at every time."""
    lattice = data.model.lattice
    state = exact.solve(data.model, frames)
    transverse = spins.transverse(frames, state.local_field)
    shells = distance_rings(lattice)
    correlation = shells.average(torch.as_tensor(observables.spin_correlation(lattice, frames)))
    near = shells.radius < 6.5
    return {
        "energy_per_site": state.energy / lattice.n_sites,
        "torque_rms": np.sqrt((transverse**2).mean((1, 2))),
        "neighbors": observables.bond_correlation(lattice, frames).mean(-1),
        **order(lattice, frames),
        "distance": shells.radius[near],
        "spin_correlation": correlation.numpy()[:, near],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--force-field", help="by default the released one of the lattice")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    runs = []
    for path in given.stores:
        data = dataset.load(path)
        name = given.force_field or data.model.lattice.name
        run = {"seed": int(data.trajectory[0]), "time": data.time}
        run["exact"] = measured(data, data.spins)
        run["force field"] = measured(data, twin(data, name))
        runs.append(run)
        for kind in ("exact", "force field"):
            last = {k: float(np.asarray(v)[-1]) for k, v in run[kind].items() if np.ndim(v) == 1}
            print(results.row_text({"seed": run["seed"], "fields": kind, **last}), flush=True)
    lattice = data.model.lattice
    origin = results.measured_origin(
        weights=forcefield.checksum(forcefield.load(name)), lattice=lattice.name
    )
    origin |= {"length": lattice.shape[0], "quenches": data.provenance["quenches"][0]}
    results.save_reference(given.output, {"origin": origin, "runs": plain(runs)})


def plain(value: Any) -> Any:
    """Lists and numbers with six digits; null for an infinite length."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return digits(value)
    return value


if __name__ == "__main__":
    main()
