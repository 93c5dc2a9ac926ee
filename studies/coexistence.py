"""Homogeneous states of the doped square lattice and the coexistence of two of them.

Conical states S_i = (sin(a) cos(Q.r), sin(a) sin(Q.r), cos(a)) comprise the ferromagnet (a = 0),
the Neel state (Q = (pi, pi), a = pi / 2), the canted state between them and all planar spirals.
Spin up at k meets spin down at k + Q, so that their levels are those of 2 x 2 matrices,

    ( e_k - J cos(a)     - J sin(a)       )
    ( - J sin(a)     e_(k+Q) + J cos(a)   ).

Where the lowest energy per site e(x) at x holes a site is not convex, the system gains by
separating into two phases on a common tangent (Maxwell): Yunoki et al., Phys. Rev. Lett. 80, 845
(1998), doi 10.1103/PhysRevLett.80.845.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from droplets import FloatArray
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from sdml.model import SDModel, electronic_energy, occupations

NEEL = (np.pi, np.pi)


@dataclass(frozen=True)
class Coexistence:
    """Two phases on a common tangent.

    Attributes
    ----------
    doping : (float, float)
        Holes per site of the two phases.
    energy_per_hole : float
        Slope of the tangent de/dx, in units of t: what a hole costs while the two coexist.
    """

    doping: tuple[float, float]
    energy_per_hole: float


def dispersion(model: SDModel, momenta: FloatArray) -> FloatArray:
    """e_k = - sum over shells t_s sum_d cos(k . d), momenta (..., 2), Bravais lattices."""
    if model.lattice.n_basis != 1:
        raise ValueError(f"lattice: needs one site per cell, {model.lattice.name!r} has several")
    if model.hops:
        raise ValueError(f"hops: must be empty, got {model.hops}")
    total = np.zeros(momenta.shape[:-1])
    distances = model.lattice.shell_distances(len(tuple(model.hopping)))  # type: ignore[arg-type]
    for amplitude, distance in zip(model.hopping, distances, strict=True):  # type: ignore[arg-type]
        vectors = model.lattice.displacements(distance + 1e-6)[1]
        shell = vectors[abs(np.linalg.norm(vectors, axis=-1) - distance) < 1e-6]
        total -= amplitude * np.cos(momenta @ shell.T).sum(-1)
    return total


def conical_levels(model: SDModel, wave_vector: Sequence[float], angle: float) -> FloatArray:
    """One-electron levels (2N,) of a conical state, ascending, on the momenta of the lattice."""
    momenta = model.lattice.momenta
    up = dispersion(model, momenta) - model.exchange_coupling * np.cos(angle)
    shifted = momenta + np.asarray(wave_vector)
    down = dispersion(model, shifted) + model.exchange_coupling * np.cos(angle)
    split = np.hypot((up - down) / 2, model.exchange_coupling * np.sin(angle))
    return np.sort(np.concatenate([(up + down) / 2 - split, (up + down) / 2 + split]))


def conical_energy(
    model: SDModel, wave_vector: Sequence[float], angle: float, doping: Iterable[float]
) -> FloatArray:
    """Free energy per site at several dopings x = 1 - 2 filling, (n,); no spin-only terms."""
    levels = torch.as_tensor(conical_levels(model, wave_vector, angle))
    found = []
    for holes in doping:
        own = dataclasses.replace(model, filling=(1 - holes) / 2, chemical_potential=None)
        filled, mu = occupations(own, levels)
        found.append(float(electronic_energy(own, levels, filled, mu)) / model.lattice.n_sites)
    return np.array(found)


def coexistence(doping: FloatArray, energy: FloatArray, at: float) -> Coexistence:
    """The common tangent of e(x) that covers the doping ``at``.

    Parameters
    ----------
    doping : (n,)
        Ascending.
    energy : (n,)
        Per site, the lowest of all homogeneous phases.
    at : float
        Doping inside the range. Where e(x) is convex the tangent is the chord to the next doping.
    """
    x, e = np.asarray(doping, dtype=float), np.asarray(energy, dtype=float)
    if x.ndim != 1 or x.shape != e.shape or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(f"doping: must ascend and match energy, got {x.shape} and {e.shape}")
    if not x[0] <= at <= x[-1]:
        raise ValueError(f"at: must be in [{x[0]}, {x[-1]}], got {at}")
    hull = lower_hull(x, e)
    right = min(max(int(np.searchsorted(x[hull], at, side="right")), 1), len(hull) - 1)
    i, j = hull[right - 1], hull[right]
    return Coexistence((float(x[i]), float(x[j])), float((e[j] - e[i]) / (x[j] - x[i])))


def lower_hull(x: FloatArray, y: FloatArray) -> NDArray[np.int64]:
    """Indices of the points on the lower convex hull of a curve, x ascending."""
    # A point above gives a straight line an area too; its facets do not face down.
    above = (x[0] + x[-1]) / 2, y.max() + np.ptp(x)
    hull = ConvexHull([*zip(x, y, strict=True), above])
    return np.unique(hull.simplices[hull.equations[:, 1] < 0])
