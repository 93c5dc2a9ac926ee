"""What a run leaves behind: figures with their sidecars, claims, and where they came from.

Notebooks call `save_figure`, `save_claim` and `provenance`; they write into `sdml.files.build`.
`publish` then copies a finished run into ``figures/``, where a figure or claim is replaced only by
one of an equal or larger profile. Every file is written beside its place and moved there, whole.
"""

import json
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

from sdml import __version__, files

__all__ = [
    "Claim",
    "claims",
    "claims_table",
    "measured_origin",
    "origin",
    "provenance",
    "publish",
    "row_text",
    "save_claim",
    "save_figure",
    "save_reference",
]

PROFILES = ("quick", "laptop", "paper")
STANDINGS = {"S": "stated", "M": "from a summary", "D": "derived", "R": "recalled"}
"""What a number of the paper stands on, in words."""
VERDICTS = ("reproduced", "consistent", "differs", "not found", "open")
UNITS = "energies t, times hbar / t, lengths lattice constants, costs seconds"
PACKAGES = ("torch", "numpy", "scipy", "numba", "h5py", "matplotlib", "papermill")
FORMATS = {"pdf": ("CreationDate", 400), "png": ("Software", 200)}
"""Of figures: what each would write of time or version, and does not, and pixels per inch."""
NONE = "–"

# --- one claim ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """One number of the paper beside ours.

    Attributes
    ----------
    id : str
        Lower-case words joined by hyphens, e.g. ``field-mse``.
    quantity : str
        What is compared, with its unit.
    paper : str, int, float or None
        What the paper says.
    standing : {'S', 'M', 'D', 'R'}
        Where the paper's value is from: an abstract, a third-party summary, derived, recalled.
    conditions : str
        Where the conditions of the paper and ours agree, differ, or are unknown.
    ours, error : int, float or None
        Our value and its uncertainty.
    origin : str
        The stored result of ``data/reference`` that ours follows from, by its file name; or the
        profile of the notebook that computed it.
    seeds : list of int
    notebook : str
        Stem of the notebook that states it.
    verdict : {'reproduced', 'consistent', 'differs', 'not found', 'open'}
        Same conditions, and equal within errors; equal in order of magnitude, while a definition or
        condition of the paper is unknown; same conditions, and the paper's value is outside our
        95 % interval; excluded at 95 % under all conditions that we state, while not all of the
        paper's are known; not decidable with what is known.
    """

    id: str
    quantity: str
    paper: str | float | None
    standing: str
    conditions: str
    ours: float | None
    error: float | None
    origin: str
    seeds: list[int]
    notebook: str
    verdict: str

    def __post_init__(self) -> None:
        _require_name("id", self.id, r"[a-z0-9]+(-[a-z0-9]+)*", "lower-case words and hyphens")
        for name in ("quantity", "conditions", "notebook", "origin"):
            text = getattr(self, name)
            self._require(name, isinstance(text, str) and text, "text")
        for name, kinds in {"paper": (str,), "ours": (), "error": ()}.items():
            plain = type(getattr(self, name)) in (*kinds, int, float, type(None))
            self._require(name, plain, "a number, None, or text of the paper")
        for name, values in {"standing": STANDINGS, "verdict": VERDICTS}.items():
            self._require(name, getattr(self, name) in values, f"one of {', '.join(values)}")
        integers = isinstance(self.seeds, list) and all(type(seed) is int for seed in self.seeds)
        self._require("seeds", integers, "a list of integers")
        tested = self.ours is not None or self.verdict in ("not found", "open")
        self._require("ours", tested, f"a value where the verdict is {self.verdict!r}")
        known = self.verdict != "differs" or "unknown" not in self.conditions.lower()
        self._require("conditions", known, "known where the verdict is 'differs'")
        stored = self.origin in PROFILES or (files.reference() / self.origin).is_file()
        self._require("origin", stored, f"a file of data/reference or one of {', '.join(PROFILES)}")

    @property
    def profile(self) -> str:
        """That of its origin."""
        if self.origin in PROFILES:
            return self.origin
        return str(files.loaded(files.reference() / self.origin)["origin"]["profile"])

    def _require(self, name: str, holds: object, allowed: str) -> None:
        if not holds:
            raise ValueError(f"claim {self.id!r}: {name}={getattr(self, name)!r} must be {allowed}")


def _claim_from(entry: object, source: str) -> Claim:
    """Validated `Claim` of one JSON object; `source` names the file in errors."""
    names = [field.name for field in fields(Claim)]
    given = entry if isinstance(entry, dict) else {repr(entry): None}
    if wrong := ", ".join(sorted(given.keys() ^ names)):
        raise ValueError(
            f"{source}: a claim has the keys {', '.join(names)}; missing or unknown: {wrong}"
        )
    return Claim(**given)


def claims(path: Path | None = None) -> list[Claim]:
    """Validated claims of `path`, by default ``figures/claims.json``.

    Raises
    ------
    ValueError
        If the file is missing, is no JSON list, or an entry breaks the schema of `Claim`.
    """
    path = path or files.figures() / "claims.json"
    entries = files.loaded(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: must hold a list of claims, found {type(entries).__name__}")
    found = [_claim_from(entry, path.name) for entry in entries]
    repeated = [name for name, n in Counter(claim.id for claim in found).items() if n > 1]
    if repeated:
        raise ValueError(f"{path}: id {', '.join(repeated)} appears more than once")
    return found


def claims_table(entries: Iterable[Claim]) -> str:
    """Claims as aligned text, one a line."""
    columns = [x.name for x in fields(Claim) if x.name not in ("seeds", "conditions")]
    spelled = [asdict(claim) | {"standing": STANDINGS[claim.standing]} for claim in entries]
    rows = [columns, *([in_short(claim[name]) for name in columns] for claim in spelled)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def in_short(value: str | float | None) -> str:
    """A value of a claim in three digits; a dash for None."""
    if value is None:
        return NONE
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# --- what notebooks call ------------------------------------------------------------------------


def save_figure(figure: Any, name: str, caption: str, **details: Any) -> None:
    """Write ``name.pdf``, ``name.png`` and sidecar ``name.json`` into this run's figures.

    The same figure gives the same bytes: no time stamps are written.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        File name without ending: letters, digits, ``-`` and ``_``.
    caption : str
        What is drawn, with units; goes into the sidecar.
    **details
        Further entries of the sidecar (parameters, seeds, …). A figure drawn from a stored
        reference result passes the profile of that result as ``profile=``.
    """
    _require_name("name", name, r"[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, '-' and '_'")
    if not caption:
        raise ValueError(f"caption={caption!r} of figure {name!r} must be text")
    sidecar = {"name": name, "caption": caption, **origin(), **details}
    profile_rank(sidecar["profile"])
    text = files.json_text(sidecar)
    folder = files.build() / "figures"
    for ending, (stamp, dpi) in FORMATS.items():
        stream = BytesIO()
        figure.savefig(stream, format=ending, dpi=dpi, metadata={stamp: None})
        files.write_bytes(folder / f"{name}.{ending}", stream.getvalue())
    files.write_text(folder / f"{name}.json", text)


def save_claim(**entries: Any) -> None:
    """Write one claim as ``claims/<id>.json`` of this run.

    Parameters
    ----------
    **entries
        Those of `Claim`; `origin` is the profile of the run unless it is given. Numpy values become
        plain ones.

    Raises
    ------
    ValueError
        An entry is missing, unknown or not allowed, or `notebook` is not the running one.
    """
    plain = json.loads(files.json_text({"origin": current_profile(), **entries}))
    claim = _claim_from(plain, "save_claim")
    running = os.environ.get("SDML_NOTEBOOK", claim.notebook)
    if claim.notebook != running:
        where = f"notebook={claim.notebook!r} of claim {claim.id!r}"
        raise ValueError(f"{where} must be the running notebook, {running!r}")
    files.write_text(files.build() / "claims" / f"{claim.id}.json", files.json_text(asdict(claim)))


def provenance() -> str:
    """One line for the end of a notebook: code, Python and library versions, device, profile."""
    found = origin()
    known = ("python", "torch", "numpy")
    libraries = ", ".join(f"{name} {found['versions'][name]}" for name in known)
    return f"sdml {found['code']}, {libraries}, {found['device']}, profile {found['profile']}"


def origin(device: str = "cpu") -> dict[str, Any]:
    """Where a result of this process on a device comes from: profile, notebook, code, versions."""
    return {
        "profile": current_profile(),
        "notebook": os.environ.get("SDML_NOTEBOOK", ""),
        "code": hashed_version(),
        "versions": versions(),
        "device": device_name(device),
    }


def measured_origin(device: str = "cpu", **more: Any) -> dict[str, Any]:
    """`origin` of a study or benchmark, which has sizes of the largest profile, and ``more``."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return origin(device) | {"profile": PROFILES[-1], "units": UNITS, "date": date} | more


def save_reference(name: str | None, result: dict[str, Any]) -> None:
    """Write data/reference/NAME.json; nothing without a name."""
    if name:
        files.write_text(files.reference() / f"{name}.json", files.json_text(result))


def row_text(row: Mapping[str, Any]) -> str:
    """The numbers of a row in one line."""
    cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    return "  ".join(cells)


def current_profile() -> str:
    """Profile of the run in progress: the name of its build folder, or quick in any other."""
    name = files.build().name
    return name if name in PROFILES else files.DEFAULT_PROFILE


def profile_rank(profile: str) -> int:
    """Position of a profile in quick < laptop < paper."""
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is unknown; allowed: {', '.join(PROFILES)}")
    return PROFILES.index(profile)


def code_hash() -> str:
    """SHA-256 over the package's sources, those in its folders included."""
    return files.digest(files.PACKAGE.rglob("*.py"), files.PACKAGE)


def code_version() -> str:
    """``git describe`` of the checkout, else the package version with a hash of its sources."""
    command = ["git", "-C", str(files.root()), "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    return hashed_version()


def hashed_version() -> str:
    """Package version and hash of its sources, which a stored result can bear before its commit."""
    return f"{__version__}+{code_hash()[:8]}"


def versions() -> dict[str, str]:
    """Version of Python and of each installed library that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def device_name(device: str) -> str:
    """What torch computes on under this name: the accelerator, or the processor."""
    import torch

    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU with {os.cpu_count()} cores"


# --- publishing ---------------------------------------------------------------------------------


def publish(folder: Path, stems: Collection[str]) -> list[str]:
    """Copy what the notebooks `stems` left in build `folder` into ``figures/``.

    Returns
    -------
    list of str
        Figures and claims that were published; the others stand already at a larger profile.
    """
    place = files.figures() / "claims.json"
    standing = {claim.id: claim for claim in (claims(place) if place.exists() else [])}
    published = []
    for path in left_by(stems, folder / "claims"):
        claim = _claim_from(files.loaded(path), path.name)
        old = standing.get(claim.id, claim)
        if profile_rank(claim.profile) >= profile_rank(old.profile):
            standing[claim.id] = claim
            published.append(claim.id)
    figures = [path.stem for path in left_by(stems, folder / "figures") if _publish_figure(path)]
    if standing:
        entries = [asdict(standing[name]) for name in sorted(standing)]
        files.write_text(place, files.json_text(entries))
    return figures + published


def left_by(stems: Collection[str], folder: Path) -> list[Path]:
    """JSON files in `folder` that the notebooks `stems` wrote."""
    found = sorted(folder.glob("*.json"))
    return [path for path in found if files.loaded(path).get("notebook") in stems]


def _publish_figure(sidecar: Path) -> bool:
    old = files.figures() / sidecar.name
    profiles = [files.loaded(path)["profile"] for path in (sidecar, old) if path.exists()]
    if profile_rank(profiles[0]) < profile_rank(profiles[-1]):
        return False
    for ending in (*FORMATS, "json"):
        source = sidecar.with_suffix(f".{ending}")
        files.write_bytes(files.figures() / source.name, source.read_bytes())
    return True


def _require_name(argument: str, value: object, pattern: str, allowed: str) -> None:
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise ValueError(f"{argument}={value!r} must be made of {allowed}")
