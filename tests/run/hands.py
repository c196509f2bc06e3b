"""An scheduler whose workers, clock and answers a test gives by hand."""

from __future__ import annotations

from collections.abc import Sequence

from hrm_submit.arc.task import Task, make_grid
from hrm_submit.config.schema import BudgetConfig, Preset
from hrm_submit.predict.vote import Candidate, ranked
from hrm_submit.run.protocol import Assignment
from hrm_submit.run.scheduler import Scheduler, Standing
from hrm_submit.solver.messages import Answer, Progress
from tests.run.lab import recolour

EQUAL = Preset(budget=BudgetConfig(size_power=0.0, pairs_power=0.0))
"""The same seconds for every task."""


class Hands:
    """An scheduler, and workers `0 .. n - 1` whose clock and answers a test gives by hand."""

    def __init__(
        self,
        tasks: Sequence[Task] | int,
        end: float = 100.0,
        devices: Sequence[str] = ("cpu",),
        segments: int | None = None,
        preset: Preset = EQUAL,
    ) -> None:
        self.tasks = [recolour(f"t{k}", k) for k in range(tasks)] if isinstance(tasks, int) else list(tasks)
        self.scheduler = Scheduler(self.tasks, preset, end, segments)
        self.devices = list(devices)
        self.free_at = [0.0] * len(self.devices)
        self.held: dict[int, Assignment] = {}

    def next(self, now: float, worker: int = 0) -> Assignment | None:
        standings = [Standing(k, device, self.free_at[k]) for k, device in enumerate(self.devices)]
        me = standings.pop(worker)
        given = self.scheduler.next(me, standings, now)
        if given is not None:
            self.held[worker] = given
            self.free_at[worker] = now + (given.seconds or 0.0)
        return given

    def take(self, now: float, worker: int = 0) -> tuple[str, float]:
        """The task that comes next and its seconds."""
        given = self.next(now, worker)
        assert given is not None
        return given.task.id, given.seconds or 0.0

    def finish(self, now: float, worker: int = 0, votes: Sequence[int] = (9,), settled: bool = False, seconds: float = 0.0) -> None:
        """The k-th colour gets `votes[k]` votes for every output, after `seconds` of work."""
        held = self.held.pop(worker)
        self.free_at[worker] = now
        self.scheduler.finished(worker, answer_of(held, votes, settled), seconds)

    def progress(self, segments: int, seconds: float, worker: int = 0, exact: float = 0.0) -> None:
        self.scheduler.progress(worker, Progress(self.held[worker].task.id, segments, 1.0, exact, seconds))

    def fail(self, now: float, worker: int = 0, memory: bool = False) -> bool:
        del self.held[worker]
        self.free_at[worker] = now
        return self.scheduler.failed(worker, memory=memory)


def answer_of(assignment: Assignment, votes: Sequence[int], settled: bool) -> Answer:
    candidates = tuple(ranked(Candidate(make_grid([[colour]]), n, -0.5) for colour, n in enumerate(votes)))
    return Answer(assignment.task.id, tuple(candidates for _ in assignment.task.test), True, 10, "share used", settled)
