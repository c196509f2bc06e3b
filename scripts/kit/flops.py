"""Floating-point operations of a training segment as the loop does it, counted from shapes."""

from __future__ import annotations

from dataclasses import replace

from hrm_submit.core.config import ModelConfig, TrainConfig
from hrm_submit.plan.cost import segment_work


def training_flops(model: ModelConfig, config: TrainConfig, tokens: int, batch: int) -> float:
    """Operations of one segment of `batch` sequences of `tokens` cells: matrix products of the model, forwards and backwards, 2 a
    multiply-add; what the optimizer does is not counted.

    A sequence that gets a single segment has no continue value to learn, so there is no second forward pass for its target.
    """
    bootstraps = model.continue_target and min(config.segments, model.halt_max_steps) > 1
    return segment_work(replace(model, continue_target=bootstraps), tokens, batch)
