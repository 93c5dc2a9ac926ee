"""Every torch path of the package on a device, against the same call on the CPU.

A path is a function of the device and of the :class:`Sizes`; it returns two mappings name ->
values that must agree: those of the CPU and of the device, or of two ways on the device. On a CPU
these are comparisons of a call with itself.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sdml import (
    dataset,
    dynamics,
    ensemble,
    exact,
    files,
    forcefield,
    kpm,
    lattice,
    observables,
    simulation,
    spins,
    training,
)
from sdml.coarsening import domains
from sdml.descriptor import MomentEnvironment, RawBondEnvironment, SymmetryEnvironment
from sdml.dynamics import LandauLifshitz
from sdml.model import paper_model

sys.path.append(str(files.root() / "studies"))
import coarsening

KINDS = ("triangular", "square")
DOUBLE, SINGLE, EQUILIBRATED = 1e-7, 5e-4, 2e-3
"""Largest differences by rounding: in double and single precision, and in single precision where
the chemical potential is found to 2e-6 electrons a site."""
SPREAD = 2e-2
"""Of what differences of members leave of their digits."""
N_FREE, LANGEVIN = 10000, 0.1
"""Free spins, and six standard errors of their magnetization."""
Values = Mapping[str, Any]
Call = Callable[[str], Values]


@dataclass(frozen=True)
class Sizes:
    """Lengths of the lattices of exact, kernel polynomial and network fields; moments; steps."""

    exact: int = 20
    kpm: int = 48
    n_moments: int = 128
    network: int = 48
    steps: int = 20


class Compared(NamedTuple):
    """A path: what returns the two mappings, and their largest difference, relative to the rms."""

    pair: Callable[[str, Sizes], tuple[Values, Values]]
    tolerance: float


def difference(expected: Values, found: Values) -> float:
    """Largest difference relative to the rms of the expected values, over all names."""
    worst = 0.0
    for name, value in expected.items():
        want, got = (np.asarray(on_cpu(x), dtype=complex) for x in (value, found[name]))
        if not np.array_equal(np.isfinite(want), np.isfinite(got)):
            return float("inf")
        apart = np.abs(want - got)[np.isfinite(want)].max(initial=0.0)
        worst = max(worst, float(apart / (spins.rms(want) or 1.0)))
    return worst


def on_cpu(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def state(kind: str, length: int, device: str, dtype: Any = torch.float64, n: int = 0) -> Any:
    """Random spins on the device, a batch if ``n``."""
    made = [spins.random(length**2, seed) for seed in range(max(n, 1))]
    return torch.as_tensor(np.stack(made) if n else made[0], dtype=dtype).to(device)


def against_cpu(call: Callable[[str, Sizes], Values], device: str, sizes: Sizes) -> Any:
    return call("cpu", sizes), call(device, sizes)


# --- electrons


def exact_state(kind: str, device: str, sizes: Sizes) -> Values:
    model = paper_model(getattr(lattice, kind)(sizes.exact), electron_kT=0.05)
    return vars(exact.solve(model, state(kind, sizes.exact, device, n=2), device))


def kpm_state(
    kind: str, probing: str | None, dtype: Any, device: str, sizes: Sizes
) -> dict[str, Any]:
    """With 64 probing vectors, or the exact trace; not the error, which is a difference itself."""
    length = sizes.kpm if probing else min(sizes.kpm, 24)
    model = paper_model(getattr(lattice, kind)(length), electron_kT=0.05)
    s = state(kind, length, device, dtype)
    way = (64, probing, 0) if probing else (None, "coloured", 0)
    found = vars(kpm.solve(model, s, sizes.n_moments, *way, device))
    return {k: v for k, v in found.items() if v is not None and k != "field_error"}


# --- networks


def network_values(field: Any, s: torch.Tensor) -> dict[str, Any]:
    found = {name: getattr(field, name)(s) for name in ("energy", "local_field", "local_energies")}
    found["extrapolation"] = field.readings(s, "extrapolation")["extrapolation"]
    return found | ({"density": field.density(s)} if hasattr(field, "density") else {})


def released(kind: str, dtype: Any, device: str, sizes: Sizes) -> Values:
    field = forcefield.load(kind).to(dtype).to(device)
    return network_values(field, state(kind, sizes.network, device, dtype, n=2))


def committee(kind: str, device: str, sizes: Sizes) -> Values:
    members = [forcefield.load(name) for name in (kind, f"{kind}_2")]
    field = forcefield.Committee(members).to(device)
    return {"local_field": field.local_field(state(kind, sizes.network, device, torch.float32))}


def committee_spread(kind: str, device: str, sizes: Sizes) -> Values:
    members = [forcefield.load(name) for name in (kind, f"{kind}_2")]
    field, s = forcefield.Committee(members).to(device), state(kind, sizes.network, device)
    return {of: field.spread(s, of) for of in ("energy", "field")}


def environment(name: str, kind: str) -> Any:
    if name == "moments":
        return MomentEnvironment(kind, 2, 4, {"triangular": 3.0, "square": 6.0}[kind])
    return {"symmetry": SymmetryEnvironment, "raw": RawBondEnvironment}[name](kind, 2.0, 1.0)


def untrained(name: str, kind: str, device: str, sizes: Sizes) -> Values:
    model = paper_model(getattr(lattice, kind)(sizes.network))
    field = forcefield.ForceField(model, environment(name, kind), (8,)).double().to(device)
    s = state(kind, sizes.network, device)
    return {"energy": field.energy(s), "local_field": field.local_field(s)}


class StoppedError(Exception):
    """A run was interrupted on purpose."""


def trained(name: str, device: str, checkpoint: Path | None = None) -> Values:
    """Weights after two epochs; with a checkpoint interrupted after the first and resumed."""
    model = paper_model(lattice.triangular(6))
    frames = np.stack([spins.random(36, seed) for seed in range(4)])
    data = dataset.label(model, frames, range(4), np.zeros(4))
    settings = training.TrainingSettings(2, batch_size=2, energy_weight=0.1)

    def stop(record: dict[str, float]) -> None:
        if record["epoch"] == 2:
            raise StoppedError

    for report in (stop, None) if checkpoint else (None,):
        field = forcefield.ForceField(model, environment(name, "triangular"), (8,))
        field = field.double().to(device)
        try:
            training.train(field, data, settings, data, report, checkpoint)
        except StoppedError:
            continue
    return dict(field.state_dict())


def trained_in_pieces(name: str, device: str, sizes: Sizes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        pieces = trained(name, device, Path(folder) / "run.safetensors")
    return trained(name, device), pieces


# --- dynamics and runs


def exchange(sites: lattice.Lattice, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    neighbors = torch.as_tensor(sites.neighbors(), device=device)
    return lambda s: s[..., neighbors, :].sum(-2)


def quiet_steps(method: str, device: str, sizes: Sizes) -> Values:
    equations = [LandauLifshitz(0.05, 0.1, 0.0, method)] * sizes.steps
    field = exchange(lattice.square(sizes.network), device)
    return {"spins": dynamics.evolve(state("square", sizes.network, device, n=2), field, equations)}


def noisy_steps(method: str, device: str, sizes: Sizes) -> Values:
    """The same noise on all devices, whose generators differ."""
    field, s = (
        exchange(lattice.square(sizes.network), device),
        state("square", sizes.network, device),
    )
    draw, known = torch.Generator().manual_seed(0), []
    for _ in range(sizes.steps):
        noise = torch.randn(s.shape, generator=draw, dtype=s.dtype).to(device)
        if weights := dynamics.WEIGHTS.get(method):
            s, known = dynamics.adams_step(s, field, 0.1, 0.05, noise, weights, known)
        else:
            s = dynamics.STEPS[method](s, field, 0.1, 0.05, noise)
    return {"spins": s}


def free_spins(device: str, sizes: Sizes) -> Any:
    """<m> = coth x - 1 / x in the field x kT = 1 along z, of the generator on the device."""
    field = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).to(device)
    start = torch.as_tensor(spins.random(N_FREE, 0)).to(device)
    end = dynamics.integrate(start, lambda s: field.expand(s.shape), 0.025, 200, 1.0, 1.0, 1)
    return {"m": np.array(1 / np.tanh(1) - 1)}, {"m": end[:, 2].mean()}


def noise_of_a_batch(device: str, sizes: Sizes) -> Any:
    """Every configuration of a batch gets the noise that it gets alone."""
    equations = [LandauLifshitz(0.05, 0.1, 0.1)] * sizes.steps
    field, s = (
        exchange(lattice.square(sizes.network), device),
        state("square", sizes.network, device),
    )

    def sources() -> list[Any]:
        return [dynamics.generator(equations[0], seed, device) for seed in (1, 2)]

    together = dynamics.evolve(torch.stack([s, s]), field, equations, sources())
    alone = [dynamics.evolve(s, field, equations, rng) for rng in sources()]
    return {"spins": torch.stack(alone)}, {"spins": together}


def stored(target: Path, kT: float, ends: tuple[int, ...], device: str, sizes: Sizes) -> Values:
    """A run of two seeds to each of the ends in turn, in one store."""
    field = forcefield.load("triangular").to(device)
    sites = lattice.triangular(sizes.network)
    measured = {k: ensemble.OBSERVABLES[k] for k in ("chirality", "chirality_length", "clusters")}
    for n_steps in ends:
        run = simulation.quench(
            target,
            sites,
            state("triangular", sizes.network, device, torch.float32, n=2),
            field.on(sites).field,
            LandauLifshitz(0.5, 0.1, kT, "sib" if kT else "adams"),
            n_steps,
            2,
            seed=[1, 2],
            observables=measured,
            guard=simulation.Guard(field.on(sites), warn_above=1.0),
            progress=False,
        )
    return {"spins": run.spins, "frames": run.frames} | run.observables | run.guard


def stored_run(device: str, sizes: Sizes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            stored(Path(folder, f"{k}.h5"), 0.0, (4,), where, sizes)
            for k, where in enumerate(("cpu", device))
        ]
    return tuple({k: v for k, v in run.items() if k not in RAW} for run in runs)


RAW = ("norm_drift", "energy_drift", "outside", "clusters")
"""Rows that rounding decides."""


def resumed_run(kT: float, device: str, sizes: Sizes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            stored(Path(folder, f"{len(ends)}.h5"), kT, ends, device, sizes)
            for ends in ((4,), (2, 4))
        ]
    return tuple({"spins": run["spins"]} for run in runs)


def measured(kind: str, device: str, sizes: Sizes) -> Values:
    """All that runs measure, on one configuration."""
    sites, s = getattr(lattice, kind)(sizes.network), state(kind, sizes.network, device)
    functions = ensemble.OBSERVABLES | {"lengths": domains.domain_lengths}
    if kind == "triangular":
        functions = {k: v for k, v in functions.items() if k != "neel"} | coarsening.OBSERVABLES
    else:
        functions |= {"neel_length": observables.neel_length}
    return {name: function(sites, s) for name, function in functions.items()}


def paths() -> Iterator[tuple[str, Compared]]:
    """Name and path of each, in the order of their worth."""

    def same(call: Any, *arguments: Any) -> Any:
        return partial(against_cpu, partial(call, *arguments))

    for kind in KINDS:
        yield f"exact {kind}", Compared(same(exact_state, kind), DOUBLE)
        for dtype, tolerance in ((torch.float64, DOUBLE), (torch.float32, SINGLE)):
            digits = str(dtype).removeprefix("torch.")
            for probing in (None, *kpm.PROBINGS):
                call = same(kpm_state, kind, probing, dtype)
                yield f"kpm {kind} {probing or 'exact trace'} {digits}", Compared(call, tolerance)
            loose = EQUILIBRATED if dtype == torch.float32 else tolerance
            yield f"network {kind} {digits}", Compared(same(released, kind, dtype), loose)
        for name in ("symmetry", "raw", "moments"):
            yield f"network {kind} {name}", Compared(same(untrained, name, kind), DOUBLE)
        yield f"committee {kind}", Compared(same(committee, kind), EQUILIBRATED)
        yield f"committee {kind} spread", Compared(same(committee_spread, kind), SPREAD)
        yield f"observables {kind}", Compared(same(measured, kind), DOUBLE)
    for name in ("symmetry", "moments"):
        call = same(lambda device, sizes, name=name: trained(name, device))
        yield f"training {name}", Compared(call, 1e-4)
        yield f"training {name} resumed", Compared(partial(trained_in_pieces, name), 0.0)
    for method in dynamics.METHODS:
        yield f"steps {method}", Compared(same(quiet_steps, method), DOUBLE)
        yield f"steps {method} with noise", Compared(same(noisy_steps, method), DOUBLE)
    yield "noise of free spins", Compared(free_spins, LANGEVIN)
    yield "noise of a batch", Compared(noise_of_a_batch, DOUBLE)
    yield "stored run", Compared(stored_run, EQUILIBRATED)
    for kT in (0.0, 0.01):
        yield f"stored run resumed at kT {kT:g}", Compared(partial(resumed_run, kT), 0.0)
