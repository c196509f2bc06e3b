"""A training segment as work that can be recorded: the same tensors in and out each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.act import ActCarry, Batch
from hrm_submit.model.losses import Metrics
from hrm_submit.model.recording import Recorder

Segment = Callable[[Batch, ActCarry | None, Tensor | None, int, Tensor], tuple[ActCarry, Tensor, Metrics]]
"""Trains a segment on a batch, a carry (None: all sequences start), the fewest segments of each sequence (None: 1), the most of any,
and a factor (a scalar tensor) of the rates; returns the carry after it, loss and metrics."""


def recordable(config: TrainConfig) -> bool:
    """Whether nothing of a segment counts in Python."""
    return config.optimizer != "adam_atan2"


class RecordedSegments:
    """The segments of one trainer: a recording for each shape of a batch and each number of segments that a sequence gets."""

    def __init__(self, segment: Segment, device: torch.device) -> None:
        self._segment, self._recorder = segment, Recorder(device)
        self._told: dict[int, tuple[Metrics, list[str]]] = {}

    def run(
        self, batch: Batch, carry: ActCarry | None, least: Tensor | None, max_steps: int, factor: float
    ) -> tuple[ActCarry | None, Tensor, Metrics]:
        """One segment, as `Segment` has it; what it returns is the caller's. Without a carry none is kept."""
        parts = [batch.tensors(), {} if carry is None else carry.tensors(), {} if least is None else {"least": least}]

        def work(*tensors: Tensor) -> tuple[Tensor, ...]:
            left = iter(tensors)
            took, carried, drawn = ({name: next(left) for name in part} for part in parts)
            before = ActCarry.of(carried) if carried else None
            after, loss, metrics = self._segment(Batch(**took), before, drawn.get("least"), max_steps, next(left))
            said = {f.name: getattr(metrics, f.name) for f in fields(Metrics)}
            names = [name for name, value in said.items() if value is not None]
            self._told[max_steps] = metrics, names
            # Loss and metrics in one tensor, so that one copy keeps them.
            told = torch.stack([loss.float(), *(said[name].float() for name in names)])
            return (told, *(() if carry is None else after.tensors().values()))

        given = [tensor for part in parts for tensor in part.values()]
        told, *after = (value.clone() for value in self._recorder.run(max_steps, work, *given, factor))
        metrics, names = self._told[max_steps]
        kept = None if carry is None else ActCarry.of(dict(zip(carry.tensors(), after, strict=True)))
        return kept, told[0], replace(metrics, **dict(zip(names, told[1:], strict=True)))
