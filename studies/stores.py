"""What the studies share that collect stored runs: the sets of stores, maps, and result files."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sdml import files, lattice, observables, simulation

FULL_SCALE = 0.8
"""Site chirality that is stored as 127."""
CONTENTS = {
    "time": ("time", "hbar / t"),
    "frame_time": ("frame", "hbar / t"),
    "seed": ("seed", "1"),
    "structure": ("seed, time, ring of momenta", "1"),
    "correlation": ("seed, time, ring of distances", "1"),
    "chirality": ("frame, site", f"{FULL_SCALE} / 127"),
    "bonds": ("frame, site", "1"),
    "density": ("frame, site", "electrons"),
    "driver": ("frame, site", "electrons"),
    "kpm": ("frame, site", "electrons"),
    "end": ("seed, site", "electrons"),
}
"""Dimensions and units of what the files in data/reference hold, by name."""


def sets(folder: Path, names: str = r".*_\d+") -> dict[str, list[Path]]:
    """Stores NAME_SEED.h5 by NAME, ordered by seed; those whose stem matches ``names``."""
    found: dict[str, list[Path]] = {}
    for path in folder.glob("*.h5"):
        if re.fullmatch(names, path.stem):
            found.setdefault(path.stem.rpartition("_")[0], []).append(path)
    for paths in found.values():
        paths.sort(key=lambda path: int(path.stem.rpartition("_")[2]))
    return dict(sorted(found.items()))


def shared_times(times: Sequence[Sequence[float]]) -> int:
    """How many of their first times all runs have: a shorter run ends at a time of its own."""
    alike = np.array([one[: min(map(len, times))] for one in times])
    unlike = np.flatnonzero((alike != alike[0]).any(0))
    return int(unlike[0]) if len(unlike) else alike.shape[1]


def lattice_of(run: simulation.Run) -> lattice.Lattice:
    """The L x L lattice of a run."""
    header = run.header["lattice"]
    return getattr(lattice, header["name"])(header["shape"][0])


@contextmanager
def reference_file(
    name: str, origin: Mapping[str, Any], kept: Iterable[str] = ()
) -> Iterator[h5py.File]:
    """A new data/reference/NAME.h5 to write to, there and described once it is complete.

    It begins with the groups ``kept`` of the file that it replaces.
    """
    target = files.reference() / f"{name}.h5"
    with files.replacing(target) as partial, h5py.File(partial, "w") as file:
        for group in kept:
            with h5py.File(target) as before:
                before.copy(group, file)
        yield file
        describe(file, origin)


def describe(file: h5py.File, origin: Mapping[str, Any]) -> None:
    """Write where a file comes from, and the dimensions and units of each of its arrays."""
    file.attrs["origin"] = json.dumps(origin)

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            dimensions, units = CONTENTS[path.rpartition("/")[2]]
            item.attrs.update({"dimensions": dimensions, "units": units})

    file.visititems(visit)


def write_compressed(group: h5py.Group, name: str, values: np.ndarray, dtype: Any) -> None:
    group.create_dataset(name, data=values.astype(dtype), compression="gzip")


def write_chirality(group: h5py.Group, sites: lattice.Lattice, frames: np.ndarray) -> None:
    """Chirality of the sites in 127ths of `FULL_SCALE`."""
    chirality = observables.site_chirality(sites, frames)
    packed = np.clip(np.round(np.asarray(chirality) * 127 / FULL_SCALE), -127, 127)
    write_compressed(group, "chirality", packed, np.int8)


def digits(values: Any, n: int = 6) -> Any:
    """Nested lists of numbers with so many digits; null for what is not finite."""
    array = np.asarray(values, dtype=float)
    if array.ndim:
        return [digits(part, n) for part in array]
    return float(f"{array:.{n}g}") if np.isfinite(array) else None
