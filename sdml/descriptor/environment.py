"""The spins around every site, and products of them, as differentiable arrays.

Arrays are (3, P, M): spin component, place (the center and its environment), and last the M sites
of all states, so that every operation runs along contiguous memory and a choice of bonds is a
choice of rows. All maps are differentiable any number of times. Their derivatives are gathers and
products too, never a sum scattered in memory: deterministic on every device, and fast.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function

from sdml import lattice as lattices
from sdml.lattice import Lattice

IntArray = NDArray[np.int64]
BLOCK_SITES = 2048
"""Sites worked on at a time on a CPU: their variables stay in the cache."""
DEVICE_BLOCK_SITES = 2**17
KEPT_SITES = 2**14
"""Up to here intermediate results are kept for the gradient, about 10 kB a site; that is a fifth
faster than computing them again."""


def require_kind(kind: str) -> None:
    """ValueError unless there is a lattice of this kind."""
    if kind not in ("square", "triangular"):
        raise ValueError(f"kind: must be 'square' or 'triangular', got {kind!r}")


@dataclass(frozen=True)
class BondEnvironment:
    """The sites and pairs of sites whose bonds describe a center, on one kind of lattice.

    Parameters
    ----------
    kind : {'square', 'triangular'}
    bond_radius : float
        Reach of the center bonds S_i.S_j.
    pair_radius : float
        Reach of the pair bonds S_j.S_k, at most ``bond_radius``.
    """

    kind: str
    bond_radius: float
    pair_radius: float

    def __post_init__(self) -> None:
        require_kind(self.kind)
        if not 1 <= self.pair_radius <= self.bond_radius < float("inf"):
            raise ValueError(
                "pair_radius, bond_radius: need 1 <= pair_radius <= bond_radius, "
                f"got {self.pair_radius} and {self.bond_radius}"
            )

    @property
    def lattice(self) -> Lattice:
        """A lattice of this kind, large enough for the environment not to meet itself."""
        return getattr(lattices, self.kind)(2 * int(np.ceil(self.bond_radius)) + 3)

    def sites(self) -> tuple[IntArray, NDArray[np.float64]]:
        """Cell displacements (K, 3) and vectors (K, 2), by distance, then by angle."""
        return self.lattice.displacements(self.bond_radius)

    @property
    def n_pair_sites(self) -> int:
        return len(self.lattice.displacements(self.pair_radius)[0])

    @property
    def pairs(self) -> IntArray:
        """(P, 2) pairs j < k of environment sites within ``pair_radius``."""
        return np.stack(np.triu_indices(self.n_pair_sites, 1), axis=-1)


class Descriptor(Protocol):
    """What a force field asks of a descriptor: a module that makes features of spins.

    The features of a site must be the same for all states that a symmetry of the model turns into
    each other, and for all sites of the crystal alike: one network reads them.
    """

    environment: Any
    """The :class:`Environment` that made it."""

    @property
    def n_features(self) -> int:
        """F."""

    def neighbor_table(self, lattice: Lattice) -> Tensor:
        """What :meth:`__call__` needs of a lattice; ValueError for one of another crystal."""

    def __call__(self, spins: Tensor, table: Tensor) -> Tensor:
        """Unit spins (..., N, 3) -> features (..., N, F) in their dtype, differentiable."""


class Environment(Protocol):
    """The description of a descriptor: a frozen dataclass of plain values, saved with weights.

    It may say in ``assumes``, a set of names, which of the symmetries that
    :attr:`SDModel.broken_symmetries <sdml.model.SDModel.broken_symmetries>` knows its features take
    for granted: all if it does not say. A model that lacks one of them is refused.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def kind(self) -> str:
        """The name of the lattices that it is for."""

    def descriptor(self) -> Descriptor:
        """The module, made anew."""


class SiteDescriptor(nn.Module):
    """A map of (..., N, 3) spins to (..., N, F) features of the sites around every site.

    A subclass sets ``features``, one label a column. Call it with the spins and the
    :meth:`neighbor_table` of their lattice.

    Parameters
    ----------
    environment : frozen dataclass with ``kind``
    *clusters : (K, 3) int
        For every site of a cell the corners (x, y, basis) that it sees, relative to its cell.
    """

    features: tuple[Any, ...]

    def __init__(self, environment: Any, *clusters: IntArray) -> None:
        super().__init__()
        self.environment, self.clusters = environment, clusters

    @property
    def n_features(self) -> int:
        return len(self.features)

    def neighbor_table(self, lattice: Lattice) -> Tensor:
        """(N, K) the sites that every site of a lattice of this kind sees; then the last again."""
        kind, n_basis = self.environment.kind, len(self.clusters)
        if not lattice.is_a(kind) or lattice.n_basis != n_basis:
            raise ValueError(
                f"lattice: must be {kind!r} with {n_basis} sites a cell, got "
                f"{lattice.name!r} with {lattice.vectors} and {lattice.n_basis} sites"
            )
        width = max(map(len, self.clusters))
        corners = np.stack([c[np.minimum(np.arange(width), len(c) - 1)] for c in self.clusters])
        own = corners[lattice.sublattices]
        sites = lattice.site_index(lattice.cells[:, None] + own[..., :2], own[..., 2])
        return torch.as_tensor(sites, device=next((x.device for x in self.buffers()), None))


class BondDescriptor(SiteDescriptor):
    """What the descriptors made of bonds share.

    A subclass maps the spins around M sites to features in :meth:`rows`. Its tables are float64 and
    are cast to the dtype of the spins. The sites that it sees come with their opposites.
    """

    opposite: Tensor

    def __init__(self, environment: Any, corners: IntArray) -> None:
        super().__init__(environment, corners)
        self.cells = corners[:, :2]
        places = np.concatenate([[[0, 0]], self.cells])
        meets = (places[:, None] + places[None] == 0).all(-1)
        self._table("opposite", meets.argmax(-1))

    def _table(self, name: str, values: NDArray) -> None:
        # Not persistent: the tables follow from the environment and are rebuilt on loading.
        self.register_buffer(name, torch.as_tensor(values), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "BondDescriptor":
        # Tables follow the module to another device, but never lose digits: .float().double() must
        # leave the symmetry exact.
        tables = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, table in tables.items():
            self._buffers[name] = table.to(self.get_buffer(name).device)
        return self

    def _permutation(self, name: str, order: IntArray) -> None:
        """A permutation and its inverse; every -1 becomes one of the numbers left over."""
        order = order.copy()
        order[order < 0] = np.setdiff1d(np.arange(len(order)), order)
        self._table(f"{name}_order", order)
        self._table(f"{name}_inverse", order.argsort())

    def _permuted(self, name: str, rows: Tensor) -> Tensor:
        """rows[..., order, :] for a permutation of that name."""
        order, inverse = (self.get_buffer(f"{name}_{which}") for which in ("order", "inverse"))
        return _Reordered.apply(rows, order, inverse)

    def forward(self, spins: Tensor, table: Tensor) -> Tensor:
        """Features (..., N, F); ``table`` must be the :meth:`neighbor_table` of the lattice."""
        rows = in_blocks(self.rows, self.around(spins, table))
        return rows.unflatten(-1, spins.shape[:-1]).movedim(0, -1)

    def around(self, spins: Tensor, table: Tensor) -> Tensor:
        """(3, 1 + K, M): the spins of all M sites, then those around them."""
        n_sites, n_places = table.shape
        sites = spins.reshape(-1, 3).T.contiguous()
        first = torch.arange(0, sites.shape[1], n_sites, device=table.device)
        itself = torch.arange(n_sites, device=table.device)
        index = torch.cat([itself[None], table.T])[:, None] + first[:, None]
        return _Gathered.apply(sites, index.reshape(1 + n_places, -1), self.opposite)

    def rows(self, around: Tensor) -> Tensor:
        """Features (F, M) of M sites from the spins around them (3, 1 + K, M)."""
        raise NotImplementedError


class _Gathered(Function):
    """sites (3, M), index (P, M) -> (3, P, M)."""

    @staticmethod
    def forward(ctx: Any, sites: Tensor, index: Tensor, opposite: Tensor) -> Tensor:
        ctx.save_for_backward(index, opposite)
        return sites[:, index]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return _Collected.apply(cotangent, *ctx.saved_tensors), None, None


class _Collected(Function):
    """The transpose of a gather, by gathering: i is seen at place p from the site opposite p."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, opposite: Tensor) -> Tensor:
        ctx.save_for_backward(index, opposite)
        n_places, n_sites = index.shape
        shift = n_sites * torch.arange(n_places, device=index.device)
        return values.flatten(1)[:, index[opposite] + shift[:, None]].sum(1)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return _Gathered.apply(cotangent, *ctx.saved_tensors), None, None


def in_blocks(rows: Callable[[Tensor], Tensor], around: Tensor) -> Tensor:
    """rows(around), (..., M) -> (F, M), for a map that treats the M sites alike, block by block.

    For many sites only ``around`` is kept for the gradient; the rest is computed again.
    """
    size = BLOCK_SITES if around.device.type == "cpu" else DEVICE_BLOCK_SITES
    if around.shape[-1] > max(size, KEPT_SITES):
        return _Blocks.apply(rows, size, around)
    return _by_blocks(rows, size, around)


def _by_blocks(rows: Callable[[Tensor], Tensor], size: int, around: Tensor) -> Tensor:
    return torch.cat([rows(part.contiguous()) for part in around.split(size, -1)], -1)


class _Blocks(Function):
    @staticmethod
    def forward(ctx: Any, rows: Callable[[Tensor], Tensor], size: int, around: Tensor) -> Tensor:
        ctx.rows, ctx.size = rows, size
        ctx.save_for_backward(around)
        return _by_blocks(rows, size, around)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (around,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient will be differentiated again
            (whole,) = torch.autograd.grad(ctx.rows(around), around, cotangent, create_graph=True)
            return None, None, whole
        parts = zip(around.split(ctx.size, -1), cotangent.split(ctx.size, -1), strict=True)
        return None, None, torch.cat([_gradient(ctx.rows, *part) for part in parts], -1)


def _gradient(rows: Callable[[Tensor], Tensor], around: Tensor, cotangent: Tensor) -> Tensor:
    leaf = around.contiguous().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(rows(leaf), leaf, cotangent)[0]


def pair_products(left: Tensor, right: Tensor) -> Tensor:
    """left_k . right_(k+s mod K) of (3, K, M) vectors, s = 1 ... K / 2; rows (K K / 2, M).

    Going round this way every pair is one product of whole arrays; :func:`pair_rows` finds it.
    """
    return _Products.apply(left, right).flatten(0, 1)


def pair_rows(pairs: IntArray, n_places: int) -> tuple[IntArray, IntArray]:
    """Row of :func:`pair_products` for pairs (P, 2), and -1 where it holds the pair reversed."""
    j, k = pairs.T
    step = (k - j) % n_places
    direct = step <= n_places // 2
    rows = np.where(direct, (step - 1) * n_places + j, (n_places - step - 1) * n_places + k)
    return rows, np.where(direct, 1, -1)


# T(D, X, Y) = sum_sk D_sk X_k . Y_(k+s) is linear in each: its three derivatives are all there is.


class _Products(Function):
    """dT/dD: (3, K, M), (3, K, M) -> (K / 2, K, M)."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        n_places = left.shape[1]
        turned = torch.cat([right[:, 1:], right[:, : n_places // 2]], 1)
        turned = turned.unfold(1, n_places, 1).movedim(-1, 2)  # (3, K / 2, K, M), a view
        products = left[0] * turned[0]
        return products.addcmul_(left[1], turned[1]).addcmul_(left[2], turned[2])

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> Any:
        return _Spread.apply(weights, *ctx.saved_tensors)


class _Spread(Function):
    """dT/dX and dT/dY, (3, K, M) each."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weights, left, right)
        half, n_places = weights.shape[:2]
        turned = torch.cat([right, right[:, :half]], 1)
        on_left, on_turned = torch.zeros_like(left), torch.zeros_like(turned)
        for step, weight in enumerate(weights, start=1):
            on_left.addcmul_(weight, turned[:, step : step + n_places])
            on_turned[:, step : step + n_places].addcmul_(weight, left)
        on_turned[:, :half] += on_turned[:, n_places:]
        return on_left, on_turned[:, :n_places].contiguous()

    @staticmethod
    def backward(ctx: Any, on_left: Tensor, on_right: Tensor) -> Any:
        weights, left, right = ctx.saved_tensors
        products = _Products.apply(on_left, right) + _Products.apply(left, on_right)
        return products, *_Spread.apply(weights, on_left, on_right)


def cross(left: Tensor, right: Tensor) -> Tensor:
    """left x right along the first axis, the others broadcast."""
    return _Cross.apply(left, right)


class _Cross(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        x, y = left.unbind(0), right.unbind(0)
        product = left.new_empty(torch.broadcast_shapes(left.shape, right.shape))
        for a, out in enumerate(product):
            b, c = (a + 1) % 3, (a + 2) % 3
            torch.mul(x[b], y[c], out=out).addcmul_(x[c], y[b], value=-1)
        return product

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        left, right = ctx.saved_tensors
        on_left, on_right = _Cross.apply(right, cotangent), _Cross.apply(cotangent, left)
        return on_left.sum_to_size(left.shape), on_right.sum_to_size(right.shape)


class _Reordered(Function):
    """rows[..., order, :] for a permutation and its inverse."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return rows.index_select(-2, order)  # copies whole rows, where indexing copies numbers

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        order, inverse = ctx.saved_tensors
        return _Reordered.apply(cotangent, inverse, order), None, None
