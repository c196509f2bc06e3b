"""What a pre-training run is asked to do: its options, and the data that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrm_submit.arc.task import Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.leaks import PROTECTED
from hrm_submit.model.weights import CheckpointMeta


@dataclass(frozen=True)
class Held:
    """A set to measure on, never to train on: pass@2 by voting every `every` seconds."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions
    every: float


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """The options of `pretrain`. Exactly one of `budget` (seconds) and `segments` is given, both in all, earlier turns included.

    Raises ConfigError for a number that must be at least 1.
    """

    presets: str
    data: str
    """The mix, as `corpora.sources.load_corpora` reads it."""
    out: Path
    budget: float | None
    segments: int | None
    devices: str = "auto"
    threads: int | None = None
    seed: int = 0
    resume: bool = False
    start_from: Path | None = None
    """Weights to start from; a run that is resumed has started already."""
    export_parts: int | None = None
    """Largest part of an export in bytes; None: a single file."""
    save_every: float = 120.0
    """Least seconds between two saves of the state."""
    log_every: int = 20
    strict: bool = False
    """Refuse data with any fault, instead of leaving out what is wrong."""
    protect: tuple[str, ...] = PROTECTED
    """Sets, names or files, that share no pair with what is trained on: those that the weights will be scored on."""
    validate: str | None = None
    """A set to measure on, every `every` seconds."""
    every: float = 600.0
    command: str = ""
    """What was typed, for the checkpoint's card."""

    def __post_init__(self) -> None:
        for name, value in (("segments", self.segments), ("threads", self.threads), ("log-every", self.log_every)):
            if value is not None and value < 1:
                raise ConfigError(f"--{name} must be at least 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class PretrainRequest(PretrainOptions):
    """The options, and all that they name: loaded, checked for leaks, placed on this rank's device."""

    sources: tuple[TrainingTask, ...]
    preset: Preset
    meta: CheckpointMeta
    device: str
    held: Held | None = None
