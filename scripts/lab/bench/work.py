"""The work that rows are measured on: real demonstrations of public sets, as test-time training meets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Grid, Task
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.corpora.named import load_named
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import Checkpoint, build_on
from hrm_submit.solver.session import n_rows
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, Trainer
from lab.bench.published import SIDE, exact

ARC_1, ARC_2 = "arc-agi-1-evaluation", "arc-agi-2-evaluation"
CPU_BATCH = 4
"""Examples of a batch on a CPU of presets wider than `SMALL`, where the published way takes seconds for each; others have their own."""
SMALL = 128
"""Widths up to this one are measured on one CPU thread, as a worker runs them; wider ones on all."""
GPU_BATCH = 96
"""On a GPU: the published batch of 768, divided among the 8 that it was trained on."""


@lru_cache
def by_size(dataset: str) -> tuple[Task, ...]:
    """All tasks of a set, by the side of their canvas."""
    return tuple(sorted(_named(dataset)[0].values(), key=lambda t: (canvas_side(t), t.id)))


def solutions(dataset: str, tasks: Sequence[Task]) -> dict[str, tuple[Grid, ...]]:
    """The right outputs of `tasks`."""
    return {task.id: _named(dataset)[1][task.id] for task in tasks}


_named = lru_cache(load_named)


def sample(dataset: str, n: int, largest: int = SIDE) -> list[Task]:
    """`n` tasks of canvases of side `largest` at most, spread evenly over the sizes: the middle one of each of `n` equal parts."""
    tasks = [task for task in by_size(dataset) if canvas_side(task) <= largest]
    return [tasks[int((k + 0.5) * len(tasks) / n)] for k in range(n)]


@dataclass(frozen=True)
class Way:
    """How a preset is trained: the kit's own way, or the published one. `side` is the canvas of every task, None its own;
    `compiled` compiles the whole model, as the published code does on a GPU."""

    preset: Preset
    runtime: Runtime
    side: int | None = None
    compiled: bool = False


def sized(preset: Preset, device: str) -> Preset:
    """`preset` with a batch that `device` can be measured with."""
    size = preset.ttt.batch_size if preset.model.hidden_size <= SMALL else CPU_BATCH
    return replace(preset, ttt=replace(preset.ttt, batch_size=GPU_BATCH if device != "cpu" else size))


def threads(preset: Preset) -> int:
    """CPU threads to measure `preset` on."""
    return 1 if preset.model.hidden_size <= SMALL else torch.get_num_threads()


def our_way(preset: Preset, device: str, side: int | None = None) -> Way:
    """As `preset` says."""
    return Way(preset, runtime_for(device, preset.device), side)


def published_way(preset: Preset, device: str) -> Way:
    """900 tokens, a second forward, torch's own attention; the same size of model in the same number format. Compiled on a GPU."""
    runtime = replace(runtime_for(device, preset.device), attention="sdpa", kernels="torch", compile=False)
    return Way(exact(preset), runtime, SIDE, compiled=device != "cpu")


def trainer(way: Way, source: Checkpoint | None = None) -> Trainer:
    """A model in training, fresh or from a checkpoint, whose sizes are then the checkpoint's own."""
    preset, runtime = way.preset, way.runtime
    start = replace(source, config=preset.model) if source else preset.model
    model, embedding = build_on(runtime, start, n_rows=n_rows(preset))
    if way.compiled:
        model.compile(dynamic=False)
    elif runtime.compile:
        compile_blocks(model)
    return Trainer(model, embedding, preset.ttt, torch.Generator().manual_seed(0), recorded=runtime.cuda_graphs)


def batch_of(task: Task, way: Way) -> CanvasBatch:
    """One training batch of a task."""
    rng, ttt = np.random.default_rng(0), way.preset.ttt
    views = sample_augmentations(task, min(ttt.augmentations, 64), rng, colours=ttt.colours)
    rows = list(range(len(views))) if way.preset.model.embedding == "augmented" else [0] * len(views)
    return next(task_batches(task.train, views, rows, way.side or canvas_side(task), ttt, rng, way.runtime.device))


def segment(trained: Trainer, batch: CanvasBatch) -> Callable[[], object]:
    """A call that trains on `batch` once: forward, backward, optimizer step."""
    return lambda: next(trained.run(iter([batch]), lambda: 0.5))
