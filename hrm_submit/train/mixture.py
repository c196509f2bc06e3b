"""The data mix: its tasks without leaks, and an endless stream of batches, each on the smallest canvas that its pairs need.

Batch t is a function of the seed and t alone: a run resumes anywhere without a saved stream, and ranks share the same global batch.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, count

import numpy as np
import numpy.typing as npt
import torch

from hrm_submit.arc.augment import augmentation_arrays, sample_augmentations
from hrm_submit.arc.canvas import PackedPairs, check_model, encode, position_ids, sample_offsets
from hrm_submit.arc.codes import NO_CODE, draw_left_out, with_codes
from hrm_submit.arc.sizes import training_sides
from hrm_submit.arc.task import Pair
from hrm_submit.arc.training_task import TrainingTask, within
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.core.errors import TrainError
from hrm_submit.corpora.leaks import protected_hashes, without_leaks
from hrm_submit.corpora.sources import load_corpora
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import labels_from_tokens
from hrm_submit.train.loop import CanvasBatch
from hrm_submit.train.options import PROTECTED
from hrm_submit.train.ranks import ALONE, Ranks

log = logging.getLogger(__name__)

AHEAD = 4


def training_tasks(data: str, protect: Sequence[str] = PROTECTED) -> list[TrainingTask]:
    """Load the mix `data` without tasks that share a pair with a set of `protect`. Of a protected set that the mix names with `:demos`,
    only the test pairs are protected. Raises DataError for data that cannot be loaded, TrainError if no task is left."""
    corpora = load_corpora(data)
    tasks = [task for corpus in corpora for task in corpus.tasks]
    deliberate = {corpus.source for corpus in corpora if corpus.demos_only}
    kept, dropped = without_leaks(tasks, protected_hashes(protect, test_only=[name for name in protect if name in deliberate]))
    for task_id, reason in dropped:
        log.info("left out: %s %s", task_id, reason)
    if not kept:
        raise TrainError(f"--data {data}: no task is left to train on")
    mix = ", ".join(corpus.name + (":demos" if corpus.demos_only else "") for corpus in corpora)
    log.info("%s: %d tasks, %d of %d left out as leaks", mix, len(kept), len(dropped), len(tasks))
    return kept


class _Bucket:
    """All pairs shown on a canvas of `side`; `members` are the number of a task, its pairs there, and how often it is drawn."""

    def __init__(self, side: int, members: Sequence[tuple[int, list[Pair], float]]) -> None:
        self.side, self.positions = side, torch.from_numpy(position_ids(side))
        self.task, pairs, weights = zip(*members, strict=True)
        self.n_pairs = [len(own) for own in pairs]
        self.first_pair = [0, *accumulate(self.n_pairs)]
        self.packed = PackedPairs.from_pairs([pair for own in pairs for pair in own])
        self.weight = np.array(weights).sum()
        self.chance = np.array(weights) / self.weight


class Mixture:
    """Batches over `sources`, drawn by weight; they use `n_rows` task embedding rows, `rows_per_task` each.

    Tasks that need a canvas above `max_side` or below `min_side` are left out (`left_out` has their ids), as are generated pairs that do.
    Raises TrainError if no task remains.
    """

    def __init__(self, sources: Sequence[TrainingTask], model: ModelConfig, config: TrainConfig, seed: int) -> None:
        self._config, self._codes, self._seed = config, model.codes, seed
        self.sources, self.left_out = list[TrainingTask](), list[str]()
        by_side: dict[int, list[tuple[int, list[Pair], float]]] = {}
        for given in sources:
            source = within(given, config.max_side)
            canvases = _by_canvas(source, config) if source else {}
            if not source or not canvases:
                self.left_out.append(given.id)
                continue
            for side, pairs in canvases.items():
                by_side.setdefault(side, []).append((len(self.sources), pairs, source.weight * len(pairs) / len(source.pairs)))
            self.sources.append(source)
        if not self.sources:
            raise TrainError(f"no task needs a canvas of side {config.min_side} to {config.max_side}")
        check_model(model, "pre-training")
        self.rows_per_task = config.augmentations if model.embedding == "augmented" else 1
        self.n_rows = len(self.sources) * self.rows_per_task
        self._buckets = [_Bucket(side, by_side[side]) for side in sorted(by_side)]
        weights = np.array([bucket.weight for bucket in self._buckets])
        self._chance = weights / weights.sum()
        self._views: dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = {}

    def batch(self, number: int, ranks: Ranks = ALONE, batch_size: int | None = None) -> CanvasBatch:
        """Return batch `number` (from 0), or this rank's share of it, on the CPU; `batch_size` replaces the configured global one.
        What `batch_tokens` allows, a multiple of the number of ranks, shrinks with it."""
        rng = np.random.default_rng([self._seed, number])
        bucket = self._buckets[int(rng.choice(len(self._buckets), p=self._chance))]
        size, limit = self._config.batch_size, self._config.batch_tokens
        if limit:
            size = min(size, max(1, limit // bucket.side**2 // ranks.world) * ranks.world)
        if batch_size:
            size = max(1, size * batch_size // self._config.batch_size // ranks.world) * ranks.world
        members = rng.choice(len(bucket.task), size=size, p=bucket.chance)
        draws = rng.random((size, 2))
        part = ranks.slice(size)
        index, rows = np.empty((2, size), dtype=np.int64)
        dihedral, colours = np.empty(size, dtype=np.uint8), np.empty((size, 10), dtype=np.uint8)
        for k, member in enumerate(members):
            task = bucket.task[member]
            transforms, tables = self.views_of(task)
            view = int(draws[k, 0] * len(transforms))
            index[k] = bucket.first_pair[member] + int(draws[k, 1] * bucket.n_pairs[member])
            dihedral[k], colours[k] = transforms[view], tables[view]
            rows[k] = task * self.rows_per_task + (view if self.rows_per_task > 1 else 0)
        # drawn for the whole batch, so that the stream does not depend on the number of ranks
        offsets = sample_offsets(bucket.packed, index, dihedral, bucket.side, rng)[part] if self._config.translate else None
        tokens, labels = encode(bucket.packed, index[part], dihedral[part], colours[part], bucket.side, offsets)
        inputs = with_codes(tokens, self._codes)
        if self._codes and self._config.code_dropout:
            inputs = np.where(draw_left_out(size, self._codes, self._config.code_dropout, rng)[part, None], np.uint8(NO_CODE), inputs)
        batch = Batch(
            inputs=torch.from_numpy(inputs),
            labels=labels_from_tokens(torch.from_numpy(labels)),
            ids=torch.from_numpy(rows[part]),
            dihedral=torch.from_numpy(dihedral[part].astype(np.int64)),
        )
        return CanvasBatch(batch, bucket.positions)

    def views_of(self, task: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return transforms (K,) and colour tables (K, 10) of source number `task`; the seed and its number decide them."""
        if task not in self._views:
            cfg = self._config
            rng = np.random.default_rng([self._seed, task, 1])
            found = sample_augmentations(self.sources[task].task, cfg.augmentations, rng, colours=cfg.colours)
            self._views[task] = augmentation_arrays(found)
        return self._views[task]

    @property
    def row_ids(self) -> list[str]:
        """The task of each embedding row; empty if each augmentation has a row of its own."""
        return [s.id for s in self.sources] if self.rows_per_task == 1 else []


def _by_canvas(source: TrainingTask, config: TrainConfig) -> dict[int, list[Pair]]:
    """Group the pairs of `source` by the side of their canvas, `min_side` at least. Generated pairs, whose sizes vary without end, never
    have the canvas of the largest."""
    found: dict[int, list[Pair]] = {}
    sides = training_sides(source.task, translate=config.translate and not source.generated)
    for pair, side in zip(source.pairs, sides, strict=True):
        found.setdefault(side, []).append(pair)
    return {side: found[side] for side in sorted(found) if side >= config.min_side}


def ahead(mixture: Mixture, start: int, ranks: Ranks, batch_size: int, device: str) -> Iterator[CanvasBatch]:
    """Yield batches `start`, `start` + 1, ... on `device`; a background thread builds up to `AHEAD` of them ahead."""

    def build(number: int) -> CanvasBatch:
        return mixture.batch(number, ranks, batch_size).to(device)

    thread = ThreadPoolExecutor(1, "batches")
    try:
        ready = deque(thread.submit(build, start + n) for n in range(AHEAD))
        for number in count(start + AHEAD):
            item = ready.popleft().result()
            ready.append(thread.submit(build, number))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
