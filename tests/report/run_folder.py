"""A run folder as `solve` leaves it, from a few words about each task, and the files that belong to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import Grid, Task
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter
from tests.events import event
from tests.run.fake_pool import Time
from tests.run.lab import recolour, recoloured

ROUND = 10.0
"""Seconds that a task takes its worker."""


@dataclass
class WrittenRun:
    """The folder, what it is of, and how to go on writing it at `time`."""

    directory: Path
    challenges: Path
    solutions: Path
    tasks: dict[str, Task]
    truth: dict[str, tuple[Grid, ...]]
    writer: RunWriter
    time: Time = field(default_factory=Time)

    def solve(self, task: str, votes: Iterable[tuple[Grid, int]], *, worker: int = 0, segments: int = 40, exact: float = 1.0) -> None:
        """One task from start to end, every output answered with the same grids and votes."""
        candidates = [{"grid": grid.tolist(), "votes": n, "score": -0.1} for grid, n in votes]
        counted = [[c["votes"] for c in candidates] for _ in self.tasks[task].test]
        self.writer.event(event("task_start", task, worker, seconds=ROUND, segments=None, attempt=1))
        self.time.now += ROUND / 2
        self.writer.event(event("progress", task, worker, segments=segments, loss=0.25, demo_exact=exact))
        self.time.now += ROUND / 2
        for k in range(len(self.tasks[task].test)):
            self.writer.prediction(task, k, True, map(Candidate.from_json, candidates))
        self.writer.event(event("task_final", task, worker, segments=segments, votes=counted, seconds=ROUND, reason="share used"))

    def end(self) -> None:
        """The last line of a run that was not killed."""
        self.writer.event(event("run_end", answered=0, seconds=self.time.now, unsaved=None))


def start_run(folder: Path, names: Iterable[str], budget: float | None = 100.0, **options: Any) -> WrittenRun:
    """A run of recolouring tasks that has just begun, its worker ready; `options` are those of `recolour`."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {name: recolour(name, seed, **options) for seed, name in enumerate(names)}
    truth = {name: tuple(recoloured(grid) for grid in task.test) for name, task in tasks.items()}
    challenges, solutions = folder / "some_challenges.json", folder / "some_solutions.json"
    write_challenges(challenges, tasks)
    write_solutions(solutions, truth)
    time = Time()
    writer = RunWriter(folder / "run", time)
    digest = hashlib.sha256(challenges.read_bytes()).hexdigest()
    writer.describe({"command": "solve", "challenges": str(challenges), "challenges_sha256": digest, "seed": 0, "budget": budget})
    writer.event(event("run_start", budget=budget, tasks=len(tasks), broken=[], resumed=0))
    writer.event(event("plan", todo=list(tasks), workers=1, devices=["cpu"]))
    writer.event(event("worker_start", worker=0, device="cpu"))
    time.now = 1.0
    writer.event(event("worker_start", worker=0, ready=True, device="cpu", threads=1))
    return WrittenRun(folder / "run", challenges, solutions, tasks, truth, writer, time)
