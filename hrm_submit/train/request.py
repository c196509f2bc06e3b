"""What a pre-training run works with: its options, and the data that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hrm_submit.arc.task import Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.schema import Preset
from hrm_submit.model.weights import CheckpointMeta
from hrm_submit.train.options import PretrainOptions


@dataclass(frozen=True)
class Held:
    """A set to measure on, never to train on: pass@2 by voting every `every` seconds."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions
    every: float


@dataclass(frozen=True, kw_only=True)
class PretrainRequest(PretrainOptions):
    """The options, and all that they name: loaded, checked for leaks, placed on this rank's device."""

    sources: tuple[TrainingTask, ...]
    preset: Preset
    meta: CheckpointMeta
    device: str
    held: Held | None = None
