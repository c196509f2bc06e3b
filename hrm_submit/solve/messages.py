"""What the supervisor and its workers say to each other; all of it pickles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.core.config import Preset
from hrm_submit.predict.vote import Candidate


@dataclass(frozen=True)
class WorkerSpec:
    """How a worker is set up: its number, its device (`"cpu"`, `"cuda:0"`), the weights it starts tasks from, the run's seed."""

    number: int
    device: str
    preset: Preset
    checkpoint: Path | None
    seed: int


@dataclass(frozen=True)
class Assignment:
    """A task to solve in `seconds` or in exactly `segments` training segments (the one that is not None)."""

    task: Task
    seconds: float | None
    segments: int | None


@dataclass(frozen=True)
class Ready:
    """The worker has its model; `runtime` says how it runs, for the run folder."""

    runtime: dict[str, Any]


@dataclass(frozen=True)
class Alive:
    """A sign of life where nothing else is to be said for long: training of the task goes on."""

    task: str


@dataclass(frozen=True)
class Progress:
    """Training goes on: segments done, mean loss and share of exactly right augmented demonstrations since the last one."""

    task: str
    segments: int
    loss: float
    demo_exact: float


@dataclass(frozen=True)
class Answer:
    """Candidates of each test output, best first; `final` ends the task, for `reason` (`"share used"`, `"votes agree"`, ...)."""

    task: str
    outputs: tuple[tuple[Candidate, ...], ...]
    final: bool
    segments: int
    reason: str


@dataclass(frozen=True)
class Failed:
    """The task could not be solved on this worker; `fault` is one line. The worker lives on unless `fatal`."""

    task: str
    fault: str
    fatal: bool = False
