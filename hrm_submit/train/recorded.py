"""A training segment as work that can be recorded: the same tensors in and out each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.act import ActCarry, Batch
from hrm_submit.model.hrm import InnerCarry
from hrm_submit.model.losses import Metrics
from hrm_submit.model.recording import Recorder

Segment = Callable[[Batch, ActCarry | None, Tensor | None, int, Tensor], tuple[ActCarry, Tensor, Metrics]]
"""Trains a segment on a batch, a carry (None: all sequences start), the fewest segments of each sequence (None: 1), the most of any,
and a factor (a scalar tensor) of the rates; returns the carry after it, loss and metrics."""

BATCH = len(fields(Batch))
CARRY = 4 + BATCH


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
        """One segment, as `Segment` has it; what it returns is the caller's. After the only segment of a sequence the carry is None:
        all have halted."""
        given = [*_batch(batch), *(() if carry is None else _carry(carry)), *(() if least is None else (least,))]
        key = max_steps, carry is None, least is None

        def work(*tensors: Tensor) -> tuple[Tensor, ...]:
            left = list(tensors)
            took = Batch(*(left.pop(0) for _ in range(BATCH)))
            carried = None if carry is None else _carried([left.pop(0) for _ in range(CARRY)])
            after, loss, metrics = self._segment(took, carried, None if least is None else left.pop(0), max_steps, left.pop(0))
            said = {f.name: getattr(metrics, f.name) for f in fields(Metrics)}
            names = [name for name, value in said.items() if value is not None]
            self._told[max_steps] = metrics, names
            # Loss and metrics in one tensor, so that one copy keeps them.
            told = torch.stack([loss.float(), *(said[name].float() for name in names)])
            return (told, *(_carry(after) if max_steps > 1 else ()))

        told, *after = (value.clone() for value in self._recorder.run(key, work, *given, factor))
        metrics, names = self._told[max_steps]
        return _carried(after) if after else None, told[0], replace(metrics, **dict(zip(names, told[1:], strict=True)))


def _batch(batch: Batch) -> list[Tensor]:
    return [getattr(batch, f.name) for f in fields(Batch)]


def _carry(carry: ActCarry) -> list[Tensor]:
    return [carry.inner.z_H, carry.inner.z_L, carry.steps, carry.halted, *_batch(carry.data)]


def _carried(tensors: list[Tensor]) -> ActCarry:
    z_high, z_low, steps, halted, *data = tensors
    return ActCarry(InnerCarry(z_high, z_low), steps, halted, Batch(*data))
