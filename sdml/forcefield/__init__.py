"""Energies and fields from a neural network, released weights, committees."""

from sdml.forcefield.committee import Calibration, Committee
from sdml.forcefield.container import digest, read_tensors, write_tensors
from sdml.forcefield.network import (
    ENVIRONMENTS,
    Environment,
    ForceField,
    checksum,
    load,
    locate,
    save,
)

__all__ = [
    "ENVIRONMENTS",
    "Calibration",
    "Committee",
    "Environment",
    "ForceField",
    "checksum",
    "digest",
    "load",
    "locate",
    "read_tensors",
    "save",
    "write_tensors",
]
