"""Holes and ferromagnetic clusters of the doped square lattice, and whether they freeze."""

from sdml.phase_separation import arrest, clusters, published, reference, snapshots

__all__ = ["arrest", "clusters", "published", "reference", "snapshots"]
