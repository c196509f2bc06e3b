"""Published HRM's augmentation in plain numpy and its way of training, the kit's way beside it, and calls that are timed in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hrm_submit.arc.canvas import position_ids
from hrm_submit.arc.task import Pair
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.model.act import Batch
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import build
from hrm_submit.train.loop import CanvasBatch, Trainer

SIDE = 30
ACT_STEPS = 16
SMALL = 128
"""Models up to this width run on one CPU thread, as in a worker; wider ones on all threads."""
CPU_BATCH = 4
"""Batch of wider models on a CPU, where the published way takes seconds an example."""
GPU_BATCH = 96
"""The published batch of 768, divided among its 8 GPUs."""

Tokens = npt.NDArray[np.uint8]
K = TypeVar("K")


def augmented(pair: Pair, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
    """Augment a pair by the published rule: input and output tokens, (900,) each.

    A dihedral transform, a permutation of colours 1-9, both grids at one random place on a 30x30 canvas, EOS below and right of each.
    """
    number = int(rng.integers(0, 8))
    colours = np.concatenate([np.zeros(1, dtype=np.uint8), rng.permutation(np.arange(1, 10, dtype=np.uint8))])
    given, wanted = (_transform(colours[grid], number) for grid in (pair.input, pair.output))
    rows, columns = max(given.shape[0], wanted.shape[0]), max(given.shape[1], wanted.shape[1])
    top, left = int(rng.integers(0, SIDE - rows + 1)), int(rng.integers(0, SIDE - columns + 1))
    return _placed(given, top, left), _placed(wanted, top, left)


def _transform(grid: Tokens, number: int) -> Tokens:
    if number < 4:
        return np.rot90(grid, number)
    mirrored: tuple[Callable[[Tokens], Tokens], ...] = (np.fliplr, np.flipud, np.transpose, lambda g: np.fliplr(np.rot90(g)))
    return mirrored[number - 4](grid)


def _placed(grid: Tokens, top: int, left: int) -> Tokens:
    rows, columns = grid.shape
    canvas = np.pad(grid + 2, ((top, SIDE - top - rows), (left, SIDE - left - columns)))
    if top + rows < SIDE:
        canvas[top + rows, left : left + columns] = 1
    if left + columns < SIDE:
        canvas[top : top + rows, left + columns] = 1
    return canvas.flatten()


@dataclass(frozen=True)
class Way:
    """A preset on a device; `whole` compiles the model in one piece, as the published code does."""

    preset: Preset
    runtime: Runtime
    whole: bool = False


def kit_way(preset: Preset | str, device: str, *, batch: int | None = None) -> Way:
    """Return the kit's way: the preset as it is, with a batch that `device` can be measured with."""
    preset = load_preset(preset) if isinstance(preset, str) else preset
    own = preset.ttt.batch_size if preset.model.hidden_size <= SMALL else CPU_BATCH
    size = batch or (own if device == "cpu" else GPU_BATCH)
    return Way(replace(preset, ttt=replace(preset.ttt, batch_size=size)), runtime_for(device, preset.device))


def published_way(kit: Way) -> Way:
    """Return the published way at the sizes, cycles and number format of `kit`.

    A continue target by a second forward, up to 16 segments a sequence, full attention by torch; compiled whole on a GPU.
    """
    levels: dict[str, Any] = {"H_mixer": "attention", "L_mixer": "attention"}
    model = replace(kit.preset.model, continue_target=True, halt_max_steps=ACT_STEPS, halt_exploration_prob=0.1, **levels)
    ttt = replace(kit.preset.ttt, optimizer="adam_atan2", segments=ACT_STEPS)
    runtime = replace(kit.runtime, attention="sdpa", kernels="torch", engine="plain")
    return Way(replace(kit.preset, model=model, ttt=ttt), runtime, whole=runtime.device != "cpu")


def segment(way: Way, side: int) -> Callable[[], Tensor]:
    """Return a call that trains a fresh model for one segment on random tokens of a canvas and returns its loss, a tensor."""
    size, device, drawn = way.preset.ttt.batch_size, way.runtime.device, torch.Generator().manual_seed(0)
    inputs, labels = (torch.randint(0, 12, (size, side * side), generator=drawn).to(device) for _ in range(2))
    rows = torch.zeros(size, dtype=torch.long, device=device)
    batch = CanvasBatch(Batch(inputs, labels, rows, rows), torch.from_numpy(position_ids(side)).to(device))
    model, embedding = build(way.preset.model, way.runtime)
    if way.whole:
        model.compile(dynamic=False)
    else:
        compile_blocks(model, way.runtime.engine)
    trained = Trainer(model, embedding, way.preset.ttt, torch.Generator().manual_seed(0))
    return lambda: next(trained.run(iter([batch]), lambda: 0.5)).loss


def medians(calls: Mapping[K, Callable[[], object]], *, repeats: int, device: str = "cpu") -> dict[K, float]:
    """Return the median seconds of each call, after untimed rounds.

    The calls take turns, so that a machine that slows down slows down all of them.
    """
    warm = 1 if device == "cpu" else 3  # a GPU's kernels are compiled in the first round and chosen in the next
    times: dict[K, list[float]] = {name: [] for name in calls}
    for number in range(warm + repeats):
        for name, call in calls.items():
            taken = seconds(call, device)
            if number >= warm:
                times[name].append(taken)
    return {name: median(found) for name, found in times.items()}


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Return the seconds of one call, with all work that it left to a GPU."""
    wait(device)
    before = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - before


def wait(device: str) -> None:
    """Wait until a GPU has done all its work."""
    if device != "cpu":
        torch.cuda.synchronize(device)
