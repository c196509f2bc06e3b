"""What is measured in a process of its own: `python -m lab.bench.once training NAME kit|published DEVICE` prints what it found as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.allocator import keep_freed_memory
from hrm_submit.model.packaged import packaged_checkpoint, resolve_preset
from hrm_submit.model.weights import Checkpoint, load_checkpoint
from lab.bench.work import ARC_1, Way, batch_of, our_way, published_way, sample, segment, sized, trainer


def training(name: str, way: str, device: str) -> dict[str, float]:
    """Peak MiB added by two segments on the middle task of ARC-AGI-1 evaluation."""
    (task,) = sample(ARC_1, 1)
    preset = sized(load_preset(name), device)

    def work() -> None:
        chosen: Way = (published_way if way == "published" else our_way)(preset, device)
        step = segment(trainer(chosen), batch_of(task, chosen))
        step()
        step()

    return {"mib": _added(work, device)}


def inference(way: str, device: str) -> dict[str, float]:
    """Peak MiB added by the vote on one test grid of the same task."""
    from lab.bench.inference import kit_voter, published_voter, with_views

    (task,) = sample(ARC_1, 1)
    preset, weights = _shipped()
    voter = published_voter if way == "published" else kit_voter
    return {"mib": _added(lambda: voter(with_views(preset, device), weights, device).answers(task), device)}


def start(device: str) -> dict[str, float]:
    """Train nano for one segment from the package's checkpoint; `at` is the time of the day when it was done."""
    rng = np.random.default_rng(0)
    grids = [make_grid(rng.integers(0, 10, (10, 10))) for _ in range(5)]
    task = Task("some", (Pair(grids[0], grids[1]), Pair(grids[2], grids[3])), (grids[4],))
    preset, weights = _shipped()
    way = our_way(preset, device)
    torch.set_num_threads(way.runtime.threads)
    if device == "cpu":
        keep_freed_memory()
    report = segment(trainer(way, weights), batch_of(task, way))()
    assert report.loss.item() > 0  # type: ignore[attr-defined]
    return {"at": time.time()}


def _shipped() -> tuple[Preset, Checkpoint]:
    box = packaged_checkpoint("")
    assert box is not None, "the package carries a checkpoint"
    return resolve_preset("", box), load_checkpoint(box)


def _added(work: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.init()  # resetting the peak fails in a process that has not touched the GPU
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    # Forgets the peak of the imports (proc(5)); where that is not possible they hide what is below it.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    work()
    return _peak() - before


def _peak() -> int:
    """MiB of this process, at most so far."""
    with suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


if __name__ == "__main__":
    known: dict[str, Callable[..., dict[str, float]]] = {"training": training, "inference": inference, "start": start}
    print(json.dumps(known[sys.argv[1]](*sys.argv[2:])))
