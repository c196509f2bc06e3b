"""Which workers a run has: how many on each device, with how many threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import cpu_count, free_bytes
from hrm_submit.run.cost import segment_work
from hrm_submit.run.memory import training_bytes, workers_that_fit
from hrm_submit.run.protocol import WorkerSpec

log = logging.getLogger(__name__)

COMPILING_PAYS_FROM = 120.0
"""Seconds of a run from which a CPU's kernels are worth the 5 to 15 that their compilation takes where no earlier run left it."""
MOST_ON_A_GPU = 4
FILLS_A_GPU = 1e12
"""Operations of a segment above which one worker keeps a GPU busy; below, the launches of several overlap."""


def worker_specs(
    devices: Sequence[str],
    preset: Preset,
    checkpoint: Path | None,
    seed: int,
    tasks: Sequence[Task],
    fixed_work: bool,
    free: Callable[[str], int] = free_bytes,
) -> tuple[list[WorkerSpec], Preset]:
    """The workers of a run, and the preset that they work by.

    On a GPU as many as `[device] workers_per_gpu` says, or, where that is 0, as many as memory (`free` bytes of a device) holds
    while one alone would leave the GPU idle and there is a core for each to launch its work. On a CPU as many as `[device] workers`
    says, or one for each core. Never more than tasks. With fewer tasks than cores the spare cores become threads of the workers,
    except in fixed-work mode, where the number of threads must not depend on the machine.
    """
    places: list[str] = []
    gpus = [d for d in devices if d != "cpu"]
    for gpu in gpus:
        places += [gpu] * (preset.device.workers_per_gpu or min(_on_gpu(gpu, preset, tasks, free), max(1, cpu_count() // len(gpus))))
    places = _in_turn(places, gpus)[: max(len(gpus), len(tasks))]
    if "cpu" in devices:
        cores = max(1, (preset.device.workers or cpu_count() // preset.device.threads))
        workers = max(1, min(cores, len(tasks)))
        if not fixed_work and not preset.device.workers and tasks and workers < cores:
            preset = replace(preset, device=replace(preset.device, threads=max(1, cpu_count() // workers)))
        places += ["cpu"] * workers
    tokens = max((canvas_side(t) for t in tasks), default=1) ** 2
    specs = [
        WorkerSpec(number, device, preset, checkpoint, seed, tokens, sharing=places.count(device)) for number, device in enumerate(places)
    ]
    return specs, preset


def for_budget(preset: Preset, seconds: float | None) -> Preset:
    """`preset` for a run of that many seconds (None: fixed work): where they are few, nothing is compiled that torch can do as it is."""
    if seconds is None or seconds >= COMPILING_PAYS_FROM or preset.device.kernels != "auto":
        return preset
    return replace(preset, device=replace(preset.device, kernels="torch"))


def on_cpu(preset: Preset) -> Preset:
    """`preset` for a CPU that takes over from a GPU: nothing of how that was told to run, and what was said of CPUs stays."""
    return replace(preset, device=replace(preset.device, dtype="auto", attention="auto", compile=False))


def _in_turn(places: list[str], gpus: list[str]) -> list[str]:
    """The same places, so ordered that few tasks spread over all GPUs."""
    rounds = max((places.count(g) for g in gpus), default=0)
    return [g for k in range(rounds) for g in gpus if places.count(g) > k]


def _on_gpu(device: str, preset: Preset, tasks: Sequence[Task], free: Callable[[str], int]) -> int:
    if not tasks:
        return 1
    sides = [canvas_side(t) for t in tasks]
    if segment_work(preset.model, preset.ttt, int(median(sides)) ** 2) > FILLS_A_GPU:
        return 1
    runtime = runtime_for(device, preset.device)
    need = training_bytes(
        preset.model,
        max(sides) ** 2,
        preset.ttt.batch_size,
        element=4 if runtime.dtype == "float32" else 2,
        fused_attention=runtime.attention == "sdpa",
    )
    return workers_that_fit(free(device), need, MOST_ON_A_GPU)
