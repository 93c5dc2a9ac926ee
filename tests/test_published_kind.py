"""The network of the published kind: its products and its full fields."""

import numpy as np
import published_kind
import pytest
import torch

from sdml import lattice, spins

SITES = lattice.square(12)


@pytest.fixture(scope="module")
def network():
    return published_kind.PublishedKind(SITES).double()


def test_it_reads_the_products_of_the_published_code(network):
    assert network.descriptor.n_features == 554


def test_its_field_is_a_derivative_in_direction_and_length(network):
    """Central differences; a step may cross the kink of a rectifier, whose jump is small."""
    s = torch.as_tensor(spins.random(SITES.n_sites, 0))
    along = torch.randn(s.shape, generator=torch.Generator().manual_seed(1), dtype=s.dtype)
    step = 1e-6
    slope = (network(s + step * along) - network(s - step * along)) / (2 * step)
    assert float(slope.detach()) == pytest.approx(
        -float((network.field(s) * along).sum()), rel=1e-3
    )


def test_turned_spins_have_turned_fields(network):
    s = torch.as_tensor(spins.random(SITES.n_sites, 2))
    turn = torch.as_tensor(np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0])
    turn = turn * torch.linalg.det(turn)  # chiralities are odd under reflections
    torch.testing.assert_close(network.field(s @ turn), network.field(s) @ turn)
