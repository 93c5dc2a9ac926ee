"""The finite-size error of exact fields: what the boundary of a small lattice changes.

The field of a state S on a lattice of L x L sites with periodic boundaries differs from that of the
same state on a large lattice. With antiperiodic boundaries the electrons sample other momenta; the
average over the four twists 0 and pi is the field of S repeated on 2L x 2L sites
(:func:`sdml.exact.twist_averaged`), and the difference from it measures the error of a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sdml import exact
from sdml import spins as spin_arrays
from sdml.model import SDModel


@dataclass(frozen=True)
class FiniteSizeError:
    """How far periodic boundaries are from the average over the four twists.

    Attributes
    ----------
    mse : float
        Mean square difference of the transverse field h - (h . S) S, over states, sites and
        components, t^2.
    mean_square : float
        Of the averaged transverse field itself; ``mse / mean_square`` is the part of the signal
        that is an artefact of the size.
    chemical_potential : float
        Root mean square difference of the chemical potential, t.
    n_states : int
    """

    mse: float
    mean_square: float
    chemical_potential: float
    n_states: int

    @property
    def relative(self) -> float:
        """``mse / mean_square``."""
        return self.mse / self.mean_square


def finite_size_error(
    model: SDModel, spins: Any, device: str | torch.device = "cpu"
) -> FiniteSizeError:
    """The error of the fields of ``spins`` (..., N, 3), five diagonalizations a state.

    ValueError for bad spins.
    """
    s = spin_arrays.as_tensor(spins, model.lattice.n_sites).to(device, torch.float64)
    periodic = exact.solve(model, s, device)
    averaged = exact.twist_averaged(model, s, device)
    expected = spin_arrays.transverse(s, averaged.local_field)
    difference = spin_arrays.transverse(s, periodic.local_field) - expected
    shift = periodic.chemical_potential - averaged.chemical_potential
    return FiniteSizeError(
        mse=float(difference.square().mean()),
        mean_square=float(expected.square().mean()),
        chemical_potential=float(shift.square().mean().sqrt()),
        n_states=int(shift.numel()),
    )
