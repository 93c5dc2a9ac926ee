"""Which way the walls between domains run, weighted with their length.

The sign of a field is smoothed with a Gaussian of width w; the gradient of the smooth map phi is
normal to the walls, and abs(grad phi) / 2 integrated over the plane is their length (coarea
formula: phi runs from -1 to 1 across a wall). Details smaller than w, the steps of a wall from site
to site among them, are averaged over.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from sdml.lattice import Lattice
from sdml.observables import site_values
from sdml.spins import SpinArray

__all__ = ["opening_angle", "wall_elements"]

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
    _require_size("width", width)
    sign = torch.where(x >= 0, 1.0, -1.0).double().unflatten(-1, lattice.shape[::-1])
    q = torch.as_tensor(lattice.momenta, device=x.device).unflatten(0, lattice.shape[::-1])
    waves = torch.fft.fft2(sign) * torch.exp(-((q**2).sum(-1)) * (width * lattice.spacing) ** 2 / 2)
    gx, gy = (
        torch.fft.ifft2(1j * q[..., k] * waves).real.flatten(-2).cpu().numpy() for k in (0, 1)
    )
    area = abs(np.linalg.det(lattice.vectors))
    # The wall is the normal turned by a right angle.
    return np.arctan2(gx, -gy) % np.pi, np.hypot(gx, gy) * area / 2


def opening_angle(lattice: Lattice, values: SpinArray, radius: float = 6.0) -> FloatArray:
    """Angle of the domain that a site at a wall belongs to, (..., N) in degrees; nan off the walls.

    pi (1 + m), m the mean of sign(values) within a radius times the site's own sign: about 180
    on a straight wall (a little more, the site itself being inside), less at a corner that sticks
    out, more at one that goes in. A site is at a wall if a nearest neighbour has the other sign.

    Parameters
    ----------
    values : (..., N)
        A field on a lattice of one site a cell; its sign alone counts.
    radius : float
        Of the disc, in lattice constants; other walls should be farther away.
    """
    x = site_values(lattice, values, one_per_cell=True)
    _require_size("radius", radius)
    sign = torch.where(x >= 0, 1.0, -1.0).cpu().numpy()
    steps, vectors = lattice.displacements(radius * lattice.spacing)
    index = lattice.site_index(lattice.cells[:, None] + steps[:, :2], 0)
    around = sign[..., index] * sign[..., None]
    near = np.linalg.norm(vectors, axis=-1) < lattice.spacing * (1 + 1e-9)
    at_wall = (around[..., near] < 0).any(-1)
    angle = 180 * (1 + (1 + around.sum(-1)) / (1 + len(steps)))
    return np.where(at_wall, angle, np.nan)


def _require_size(argument: str, size: float) -> None:
    if not 0 <= size < np.inf:
        raise ValueError(f"{argument}: must be finite and >= 0, got {size}")
