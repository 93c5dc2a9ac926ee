"""The far-sighted descriptor on any lattice, with any hopping: moments of the dense Hamiltonian."""

import laws
import numpy as np
import pytest
import torch

from sdml import forcefield, lattice, spins
from sdml.descriptor import walks
from sdml.descriptor.moments import TILT_SCALE, MomentEnvironment
from sdml.model import SDModel, hamiltonian

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
H = 3**0.5
CELLS = {
    "honeycomb": ([[H, 0.0], [H / 2, 1.5]], [[0.0, 0.0], [0.0, 1.0]]),
    "kagome": ([[2.0, 0.0], [1.0, H]], [[0.0, 0.0], [1.0, 0.0], [0.5, H / 2]]),
    "lieb": ([[2.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
}


def crystal(name, *shape):
    if name in CELLS:
        return lattice.from_cell(*CELLS[name], shape, name)
    return getattr(lattice, name)(*shape)


def model_of(name, hopping, *shape):
    return SDModel(crystal(name, *shape), 1.5, filling=0.3, electron_kT=0.1, hopping=hopping)


# Models on lattices that no closed walk of 2 radius hops goes around, and radii.
MODELS = {
    "honeycomb": (model_of("honeycomb", 1.0, 4, 5), 3),
    "honeycomb of two shells": (model_of("honeycomb", (1.0, 0.3), 5, 5), 2),
    "kagome": (model_of("kagome", 1.0, 4, 4), 3),
    "lieb": (model_of("lieb", (1.0, -0.4), 4, 4), 2),
    "skyrmions": (model_of("triangular", (1.0, 0.0, -0.85), 9, 9), 2),
    "far square": (model_of("square", (1.0, 0.5), 5, 6), 2),
}
every_model = pytest.mark.parametrize("model, radius", MODELS.values(), ids=MODELS)


def exact_moments(model, environment, s):
    """(N, 2 n_steps, 4): traces of the blocks of T_n(H), from the eigenvectors of all of H."""
    center, half_width = environment._band()
    levels, vectors = np.linalg.eigh(hamiltonian(model, s).numpy())
    scaled = (levels - center) / half_width
    assert np.abs(scaled).max() < 1 + 1e-3
    angles = np.emath.arccos(scaled)
    blocks = vectors.reshape(model.lattice.n_sites, 2, -1)
    found = np.empty((model.lattice.n_sites, 2 * environment.n_steps, 4))
    for n in range(1, 2 * environment.n_steps + 1):
        block = np.einsum("iak,k,ibk->iab", blocks, np.cos(n * angles).real, blocks.conj())
        found[:, n - 1, 0] = np.einsum("iaa->i", block).real / 2
        found[:, n - 1, 1:] = np.einsum("cab,iba->ic", PAULI, block).real / 2
    return found


@every_model
def test_features_are_those_of_the_dense_hamiltonian(model, radius):
    """By their labels, from the local density of states of all of H."""
    environment = MomentEnvironment.for_model(model, radius, radius)
    descriptor, s = environment.descriptor(), spins.random(model.lattice.n_sites, 0)
    found = descriptor(torch.as_tensor(s), descriptor.neighbor_table(model.lattice)).numpy()
    values = exact_moments(model, environment, s)
    charge, vector = values[..., 0], values[..., 1:]
    along = (vector * s[:, None]).sum(-1)
    across = TILT_SCALE * (vector - along[..., None] * s[:, None])
    for column, label in zip(found.T, descriptor.features, strict=True):
        n, m = label.order - 1, label.other - 1
        tilt = (across[:, n] * across[:, m]).sum(-1)
        expected = {"charge": charge[:, n], "spin": along[:, n], "tilt": tilt}[label.invariant]
        np.testing.assert_allclose(column, expected, atol=1e-12)
    # What the labels leave out says nothing: it is the same for all states and all sites.
    labels = {(label.invariant, label.order) for label in descriptor.features}
    for n in range(1, 2 * radius + 1):
        for name, numbers in (("charge", charge), ("spin", along)):
            if (name, n) not in labels:
                assert np.ptp(numbers[:, n - 1]) < 1e-12


# Lattices that the clusters wrap onto themselves, with moves about a site of every kind.
SMALL = {
    "honeycomb": model_of("honeycomb", 1.0, 3, 3),
    "kagome": model_of("kagome", (1.0, 0.2), 3, 3),
    "lieb": model_of("lieb", 1.0, 3, 3),
    "skyrmions": model_of("triangular", (1.0, 0.0, -0.85), 4, 4),
}
every_small = pytest.mark.parametrize("model", SMALL.values(), ids=SMALL)


def force_field(model):
    """An untrained network of float64."""
    return forcefield.ForceField(model, MomentEnvironment.for_model(model, 2, 4), (8,)).double()


@every_small
def test_energy_and_field_have_the_symmetries(model):
    """Translations, point group of a site, spin rotations, time reversal; and the gradient."""
    lat, s = model.lattice, spins.random(model.lattice.n_sites, 0)
    field, moves = force_field(model), laws.symmetries(lat)
    laws.assert_invariant(field.energy, s, moves, rtol=1e-10)
    laws.assert_equivariant(field.local_field, s, moves, rtol=1e-10)
    laws.assert_field_is_gradient(field.energy, field.local_field, s)


@every_small
def test_the_two_engines_agree(model):
    """Moments, their change along a direction, the pull-back; in batches."""
    descriptor = MomentEnvironment.for_model(model, 2, 4).descriptor()
    table, n = descriptor.neighbor_table(model.lattice), model.lattice.n_sites
    rng = np.random.default_rng(0)
    s = torch.as_tensor(spins.random(2 * n, 0)).reshape(2, n, 3)
    for site in descriptor.walks:
        cotangent = torch.as_tensor(rng.standard_normal((2, n // site.n_basis, 8, 4)))
        direction = torch.as_tensor(rng.standard_normal((2, n, 3)))
        for name, arguments in (
            ("moments", ()),
            ("tangent", [direction]),
            ("adjoint", [cotangent]),
        ):
            engines = (getattr(walks, f"_{engine}_{name}") for engine in ("compiled", "torch"))
            found = [engine(*arguments, s, table, site) for engine in engines]
            torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
