"""Chebyshev recursions of a sparse spin-1/2 Hamiltonian on many vectors at once, without a matrix.

With alpha_0 = r, alpha_1 = H r and alpha_{m+1} = 2 H alpha_m - alpha_{m-1}, that is
alpha_m = T_m(H) r, three quantities are computed for a set of probing vectors r:

- :func:`moments`      mu_n = sum_r r+ T_n(H) r,
- :func:`gradient`     the derivative of E = sum_n c_n mu_n with respect to H, site by site,
- :func:`expectation`  the 2 x 2 blocks of sum_r f(H) r r+ with f = sum_n c_n T_n.

Compiled loops do the work in parallel over blocks of vectors on the CPU, or torch on any device.
Both give the same results.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdml import files

files.prepare_kernel_cache()

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
LANES = 16
"""Vectors that one thread carries through the recursion together, innermost in memory."""
ROW = 4 * LANES
FUSED = 4
"""Neighbours that the last loop of a step adds; tables are padded to at least as many."""
FASTMATH = {"nnan", "ninf", "nsz", "arcp", "contract", "afn"}
"""All of fast math but other orders of sums: with these a process that compiles a kernel and one
that finds it compiled may add in different orders, and a resumed run would not be the same run."""
FACTORS = np.array([[0.5, 0.0], [1.0, 1.0]])
"""y = factor 2 H x - minus y in the first step, and in all others."""


@dataclass(frozen=True)
class Hamiltonian:
    """H with spectrum in [-1, 1], applied to a vector x of spinors:

        (H x)_i = sum_k t_ik x_j(i,k) + sum_k T_ik x_l(i,k) + (c_i + b_i . sigma) x_i.

    Attributes
    ----------
    neighbors : (N, z) integers
        Sites j(i, k); z is even and at least 4.
    amplitudes : (N, z)
        Real t_ik, 0 for padding.
    onsite : (N, 4)
        b_x, b_y, b_z and c of every site; float32 or float64 decides the precision of all.
    partners : (N, y) integers
        Sites l(i, k) of general hops; y is 0 without any.
    blocks : (N, y, 2, 2) complex
        T_ik, 0 for padding.
    compiled : bool
        Whether compiled loops do the work, on the CPU, or torch, on the device of the tables.
    """

    neighbors: Tensor
    amplitudes: Tensor
    onsite: Tensor
    partners: Tensor
    blocks: Tensor
    compiled: bool = False


def moments(hamiltonian: Hamiltonian, vectors: Any, n_moments: int) -> tuple[FloatArray, Any]:
    """Moments mu_n = sum_r Re r+ T_n(H) r, n < n_moments, from n_moments / 2 applications of H.

    mu_2m = 2 alpha_m+ alpha_m - mu_0 and mu_2m+1 = 2 alpha_m+1+ alpha_m - mu_1; Weisse et al.,
    Rev. Mod. Phys. 78, 275 (2006), section II.B.

    Parameters
    ----------
    hamiltonian : Hamiltonian
    vectors : (N, 2, n) complex array
        The probing vectors r.
    n_moments : int
        Even.

    Returns
    -------
    (n_moments,) array, and the state after the last step, which :func:`gradient` takes up.

    Raises
    ------
    RuntimeError
        A vector has grown: the spectrum is not inside [-1, 1].
    """
    half = n_moments // 2
    if hamiltonian.compiled:
        state = _packed(vectors, hamiltonian.onsite.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # judged below
            products = _forward(*_tables(hamiltonian), state, half).sum(axis=0)
    else:
        products, state = _torch_forward(hamiltonian, vectors, half)
    norm = products[0, 0]
    # |T_n| <= 1 on the spectrum, so that no vector is longer than the first one.
    slack = 1e3 * float(np.finfo(_numpy_type(hamiltonian)).eps)
    if not products[:, 0].max() <= norm * (1 + slack):
        raise RuntimeError("energy bounds: the spectrum exceeds them, a Chebyshev vector grows")
    mu = 2 * products.ravel()
    mu[0::2] -= norm
    mu[1::2] -= products[0, 1]
    return mu, state


def gradient(hamiltonian: Hamiltonian, state: Any, coefficients: FloatArray) -> ComplexArray:
    """dE/db and dE/dc of E = sum_n c_n mu_n, the real part of an (N, 4) array.

    Reverse mode through :func:`moments`.

    With A_m = 2 c_2m, B_m = 2 c_2m+1 and alpha_m-1 = 2 H alpha_m - alpha_m+1 recomputed backwards,

        lambda_m = 2 H lambda_m+1 - lambda_m+2
                   + A_m alpha_m + B_m alpha_m+1 / 2 + B_m-1 alpha_m-1 / 2,
        dE = 2 Re sum_m (2 - delta_m0) lambda_m+1+ dH alpha_m.

    No vector of the way forward is stored. The imaginary part, 2 Im of the same products, vanishes
    for the exact trace; it is about as large as the error that probing vectors leave. Wang, Chern,
    Batista and Barros, J. Chem. Phys. 148, 094107 (2018), arXiv:1711.10570.

    Parameters
    ----------
    state
        From :func:`moments` with as many moments as there are coefficients; it is used up.
    coefficients : (n_moments,)
        c_n, with the factor 2 of n > 0 included.
    """
    weights = _reverse_weights(np.asarray(coefficients, dtype=np.float64))
    if not hamiltonian.compiled:
        return _torch_backward(hamiltonian, state, weights)
    weights = weights.astype(_numpy_type(hamiltonian))
    return _complex(_backward(*_tables(hamiltonian), state, weights))


def expectation(hamiltonian: Hamiltonian, vectors: Any, coefficients: FloatArray) -> ComplexArray:
    """sum_r r_i+ (sigma_x, sigma_y, sigma_z, 1) (f(H) r)_i, (N, 4), for f = sum_n c_n T_n.

    The expectation values are the real part; the imaginary part is as in :func:`gradient`.
    """
    if not hamiltonian.compiled:
        return _torch_expectation(hamiltonian, vectors, coefficients)
    first = _packed(vectors, hamiltonian.onsite.dtype)
    weights = coefficients.astype(_numpy_type(hamiltonian))
    return _complex(_expectation(*_tables(hamiltonian), first, weights))


def _complex(parts: FloatArray) -> ComplexArray:
    """Sum over blocks of real and imaginary parts (n_blocks, N, 8), as (N, 4)."""
    total = parts.sum(axis=0)
    return total[:, :4] + 1j * total[:, 4:]


def _reverse_weights(c: FloatArray) -> FloatArray:
    """(half + 1, 3) rows A_m, B_m / 2, B_m-1 / 2 of :func:`gradient`."""
    half = len(c) // 2
    weights = np.zeros((half + 1, 3))
    weights[:half, 0] = 2 * c[0::2]
    weights[:half, 1] = c[1::2]
    # mu_1 is subtracted from every odd moment, and is alpha_1+ alpha_0 without the factor 2.
    weights[0, 1] = (c[1] - c[3::2].sum()) / 2
    weights[1:, 2] = weights[:-1, 1]
    return weights


def _numpy_type(hamiltonian: Hamiltonian) -> Any:
    return np.float64 if hamiltonian.onsite.dtype == torch.float64 else np.float32


# --- compiled loops: vectors as rows (site, component, lane), component = up re, up im, down re, im


def _tables(hamiltonian: Hamiltonian) -> tuple[Any, Any]:
    """The tables of 2 H, and the factors of a step, as arrays.

    Twice, because every step but the first applies 2 H. The on-site terms are written as
    (b_x, b_y, c + b_z, c - b_z), a general hop as the real and imaginary parts of its elements.
    """
    files.require_kernel_threads()
    bx, by, bz, c = (2 * hamiltonian.onsite.numpy()).T
    onsite = np.stack([bx, by, c + bz, c - bz], axis=1)
    # Unsigned indices spare the loops the test for negative ones.
    neighbors = hamiltonian.neighbors.numpy().astype(np.uint64)
    partners = hamiltonian.partners.numpy().astype(np.uint64)
    parts = torch.view_as_real(2 * hamiltonian.blocks).flatten(2).numpy()
    amplitudes = 2 * hamiltonian.amplitudes.numpy()
    # Its number of axes is part of the type: loops of plain hops are compiled without the others.
    general = np.zeros((0, 0) if partners.size else 0)
    tables = neighbors, amplitudes, onsite, partners, parts, general
    return tables, FACTORS.astype(onsite.dtype)


def _packed(vectors: Any, real: torch.dtype) -> Any:
    """(n_blocks, 2, N, ROW): pairs alpha_0 = vectors and 0, padded with zero vectors.

    Memory of torch begins at a cache line, that of numpy may not, and lanes on two lines are slow.
    """
    n_sites, _, n = vectors.shape
    n_blocks = -(-n // LANES)
    state = torch.zeros((n_blocks, 2, n_sites, 2, 2, LANES), dtype=real).numpy()
    for block in range(n_blocks):
        part = vectors[:, :, block * LANES : (block + 1) * LANES]
        state[block, 0, :, :, 0, : part.shape[-1]] = part.real
        state[block, 0, :, :, 1, : part.shape[-1]] = part.imag
    return state.reshape(n_blocks, 2, n_sites, ROW)


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _far(out, x, i, h):
    """out = the part of (2 H x)_i from all but the first four neighbours."""
    neighbors, amplitudes, onsite, partners, parts, general = h
    bx, by, up, down = onsite[i, 0], onsite[i, 1], onsite[i, 2], onsite[i, 3]
    for v in range(LANES):
        ur, ui = x[i, v], x[i, LANES + v]
        dr, di = x[i, 2 * LANES + v], x[i, 3 * LANES + v]
        out[v] = up * ur + bx * dr + by * di
        out[LANES + v] = up * ui + bx * di - by * dr
        out[2 * LANES + v] = down * dr + bx * ur - by * ui
        out[3 * LANES + v] = down * di + bx * ui + by * ur
    for k in range(FUSED, neighbors.shape[1], 2):
        j, l = neighbors[i, k], neighbors[i, k + 1]  # noqa: E741
        tj, tl = amplitudes[i, k], amplitudes[i, k + 1]
        for c in range(ROW):
            out[c] += tj * x[j, c] + tl * x[l, c]
    for k in range(partners.shape[1] if general.ndim == 2 else 0):
        j, t = partners[i, k], parts[i, k]
        for v in range(LANES):
            ur, ui = x[j, v], x[j, LANES + v]
            dr, di = x[j, 2 * LANES + v], x[j, 3 * LANES + v]
            out[v] += t[0] * ur - t[1] * ui + t[2] * dr - t[3] * di
            out[LANES + v] += t[0] * ui + t[1] * ur + t[2] * di + t[3] * dr
            out[2 * LANES + v] += t[4] * ur - t[5] * ui + t[6] * dr - t[7] * di
            out[3 * LANES + v] += t[4] * ui + t[5] * ur + t[6] * di + t[7] * dr


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _folded(lanes):
    """Sum over lanes, which are used up: in halves, as vector units add."""
    for v in range(LANES // 2):
        lanes[v] += lanes[v + LANES // 2]
    for v in range(LANES // 4):
        lanes[v] += lanes[v + LANES // 4]
    for v in range(1, LANES // 4):
        lanes[0] += lanes[v]
    return lanes[0]


@numba.njit(cache=True, fastmath=FASTMATH)
def _step(x, y, part, h, factor, minus):
    """y = factor 2 H x - minus y; returns x+ x and y+ x summed over sites and vectors."""
    neighbors, amplitudes = h[0], h[1]
    xx, xy = np.zeros(LANES), np.zeros(LANES)
    for i in range(x.shape[0]):
        _far(part, x, i, h)
        j0, j1, j2, j3 = neighbors[i, 0], neighbors[i, 1], neighbors[i, 2], neighbors[i, 3]
        t0, t1, t2, t3 = amplitudes[i, 0], amplitudes[i, 1], amplitudes[i, 2], amplitudes[i, 3]
        for c in range(ROW):
            hx = part[c] + t0 * x[j0, c] + t1 * x[j1, c] + t2 * x[j2, c] + t3 * x[j3, c]
            y[i, c] = factor * hx - minus * y[i, c]
        for v in range(LANES):
            ur, ui = x[i, v], x[i, LANES + v]
            dr, di = x[i, 2 * LANES + v], x[i, 3 * LANES + v]
            xx[v] += ur * ur + ui * ui + dr * dr + di * di
            of_up = ur * y[i, v] + ui * y[i, LANES + v]
            xy[v] += of_up + dr * y[i, 2 * LANES + v] + di * y[i, 3 * LANES + v]
    return xx.sum(), xy.sum()


@numba.njit(cache=True, parallel=True)
def _forward(h, factors, state, half):
    """alpha_m+ alpha_m and alpha_m+1+ alpha_m of every block, (n_blocks, half, 2).

    ``state`` (n_blocks, 2, N, ROW) holds alpha_0 on entry, and alpha_half in place ``half % 2``,
    alpha_half-1 in the other on return.
    """
    n_blocks = state.shape[0]
    products = np.zeros((n_blocks, half, 2))
    for block in numba.prange(n_blocks):
        part = np.empty(ROW, state.dtype)
        for m in range(half):
            x, y = state[block, m % 2], state[block, (m + 1) % 2]
            factor, minus = factors[min(m, 1)]
            found = _step(x, y, part, h, factor, minus)
            products[block, m, 0], products[block, m, 1] = found
    return products


@numba.njit(cache=True, fastmath=FASTMATH)
def _reverse_step(a, b, p, q, scratch, h, weight, factor, found):
    """From alpha_m, alpha_m+1, lambda_m+1, lambda_m+2 = a, b, p, q: b = alpha_m-1, q = lambda_m.

    Adds factor * lambda_m+1+ (sigma, 1) alpha_m to ``found`` (N, 8).
    """
    ha, hp = scratch[0], scratch[1]
    neighbors, amplitudes = h[0], h[1]
    sums = np.empty((8, LANES), a.dtype)
    w0, w1, w2 = weight[0], weight[1], weight[2]
    for i in range(a.shape[0]):
        _far(ha, a, i, h)
        _far(hp, p, i, h)
        j0, j1, j2, j3 = neighbors[i, 0], neighbors[i, 1], neighbors[i, 2], neighbors[i, 3]
        t0, t1, t2, t3 = amplitudes[i, 0], amplitudes[i, 1], amplitudes[i, 2], amplitudes[i, 3]
        for c in range(ROW):
            next_a = b[i, c]
            before = ha[c] + t0 * a[j0, c] + t1 * a[j1, c] + t2 * a[j2, c] + t3 * a[j3, c] - next_a
            b[i, c] = before
            ha[c] = w0 * a[i, c] + w1 * next_a + w2 * before
        for c in range(ROW):
            back = hp[c] + t0 * p[j0, c] + t1 * p[j1, c] + t2 * p[j2, c] + t3 * p[j3, c]
            q[i, c] = back + ha[c] - q[i, c]
        _add_expectation(a, p, i, factor, found, sums)


@numba.njit(cache=True, fastmath=FASTMATH, inline="always")
def _add_expectation(a, p, i, factor, found, sums):
    """found[i] += factor * p_i+ (sigma_x, sigma_y, sigma_z, 1) a_i summed over lanes, Re and Im."""
    for v in range(LANES):
        aur, aui = a[i, v], a[i, LANES + v]
        adr, adi = a[i, 2 * LANES + v], a[i, 3 * LANES + v]
        pur, pui = p[i, v], p[i, LANES + v]
        pdr, pdi = p[i, 2 * LANES + v], p[i, 3 * LANES + v]
        sums[0, v] = pur * aur + pui * aui
        sums[1, v] = pur * aui - pui * aur
        sums[2, v] = pdr * adr + pdi * adi
        sums[3, v] = pdr * adi - pdi * adr
        sums[4, v] = pur * adr + pui * adi
        sums[5, v] = pur * adi - pui * adr
        sums[6, v] = pdr * aur + pdi * aui
        sums[7, v] = pdr * aui - pdi * aur
    up, up_i, down, down_i = _folded(sums[0]), _folded(sums[1]), _folded(sums[2]), _folded(sums[3])
    raised, raised_i = _folded(sums[4]), _folded(sums[5])
    lowered, lowered_i = _folded(sums[6]), _folded(sums[7])
    found[i, 0] += factor * (raised + lowered)
    found[i, 1] += factor * (raised_i - lowered_i)
    found[i, 2] += factor * (up - down)
    found[i, 3] += factor * (up + down)
    found[i, 4] += factor * (raised_i + lowered_i)
    found[i, 5] += factor * (lowered - raised)
    found[i, 6] += factor * (up_i - down_i)
    found[i, 7] += factor * (up_i + down_i)


@numba.njit(cache=True, parallel=True)
def _backward(h, factors, state, weights):
    """Expectations of every block, (n_blocks, N, 8); ``state`` as :func:`_forward` leaves it."""
    n_blocks, n_sites = state.shape[0], state.shape[2]
    half = weights.shape[0] - 1
    found = np.zeros((n_blocks, n_sites, 8))
    for block in numba.prange(n_blocks):
        scratch, sums = np.empty((2, ROW), state.dtype), np.empty((8, LANES), state.dtype)
        adjoint = np.zeros((2, n_sites, ROW), state.dtype)
        last, final = adjoint[half % 2], state[block, (half - 1) % 2]
        for i in range(n_sites):
            for c in range(ROW):
                last[i, c] = weights[half, 2] * final[i, c]
        for m in range(half - 1, 0, -1):
            a, b = state[block, m % 2], state[block, (m + 1) % 2]
            p, q = adjoint[(m + 1) % 2], adjoint[m % 2]
            _reverse_step(a, b, p, q, scratch, h, weights[m], 4.0, found[block])
        for i in range(n_sites):
            _add_expectation(state[block, 0], adjoint[1], i, 2.0, found[block], sums)
    return found


@numba.njit(cache=True, parallel=True, fastmath=FASTMATH)
def _expectation(h, factors, first, coefficients):
    """r_i+ (sigma, 1) (f(H) r)_i of every block, real and imaginary parts (n_blocks, N, 8)."""
    n_blocks, n_sites = first.shape[0], first.shape[2]
    found = np.zeros((n_blocks, n_sites, 8))
    for block in numba.prange(n_blocks):
        part, sums = np.empty(ROW, first.dtype), np.empty((8, LANES), first.dtype)
        probes, total = first[block, 0].copy(), coefficients[0] * first[block, 0]
        for m in range(coefficients.shape[0] - 1):
            x, y = first[block, m % 2], first[block, (m + 1) % 2]
            factor, minus = factors[min(m, 1)]
            _step(x, y, part, h, factor, minus)
            for i in range(n_sites):
                for c in range(ROW):
                    total[i, c] += coefficients[m + 1] * y[i, c]
        for i in range(n_sites):
            _add_expectation(total, probes, i, 1.0, found[block], sums)
    return found


# --- torch, on any device: vectors (N, 2, n) complex


def _as_tensor(hamiltonian: Hamiltonian, vectors: Any) -> Tensor:
    onsite = hamiltonian.onsite
    return torch.as_tensor(vectors).to(onsite.device, onsite.dtype.to_complex())


def twice(hamiltonian: Hamiltonian, x: Tensor) -> Tensor:
    """2 H x for vectors (N, 2, n)."""
    bx, by, bz, c = (2 * hamiltonian.onsite).unsqueeze(-1).unbind(1)
    flip = torch.complex(bx, -by)
    up, down = x[:, 0], x[:, 1]
    out = torch.stack([(c + bz) * up + flip * down, (c - bz) * down + flip.conj() * up], dim=1)
    for k in range(hamiltonian.neighbors.shape[1]):
        amplitude = 2 * hamiltonian.amplitudes[:, k, None, None]
        out += amplitude * x[hamiltonian.neighbors[:, k]]
    for k in range(hamiltonian.partners.shape[1]):
        out += 2 * hamiltonian.blocks[:, k] @ x[hamiltonian.partners[:, k]]
    return out


def _torch_forward(
    hamiltonian: Hamiltonian, vectors: Any, half: int
) -> tuple[FloatArray, tuple[Tensor, Tensor]]:
    """alpha_m+ alpha_m and alpha_m+1+ alpha_m, (half, 2), and (alpha_half-1, alpha_half)."""
    x = _as_tensor(hamiltonian, vectors)
    y = twice(hamiltonian, x) / 2
    products = torch.zeros((half, 2), dtype=torch.float64, device=x.device)
    for m in range(half):
        products[m, 0], products[m, 1] = _overlap(x, x), _overlap(x, y)
        if m < half - 1:
            x, y = y, twice(hamiltonian, y) - x
    return products.cpu().numpy(), (x, y)


def _overlap(x: Tensor, y: Tensor) -> Tensor:
    """Re sum x* y in double precision."""
    product = torch.view_as_real(x) * torch.view_as_real(y)
    return product.flatten(1).sum(dim=1).double().sum()


def _torch_backward(
    hamiltonian: Hamiltonian, state: tuple[Tensor, Tensor], weights: FloatArray
) -> ComplexArray:
    """See :func:`gradient`."""
    a, b = state
    p, q = float(weights[-1, 2]) * a, torch.zeros_like(a)
    found = torch.zeros((a.shape[0], 4), dtype=torch.complex128, device=a.device)
    for m in range(len(weights) - 2, 0, -1):
        w0, w1, w2 = map(float, weights[m])
        found += 4 * _torch_pauli(p, a)
        before = twice(hamiltonian, a) - b
        back = twice(hamiltonian, p) - q + w0 * a + w1 * b + w2 * before
        a, b, p, q = before, a, back, p
    return (found + 2 * _torch_pauli(p, a)).cpu().numpy()


def _torch_expectation(
    hamiltonian: Hamiltonian, vectors: Any, coefficients: FloatArray
) -> ComplexArray:
    x = probes = _as_tensor(hamiltonian, vectors)
    y = twice(hamiltonian, x) / 2
    total = float(coefficients[0]) * x + float(coefficients[1]) * y
    for c in map(float, coefficients[2:]):
        x, y = y, twice(hamiltonian, y) - x
        total += c * y
    return _torch_pauli(probes, total).cpu().numpy()


def _torch_pauli(p: Tensor, a: Tensor) -> Tensor:
    """p_i+ (sigma_x, sigma_y, sigma_z, 1) a_i summed over vectors, (N, 4) complex128."""
    block = torch.einsum("isv,itv->ist", p.conj(), a).to(torch.complex128)
    up, down, raised, lowered = block[:, 0, 0], block[:, 1, 1], block[:, 0, 1], block[:, 1, 0]
    return torch.stack([raised + lowered, 1j * (lowered - raised), up - down, up + down], dim=1)
