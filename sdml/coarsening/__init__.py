"""Chiral domains of the triangular lattice: their lengths, walls, scaling and growth laws."""

from sdml.coarsening import domains, growth, reference, scaling, walls

__all__ = ["domains", "growth", "reference", "scaling", "walls"]
