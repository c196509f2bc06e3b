"""Run folders for the report: one that `solve` really wrote, and made-up ones of any size whose every line is known."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import Grid, Pair, Task, make_grid
from hrm_submit.corpora.solutions import write_solutions
from tests.run.lab import command, recolour, recoloured, tiny


@dataclass(frozen=True)
class Run:
    """A run folder and the files that belong to it; `submission` where a real run wrote one."""

    directory: Path
    challenges: Path
    solutions: Path
    submission: Path

    def options(self, *more: str) -> list[str]:
        """Of a `report` with everything it needs."""
        return ["report", "--run-dir", str(self.directory), "--solutions", str(self.solutions), *more]


def run_in(folder: Path) -> Run:
    """The files of a run that `real_run` wrote there."""
    return Run(folder / "run", folder / "challenges.json", folder / "solutions.json", folder / "submission.json")


def real_run(folder: Path, n: int = 42) -> Run:
    """`n` recolouring tasks of several sizes, every fifth with two tests, solved on the CPU.

    The truth of every third breaks the rule in one cell, so that no training solves it: of the largest grids 96 % are right then.
    """
    rng = np.random.default_rng(0)
    tasks, truth = {}, {}
    for k in range(n):
        colours = (1, 2, 3, 4)[: 2 + k % 3]
        task = recolour(f"task{k:02d}", k, side=2 + k % 4, colours=colours, outputs=1 + (k % 5 == 0))
        wanted = [recoloured(grid, colours) for grid in task.test]
        if k % 3 == 1:
            wanted[0] = spoilt(wanted[0], rng, 1)
        tasks[task.id], truth[task.id] = task, tuple(wanted)
    run = run_in(folder)
    write_challenges(run.challenges, tasks)
    write_solutions(run.solutions, truth)
    options = ["--run-dir", str(run.directory), "--segments-per-task", "24", "--preset", tiny(folder)]
    subprocess.run(command(run.challenges, run.submission, *options), check=True, capture_output=True)
    return run


def spoilt(grid: Grid, rng: np.random.Generator, n: int) -> Grid:
    """`grid` with `n` cells changed."""
    cells = np.array(grid).ravel()
    where = rng.choice(cells.size, n, replace=False)
    cells[where] = (cells[where] + rng.integers(1, 10, n)) % 10
    return make_grid(cells.reshape(grid.shape))


class Lines:
    """The lines of a run folder, written by hand and not by the code under test."""

    def __init__(self, run: Run, **described: Any) -> None:
        self.run, self.events, self.predictions = run, [], []  # type: ignore[var-annotated]
        digest = hashlib.sha256(run.challenges.read_bytes()).hexdigest() if run.challenges.exists() else None
        self.described = {
            "v": 1,
            "challenges": str(run.challenges),
            "challenges_sha256": digest,
            "presets": "nano",
            "seed": 7,
            "devices": ["cpu"],
            "versions": {"hrm_submit": "0"},
            "config": {"vote": {"views": 32}},
            **described,
        }

    def event(self, t: float, event: str, task: str | None = None, worker: int | None = None, **fields: Any) -> None:
        """One line of events.jsonl."""
        self.events.append(json.dumps({"v": 1, "t": round(t, 3), "event": event, "task": task, "worker": worker, **fields}))

    def prediction(self, t: float, task: str, output: int, final: bool, candidates: list[dict[str, Any]]) -> None:
        """One line of predictions.jsonl."""
        line = {"v": 1, "t": round(t, 3), "task": task, "output": output, "final": final, "candidates": candidates}
        self.predictions.append(json.dumps(line))

    def begin(self, todo: list[str], workers: int = 1, t: float = 0.0) -> None:
        """A turn begins, and its workers get ready ten seconds later."""
        self.event(t, "run_start", budget=self.described.get("budget"), tasks=len(todo), broken=[], resumed=0)
        self.event(t, "plan", todo=todo, workers=workers)
        for worker in range(workers):
            self.event(t, "worker_start", worker=worker, device="cpu")
            self.event(t + 10, "worker_start", worker=worker, ready=True, device="cpu", dtype="bfloat16", attention="math")

    def write(self) -> Path:
        """All lines so far; returns the folder."""
        folder = self.run.directory
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(self.described))
        for name, lines in (("events", self.events), ("predictions", self.predictions)):
            (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
        return folder


def small_run(folder: Path, truths: dict[str, list[Any]], answers: dict[str, list[list[tuple[Any, int]]]]) -> Run:
    """Tasks that copy nothing of interest, with these `truths` of their tests; `answers`: of each test the (grid, votes) candidates."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = make_grid([[1, 2], [3, 4]])
    tasks = {name: Task(name, (Pair(cell, cell),) * 3, (cell,) * len(outputs)) for name, outputs in truths.items()}
    run = Run(folder / "run", folder / "challenges.json", folder / "solutions.json", folder / "submission.json")
    write_challenges(run.challenges, tasks)
    write_solutions(run.solutions, {name: tuple(make_grid(g) for g in outputs) for name, outputs in truths.items()})
    lines = Lines(run, budget=1000.0)
    lines.begin(list(tasks))
    t = 10.0
    for name, outputs in answers.items():
        lines.event(t, "task_start", name, 0, seconds=20.0, segments=None, attempt=1)
        lines.event(t + 10, "progress", name, 0, segments=30, loss=0.5, demo_exact=0.25)
        for k, candidates in enumerate(outputs):
            listed = [{"grid": grid, "votes": votes, "score": -0.5} for grid, votes in candidates]
            lines.prediction(t + 15, name, k, True, listed)
        lines.event(t + 15, "task_final", name, 0, segments=30, seconds=15.0, reason="share used")
        t += 15
    lines.event(t, "run_end", answered=len(answers), seconds=t, unsaved=None)
    lines.write()
    return run
