"""Laws that any energy, local field, observable or integrator must obey, as assertions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sdml import spins as spin_arrays
from sdml.descriptor.moments import TILT_SCALE
from sdml.lattice import Lattice
from sdml.symmetry import PointGroup

FloatArray = NDArray[np.float64]
SITES = (0, 5, 11)


@dataclass(frozen=True)
class Move:
    """A symmetry of the model without fields: site i goes to permutation[i], S to rotation @ S."""

    name: str
    permutation: NDArray[np.int64]
    rotation: FloatArray

    def scalars(self, values: FloatArray) -> FloatArray:
        """One number or row of numbers a site, (N, ...), carried along."""
        moved = np.empty_like(values)
        moved[self.permutation] = values
        return moved

    def vectors(self, values: FloatArray) -> FloatArray:
        """Spins or fields (N, 3) carried along and turned."""
        return self.scalars(values) @ self.rotation.T


def assert_features_of_moments(
    found: FloatArray, labels: Any, moments: FloatArray, spins: FloatArray, atol: float
) -> None:
    """Features (N, F) are the charges, spins and tilts that their labels say.

    Of the moments (N, n, 4), mu_n and m_n, of spins (N, 3).
    """
    charge, vector = moments[..., 0], moments[..., 1:]
    along = (vector * spins[:, None]).sum(-1)
    across = TILT_SCALE * (vector - along[..., None] * spins[:, None])
    for column, label in zip(found.T, labels, strict=True):
        n, m = label.order - 1, label.other - 1
        tilt = (across[:, n] * across[:, m]).sum(-1)
        expected = {"charge": charge[:, n], "spin": along[:, n], "tilt": tilt}[label.invariant]
        np.testing.assert_allclose(column, expected, rtol=1e-12, atol=atol)


def plaquette_centers(lattice: Lattice) -> FloatArray:
    """(n_plaquettes, 2), not wrapped."""
    cells = lattice.cells[:: lattice.n_basis] @ np.array(lattice.vectors)
    return (lattice.plaquette_offsets[:, None] + cells).reshape(-1, 2)


def multiplication_table(group: PointGroup) -> NDArray[np.int64]:
    """table[g, h] = index of gh, found among the matrices of the group."""
    products = np.einsum("gab,hbc->ghac", group.matrices, group.matrices)
    distance = np.abs(products[:, :, None] - group.matrices).max((-2, -1))
    assert (distance.min(-1) < 1e-12).all(), "a product is not in the group"
    return distance.argmin(-1)


def translations(lattice: Lattice) -> list[Move]:
    """One step along each axis and a longer one."""
    steps = ((1, 0), (0, 1), (2, -1))
    return [Move(f"translation {s}", lattice.translation(*s), np.eye(3)) for s in steps]


def point_operations(lattice: Lattice, center: int = 3) -> list[Move]:
    """All elements of the point group about a site."""
    matrices = enumerate(lattice.point_group.matrices)
    return [
        Move(f"element {g}", lattice.site_permutation(matrix, center), np.eye(3))
        for g, matrix in matrices
    ]


def spin_rotations(lattice: Lattice) -> list[Move]:
    """Two global rotations of the spins, time reversal, and a rotation with time reversal."""
    stay = np.arange(lattice.n_sites)
    matrices = {f"rotation {k}": spin_arrays.random_rotation(k) for k in (0, 1)}
    matrices["time reversal"] = -np.eye(3)
    matrices["rotation and time reversal"] = spin_arrays.random_rotation(2, proper=False)
    return [Move(name, stay, matrix) for name, matrix in matrices.items()]


def symmetries(lattice: Lattice) -> list[Move]:
    """Everything that leaves the energy of electrons coupled to spins unchanged."""
    return [*translations(lattice), *point_operations(lattice), *spin_rotations(lattice)]


def assert_close(found: Any, expected: Any, rtol: float, what: str) -> None:
    """Largest deviation at most ``rtol`` of the largest expected value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    deviation = np.abs(found - expected).max() / np.abs(expected).max()
    assert deviation <= rtol, f"{what}: deviation {deviation:.3g} > {rtol:g}"


def assert_invariant(
    quantity: Callable, spins: FloatArray, moves: list[Move], rtol: float = 1e-10
) -> None:
    """A number of the whole state is the same after every move, and not the same everywhere."""
    expected = quantity(spins)
    other = quantity(spin_arrays.perturbed(spins, 0.3, seed=99))
    assert np.abs(other - expected).max() > 1e3 * rtol * np.abs(expected).max(), "a constant"
    for move in moves:
        assert_close(quantity(move.vectors(spins)), expected, rtol, move.name)


def assert_site_invariant(
    quantity: Callable, spins: FloatArray, moves: list[Move], rtol: float = 1e-10
) -> None:
    """Numbers (N, ...) of the sites are carried along and else unchanged."""
    expected = quantity(spins)
    assert np.ptp(expected, axis=0).max() > 1e3 * rtol * np.abs(expected).max(), "a constant"
    for move in moves:
        assert_close(quantity(move.vectors(spins)), move.scalars(expected), rtol, move.name)


def assert_equivariant(
    local_field: Callable, spins: FloatArray, moves: list[Move], rtol: float = 1e-10
) -> None:
    """Vectors (N, 3) are carried along and turned with the spins."""
    expected = local_field(spins)
    assert np.ptp(expected, axis=0).min() > 1e3 * rtol * np.abs(expected).max(), "a constant"
    for move in moves:
        assert_close(local_field(move.vectors(spins)), move.vectors(expected), rtol, move.name)


def gradient(energy: Callable, spins: FloatArray, site: int, step: float) -> FloatArray:
    """dE/dS of one site, (3,), by central differences along x, y, z; spins are not normalised."""
    shifts = np.zeros((3, *spins.shape))
    shifts[np.arange(3), site, np.arange(3)] = step
    return (energy(spins + shifts) - energy(spins - shifts)) / (2 * step)


def assert_field_is_gradient(
    energy: Callable,
    local_field: Callable,
    spins: FloatArray,
    step: float = 5e-6,
    atol: float = 5e-7,
    sites: tuple[int, ...] = SITES,
) -> None:
    """h = -dE/dS, the full vector.

    The default step keeps every spin within the guard ||S| - 1| <= 1e-5; rounding of a total energy
    of 100 then leaves errors of 1e-8.
    """
    field = local_field(spins)
    for site in sites:
        expected = -gradient(energy, spins, site, step)
        np.testing.assert_allclose(field[site], expected, rtol=0, atol=atol)


def assert_transverse_field_is_gradient(
    energy: Callable,
    local_field: Callable,
    spins: FloatArray,
    angle: float = 2e-3,
    atol: float = 1e-8,
    sites: tuple[int, ...] = SITES,
) -> None:
    """The part of h that turns the spins is minus the slope of E along the sphere.

    Spins move on great circles; the difference formula is of fourth order in the angle.
    """
    field = local_field(spins)
    for site in sites:
        for tangent in _tangents(spins[site]):
            angles = angle * np.array([-2, -1, 1, 2])
            turned = np.tile(spins, (4, 1, 1))
            turned[:, site] = np.outer(np.cos(angles), spins[site])
            turned[:, site] += np.outer(np.sin(angles), tangent)
            slope = energy(turned) @ np.array([1, -8, 8, -1]) / (12 * angle)
            np.testing.assert_allclose(field[site] @ tangent, -slope, rtol=0, atol=atol)


def _tangents(spin: FloatArray) -> FloatArray:
    """Two unit vectors perpendicular to a spin and to each other."""
    return np.linalg.svd(spin[None])[2][1:]


def convergence_order(final_state: Callable[[float], Any], step: float) -> float:
    """Exponent p of the error c dt^p, from the results at dt, dt / 2 and dt / 4."""
    coarse, middle, fine = (np.asarray(final_state(step / 2**k)) for k in range(3))
    return float(np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)))


def assert_order(
    final_state: Callable[[float], Any], step: float, exponent: float, tolerance: float = 0.1
) -> None:
    """The error of a scheme falls as dt^exponent."""
    found = convergence_order(final_state, step)
    assert abs(found - exponent) <= tolerance, f"order {found:.3f}, expected {exponent}"


def bad_input(cases: dict[str, tuple]) -> pytest.MarkDecorator:
    """Parametrise ``call, mentioned``; a case is name -> (call, argument, value, ...)."""
    values = [pytest.param(case[0], case[1:], id=name) for name, case in cases.items()]
    return pytest.mark.parametrize("call, mentioned", values)


def assert_refused(call: Callable[[], Any], *mentioned: Any) -> None:
    """One ValueError whose message names the argument and the value."""
    with pytest.raises(ValueError) as refusal:
        call()
    for word in mentioned:
        assert str(word) in str(refusal.value), f"{word!r} is not named in: {refusal.value}"
