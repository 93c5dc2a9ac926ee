"""What a network sees of the spins around a site: irreps, moments of walks, or raw products."""

from sdml.descriptor.environment import (
    BondDescriptor,
    BondEnvironment,
    Descriptor,
    Environment,
)
from sdml.descriptor.irreps import SymmetryDescriptor, SymmetryEnvironment
from sdml.descriptor.moments import MomentDescriptor, MomentEnvironment
from sdml.descriptor.orbits import Feature, environment_images, orbit_coefficients
from sdml.descriptor.raw import RawBondDescriptor, RawBondEnvironment
from sdml.descriptor.walks import Walks

__all__ = [
    "BondDescriptor",
    "BondEnvironment",
    "Descriptor",
    "Environment",
    "Feature",
    "MomentDescriptor",
    "MomentEnvironment",
    "RawBondDescriptor",
    "RawBondEnvironment",
    "SymmetryDescriptor",
    "SymmetryEnvironment",
    "Walks",
    "environment_images",
    "orbit_coefficients",
]
