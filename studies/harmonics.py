"""Along which directions the walls between domains run, as harmonics of their angle.

The sign of a field is smoothed with a Gaussian of width w; the gradient of the smooth map phi is
normal to the walls, and abs(grad phi) / 2 integrated over the plane is their length (coarea
formula: phi runs from -1 to 1 across a wall). Details smaller than w, the steps of a wall from site
to site among them, are averaged over.

    python studies/harmonics.py [--add]    # of the frames in build/coarsening, into data/reference

A width that grows with the domains tells how they are turned as a whole; a fixed one sees finer
and finer parts of them. With `--add` the stored sets that have no stores in the folder stay.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stores import digits, lattice_of, sets

from sdml import files, simulation
from sdml.coarsening import domains, reference
from sdml.companion import results
from sdml.lattice import Lattice
from sdml.observables import site_chirality, site_values
from sdml.spins import SpinArray, like

NAME = "harmonics"
SHARES = 0.05, 0.1, 0.15, 0.2
"""Widths w of the Gaussian, in lengths L of the domains."""
SETS = (
    "main_256_dt2_a0.3_kT0",
    "main_512_dt2_a0.3_kT0",
    "main_256_dt2_a0.1_kT0",
    "main_512_dt2_a0.05_kT0neutral",
)
FloatArray = NDArray[np.float64]


def wall_elements(
    lattice: Lattice, values: SpinArray, width: float = 2.0
) -> tuple[FloatArray, FloatArray]:
    """Direction and length of wall at every site, both (..., N), numpy.

    Parameters
    ----------
    values : (..., N)
        A field on a lattice of one site a cell, for instance the sign of the chirality
        (:mod:`sdml.coarsening.domains`); its sign alone counts.
    width : float
        Standard deviation w of the Gaussian, in lattice constants. Structure finer than about 2 w
        is rounded off and counts with less length.

    Returns
    -------
    angle : in [0, pi)
        Of the wall (not of its normal) against the x axis, which is a row of nearest neighbours
        of the lattices made in :mod:`sdml.lattice`.
    length : in the unit of ``lattice.vectors``
    """
    x = site_values(lattice, values, one_per_cell=True)
    if not 0 <= width < np.inf:
        raise ValueError(f"width: must be finite and >= 0, got {width}")
    sign = torch.where(x >= 0, 1.0, -1.0).double().unflatten(-1, lattice.shape[::-1])
    q = torch.as_tensor(lattice.momenta, device=x.device).unflatten(0, lattice.shape[::-1])
    waves = torch.fft.fft2(sign) * torch.exp(-((q**2).sum(-1)) * (width * lattice.spacing) ** 2 / 2)
    gx, gy = (
        torch.fft.ifft2(1j * q[..., k] * waves).real.flatten(-2).cpu().numpy() for k in (0, 1)
    )
    area = abs(np.linalg.det(lattice.vectors))
    # The wall is the normal turned by a right angle.
    return np.arctan2(gx, -gy) % np.pi, np.hypot(gx, gy) * area / 2


def orientation_harmonics(
    lattice: Lattice,
    values: SpinArray,
    orders: Sequence[int] = (2, 4, 6, 12),
    width: float = 2.0,
) -> Any:
    """<exp(i n angle)> over the length of all walls for even n, complex, (..., len(orders)).

    The angle is taken from a row of nearest neighbours (the first one counter-clockwise from +x).
    On the triangular lattice +1 at n = 6 means walls along rows of nearest neighbours, -1 walls
    perpendicular to them, 0 no preference; a finite n = 2 means that the three kinds of row are
    not equally taken (few domains). A disc of radius 15 to 30 reads up to 0.04 at n = 6 and 0.1 at
    n = 12: a row of sites is flat over more than 2 w. Zero where there is no wall.
    """
    if any(n % 2 for n in orders):
        raise ValueError(f"orders: a wall has no sense, only even orders exist, got {orders}")
    angle, length = wall_elements(lattice, values, width)
    x, y = lattice.displacements(lattice.spacing)[1][0]
    angle = angle - np.arctan2(y, x)
    total = np.maximum(length.sum(-1), np.finfo(float).tiny)
    found = [(length * np.exp(1j * n * angle)).sum(-1) / total for n in orders]
    return like(torch.as_tensor(np.stack(found, axis=-1)), values)


def of_frames(run: simulation.Run) -> dict[float, tuple[float, list[float]]]:
    """Time -> L and the sixfold harmonic for each of `SHARES`, of the frames that are ordered."""
    sites = lattice_of(run)
    found = {}
    for time, frame in zip(run.frame_time, run.frames.astype(float), strict=True):
        if abs(site_chirality(sites, frame)).mean() >= reference.FORMED:
            sign = domains.chirality_sign(sites, frame)
            length = float(domains.domain_lengths(sites, frame)[0])
            widths = (share * length for share in SHARES)
            sixfold = [orientation_harmonics(sites, sign, (6,), w)[0].real for w in widths]
            found[float(time)] = length, sixfold
    return found


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--folder", type=Path, default=files.root() / "build" / "coarsening")
    given.add_argument("--add", action="store_true", help="to what is stored")
    asked = given.parse_args()
    stores = sets(asked.folder)
    stored = files.loaded(files.reference() / f"{NAME}.json")["sets"] if asked.add else []
    kept = {row["name"]: row for row in stored if row["name"] not in stores}
    rows = []
    for name in SETS:
        if name in kept:
            rows.append(kept[name])
            continue
        runs = [simulation.load(path) for path in stores[name]]
        found = [of_frames(run) for run in runs]
        times = sorted(set.intersection(*map(set, found)))
        row = {"name": name, "seeds": [run.header["seed"] for run in runs], "time": times}
        row |= {"lengths": digits([[one[t][0] for t in times] for one in found], 5)}
        rows.append(row | {"sixfold": digits([[one[t][1] for t in times] for one in found], 4)})
    origin = results.measured_origin(model="J = 3, filling 0.25")
    results.save_reference(NAME, {"origin": origin, "shares": SHARES, "sets": rows})


if __name__ == "__main__":
    main()
