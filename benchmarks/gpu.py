"""What a machine with a GPU is asked first, in the order of its worth, in pieces that can go on.

    python benchmarks/gpu.py [piece ...] [--output build/gpu] [--device cuda] [--toy] [--minutes 8]
                             [--again]

Pieces: correctness (every torch path on the device against the CPU, see device_paths.py), costs
(seconds of a field by diagonalization, by the kernel polynomial method and by the network, also in
float32 products of 2048 x 2048 matrices on the same device), steps (spin-steps a second of
Adams-Bashforth runs, to 1024 x 1024 sites), growth (chiral domains of 512 x 512 sites, quenched by
the released network at two dampings, seed by seed); all by default. Without a GPU everything runs
on the CPU at toy size.

A piece stops by itself after ``--minutes`` and goes on at the next call with the same folder: what
its file holds is not measured again, unless the code is another, or ``--again`` is given. Each
piece writes FOLDER/PIECE.json; growth also maps of the chirality (growth.h5) and the store of the
run in progress: six files, each below 16 MiB. The exit status is 1 if a path failed.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import device_paths
import h5py
import numpy as np
import time_step
import torch
from device_paths import Sizes, coarsening
from stores import digits, lattice_of, write_chirality
from timing import shortest

from sdml import exact, files, kpm, lattice, simulation
from sdml.companion import results
from sdml.model import paper_model

TOY_SIZES = Sizes(exact=4, kpm=6, n_moments=16, network=12, steps=3)
LENGTHS = {"exact": (30, 48), "kpm": (48, 96, 128, 256), "network": (48, 96, 192, 256, 512)}
TOY_LENGTHS = {"exact": (4,), "kpm": (6,), "network": (12,)}
STEP_LENGTHS, TOY_STEP_LENGTHS = (128, 256, 512, 1024), (12,)
N_MOMENTS, N_PROBES, PRODUCT, REPETITIONS = 256, 128, 2048, 3
SEEDS, DAMPINGS = (1, 2, 3, 4), (0.3, 0.05)
GROWTH, TOY_GROWTH = (512, 1280.0), (12, 8.0)
"""Length of the lattice, and time."""
MAP_TIMES = (0, 100, 400, 1280)
MEASURED = ("lengths", "imbalance", "spin_length", "chirality", "vortex_density")
Given = argparse.Namespace


class TimeIsUpError(Exception):
    """The time of the piece is over; what was done is kept."""


class Sheet:
    """The rows of a piece, by name, in a JSON file that is written anew after every row."""

    def __init__(self, piece: str, given: Given) -> None:
        self.path, self.given = given.output / f"{piece}.json", given
        self.until = time.monotonic() + 60 * given.minutes
        about = {"commit": results.code_version(), "toy": given.toy}
        self.origin = results.measured_origin(given.device, **about)
        self.rows: dict[str, dict[str, Any]] = {}
        self.measured = 0
        if self.path.exists() and not given.again:
            self._take_up(files.loaded(self.path))

    def _take_up(self, found: dict[str, Any]) -> None:
        for key in ("device", "toy"):
            if found["origin"][key] != self.origin[key]:
                raise ValueError(
                    f"output: {self.path} is of {key} {found['origin'][key]!r}, this run of "
                    f"{self.origin[key]!r}; give another folder, or --again"
                )
        self.rows = {row["name"]: row for row in found["rows"]}

    def lacks(self, name: str) -> bool:
        """Whether the row is to be measured; TimeIsUpError if it is, but there is no time."""
        row = self.rows.get(name)
        if row is not None and row["code"] == self.origin["code"]:
            return False
        if time.monotonic() > self.until:
            raise TimeIsUpError
        return True

    def add(self, name: str, **row: Any) -> None:
        self.rows[name] = {"name": name, "code": self.origin["code"], **row}
        self.measured += 1
        text = files.json_text({"origin": self.origin, "rows": list(self.rows.values())})
        files.write_text(self.path, text)
        print(f"{name}:", results.row_text({k: v for k, v in row.items() if np.ndim(v) == 0}))


def correctness(sheet: Sheet, given: Given) -> None:
    """Largest difference of every path, relative to the rms, and whether it is within bounds."""
    sizes = TOY_SIZES if given.toy else Sizes()
    for name, path in device_paths.paths():
        if not sheet.lacks(name):
            continue
        row: dict[str, Any] = {"tolerance": path.tolerance, "difference": None, "passed": False}
        start = time.perf_counter()
        try:
            found = device_paths.difference(*path.pair(given.device, sizes))
            row |= {"passed": found <= path.tolerance}
            row |= {"difference": found} if np.isfinite(found) else {"error": "not finite"}
        except Exception as error:  # the other paths are of worth without it
            row["error"] = f"{type(error).__name__}: {error}"[:2000]
        sheet.add(name, **row, seconds=time.perf_counter() - start)


def fields(given: Given) -> Iterator[tuple[str, str, int, Callable[[str], Callable[[], Any]]]]:
    """Engine, kind and length of every field, and device -> call; the smaller first."""
    for engine, lengths in (TOY_LENGTHS if given.toy else LENGTHS).items():
        for length in lengths:
            for kind in device_paths.KINDS:
                yield engine, kind, length, FIELDS[engine](kind, length)


def by_exact(kind: str, length: int) -> Callable[[str], Callable[[], Any]]:
    model = paper_model(getattr(lattice, kind)(length))
    s = device_paths.state(kind, length, "cpu")
    return lambda device: lambda: exact.solve(model, s.to(device), device)


def by_kpm(kind: str, length: int) -> Callable[[str], Callable[[], Any]]:
    model = paper_model(getattr(lattice, kind)(length), electron_kT=0.05)
    s = device_paths.state(kind, length, "cpu", torch.float32)
    way = N_MOMENTS, N_PROBES, "coloured", 0
    return lambda device: lambda: kpm.solve(model, s.to(device), *way, device)


def by_network(kind: str, length: int) -> Callable[[str], Callable[[], Any]]:
    def on(device: str) -> Callable[[], Any]:
        field, s = time_step.released(Given(force_field=kind, device=device), length)
        return lambda: field.field(s)

    return on


FIELDS = {"exact": by_exact, "kpm": by_kpm, "network": by_network}


def costs(sheet: Sheet, given: Given) -> None:
    """Seconds of a field; of the smallest lattices on the CPU of the same process too."""
    products: dict[str, float] = {}
    seen: set[tuple[str, str]] = set()
    for engine, kind, length, call in fields(given):
        devices = [given.device] + ["cpu"] * ((engine, kind) not in seen and given.device != "cpu")
        seen.add((engine, kind))
        for device in devices:
            name = f"{engine} {kind} {length} {device}"
            if not sheet.lacks(name):
                continue
            if device not in products:
                left, right = torch.randn(2, PRODUCT, PRODUCT, device=device)
                products[device] = shortest(lambda a=left, b=right: a @ b, device)
            seconds = shortest(call(device), device, 1 if given.toy else REPETITIONS)
            about = {"engine": engine, "kind": kind, "n_sites": length**2, "device": device}
            sheet.add(name, **about, seconds=seconds, products=seconds / products[device])


def steps(sheet: Sheet, given: Given) -> None:
    """Spin-steps a second of Adams-Bashforth runs in memory, and the largest memory taken."""
    on_gpu = torch.device(given.device).type == "cuda"
    for length in TOY_STEP_LENGTHS if given.toy else STEP_LENGTHS:
        for kind in device_paths.KINDS:
            name = f"{kind} {length}"
            if not sheet.lacks(name):
                continue
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(given.device)
            field, s = time_step.released(Given(force_field=kind, device=given.device), length)
            call = time_step.adams_steps(field.field, s)
            seconds = shortest(call, given.device, 1 if given.toy else REPETITIONS)
            row = {"kind": kind, "n_sites": len(s)}
            row["spin_steps_per_s"] = time_step.ADAMS_STEPS * len(s) / seconds
            row["peak_bytes"] = torch.cuda.max_memory_allocated(given.device) if on_gpu else None
            sheet.add(name, **row)


def growth(sheet: Sheet, given: Given) -> None:
    """Lengths of chiral domains against time; a run that is not finished goes on the next time."""
    length, end = TOY_GROWTH if given.toy else GROWTH
    for seed in SEEDS[:1] if given.toy else SEEDS:
        for damping in DAMPINGS:
            name = f"damping {damping:g} seed {seed}"
            if not sheet.lacks(name):
                continue
            line = f"run {length} {seed} --damping {damping} --time {end} --device {given.device}"
            asked = coarsening.parser().parse_args([*line.split(), "--folder", str(given.output)])
            run = coarsening.run(
                asked,
                seed,
                observables={k: coarsening.OBSERVABLES[k] for k in MEASURED},
                frames_every=[round(t / asked.dt) for t in MAP_TIMES],
                checkpoint_every=1,
                report=stopping(sheet, name),
            )
            keep_maps(given.output / "growth.h5", name, run)
            measured = {k: digits(run.observables[k], 5) for k in MEASURED}
            about = {"damping": damping, "seed": seed, "n_sites": length**2, "dt": asked.dt}
            sheet.add(name, **about, seconds=run.seconds, time=run.time.tolist(), **measured)
            coarsening.store_of(asked, seed).unlink()


def stopping(sheet: Sheet, name: str) -> Callable[[int], None]:
    """Ends a run before the time of the piece does: the next row takes longer than the last."""
    last = time.monotonic()

    def report(step: int) -> None:
        nonlocal last
        now = time.monotonic()
        print(f"{name}: step {step}, {sheet.until - now:.0f} s left", flush=True)
        if now + 1.3 * (now - last) > sheet.until:
            raise TimeIsUpError
        last = now

    return report


def keep_maps(target: Path, name: str, run: simulation.Run) -> None:
    """The chirality of the sites at the frames of a run, in 127ths of 0.8."""
    with files.replacing(target) as partial:
        if target.exists():
            shutil.copy(target, partial)
        with h5py.File(partial, "a") as file:
            if name in file:
                del file[name]
            group = file.create_group(name)
            write_chirality(group, lattice_of(run), run.frames)
            group["frame_time"] = run.frame_time


PIECES: dict[str, Callable[[Sheet, Given], None]] = {
    piece.__name__: piece for piece in (correctness, costs, steps, growth)
}


def parsed(arguments: list[str] | None) -> Given:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pieces", nargs="*", choices=[[], *PIECES], default=[])
    parser.add_argument("--output", type=Path, default=files.root() / "build" / "gpu")
    parser.add_argument("--device", help="by default cuda, or the CPU at toy size without one")
    parser.add_argument("--toy", action="store_true", help="lattices of a few sites")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each piece")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    given = parser.parse_args(arguments)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    given.toy |= given.device is None and found == "cpu"
    given.device = given.device or found
    return given


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    failed: list[str] = []
    for piece in given.pieces or PIECES:
        print(f"== {piece} on {results.device_name(given.device)}", flush=True)
        sheet = Sheet(piece, given)
        try:
            PIECES[piece](sheet, given)
        except TimeIsUpError:
            print(f"{piece}: not finished after {given.minutes:g} minutes, call again", flush=True)
        failed += [name for name, row in sheet.rows.items() if not row.get("passed", True)]
        print(f"{piece}: {sheet.measured} rows measured, {len(sheet.rows)} in {sheet.path}")
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
