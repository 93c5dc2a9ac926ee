"""The far-sighted descriptor on any lattice, with any hopping: moments of the dense Hamiltonian."""

import laws
import numpy as np
import pytest
import torch

from sdml import forcefield, lattice, spins
from sdml.descriptor import walks
from sdml.descriptor.moments import MomentEnvironment
from sdml.descriptor.walks import local_moments
from sdml.model import SDModel, hamiltonian
from sdml.terms import Hop

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


def exact_moments(matrix, environment):
    """(N, 2 n_steps, 4): traces of the blocks of T_n(H), from the eigenvectors of all of H."""
    center, half_width = environment.band
    levels, vectors = np.linalg.eigh(matrix)
    scaled = (levels - center) / half_width
    assert np.abs(scaled).max() < 1 + 1e-3
    angles = np.emath.arccos(scaled)
    blocks = vectors.reshape(len(matrix) // 2, 2, -1)
    found = np.empty((len(matrix) // 2, 2 * environment.n_steps, 4))
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
    values = exact_moments(hamiltonian(model, s).numpy(), environment)
    charge, vector = values[..., 0], values[..., 1:]
    along = (vector * s[:, None]).sum(-1)
    laws.assert_features_of_moments(found, descriptor.features, values, s, atol=1e-12)
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


# --- complex hopping: the honeycomb of Haldane, flux without a mean field


def haldane(phase, gauge=0.0):
    """Second neighbors with the phase, counter-clockwise around a hexagon; a phase on site 1."""
    cell, hopping = crystal("honeycomb", 1, 1), []
    for shell in (1, 2):
        pairs, cells = cell.directed_bonds(shell), cell.windings(shell)
        for n, ((b, c), (x, y)) in enumerate(zip(pairs, cells, strict=True)):
            turn = phase * (1 - 2 * ((n + b) % 2))  # by angle, one neighbor left, the next right
            element = -1.0 if shell == 1 else -0.4 * np.exp(1j * turn)
            element *= np.exp(1j * gauge * (b - c))
            hopping.append((b, x, y, c, element.real, element.imag))
    return MomentEnvironment("honeycomb", 3, 3, 1.5, tuple(hopping))


def test_hops_of_a_model_are_read():
    """A staggered flux and phases on single bonds, as terms of the model."""
    lat = lattice.honeycomb(5, 5)
    hops = [
        Hop(bond, 0.4 * np.exp(1j * (0.7 + n))) for n, bond in enumerate(lat.shell_bonds(2)[:3])
    ]
    model = SDModel(lat, 1.5, filling=0.3, hops=hops)
    s = spins.random(lat.n_sites, 0)
    environment = MomentEnvironment.for_model(model, 2, 2)
    found = exact_moments(hamiltonian(model, s).numpy(), environment)
    charges = [f.order - 1 for f in environment.descriptor().features if f.invariant == "charge"]
    columns = features(environment, lat, s)[:, : len(charges)]
    np.testing.assert_allclose(columns, found[:, charges, 0], atol=1e-13)
    laws.assert_field_is_gradient(force_field(model).energy, force_field(model).local_field, s)


def matrix_of(environment, lat, s):
    """H (2N, 2N), bond by bond."""
    matrix = np.zeros((lat.n_sites, 2, lat.n_sites, 2), dtype=complex)
    for b, x, y, c, real, imaginary in environment.hopping:
        i = np.flatnonzero(lat.sublattices == b)
        j = lat.site_index(lat.cells[i] + [x, y], c)
        for spin in (0, 1):
            matrix[i, spin, j, spin] += real + 1j * imaginary
    site = np.arange(lat.n_sites)
    matrix[site, :, site] -= environment.exchange_coupling * np.einsum("ic,cab->iab", s, PAULI)
    return matrix.reshape(2 * lat.n_sites, -1)


def features(environment, lat, s):
    descriptor = environment.descriptor()
    return descriptor(torch.as_tensor(s), descriptor.neighbor_table(lat)).numpy()


def test_moments_of_complex_hopping():
    """Those of the dense matrix; both engines; the same in every gauge."""
    lat, environment = crystal("honeycomb", 7, 7), haldane(1.1, gauge=0.7)
    s = spins.random(lat.n_sites, 0)
    expected = exact_moments(matrix_of(environment, lat, s), environment)
    descriptor = environment.descriptor()
    table, state = descriptor.neighbor_table(lat), torch.as_tensor(s)
    for b, site in enumerate(descriptor.walks):
        for engine in (walks._compiled_moments, walks._torch_moments):
            found = engine(state, table, site).numpy()
            np.testing.assert_allclose(found, expected[b::2], atol=1e-13)
    plain = features(haldane(1.1), lat, s)
    np.testing.assert_allclose(features(environment, lat, s), plain, atol=1e-13)


def test_flux_breaks_time_reversal_as_it_must():
    """Spins and flux turn over together; alone each of them changes what a site sees."""
    lat = crystal("honeycomb", 7, 7)
    s = spins.random(lat.n_sites, 0)
    found = features(haldane(1.1), lat, s)
    np.testing.assert_allclose(features(haldane(-1.1), lat, -s), found, atol=1e-13)
    for environment, state in ((haldane(1.1), -s), (haldane(-1.1), s)):
        assert np.abs(features(environment, lat, state) - found).max() > 1e-3


def test_derivatives_with_flux():
    """The pull-back of both engines is the transpose of their change along a direction."""
    lat = crystal("honeycomb", 3, 3)
    descriptor = haldane(1.1).descriptor()
    table, n = descriptor.neighbor_table(lat), lat.n_sites
    rng, s = np.random.default_rng(0), torch.as_tensor(spins.random(n, 0))
    direction = torch.as_tensor(rng.standard_normal((n, 3)))
    for site in descriptor.walks:
        cotangent = torch.as_tensor(rng.standard_normal((n // 2, 6, 4)))
        changes = [
            (local_moments(s + x * direction, table, site) * cotangent).sum() for x in (1e-4, -1e-4)
        ]
        expected = float(changes[0] - changes[1]) / 2e-4
        for engine in ("compiled", "torch"):
            forward, pull = (getattr(walks, f"_{engine}_{k}") for k in ("tangent", "adjoint"))
            along = float((forward(direction, s, table, site) * cotangent).sum())
            back = float((pull(cotangent, s, table, site) * direction).sum())
            assert along == pytest.approx(back, abs=1e-12)
            assert along == pytest.approx(expected, abs=1e-6)


def test_weights_of_a_crystal_are_read_back(tmp_path):
    """With the hopping in the header; the model says what its cells are."""
    model = SMALL["kagome"]
    field, s = force_field(model), spins.random(model.lattice.n_sites, 0)
    forcefield.save(field, tmp_path / "kagome.safetensors")
    loaded = forcefield.load(tmp_path / "kagome.safetensors")
    assert loaded.descriptor.environment == field.descriptor.environment
    np.testing.assert_array_equal(loaded.local_field(s), field.local_field(s))
    assert forcefield.checksum(loaded) == forcefield.checksum(field)


@pytest.mark.parametrize("kind, coupling", [("square", 6.0), ("triangular", 3.0)])
def test_plain_models_keep_the_environment_of_released_weights(kind, coupling):
    model = SDModel(crystal(kind, 5, 6), coupling, 0.3, hopping=(1.0, 0.0))
    assert MomentEnvironment.for_model(model, 2, 4) == MomentEnvironment(kind, 2, 4, coupling)


def with_hopping(*hopping):
    return lambda: MomentEnvironment("mine", 2, 4, 1.0, hopping)


@laws.bad_input(
    {
        "one way": (with_hopping((0, 1, 0, 0, -1.0, 0.0)), "hopping", "Hermitian", "(0, 1, 0"),
        "not conjugate": (
            with_hopping((0, 1, 0, 0, -1.0, 0.1), (0, -1, 0, 0, -1.0, 0.1)),
            "hopping",
            "Hermitian",
            0.1,
        ),
        "nan": (with_hopping((0, 0, 0, 0, np.nan, 0.0)), "hopping", "finite", "nan"),
        "no hopping": (
            lambda: MomentEnvironment.for_model(model_of("kagome", 0.0, 3, 3), 2, 4),
            "hopping",
            "zero",
        ),
        "hops that turn the spin": (
            lambda: MomentEnvironment.for_model(
                SDModel(lattice.kagome(3), 1.0, 0.3, hops=[Hop(2, [[1, 0.2], [0.2, -1]])]), 2, 4
            ),
            "model",
            "spin rotations",
        ),
        "another lattice": (
            lambda: force_field(SMALL["kagome"]).descriptor.neighbor_table(crystal("lieb", 3, 3)),
            "lattice",
            "kagome",
            "lieb",
        ),
        "hopping of the model": (
            lambda: forcefield.ForceField(
                model_of("kagome", 1.0, 3, 3), MomentEnvironment.for_model(SMALL["kagome"], 2, 4)
            ),
            "hopping",
            "for_model",
            1.0,
        ),
    }
)
def test_bad_input_is_refused(call, mentioned):
    laws.assert_refused(call, *mentioned)
