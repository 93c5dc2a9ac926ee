"""Is a force field still in its element? Readings along a run, with a warning and a stop.

A site is outside where its environment is farther from the training data than any of these
(:meth:`sdml.forcefield.ForceField.extrapolation` above 1) or, if a limit is set, where the members
of a committee differ by more than that.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Guard", "Limits", "OutsideTrainedRange"]


class OutsideTrainedRange(RuntimeError):  # noqa: N818, it is not the program that errs
    """The guard stopped a run; its store ends where it did."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a guard lets pass.

    Parameters
    ----------
    warn_above : float
        Fraction of sites outside that is worth one warning.
    stop_above : float, optional
        Fraction of sites outside that ends the run.
    spread_limit : float, optional
        Calibrated spread of a committee's local energies, in t, above which a site is outside.

    Raises
    ------
    ValueError
        No fraction.
    """

    warn_above: float = 0.01
    stop_above: float | None = None
    spread_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("warn_above", "stop_above"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: must be a fraction in [0, 1], got {value}")


@dataclass(frozen=True)
class Guard(Limits):
    """What watches over a force field that drives a run.

    Parameters
    ----------
    forcefield : ForceField or Committee
        With :meth:`readings`; with :meth:`spread` if it is a committee.
    **limits
        The fields of :class:`Limits`.

    Raises
    ------
    ValueError
        A limit that is not allowed or that the force field cannot be held to.
    """

    forcefield: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spread_limit is not None and not (self.is_committee and self.spread_limit > 0):
            raise ValueError(
                f"spread_limit: must be positive and needs a committee, got {self.spread_limit}"
            )
        if self.stop_above is not None and not self.quantities & {"outside"}:
            raise ValueError(
                f"stop_above: got {self.stop_above}, but which sites are outside is not known: the "
                "force field holds no spread of its training features (whitening is None); train "
                "it anew"
            )

    @property
    def is_committee(self) -> bool:
        return hasattr(self.forcefield, "spread")

    @property
    def knows_its_range(self) -> bool:
        """Whether the weights hold the spread of their training features."""
        members = getattr(self.forcefield, "members", (self.forcefield,))
        return all(getattr(member, "whitening", None) is not None for member in members)

    @property
    def quantities(self) -> set[str]:
        """Names of the readings."""
        outside = self.knows_its_range or self.spread_limit is not None
        known = {"energy_per_site": True, "outside": outside, "spread": self.is_committee}
        return {name for name, given in known.items() if given}

    def readings(self, spins: Tensor) -> dict[str, Tensor]:
        """``outside``, ``spread`` (root mean square, t) and ``energy_per_site`` (t), (...) each.

        Without ``outside`` where the force field cannot tell, see :meth:`announce`.
        """
        limits: dict[str, float | None] = {"extrapolation": 1.0} if self.knows_its_range else {}
        limits |= {"spread": self.spread_limit} if self.is_committee else {}
        read = self.forcefield.readings(spins, "energy", *limits)
        found = {"energy_per_site": read["energy"].double() / spins.shape[-2]}
        if "spread" in read:
            found["spread"] = read["spread"].double().square().mean(-1).sqrt()
        flags = [read[name] > limit for name, limit in limits.items() if limit is not None]
        if flags:
            found["outside"] = torch.stack(flags).any(0).double().mean(-1)
        return found

    def announce(self) -> None:
        """Warn if nothing will tell which sites are outside."""
        if "outside" not in self.quantities:
            warnings.warn(
                "guard: the force field holds no spread of its training features (whitening is "
                "None), so the sites outside its trained range are not recorded; train it anew",
                stacklevel=4,
            )

    def heed(self, readings: Mapping[str, Any], step: int, warned: bool) -> bool:
        """Whether a warning has been given, now or before; raises where the run must stop.

        Raises
        ------
        OutsideTrainedRange
            The fraction of sites outside exceeds ``stop_above``.
        """
        if "outside" not in readings:
            return warned
        fraction = float(readings["outside"].max())
        share = f"{100 * fraction:.3g} %"
        said = f"{share} of the sites are outside the trained range at step {step}"
        if self.stop_above is not None and fraction > self.stop_above:
            raise OutsideTrainedRange(f"guard: {said}, allowed are {100 * self.stop_above:g} %")
        if not warned and fraction > self.warn_above:
            expected = f"expected are {100 * self.warn_above:g} %"
            warnings.warn(f"guard: {said}, {expected}", stacklevel=3)
            return True
        return warned
