"""Accuracy and cost of the kernel polynomial fields against diagonalization and a copy.

    python benchmarks/kpm_field.py [part ...] [--length 48] [--device cuda] [--output NAME]

Parts: moments (exact trace against diagonalization, error against M), probes (transverse error of
three estimators on quench frames), scaling (cost against N), bandwidth (one application of H
against a copy), speed (one field against diagonalization); all by default, about 15 minutes on two
cores. Times are minima of several runs after a warm-up, ratios are of one run. ``--output`` writes
data/reference/NAME.json. Threads follow NUMBA_NUM_THREADS and OMP_NUM_THREADS.
"""

import argparse
import time
from typing import Any

import numba
import numpy as np
import torch
from timing import shortest

from sdml import dynamics, exact, kpm, lattice, spins
from sdml.companion import results
from sdml.kpm import probes as probe_sets
from sdml.kpm import recursion, solver
from sdml.model import SDModel, paper_model

CASES = {"square": 0.4, "triangular": 1.0}
"""Time steps."""
QUENCH_STEPS = {"early": 20, "late": 60}


def model_of(case: str, length: int, electron_kT: float = 0.05) -> SDModel:
    return paper_model(getattr(lattice, case)(length), electron_kT=electron_kT)


def rms(values: Any) -> float:
    return float(np.sqrt((np.asarray(values) ** 2).mean()))


def quench(case: str, length: int) -> dict[str, np.ndarray]:
    """Random spins and two later frames of their relaxation."""
    model = model_of(case, length)
    s = spins.random(model.lattice.n_sites, 0)
    frames = {"random": s}
    dt, done = CASES[case], 0

    def field(x: torch.Tensor) -> torch.Tensor:
        return kpm.solve(model, x.float(), 400, 128, seed=1).local_field.to(x)

    for name, step in QUENCH_STEPS.items():
        s = dynamics.integrate(s, field, dt=dt, n_steps=step - done, damping=0.1)
        frames[name], done = s, step
    return frames


def moments(length: int, device: str) -> list[dict]:
    """Exact trace at 24 x 24 whatever ``length``: the size that the promise names."""
    rows = []
    for case in CASES:
        model = model_of(case, 24)
        states = {"random": spins.random(576, 0), "half quenched": quench(case, 24)["early"]}
        if case == "triangular":
            states["tetrahedral"] = spins.perturbed(spins.tetrahedral(model.lattice), 0.05, 1)
        for name, s in states.items():
            expected = exact.solve(model, s)
            for n in (200, 400, 800, 1600):
                found = kpm.solve(model, s, n, device=device)
                rows.append(
                    {
                        "case": case,
                        "state": name,
                        "n_moments": n,
                        "field_rms_error": rms(found.local_field - expected.local_field),
                        "estimated": float(found.field_error),
                        "energy_error_per_site": abs(float(found.energy - expected.energy)) / 576,
                    }
                )
                print(results.row_text(rows[-1]), flush=True)
    return rows


def probes(length: int, device: str) -> list[dict]:
    """Transverse error relative to its rms; the reference is the exact trace."""
    rows = []
    for case in CASES:
        frames = quench(case, length)
        for electron_kT in (0.05, 0.02):
            model = model_of(case, length, electron_kT)
            for name, s in frames.items():
                single = s.astype(np.float32)
                reference = kpm.solve(model, single, device=device).local_field
                expected = spins.transverse(s, reference)
                for n_colors in (16, 36, 64, 144, 256):
                    row = {"case": case, "electron_kT": electron_kT, "state": name}
                    row |= {"transverse_rms": rms(expected), "n_vectors": 2 * n_colors}
                    row["of_exact_trace_at_64x64"] = 2 * n_colors / 8192
                    for method in ("coloured", "coloured-plain", "random", "random-plain"):
                        found = kpm.solve(model, single, None, 2 * n_colors, method, 0, device)
                        error = spins.transverse(s, found.local_field) - expected
                        row[method] = rms(error) / rms(expected)
                    row["plain_over_gradient"] = row["coloured-plain"] / row["coloured"]
                    row["random_over_gradient"] = row["random"] / row["coloured"]
                    rows.append(row)
                    print(results.row_text(row), flush=True)
    return rows


def scaling(length: int, device: str) -> list[dict]:
    """Whole solve at 100 moments and 64 colors, from 32 x 32 to 256 x 256."""
    rows = []
    for case in CASES:
        seconds = {}
        for side in (32, 64, 128, 256):
            model = model_of(case, side)
            s = spins.random(side**2, 0).astype(np.float32)
            seconds[side] = shortest(
                lambda m=model, x=s: kpm.solve(m, x, 100, 128, seed=0, device=device)
            )
            per_site = 1e9 * seconds[side] / side**2 / 128 / 100
            row = {"case": case, "length": side, "seconds": seconds[side]}
            rows.append(row | {"ns_per_site_vector_moment": per_site})
            print(results.row_text(rows[-1]), flush=True)
        sides = np.array(list(seconds))
        slope = np.polyfit(2 * np.log(sides), np.log(list(seconds.values())), 1)[0]
        ends = np.log(seconds[256] / seconds[32]) / np.log(64)
        rows.append({"case": case, "exponent_fit": float(slope), "exponent_ends": float(ends)})
        print(results.row_text(rows[-1]), flush=True)
    return rows


def bandwidth(length: int, device: str) -> list[dict]:
    """One application of H on a block: 2 vectors read and 1 written, against a copy."""
    rows = []
    a = torch.zeros(2**27, dtype=torch.float32, device=device)
    b = torch.empty_like(a)
    rate = 2 * a.numel() * 4 / shortest(lambda: b.copy_(a), device) / 1e9
    for case in CASES:
        for side in (48, 256):
            for real in (torch.float32, torch.float64):
                rows.append(application(case, side, real, device) | {"copy_GB_s": rate})
                rows[-1]["fraction"] = rows[-1]["GB_s"] / rate
                print(results.row_text(rows[-1]), flush=True)
    return rows


def application(case: str, side: int, real: torch.dtype, device: str) -> dict:
    """Bytes per second of the forward recursion, with as many blocks as threads."""
    model, steps = model_of(case, side), 20
    n_vectors = recursion.LANES * numba.get_num_threads()
    s = torch.as_tensor(spins.random(side**2, 0), device=device)
    h = solver._hamiltonian(model, s, solver.Interval(-12, 12), real)
    vectors = probe_sets.random(side**2, n_vectors, np.random.default_rng(0)).vectors(0, n_vectors)
    if device == "cpu":
        tables, state = recursion._tables(h), recursion._packed(vectors, real)
        seconds = shortest(lambda: recursion._forward(*tables, state, steps)) / steps
    else:
        x = recursion._as_tensor(h, vectors)
        seconds = shortest(lambda: recursion.twice(h, x), device)
    volume = 3 * 4 * side**2 * n_vectors * real.itemsize
    return {
        "case": case,
        "length": side,
        "real": str(real).removeprefix("torch."),
        "microseconds": 1e6 * seconds,
        "GB_s": volume / seconds / 1e9,
    }


def speed(length: int, device: str) -> list[dict]:
    """One field at 3 % of the transverse rms, against diagonalization in the same run."""
    rows = []
    for case in CASES:
        model = model_of(case, length)
        s = quench(case, length)["early"]
        single, start = s.astype(np.float32), time.perf_counter()
        expected = spins.transverse(s, exact.solve(model, s).local_field)
        diagonalization = time.perf_counter() - start
        for n_colors in (16, 36, 64, 144, 192, 256):
            # Truncation is below 0.5 % of the transverse field at electron_kT = 0.05.
            arguments = {"n_moments": 300, "n_probes": 2 * n_colors, "seed": 0}
            found = kpm.solve(model, single, device=device, **arguments)
            error = rms(spins.transverse(s, found.local_field) - expected) / rms(expected)
            if error <= 0.03:
                break
        seconds = shortest(
            lambda m=model, x=single, a=arguments: kpm.solve(m, x, device=device, **a)
        )
        rows.append(
            {
                "case": case,
                "length": length,
                "n_vectors": 2 * n_colors,
                "transverse_error": error,
                "exact_seconds": diagonalization,
                "kpm_seconds": seconds,
                "ratio": diagonalization / seconds,
            }
        )
        print(results.row_text(rows[-1]), flush=True)
    return rows


PARTS = {f.__name__: f for f in (moments, probes, scaling, bandwidth, speed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--length", type=int, default=48, help="of the probes and speed parts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    threads = {"numba": numba.get_num_threads(), "torch": torch.get_num_threads()}
    origin = results.measured_origin(given.device, threads=threads, length=given.length)
    result: dict[str, Any] = {"origin": origin}
    print(results.row_text(origin), flush=True)
    for name in given.parts or PARTS:
        print(f"-- {name}: {PARTS[name].__doc__.splitlines()[0]}")
        result[name] = PARTS[name](given.length, given.device)
    results.save_reference(given.output, result)


if __name__ == "__main__":
    main()
