"""The one training loop: a generator of segments that knows no clock and no file.

It yields after each segment what happened, as tensors on the device: reading them is what waits for it, so that is left to
the caller, as are evaluation, saving, averaging of weights, and stopping (by no longer asking).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hrm_submit.core.config import TrainConfig
from hrm_submit.model.act import ActCarry, Batch, act_step, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import Metrics, segment_loss
from hrm_submit.train.optimizers import Optimizers
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


def train(
    model: HRM,
    embedding: TaskEmbedding,
    batches: Iterator[CanvasBatch],
    config: TrainConfig,
    *,
    progress: Callable[[], float],
    generator: torch.Generator,
) -> Iterator[SegmentReport]:
    """Train `model` and `embedding` in place, one segment a step, until `batches` ends or the caller stops asking.

    `progress` says how far the run is, 0..1; `generator` (CPU) draws the exploration of halting. Deep supervision: a state
    is carried, detached, from a segment to the next of the same sequence, apart for each canvas size.
    """
    optimizers = Optimizers(model, embedding, config)
    carries: dict[int, ActCarry] = {}
    max_steps = min(config.segments, model.cfg.halt_max_steps)
    # Published training scores stablemax in float64; at reduced model precision that buys nothing but time.
    loss_dtype = None if model.dtype == torch.float32 else torch.float32
    model.train()
    for segment, item in enumerate(batches):
        length, size = item.positions.shape[0], item.batch.inputs.shape[0]
        carry = carries.get(length)
        if carry is None or carry.steps.shape[0] != size:
            carry = initial_act_carry(model, item.batch)
        carry, output = act_step(
            model,
            embedding,
            carry,
            item.batch,
            item.positions,
            training=True,
            max_steps=max_steps,
            exploration=model.cfg.halt_exploration_prob,
            generator=generator,
        )
        loss, metrics = segment_loss(output, carry, model.cfg.loss_type, loss_dtype)
        loss = loss / size
        optimizers.step(loss, rate_factor(segment, progress(), config), output.looked_up)
        carries[length] = carry
        yield SegmentReport(segment + 1, size, loss.detach(), metrics)
