"""Several force fields of one model: their mean drives the spins, their spread tells what is known.

    E = 1/n sum_k E_k,     h_i = -dE/dS_i,

over members k that were trained alike from different seeds. They read one evaluation of the
descriptor, and the mean field costs one adjoint pass of it. Members that saw the same data agree
where the data decide; where they differ nothing decides. Two spreads of a site are offered,

    of the energies   sigma_i^2 = 1/(n-1) sum_k (eps_ki - mean eps_i)^2,
    of the fields     sigma_i^2 = 1/(n-1) sum_k |h_ki - mean h_i|^2  (transverse parts),

the first almost for nothing beside the descriptor, the second for one adjoint pass a member. Where
a symmetry lets no spin turn, as in a ferromagnet, the fields of all members vanish and only the
first can tell. Seeds alone underestimate errors, those common to all members above all; a
calibration on labelled snapshots scales either spread to the error of the mean transverse field.

Query by committee: Seung, Opper and Sompolinsky, COLT 1992, doi 10.1145/130385.130417; for the
calibration Musil et al., J. Chem. Theory Comput. 15, 906 (2019), doi 10.1021/acs.jctc.8b00959.
"""

import copy
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdml.forcefield import network
from sdml.forcefield.network import ForceField
from sdml.forcefield.potential import Potential
from sdml.lattice import Lattice
from sdml.model import SDModel
from sdml.spins import transverse_part

FloatArray = NDArray[np.float64]
QUANTITIES = ("energy", "field")
BATCH_SIZE = 16
AGREEMENT = 1e-6
"""A spread in t that is not told from rounding: members that are the same."""
CARD_ENTRY = "committee"


class Labeled(Protocol):
    """What a calibration needs of snapshots (see :class:`sdml.dataset.Dataset`)."""

    @property
    def model(self) -> SDModel: ...
    @property
    def spins(self) -> FloatArray: ...
    @property
    def local_field(self) -> FloatArray: ...


@dataclass(frozen=True)
class Calibration:
    """By what the spreads of a committee are multiplied.

    Attributes
    ----------
    energy, field : float
        Factors of the spread of the local energies and of the transverse fields.
    snapshots : int
        By how many labelled snapshots they were found; 0 where they are not calibrated.
    """

    energy: float = 1.0
    field: float = 1.0
    snapshots: int = 0

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: must be positive and finite, got {value}")


class Reliability(NamedTuple):
    """Predicted spread against error, bin by bin, in t.

    Attributes
    ----------
    spread, error : (n_bins,)
        Root mean squares over the sites of a bin: what was predicted, and |dh| of the transverse
        field of the mean.
    sites : (n_bins,) int
    """

    spread: FloatArray
    error: FloatArray
    sites: NDArray[np.int64]

    def table(self) -> str:
        """The bins as a Markdown table."""
        rows = [f"| {s:.2e} | {e:.2e} | {n} |" for s, e, n in zip(*self, strict=True)]
        return "\n".join(["| spread | error | sites |", "|---|---|---|", *rows])


class Committee(Potential):
    """Mean energy and field of several force fields, and how far these differ.

    Parameters
    ----------
    members : sequence of ForceField
        At least two, of the same model, environment, lattice and dtype. Grand-canonical members
        each find a chemical potential of their own.
    calibration : Calibration, optional
        Factors of the spreads; by default 1, see :meth:`calibrated`.

    Notes
    -----
    Lattices, dtypes and kinds of arrays are those of :class:`sdml.forcefield.ForceField`; the
    weights are shared with the given members until the committee is cast or moved
    (:meth:`~sdml.forcefield.potential.Potential.view`).
    """

    def __init__(
        self, members: Sequence[ForceField], calibration: Calibration | None = None
    ) -> None:
        super().__init__()
        _require_alike(members)
        self._members = nn.ModuleList([member.view() for member in members])
        self.model = members[0].model
        self.grand_canonical = all(member.grand_canonical for member in members)
        self.calibration = calibration or Calibration()

    @property
    def members(self) -> tuple[ForceField, ...]:
        return tuple(self._members)  # type: ignore[arg-type]

    @property
    def feature_mean(self) -> Tensor:  # type: ignore[override]
        return self.members[0].feature_mean

    def placed(self, lattice: Lattice) -> "Committee":
        return Committee([member.placed(lattice) for member in self.members], self.calibration)

    def lattice_of(self, n_sites: int) -> Lattice:
        return self.members[0].lattice_of(n_sites)

    def features(self, spins: Tensor) -> Tensor:
        return self.members[0].features(spins)

    def electron_energy(self, features: Tensor, square: Tensor, mu: Tensor | None = None) -> Tensor:
        # The members' slopes in the features add up before they reach the descriptor.
        return torch.stack([m.electron_energy(features, square, mu) for m in self.members]).mean(0)

    def site_energies(self, features: Tensor) -> Tensor:
        return self._members_site_energies(features).mean(0)

    def _members_site_energies(self, features: Tensor) -> Tensor:
        """Local energies (n, ..., N) of all members."""
        return torch.stack([member.site_energies(features) for member in self.members])

    def feature_distance(self, features: Tensor) -> Tensor:
        return torch.stack([member.feature_distance(features) for member in self.members]).amax(0)

    def member_fields(self, spins: Tensor) -> Tensor:
        """The fields (n, ..., N, 3) of all members: one adjoint pass each, no guard."""
        with torch.enable_grad():
            leaf = spins.detach().requires_grad_(True)
            s = leaf.to(self.dtype)
            described, exact = self.described(s), self.spin_energy(s)
            energies = [member.electron_energy(*described) + exact for member in self.members]
            slopes = [
                torch.autograd.grad(energy.sum(), leaf, retain_graph=True)[0] for energy in energies
            ]
        return -torch.stack(slopes)

    def spread(self, spins: Any, of: str = "energy") -> Any:
        """Calibrated standard deviation of the members on every site, (..., N), in t.

        Parameters
        ----------
        spins : (..., N, 3)
        of : {'energy', 'field'}
            Of the local energies, at the cost of the descriptor; or of the transverse fields (the
            length of the vector), at that of a field a member.
        """
        if _known(of) == "energy":
            return self._checked(lambda s: self._read("spread", s, *self.described(s)), spins)
        return self._checked(lambda s: self.calibration.field * self._field_spread(s), spins)

    def _read(self, name: str, spins: Tensor, features: Tensor, square: Tensor) -> Tensor:
        if name == "spread":
            return self.calibration.energy * self._members_site_energies(features).std(0)
        return super()._read(name, spins, features, square)

    def _field_spread(self, spins: Tensor) -> Tensor:
        fields = transverse_part(spins, self.member_fields(spins))
        # The components' variances add up to that of the vector.
        return fields.var(0).sum(-1).sqrt()

    def calibrated(self, data: Labeled) -> "Committee":
        """The committee with both spreads scaled to its errors on labelled snapshots.

        The factors make the root mean square of either spread, over all sites, that of the error
        |dh| of the mean transverse field. The snapshots must not be those of the training.

        Raises
        ------
        ValueError
            Snapshots of another model or none, or members that agree on all of them.
        """
        error = _rms(self._errors(data))
        bare = Committee(self.members)
        spreads = {of: _rms(bare._spreads(data, of)) for of in QUANTITIES}
        for of, value in spreads.items():
            if not value > AGREEMENT:
                raise ValueError(f"members: must differ on the data, their {of} spread is {value}")
        factors = {of: error / value for of, value in spreads.items()}
        return Committee(self.members, Calibration(**factors, snapshots=len(data.spins)))

    def reliability(self, data: Labeled, of: str = "energy", n_bins: int = 10) -> Reliability:
        """Predicted spread against the error of the mean transverse field, for a reliability plot.

        The sites of all snapshots are sorted by their spread and dealt to ``n_bins`` bins of the
        same size; a committee that knows its errors has ``spread`` = ``error`` in every bin.
        """
        spread, error = self._spreads(data, _known(of)).ravel(), self._errors(data).ravel()
        if not 1 <= n_bins <= len(spread):
            raise ValueError(f"n_bins: must be in 1 ... {len(spread)}, got {n_bins}")
        bins = np.array_split(np.argsort(spread, kind="stable"), n_bins)
        sizes = np.array([len(chosen) for chosen in bins])
        predicted, found = (np.array([_rms(x[k]) for k in bins]) for x in (spread, error))
        return Reliability(predicted, found, sizes)

    def _errors(self, data: Labeled) -> FloatArray:
        """|dh| (n, N) of the mean transverse field against the labels."""
        field = self._on_lattice_of(data).local_field
        errors = [transverse_part(s, field(s) - exact) for s, exact in _batches(data)]
        return np.linalg.norm(np.concatenate(errors), axis=-1)

    def _spreads(self, data: Labeled, of: str) -> FloatArray:
        """Spreads (n, N) of the snapshots."""
        committee = self._on_lattice_of(data)
        return np.concatenate([committee.spread(s, of) for s, _ in _batches(data)])

    def _on_lattice_of(self, data: Labeled) -> "Committee":
        if not len(data.spins):
            raise ValueError("data: at least one snapshot is needed, got none")
        return self.on_lattice_of(data.model)


def _require_alike(members: Sequence[ForceField]) -> None:
    if len(members) < 2:
        raise ValueError(f"members: at least two force fields are needed, got {len(members)}")
    for what, value in (
        ("model", lambda member: member.model),
        ("environment", lambda member: member.descriptor.environment),
        ("lattice", lambda member: member._lattice),
        ("dtype", lambda member: member.dtype),
    ):
        first, *others = (value(member) for member in members)
        for other in others:
            if other != first:
                raise ValueError(f"members: all must have the {what} {first}, got {other}")


def _known(of: str) -> str:
    if of not in QUANTITIES:
        raise ValueError(f"of: must be one of {list(QUANTITIES)}, got {of!r}")
    return of


def _rms(values: FloatArray) -> float:
    return float(np.sqrt((values**2).mean()))


def _batches(data: Labeled) -> Iterator[tuple[FloatArray, FloatArray]]:
    for k in range(0, len(data.spins), BATCH_SIZE):
        yield data.spins[k : k + BATCH_SIZE], data.local_field[k : k + BATCH_SIZE]


def numbered(path: str | os.PathLike[str], number: int) -> Path:
    """The file of member 1, 2, ... of a committee: name.safetensors, name_2.safetensors, ..."""
    first = Path(path)
    return first if number == 1 else first.with_name(f"{first.stem}_{number}{first.suffix}")


def require_place(path: str | os.PathLike[str], n_members: int) -> None:
    """ValueError if there are files of further members than so many at the place of a committee."""
    further = [p.name for number, p in _files(Path(path)).items() if number > n_members]
    if further:
        raise ValueError(f"path: {further} belong to a larger committee than one of {n_members}")


def save(committee: Committee, path: str | os.PathLike[str]) -> None:
    """Write one safetensors file a member, the first to ``path`` (see :func:`numbered`).

    The calibration goes into the card of every member. ValueError if there are files of further
    members, which :func:`load` would take for part of this committee.
    """
    require_place(path, len(committee.members))
    network.require_finite(committee.state_dict(), "committee")  # before the first file
    for number, member in enumerate(committee.members, start=1):
        labelled = copy.copy(member)  # the card of the member itself stays as it is
        labelled.card = member.card | {CARD_ENTRY: _entry(committee)}
        network.save(labelled, numbered(path, number))


def load(name_or_path: str | os.PathLike[str]) -> Committee:
    """The committee of a released name or of the file of its first member.

    All of name.safetensors, name_2.safetensors, ... that exist are its members. They are calibrated
    as :func:`save` left them, and not at all (factors 1) if none of them was saved by it.

    Raises
    ------
    ValueError
        Unknown name, unreadable file, fewer than two files, or members calibrated in another
        company: build that committee from :func:`sdml.forcefield.load` and calibrate it anew.
    """
    first = network.locate(name_or_path)
    files = _files(first)
    if len(files) < 2:
        raise ValueError(f"name_or_path: a committee needs two files, got {first.name!r} alone")
    members = [network.load(path) for _, path in sorted(files.items())]
    entries = [member.card.get(CARD_ENTRY) for member in members]
    if not any(entries):
        return Committee(members)
    committee = Committee(members, _calibration(entries[0], first))
    if any(entry != _entry(committee) for entry in entries):
        names = [path.name for _, path in sorted(files.items())]
        raise ValueError(f"name_or_path: {names} were not calibrated together")
    return committee


def _files(first: Path) -> dict[int, Path]:
    """Number -> file of all members that exist."""
    pattern = re.compile(re.escape(first.stem) + r"_([2-9]|[1-9]\d+)" + re.escape(first.suffix))
    found = {1: first} if first.is_file() else {}
    for path in first.parent.glob(f"*{first.suffix}"):
        if match := pattern.fullmatch(path.name):
            found[int(match[1])] = path
    return found


def _entry(committee: Committee) -> dict[str, Any]:
    """What the card of a member says of its committee."""
    return {"members": len(committee.members), **dataclasses.asdict(committee.calibration)}


def _calibration(entry: Any, path: Path) -> Calibration:
    try:
        return Calibration(**{name: entry[name] for name in ("energy", "field", "snapshots")})
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"path: {path.name!r} holds no readable calibration ({error})") from error
