"""Workers without processes, on a clock that moves only when somebody listens: what they do is written in a script.

The pool is the real one: messages are pickled and travel through sockets, of which stubs hold the other ends.
"""

import heapq
import pickle
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

from hrm_submit.arc.task import make_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.run.protocol import Assignment, Channel, Ready, WorkerSpec
from hrm_submit.run.worker_pool import Gone, PooledWorker, WorkerPool
from hrm_submit.solver.messages import Alive, Answer

Timeline = list[tuple[float, Any]]
"""What a worker says, each with the seconds after its start or its assignment. `Gone`: its process ends."""

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


@dataclass(frozen=True)
class Freeze:
    """The process stops for good when it has sent a part of `message`."""

    message: Any
    part: float


class Script:
    """What workers do: ready after a second, an answer half way (colour 1) and a final one at the share's end (colour 2), on which
    all votes agree."""

    def on_start(self, spec: WorkerSpec) -> Timeline:
        return [(1.0, Ready({"device": spec.device}))]

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        seconds = FIXED_SECONDS if assignment.seconds is None else assignment.seconds
        return [*alive(assignment, seconds), (0.5 * seconds, answer(assignment, 1, final=False)), (seconds, answer(assignment, 2))]

    def takes(self, spec: WorkerSpec) -> bool:
        """Whether it lives when a task is handed over."""
        return True


class Stub:
    """Stands in for a worker's process, and holds its end of the socket."""

    def __init__(self, spec: WorkerSpec, end: socket.socket) -> None:
        self.spec, self.channel, self.exitcode, self.frozen = spec, Channel(end, waits=False), None, False

    def say(self, message: Any) -> None:
        if self.frozen or self.exitcode is not None:
            return
        if isinstance(message, Gone):
            self.end(1)
            return
        self.frozen = isinstance(message, Freeze)
        with suppress(OSError):
            if isinstance(message, Freeze):
                data = pickle.dumps(message.message)
                data = len(data).to_bytes(8, "big") + data
                self.channel.socket.send(data[: int(message.part * len(data))])
            else:
                self.channel.send(message)

    def given(self) -> Iterator[Assignment]:
        if not self.frozen and self.exitcode is None:
            self.channel.read()
            yield from self.channel.messages()

    def end(self, code: int) -> None:
        self.exitcode = code if self.exitcode is None else self.exitcode
        self.channel.close()

    def kill(self) -> None:
        self.end(-9)

    def join(self, timeout: float) -> None:
        pass


class StubPool(WorkerPool):
    """The pool of local workers with stubs instead of processes: a list of what they say, in the order of its times."""

    def __init__(self, time: Time, script: Script) -> None:
        super().__init__()
        self.time, self.script = time, script
        self.started: list[WorkerSpec] = []
        self.assigned: list[tuple[float, int, Assignment]] = []
        self.dismissed_at: float | None = None
        self.stubs: dict[int, Stub] = {}
        self._coming: list[tuple[float, int, Stub, Any]] = []
        self._order = count()

    def launch(self, spec: WorkerSpec, theirs: socket.socket) -> Any:
        stub = self.stubs[spec.number] = Stub(spec, theirs.dup())
        self.started.append(spec)
        self._schedule(stub, self.script.on_start(spec))
        return stub

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        if not self.script.takes(member.spec):
            self.stubs[member.spec.number].end(1)
        if given := super().give(member, work, now):
            self.assigned.append((now, member.spec.number, work))
        return given

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        until = self.time.now + max(0.0, seconds)
        for stub in self.stubs.values():
            for work in stub.given():
                self._schedule(stub, self.script.on_task(stub.spec, work))
        due = self._coming and self._coming[0][0] <= until
        if due:
            at, _, stub, message = heapq.heappop(self._coming)
            self.time.now = max(self.time.now, at)
            stub.say(message)
        else:
            self.time.now = until
        yield from super().listen(0.0)

    def dismiss(self) -> None:
        self.dismissed_at = self.time.now
        super().dismiss()

    def _schedule(self, stub: Stub, timeline: Timeline) -> None:
        for delay, message in timeline:
            heapq.heappush(self._coming, (self.time.now + delay, next(self._order), stub, message))
