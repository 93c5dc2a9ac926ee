"""The laws refuse what breaks them, so that a test that uses them can fail."""

import laws
import numpy as np
import pytest

from sdml import lattice, spins

LATTICE = lattice.square(4)
STATE = spins.random(16, seed=0)
FIRST, SECOND = LATTICE.bonds().T


def energy(s):
    """Nearest-neighbour biquadratic exchange with a linear part, any batch."""
    product = (s[..., FIRST, :] * s[..., SECOND, :]).sum(-1)
    return (product**2 + 0.3 * product).sum(-1)


def local_field(s):
    neighbors = s[LATTICE.neighbors()]
    product = (neighbors * s[:, None]).sum(-1, keepdims=True)
    return -((2 * product + 0.3) * neighbors).sum(1)


def test_a_gradient_field_passes():
    laws.assert_field_is_gradient(energy, local_field, STATE)
    laws.assert_transverse_field_is_gradient(energy, local_field, STATE)


@pytest.mark.parametrize(
    "wrong",
    [lambda s: -local_field(s), lambda s: 1.001 * local_field(s), np.zeros_like],
    ids=["sign", "scale", "zero"],
)
def test_another_field_is_not_a_gradient(wrong):
    for law in (laws.assert_field_is_gradient, laws.assert_transverse_field_is_gradient):
        with pytest.raises(AssertionError):
            law(energy, wrong, STATE)


def test_symmetric_exchange_passes():
    moves = laws.symmetries(LATTICE)
    laws.assert_invariant(energy, STATE, moves)
    laws.assert_equivariant(local_field, STATE, moves)


@pytest.mark.parametrize("axis", [np.eye(3)[0], np.eye(3)[2]], ids=["x", "z"])
def test_an_anisotropy_is_not_invariant_under_spin_rotations(axis):
    with pytest.raises(AssertionError, match="rotation"):
        laws.assert_invariant(
            lambda s: ((s @ axis) ** 2).sum(), STATE, laws.spin_rotations(LATTICE)
        )


def test_a_zeeman_term_is_not_even_under_time_reversal():
    (reversal,) = [m for m in laws.spin_rotations(LATTICE) if m.name == "time reversal"]
    with pytest.raises(AssertionError, match="time reversal"):
        laws.assert_invariant(lambda s: s[:, 2].sum(), STATE, [reversal])


@pytest.mark.parametrize(
    "moves", [laws.translations(LATTICE), laws.point_operations(LATTICE)], ids=["shift", "point"]
)
def test_a_pinned_bond_breaks_the_lattice_symmetries(moves):
    with pytest.raises(AssertionError, match=r"translation|element"):
        laws.assert_invariant(lambda s: s[0] @ s[1], STATE, moves)
    with pytest.raises(AssertionError, match=r"translation|element"):
        laws.assert_site_invariant(lambda s: s @ s[1], STATE, moves)


def test_a_constant_is_no_invariant():
    with pytest.raises(AssertionError, match="constant"):
        laws.assert_invariant(lambda s: np.float64(1), STATE, laws.symmetries(LATTICE))


@pytest.mark.parametrize("exponent", [1, 2, 4])
def test_order_of_a_known_error(exponent):
    laws.assert_order(lambda dt: np.array([1 + 3 * dt**exponent, dt**exponent]), 0.1, exponent)
    with pytest.raises(AssertionError, match="order"):
        laws.assert_order(lambda dt: np.array([dt**exponent]), 0.1, exponent + 1)
