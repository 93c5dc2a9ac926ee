"""The doors of the package: any kind of array gives the right value, or an error that names it."""

import harmonics
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from coarsening import circular_correlation
from hypothesis import given, settings
from hypothesis import strategies as st

from sdml import bands, dynamics, exact, forcefield, kpm, lattice, observables, plotting, spins
from sdml.coarsening import domains, scaling, walls
from sdml.model import SDModel
from sdml.phase_separation import clusters, snapshots

LAT = lattice.triangular(12)
SQUARE = lattice.square(12)
SMALL = lattice.square(3)
MODEL = SDModel(SMALL, 2.0, filling=0.4, electron_kT=0.1)
WHOLE = SDModel(SMALL, 2.0, filling=1 / 3)
BANDS = bands.spectrum(MODEL, spins.random(9, 0), 2, 9)
CLUSTERED = spins.perturbed(spins.ferromagnetic(SQUARE), 0.5, 0)
NETWORK = forcefield.load("square").double()


def _exact(s):
    return exact.solve(MODEL, s).local_field


def _kpm(s):
    return kpm.solve(MODEL, s, n_moments=40).local_field


def shown(draw, *arguments):
    """The numbers that a drawn artist carries."""
    figure, axes = plt.subplots()
    plt.close(figure)
    return np.asarray(draw(axes, *arguments).get_array())


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
    "domain_lengths": lambda s: domains.domain_lengths(LAT, s),
    "imbalance": lambda s: domains.imbalance(LAT, s),
    "structure_factor": lambda s: observables.structure_factor(LAT, s),
    "spin_correlation": lambda s: observables.spin_correlation(LAT, s),
    "labels": lambda s: observables.cluster_labels(SQUARE, s),
    "clusters": lambda s: clusters.clusters(SQUARE, s).sizes,
    "spin_length": lambda s: domains.spin_length(LAT, s),
    "statistics": lambda s: snapshots.statistics(SQUARE, s)["correlation"],
    "overlap": lambda s: snapshots.overlap(s, spins.random(144, 1)),
    "integrate": lambda s: dynamics.integrate(s, lambda x: x.flip(-1), dt=0.1, n_steps=2),
    "energy": NETWORK.energy,
    "local_field": NETWORK.local_field,
    "density": NETWORK.density,
}
"""What takes spins (144, 3)."""
SMALL_DOORS = {
    "exact": _exact,
    "kpm": _kpm,
    "energy_bounds": lambda s: kpm.energy_bounds(MODEL, s),
    "repeated": lambda s: bands.repeated(MODEL, s, 2).local_field,
    "band_gap": lambda s: bands.band_gap(WHOLE, s, 4),
    "chern_number": lambda s: bands.chern_number(WHOLE, s, 6),
    "unfolded": lambda s: bands.unfolded(MODEL, s, [[0.1, 0.2]])[0],
    "spectrum": lambda s: bands.spectrum(MODEL, s, 2, 9).levels,
}
"""What takes spins (9, 3)."""
VALUE_DOORS = {
    "structure_factor": lambda x: observables.structure_factor(LAT, x),
    "spin_correlation": lambda x: observables.spin_correlation(LAT, x),
    "domain_length": lambda x: observables.domain_length(LAT, x, "moment"),
    "wall_density": lambda x: observables.wall_density(LAT, x),
    "lengths": lambda x: domains.lengths(LAT, x),
    "site_values": lambda x: observables.site_values(LAT, x),
    "wall_elements": lambda x: harmonics.wall_elements(LAT, x)[1],
    "opening_angle": lambda x: walls.opening_angle(LAT, x),
    "circular": lambda x: scaling.circular_structure_factor(LAT, x)[1],
    "circular_correlation": lambda x: circular_correlation(LAT, x)[1],
    "harmonics": lambda x: abs(torch.as_tensor(harmonics.orientation_harmonics(LAT, x))),
    "clusters": lambda x: clusters.clusters(SQUARE, CLUSTERED, x).holes,
    "hole statistics": lambda x: snapshots.statistics(SQUARE, CLUSTERED, x)["bimodality"],
    "overlap of a reference": lambda x: snapshots.density_overlap(np.arange(144.0), x),
    "momentum_map": lambda x: shown(plotting.momentum_map, LAT, x),
    "energies": lambda x: bands.spectral_function(BANDS, x, 1.0),
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


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"masked", "nan", "inf"}))
def test_site_map_shows_any_kind(kind):
    """Masked values, nan and infinity stay blank, see tests/test_maps.py."""
    values = np.random.default_rng(0).choice([-1.5, -0.5, 0.5, 1.25], 144)
    assert_right_or_refused(lambda x: shown(plotting.site_map, LAT, x), values, kind)


@pytest.mark.parametrize("threshold", [np.nan, 0.5j, "half"])
def test_thresholds_are_numbers(threshold):
    for door in (observables.cluster_labels, clusters.clusters, snapshots.statistics):
        with pytest.raises(ValueError, match=r"^threshold: "):
            door(SQUARE, CLUSTERED, threshold=threshold)


@pytest.mark.parametrize("vectors", [np.eye(2) + 0j, [[1, 0j], [0, 1]], [["a", 0], [0, 1]]])
def test_cells_are_of_real_numbers(vectors):
    with pytest.raises(ValueError, match=r"^(vectors|could not)"):
        lattice.from_cell(vectors, [[0, 0]], (2, 2))
    for basis in ([[0, 1j]], np.zeros((1, 2)) * 1j, [[np.nan, 0]]):
        with pytest.raises(ValueError, match=r"^basis: "):
            lattice.from_cell(np.eye(2), basis, (2, 2))
    with pytest.raises(ValueError, match=r"^operation: "):
        SQUARE.site_permutation(np.eye(2) + 0j)


def test_curves_of_real_numbers():
    q = np.linspace(0.1, 2, 12)
    with pytest.raises(ValueError, match=r"^factor: "):
        scaling.tail(q, q**-3 + 0j, (0, 3))
