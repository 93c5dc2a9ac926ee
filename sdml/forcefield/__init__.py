"""Energies and fields from a neural network, released weights, committees."""

from sdml.forcefield.committee import Committee
from sdml.forcefield.container import digest, read_tensors, write_tensors
from sdml.forcefield.network import ENVIRONMENTS, ForceField, checksum, load, save

__all__ = [
    "ENVIRONMENTS",
    "Committee",
    "ForceField",
    "checksum",
    "digest",
    "load",
    "read_tensors",
    "save",
    "write_tensors",
]
