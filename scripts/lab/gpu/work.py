"""What the steps train: made-up tasks, models of a preset, and segments of them in each way of computing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import build_on
from hrm_submit.solver.session import n_rows
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, Trainer


def made_up(task_id: str, side: int, seed: int = 0, pairs: int = 3) -> Task:
    """A task of grids of `side`: every cell takes the colour after its own. `side` 30 leaves no room for a border."""
    rng = np.random.default_rng(seed)

    def grid() -> np.ndarray:
        return rng.integers(0, 9, (side, side))

    inputs = [grid() for _ in range(pairs + 1)]
    shown = tuple(Pair(make_grid(g), make_grid(g + 1)) for g in inputs[:pairs])
    return Task(task_id, shown, (make_grid(inputs[pairs]),))


@dataclass(frozen=True)
class Way:
    """A preset in a way of computing; `whole` compiles the model as the published code does."""

    preset: Preset
    runtime: Runtime
    whole: bool = False


def way(name: str, device: str, *, batch: int, compiled: bool = False, recorded: bool = False, most: int = 1) -> Way:
    """The preset `name` on `device`, in torch's own operations on a CPU too, where they are what a GPU is compared with; its sequences
    are carried through up to `most` segments, unless the preset has several itself."""
    preset = load_preset(name)
    preset = replace(preset, ttt=replace(preset.ttt, batch_size=batch))
    if most > 1:
        model = replace(preset.model, halt_max_steps=most, halt_exploration_prob=0.5)
        preset = replace(preset, model=model, ttt=replace(preset.ttt, segments=most))
    runtime = runtime_for(device, replace(preset.device, compile=compiled, kernels="torch"))
    return Way(preset, replace(runtime, cuda_graphs=recorded))


def trainer(how: Way, seed: int = 0) -> Trainer:
    """A fresh model in training."""
    model, embedding = build_on(how.runtime, how.preset.model, n_rows=n_rows(how.preset), seed=seed)
    if how.whole:
        model.compile(dynamic=False)
    elif how.runtime.compile:
        compile_blocks(model)
    return Trainer(model, embedding, how.preset.ttt, torch.Generator().manual_seed(seed), recorded=how.runtime.cuda_graphs)


def batches(how: Way, task: Task, side: int) -> Iterator[CanvasBatch]:
    """Batches of a task, the same on every device."""
    rng, ttt = np.random.default_rng(0), replace(how.preset.ttt, translate=False)
    views = sample_augmentations(task, min(64, ttt.augmentations), rng, colours=ttt.colours)
    rows = list(range(len(views))) if how.preset.model.embedding == "augmented" else [0] * len(views)
    return task_batches(task.train, views, rows, side, ttt, rng, how.runtime.device)


def segments(how: Way, side: int, seed: int = 0) -> Callable[[], torch.Tensor]:
    """A call that trains one segment and returns its loss, on the device."""
    trained = trainer(how, seed)
    running = trained.run(batches(how, made_up("speed", max(1, min(side, 29))), side), lambda: 0.5)
    return lambda: next(running).loss
