"""The doors of the package: any kind of array gives the right value, or an error that names it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdml import dynamics, exact, forcefield, kpm, lattice, observables, spins
from sdml.coarsening import domains, scaling, walls
from sdml.model import SDModel
from sdml.phase_separation import snapshots

LAT = lattice.triangular(12)
SQUARE = lattice.square(12)
SMALL = lattice.square(3)
MODEL = SDModel(SMALL, 2.0, filling=0.4, electron_kT=0.1)
NETWORK = forcefield.load("square").double()


def _exact(s):
    return exact.solve(MODEL, s).local_field


def _kpm(s):
    return kpm.solve(MODEL, s, n_moments=40).local_field


def _field(field):
    return spins.transverse(spins.random(144, 3), field)


SPIN_DOORS = {
    "transverse": lambda s: spins.transverse(s, np.ones((144, 3))),
    "torque": lambda s: spins.torque(s, np.ones((144, 3))),
    "rotate": lambda s: spins.rotate(s, spins.random_rotation(0)),
    "perturbed": lambda s: spins.perturbed(s, 0.1, 0),
    "scalar_chirality": lambda s: observables.scalar_chirality(LAT, s),
    "site_chirality": lambda s: observables.site_chirality(LAT, s),
    "bond_correlation": lambda s: observables.bond_correlation(LAT, s),
    "site_correlation": lambda s: observables.site_correlation(LAT, s),
    "neel_order": lambda s: observables.neel_order(SQUARE, s),
    "neel_length": lambda s: observables.neel_length(SQUARE, s),
    "cluster_sizes": lambda s: observables.cluster_sizes(SQUARE, s),
    "chirality_sign": lambda s: domains.chirality_sign(LAT, s),
    "spin_length": lambda s: domains.spin_length(LAT, s),
    "statistics": lambda s: snapshots.statistics(SQUARE, s)["correlation"],
    "overlap": lambda s: snapshots.overlap(s, spins.random(144, 1)),
    "integrate": lambda s: dynamics.integrate(s, lambda x: x.flip(-1), dt=0.1, n_steps=2),
    "energy": NETWORK.energy,
    "local_field": NETWORK.local_field,
    "density": NETWORK.density,
}
"""What takes spins (144, 3)."""
SMALL_DOORS = {"exact": _exact, "kpm": _kpm}
"""What takes spins (9, 3)."""
VALUE_DOORS = {
    "structure_factor": lambda x: observables.structure_factor(LAT, x),
    "spin_correlation": lambda x: observables.spin_correlation(LAT, x),
    "domain_length": lambda x: observables.domain_length(LAT, x, "moment"),
    "wall_density": lambda x: observables.wall_density(LAT, x),
    "lengths": lambda x: domains.lengths(LAT, x),
    "smoothed": lambda x: domains.smoothed(LAT, x),
    "wall_elements": lambda x: walls.wall_elements(LAT, x)[1],
    "opening_angle": lambda x: walls.opening_angle(LAT, x),
    "circular": lambda x: scaling.circular_structure_factor(LAT, x)[1],
    "bimodality": snapshots.bimodality,
    "density_overlap": lambda x: snapshots.density_overlap(x, np.arange(144.0)),
}
"""What takes a field (144,)."""
FIELD_DOORS = {"transverse": _field}

KINDS = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(np.array, a)),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "big-endian": lambda a: a.astype(">f8"),
    "single": lambda a: a.astype(np.float32),
    "half": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "unmasked": lambda a: np.ma.masked_array(a, mask=False),
    "masked": lambda a: np.ma.masked_array(a, mask=np.arange(a.size).reshape(a.shape) == 0),
    "nan": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.nan, a),
    "inf": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.inf, a),
    "complex": lambda a: a + 0j,
    "text": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "tensor": torch.tensor,
    "requires_grad": lambda a: torch.tensor(a, requires_grad=True),
    "half tensor": lambda a: torch.tensor(a).half(),
    "transposed tensor": lambda a: torch.tensor(a.T).T,
}
REFUSED = {"masked", "nan", "inf", "complex", "text", "objects"}
"""Kinds that no door lets in."""
COARSE = {"single": 2e-4, "half": 2e-2, "half tensor": 2e-2}
"""Kinds with fewer digits, and how far the value may move by them, relative to the largest."""


def numbers(value) -> np.ndarray:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=float)


def assert_right_or_refused(door, array: np.ndarray, kind: str) -> None:
    """The value of the plain array, or a ValueError that names an argument."""
    expected = numbers(door(array))
    try:
        found = numbers(door(KINDS[kind](array)))
    except ValueError as error:
        assert kind in REFUSED | set(COARSE), f"{kind} was refused: {error}"
        assert str(error).partition(":")[0].isidentifier(), f"names no argument: {error}"
        return
    assert kind not in REFUSED, f"{kind} was let in"
    scale = np.nanmax(np.abs(expected), initial=1e-300)
    finite = np.isfinite(expected)
    assert (np.isfinite(found) == finite).all()
    allowed = COARSE.get(kind, 1e-12) * scale
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=allowed)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(door=st.sampled_from(sorted(SPIN_DOORS)), seed=st.integers(0, 3))
def test_spins_of_any_kind(kind, door, seed):
    assert_right_or_refused(SPIN_DOORS[door], spins.random(144, seed), kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(door=st.sampled_from(sorted(SMALL_DOORS)))
def test_spins_of_any_kind_are_solved(kind, door):
    assert_right_or_refused(SMALL_DOORS[door], spins.random(9, 0), kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(door=st.sampled_from(sorted(VALUE_DOORS)), seed=st.integers(0, 3))
def test_values_of_any_kind(kind, door, seed):
    values = np.random.default_rng(seed).choice([-1.5, -0.5, 0.5, 1.25], 144)
    assert_right_or_refused(VALUE_DOORS[door], values, kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(door=st.sampled_from(sorted(FIELD_DOORS)), seed=st.integers(0, 3))
def test_fields_of_any_kind(kind, door, seed):
    field = np.random.default_rng(seed).integers(-4, 5, (144, 3)) / 4
    assert_right_or_refused(FIELD_DOORS[door], field, kind)
