"""The worker processes: started, given work, listened to, killed, replaced. Holds no model and no CUDA context."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from hrm_submit.run.protocol import Assignment, WorkerSpec

log = logging.getLogger(__name__)

M = TypeVar("M", bound="Member")


def _enter(connection: Connection, spec: WorkerSpec) -> None:
    """The process of a worker. Only there is the model's library loaded, so that the supervisor stays small."""
    from hrm_submit.run.worker import worker_main

    worker_main(connection, spec)


@dataclass
class Member:
    """One running worker; `heard` is when it last gave a sign of life, `due` when its task's share ends, in the run's seconds."""

    spec: WorkerSpec
    heard: float = field(kw_only=True)
    ready: bool = field(default=False, kw_only=True)
    assignment: Assignment | None = field(default=None, kw_only=True)
    due: float = field(default=0.0, kw_only=True)

    @property
    def idle(self) -> bool:
        """Ready and without a task."""
        return self.ready and self.assignment is None

    def takes(self, work: Assignment, now: float) -> None:
        """Note what it was given."""
        self.assignment = work
        self.heard, self.due = now, now + (work.seconds or 0.0)


@dataclass
class PooledWorker(Member):
    """A worker in a process of its own on this machine."""

    process: BaseProcess
    connection: Connection


class Gone:
    """What `WorkerPool.listen` gives for a member whose process has ended."""


class Pool(Protocol[M]):
    """All workers of a run, by number, wherever they run."""

    members: dict[int, M]

    def start(self, spec: WorkerSpec, now: float) -> None:
        """Start a worker; it is ready when it says so. Raises OSError where that cannot be."""

    def give(self, member: M, work: Assignment, now: float) -> bool:
        """Hand over a task; False where the worker has just died."""

    def listen(self, seconds: float) -> Iterator[tuple[M, Any]]:
        """Messages that arrive within `seconds`, with their senders; `Gone` once for a worker that has ended."""

    def newcomers(self) -> list[WorkerSpec]:
        """Workers that could be started now besides, on machines that have joined since this was last asked."""

    def remove(self, member: M) -> int | None:
        """Kill the worker if it still lives; returns its exit code where it has one."""

    def dismiss(self) -> None:
        """Kill all workers: their answers are already here, and an orderly exit is worth no second of the budget."""


class WorkerPool:
    """Workers that are processes of this machine."""

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

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        """Hand over a task; False where the worker has just died."""
        try:
            member.connection.send(work)
        except OSError:
            return False
        member.takes(work, now)
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

    def newcomers(self) -> list[WorkerSpec]:
        """None: this machine is what it was."""
        return []

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
