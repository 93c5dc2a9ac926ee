"""Averages over circles of momenta and of distances, in true geometry, on any device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml.lattice import Lattice


@dataclass(frozen=True)
class Rings:
    """Points sorted into rings of equal width about the origin.

    Attributes
    ----------
    index : (n,) int
        Ring of every point; ring 0 is the origin alone.
    radius : (k,)
        Mean distance of the points of every ring from the origin; empty rings are left out.
    counts : (k,)
        Number of points in every ring.
    """

    index: NDArray[np.int64]
    radius: NDArray[np.float64]
    counts: NDArray[np.int64]

    def average(self, values: Tensor) -> Tensor:
        """Mean of ``values`` (..., n) over every ring, (..., k), in float64."""
        x = values.double()
        index = torch.as_tensor(self.index, device=x.device)
        total = x.new_zeros(*x.shape[:-1], len(self.radius)).index_add_(-1, index, x)
        return total / torch.as_tensor(self.counts, device=x.device)

    def plane_weight(self, values: Tensor) -> Tensor:
        """``values`` (..., k) times the number of points in every ring: its share of the plane."""
        return values * torch.as_tensor(self.counts, device=values.device)


def wave_length(size: NDArray[np.float64], weight: Tensor) -> Tensor:
    """2 pi sum w / sum w q, (...), with ``size`` q (k,) and ``weight`` w (..., k), in float64.

    The first entry, q = 0, is left out; infinite where there is no other weight.
    """
    w, q = weight[..., 1:].double(), torch.as_tensor(size[1:], device=weight.device)
    moment = w @ q
    return torch.where(moment > 0, 2 * np.pi * w.sum(-1) / moment, torch.inf)


@lru_cache(maxsize=8)
def momentum_rings(lattice: Lattice) -> Rings:
    """Rings of ``lattice.momenta``, of width 2 pi / sqrt(n_cells)."""
    size = np.linalg.norm(lattice.momenta, axis=-1)
    return _rings(size, 2 * np.pi / np.sqrt(lattice.n_cells))


@lru_cache(maxsize=8)
def distance_rings(lattice: Lattice) -> Rings:
    """Rings, one lattice constant wide, of all cell displacements wrapped to the shortest.

    In the order of :func:`sdml.observables.spin_correlation`.
    """
    periods = np.array(lattice.vectors) * np.array(lattice.shape)[:, None]
    steps = lattice.cells[:: lattice.n_basis] @ np.array(lattice.vectors)
    shortest = np.full(len(steps), np.inf)
    for shift in np.mgrid[-1:2, -1:2].reshape(2, -1).T @ periods:
        shortest = np.minimum(shortest, np.linalg.norm(steps + shift, axis=-1))
    return _rings(shortest, 1.0)


def _rings(size: NDArray[np.float64], width: float) -> Rings:
    ring = np.floor(size / width + 0.5).astype(int)
    ring[size == 0] = -1
    _, index, counts = np.unique(ring, return_inverse=True, return_counts=True)
    return Rings(index, np.bincount(index, size) / counts, counts)
