"""Where an order parameter of two signs sets in: cumulants of its samples, with errors.

Samples m are values of the mean chirality (or of <sign chi>) at one temperature and size, in the
order in which they were drawn; errors are those of a jackknife over consecutive blocks, which must
be longer than the autocorrelation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
N_BLOCKS = 20


class TooShortError(ValueError):
    """A series with fewer samples than its autocorrelation asks for; ``estimate`` is a guess."""

    def __init__(self, n_samples: int, estimate: float) -> None:
        needed = "must be many more than their autocorrelation time"
        super().__init__(f"samples: {needed}, about {estimate:.3g}, got {n_samples}")
        self.estimate = estimate


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    error: float


def binder_cumulant(samples: ArrayLike, n_blocks: int = N_BLOCKS) -> Measured:
    """U = 1 - <m^4> / (3 <m^2>^2) of samples (n,): 0 for Gaussian m, 2/3 for m = +-m0.

    Curves of different sizes cross at a continuous transition. At a first-order one U has a
    minimum, the deeper the larger the size, and goes below zero. Binder, Z. Phys. B 43, 119
    (1981), doi 10.1007/BF01293604.
    """
    m = _samples(samples, n_blocks)
    powers = np.stack([m**2, m**4])
    return jackknife(powers, lambda mean: 1 - mean[1] / (3 * mean[0] ** 2), n_blocks)


def susceptibility(
    samples: ArrayLike, n_sites: int, kT: float, n_blocks: int = N_BLOCKS
) -> Measured:
    """N (<m^2> - <|m|>^2) / kT of samples (n,) of the mean over N sites, in 1 / t.

    With <|m|> it has a maximum at the transition of every finite size. Above the transition
    <m> = 0 and N <m^2> / kT, larger by 1 / (1 - 2 / pi), is the response itself.
    """
    if n_sites < 1 or not kT > 0:
        raise ValueError(f"n_sites, kT: must be positive, got {n_sites} and {kT}")
    m = _samples(samples, n_blocks)
    powers = np.stack([m**2, np.abs(m)])
    scale = n_sites / kT
    return jackknife(powers, lambda mean: scale * (mean[0] - mean[1] ** 2), n_blocks)


def energy_cumulant(energies: ArrayLike, n_blocks: int = N_BLOCKS) -> Measured:
    """V = 1 - <e^4> / (3 <e^2>^2) of energies per site (n,), for the order of the transition.

    2/3 for a single sharp energy, so everywhere in the limit of large sizes but at a first-order
    transition with latent heat, where two energies keep it below. Challa, Landau and Binder,
    Phys. Rev. B 34, 1841 (1986), doi 10.1103/PhysRevB.34.1841. It depends on the zero of energy.
    """
    e = _samples(energies, n_blocks)
    # Jackknife of the deviation from 2/3, which is small: the plain powers would cancel.
    mean = e.mean()
    powers = np.stack([e - mean, (e - mean) ** 2, (e - mean) ** 3, (e - mean) ** 4])

    def cumulant(d: FloatArray) -> float:
        second = mean**2 + 2 * mean * d[0] + d[1]
        fourth = mean**4 + 4 * mean**3 * d[0] + 6 * mean**2 * d[1] + 4 * mean * d[2] + d[3]
        return float(1 - fourth / (3 * second**2))

    return jackknife(powers, cumulant, n_blocks)


def specific_heat(
    energies: ArrayLike, n_sites: int, kT: float, n_blocks: int = N_BLOCKS
) -> Measured:
    """N (<e^2> - <e>^2) / kT^2 of energies per site (n,), per site and in units of k."""
    if n_sites < 1 or not kT > 0:
        raise ValueError(f"n_sites, kT: must be positive, got {n_sites} and {kT}")
    e = _samples(energies, n_blocks)
    e = e - e.mean()
    scale = n_sites / kT**2
    powers = np.stack([e, e**2])
    return jackknife(powers, lambda mean: scale * (mean[1] - mean[0] ** 2), n_blocks)


def autocorrelation_time(samples: ArrayLike, window: float = 5.0) -> float:
    """Integrated autocorrelation time 1 + 2 sum rho(k) of samples (n,), in samples.

    The sum ends at the first k >= window times the time so far: Sokal's automatic window. The
    number of independent samples is n over this time; blocks of a jackknife should hold several.

    Raises
    ------
    TooShortError
        The window does not close in the first half of the lags, beyond which few pairs of samples
        are left: the time is not known from so few samples.
    """
    m = _samples(samples, 2)
    m = m - m.mean()
    spectrum = np.abs(np.fft.rfft(m, 2 * len(m))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(m)]
    if not correlation[0] > 0:
        raise ValueError("samples: must vary, all are equal")
    times = 2 * np.cumsum(correlation / correlation[0]) - 1
    half = times[: len(m) // 2 + 1]
    done = np.flatnonzero(np.arange(len(half)) >= window * half)
    if not len(done):
        raise TooShortError(len(m), float(half.max()))
    return float(half[done[0]])


def jackknife(
    values: FloatArray, statistic: Callable[[FloatArray], float], n_blocks: int = N_BLOCKS
) -> Measured:
    """A function of means (k,) of values (k, n) in time order, and its error from left-out blocks.

    error^2 = (b - 1) / b sum_i (f_i - f)^2 over b blocks; samples beyond b equal blocks are
    dropped at the front. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (SIAM,
    1982).
    """
    size = values.shape[1] // n_blocks
    blocks = values[:, values.shape[1] - size * n_blocks :]
    blocks = blocks.reshape(len(values), n_blocks, size).mean(-1)
    total = blocks.mean(-1)
    left_out = (total[:, None] * n_blocks - blocks) / (n_blocks - 1)
    found = np.array([statistic(column) for column in left_out.T])
    error = np.sqrt((n_blocks - 1) / n_blocks * ((found - found.mean()) ** 2).sum())
    return Measured(float(statistic(total)), float(error))


def _samples(samples: ArrayLike, n_blocks: int) -> FloatArray:
    m = np.asarray(samples, dtype=float)
    if m.ndim != 1 or not np.isfinite(m).all():
        raise ValueError(f"samples: must be finite numbers (n,), got shape {m.shape}")
    if not 2 <= n_blocks <= len(m):
        raise ValueError(f"n_blocks: must be in [2, {len(m)}], got {n_blocks}")
    return m
