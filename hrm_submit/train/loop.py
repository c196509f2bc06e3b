"""The training loop of test-time training, pre-training and ablations: a generator of segments that knows no clock and no file.

It yields a report after each segment, with tensors still on the device. The caller reads them, evaluates, saves, and stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hrm_submit.config.schema import TrainConfig
from hrm_submit.core.device import Fetched, to_device
from hrm_submit.model.act import ActCarry, Batch, act_step, draw_least, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import Metrics, segment_loss
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import ALONE, Ranks
from hrm_submit.train.schedule import rate_factor

MOST_AHEAD = 2
"""Segments that may wait for the device: it stays busy, and a clock read between two segments tells how far the device is."""


@dataclass(frozen=True)
class CanvasBatch:
    """A batch and the position ids (N,) of its canvas."""

    batch: Batch
    positions: Tensor

    def to(self, device: str) -> CanvasBatch:
        """Copy to `device`, without a wait."""
        return CanvasBatch(Batch(**{k: to_device(v, device) for k, v in vars(self.batch).items()}), to_device(self.positions, device))


@dataclass(frozen=True)
class SegmentReport:
    """One finished segment: its number from 1, examples and cells of its batch, loss (a scalar, mean over the batch), metrics (sums)."""

    segment: int
    size: int
    cells: int
    loss: Tensor
    metrics: Metrics


class Trainer:
    """Model, task embedding, optimizers and carried states between two segments; `run` is the loop.

    Deep supervision: each sequence carries its detached state to its next segment, separately for each canvas size. `generator` (CPU)
    draws the exploration of halting, with the same seed on every rank. If one of `ranks` runs out of memory, all raise SharedMemoryError
    before any weight has changed.
    """

    def __init__(self, model: HRM, embedding: TaskEmbedding, config: TrainConfig, generator: torch.Generator, ranks: Ranks = ALONE) -> None:
        self.model, self.embedding, self.config, self.generator, self.ranks = model, embedding, config, generator, ranks
        self.optimizers = Optimizers(model, embedding, config, ranks)
        self.carries: dict[int, ActCarry] = {}
        self.segment = 0

    def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
        """Train in place and yield after each segment, until `batches` ends or the caller stops. `progress`, called before each, returns
        how far the run is, 0..1; learning rate and segments per sequence depend on it."""
        unfinished: deque[Fetched] = deque()
        for item in batches:
            self.model.train()
            report = self._segment(item, progress())
            unfinished.append(Fetched(report.loss))
            if len(unfinished) > MOST_AHEAD:
                unfinished.popleft().get()
            yield report

    def _segment(self, item: CanvasBatch, progress: float) -> SegmentReport:
        batch, cfg = item.batch, self.model.cfg
        size, cells = batch.inputs.shape[:2]
        most = self.config.segments if progress >= self.config.single_segment_fraction else 1
        max_steps = min(most, cfg.halt_max_steps)
        if max_steps == 1:  # every sequence halts after this segment: nothing is carried, nor taken from before
            self.carries.clear()
        carry = self.carries.get(cells)
        least = draw_least(size, max_steps, cfg.halt_exploration_prob, self.generator, (self.ranks.rank, self.ranks.world))
        if least is not None:
            least = to_device(least, batch.ids.device)
        with self.ranks.together():
            if carry is None or len(carry.steps) != size:
                carry = initial_act_carry(self.model, batch)
            carry, output = act_step(
                self.model, self.embedding, carry, batch, item.positions, training=True, max_steps=max_steps, least=least
            )
            # Published training scores stablemax in float64; at reduced model precision that costs time and gains nothing.
            dtype = None if self.model.dtype == torch.float32 else torch.float32
            loss, metrics = segment_loss(output, carry, cfg.loss_type, dtype, halts=cfg.halt_max_steps > 1)
            loss = loss / size
            self.optimizers.backward(loss)
        self.optimizers.update(rate_factor(self.segment, progress, self.config), output.looked_up)
        if max_steps > 1:
            self.carries[cells] = carry
        self.segment += 1
        return SegmentReport(self.segment, size, cells, loss.detach(), metrics)
