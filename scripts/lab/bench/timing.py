"""Medians of repeated calls that take turns, so that a machine that slows down slows down all that is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

import torch

K = TypeVar("K")

CPU_SIZES = (1024, 2048)
GPU_SIZES = (4096, 8192)
"""Sides of the square matrices whose product is timed: large enough for the full rate, small enough for a fraction of a second."""
GPU_WARM = 3
"""Untimed rounds on a GPU, whose kernels are compiled for the first of them and picked in the next."""


def medians(calls: Mapping[K, Callable[[], object]], *, repeats: int, device: str = "cpu") -> dict[K, float]:
    """Median seconds of each call: untimed rounds to warm up, then `repeats` rounds in each of which every call is timed once."""
    warm = 1 if device == "cpu" else GPU_WARM
    times: dict[K, list[float]] = {name: [] for name in calls}
    for number in range(warm + repeats):
        for name, call in calls.items():
            taken = seconds(call, device)
            if number >= warm:
                times[name].append(taken)
    return {name: median(found) for name, found in times.items()}


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, with all work that it left to a GPU."""
    wait(device)
    before = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - before


def wait(device: str) -> None:
    """Until a GPU has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def products(device: str, dtype: torch.dtype) -> dict[str, tuple[Callable[[], object], float]]:
    """Matrix products to time, and the operations of each: the fastest tells the device's rate in `dtype`."""
    found = {}
    for n in CPU_SIZES if device == "cpu" else GPU_SIZES:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        found[f"product {n}"] = ((lambda a=a, b=b: a @ b), 2.0 * n**3)
    return found  # type: ignore[return-value]


def busy_seconds(call: Callable[[], object], device: str) -> float:
    """Seconds of one call in which the GPU computes, by torch's profiler: the sum over its kernels and copies."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    wait(device)
    with torch.profiler.profile(activities=activities) as profile:
        call()
        wait(device)
    return 1e-6 * sum(event.self_device_time_total for event in profile.key_averages())
