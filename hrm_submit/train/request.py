"""What a pre-training run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.arc.task import Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.schema import Preset
from hrm_submit.model.weights import CheckpointMeta


@dataclass(frozen=True)
class Held:
    """A set to measure on, never to train on: pass@2 by voting every `every` seconds."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions
    every: float


@dataclass(frozen=True)
class PretrainRequest:
    """What `pretrain` is asked. Exactly one of `budget` (seconds) and `segments` is given, both in all, earlier turns included."""

    sources: tuple[TrainingTask, ...]
    preset: Preset
    meta: CheckpointMeta
    out: Path
    budget: float | None
    segments: int | None
    device: str
    seed: int = 0
    resume: bool = False
    start_from: Path | None = None
    """Weights to start from; a run that is resumed has started already."""
    export_parts: int | None = None
    """Largest part of an export in bytes; None: a single file."""
    save_every: float = 120.0
    """Least seconds between two saves of the state."""
    log_every: int = 20
    held: Held | None = None
