"""The workers of a run: started, given work, listened to, killed. Holds no model and no CUDA context."""

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


@dataclass
class Member:
    """One running worker. `heard`: when it last gave a sign of life; `due`: when its task's share ends, in the run's seconds."""

    spec: WorkerSpec
    heard: float = field(kw_only=True)
    ready: bool = field(default=False, kw_only=True)
    assignment: Assignment | None = field(default=None, kw_only=True)
    due: float = field(default=0.0, kw_only=True)

    @property
    def idle(self) -> bool:
        """Return whether it is ready and has no task."""
        return self.ready and self.assignment is None

    def begin(self, work: Assignment, now: float) -> None:
        """Note the task it was given."""
        self.assignment, self.heard, self.due = work, now, now + (work.seconds or 0.0)


class Gone:
    """The message of a worker that has ended."""


class Pool(Protocol[M]):
    """All workers of a run, by number, wherever they run."""

    members: dict[int, M]

    def start(self, spec: WorkerSpec, now: float) -> None:
        """Start a worker; it is ready when it says so. Raises OSError where that cannot be."""

    def give(self, member: M, work: Assignment, now: float) -> bool:
        """Hand over a task; return False where the worker has just died."""

    def listen(self, seconds: float) -> Iterator[tuple[M, Any]]:
        """Yield the messages that arrive within `seconds`, with their senders; `Gone` once for a worker that has ended."""

    def remove(self, member: M) -> int | None:
        """Kill the worker if it still lives; return its exit code where it has one."""

    def newcomers(self) -> list[WorkerSpec]:
        """Return workers that could be started besides, on machines that have joined since the last call."""
        return []

    def dismiss(self) -> None:
        """Kill all workers: their answers are already here, and an orderly exit would cost seconds of the budget."""
        for member in list(self.members.values()):
            self.remove(member)

    def close(self) -> None:
        """Leave the machines."""
        return None


@dataclass
class PooledWorker(Member):
    """A worker in a process of its own on this machine."""

    process: BaseProcess
    connection: Connection


class WorkerPool(Pool[PooledWorker]):
    """Workers that are processes of this machine."""

    def __init__(self) -> None:
        # spawn: a forked child would inherit locks of threads, and could never use CUDA once the parent has.
        self._context = multiprocessing.get_context("spawn")
        self.members = {}

    def start(self, spec: WorkerSpec, now: float) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_enter, args=(theirs, spec), name=f"hrm-worker-{spec.number}", daemon=True)
        process.start()
        theirs.close()
        self.members[spec.number] = PooledWorker(spec, process, ours, heard=now)

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        try:
            member.connection.send(work)
        except OSError:
            return False
        member.begin(work, now)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
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
        self.members.pop(member.spec.number, None)
        member.process.kill()
        member.process.join(timeout=5)
        member.connection.close()
        return member.process.exitcode

    def dismiss(self) -> None:
        for member in self.members.values():
            member.process.kill()  # all of them, before the first is waited for
        super().dismiss()


def _enter(connection: Connection, spec: WorkerSpec) -> None:
    """Run a worker in its process. Only there torch is imported, so that the supervisor stays small."""
    from hrm_submit.run.worker import worker_main

    worker_main(connection, spec)
