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

A block w + v . sigma has two parts of four real numbers: an even one (Re w, Im v) from the walks
that meet an even number of spins, and an odd one (Im w, Re v). On a bipartite lattice without a
site energy a walk of n steps to a given site holds only one of them, which halves the work.
Compiled loops do it on the CPU, torch on any other device; both give the same numbers.
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
"""Centers that one thread carries through the recursion together, innermost in memory."""
ROW = 4 * LANES
PLUS, MINUS, TWO, FOUR = np.float32(1), np.float32(-1), np.float32(2), np.float32(4)
EVEN, ODD, ONLY = 0, ROW, 0
"""Where the two parts of a block begin in a row of numbers and lanes, or the only one."""
CHUNK = 2**14
"""Centers that torch carries together: bounds the memory."""


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
        Real parts of the elements of H that join each cluster site (row) to those (columns).
    phases : (K, z) or (K, 0)
        Imaginary parts, if there are any.
    basis : (K,) int
        Which site of its cell each cluster site is; the first is that of the centers.
    n_basis : int
        Sites in a cell.
    opposite : (K,) int
        Where the center lies in the cluster around each cluster site.
    sublattice : (K,) int
        0 for the sublattice of the center and 1 for the other; all 0 unless the lattice is
        bipartite and ``onsite`` is 0.
    onsite, exchange : float
        H on a site is onsite + exchange S . sigma.
    """

    counts: IntArray
    neighbors: IntArray
    amplitudes: FloatArray
    phases: FloatArray
    basis: IntArray
    n_basis: int
    opposite: IntArray
    sublattice: IntArray
    onsite: float
    exchange: float

    @property
    def n_steps(self) -> int:
        return len(self.counts) - 1

    def clusters(self, table: Tensor) -> Tensor:
        """(N / n_basis, K) the rows of the table of the sites that are centers."""
        return table[self.basis[0] :: self.n_basis, : len(self.basis)]


def local_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    """mu_n and m_n of one site of every cell, n = 1 ... 2 n_steps.

    Parameters
    ----------
    spins : (..., N, 3)
    table : (N, K) int
        Sites of the cluster around every site, alike in all cells of a periodic lattice; K of the
        largest cluster, what stands beyond the end of another is not read.
    walks : Walks
        From one site of a cell.

    Returns
    -------
    (..., N / n_basis, 2 n_steps, 4)
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


# --- compiled loops: a cluster as rows (site; part, number and lane), number = one of four


def _compiled_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    nowhere = np.empty((0, 0, 3), _flat(spins).dtype)
    return _compiled_forward(nowhere, spins, table, walks)


def _compiled_tangent(direction: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    return _compiled_forward(_flat(direction), spins, table, walks)


def _compiled_forward(direction: Any, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    found = _forward(*(*_arguments(spins, table, walks), direction))
    return _in_batches(torch.from_numpy(found), spins, walks)


def _in_batches(found: Tensor, spins: Tensor, walks: Walks) -> Tensor:
    """(..., N / n_basis, 2 n_steps, 4) from (centers, 2 n_steps, 4)."""
    n_centers = spins.shape[-2] // walks.n_basis
    return found.reshape(*spins.shape[:-2], n_centers, 2 * walks.n_steps, 4)


def _compiled_adjoint(cotangent: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    arguments = _arguments(spins, table, walks)
    rows = cotangent.detach().contiguous().numpy().reshape(-1, 2 * walks.n_steps, 4)
    parts = _reverse(*(*arguments, rows))
    n_basis, cells = walks.n_basis, table.numpy()
    cells = cells // n_basis if n_basis > 1 else cells
    found = _gathered(parts, arguments[1], cells, walks.opposite, walks.basis, n_basis)
    return torch.from_numpy(found).reshape(spins.shape)


def _flat(spins: Tensor) -> Any:
    """(B, N, 3) array."""
    return spins.detach().contiguous().numpy().reshape(-1, *spins.shape[-2:])


def _arguments(spins: Tensor, table: Tensor, walks: Walks) -> tuple[Any, ...]:
    files.require_kernel_threads()
    s = _flat(spins)
    real = s.dtype.type
    parts = (ONLY,) if walks.sublattice.any() else (EVEN, ODD)
    hops, phases = (part.astype(real) for part in (walks.amplitudes, walks.phases))
    h = walks.neighbors, hops, phases, walks.sublattice
    clusters = np.ascontiguousarray(walks.clusters(table).numpy())
    own = real(walks.onsite), real(walks.exchange), clusters, walks.counts
    return numba.get_num_threads(), s, *own, parts, h


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_product(out, q, k, b, j, factor, turn):
    """The part of out += factor (b_j . sigma) times the other part of q_k.

    turn = 1 if the former is the even part and -1 if it is the odd one; with the other sign the
    product is q_k (b_j . sigma).
    """
    n = LANES
    for v in range(LANES):
        bx, by, bz = factor * b[j, n + v], factor * b[j, 2 * n + v], factor * b[j, 3 * n + v]
        w, x, y, z = q[k, v], q[k, n + v], q[k, 2 * n + v], q[k, 3 * n + v]
        out[v] += bx * x + by * y + bz * z
        out[n + v] += w * bx + turn * (by * z - bz * y)
        out[2 * n + v] += w * by + turn * (bz * x - bx * z)
        out[3 * n + v] += w * bz + turn * (bx * y - by * x)


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_both(out, q, k, b, j, factor, turn):
    """Both parts of out += factor (b_j0 + b_j . sigma) q_k; of q_k (b_j0 + b_j . sigma) if -1."""
    n = LANES
    for v in range(LANES):
        bw, bx = factor * b[j, v], factor * b[j, n + v]
        by, bz = factor * b[j, 2 * n + v], factor * b[j, 3 * n + v]
        w, x, y, z = q[k, v], q[k, n + v], q[k, 2 * n + v], q[k, 3 * n + v]
        ow, ox, oy, oz = q[k, 4 * n + v], q[k, 5 * n + v], q[k, 6 * n + v], q[k, 7 * n + v]
        out[v] += bw * w + bx * ox + by * oy + bz * oz
        out[n + v] += bw * x + ow * bx + turn * (by * oz - bz * oy)
        out[2 * n + v] += bw * y + ow * by + turn * (bz * ox - bx * oz)
        out[3 * n + v] += bw * z + ow * bz + turn * (bx * oy - by * ox)
        out[4 * n + v] += bw * ow + bx * x + by * y + bz * z
        out[5 * n + v] += bw * ox + w * bx - turn * (by * z - bz * y)
        out[6 * n + v] += bw * oy + w * by - turn * (bz * x - bx * z)
        out[7 * n + v] += bw * oz + w * bz - turn * (bx * y - by * x)


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_block(out, q, k, b, j, factor, odd, parts):
    """out += factor (b_j0 + b_j . sigma) q_k; ``odd`` tells the only part, where b_j0 = 0."""
    if len(parts) == 2:
        _add_both(out, q, k, b, j, factor, PLUS)
    else:
        _add_product(out, q, k, b, j, factor, MINUS if odd else PLUS)


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_turned(out, q, j, phase):
    """Both parts of out += i phase q_j."""
    for c in range(LANES):
        out[c] -= phase * q[j, ROW + c]
        out[ROW + c] += phase * q[j, c]
    for c in range(LANES, ROW):
        out[c] += phase * q[j, ROW + c]
        out[ROW + c] -= phase * q[j, c]


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _step(new, old, x, k, m, s, h, factor, out):
    """new_k = factor (H x)_k - old_k, in walks of m steps."""
    neighbors, amplitudes, phases, sublattice, parts = h
    j0, j1, j2, j3 = neighbors[k, 0], neighbors[k, 1], neighbors[k, 2], neighbors[k, 3]
    t0, t1, t2, t3 = amplitudes[k, 0], amplitudes[k, 1], amplitudes[k, 2], amplitudes[k, 3]
    for c in range(ROW * len(parts)):
        out[c] = t0 * x[j0, c] + t1 * x[j1, c] + t2 * x[j2, c] + t3 * x[j3, c]
    for bond in range(4, neighbors.shape[1], 2):
        i0, i1 = neighbors[k, bond], neighbors[k, bond + 1]
        u0, u1 = amplitudes[k, bond], amplitudes[k, bond + 1]
        for c in range(ROW * len(parts)):
            out[c] += u0 * x[i0, c] + u1 * x[i1, c]
    if len(parts) == 2:
        for bond in range(phases.shape[1]):
            _add_turned(out, x, neighbors[k, bond], phases[k, bond])
    _add_block(out, x, k, s, k, PLUS, (m + sublattice[k]) & 1, parts)
    for c in range(ROW * len(parts)):
        new[k, c] = factor * out[c] - old[k, c]


@numba.njit(cache=True, fastmath=FASTMATH)
def _load(s, spins, onsite, exchange, table, first):
    """s (K, 4 lanes) = onsite and exchange S around the centers first ... first + lanes - 1."""
    n_centers, n = table.shape[0], LANES
    for v in range(LANES):
        center = min(first + v, spins.shape[0] * n_centers - 1)
        b, i = center // n_centers, center % n_centers
        for k in range(table.shape[1]):
            s[k, v] = onsite
            for a in range(3):
                s[k, (a + 1) * n + v] = exchange * spins[b, table[i, k], a]


@numba.njit(cache=True, fastmath=FASTMATH)
def _walk(x, s, counts, h, out):
    """x[n] = T_n(H) |i> for n = 1 ... n_steps; x[0] = |i> is set, all else outside is zero."""
    for m in range(counts.shape[0] - 1):
        factor, old = (TWO, x[m - 1]) if m else (PLUS, x[-1])
        for k in range(counts[m + 1]):
            _step(x[m + 1], old, x[m], k, m + 1, s, h, factor, out)


@numba.njit(cache=True, fastmath=FASTMATH)
def _walk_tangent(y, x, d, s, counts, h, out):
    """y = the change of the walk x when the spins s change along d."""
    sublattice, parts = h[3:]
    for m in range(counts.shape[0] - 1):
        factor, old = (TWO, y[m - 1]) if m else (PLUS, y[-1])
        for k in range(counts[m + 1]):
            _step(y[m + 1], old, y[m], k, m + 1, s, h, factor, out)
            odd = (m + 1 + sublattice[k]) & 1
            _add_block(y[m + 1, k], x[m], k, d, k, factor, odd, parts)


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_traces(out, x, y, m, even, count, sublattice, parts):
    """out (4 lanes) += the numbers (w, v) of the Hermitian part of sum_k x_k+ y_k.

    x are walks of m steps, y of as many (even) or one more.
    """
    if len(parts) == 2:
        _add_both_traces(out, x, y, count)
    elif even:
        _add_scalar(out, x, y, count)
    else:
        _add_vector(out, x, y, count, sublattice, m & 1)
        _add_vector(out, y, x, count, sublattice, 1 - (m & 1))


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_both_traces(out, x, y, count):
    """Scalars of the even a and c and of the odd b and d, vectors of a and d and of c and b."""
    n = LANES
    for k in range(count):
        for v in range(LANES):
            aw, ax, ay, az = x[k, v], x[k, n + v], x[k, 2 * n + v], x[k, 3 * n + v]
            bw, bx, by, bz = x[k, 4 * n + v], x[k, 5 * n + v], x[k, 6 * n + v], x[k, 7 * n + v]
            cw, cx, cy, cz = y[k, v], y[k, n + v], y[k, 2 * n + v], y[k, 3 * n + v]
            dw, dx, dy, dz = y[k, 4 * n + v], y[k, 5 * n + v], y[k, 6 * n + v], y[k, 7 * n + v]
            out[v] += aw * cw + ax * cx + ay * cy + az * cz + bw * dw + bx * dx + by * dy + bz * dz
            x_part = aw * dx + dw * ax + cw * bx + bw * cx
            y_part = aw * dy + dw * ay + cw * by + bw * cy
            z_part = aw * dz + dw * az + cw * bz + bw * cz
            out[n + v] += x_part + ay * dz - az * dy + cy * bz - cz * by
            out[2 * n + v] += y_part + az * dx - ax * dz + cz * bx - cx * bz
            out[3 * n + v] += z_part + ax * dy - ay * dx + cx * by - cy * bx


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_scalar(out, a, b, count):
    """The scalar of a and b of one parity."""
    n = LANES
    for k in range(count):
        for v in range(LANES):
            w, x, y, z = a[k, v], a[k, n + v], a[k, 2 * n + v], a[k, 3 * n + v]
            out[v] += w * b[k, v] + x * b[k, n + v] + y * b[k, 2 * n + v] + z * b[k, 3 * n + v]


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_vector(out, a, b, count, sublattice, chosen):
    """The vector of a, which is even, and b, which is odd, on one sublattice."""
    n = LANES
    for k in range(count):
        if sublattice[k] == chosen:
            for v in range(LANES):
                aw, ax, ay, az = a[k, v], a[k, n + v], a[k, 2 * n + v], a[k, 3 * n + v]
                bw, bx, by, bz = b[k, v], b[k, n + v], b[k, 2 * n + v], b[k, 3 * n + v]
                out[n + v] += aw * bx + bw * ax + ay * bz - az * by
                out[2 * n + v] += aw * by + bw * ay + az * bx - ax * bz
                out[3 * n + v] += aw * bz + bw * az + ax * by - ay * bx


@numba.njit(cache=True, fastmath=FASTMATH)
def _store(found, moments, first):
    """found (centers, 2 n_steps, 4) from moments (2 n_steps + 1, 4 lanes), which start at n = 0."""
    for v in range(min(LANES, found.shape[0] - first)):
        for m in range(found.shape[1]):
            for a in range(4):
                found[first + v, m, a] = moments[m + 1, a * LANES + v]


@numba.njit(cache=True, fastmath=FASTMATH)
def _trace(moments, x, y, counts, sublattice, parts, tangent):
    """Moments of all orders of the walks y; those beyond n_steps by T_n+m = 2 T_n T_m - T_n-m.

    n = m or m + 1. y = x; or the change of x of which the moments are the ``tangent``.
    """
    n_steps, n = counts.shape[0] - 1, LANES
    for m in range(1, n_steps + 1):
        if len(parts) == 2 or m % 2 == 0:
            moments[m, :n] = y[m, 0, EVEN : EVEN + n]
        if len(parts) == 2 or m % 2:
            odd = parts[-1]
            moments[m, n:] = y[m, 0, odd + n : odd + 4 * n]
    for order in range(n_steps + 1, 2 * n_steps + 1):
        low, high = order // 2, order - order // 2
        row, even = moments[order], low == high
        row[:] = 0
        if tangent:
            _add_traces(row, y[low], x[high], low, even, counts[low], sublattice, parts)
        _add_traces(row, x[low], y[high], low, even, counts[low], sublattice, parts)
        for c in range(4 * LANES):
            row[c] += row[c] - moments[high - low, c]


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _forward(n_threads, spins, onsite, exchange, table, counts, parts, terms, direction):
    """(centers, 2 n_steps, 4): the moments, or their derivative along a direction in the spins."""
    n_cluster, n_steps, tangent = table.shape[1], counts.shape[0] - 1, direction.size > 0
    total = spins.shape[0] * table.shape[0]
    n_blocks = -(-total // LANES)
    found = np.empty((total, 2 * n_steps, 4), spins.dtype)
    for thread in numba.prange(n_threads):
        h = (*terms, parts)
        # The last stays zero: there is nothing before the start of a walk.
        x = np.zeros((n_steps + 2, n_cluster + 1, ROW * len(parts)), spins.dtype)
        x[0, 0, :LANES] = 1
        y = np.zeros_like(x) if tangent else x
        s = np.empty((n_cluster, ROW), spins.dtype)
        d = np.empty_like(s)
        out = np.empty(x.shape[2], spins.dtype)
        moments = np.zeros((2 * n_steps + 1, ROW), spins.dtype)
        moments[0, :LANES] = 0 if tangent else 1
        for block in range(thread * n_blocks // n_threads, (thread + 1) * n_blocks // n_threads):
            _load(s, spins, onsite, exchange, table, block * LANES)
            _walk(x, s, counts, h, out)
            if tangent:
                _load(d, direction, 0, exchange, table, block * LANES)
                _walk_tangent(y, x, d, s, counts, h, out)
            _trace(moments, x, y, counts, h[3], parts, tangent)
            _store(found, moments, block * LANES)
    return found


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_times(y, x, g, order, factor, m, count, h):
    """y_k += factor x_k (g_0 + g . sigma) for the first ``count`` sites; y of walks of m steps.

    g_0 and g are the cotangents of a scalar and a vector moment.
    """
    n, sublattice, parts = LANES, h[3], h[4]
    for k in range(count):
        if len(parts) == 2:
            _add_both(y[k], x, k, g, order, factor, MINUS)
        elif order % 2:
            # From the right as from the left with the other sign.
            _add_block(y[k], x, k, g, order, factor, 1 - (m + sublattice[k]) & 1, parts)
        else:
            for v in range(LANES):
                for a in range(4):
                    y[k, a * n + v] += factor * g[order, v] * x[k, a * n + v]


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_overlap(found, y, p, x, q, k, factor, turn):
    """found_k (3 lanes) += factor d/dS_k <y_k, (S_k . sigma) x_k>, of the parts p and q.

    turn = 1 if p is the even part and -1 if it is the odd one.
    """
    n = LANES
    for v in range(LANES):
        aw, ax, ay, az = y[k, p + v], y[k, p + n + v], y[k, p + 2 * n + v], y[k, p + 3 * n + v]
        bw, bx, by, bz = x[k, q + v], x[k, q + n + v], x[k, q + 2 * n + v], x[k, q + 3 * n + v]
        cx, cy, cz = by * az - bz * ay, bz * ax - bx * az, bx * ay - by * ax
        found[k, v] += factor * (aw * bx + bw * ax + turn * cx)
        found[k, n + v] += factor * (aw * by + bw * ay + turn * cy)
        found[k, 2 * n + v] += factor * (aw * bz + bw * az + turn * cz)


@numba.njit(cache=True, fastmath=FASTMATH)
def _add_spin_cotangent(found, y, x, factor, m, count, h):
    """found_k (3 lanes) += factor d/dS_k <y_k, (S_k . sigma) x_k>; y of walks of m steps."""
    sublattice, parts = h[3:]
    for k in range(count):
        if len(parts) == 2:
            _add_overlap(found, y, EVEN, x, ODD, k, factor, PLUS)
            _add_overlap(found, y, ODD, x, EVEN, k, factor, MINUS)
        else:
            turn = MINUS if (m + sublattice[k]) & 1 else PLUS
            _add_overlap(found, y, ONLY, x, ONLY, k, factor, turn)


@numba.njit(cache=True, fastmath=FASTMATH)
def _reverse_walk(found, last, x, g, s, exchange, counts, h, out):
    """Cotangents y[n] of x[n], n falling, of which ``last`` keeps three; collect the spins'.

    From the recursion y[n] = 2 H y[n+1] - y[n+2], from the doubled moments of orders 2 n and
    2 n +- 1 the products with x[n] and x[n+-1], and at the center the moment of order n.
    """
    n_steps, n, parts = counts.shape[0] - 1, LANES, h[4]
    for m in range(n_steps, 0, -1):
        y, after, later = last[m % 3], last[(m + 1) % 3], last[(m + 2) % 3]
        if m < n_steps:
            for k in range(counts[m]):
                _step(y, later, after, k, m, s, h, TWO, out)
            if n_steps < 2 * m + 1:
                _add_times(y, x[m + 1], g, 2 * m + 1, TWO, m, counts[m], h)
        if n_steps < 2 * m:
            _add_times(y, x[m], g, 2 * m, FOUR, m, counts[m], h)
        if n_steps < 2 * m - 1:
            _add_times(y, x[m - 1], g, 2 * m - 1, TWO, m, counts[m - 1], h)
        if len(parts) == 2 or m % 2 == 0:
            y[0, :n] += g[m, :n]
        if len(parts) == 2 or m % 2:
            odd = parts[-1]
            y[0, odd + n : odd + 4 * n] += g[m, n:]
        own = TWO * exchange if m > 1 else exchange
        _add_spin_cotangent(found, y, x[m - 1], own, m, counts[m - 1], h)


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _reverse(n_threads, spins, onsite, exchange, table, counts, parts, terms, cotangent):
    """(n_blocks, K, 3 lanes): the cotangent of the spins of every cluster."""
    n_cluster, n_steps = table.shape[1], counts.shape[0] - 1
    total = spins.shape[0] * table.shape[0]
    n_blocks = -(-total // LANES)
    clusters = np.zeros((n_blocks, n_cluster, 3 * LANES), spins.dtype)
    for thread in numba.prange(n_threads):
        h = (*terms, parts)
        x = np.zeros((n_steps + 2, n_cluster + 1, ROW * len(parts)), spins.dtype)
        x[0, 0, :LANES] = 1
        last = np.zeros((3, n_cluster + 1, x.shape[2]), spins.dtype)
        s = np.empty((n_cluster, ROW), spins.dtype)
        out = np.empty(x.shape[2], spins.dtype)
        g = np.zeros((2 * n_steps + 1, ROW), spins.dtype)
        for block in range(thread * n_blocks // n_threads, (thread + 1) * n_blocks // n_threads):
            first = block * LANES
            _load(s, spins, onsite, exchange, table, first)
            _walk(x, s, counts, h, out)
            for v in range(min(LANES, total - first)):
                for m in range(2 * n_steps):
                    for a in range(4):
                        g[m + 1, a * LANES + v] = cotangent[first + v, m, a]
            for order in range(n_steps + 1, 2 * n_steps + 1):
                g[order % 2] -= g[order]
            last[:] = 0
            _reverse_walk(clusters[block], last, x, g, s, exchange, counts, h, out)
    return clusters


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _gathered(parts, spins, cells, opposite, basis, n_basis):
    """Cotangent of every spin: the sum over the clusters that hold it, always in one order.

    Site j is at place k of the cluster around the site that lies opposite k from j, in the cell
    cells[j, opposite[k]], if it is the site basis[k] of its own.
    """
    n_sites, n_cluster, n = spins.shape[1], parts.shape[1], LANES
    n_centers = n_sites // n_basis
    found = np.empty_like(spins)
    for site in numba.prange(spins.shape[0] * n_sites):
        b, j = site // n_sites, site % n_sites
        zero, own = spins.dtype.type(0), j % n_basis
        fx, fy, fz = zero, zero, zero
        for k in range(n_cluster):
            if basis[k] != own:
                continue
            center = b * n_centers + cells[j, opposite[k]]
            part, v = parts[center // LANES, k], center % LANES
            fx += part[v]
            fy += part[n + v]
            fz += part[2 * n + v]
        found[b, j, 0], found[b, j, 1], found[b, j, 2] = fx, fy, fz
    return found


# --- torch, on any device: the same steps on (centers, K, 8)


def _torch_moments(spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    found = [_cluster_moments(s, walks) for s in _clusters(spins, table, walks)]
    return _in_batches(torch.cat(found), spins, walks)


def _torch_tangent(direction: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    pairs = zip(*(_clusters(x, table, walks) for x in (spins, direction)), strict=True)
    found = [torch.func.jvp(lambda x: _cluster_moments(x, walks), (s,), (d,))[1] for s, d in pairs]
    return _in_batches(torch.cat(found), spins, walks)


def _torch_adjoint(cotangent: Tensor, spins: Tensor, table: Tensor, walks: Walks) -> Tensor:
    rows = cotangent.detach().reshape(-1, 2 * walks.n_steps, 4).split(CHUNK)
    parts = []
    for s, g in zip(_clusters(spins, table, walks), rows, strict=True):
        pull_back = torch.func.vjp(lambda x: _cluster_moments(x, walks), s)[1]
        parts.append(pull_back(g)[0])
    every = torch.cat(parts).reshape(-1, *walks.clusters(table).shape, 3)  # (B, centers, K, 3)
    found = spins.new_empty(len(every), *spins.shape[-2:])
    for b in range(walks.n_basis):
        places = torch.as_tensor(np.flatnonzero(walks.basis == b), device=table.device)
        opposite = torch.as_tensor(walks.opposite, device=table.device)[places]
        centers = table[b :: walks.n_basis, opposite] // walks.n_basis
        found[:, b :: walks.n_basis] = every[:, centers, places].sum(2)
    return found.reshape(spins.shape)


def _clusters(spins: Tensor, table: Tensor, walks: Walks) -> Iterator[Tensor]:
    """Spins (centers, K, 3) around the centers of all configurations, a chunk at a time."""
    flat = spins.detach().reshape(-1, *spins.shape[-2:])
    rows = walks.clusters(table)
    n_centers = len(rows)
    for centers in torch.arange(flat.shape[0] * n_centers, device=spins.device).split(CHUNK):
        yield flat[(centers // n_centers)[:, None], rows[centers % n_centers]]


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
    w, a, b = x[..., :2], x[..., 2:5], x[..., 5:]

    def hopped(amplitudes: FloatArray, y: Tensor) -> Any:
        t = torch.as_tensor(amplitudes, dtype=x.dtype, device=x.device)
        return sum(t[:, z, None] * y[:, neighbors[:, z]] for z in range(neighbors.shape[1]))

    hx = hopped(walks.amplitudes, padded)
    if walks.phases.size:
        turned = [-padded[..., 1:2], padded[..., :1], -padded[..., 5:], padded[..., 2:5]]  # i x
        hx = hx + hopped(walks.phases, torch.cat(turned, dim=-1))
    parts = [(s * a).sum(-1, keepdim=True), (s * b).sum(-1, keepdim=True)]
    parts.append(w[..., :1] * s - torch.linalg.cross(s, b))
    parts.append(w[..., 1:] * s + torch.linalg.cross(s, a))
    return hx + walks.onsite * x + walks.exchange * torch.cat(parts, dim=-1)


def _block(x: Tensor, y: Tensor) -> Tensor:
    """(centers, 4): the numbers (w, v) of the Hermitian part of sum_k x_k+ y_k."""
    a, b, c, d = x[..., 2:5], x[..., 5:], y[..., 2:5], y[..., 5:]
    vector = x[..., :1] * c + x[..., 1:2] * d + y[..., :1] * a + y[..., 1:2] * b
    vector = vector - torch.linalg.cross(a, d) + torch.linalg.cross(b, c)
    return torch.cat([(x * y).sum(-1, keepdim=True), vector], dim=-1).sum(1)
