"""Corners of the walls between domains: how far a domain reaches around a site at its wall."""

import numpy as np
import torch
from numpy.typing import NDArray

from sdml.lattice import Lattice
from sdml.observables import site_values
from sdml.spins import SpinArray

__all__ = ["opening_angle"]

FloatArray = NDArray[np.float64]


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
        Of the disc, in lattice constants, at least 1; other walls should be farther away.
    """
    x = site_values(lattice, values, one_per_cell=True)
    if not 1 <= radius < np.inf:  # the nearest neighbors tell where a wall is
        raise ValueError(f"radius: must be finite and >= 1, got {radius}")
    sign = torch.where(x >= 0, 1.0, -1.0).cpu().numpy()
    steps, vectors = lattice.displacements(radius * lattice.spacing)
    index = lattice.site_index(lattice.cells[:, None] + steps[:, :2], 0)
    around = sign[..., index] * sign[..., None]
    near = np.linalg.norm(vectors, axis=-1) < lattice.spacing * (1 + 1e-9)
    at_wall = (around[..., near] < 0).any(-1)
    angle = 180 * (1 + (1 + around.sum(-1)) / (1 + len(steps)))
    return np.where(at_wall, angle, np.nan)
