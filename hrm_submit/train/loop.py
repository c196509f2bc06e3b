"""The one training loop: a generator of segments that knows no clock and no file.

It yields after each segment what happened, as tensors on the device: reading them is what waits for it, so that is left to
the caller, as are evaluation, saving, averaging of weights, and stopping (by no longer asking).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.act import ActCarry, ActOutput, Batch, act_step, draw_least, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import Metrics, segment_loss
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import Ranks
from hrm_submit.train.schedule import rate_factor


@dataclass(frozen=True)
class CanvasBatch:
    """A batch and the position ids (N,) of its canvas."""

    batch: Batch
    positions: Tensor


@dataclass(frozen=True)
class SegmentReport:
    """One segment done: its number from 1, the batch size, its loss (a scalar, mean over the batch) and metrics (sums)."""

    segment: int
    size: int
    loss: Tensor
    metrics: Metrics


class Trainer:
    """Model, task embedding, optimizers and carried states between two segments; `run` is the loop.

    Deep supervision: a state is carried, detached, from a segment to the next of the same sequence, apart for each canvas
    size. `generator` (CPU) draws the exploration of halting, with the same seed on every rank. `ranks` joins the gradients of
    several processes; where one of them runs out of memory, all raise SharedMemoryError before any weight has changed.
    """

    def __init__(
        self,
        model: HRM,
        embedding: TaskEmbedding,
        config: TrainConfig,
        generator: torch.Generator,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.embedding, self.config, self.generator = model, embedding, config, generator
        self.ranks = ranks or Ranks()
        self.optimizers = Optimizers(model, embedding, config, self.ranks)
        self.carries: dict[int, ActCarry] = {}
        self.segment = 0

    def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
        """Train in place, one segment a step, until `batches` ends or the caller stops asking.

        `progress` says how far the run is, 0..1, and so what the learning rate is and how many segments a sequence gets.
        """
        for item in batches:
            self.model.train()
            drawn = self.generator.get_state()
            try:
                report = self._segment(item, progress())
            except Exception:
                # A segment that failed is done again, on every rank with the same draws, however far each had come.
                self.generator.set_state(drawn)
                raise
            yield report

    def _segment(self, item: CanvasBatch, progress: float) -> SegmentReport:
        cfg, size, length = self.model.cfg, item.batch.inputs.shape[0], item.positions.shape[0]
        most = self.config.segments if progress >= self.config.single_segment_fraction else 1
        max_steps = min(most, cfg.halt_max_steps)
        carry = self.carries.get(length)
        if carry is None or carry.steps.shape[0] != size:
            carry = initial_act_carry(self.model, item.batch)
        least = draw_least(size, max_steps, cfg.halt_exploration_prob, self.generator, (self.ranks.rank, self.ranks.world))
        if least is not None and (device := item.batch.ids.device).type == "cuda":
            least = least.pin_memory().to(device, non_blocking=True)
        factor = rate_factor(self.segment, progress, self.config)
        with self.ranks.together():
            carry, output = act_step(
                self.model, self.embedding, carry, item.batch, item.positions, training=True, max_steps=max_steps, least=least
            )
            loss, metrics = self._loss(output, carry, size)
            self.optimizers.backward(loss)
        self.optimizers.update(factor, output.looked_up)
        if max_steps > 1:  # after a single segment every sequence has halted: nothing is carried
            self.carries[length] = carry
        self.segment += 1
        return SegmentReport(self.segment, size, loss.detach(), metrics)

    def _loss(self, output: ActOutput, carry: ActCarry, size: int) -> tuple[Tensor, Metrics]:
        # Published training scores stablemax in float64; at reduced model precision that buys nothing but time.
        dtype = None if self.model.dtype == torch.float32 else torch.float32
        loss, metrics = segment_loss(output, carry, self.model.cfg.loss_type, dtype)
        return loss / size, metrics
