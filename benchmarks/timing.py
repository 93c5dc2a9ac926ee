"""Wall times of calls: minima of several, after one warm-up."""

import time
from collections.abc import Callable

import torch


def shortest_times(
    calls: dict[str, Callable[[], object]], device: str = "cpu", repetitions: int = 5
) -> dict[str, float]:
    """Minimum wall time of every call, the calls taking turns after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(repetitions + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_number:
                times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def shortest(call: Callable[[], object], device: str = "cpu", repetitions: int = 5) -> float:
    """Minimum wall time of one call."""
    return shortest_times({"call": call}, device, repetitions)["call"]
