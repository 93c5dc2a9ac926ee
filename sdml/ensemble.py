"""Runs of a force field described by plain data, so that each is a job that can be sent anywhere.

The jobs of an ensemble run here, in processes or on a Dask cluster (:func:`sdml.workers.run`); each
writes a store of its own and goes on from it when it is tried again, and what it writes does not
depend on where it runs, on machines of one kind. On a cluster with SLURM::

    from dask_jobqueue import SLURMCluster       # pip install dask-jobqueue
    cluster = SLURMCluster(cores=1, memory="4GB", walltime="12:00:00",
                           job_script_prologue=["export OMP_NUM_THREADS=1"])
    cluster.scale(jobs=32)
    print(cluster.scheduler_address)             # for sdml quench --scheduler tcp://...

A job that meets its time limit loses what came after its last checkpoint; the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdml import forcefield, lattice, observables, simulation, spins
from sdml.dynamics import LandauLifshitz
from sdml.forcefield import committee
from sdml.lattice import Lattice
from sdml.model import describe
from sdml.simulation import Guard, Observable, Schedule, Steps

INITIAL = ("ferromagnetic", "neel", "stripe", "coplanar_120", "coplanar_90", "tetrahedral")
"""Ordered starts; ``random`` differs from seed to seed, and a store gives its last spins."""


def _chirality_structure(sites: Lattice, s: Any) -> Any:
    return observables.structure_factor(sites, observables.site_chirality(sites, s))


def _chirality_length(sites: Lattice, s: Any) -> Any:
    return observables.domain_length(sites, observables.site_chirality(sites, s))


def _clusters(sites: Lattice, s: Any) -> Any:
    """Number of ferromagnetic clusters, and sites in them and in the largest."""
    sizes = observables.cluster_sizes(sites, s)
    return np.array([len(sizes), sizes.sum(), sizes[0] if len(sizes) else 0])


OBSERVABLES: dict[str, Observable] = {
    "chirality": observables.site_chirality,
    "chirality_structure": _chirality_structure,
    "chirality_length": _chirality_length,
    "clusters": _clusters,
    "bonds": observables.bond_correlation,
    "correlation": observables.spin_correlation,
    "neel": observables.neel_order,
    "structure_factor": observables.structure_factor,
    "magnetization": lambda sites, s: torch.linalg.vector_norm(s.mean(-2), dim=-1),
}
"""What a run can measure by name; ``energy``, per site, belongs to its force field."""


@dataclass(frozen=True)
class Quench:
    """A run of a force field on the L x L lattice of its kind.

    Parameters
    ----------
    force_field : str
        A released name or a file.
    length : int
    equation : LandauLifshitz
    n_steps, save_every, frames_every, schedule, frame_dtype, checkpoint_every
        See :func:`sdml.simulation.quench`.
    observables : sequence of str
        Of ``OBSERVABLES``, or ``energy``.
    initial : str
        ``random``, one of ``INITIAL``, or the store of a run.
    committee : bool
        The mean of all members of the force field drives the spins.
    guarded : bool
        Watch whether the spins leave the range of the training data.
    warn_above, stop_above
        See :class:`sdml.simulation.guard.Guard`.
    device : str

    Raises
    ------
    ValueError
        Unknown names.
    """

    force_field: str
    length: int
    equation: LandauLifshitz
    n_steps: int
    save_every: Steps
    frames_every: Steps | None = None
    schedule: Schedule | None = None
    frame_dtype: str = "float32"
    checkpoint_every: int = 10
    observables: Sequence[str] = ()
    initial: str = "random"
    committee: bool = False
    guarded: bool = False
    warn_above: float = 0.01
    stop_above: float | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in self.observables:
            if name not in (*OBSERVABLES, "energy"):
                known = sorted([*OBSERVABLES, "energy"])
                raise ValueError(f"observables: must be of {known}, got {name!r}")
        if self.initial not in ("random", *INITIAL) and not Path(self.initial).is_file():
            raise ValueError(
                f"initial: must be 'random', a store or of {list(INITIAL)}, got {self.initial!r}"
            )
        if self.stop_above is not None and not self.guarded:
            raise ValueError(f"stop_above: needs a guard, got {self.stop_above} without one")


def quench(
    path: str | os.PathLike[str],
    settings: Quench,
    seed: int | Sequence[int],
    progress: bool | None = None,
) -> simulation.Run:
    """Begin the run of a seed, or of a batch of seeds, or go on with it."""
    require_device(settings.device)
    loaded: Any = (committee if settings.committee else forcefield).load(settings.force_field)
    sites = getattr(lattice, loaded.model.lattice.name)(settings.length)
    driver = loaded.on(sites).to(settings.device)
    start = torch.as_tensor(_start(settings.initial, sites, seed))
    guard = None
    if settings.guarded:
        guard = Guard(driver, settings.warn_above, settings.stop_above)
    return simulation.quench(
        path,
        sites,
        start.to(settings.device, torch.float32),
        driver.field,
        settings.equation,
        settings.n_steps,
        settings.save_every,
        _measured(settings.observables, driver),
        seed,
        settings.checkpoint_every,
        engine=Path(settings.force_field).name,
        schedule=settings.schedule,
        frames_every=settings.frames_every,
        frame_dtype=settings.frame_dtype,
        guard=guard,
        provenance={"model": describe(driver.model), "weights_sha256": _weights(loaded)},
        progress=progress,
    )


def require_device(device: str) -> None:
    """ValueError unless this machine can compute on the device of that name."""
    try:
        ready = torch.zeros(1, device=device).device.type != "meta"  # which holds no numbers
    except (RuntimeError, AssertionError):  # torch asserts that it was built for a device
        ready = False
    if not ready:
        found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        raise ValueError(
            "device: must be 'cpu' or an accelerator that torch finds here, such as 'cuda' or "
            f"'cuda:0' (CUDA devices here: {', '.join(found) or 'none'}), got {device!r}"
        )


def _weights(loaded: Any) -> list[str]:
    return [forcefield.checksum(member) for member in getattr(loaded, "members", [loaded])]


def _measured(names: Sequence[str], driver: Any) -> Mapping[str, Observable]:
    """Functions of one configuration; the energy is per site, in t."""
    own = {"energy": lambda sites, s: driver.energy(s).double() / sites.n_sites}
    return {name: (OBSERVABLES | own)[name] for name in names}


def _start(initial: str, sites: Lattice, seed: int | Sequence[int]) -> Any:
    if not isinstance(seed, (int, np.integer)):
        return np.stack([_start(initial, sites, one) for one in seed])
    if initial == "random":
        return spins.random(sites.n_sites, seed)
    if initial in INITIAL:
        return getattr(spins, initial)(sites)
    found = simulation.load(initial)
    held, last = found.header["lattice"], found.spins
    if (held["name"], tuple(held["shape"])) != (sites.name, sites.shape):
        raise ValueError(
            f"initial: must hold a run of the {sites.name} lattice of shape {sites.shape}, got the "
            f"{held['name']} one of {tuple(held['shape'])}"
        )
    if last.shape != (sites.n_sites, 3):
        raise ValueError(f"initial: must hold ({sites.n_sites}, 3) spins, got {last.shape}")
    return last


def jobs(
    folder: str | os.PathLike[str], settings: Quench, seeds: Sequence[int]
) -> dict[str, partial[int]]:
    """Name of the store in the folder -> job of one seed, for :func:`sdml.workers.run`.

    A job returns the number of steps that the run has done. ValueError if a seed comes twice.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: must differ from each other, got {list(seeds)}")
    # A worker of a cluster may run in another folder.
    names = {"force_field": settings.force_field, "initial": settings.initial}
    here = {k: str(Path(v).absolute()) for k, v in names.items() if Path(v).is_file()}
    moved, target = replace(settings, **here), Path(folder).absolute()  # type: ignore[arg-type]
    return {f"quench_{k}.h5": partial(_job, target / f"quench_{k}.h5", moved, k) for k in seeds}


def _job(path: Path, settings: Quench, seed: int) -> int:
    return quench(path, settings, seed, progress=False).step
