"""Choose the workers of a run: how many on each device, with how many threads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import cpu_count, free_bytes
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.run.cost import CONTEXT_BYTES, segment_work, training_bytes
from hrm_submit.run.protocol import WorkerSpec

COMPILING_PAYS_FROM = 120.0
"""Seconds of a run from which a CPU's kernels repay the 5 to 15 that their compilation takes where no earlier run left it."""
MOST_ON_A_GPU = 4
FILLS_A_GPU = 1e12
"""Operations of a segment above which one worker keeps a GPU busy; below, the launches of several overlap."""


def worker_specs(
    devices: Sequence[str],
    members: Sequence[EnsembleMember],
    seed: int,
    tasks: Sequence[Task],
    fixed_work: bool,
    free: Callable[[str], int] = free_bytes,
) -> list[WorkerSpec]:
    """Return the workers of a run, at least one.

    A GPU gets `[device] workers_per_gpu`; where that is 0, as many as its memory (`free` bytes) holds with the largest model while one
    alone would leave it idle, at most one for each core. A CPU gets `[device] workers`, or one for each core, but no more than
    there are tasks. With fewer tasks than cores the spare cores become threads of the workers, except in fixed-work mode, where the
    number of threads must not depend on the machine.
    """
    device = members[0].preset.device
    gpus = [d for d in devices if d != "cpu"]
    cores_each = max(1, cpu_count() // max(1, len(gpus)))

    def workers_on(gpu: str) -> int:
        runtime, models = runtime_for(gpu, device), [m.preset for m in members]
        element, fused = 4 if runtime.dtype == "float32" else 2, runtime.attention == "sdpa"
        return min(cores_each, that_fit(models, tasks, lambda: free(gpu), element=element, fused_attention=fused))

    counts = {gpu: device.workers_per_gpu or workers_on(gpu) for gpu in gpus}
    in_rounds = [gpu for k in range(max(counts.values(), default=0)) for gpu in gpus if counts[gpu] > k]
    chosen = in_rounds[: max(len(gpus), len(tasks))]
    if "cpu" in devices:
        cores = max(1, device.workers or cpu_count() // device.threads)
        workers = max(1, min(cores, len(tasks)))
        if not fixed_work and not device.workers and tasks and workers < cores:
            members = with_device(members, threads=max(1, cpu_count() // workers))
        chosen += ["cpu"] * workers
    like = WorkerSpec(0, "cpu", tuple(members), seed, largest_canvas(tasks))
    return [replace(like, number=number, device=place, sharing=chosen.count(place)) for number, place in enumerate(chosen)]


def largest_canvas(tasks: Sequence[Task]) -> int:
    """Return the cells of the largest canvas of `tasks`."""
    return max(map(canvas_side, tasks), default=1) ** 2


def with_device(members: Sequence[EnsembleMember], **settings: Any) -> tuple[EnsembleMember, ...]:
    """Return `members` with these settings of `[device]`."""
    return tuple(replace(m, preset=replace(m.preset, device=replace(m.preset.device, **settings))) for m in members)


def for_budget(members: Sequence[EnsembleMember], seconds: float | None) -> tuple[EnsembleMember, ...]:
    """Return `members` for a run of that many seconds (None: fixed work); a short one compiles nothing that torch can do as it is."""
    if seconds is None or seconds >= COMPILING_PAYS_FROM or members[0].preset.device.kernels != "auto":
        return tuple(members)
    return with_device(members, kernels="torch")


def on_cpu(members: Sequence[EnsembleMember]) -> tuple[EnsembleMember, ...]:
    """Return `members` for a CPU that takes over from a GPU, without the settings that were meant for that."""
    return with_device(members, dtype="auto", attention="auto", engine="plain")


def that_fit(
    models: Sequence[Preset], tasks: Sequence[Task], free: Callable[[], int], *, element: int = 2, fused_attention: bool = True
) -> int:
    """Return how many workers, at least 1, the `free` bytes of a GPU hold, with numbers of `element` bytes; the largest of `models` and of
    `tasks` decide. Where a model keeps a GPU busy with the median of `tasks`, one worker has it to itself, and `free` is not asked: a
    driver may take 20 s to refuse."""
    if not tasks or max(segment_work(m.model, m.ttt, int(median(map(canvas_side, tasks))) ** 2) for m in models) > FILLS_A_GPU:
        return 1
    tokens = largest_canvas(tasks)
    needed = (training_bytes(m.model, tokens, m.ttt.batch_size, element=element, fused_attention=fused_attention) for m in models)
    return max(1, min(MOST_ON_A_GPU, int(0.9 * free()) // (max(needed) + CONTEXT_BYTES)))
