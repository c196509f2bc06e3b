"""Augmentation and tokens: this package's kernel against the published rule in plain numpy, on the same pairs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hrm_submit.arc.augment import augmentation_arrays, sample_augmentations
from hrm_submit.arc.canvas import PackedPairs, encode, sample_offsets
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.core.device import cpu_count
from lab.bench.published import SIDE, augmented
from lab.bench.rows import Row, against
from lab.bench.timing import medians
from lab.bench.work import ARC_1, sample

BATCH = 768
"""Examples of a batch, as published."""


class _Work:
    """Batches of every sampled task, ready but for the encoding; `canvas` is the published 30 or the task's own."""

    def __init__(self, tasks: list[Task], full: bool) -> None:
        rng = np.random.default_rng(0)
        self.batches = []
        for task in tasks:
            packed = PackedPairs.from_pairs(task.train)
            views = sample_augmentations(task, 200, rng)
            turns, colours, _ = augmentation_arrays([views[k] for k in rng.integers(0, len(views), BATCH)])
            self.batches.append((packed, rng.integers(0, len(packed), BATCH), turns, colours, SIDE if full else canvas_side(task)))

    def encode(self, part: slice, seed: int) -> None:
        """Offsets and tokens of some of the batches."""
        rng = np.random.default_rng(seed)
        for packed, index, turns, colours, side in self.batches[part]:
            encode(packed, index, turns, colours, sample_offsets(packed, index, turns, side, rng), side)

    def on_all_cores(self, pool: ThreadPoolExecutor, cores: int) -> None:
        """The same, shared by threads: the kernel holds no lock of the interpreter."""
        list(pool.map(lambda k: self.encode(slice(k, None, cores), k), range(cores)))


def rows(repeats: int, n: int) -> list[Row]:
    """Examples a second of `n` tasks on one thread and on all cores, on the published canvas and on each task's own."""
    tasks, rng, cores = sample(ARC_1, n), np.random.default_rng(0), cpu_count()
    pairs = [pair for task in tasks for pair in task.train]
    full, own = _Work(tasks, True), _Work(tasks, False)
    with ThreadPoolExecutor(cores) as pool:
        seconds = medians(
            {
                "numpy": lambda: [augmented(pair, rng) for pair in pairs for _ in range(20)],
                "one": lambda: full.encode(slice(None), 0),
                "all": lambda: full.on_all_cores(pool, cores),
                "own": lambda: own.on_all_cores(pool, cores),
            },
            repeats=repeats,
        )
    base, n = 20 * len(pairs) / seconds["numpy"], BATCH * len(tasks)
    plain = "published rule in numpy"
    return [
        against("augmentation", "30x30 canvas, one thread", "examples/s", n / seconds["one"], plain, base),
        against("augmentation", f"30x30 canvas, {cores} threads", "examples/s", n / seconds["all"], plain, base),
        against("augmentation", f"own canvas, {cores} threads", "examples/s", n / seconds["own"], plain, base),
    ]
