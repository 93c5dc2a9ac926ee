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

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdml import forcefield, observables, simulation, spins
from sdml.dynamics import LandauLifshitz
from sdml.forcefield import committee
from sdml.lattice import Lattice
from sdml.model import describe
from sdml.simulation import Guard, Limits, Observable, Settings, Steps
from sdml.spins import Seed

__all__ = ["OBSERVABLES", "Quench", "jobs", "quench", "require_device"]


def _of_chirality(measure: Observable) -> Observable:
    return lambda sites, s: measure(sites, observables.site_chirality(sites, s))


def _clusters(sites: Lattice, s: Any) -> Any:
    """Number of ferromagnetic clusters, and sites in them and in the largest."""
    sizes = observables.cluster_sizes(sites, s)
    return np.array([len(sizes), sizes.sum(), sizes[0] if len(sizes) else 0])


OBSERVABLES: dict[str, Observable] = {
    "chirality": observables.site_chirality,
    "chirality_structure": _of_chirality(observables.structure_factor),
    "chirality_length": _of_chirality(observables.domain_length),
    "clusters": _clusters,
    "bonds": observables.bond_correlation,
    "correlation": observables.spin_correlation,
    "neel": observables.neel_order,
    "structure_factor": observables.structure_factor,
    "magnetization": lambda sites, s: torch.linalg.vector_norm(s.mean(-2), dim=-1),
}
"""What a run can measure by name; ``energy``, per site, and ``density`` (N,), of a grand-canonical
one, belong to its force field."""


@dataclass(frozen=True)
class Quench:
    """A run of a force field on a lattice of its kind.

    Parameters
    ----------
    force_field : str
        A released name or a file.
    length : int or (int, int)
        Of L x L cells, or along a1 and a2.
    equation, n_steps, save_every
        See :func:`sdml.simulation.quench`.
    settings : simulation.Settings
        Its further settings, but for those that follow from the fields here.
    observables : sequence of str
        Of ``OBSERVABLES``, ``energy`` or ``density``.
    initial : str
        Of :data:`sdml.spins.STARTS`, or the store of a run, which gives its last spins.
    committee : bool
        The mean of all members of the force field drives the spins.
    guard : simulation.Limits, optional
        Watch whether the spins leave the range of the training data.
    device : str

    Raises
    ------
    ValueError
        Unknown names.
    """

    force_field: str
    length: int | tuple[int, int]
    equation: LandauLifshitz
    n_steps: int
    save_every: Steps
    settings: Settings = field(default_factory=Settings)
    observables: Sequence[str] = ()
    initial: str = "random"
    committee: bool = False
    guard: Limits | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        known = sorted([*OBSERVABLES, "density", "energy"])
        for name in self.observables:
            if name not in known:
                raise ValueError(f"observables: must be of {known}, got {name!r}")
        if self.initial not in spins.STARTS and not Path(self.initial).is_file():
            allowed = f"a store or of {list(spins.STARTS)}"
            raise ValueError(f"initial: must be {allowed}, got {self.initial!r}")


def quench(
    path: str | os.PathLike[str],
    asked: Quench,
    seed: Seed | Sequence[Seed],
    progress: bool | None = None,
) -> simulation.Run:
    """Begin the run of a seed, or of a batch of seeds, or go on with it."""
    require_device(asked.device)
    loaded: Any = (committee if asked.committee else forcefield).load(asked.force_field)
    shape = asked.length if isinstance(asked.length, tuple) else (asked.length, asked.length)
    sites = replace(loaded.model.lattice, shape=shape)
    driver = loaded.on(sites).to(asked.device)
    members = getattr(driver, "members", [driver])
    # Of one configuration: per site, in t, and the mean of the members.
    own = {
        "energy": lambda sites, s: driver.energy(s).double() / sites.n_sites,
        "density": lambda sites, s: sum(m.density(s) for m in members) / len(members),
    }
    weights = [forcefield.checksum(member) for member in getattr(loaded, "members", [loaded])]
    settings = replace(
        asked.settings,
        observables={name: (OBSERVABLES | own)[name] for name in asked.observables},
        seed=seed,
        engine=Path(asked.force_field).name,
        guard=None if asked.guard is None else Guard(driver, **vars(asked.guard)),
        provenance={"model": describe(driver.model), "weights_sha256": weights},
        progress=progress,
    )
    start = torch.as_tensor(_start(asked.initial, sites, settings.seed))
    begun, length = start.to(asked.device, torch.float32), (asked.n_steps, asked.save_every)
    motion = driver.field, asked.equation
    return simulation.quench(path, sites, begun, *motion, *length, **vars(settings))


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


def _start(initial: str, sites: Lattice, seed: Any) -> Any:
    if not isinstance(seed, int):
        return np.stack([_start(initial, sites, one) for one in seed])
    if initial in spins.STARTS:
        return spins.start(initial, sites, seed)
    found = simulation.load(initial)
    held, last = found.header["lattice"], found.spins
    begun = Lattice(held["name"], held["vectors"], held["basis"], held["shape"])
    if begun.shape != sites.shape or not begun.same_crystal(sites):
        raise ValueError(
            f"initial: must hold a run of the {sites.name} lattice of shape {sites.shape}, got the "
            f"{held['name']} one of {tuple(held['shape'])}"
        )
    if last.shape != (sites.n_sites, 3):
        raise ValueError(f"initial: must hold ({sites.n_sites}, 3) spins, got {last.shape}")
    return last


def jobs(
    folder: str | os.PathLike[str], asked: Quench, seeds: Sequence[int]
) -> dict[str, partial[int]]:
    """Name of the store in the folder -> job of one seed, for :func:`sdml.workers.run`.

    A job returns the number of steps that the run has done. ValueError if a seed comes twice.
    """
    numbers = [spins.seed_number(seed) for seed in seeds]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds: must differ from each other, got {numbers}")
    # A worker of a cluster may run in another folder.
    names = {"force_field": asked.force_field, "initial": asked.initial}
    here = {k: str(Path(v).absolute()) for k, v in names.items() if Path(v).is_file()}
    moved, target = replace(asked, **here), Path(folder).absolute()  # type: ignore[arg-type]
    return {f"quench_{k}.h5": partial(_job, target / f"quench_{k}.h5", moved, k) for k in numbers}


def _job(path: Path, asked: Quench, seed: int) -> int:
    return quench(path, asked, seed, progress=False).step
