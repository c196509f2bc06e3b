"""A pool without processes, on a clock that moves only when somebody listens: what workers do is written in a script."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Any

from hrm_submit.arc.task import make_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.run.protocol import Assignment, Ready, WorkerSpec
from hrm_submit.run.worker_pool import Gone, PooledWorker
from hrm_submit.solver.messages import Alive, Answer

Timeline = list[tuple[float, Any]]
"""What a worker says, each with the seconds after its start or its assignment."""

FIXED_SECONDS = 5.0
"""What a task takes where it is given no seconds."""


class Time:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def candidate(colour: int, votes: int = 3) -> Candidate:
    return Candidate(make_grid([[colour]]), votes, -0.5)


def answer(assignment: Assignment, colour: int, *, final: bool = True, reason: str = "share used", settled: bool = True) -> Answer:
    """The same one-cell grid for every output."""
    return Answer(assignment.task.id, tuple((candidate(colour),) for _ in assignment.task.test), final, 10, reason, settled)


def alive(assignment: Assignment, seconds: float) -> Timeline:
    """Signs of life for so long."""
    return [(float(t), Alive(assignment.task.id)) for t in range(5, int(seconds), 5)]


class Script:
    """What workers do: ready after a second, an answer half way (colour 1) and a final one at the share's end (colour 2), on which
    all votes agree."""

    def on_start(self, spec: WorkerSpec) -> Timeline:
        return [(1.0, Ready({"device": spec.device}))]

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        seconds = FIXED_SECONDS if assignment.seconds is None else assignment.seconds
        return [*alive(assignment, seconds), (0.5 * seconds, answer(assignment, 1, final=False)), (seconds, answer(assignment, 2))]

    def takes(self, spec: WorkerSpec) -> bool:
        """Whether handing over a task works."""
        return True


class FakeCrew:
    """Stands in for `WorkerPool`: a list of messages to come, in the order of their times."""

    def __init__(self, time: Time, script: Script) -> None:
        self.time, self.script = time, script
        self.members: dict[int, PooledWorker] = {}
        self.started: list[WorkerSpec] = []
        self.assigned: list[tuple[float, int, Assignment]] = []
        self.dismissed_at: float | None = None
        self._coming: list[tuple[float, int, PooledWorker, Any]] = []
        self._order = count()

    def start(self, spec: WorkerSpec, now: float) -> None:
        self.started.append(spec)
        member = PooledWorker(spec, None, None, heard=now)  # type: ignore[arg-type]
        self.members[spec.number] = member
        self._schedule(member, self.script.on_start(spec))

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        if not self.script.takes(member.spec):
            return False
        member.begin(work, now)
        self.assigned.append((now, member.spec.number, work))
        self._schedule(member, self.script.on_task(member.spec, work))
        return True

    def newcomers(self) -> list[WorkerSpec]:
        return []

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        until = self.time.now + max(0.0, seconds)
        while self._coming and self._coming[0][0] <= until:
            at, _, member, message = heapq.heappop(self._coming)
            if self.members.get(member.spec.number) is not member:
                continue  # what a dead worker would have said
            self.time.now = max(self.time.now, at)
            yield member, message
            return
        self.time.now = until

    def remove(self, member: PooledWorker) -> int:
        self.members.pop(member.spec.number, None)
        return -9

    def dismiss(self) -> None:
        self.dismissed_at = self.time.now
        self.members.clear()

    def _schedule(self, member: PooledWorker, timeline: Timeline) -> None:
        for delay, message in timeline:
            heapq.heappush(self._coming, (self.time.now + delay, next(self._order), member, message))


def gone() -> Gone:
    return Gone()
