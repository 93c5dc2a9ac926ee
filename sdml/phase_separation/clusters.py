"""Ferromagnetic clusters of a doped antiferromagnet: their sizes and the holes they hold.

A cluster is a set of sites joined by bonds S_i . S_j > threshold (0.5: less than 60 degrees apart),
with two sites or more; :func:`sdml.observables.cluster_labels` finds them. In the double-exchange
limit electrons hop with amplitude t cos(theta / 2) between spins at an angle theta, so that holes
move where spins are parallel: Anderson and Hasegawa, Phys. Rev. 100, 675 (1955),
doi 10.1103/PhysRev.100.675.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdml import observables
from sdml.lattice import Lattice
from sdml.spins import SpinArray

__all__ = ["THRESHOLD", "Clusters", "clusters", "labelled"]

THRESHOLD = 0.5
SMALLEST = 2


@dataclass(frozen=True)
class Clusters:
    """The ferromagnetic clusters of one configuration, largest first.

    Attributes
    ----------
    sites : list of (size,) arrays
        Site numbers of every cluster.
    holes : (n_clusters,), optional
        Sum of 1 - n_i over the sites of a cluster, where the density was given.
    """

    sites: list[NDArray[np.int64]]
    holes: NDArray[np.float64] | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of sites of every cluster, (n_clusters,), descending."""
        return np.array([len(members) for members in self.sites], dtype=np.int64)

    @property
    def mean_size(self) -> float:
        """Mean number of sites; 0 where there is no cluster."""
        return float(self.sizes.mean()) if self.sites else 0.0


def clusters(
    lattice: Lattice,
    spins: SpinArray,
    density: SpinArray | None = None,
    threshold: float = THRESHOLD,
) -> Clusters:
    """The clusters of spins (N, 3), and the holes on them if ``density`` (N,) is given.

    Parameters
    ----------
    density : (N,), optional
        Electrons per site n_i in [0, 2]; without holes n_i = 1.
    threshold : float
        Bonds with S_i . S_j above it join two sites.
    """
    labels = observables.cluster_labels(lattice, spins, threshold)
    if density is None:
        return labelled(labels)
    n = observables.site_values(lattice, density, "density", batch=())
    return labelled(labels, n.detach().cpu().double().numpy())


def labelled(labels: NDArray[np.int64], density: NDArray[np.float64] | None = None) -> Clusters:
    """The :func:`clusters` of sites with known labels (N,), and of a density (N,)."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    groups = sorted((g for g in groups if len(g) >= SMALLEST), key=len, reverse=True)
    if density is None:
        return Clusters(groups)
    return Clusters(groups, np.array([(1.0 - density[members]).sum() for members in groups]))
