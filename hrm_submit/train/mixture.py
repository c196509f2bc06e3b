"""Many tasks as an endless stream of batches, each on the smallest canvas that its tasks (of generated ones, its pairs) need.

Batch number t is a function of the seed and t alone: nothing of the stream has to be saved to resume at any place, every
rank can cut its share from the same global batch, and a background thread may work ahead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hrm_submit.arc.augment import augmentation_arrays, sample_augmentations
from hrm_submit.arc.canvas import PackedPairs, check_model, encode, position_ids, sample_offsets
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair
from hrm_submit.arc.training_task import TrainingTask, within
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.core.errors import TrainError
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import labels_from_tokens
from hrm_submit.train.loop import CanvasBatch
from hrm_submit.train.ranks import Ranks


@dataclass(frozen=True)
class _Member:
    """What a bucket has of a task: its number, the first of its pairs there and how many there are, and how often it is drawn."""

    task: int
    first_pair: int
    n_pairs: int
    weight: float


class _Bucket:
    """What is shown on a canvas of one side."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.members: list[_Member] = []
        self.pairs: list[Pair] = []
        self.packed = PackedPairs.from_pairs([])
        self.positions = torch.from_numpy(position_ids(side))


class Mixture:
    """Batches over `sources`, drawn by weight; `n_rows` is the number of task embedding rows that they use.

    Tasks that need a canvas above `max_side` are left out (`left_out` has their ids), of generated ones the pairs that do. Raises
    TrainError if none remains.
    """

    def __init__(self, sources: Sequence[TrainingTask], model: ModelConfig, config: TrainConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        held = [within(s, config.max_side) for s in sources]
        self.sources = [s for s in held if s]
        self.left_out = [s.id for s, kept in zip(sources, held, strict=True) if not kept]
        if not self.sources:
            raise TrainError(f"no task fits a canvas of side {config.max_side}")
        check_model(model, "pre-training")
        self._per_task = config.augmentations if model.embedding == "augmented" else 1
        self.n_rows = len(self.sources) * self._per_task
        self._buckets: list[_Bucket] = []
        by_side: dict[int, _Bucket] = {}
        for number, source in enumerate(self.sources):
            for side, pairs in _by_canvas(source, config.max_side).items():
                bucket = by_side.setdefault(side, _Bucket(side))
                share = source.weight * len(pairs) / len(source.pairs)
                bucket.members.append(_Member(number, len(bucket.pairs), len(pairs), share))
                bucket.pairs.extend(pairs)
        self._buckets = [by_side[side] for side in sorted(by_side)]
        for bucket in self._buckets:
            bucket.packed = PackedPairs.from_pairs(bucket.pairs)
        weights = [np.array([m.weight for m in b.members]) for b in self._buckets]
        totals = np.array([w.sum() for w in weights])
        self._chance = totals / totals.sum()
        self._within = [w / w.sum() for w in weights]
        self._views: dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = {}

    def batch(self, number: int, ranks: Ranks | None = None, batch_size: int | None = None) -> CanvasBatch:
        """Batch `number` (from 0), or this rank's share of it, on the CPU; `batch_size` overrides the configured global one. With
        `batch_tokens` it is cut to a multiple of the number of ranks."""
        ranks = ranks or Ranks()
        rng = np.random.default_rng([self._seed, number])
        which = int(rng.choice(len(self._buckets), p=self._chance))
        bucket = self._buckets[which]
        size = self._size(bucket.side, batch_size or self._config.batch_size, ranks.world)
        at = rng.choice(len(bucket.members), size=size, p=self._within[which])
        draws = rng.random((size, 2))
        part = ranks.slice(size)
        index = np.empty(size, dtype=np.int64)
        dihedral = np.empty(size, dtype=np.uint8)
        colours = np.empty((size, 10), dtype=np.uint8)
        rows = np.empty(size, dtype=np.int64)
        for k in range(size):
            member = bucket.members[at[k]]
            turns, tables = self.views_of(member.task)
            view = int(draws[k, 0] * len(turns))
            index[k] = member.first_pair + int(draws[k, 1] * member.n_pairs)
            dihedral[k], colours[k] = turns[view], tables[view]
            rows[k] = member.task * self._per_task + (view if self._per_task > 1 else 0)
        offsets = np.zeros((size, 2), dtype=np.int64)
        if self._config.translate:
            offsets = sample_offsets(bucket.packed, index, dihedral, bucket.side, rng)
        inputs, labels = encode(bucket.packed, index[part], dihedral[part], colours[part], offsets[part], bucket.side)
        return CanvasBatch(
            Batch(
                inputs=torch.from_numpy(inputs),
                labels=labels_from_tokens(torch.from_numpy(labels)),
                ids=torch.from_numpy(rows[part]),
                dihedral=torch.from_numpy(dihedral[part].astype(np.int64)),
            ),
            bucket.positions,
        )

    def _size(self, side: int, most: int, ranks: int) -> int:
        """Examples of a batch on canvases of `side`: `most`, or as few as `batch_tokens` asks for."""
        cells = self._config.batch_tokens
        return min(most, max(1, cells // side**2 // ranks) * ranks) if cells else most

    def views_of(self, task: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Transforms (K,) and colour tables (K, 10) of source number `task`, sampled at its first use, from the seed and its number."""
        if task not in self._views:
            cfg = self._config
            rng = np.random.default_rng([self._seed, task, 1])
            found = sample_augmentations(self.sources[task].task, cfg.augmentations, rng, colours=cfg.colours)
            self._views[task] = augmentation_arrays(found)[:2]
        return self._views[task]

    def row_of(self, task_id: str) -> int | None:
        """The (first) embedding row of a task, or None for one that is not trained on."""
        return next((n * self._per_task for n, s in enumerate(self.sources) if s.id == task_id), None)

    @property
    def row_ids(self) -> list[str]:
        """The task of each embedding row, where every task has one; empty where each augmentation has its own."""
        return [s.id for s in self.sources] if self._per_task == 1 else []


def _by_canvas(source: TrainingTask, most: int) -> dict[int, tuple[Pair, ...]]:
    """The pairs of `source` by the side of the canvas that they are shown on: that of the whole task. Of a generated one, whose sizes
    differ without end, each pair has its own, rounded up to an even side, at most `most`."""
    if not source.generated:
        return {canvas_side(source.task): source.pairs}
    found: dict[int, list[Pair]] = {}
    for pair in source.pairs:
        side = max(*pair.input.shape, *pair.output.shape)
        found.setdefault(min(most, side + side % 2), []).append(pair)
    return {side: tuple(found[side]) for side in sorted(found)}


def ahead(mixture: Mixture, start: int, ranks: Ranks, batch_size: int, device: str, depth: int = 4) -> Iterator[CanvasBatch]:
    """Batches `start`, `start` + 1, ... on `device`, built by a background thread up to `depth` ahead."""
    ready: queue.Queue[CanvasBatch | BaseException] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def build() -> None:
        number = start
        while not stop.is_set():
            try:
                item: CanvasBatch | BaseException = _pinned(mixture.batch(number, ranks, batch_size), device)
            except BaseException as error:
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            number += 1

    thread = threading.Thread(target=build, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield _to_device(item, device)
    finally:
        stop.set()
        thread.join()


def _pinned(item: CanvasBatch, device: str) -> CanvasBatch:
    """The batch in memory that a GPU can fetch from by itself."""
    return item if device == "cpu" else _map(item, Tensor.pin_memory)


def _to_device(item: CanvasBatch, device: str) -> CanvasBatch:
    return item if device == "cpu" else _map(item, lambda tensor: tensor.to(device, non_blocking=True))


def _map(item: CanvasBatch, change: Callable[[Tensor], Tensor]) -> CanvasBatch:
    return CanvasBatch(Batch(**{f.name: change(getattr(item.batch, f.name)) for f in fields(Batch)}), change(item.positions))
