"""Cost of the dynamics: spin-steps a second, what is not field, work against a product; drifts.

    python benchmarks/time_step.py [part ...] [--lengths 24 48 96] [--device cuda] [--output NAME]

Parts: engines (spin-steps/s against N of the force field, the kernel polynomial method and
diagonalization with two fields a step, and of the force field with Adams-Bashforth steps), share
(time of a step at N = 10^4 that is not field evaluation), work (operations of a field evaluation,
counted as in descriptor_cost.py, over the rate of a 2048^3 float32 product), field (one evaluation
against diagonalization at ``--field-lengths``, with the standard error of three rounds), drift
(energy drift and order of the schemes on a Heisenberg lattice); all by default, some minutes.
Times are minima of several calls after a warm-up; ratios are of one run. ``--output`` writes
data/reference/NAME.json. Threads follow OMP_NUM_THREADS.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from descriptor_cost import counted_work, walk_work
from timing import shortest

from sdml import dynamics, exact, forcefield, kpm, lattice, spins
from sdml.companion import results
from sdml.dynamics import LandauLifshitz

EQUATION = LandauLifshitz(0.5, 0.1, 0.01)
EXACT_SITES, KPM_SITES = 700, 2500
PRODUCT, ADAMS_STEPS = 2048, 10
ROUNDS = 3
Given = argparse.Namespace


def released(given: Given, length: int) -> tuple[Any, torch.Tensor]:
    """The released force field on its L x L lattice, and random spins."""
    field = forcefield.load(given.force_field)
    sites = getattr(lattice, field.model.lattice.name)(length)
    state = torch.as_tensor(spins.random(sites.n_sites, 0), dtype=torch.float32)
    return field.on(sites).to(given.device), state.to(given.device)


def step_of(field: Callable, state: torch.Tensor, method: str, kT: float) -> Callable[[], object]:
    equation = dataclasses.replace(EQUATION, kT=kT, method=method)
    rng = dynamics.generator(equation, 0, state.device)
    return lambda: dynamics.evolve(state, field, [equation], rng)


def adams_steps(field: Callable, state: torch.Tensor) -> Callable[[], object]:
    """Steps in a row with one field each, but the first."""
    equations = [dataclasses.replace(EQUATION, kT=0.0, method="adams")] * ADAMS_STEPS
    return lambda: dynamics.evolve(state, field, equations)


def engines(given: Given) -> list[dict[str, Any]]:
    rows = []
    for length in given.lengths:
        field, state = released(given, length)
        n_sites = len(state)
        model = dataclasses.replace(field.model, lattice=field.lattice_of(n_sites))

        def by_exact(s: torch.Tensor, model: Any = model) -> Any:
            return exact.solve(model, s).local_field

        def by_kpm(s: torch.Tensor, model: Any = model) -> Any:
            return kpm.solve(model, s, n_moments=256, n_probes=64, seed=0).local_field

        calls = {"forcefield": field.field}
        if n_sites <= KPM_SITES and given.device == "cpu":
            calls["kpm"] = by_kpm
        if n_sites <= EXACT_SITES and given.device == "cpu":
            calls["exact"] = by_exact
        for engine, call in calls.items():
            repetitions = 12 if engine == "forcefield" else 1
            seconds = shortest(step_of(call, state, "sib", 0.01), given.device, repetitions)
            rows.append(
                {"engine": engine, "n_sites": n_sites, "spin_steps_per_s": n_sites / seconds}
            )
            print(results.row_text(rows[-1]), flush=True)
        seconds = shortest(adams_steps(field.field, state), given.device, 5) / ADAMS_STEPS
        rows.append({"engine": "adams", "n_sites": n_sites, "spin_steps_per_s": n_sites / seconds})
        print(results.row_text(rows[-1]), flush=True)
    return rows


def share(given: Given) -> list[dict[str, Any]]:
    field, state = released(given, given.share_length)
    h = field.field(state)
    field_seconds = shortest(lambda: field.field(state), given.device, 3)
    rows = []
    for method in ("sib", "heun"):
        for kT in (0.0, 0.01):
            rest = shortest(step_of(lambda s: h, state, method, kT), given.device, 20)
            row = {"method": method, "kT": kT, "n_sites": len(state), "rest_seconds": rest}
            rows.append(row | {"share_not_field": rest / (rest + 2 * field_seconds)})
            print(results.row_text(rows[-1]), flush=True)
    return rows


def work(given: Given) -> list[dict[str, Any]]:
    field, state = released(given, given.share_length)
    left, right = torch.randn(2, PRODUCT, PRODUCT, device=given.device)
    rate = 2 * PRODUCT**3 / shortest(lambda: left @ right, given.device)
    matrix, elementwise = counted_work(lambda: field(state.clone().requires_grad_(True)).backward())
    environment = field.descriptor.environment
    walks = walk_work(environment.walks())[1] * len(state) if hasattr(environment, "walks") else 0
    seconds = shortest(lambda: field.field(state), given.device, 3)
    flop = matrix + elementwise + walks
    row = {
        "n_sites": len(state),
        "flop_per_site": flop / len(state),
        "matrix_flop_per_site": matrix / len(state),
        "walk_flop_per_site": walks / len(state),
        "field_us_per_site": 1e6 * seconds / len(state),
        "product_flop_per_s": rate,
        "share_of_product_rate": flop / seconds / rate,
    }
    print(results.row_text(row), flush=True)
    return [row]


def field(given: Given) -> list[dict[str, Any]]:
    """Rounds of the network's shortest time and of one diagonalization, beside each other."""
    rows = []
    for length in given.field_lengths:
        force_field, state = released(given, length)
        sites = force_field.lattice_of(len(state))
        model = dataclasses.replace(force_field.model, lattice=sites)

        times = []
        for _ in range(ROUNDS):
            own = shortest(functools.partial(force_field.field, state), given.device, 20)
            begin = time.perf_counter()
            exact.solve(model, state.cpu().double())
            times.append((own, time.perf_counter() - begin))
        ratios = [solved / evaluated for evaluated, solved in times]
        row = {"n_sites": len(state)}
        row["field_seconds"], row["exact_seconds"] = np.min(times, axis=0).tolist()
        row["exact_over_field"] = float(np.mean(ratios))
        row["exact_over_field_error"] = float(np.std(ratios, ddof=1) / ROUNDS**0.5)
        rows.append(row)
        print(results.row_text(row), flush=True)
    return rows


def drift(given: Given) -> list[dict[str, Any]]:
    """Energy a spin after one time unit without damping, at three steps, and its order."""
    sites = lattice.square(8)
    neighbors, bonds = torch.as_tensor(sites.neighbors()), sites.bonds()
    start = spins.random(64, 5)

    def energy(s: np.ndarray) -> float:
        return -(s[bonds[:, 0]] * s[bonds[:, 1]]).sum() / 64

    def heisenberg(s: torch.Tensor) -> torch.Tensor:
        return s[..., neighbors, :].sum(-2)

    rows = []
    for method in dynamics.METHODS:
        drifts = []
        for dt in (0.02, 0.01, 0.005):
            end = dynamics.integrate(start, heisenberg, dt, round(1 / dt), 0.0, method=method)
            drifts.append(float(abs(energy(end) - energy(start))))
        order = float(np.log2(drifts[1] / drifts[2])) if drifts[2] > 1e-12 else None
        rows.append({"method": method, "drift_per_spin": drifts, "order": order})
        print(results.row_text(rows[-1]), flush=True)
    return rows


PARTS = {part.__name__: part for part in (engines, share, work, field, drift)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--lengths", type=int, nargs="+", default=[24, 48, 96])
    parser.add_argument("--field-lengths", type=int, nargs="+", default=[24, 30, 48])
    parser.add_argument("--share-length", type=int, default=100, help="L of share and work")
    parser.add_argument("--force-field", default="triangular")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    about = {"threads": torch.get_num_threads(), "force_field": given.force_field}
    origin = results.measured_origin(given.device, **about)
    print(results.row_text(origin), flush=True)
    result: dict[str, Any] = {"origin": origin}
    for part in given.parts or PARTS:
        result[part] = PARTS[part](given)
    results.save_reference(given.output, result)


if __name__ == "__main__":
    main()
