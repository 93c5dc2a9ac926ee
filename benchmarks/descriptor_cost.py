"""Cost of the descriptors: microseconds a site for features, and for features and gradient.

    python benchmarks/descriptor_cost.py [case ...] [--length 100] [--device cuda] [--output NAME]

The work of a case is what torch does: 2 m n k for its matrix products (torch's own counter, given
apart as ``matrix_flop``), and one operation an element for its elementwise sums, products and roots
(two for a fused product and sum); copies and gathers count nothing, the compiled loops of the
moments what stands in their source. ``ideal`` is the time of that work in one float32 matrix
product of the same process. Times are minima of several runs after a warm-up, the calls taking
turns. ``--output`` writes data/reference/NAME.json. Threads follow OMP_NUM_THREADS.
"""

import argparse
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from timing import shortest_times
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sdml import lattice, spins
from sdml.companion import results
from sdml.descriptor import MomentEnvironment, RawBondEnvironment, SymmetryEnvironment, Walks

REPETITIONS = 9
CASES: dict[str, Callable[[], Any]] = {
    "symmetry triangular r=2": lambda: SymmetryEnvironment("triangular", 2.0, 2.0),
    "symmetry square r=2": lambda: SymmetryEnvironment("square", 2.0, 2.0),
    "symmetry triangular r=3": lambda: SymmetryEnvironment("triangular", 3.0, 3.0),
    "raw triangular r=2": lambda: RawBondEnvironment("triangular", 2.0, 2.0),
    "raw square published": lambda: RawBondEnvironment("square", 26**0.5, 3.0),
    "moments triangular": lambda: MomentEnvironment("triangular", 4, 12, 3.0),
    "moments square": lambda: MomentEnvironment("square", 4, 12, 6.0),
}


def walk_work(walks: Walks) -> tuple[int, int]:
    """Operations a site of :mod:`walks`: moments, and moments with their gradient."""
    counts, z = walks.counts, walks.neighbors.shape[1]
    steps, inner = int(counts[1:].sum()), int(counts[:-1].sum())
    products = sum(int(counts[n // 2]) for n in range(walks.n_steps + 1, 2 * walks.n_steps + 1))
    # On a bipartite lattice: one part of two, and of a product its scalar or its vector alone.
    parts, product, adjoint = (1, 16, 30) if walks.sublattice.any() else (2, 64, 102)
    walk = parts * steps * (8 * z + 42)
    moments = walk + product * products
    return moments, moments + walk + parts * inner * (8 * z + 71) + adjoint * products


class ElementwiseCounter(TorchDispatchMode):
    """Counts the elements that arithmetic writes, or reads in a sum."""

    WEIGHTS: ClassVar = dict.fromkeys(("mul", "add", "sub", "div", "rsqrt", "pow", "neg"), 1) | {
        "addcmul": 2
    }

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            counted = args[0] if name == "sum" else result
            self.total += counted.numel() * (name == "sum" or self.WEIGHTS.get(name, 0))
        return result


def counted_work(call: Callable[[], object]) -> tuple[int, int]:
    """Floating-point operations of a call: matrix products, elementwise."""
    with ElementwiseCounter() as elementwise, FlopCounterMode(display=False) as products:
        call()
    return products.get_total_flops(), elementwise.total


def equal_product(work: int, device: str) -> Callable[[], object]:
    """One square float32 matrix product of the same work; of 64 x 64 matrices at least."""
    n = max(64, round((work / 2) ** (1 / 3)))
    left, right = torch.randn(2, n, n, device=device)
    return lambda: left @ right


def measure(name: str, environment: Any, length: int, device: str) -> dict[str, Any]:
    descriptor = environment.descriptor().to(device)
    lat = getattr(lattice, environment.kind)(length)
    table = descriptor.neighbor_table(lat).to(device)
    state = torch.as_tensor(spins.random(lat.n_sites, 0), dtype=torch.float32, device=device)
    weights = torch.randn(lat.n_sites, descriptor.n_features, device=device)

    def features() -> None:
        with torch.no_grad():
            descriptor(state, table)

    def gradient() -> None:
        leaf = state.clone().requires_grad_(True)
        descriptor(leaf, table).backward(weights)

    calls: dict[str, Callable[[], object]] = {"features": features, "gradient": gradient}
    work = {key: counted_work(call) for key, call in calls.items()}
    if isinstance(environment, MomentEnvironment):
        loops = zip(work, walk_work(environment.walks()), strict=True)
        work |= {key: (work[key][0], work[key][1] + n * lat.n_sites) for key, n in loops}
    products = {f"{key} ideal": equal_product(sum(n), device) for key, n in work.items()}
    seconds = shortest_times(calls | products, device, REPETITIONS)
    row: dict[str, Any] = {
        "case": name,
        "n_sites": lat.n_sites,
        "n_places": table.shape[1],
        "n_features": descriptor.n_features,
    }
    for key, n in work.items():
        row[f"{key}_us_per_site"] = 1e6 * seconds[key] / lat.n_sites
        row[f"{key}_flop_per_site"] = sum(n) / lat.n_sites
        row[f"{key}_matrix_flop_per_site"] = n[0] / lat.n_sites
        row[f"{key}_over_ideal"] = seconds[key] / seconds[f"{key} ideal"] if sum(n) else None
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="name of a file in data/reference")
    given = parser.parse_args()
    origin = results.measured_origin(given.device, threads=torch.get_num_threads())
    print(results.row_text(origin), flush=True)
    rows = []
    for name in given.cases or CASES:
        rows.append(measure(name, CASES[name](), given.length, given.device))
        print(results.row_text(rows[-1]), flush=True)
    results.save_reference(given.output, {"origin": origin, "descriptors": rows})


if __name__ == "__main__":
    main()
