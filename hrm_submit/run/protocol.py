"""What the supervisor and its workers say to each other; all of it pickles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset


@dataclass(frozen=True)
class WorkerSpec:
    """How a worker is set up: its number, its device (`"cpu"`, `"cuda:0"`), the weights it starts tasks from, the run's seed, the
    cells of the largest canvas that it may get, the folder for raw predictions where they are to be kept, how many workers share
    its device, and in a cluster the node that it runs on."""

    number: int
    device: str
    preset: Preset
    checkpoint: Path | None
    seed: int
    tokens: int = 900
    raw: Path | None = None
    sharing: int = 1
    node: str = ""

    @property
    def place(self) -> str:
        """The device, with its node where it has one: `"10.0.0.3/cuda:0"`."""
        return f"{self.node}/{self.device}" if self.node else self.device


@dataclass(frozen=True)
class Assignment:
    """A task to solve in `seconds` or in exactly `segments` training segments (the one that is not None).

    `restart` counts the trainings of the task before, each of which had a seed of its own.
    """

    task: Task
    seconds: float | None
    segments: int | None
    restart: int = 0


@dataclass(frozen=True)
class Ready:
    """The worker has its model; `runtime` says how it runs, for the run folder."""

    runtime: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The task could not be solved on this worker; `fault` is one line. The worker lives on unless `fatal`; `memory` says that it
    had too little."""

    task: str
    fault: str
    fatal: bool = False
    memory: bool = False
