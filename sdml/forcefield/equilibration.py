"""The chemical potential at which densities hold a given number of electrons.

The energy E(mu) = Omega(mu) + mu N_e of N_e electrons has the slope N_e - N(mu), and its maximum is
the Legendre transform of Omega. N of exact electrons rises with mu and equals N_e once. N of a
network may fall somewhere, as it does among the levels of polarons in the gap of the doped
antiferromagnet, and equal N_e several times. Then the root of the largest E is the one (Maxwell's
construction): only with it is the energy continuous in the spins that Omega depends on.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MARGINS = (0.05, 0.2, 0.5, 1.0)
"""How far beyond the given range the chemical potential is searched, in t."""
N_CELLS, SECANTS, ITERATIONS = 16, 8, 60
SAMPLE_ERROR = 0.03
"""Three standard errors of the mean of 64 to a hundred densities that scatter by 0.1."""
HALF_WIDTH = 0.01
"""Of the difference that estimates a slope, in t."""
SEARCHED_EVERY, CORRECTIONS = 8, 4
"""Along a run every eighth search begins from nothing, the others take so many steps at most."""

Excess = Callable[[Tensor], Tensor]
"""mu (k, ...) -> N(mu) - N_e per site (k, ...); also without the axis k."""


class Cell(NamedTuple):
    """Ends with too few and too many electrons, (...) each, and the excess there."""

    low: Tensor
    high: Tensor
    f_low: Tensor
    f_high: Tensor

    @property
    def crossing(self) -> Tensor:
        """Where the straight line between the ends vanishes."""
        return (self.low * self.f_high - self.high * self.f_low) / (self.f_high - self.f_low)


class Known(NamedTuple):
    """Of the searches along a run: mu (...), its last change, dN/dmu there, and how many so far."""

    mu: Tensor
    change: Tensor
    slope: Tensor
    n_searches: int


def followed(
    known: Known | None, excess: Excess, search: Callable[[], Tensor], tolerance: float
) -> Known:
    """The next search along a run: mu extrapolated from those before it, and corrected.

    The excess before the last correction is within the tolerance. Where the electrons have several
    mu the largest E may pass from one to another between two searches from nothing; E is then too
    low by what the two part within `SEARCHED_EVERY` fields.

    Parameters
    ----------
    known : Known or None
        What the search before gave.
    excess, tolerance
        See :func:`chemical_potential`.
    search : callable
        () -> mu (...) from nothing, for the first, for every `SEARCHED_EVERY`-th, and for each of
        the batch for which corrections do not suffice.
    """
    if known is None:
        mu = search()
        return Known(mu, torch.zeros_like(mu), _slope(excess, mu), 1)
    mu, slope, found = known.mu, known.slope, torch.zeros_like(known.mu, dtype=torch.bool)
    if known.n_searches % SEARCHED_EVERY:
        mu, missed, found = _secants(excess, mu + known.change, slope, tolerance, CORRECTIONS)
        mu = mu - missed / slope
    if not bool(found.all()):
        mu = torch.where(found, mu, search())
        slope = torch.where(found, slope, _slope(excess, mu))
    return Known(mu, mu - known.mu, slope, known.n_searches + 1)


def chemical_potential(
    excess: Excess, low: Tensor, high: Tensor, tolerance: float, sample: Excess | None = None
) -> Tensor:
    """mu (...) at which the excess vanishes and Omega + mu N_e is largest.

    Each of the batch by itself: what is found does not depend on the rest, but one that has none
    ends the search of all.

    Parameters
    ----------
    excess : callable
        Electrons per site less those wanted.
    low, high : (...)
        Where mu is expected, t. Left by :data:`MARGINS` only as far as it must be.
    tolerance : float
        Largest excess that counts as none.
    sample : callable, optional
        A cheap estimate of ``excess``, off by `SAMPLE_ERROR` at most. It is searched first, a few
        secant steps do the rest, and where it falls ``excess`` is asked for other roots.

    Raises
    ------
    RuntimeError
        If no mu in reach holds the electrons, or the search does not end.

    Notes
    -----
    Roots are compared by the areas under the excess at `N_CELLS` + 1 points; of two that differ by
    less than the error of these areas either may be taken, as if the energy had that error.
    """
    if sample is None:
        return _bracketed(excess, best_cell(*scan(excess, low, high)), tolerance)
    nodes, values = scan(sample, low, high)
    mu, found = _by_secants(excess, sample, nodes, values, tolerance)
    alone = found & ~_has_rival(excess, nodes, values, mu)
    if bool(alone.all()):
        return mu
    cell = best_cell(*scan(excess, low, high, at_once=1))
    return torch.where(alone, mu, _bracketed(excess, cell, tolerance))


def scan(
    excess: Excess, low: Tensor, high: Tensor, at_once: int = N_CELLS + 1
) -> tuple[Tensor, Tensor]:
    """Values of mu, ascending, and the excess there, (`N_CELLS` + 1, ...) each.

    There are too few electrons at the first and too many at the last. They are asked for
    ``at_once`` at a time: fast if many, of little memory if few.
    """
    first, last = low, high
    found = torch.zeros_like(low, dtype=torch.bool)
    shares = torch.linspace(0, 1, N_CELLS + 1).to(low).view(-1, *[1] * low.ndim)
    for margin in MARGINS:
        first = torch.where(found, first, low - margin)
        last = torch.where(found, last, high + margin)
        nodes = first + shares * (last - first)
        values = torch.cat([excess(part) for part in nodes.split(at_once)])
        found = (values[0] < 0) & (values[-1] > 0)
        if bool(found.all()):
            return nodes, values
    raise RuntimeError(
        f"chemical potential: none in [{float(first.min()):.2f}, {float(last.max()):.2f}] "
        "holds the electrons; the spins are unlike all training data"
    )


def best_cell(nodes: Tensor, values: Tensor) -> Cell:
    """Of the cells (...) in which the excess rises through zero that with the largest E.

    Without any, some cell.
    """
    low, high, width = values[:-1], values[1:], nodes.diff(dim=0)
    up_to_high = ((low + high) / 2 * width).cumsum(0)
    up_to_low = up_to_high - (low + high) / 2 * width
    # From there to the crossing the line bounds a triangle.
    area = up_to_low - low**2 / (high - low) * width / 2
    best = torch.where((low < 0) & (high >= 0), area, torch.inf).argmin(0, keepdim=True)
    return Cell(*(x.gather(0, best)[0] for x in (nodes[:-1], nodes[1:], low, high)))


def _has_rival(excess: Excess, nodes: Tensor, values: Tensor, mu: Tensor) -> Tensor:
    """Whether (...) there is another root, where the values of a sample fall with mu.

    To the left of the only root there are never too many electrons, to the right never too few.
    """
    falls = values[:-1] >= values[1:]
    left, right = falls & (nodes[:-1] < mu), falls & (nodes[1:] > mu)
    top, at_top = torch.where(left, values[:-1], -torch.inf).max(0, keepdim=True)
    bottom, at_bottom = torch.where(right, values[1:], torch.inf).min(0, keepdim=True)
    too_many, too_few = (top > -SAMPLE_ERROR)[0], (bottom < SAMPLE_ERROR)[0]
    if bool(too_many.any()):
        too_many &= excess(nodes[:-1].gather(0, at_top)[0]) > 0
    if bool(too_few.any()):
        too_few &= excess(nodes[1:].gather(0, at_bottom)[0]) < 0
    return too_many | too_few


def _by_secants(
    excess: Excess, sample: Excess, nodes: Tensor, values: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The last estimate (...), and whether its excess is within the tolerance.

    ``nodes`` and ``values`` are the :func:`scan` of the sample.
    """
    mu = best_cell(nodes, values).crossing
    missed = excess(mu)
    # What the sample misses is much the same at every mu.
    corrected = best_cell(nodes, values + missed).crossing
    mu = torch.where(missed.abs() < tolerance, mu, corrected)
    mu, _, found = _secants(excess, mu, _slope(sample, mu), tolerance, SECANTS)
    return mu, found


def _secants(
    excess: Excess, mu: Tensor, slope: Tensor, tolerance: float, n_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The last estimate (...), the excess there, and whether it is within the tolerance."""
    earlier, before = mu, torch.zeros_like(mu)
    for step in range(n_steps):
        now = excess(mu)
        found = now.abs() < tolerance
        if bool(found.all()):
            break
        if step:
            slope = (now - before) / (mu - earlier)
        # Without compressibility, far from the training data, the secant leads nowhere.
        change = now / torch.where(slope > 0, slope, torch.nan)
        earlier, before = mu, now
        # What is found stays: it does not depend on the rest of the batch.
        mu = torch.where(found, mu, mu - change)
    return mu, now, found


def _slope(excess: Excess, mu: Tensor) -> Tensor:
    below, above = excess(torch.stack([mu - HALF_WIDTH, mu + HALF_WIDTH]))
    return (above - below) / (2 * HALF_WIDTH)


def _bracketed(excess: Excess, cell: Cell, tolerance: float) -> Tensor:
    """The root (...) in a cell by false position with Illinois' rule; every fourth step bisects."""
    low, high, f_low, f_high = cell
    before, mu, found = torch.zeros_like(low), low, torch.zeros_like(low, dtype=torch.bool)
    for step in range(ITERATIONS):
        crossing = (low + high) / 2 if step % 4 == 3 else Cell(low, high, f_low, f_high).crossing
        # What is found stays: it does not depend on the rest of the batch.
        mu = torch.where(found, mu, crossing)
        now = excess(mu)
        found = now.abs() < tolerance
        if bool(found.all()):
            return mu
        side = now.sign()
        # An end that stays for the second time counts half: else it would stay for ever.
        weight = torch.where(side == before, 0.5, 1.0)
        below, before = side < 0, side
        low, high = torch.where(below, mu, low), torch.where(below, high, mu)
        f_low = torch.where(below, now, f_low * weight)
        f_high = torch.where(below, f_high * weight, now)
    worst = now.abs().argmax()
    raise RuntimeError(
        f"chemical potential: last estimate {mu.flatten()[worst]:.5f} leaves "
        f"{now.flatten()[worst].abs():.1e} electrons per site after {ITERATIONS} steps"
    )
