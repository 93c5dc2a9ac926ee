"""What a snapshot of the doped square lattice says: one row of statistics, lengths, aging.

The row that notebook 06 and the quenches compare: correlation of neighbours, ferromagnetic
clusters, Neel order, and where the density is known the holes. Batches (..., N, 3) give arrays.
"""

from typing import Any

import torch
from torch import Tensor

from sdml import observables
from sdml.lattice import Lattice
from sdml.phase_separation.clusters import THRESHOLD, labelled
from sdml.spins import SpinArray, as_tensor, like, real_tensor, transverse

HOLE_DENSITY = 0.80
"""Electrons per site below which a site counts as holding a hole (n / 2 < 0.40)."""
NO_HOLES = 5e-6
"""Holes per site that are none: densities of a force field, and in single precision, miss some."""

SPIN_STATISTICS = (
    "correlation",
    "parallel",
    "n_clusters",
    "mean_size",
    "largest",
    "neel_order",
    "neel_length",
)
DENSITY_STATISTICS = ("hole_sites", "bimodality", "holes_in_clusters", "holes_per_cluster")


def statistics(
    lattice: Lattice,
    spins: SpinArray,
    density: SpinArray | None = None,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """The row of the statistics table for spins (..., N, 3), each entry (...).

    Parameters
    ----------
    density : (..., N), optional
        Electrons per site; adds the last four entries.
    threshold : float
        Of the bonds that are parallel and join clusters.

    Returns
    -------
    dict
        * correlation: mean S_i . S_j of nearest neighbours
        * parallel: fraction of nearest-neighbour bonds with S_i . S_j > threshold
        * n_clusters, mean_size, largest: ferromagnetic clusters of two or more sites (number, and
          sites per cluster; 0 where there is none)
        * neel_order: |mean of (-1)^(x+y) S_i|, nan where a length is odd: two sublattices do not
          fit on the torus
        * neel_length: see :func:`sdml.observables.neel_length`, nan likewise
        * hole_sites: fraction of sites with n_i < 0.80
        * bimodality: see :func:`bimodality`
        * holes_in_clusters: share of all holes, sum of 1 - n_i, that sits on clusters; 0 for less
          than 5e-6 a site
        * holes_per_cluster: mean over the clusters, 0 where there is none
    """
    s = real_tensor(spins, "spins")
    bonds = observables.bond_correlation(lattice, s)
    joined = bonds > float(real_tensor(threshold, "threshold"))
    n = None
    if density is not None:
        n = observables.site_values(lattice, density, "density", s.shape[:-2])
    row = {
        "correlation": bonds.mean(-1),
        "parallel": joined.to(s).mean(-1),
        **_cluster_statistics(lattice, joined, n),
        **{name: _neel(lattice, s, name) for name in ("neel_order", "neel_length")},
    }
    if n is not None:
        row |= {"hole_sites": (n < HOLE_DENSITY).to(s).mean(-1), "bimodality": bimodality(n)}
    # In the order of the table.
    found = {name: row[name] for name in (*SPIN_STATISTICS, *DENSITY_STATISTICS) if name in row}
    return {k: float(v.detach()) if s.ndim == 2 else like(v, spins) for k, v in found.items()}


def _neel(lattice: Lattice, spins: Tensor, name: str) -> Tensor:
    if lattice.name == "square" and any(n % 2 for n in lattice.shape):
        return spins.new_full(spins.shape[:-2], torch.nan)
    return getattr(observables, name)(lattice, spins)


def solved_statistics(
    lattice: Lattice, spins: SpinArray, density: SpinArray, local_field: SpinArray
) -> dict[str, Any]:
    """:func:`statistics` of one snapshot whose electrons are known, for people and other sizes.

    Adds clusters_per_1000, their number per 1000 sites, and :func:`rms_torque`, in units of t.
    """
    row = statistics(lattice, spins, density)
    row["clusters_per_1000"] = 1000 * row["n_clusters"] / lattice.n_sites
    row["rms_torque"] = float(rms_torque(spins, local_field))
    return row


def _cluster_statistics(
    lattice: Lattice, joined: Tensor, density: Tensor | None
) -> dict[str, Tensor]:
    """Of bonds (..., n_bonds) that join or do not, and of the density (..., N) if it is known."""
    batch = joined.shape[:-1]
    flat = joined.reshape(-1, joined.shape[-1]).cpu().numpy()
    n: Any = [None] * len(flat)
    if density is not None:
        n = density.detach().reshape(-1, lattice.n_sites).cpu().double().numpy()
    rows = []
    for one, own in zip(flat, n, strict=True):
        found = labelled(observables.joined_sites(lattice, one), own)
        row = [len(found.sites), found.mean_size, max(map(len, found.sites), default=0)]
        if found.holes is not None:
            total, inside = round(float((1 - own).sum()), 9), float(found.holes.sum())
            share = inside / total if abs(total) > NO_HOLES * len(own) else 0.0
            row += [share, inside / max(len(found.sites), 1)]
        rows.append(row)
    names = ["n_clusters", "mean_size", "largest", *DENSITY_STATISTICS[2:]]
    columns = torch.tensor(rows, dtype=torch.float64).reshape(len(flat), -1).T
    return {name: c.reshape(batch) for name, c in zip(names, columns, strict=False)}


def bimodality(values: SpinArray) -> Any:
    """Sarle's coefficient (g^2 + 1) / k of (..., n) numbers, (...), in (0, 1].

    g is the skewness and k the kurtosis <x^4> / <x^2>^2 of the deviations from the mean. 1 for two
    sharp values in any proportion, 5/9 for a uniform and 1/3 for a normal distribution; 0 is
    returned where all values are equal but for rounding (:func:`sdml.observables.varying`).
    Pfister et al., Front. Psychol. 4, 700 (2013), doi 10.3389/fpsyg.2013.00700.
    """
    given = real_tensor(values, "values")
    x = observables.varying(given)
    deviation = x - x.mean(-1, keepdim=True)
    second, third, fourth = (deviation.pow(p).mean(-1) for p in (2, 3, 4))
    coefficient = (third**2 / second**3 + 1) * second**2 / fourth
    return like(torch.where(second > 0, coefficient, 0.0).to(given), values)


def overlap(spins: SpinArray, reference: SpinArray, aligned: bool = False) -> Any:
    """Two-time overlap (1/N) sum_i S_i(t) . S_i(t_w), (...).

    Parameters
    ----------
    spins, reference : (..., N, 3)
        The later and the earlier configuration.
    aligned : bool
        Maximise over global rotations of ``spins``, under which the energy does not change (the
        orthogonal Procrustes problem: Kabsch, Acta Cryst. A 32, 922 (1976),
        doi 10.1107/S0567739476001873).
    """
    s, r = as_tensor(spins), as_tensor(reference)
    if s.shape[-2] != r.shape[-2]:
        raise ValueError(f"reference: must hold {s.shape[-2]} spins, got {r.shape[-2]}")
    r = r.to(s)
    if not aligned:
        return like((s * r).sum(-1).mean(-1), spins)
    covariance = s.mT @ r / s.shape[-2]
    singular = torch.linalg.svdvals(covariance)
    sign = torch.where(torch.linalg.det(covariance) < 0, -1.0, 1.0)
    return like(singular[..., 0] + singular[..., 1] + sign * singular[..., 2], spins)


def density_overlap(density: SpinArray, reference: SpinArray) -> Any:
    """Two-time correlation <dn(t) dn(t_w)> / sqrt(<dn(t)^2> <dn(t_w)^2>) of (..., N), (...).

    dn is the deviation from the mean over the sites: 1 while the holes stay where they are,
    whatever the spins around them do, and 0 once they are elsewhere or the density is uniform.
    """
    n, r = real_tensor(density, "density"), real_tensor(reference, "reference")
    if n.shape[-1] != r.shape[-1]:
        raise ValueError(f"reference: must hold {n.shape[-1]} sites, got {r.shape[-1]}")
    x, y = (v - v.mean(-1, keepdim=True) for v in map(observables.varying, (n, r.to(n.device))))
    norm = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    moved = (x * y).sum(-1) / torch.where(norm > 0, norm, 1.0)
    return like(torch.where(norm > 0, moved, 0.0).to(n), density)


def rms_torque(spins: SpinArray, local_field: SpinArray) -> Any:
    """Root mean square over sites of |S x h|, (...), in units of t.

    Zero in a state at rest; in equilibrium at the spin temperature kT it is what
    :func:`landscape.thermal_torque` gives.
    """
    perpendicular = transverse(as_tensor(spins), local_field)
    return like(perpendicular.square().sum(-1).mean(-1).sqrt(), spins)
