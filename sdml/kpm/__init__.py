"""Fields from Chebyshev moments of the Hamiltonian: the kernel polynomial method, linear in N."""

from sdml.kpm.recursion import FASTMATH
from sdml.kpm.solver import PROBINGS, EstimatedState, energy_bounds, solve

__all__ = ["FASTMATH", "PROBINGS", "EstimatedState", "energy_bounds", "solve"]
