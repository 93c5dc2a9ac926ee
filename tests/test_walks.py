"""Moments of the local density of states: exact, two engines alike, derivatives, repeatable."""

import functools

import numba
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from sdml import lattice, spins
from sdml.descriptor import walks
from sdml.descriptor.moments import MomentEnvironment
from sdml.descriptor.walks import local_moments
from sdml.model import SDModel, hamiltonian

J = 2.5
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
TOLERANCE = {torch.float64: 2e-14, torch.float32: 2e-6}
every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# Sides of lattices: one that a cluster fits in, one with a number of sites that no group of LANES
# divides, one around which every cluster wraps onto itself.
SHAPES = {"large": (8, 8), "odd": (5, 7), "wrapped": (2, 3)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@functools.cache
def cluster(kind, shape, radius=3, n_steps=5):
    """(table, Walks) of the clusters on a lattice."""
    descriptor = MomentEnvironment(kind, radius, n_steps, J).descriptor()
    return descriptor.neighbor_table(getattr(lattice, kind)(*shape)), descriptor.walks[0]


def states(shape, batch=(), seed=0, dtype=torch.float64):
    """Random unit spins (*batch, N, 3)."""
    n_sites = shape[0] * shape[1]
    s = spins.random(int(np.prod(batch)) * n_sites, seed).reshape(*batch, n_sites, 3)
    return torch.as_tensor(s).to(dtype)


def normal(shape, seed, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def deviation(found, expected):
    """Largest deviation in units of the largest number."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def band(kind, coupling):
    """Center and half width of the interval to which H is scaled."""
    lowest, highest = {"square": (-4, 4), "triangular": (-6, 3)}[kind]
    return (highest + lowest) / 2, (highest - lowest) / 2 + abs(coupling)


def exact_moments(kind, length, coupling, s, n_moments):
    """(N, n_moments, 4): traces of the blocks of T_n(H), from the eigenvectors of all of H."""
    sites = getattr(lattice, kind)(length)
    center, half_width = band(kind, coupling)
    levels, vectors = np.linalg.eigh(hamiltonian(SDModel(sites, coupling, 0.5), s).numpy())
    angles = np.arccos(np.clip((levels - center) / half_width, -1, 1))
    blocks = vectors.reshape(sites.n_sites, 2, -1)
    found = np.empty((sites.n_sites, n_moments, 4))
    for n in range(1, n_moments + 1):
        block = np.einsum("iak,k,ibk->iab", blocks, np.cos(n * angles), blocks.conj())
        found[:, n - 1, 0] = np.einsum("iaa->i", block).real / 2
        found[:, n - 1, 1:] = np.einsum("cab,iba->ic", PAULI, block).real / 2
    return torch.as_tensor(found)


@pytest.mark.parametrize("coupling", [3.0, -1.0, 0.0])
@pytest.mark.parametrize("kind, length, radius", [("square", 9, 4), ("triangular", 8, 3)])
def test_moments_are_those_of_the_lattice(kind, length, radius, coupling):
    """As many steps as bonds in the radius, on a lattice that the cluster does not fill."""
    environment = MomentEnvironment(kind, radius, radius, coupling)
    table = environment.descriptor().neighbor_table(getattr(lattice, kind)(length))
    s = states((length, length))
    found = local_moments(s, table, environment.walks())
    expected = exact_moments(kind, length, coupling, s.numpy(), 2 * radius)
    assert float((found - expected).abs().max()) < 3e-14


@every_kind
def test_longer_walks_are_those_of_the_cluster(kind):
    """H cut to the sites around one center, its corner of T_n(H) by plain matrix products."""
    table, description = cluster(kind, (9, 9), radius=2, n_steps=5)
    lat, s = getattr(lattice, kind)(9), states((9, 9))
    center, half_width = band(kind, J)
    whole = hamiltonian(SDModel(lat, J, 0.5), s).reshape(81, 2, 81, 2)
    for site in (0, 40):
        near = table[site]
        h = whole[near][:, :, near].reshape(2 * len(near), 2 * len(near))
        h = (h - center * torch.eye(len(h))) / half_width
        powers = [torch.eye(len(h), dtype=h.dtype), h]
        for _ in range(9):
            powers.append(2 * h @ powers[-1] - powers[-2])
        corners = torch.stack([power[:2, :2] for power in powers[1:]])
        pauli = torch.as_tensor(np.concatenate([np.eye(2)[None], PAULI]))
        expected = torch.einsum("cab,nba->nc", pauli, corners[:10]).real / 2
        found = local_moments(s, table, description)[site]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@every_dtype
@every_kind
@every_shape
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_the_two_engines_agree(kind, shape, batch, dtype):
    """Moments, their change along a direction and the pull-back of a cotangent."""
    table, description = cluster(kind, shape)
    s, direction = states(shape, batch, 0, dtype), normal((*batch, table.shape[0], 3), 1, dtype)
    cotangent = normal((*batch, table.shape[0], 10, 4), 2, dtype)
    pairs = [
        (walks._compiled_moments, walks._torch_moments, (s,)),
        (walks._compiled_tangent, walks._torch_tangent, (direction, s)),
        (walks._compiled_adjoint, walks._torch_adjoint, (cotangent, s)),
    ]
    for compiled, plain, arguments in pairs:
        found, expected = (f(*arguments, table, description) for f in (compiled, plain))
        assert found.dtype == expected.dtype == dtype
        assert deviation(found, expected) < 10 * TOLERANCE[dtype]


@every_kind
@every_shape
def test_batches_equal_singles(kind, shape):
    table, description = cluster(kind, shape)
    s = states(shape, (2, 2))
    cotangent = normal((2, 2, table.shape[0], 10, 4), 1)
    found = local_moments(s, table, description)
    pulled = walks._compiled_adjoint(cotangent, s, table, description)
    for index in np.ndindex(2, 2):
        single = local_moments(s[index], table, description)
        assert torch.equal(found[index], single)
        single = walks._compiled_adjoint(cotangent[index], s[index], table, description)
        assert torch.equal(pulled[index], single)


@every_dtype
@every_kind
@every_shape
def test_adjoint_is_the_transpose_of_the_tangent(kind, shape, dtype):
    """<g, J d> = <J^T g, d>."""
    table, description = cluster(kind, shape)
    s, direction = states(shape, (2,), 0, dtype), normal((2, table.shape[0], 3), 1, dtype)
    cotangent = normal((2, table.shape[0], 10, 4), 2, dtype)
    for engine in ("_compiled", "_torch"):
        tangent = getattr(walks, f"{engine}_tangent")(direction, s, table, description)
        adjoint = getattr(walks, f"{engine}_adjoint")(cotangent, s, table, description)
        left = float((cotangent.double() * tangent.double()).sum())
        right = float((adjoint.double() * direction.double()).sum())
        scale = float((cotangent * tangent).double().norm())
        assert abs(left - right) < 20 * TOLERANCE[dtype] * scale


@every_kind
@every_shape
def test_derivatives_are_finite_differences(kind, shape):
    table, description = cluster(kind, shape, radius=2, n_steps=3)
    s, direction = states(shape), normal((table.shape[0], 3), 1)
    cotangent, step = normal((table.shape[0], 6, 4), 2), 1e-4

    def change(h):
        ends = (local_moments(s + x * direction, table, description) for x in (h, -h))
        return (next(ends) - next(ends)) / (2 * h)

    slope = (4 * change(step) - change(2 * step)) / 3  # of fourth order
    tangent = walks._compiled_tangent(direction, s, table, description)
    assert deviation(tangent, slope) < 1e-10
    leaf = s.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(local_moments(leaf, table, description), leaf, cotangent)
    assert float((gradient * direction).sum()) == pytest.approx(
        float((cotangent * slope).sum()), rel=1e-8
    )


@every_kind
def test_derivatives_that_torch_checks(kind):
    """Spins of any length; the gradient once more, in the cotangent."""
    table, description = cluster(kind, (2, 3), radius=2, n_steps=3)
    s = (1.3 * states((2, 3))).requires_grad_(True)
    assert gradcheck(lambda x: local_moments(x, table, description), s)
    cotangent = normal((6, 6, 4), 1).requires_grad_(True)

    def pulled_back(g):
        moments = local_moments(s, table, description)
        return torch.autograd.grad(moments, s, g, create_graph=True)[0]

    assert gradcheck(pulled_back, cotangent)


def test_a_second_derivative_in_the_spins_is_refused():
    """It is not there, and must not be taken for zero."""
    table, description = cluster("square", (2, 3))
    s = states((2, 3)).requires_grad_(True)
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def squared_gradient():
        energy = (weight * local_moments(s, table, description)).sum()
        (gradient,) = torch.autograd.grad(energy, s, create_graph=True)
        return gradient.square().sum()

    with pytest.raises(RuntimeError, match="no second derivative in the spins"):
        torch.autograd.grad(squared_gradient(), s)
    with pytest.raises(RuntimeError, match="backward\\(inputs=weights\\)"):
        squared_gradient().backward()
    value = squared_gradient()
    value.backward(inputs=[weight])
    assert float(weight.grad) == pytest.approx(value.item())  # quadratic in the weight 2
    assert s.grad is None


@every_dtype
def test_a_run_can_be_repeated_bit_for_bit(dtype):
    """Whatever the number of threads."""
    table, description = cluster("triangular", (5, 7))
    s, direction = states((5, 7), (3,), 0, dtype), normal((3, 35, 3), 1, dtype)
    cotangent = normal((3, 35, 10, 4), 2, dtype)

    def results():
        arguments = table, description
        yield walks._compiled_moments(s, *arguments)
        yield walks._compiled_tangent(direction, s, *arguments)
        yield walks._compiled_adjoint(cotangent, s, *arguments)

    expected, before = list(results()), numba.get_num_threads()
    try:
        for n_threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(n_threads)
            assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8, 64])
def test_the_work_can_be_cut_for_any_number_of_threads(n_threads, monkeypatch):
    """More threads than groups of centers too; the cut does not need that many cores."""
    table, description = cluster("square", (5, 7))
    s, direction = states((5, 7)), normal((35, 3), 1)
    cotangent = normal((35, 10, 4), 2)
    engines = [
        (walks._compiled_moments, (s,)),
        (walks._compiled_tangent, (direction, s)),
        (walks._compiled_adjoint, (cotangent, s)),
    ]
    expected = [engine(*arguments, table, description) for engine, arguments in engines]
    monkeypatch.setattr(walks.numba, "get_num_threads", lambda: n_threads)
    for (engine, arguments), result in zip(engines, expected, strict=True):
        assert torch.equal(engine(*arguments, table, description), result)


@every_kind
@pytest.mark.parametrize("chunk", [1, 7, 16, 1000])
def test_torch_works_in_chunks(kind, chunk, monkeypatch):
    table, description = cluster(kind, (5, 7))
    s, direction = states((5, 7), (2,)), normal((2, 35, 3), 1)
    cotangent = normal((2, 35, 10, 4), 2)
    engines = [
        (walks._torch_moments, (s,)),
        (walks._torch_tangent, (direction, s)),
        (walks._torch_adjoint, (cotangent, s)),
    ]
    expected = [engine(*arguments, table, description) for engine, arguments in engines]
    monkeypatch.setattr(walks, "CHUNK", chunk)
    for (engine, arguments), result in zip(engines, expected, strict=True):
        assert deviation(engine(*arguments, table, description), result) < 1e-13


def test_arrays_need_not_be_contiguous():
    table, description = cluster("square", (5, 7))
    s, cotangent = states((5, 7)), normal((35, 10, 4), 2)
    turned, shifted = s.T.contiguous().T, cotangent.movedim(0, -1).contiguous().movedim(-1, 0)
    expected = local_moments(s, table, description)
    assert torch.equal(local_moments(turned, table, description), expected)
    pulled = walks._compiled_adjoint(cotangent, s, table, description)
    assert torch.equal(walks._compiled_adjoint(shifted, turned, table, description), pulled)


@pytest.mark.gpu
@every_kind
@every_dtype
def test_an_accelerator_gives_the_same(kind, dtype):
    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    table, description = cluster(kind, (8, 8))
    s, cotangent = states((8, 8), (3,), 0, dtype), normal((3, 64, 10, 4), 1, dtype)

    def both(device):
        leaf = s.to(device).requires_grad_(True)
        found = local_moments(leaf, table.to(device), description)
        (gradient,) = torch.autograd.grad(found, leaf, cotangent.to(device))
        return found.detach().cpu(), gradient.cpu()

    for found, expected in zip(both("cuda"), both("cpu"), strict=True):
        assert deviation(found, expected) < 10 * TOLERANCE[dtype]
