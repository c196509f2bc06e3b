"""A training segment as work that can be recorded: the same tensors in and out each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.act import Batch
from hrm_submit.model.losses import Metrics
from hrm_submit.model.recording import Recorder

Segment = Callable[[Batch, Tensor], tuple[Tensor, Metrics]]
"""A segment of training on a batch at a factor (a scalar tensor) of the rates; returns loss and metrics."""


def recordable(model: ModelConfig, config: TrainConfig) -> bool:
    """Whether segments are alike: none carries a state on, draws a halting, or counts in Python."""
    return min(config.segments, model.halt_max_steps) == 1 and config.optimizer != "adam_atan2"


class RecordedSegments:
    """The segments of one trainer."""

    def __init__(self, segment: Segment, device: torch.device) -> None:
        self._segment, self._recorder = segment, Recorder(device)
        self._told: tuple[Metrics, list[str]] | None = None

    def run(self, batch: Batch, factor: float) -> tuple[Tensor, Metrics]:
        """One segment on `batch` at `factor` of the rates; loss and metrics are the caller's."""
        values = self._recorder.run("segment", self._flat, *(getattr(batch, f.name) for f in fields(Batch)), factor)[0].clone()
        assert self._told is not None
        metrics, names = self._told
        return values[0], replace(metrics, **dict(zip(names, values[1:], strict=True)))

    def _flat(self, *given: Tensor) -> tuple[Tensor]:
        """Loss and metrics in one tensor, so that one copy keeps them."""
        loss, metrics = self._segment(Batch(*given[:-1]), given[-1])
        told = {f.name: getattr(metrics, f.name) for f in fields(Metrics)}
        names = [name for name, value in told.items() if value is not None]
        self._told = metrics, names
        return (torch.stack([loss.float(), *(told[name].float() for name in names)]),)
