"""Ratios of times that a noisy machine disturbs little: every way runs once per round, in rotating order."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way in each round, after a warm-up; each round runs all ways, beginning with the next."""
    names = list(ways)
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            _wait()
            start = time.perf_counter()
            ways[name]()
            _wait()
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def ratio(name: str, times: Sequence[float], reference: Sequence[float]) -> dict:
    """Fields of a row: `name`, the median of the ratios of times of one round, and `name`_quartiles."""
    ratios = [one / other for one, other in zip(times, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {name: median, f"{name}_quartiles": [low, high]}


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Fields of a row: the median of each way, as WAY_ms."""
    return {f"{name}_ms": statistics.median(values) for name, values in times.items()}


def machine() -> dict:
    """What a time depends on, for a report."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "threads": torch.get_num_threads()}


def peak_bytes() -> int:
    """The most memory that this process has held; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
