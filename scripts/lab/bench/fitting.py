"""Test-time training of one task until its augmented demonstrations are fit, and what of that time goes into making its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.model.weights import Checkpoint, snapshot
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, Trainer
from lab.bench.inference import Voter, compared, kit_voter
from lab.bench.published import SIDE, augmented
from lab.bench.rows import Row, against
from lab.bench.timing import medians, seconds
from lab.bench.work import ARC_1, Way, batch_of, our_way, published_way, sample, segment, trainer

WINDOW = 10
"""Segments whose mean share of exactly right examples must come to the preset's `[ttt] fit`."""
SMALL_SIDE = 10
"""Largest canvas of the tasks that are trained on a CPU."""


@dataclass
class Fitted:
    """A task's training: `seconds` in all, of which `preparing` went into augmentations and batches, and whether it came to a fit."""

    trained: Trainer
    seconds: float
    preparing: float
    segments: int
    fit: bool


def rows(repeats: int, device: str, preset: Preset, checkpoint: Checkpoint, tasks: int, most: float) -> list[Row]:
    """Median seconds over tasks against as many segments the published way, and the share of the batches in them."""
    way, slow = our_way(preset, device), published_way(preset, device)
    chosen = sample(ARC_1, tasks, SMALL_SIDE if device == "cpu" else SIDE)
    fitted(chosen[0], way, checkpoint, most, segments=1)  # what is loaded and compiled at first use is no task's
    found = [fitted(t, way, checkpoint, most) for t in chosen]
    each = medians({"published": segment(trainer(slow), batch_of(chosen[0], slow))}, repeats=repeats, device=device)["published"]
    spent = median(f.seconds for f in found)
    base = each * median(f.segments for f in found)
    more = {"fit": f"{sum(f.fit for f in found)} of {len(found)}", "given up at": f"{most:g} s", "segments": [f.segments for f in found]}
    share = sum(f.preparing for f in found) / sum(f.seconds for f in found)
    # The published rule would make as many examples; all else would take as long.
    by_numpy = numpy_seconds(chosen, sum(f.segments for f in found) * preset.ttt.batch_size)
    plain = by_numpy / (by_numpy + sum(f.seconds - f.preparing for f in found))
    answers = _answers(chosen, found, preset, checkpoint, device)
    return [
        against("fitting", "nano from its checkpoint", "s", spent, "as many segments, published way", base, faster=False, more=more),
        against("fitting", "augmentation's share of that", "% of time", 100 * share, "by numpy", 100 * plain, faster=False),
        *answers,
    ]


def _answers(tasks: list[Task], found: list[Fitted], preset: Preset, checkpoint: Checkpoint, device: str) -> list[Row]:
    """How many answers of the trained weights stay the same when they are voted for in another way."""
    plainest = replace(preset.device, dtype="float32", attention="sdpa", kernels="torch")
    ways: dict[str, Callable[[Checkpoint], Voter]] = {
        "float32, torch's attention": lambda weights: kit_voter(replace(preset, device=plainest), weights, device),
        "900 tokens": lambda weights: replace(kit_voter(preset, weights, device), side=SIDE),
    }
    weights = {t.id: snapshot(f.trained.model, f.trained.embedding, checkpoint.meta) for t, f in zip(tasks, found, strict=True)}
    ours = {task.id: kit_voter(preset, weights[task.id], device).answers(task) for task in tasks}
    rows = []
    for name, way in ways.items():
        about = compared(tasks, ours, {task.id: way(weights[task.id]).answers(task) for task in tasks})
        same = 100 * about.pop("equal first answers")
        rows.append(Row("fitting", "first answers equal to those of", same, "%", name, more=about))
    return rows


def fitted(task: Task, way: Way, checkpoint: Checkpoint, most: float, segments: int | None = None) -> Fitted:
    """Train on `task` until it is fit, at most `most` seconds; or for so many `segments`."""
    began, ttt, rng = time.perf_counter(), way.preset.ttt, np.random.default_rng(0)
    trained = trainer(way, checkpoint)
    preparing = _Timed()
    views = preparing.call(lambda: sample_augmentations(task, ttt.augmentations, rng, colours=ttt.colours))
    made = task_batches(task.train, views, [0] * len(views), way.side or canvas_side(task), ttt, rng, way.runtime.device)
    exact: list[float] = []

    def spent() -> float:
        return time.perf_counter() - began

    def fit() -> bool:
        return len(exact) >= WINDOW and float(np.mean(exact[-WINDOW:])) >= ttt.fit

    for report in trained.run(preparing.each(made), lambda: min(1.0, spent() / most)):
        exact.append((report.metrics.exact_accuracy / report.metrics.count.clamp_min(1)).item())
        if len(exact) >= segments if segments else fit() or spent() >= most:
            break
    return Fitted(trained, min(spent(), most), preparing.seconds, len(exact), fit())


def numpy_seconds(tasks: list[Task], examples: int) -> float:
    """Seconds that the published rule takes for so many examples of `tasks`."""
    pairs, rng = [pair for task in tasks for pair in task.train], np.random.default_rng(0)
    some = 400

    def make() -> None:
        for k in range(some):
            augmented(pairs[k % len(pairs)], rng)

    return median(seconds(make) for _ in range(5)) / some * examples


class _Timed:
    """Adds up the seconds of what goes through it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def call(self, function):  # type: ignore[no-untyped-def]
        before = time.perf_counter()
        result = function()
        self.seconds += time.perf_counter() - before
        return result

    def each(self, batches: Iterator[CanvasBatch]) -> Iterator[CanvasBatch]:
        while True:
            yield self.call(lambda: next(batches))
