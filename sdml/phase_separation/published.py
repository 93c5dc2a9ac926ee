"""Snapshots published by the authors, for comparison; none of them is part of this project.

Of the doped square lattice: P. Zhang and G.-W. Chern, Phys. Rev. Lett. 127, 146401 (2021),
doi 10.1103/PhysRevLett.127.146401; repository zhangpuhan/ML_double_exchange. A quench of 30 x 30
sites by exact fields (training_data_sample/quench, steps of about 0.025 hbar/t), and frames of a
run of 100 x 100 sites that their network drove (simulation_result_sample, numbered, times not
given). They are looked for in the folder that the environment variable SDML_AUTHORS_DATA names.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdml import lattice, spins
from sdml.phase_separation.snapshots import solved_statistics

FloatArray = NDArray[np.float64]
QUENCH, NETWORK = "training_data_sample/quench", "simulation_result_sample"


class Snapshot(NamedTuple):
    """Spins (N, 3), electrons per site (N,), and exact local fields (N, 3) of a square lattice."""

    lattice: lattice.Lattice
    spins: FloatArray
    density: FloatArray
    local_field: FloatArray


def folder() -> Path | None:
    """Where the snapshots are, None if SDML_AUTHORS_DATA is not set.

    ValueError if it names no folder.
    """
    named = os.environ.get("SDML_AUTHORS_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise ValueError(f"SDML_AUTHORS_DATA={named!r} must be an existing folder")
    return Path(named)


def snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """One file, a site a row: x, y, n / 2, S (3), h (3), x fastest.

    ValueError if it is no such table of a square lattice.
    """
    table = np.loadtxt(path)
    length = round(len(table) ** 0.5)
    sites = lattice.square(length) if table.ndim == 2 and table.shape[1] == 9 else None
    if sites is None or not np.array_equal(table[:, :2], sites.positions):
        raise ValueError(f"path: {Path(path).name!r} must hold x, y, n/2, S and h of every site")
    return Snapshot(sites, spins.normalize(table[:, 3:6]), 2 * table[:, 2], table[:, 6:])


def rows() -> dict[str, dict[str, Any]]:
    """Statistics of all frames of both runs by label; none if they are not at hand.

    See :func:`snapshots.solved_statistics`.
    """
    here = folder()
    if here is None:
        return {}
    return {
        f"published, {kind}, {path.stem}": solved_statistics(*snapshot(path))
        for kind, part in {"exact": QUENCH, "network": NETWORK}.items()
        for path in sorted(here.glob(f"{part}/c*.dat"), key=lambda path: int(path.stem[1:]))
    }
