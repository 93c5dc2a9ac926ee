"""Differentiable gathers and products: the same as plain loops, and so are their derivatives."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from sdml import lattice, spins
from sdml.descriptor import SymmetryEnvironment
from sdml.descriptor import environment as products
from sdml.descriptor.raw import RawBondEnvironment

every_kind = pytest.mark.parametrize("kind", ["square", "triangular"])
FACES = {
    "symmetry": SymmetryEnvironment("triangular", 2, 1),
    "raw": RawBondEnvironment("triangular", 2, 1),
}
every_face = pytest.mark.parametrize("environment", FACES.values(), ids=FACES)


def numbers(*shape, seed=0):
    """Random float64 tensor that asks for a gradient."""
    array = np.random.default_rng(seed).standard_normal(shape)
    return torch.as_tensor(array).requires_grad_(True)


def assert_differentiable(function, *arguments):
    assert gradcheck(function, arguments, fast_mode=True)
    assert gradgradcheck(function, arguments, fast_mode=True)


def test_pair_products_hold_every_pair():
    left, right = numbers(3, 6, 4), numbers(3, 6, 4, seed=1)
    pairs = np.stack(np.triu_indices(6, 1), axis=-1)
    rows, signs = products.pair_rows(pairs, 6)
    found = products.pair_products(left, right)[rows]
    for (j, k), sign, product in zip(pairs, signs, found, strict=True):
        first, second = (j, k) if sign > 0 else (k, j)
        expected = (left[:, first] * right[:, second]).sum(0)
        torch.testing.assert_close(product, expected)
    assert_differentiable(products.pair_products, left, right)


def test_cross_product():
    left, right = numbers(3, 5, 4), numbers(3, 1, 4, seed=1)
    expected = torch.linalg.cross(left, right.expand_as(left), dim=0)
    torch.testing.assert_close(products.cross(left, right), expected)
    assert_differentiable(products.cross, left, right)


def test_reordered_rows():
    order = torch.tensor([2, 0, 3, 1])
    rows = numbers(2, 4, 3)
    found = products._Reordered.apply(rows, order, order.argsort())
    torch.testing.assert_close(found, rows[:, order])
    assert_differentiable(lambda x: products._Reordered.apply(x, order, order.argsort()) ** 2, rows)


@every_kind
def test_around_gathers_spins_and_collects_their_derivatives(kind):
    """The gather through opposite places is the transpose that autograd scatters."""
    lat = getattr(lattice, kind)(4)  # smaller than the environment: sites meet several times
    descriptor = RawBondEnvironment(kind, 2.7, 1).descriptor()
    table = descriptor.neighbor_table(lat)
    s = numbers(2, 16, 3)
    found = descriptor.around(s, table)
    plain = torch.cat([s.unsqueeze(-2), s[:, table]], dim=-2).permute(3, 2, 0, 1).flatten(2)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    weights = numbers(*found.shape, seed=2).detach()
    gradients = [torch.autograd.grad((x * weights).sum(), s)[0] for x in (found, plain)]
    torch.testing.assert_close(*gradients)
    assert_differentiable(lambda x: descriptor.around(x, table) ** 2, s)


@every_face
def test_blocks_change_nothing(environment, monkeypatch):
    """One block, blocks kept for the gradient, and blocks computed again."""
    lat, descriptor = lattice.triangular(5), environment.descriptor()
    table, s = descriptor.neighbor_table(lat), numbers(3, 25, 3)
    weights = numbers(3, 25, descriptor.n_features, seed=2).detach()

    def derivatives():
        features = descriptor(s, table)
        (plain,) = torch.autograd.grad((descriptor(s, table) * weights).sum(), s)
        (field,) = torch.autograd.grad((features * weights).sum(), s, create_graph=True)
        return features, plain, field, torch.autograd.grad((field**2).sum(), s)[0]

    whole = derivatives()
    monkeypatch.setattr(products, "BLOCK_SITES", 16)
    kept = derivatives()
    monkeypatch.setattr(products, "KEPT_SITES", 32)
    again = derivatives()
    for expected, *found in zip(whole, kept, again, strict=True):
        for x in found:
            torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


@every_face
def test_gradients_repeat_bit_for_bit(environment):
    lat, descriptor = lattice.triangular(12), environment.descriptor()
    table = descriptor.neighbor_table(lat)
    s = torch.as_tensor(spins.random(144, 0), dtype=torch.float32).requires_grad_(True)
    weights = numbers(144, descriptor.n_features, seed=2).detach().float()
    runs = [torch.autograd.grad((descriptor(s, table) * weights).sum(), s)[0] for _ in range(3)]
    assert all(torch.equal(run, runs[0]) for run in runs)


@every_face
def test_descriptors_share_one_face(environment):
    descriptor = environment.descriptor()
    assert isinstance(descriptor, torch.nn.Module)
    assert descriptor.environment == environment
    assert next(iter(vars(environment))) == "kind"
    table = descriptor.neighbor_table(lattice.triangular(4, 6))
    assert table.shape == (24, 18)
    s = torch.as_tensor(spins.random(48, 0)).reshape(2, 24, 3)
    assert descriptor(s, table).shape == (2, 24, descriptor.n_features)
    torch.testing.assert_close(descriptor(s[0], table), descriptor(s, table)[0])
