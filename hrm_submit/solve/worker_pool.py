"""The worker processes: started, given work, listened to, killed, replaced. Holds no model and no CUDA context."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from hrm_submit.solve.messages import Assignment, Joint, WorkerSpec

log = logging.getLogger(__name__)


def _enter(connection: Connection, spec: WorkerSpec) -> None:
    """The process of a worker. Only there is the model's library loaded, so that the supervisor stays small."""
    from hrm_submit.solve.worker import worker_main

    worker_main(connection, spec)


@dataclass
class PooledWorker:
    """One running worker; `heard` is when it last gave a sign of life, `due` when its task's share ends, in the run's seconds."""

    spec: WorkerSpec
    process: BaseProcess
    connection: Connection
    heard: float
    ready: bool = False
    assignment: Assignment | None = None
    joins: bool = False
    due: float = 0.0

    @property
    def idle(self) -> bool:
        """Ready, without a task and not in joint training."""
        return self.ready and self.assignment is None and not self.joins


class Gone:
    """What `WorkerPool.listen` gives for a member whose process has ended."""


class WorkerPool:
    """All workers of a run, by number."""

    def __init__(self) -> None:
        # spawn: a forked child would inherit locks of threads, and could never use CUDA once the parent has.
        self._context = multiprocessing.get_context("spawn")
        self.members: dict[int, PooledWorker] = {}

    def start(self, spec: WorkerSpec, now: float) -> None:
        """Start a worker; it is ready when it says so."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_enter, args=(theirs, spec), name=f"hrm-worker-{spec.number}", daemon=True)
        process.start()
        theirs.close()
        self.members[spec.number] = PooledWorker(spec, process, ours, heard=now)

    def assign(self, member: PooledWorker, assignment: Assignment, now: float) -> bool:
        """Hand over a task; False where the worker has just died."""
        try:
            member.connection.send(assignment)
        except OSError:
            return False
        member.assignment, member.heard = assignment, now
        member.due = now + (assignment.seconds or 0.0)
        return True

    def join(self, member: PooledWorker, joint: Joint, now: float) -> bool:
        """Have it train on all tasks; False where the worker has just died."""
        try:
            member.connection.send(joint)
        except OSError:
            return False
        member.joins, member.heard, member.due = True, now, now + (joint.seconds or 0.0)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        """Messages that arrive within `seconds`, with their senders; `Gone` once for a worker that has ended."""
        by_pipe = {m.connection: m for m in self.members.values()}
        for pipe in wait(list(by_pipe), timeout=max(0.0, seconds)):
            member = by_pipe[pipe]  # type: ignore[index]
            try:
                message = member.connection.recv()
            except (EOFError, OSError):
                message = Gone()
            except Exception as error:  # half a message of a killed worker unpickles as anything
                log.warning("worker %d: unreadable message: %s", member.spec.number, error)
                message = Gone()
            yield member, message

    def remove(self, member: PooledWorker) -> int | None:
        """Kill the worker if it still lives; returns its exit code."""
        self.members.pop(member.spec.number, None)
        member.process.kill()
        member.process.join(timeout=5)
        member.connection.close()
        return member.process.exitcode

    def dismiss(self) -> None:
        """Kill all workers: their answers are already here, and an orderly exit is worth no second of the budget."""
        for member in list(self.members.values()):
            member.process.kill()
        for member in list(self.members.values()):
            self.remove(member)
