"""Run folders for the report: one that `solve` really wrote, and made-up ones of any size whose every event is known."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter
from tests.events import event
from tests.run.fake_pool import Time
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


def real_run(folder: Path, n: int = 18) -> Run:
    """`n` recolouring tasks of several sizes, every fifth with two tests, solved on the CPU.

    The truth of every third breaks the rule in one cell, so that no training solves it.
    """
    tasks, truth = {}, {}
    for k in range(n):
        colours = (1, 2, 3, 4)[: 2 + k % 3]
        task = recolour(f"task{k:02d}", k, side=2 + k % 4, colours=colours, outputs=1 + (k % 5 == 0))
        wanted = [recoloured(grid, colours) for grid in task.test]
        if k % 3 == 1:
            wanted[0] = make_grid((wanted[0] + (np.arange(wanted[0].size).reshape(wanted[0].shape) == k % wanted[0].size)) % 10)
        tasks[task.id], truth[task.id] = task, tuple(wanted)
    run = run_in(folder)
    write_challenges(run.challenges, tasks)
    write_solutions(run.solutions, truth)
    options = ["--run-dir", str(run.directory), "--segments-per-task", "24", "--preset", tiny(folder)]
    subprocess.run(command(run.challenges, run.submission, *options), check=True, capture_output=True)
    return run


class Written(RunWriter):
    """A run folder that a test writes anew, event by event, each at its time."""

    def __init__(self, run: Run, **described: Any) -> None:
        shutil.rmtree(run.directory, ignore_errors=True)
        self.time, self.directory = Time(), run.directory
        super().__init__(run.directory, self.time)
        digest = hashlib.sha256(run.challenges.read_bytes()).hexdigest() if run.challenges.exists() else None
        files = {"challenges": str(run.challenges), "challenges_sha256": digest}
        settings = {"presets": "nano", "seed": 7, "devices": ["cpu"], "config": {"vote": {"views": 32}}}
        self.describe(files | settings | {"versions": {"hrm_submit": "0"}, "budget": 1000.0} | described)

    def tell(self, t: float, kind: str, task: str | None = None, worker: int | None = None, **fields: Any) -> None:
        """Write an event at `t` seconds."""
        self.time.now = t
        self.event(event(kind, task, worker, **fields))

    def answer(self, task: str, output: int, candidates: list[tuple[Any, int]]) -> None:
        """Write the (grid, votes) of a test output, at the time of the last event."""
        self.prediction(task, output, True, [Candidate(make_grid(grid), votes, -0.5) for grid, votes in candidates])

    def begin(self, todo: list[str]) -> None:
        """Begin with one worker, which is ready after ten seconds."""
        self.tell(0, "run_start", budget=1000.0, tasks=len(todo), broken=[], resumed=0)
        self.tell(0, "plan", todo=todo, workers=1)
        self.tell(0, "worker_start", worker=0, device="cpu")
        self.tell(10, "worker_start", worker=0, ready=True, device="cpu", dtype="bfloat16", attention="math")


def small_run(folder: Path, truths: dict[str, list[Any]], answers: dict[str, list[list[tuple[Any, int]]]]) -> Run:
    """Tasks that copy nothing of interest, with these `truths` of their tests; `answers`: of each test the (grid, votes) candidates."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = make_grid([[1, 2], [3, 4]])
    tasks = {name: Task(name, (Pair(cell, cell),) * 3, (cell,) * len(outputs)) for name, outputs in truths.items()}
    run = run_in(folder)
    write_challenges(run.challenges, tasks)
    write_solutions(run.solutions, {name: tuple(make_grid(g) for g in outputs) for name, outputs in truths.items()})
    written, t = Written(run), 10.0
    written.begin(list(tasks))
    for name, outputs in answers.items():
        written.tell(t, "task_start", name, 0, seconds=20.0, segments=None, attempt=1)
        written.tell(t + 10, "progress", name, 0, segments=30, loss=0.5, demo_exact=0.25)
        t += 15
        written.tell(t, "task_final", name, 0, segments=30, seconds=15.0, reason="share used")
        for k, candidates in enumerate(outputs):
            written.answer(name, k, candidates)
    written.tell(t, "run_end", answered=len(answers), seconds=t, unsaved=None)
    return run
