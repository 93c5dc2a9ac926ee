"""Moments of the local density of states, from walks on the sites around every site.

With H scaled so that its spectrum lies in [-1, 1], the block of the electrons at site i,

    <i| T_n(H) |i> = mu_n + m_n . sigma,

holds a scalar moment mu_n of their charge and a vector moment m_n of their spin: sums over closed
walks of n steps. The walks from i are followed on the cluster of the sites within ``radius`` bonds,
X_0 = |i>, X_n+1 = 2 H X_n - X_n-1 (walks that leave the cluster are dropped), and the second half
of the moments follows from 2 T_n T_m = T_n+m + T_n-m. With as many steps as bonds in the radius the
moments are those of the infinite lattice; more steps resolve finer energies.
Cyrot-Lackmann, Adv. Phys. 16, 393 (1967), doi 10.1080/00018736700101495; Haydock, Heine and Kelly,
J. Phys. C 5, 2845 (1972), doi 10.1088/0022-3719/5/20/004.

A block w + v . sigma is carried as eight real numbers (Re w, Im w, Re v, Im v). Compiled loops do
the work on the CPU, torch on any other device; both give the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import files
from sdml.kpm import FASTMATH

files.prepare_kernel_cache()

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
LANES = 16
"""Centres that one thread carries through the recursion together, innermost in memory."""
ROW = 8 * LANES
TWO, FOUR = np.float32(2), np.float32(4)
"""In compiled loops a whole number times a float32 is a float64; these keep either precision."""
CHUNK = 2**14
"""Centres that torch carries together: bounds the memory."""


@dataclass(frozen=True)
class Walks:
    """The cluster of sites around a center, and the scaled H on it.

    Attributes
    ----------
    counts : (n_steps + 1,) int
        Number of cluster sites that 0, 1, ... steps can reach; sites are ordered accordingly, the
        center is the first.
    neighbors : (K, z) int
        Cluster sites joined to each cluster site, K for none; z is even and at least 4.
    amplitudes : (K, z)
        Matrix elements of H along those bonds.
    opposite : (K,) int
        Where the center lies in the cluster around each cluster site.
    onsite, exchange : float
        H on a site is onsite + exchange S . sigma.
    """

    counts: IntArray
    neighbors: IntArray
    amplitudes: FloatArray
    opposite: IntArray
    onsite: float
    exchange: float

    @property
    def n_steps(self) -> int:
        return len(self.counts) - 1


def local_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    """mu_n and m_n of every site, n = 1 ... 2 n_steps.

    Parameters
    ----------
    spins : (..., N, 3)
    table : (N, K) int
        Sites of the cluster around every site, alike for all sites of a periodic lattice.
    walks : Walks

    Returns
    -------
    (..., N, 2 n_steps, 4)
        (mu_n, m_n). Differentiable in the spins, and this derivative once more in the cotangent:
        what fitting a network to fields needs. A second derivative in the spins raises
        RuntimeError; name the weights, ``loss.backward(inputs=weights)``, not to ask for one.
    """
    return _Moments.apply(spins, table, walks)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
        ctx.save_for_backward(spins)
        ctx.table, ctx.walks = table, walks
        engine = _compiled_moments if spins.device.type == "cpu" else _torch_moments
        return engine(spins, table, walks)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (spins,) = ctx.saved_tensors
        return _Adjoint.apply(cotangent, _Once.apply(spins), ctx.table, ctx.walks), None, None


class _Once(torch.autograd.Function):
    """The spins themselves; torch visits this node only to differentiate in them again."""

    @staticmethod
    def forward(ctx: Any, spins: Tensor) -> Tensor:
        return spins.view_as(spins)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        raise RuntimeError(
            "local_moments: no second derivative in the spins; for one in the weights use "
            "backward(inputs=weights) or autograd.grad(..., weights)"
        )


class _Adjoint(torch.autograd.Function):
    """Cotangent of the moments -> cotangent of the spins, linear in the former."""

    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
        ctx.save_for_backward(spins)
        ctx.table, ctx.walks = table, walks
        engine = _compiled_adjoint if spins.device.type == "cpu" else _torch_adjoint
        return engine(cotangent, spins, table, walks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, direction: Tensor) -> Any:
        (spins,) = ctx.saved_tensors
        engine = _compiled_tangent if spins.device.type == "cpu" else _torch_tangent
        return engine(direction, spins, ctx.table, ctx.walks), None, None, None


# --- compiled loops: a cluster as rows (site, part, lane), part = one of the eight numbers


def _compiled_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    nowhere = np.empty((0, 0, 3), _flat(spins).dtype)
    return _compiled_forward(nowhere, spins, table, walks)


def _compiled_tangent(direction: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    return _compiled_forward(_flat(direction), spins, table, walks)


def _compiled_forward(direction: Any, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    found = _forward(*(*_arguments(spins, table, walks), direction))
    return torch.from_numpy(found).reshape(*spins.shape[:-1], -1, 4)


def _compiled_adjoint(cotangent: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    arguments = _arguments(spins, table, walks)
    rows = cotangent.detach().contiguous().numpy().reshape(-1, 2 * walks.n_steps, 4)
    parts = _reverse(*(*arguments, rows))
    found = _gathered(parts, arguments[1], arguments[2], walks.opposite)
    return torch.from_numpy(found).reshape(spins.shape)


def _flat(spins: Tensor) -> Any:
    """(B, N, 3) array."""
    return spins.detach().contiguous().numpy().reshape(-1, *spins.shape[-2:])


def _arguments(spins: Tensor, table: Tensor, walks: Walks) -> tuple[Any, ...]:
    files.require_kernel_threads()
    s = _flat(spins)
    real = s.dtype.type
    hopping = walks.neighbors, walks.amplitudes.astype(real)
    onsite, exchange = real(walks.onsite), real(walks.exchange)
    return numba.get_num_threads(), s, table.numpy(), walks.counts, *hopping, onsite, exchange


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _hopped(out, x, k, neighbors, amplitudes):
    """out = sum over the bonds of site k of amplitude times x."""
    j0, j1, j2, j3 = neighbors[k, 0], neighbors[k, 1], neighbors[k, 2], neighbors[k, 3]
    t0, t1, t2, t3 = amplitudes[k, 0], amplitudes[k, 1], amplitudes[k, 2], amplitudes[k, 3]
    for c in range(ROW):
        out[c] = t0 * x[j0, c] + t1 * x[j1, c] + t2 * x[j2, c] + t3 * x[j3, c]
    for z in range(4, neighbors.shape[1], 2):
        j0, j1 = neighbors[k, z], neighbors[k, z + 1]
        t0, t1 = amplitudes[k, z], amplitudes[k, z + 1]
        for c in range(ROW):
            out[c] += t0 * x[j0, c] + t1 * x[j1, c]


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_onsite(out, x, k, s, exchange, onsite):
    """out += (onsite + exchange S_k . sigma) x_k."""
    n = LANES
    for v in range(LANES):
        sx, sy, sz = exchange * s[k, v], exchange * s[k, n + v], exchange * s[k, 2 * n + v]
        wr, wi = x[k, v], x[k, n + v]
        ax, ay, az = x[k, 2 * n + v], x[k, 3 * n + v], x[k, 4 * n + v]
        bx, by, bz = x[k, 5 * n + v], x[k, 6 * n + v], x[k, 7 * n + v]
        out[v] += onsite * wr + sx * ax + sy * ay + sz * az
        out[n + v] += onsite * wi + sx * bx + sy * by + sz * bz
        out[2 * n + v] += onsite * ax + wr * sx - sy * bz + sz * by
        out[3 * n + v] += onsite * ay + wr * sy - sz * bx + sx * bz
        out[4 * n + v] += onsite * az + wr * sz - sx * by + sy * bx
        out[5 * n + v] += onsite * bx + wi * sx + sy * az - sz * ay
        out[6 * n + v] += onsite * by + wi * sy + sz * ax - sx * az
        out[7 * n + v] += onsite * bz + wi * sz + sx * ay - sy * ax


@numba.njit(cache=True, fastmath=FASTMATH)
def _load(s, spins, table, first):
    """s (K, 3 lanes) = the spins around the centers first ... first + lanes - 1."""
    n_sites, n = spins.shape[1], LANES
    for v in range(LANES):
        center = min(first + v, spins.shape[0] * n_sites - 1)
        b, i = center // n_sites, center % n_sites
        for k in range(table.shape[1]):
            for a in range(3):
                s[k, a * n + v] = spins[b, table[i, k], a]


@numba.njit(cache=True, fastmath=FASTMATH)
def _walk(x, s, counts, neighbors, amplitudes, onsite, exchange, out):
    """x[n] = T_n(H) |i> for n = 1 ... n_steps; x[0] = |i> is set, all else outside is zero."""
    for m in range(counts.shape[0] - 1):
        for k in range(counts[m + 1]):
            _hopped(out, x[m], k, neighbors, amplitudes)
            _add_onsite(out, x[m], k, s, exchange, onsite)
            if m == 0:
                x[1, k] = out
            else:
                for c in range(ROW):
                    x[m + 1, k, c] = TWO * out[c] - x[m - 1, k, c]


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_block(out, x, y, count):
    """out (4 lanes) += the numbers (w, v) of the Hermitian part of sum_k x_k+ y_k."""
    n = LANES
    for k in range(count):
        for v in range(LANES):
            wr, wi = x[k, v], x[k, n + v]
            ax, ay, az = x[k, 2 * n + v], x[k, 3 * n + v], x[k, 4 * n + v]
            bx, by, bz = x[k, 5 * n + v], x[k, 6 * n + v], x[k, 7 * n + v]
            ur, ui = y[k, v], y[k, n + v]
            cx, cy, cz = y[k, 2 * n + v], y[k, 3 * n + v], y[k, 4 * n + v]
            dx, dy, dz = y[k, 5 * n + v], y[k, 6 * n + v], y[k, 7 * n + v]
            out[v] += wr * ur + wi * ui + ax * cx + ay * cy + az * cz + bx * dx + by * dy + bz * dz
            x_part = wr * cx + wi * dx + ur * ax + ui * bx
            y_part = wr * cy + wi * dy + ur * ay + ui * by
            z_part = wr * cz + wi * dz + ur * az + ui * bz
            out[n + v] += x_part - (ay * dz - az * dy) + (by * cz - bz * cy)
            out[2 * n + v] += y_part - (az * dx - ax * dz) + (bz * cx - bx * cz)
            out[3 * n + v] += z_part - (ax * dy - ay * dx) + (bx * cy - by * cx)


@numba.njit(cache=True, fastmath=FASTMATH)
def _store(found, moments, first):
    """found (centers, 2 n_steps, 4) from moments (2 n_steps + 1, 4 lanes), which start at n = 0."""
    for v in range(min(LANES, found.shape[0] - first)):
        for m in range(found.shape[1]):
            for a in range(4):
                found[first + v, m, a] = moments[m + 1, a * LANES + v]


@numba.njit(cache=True, fastmath=FASTMATH)
def _doubled(moments, x, y, counts, tangent):
    """T_n+m = 2 T_n T_m - T_n-m with n = m or m + 1, for the second half of the moments.

    y = x; or the change of x of which the moments are the ``tangent``.
    """
    n_steps = counts.shape[0] - 1
    for order in range(n_steps + 1, 2 * n_steps + 1):
        low, high = order // 2, order - order // 2
        row = moments[order]
        row[:] = 0
        if tangent:
            _add_block(row, y[low], x[high], counts[low])
        _add_block(row, x[low], y[high], counts[low])
        for c in range(4 * LANES):
            row[c] = TWO * row[c] - moments[high - low, c]


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _forward(n_threads, spins, table, counts, neighbors, amplitudes, onsite, exchange, direction):
    """(centers, 2 n_steps, 4): the moments, or their derivative along a direction in the spins."""
    n_cluster, n_steps, tangent = table.shape[1], counts.shape[0] - 1, direction.size > 0
    total = spins.shape[0] * spins.shape[1]
    n_blocks = -(-total // LANES)
    found = np.empty((total, 2 * n_steps, 4), spins.dtype)
    for thread in numba.prange(n_threads):
        x = np.zeros((n_steps + 1, n_cluster + 1, ROW), spins.dtype)
        x[0, 0, :LANES] = 1
        y = np.zeros_like(x) if tangent else x
        s = np.empty((n_cluster, 3 * LANES), spins.dtype)
        d = np.empty_like(s)
        out = np.empty(ROW, spins.dtype)
        moments = np.zeros((2 * n_steps + 1, 4 * LANES), spins.dtype)
        moments[0, :LANES] = 0 if tangent else 1
        for block in range(thread * n_blocks // n_threads, (thread + 1) * n_blocks // n_threads):
            _load(s, spins, table, block * LANES)
            _walk(x, s, counts, neighbors, amplitudes, onsite, exchange, out)
            if tangent:
                _load(d, direction, table, block * LANES)
                _walk_tangent(y, x, d, s, counts, neighbors, amplitudes, onsite, exchange, out)
            for m in range(1, n_steps + 1):
                moments[m, :LANES] = y[m, 0, :LANES]
                moments[m, LANES:] = y[m, 0, 2 * LANES : 5 * LANES]
            _doubled(moments, x, y, counts, tangent)
            _store(found, moments, block * LANES)
    return found


@numba.njit(cache=True, fastmath=FASTMATH)
def _walk_tangent(y, x, d, s, counts, neighbors, amplitudes, onsite, exchange, out):
    """y = the change of the walk x when the spins s change along d."""
    zero = onsite * 0
    for m in range(counts.shape[0] - 1):
        for k in range(counts[m + 1]):
            _hopped(out, y[m], k, neighbors, amplitudes)
            _add_onsite(out, y[m], k, s, exchange, onsite)
            _add_onsite(out, x[m], k, d, exchange, zero)
            if m == 0:
                y[1, k] = out
            else:
                for c in range(ROW):
                    y[m + 1, k, c] = TWO * out[c] - y[m - 1, k, c]


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_times(y, x, g, factor, count):
    """y_k += factor x_k (g_0 + g . sigma) for the first ``count`` sites."""
    n = LANES
    for k in range(count):
        for v in range(LANES):
            go, gx = factor * g[v], factor * g[n + v]
            gy, gz = factor * g[2 * n + v], factor * g[3 * n + v]
            wr, wi = x[k, v], x[k, n + v]
            ax, ay, az = x[k, 2 * n + v], x[k, 3 * n + v], x[k, 4 * n + v]
            bx, by, bz = x[k, 5 * n + v], x[k, 6 * n + v], x[k, 7 * n + v]
            y[k, v] += go * wr + gx * ax + gy * ay + gz * az
            y[k, n + v] += go * wi + gx * bx + gy * by + gz * bz
            y[k, 2 * n + v] += go * ax + wr * gx - by * gz + bz * gy
            y[k, 3 * n + v] += go * ay + wr * gy - bz * gx + bx * gz
            y[k, 4 * n + v] += go * az + wr * gz - bx * gy + by * gx
            y[k, 5 * n + v] += go * bx + wi * gx + ay * gz - az * gy
            y[k, 6 * n + v] += go * by + wi * gy + az * gx - ax * gz
            y[k, 7 * n + v] += go * bz + wi * gz + ax * gy - ay * gx


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_spin_cotangent(part, y, x, factor, count):
    """part_k (3 lanes) += factor d/dS_k <y_k, (S_k . sigma) x_k>."""
    n = LANES
    for k in range(count):
        for v in range(LANES):
            wr, wi = x[k, v], x[k, n + v]
            ax, ay, az = x[k, 2 * n + v], x[k, 3 * n + v], x[k, 4 * n + v]
            bx, by, bz = x[k, 5 * n + v], x[k, 6 * n + v], x[k, 7 * n + v]
            ur, ui = y[k, v], y[k, n + v]
            cx, cy, cz = y[k, 2 * n + v], y[k, 3 * n + v], y[k, 4 * n + v]
            dx, dy, dz = y[k, 5 * n + v], y[k, 6 * n + v], y[k, 7 * n + v]
            x_part = ur * ax + ui * bx + wr * cx + wi * dx
            y_part = ur * ay + ui * by + wr * cy + wi * dy
            z_part = ur * az + ui * bz + wr * cz + wi * dz
            part[k, v] += factor * (x_part - (by * cz - bz * cy) + (ay * dz - az * dy))
            part[k, n + v] += factor * (y_part - (bz * cx - bx * cz) + (az * dx - ax * dz))
            part[k, 2 * n + v] += factor * (z_part - (bx * cy - by * cx) + (ax * dy - ay * dx))


@numba.njit(cache=True, fastmath=FASTMATH)
def _reverse_walk(part, last, x, g, s, counts, neighbors, amplitudes, onsite, exchange, out):
    """Cotangents y[n] of x[n], n falling, of which ``last`` keeps three; collect the spins'.

    From the recursion y[n] = 2 H y[n+1] - y[n+2], from the doubled moments of orders 2 n and
    2 n +- 1 the products with x[n] and x[n+-1], and at the center the moment of order n.
    """
    n_steps = counts.shape[0] - 1
    for m in range(n_steps, 0, -1):
        y, after, later = last[m % 3], last[(m + 1) % 3], last[(m + 2) % 3]
        if m < n_steps:
            for k in range(counts[m]):
                _hopped(out, after, k, neighbors, amplitudes)
                _add_onsite(out, after, k, s, exchange, onsite)
                for c in range(ROW):
                    y[k, c] = TWO * out[c] - later[k, c]
            if n_steps < 2 * m + 1:
                _add_times(y, x[m + 1], g[2 * m + 1], TWO, counts[m])
        if n_steps < 2 * m:
            _add_times(y, x[m], g[2 * m], FOUR, counts[m])
        if n_steps < 2 * m - 1:
            _add_times(y, x[m - 1], g[2 * m - 1], TWO, counts[m - 1])
        y[0, :LANES] += g[m, :LANES]
        y[0, 2 * LANES : 5 * LANES] += g[m, LANES:]
        own = TWO * exchange if m > 1 else exchange
        _add_spin_cotangent(part, y, x[m - 1], own, counts[m - 1])


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _reverse(n_threads, spins, table, counts, neighbors, amplitudes, onsite, exchange, cotangent):
    """(n_blocks, K, 3 lanes): the cotangent of the spins of every cluster."""
    n_cluster, n_steps = table.shape[1], counts.shape[0] - 1
    total = spins.shape[0] * spins.shape[1]
    n_blocks = -(-total // LANES)
    parts = np.zeros((n_blocks, n_cluster, 3 * LANES), spins.dtype)
    for thread in numba.prange(n_threads):
        x = np.zeros((n_steps + 1, n_cluster + 1, ROW), spins.dtype)
        x[0, 0, :LANES] = 1
        last = np.zeros((3, n_cluster + 1, ROW), spins.dtype)
        s = np.empty((n_cluster, 3 * LANES), spins.dtype)
        out = np.empty(ROW, spins.dtype)
        g = np.zeros((2 * n_steps + 1, 4 * LANES), spins.dtype)
        for block in range(thread * n_blocks // n_threads, (thread + 1) * n_blocks // n_threads):
            first = block * LANES
            _load(s, spins, table, first)
            _walk(x, s, counts, neighbors, amplitudes, onsite, exchange, out)
            for v in range(min(LANES, total - first)):
                for m in range(2 * n_steps):
                    for a in range(4):
                        g[m + 1, a * LANES + v] = cotangent[first + v, m, a]
            for order in range(n_steps + 1, 2 * n_steps + 1):
                g[order % 2] -= g[order]
            last[:] = 0
            part = parts[block]
            _reverse_walk(part, last, x, g, s, counts, neighbors, amplitudes, onsite, exchange, out)
    return parts


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _gathered(parts, spins, table, opposite):
    """Cotangent of every spin: the sum over the clusters that hold it, always in one order.

    Site j is at place k of the cluster around the site that lies opposite k from j.
    """
    n_sites, n_cluster, n = spins.shape[1], parts.shape[1], LANES
    found = np.empty_like(spins)
    for site in numba.prange(spins.shape[0] * n_sites):
        b, j = site // n_sites, site % n_sites
        zero = spins.dtype.type(0)
        fx, fy, fz = zero, zero, zero
        for k in range(n_cluster):
            center = b * n_sites + table[j, opposite[k]]
            part, v = parts[center // LANES, k], center % LANES
            fx += part[v]
            fy += part[n + v]
            fz += part[2 * n + v]
        found[b, j, 0], found[b, j, 1], found[b, j, 2] = fx, fy, fz
    return found


# --- torch, on any device: the same steps on (centers, K, 8)


def _torch_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    found = [_cluster_moments(s, walks) for s in _clusters(spins, table)]
    return torch.cat(found).reshape(*spins.shape[:-1], -1, 4)


def _torch_tangent(direction: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    pairs = zip(_clusters(spins, table), _clusters(direction, table), strict=True)
    found = [torch.func.jvp(lambda x: _cluster_moments(x, walks), (s,), (d,))[1] for s, d in pairs]
    return torch.cat(found).reshape(*spins.shape[:-1], -1, 4)


def _torch_adjoint(cotangent: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    rows = cotangent.detach().reshape(-1, 2 * walks.n_steps, 4).split(CHUNK)
    parts = []
    for s, g in zip(_clusters(spins, table), rows, strict=True):
        pull_back = torch.func.vjp(lambda x: _cluster_moments(x, walks), s)[1]
        parts.append(pull_back(g)[0])
    every = torch.cat(parts).reshape(-1, *table.shape, 3)  # (B, N, K, 3)
    centers = table[:, torch.as_tensor(walks.opposite, device=table.device)]
    places = torch.arange(table.shape[1], device=table.device)
    return every[:, centers, places].sum(2).reshape(spins.shape)


def _clusters(spins: Tensor, table: Tensor) -> Iterator[Tensor]:
    """Spins (centers, K, 3) around the centers of all configurations, a chunk at a time."""
    flat = spins.detach().reshape(-1, *spins.shape[-2:])
    n_sites = flat.shape[1]
    for centers in torch.arange(flat.shape[0] * n_sites, device=spins.device).split(CHUNK):
        yield flat[(centers // n_sites)[:, None], table[centers % n_sites]]


def _cluster_moments(s: Tensor, walks: Walks) -> Tensor:
    """(centers, 2 n_steps, 4) from the spins (centers, K, 3) of their clusters."""
    x = [torch.zeros(*s.shape[:2], 8, dtype=s.dtype, device=s.device)]
    x[0][:, 0, 0] = 1
    for m in range(walks.n_steps):
        hx = _applied(x[m], s, walks)
        x.append(hx if m == 0 else 2 * hx - x[m - 1])
    moments = [x[0][:, 0, [0, 2, 3, 4]]] + [y[:, 0, [0, 2, 3, 4]] for y in x[1:]]
    for order in range(walks.n_steps + 1, 2 * walks.n_steps + 1):
        low, high = order // 2, order - order // 2
        moments.append(2 * _block(x[low], x[high]) - moments[high - low])
    return torch.stack(moments[1:], dim=1)


def _applied(x: Tensor, s: Tensor, walks: Walks) -> Tensor:
    """H x on the cluster."""
    padded = torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
    neighbors = torch.as_tensor(walks.neighbors, device=x.device)
    amplitudes = torch.as_tensor(walks.amplitudes, dtype=x.dtype, device=x.device)
    hopped = sum(
        amplitudes[:, z, None] * padded[:, neighbors[:, z]] for z in range(neighbors.shape[1])
    )
    w, a, b = x[..., :2], x[..., 2:5], x[..., 5:]
    parts = [(s * a).sum(-1, keepdim=True), (s * b).sum(-1, keepdim=True)]
    parts.append(w[..., :1] * s - torch.linalg.cross(s, b))
    parts.append(w[..., 1:] * s + torch.linalg.cross(s, a))
    return hopped + walks.onsite * x + walks.exchange * torch.cat(parts, dim=-1)


def _block(x: Tensor, y: Tensor) -> Tensor:
    """(centers, 4): the numbers (w, v) of the Hermitian part of sum_k x_k+ y_k."""
    a, b, c, d = x[..., 2:5], x[..., 5:], y[..., 2:5], y[..., 5:]
    vector = x[..., :1] * c + x[..., 1:2] * d + y[..., :1] * a + y[..., 1:2] * b
    vector = vector - torch.linalg.cross(a, d) + torch.linalg.cross(b, c)
    return torch.cat([(x * y).sum(-1, keepdim=True), vector], dim=-1).sum(1)
