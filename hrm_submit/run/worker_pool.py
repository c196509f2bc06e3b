"""The workers of a run: started, given work, listened to, killed. Holds no model and no CUDA context."""

import logging
import multiprocessing
import os
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, Protocol, TypeVar

from hrm_submit.run.protocol import Assignment, Channel, WorkerSpec

log = logging.getLogger(__name__)

KILLED_SECONDS = 1.0
"""Most time that a killed process is waited for; one that a driver holds may take longer to end."""

M = TypeVar("M", bound="Member")


@dataclass
class Member:
    """One running worker. `heard`: when it last gave a sign of life; `due`: when its task's share ends, in the run's seconds; `card`: the
    name of its GPU, once ready."""

    spec: WorkerSpec
    heard: float
    ready: bool = False
    card: str = "cpu"
    assignment: Assignment | None = None
    due: float = 0.0
    slow: bool = False
    """Whether it was told that its start takes long."""

    @property
    def idle(self) -> bool:
        """Return whether it is ready and has no task."""
        return self.ready and self.assignment is None


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


@dataclass(kw_only=True)
class PooledWorker(Member):
    """A worker in a process of its own on this machine."""

    process: BaseProcess
    channel: Channel


class WorkerPool(Pool[PooledWorker]):
    """Workers that are processes of this machine. Nothing here waits for what a worker does, but for a second where it is killed."""

    def __init__(self) -> None:
        self.members = {}

    def start(self, spec: WorkerSpec, now: float) -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(ours, waits=False)
        with theirs:
            try:
                process = self.launch(spec, theirs)
            except OSError:
                channel.close()
                raise
        self.members[spec.number] = PooledWorker(spec, now, process=process, channel=channel)

    def launch(self, spec: WorkerSpec, theirs: socket.socket) -> BaseProcess:
        """Start the process, which gets the socket `theirs`. Raises OSError."""
        # spawn: a forked child would inherit locks of threads, and could never use CUDA once the parent has.
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_enter, args=(theirs, spec), name=f"hrm-worker-{spec.number}", daemon=True)
        process.start()
        return process

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        try:
            member.channel.send(work)
        except OSError:
            return False
        return True

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        with selectors.DefaultSelector() as selector:
            for member in self.members.values():
                selector.register(member.channel.socket, EVENT_READ | (EVENT_WRITE if member.channel.unsent else 0), member)
            ready = selector.select(max(0.0, seconds))
        for member in [key.data for key, _ in ready]:
            for message in self._exchange(member):
                if self.members.get(member.spec.number) is member:  # not removed for an earlier message
                    yield member, message

    def _exchange(self, member: PooledWorker) -> Iterator[Any]:
        """Read and write what is possible now; yield the messages that are whole, `Gone` where the worker has ended."""
        try:
            member.channel.read()
            yield from member.channel.messages()
            member.channel.flush()
        except (EOFError, OSError):
            yield Gone()
        except Exception as error:
            log.warning("worker %d: unreadable message: %s", member.spec.number, error)
            yield Gone()

    def remove(self, member: PooledWorker, patience: float = KILLED_SECONDS) -> int | None:
        self.members.pop(member.spec.number, None)
        member.process.kill()
        member.process.join(patience)
        member.channel.close()
        return member.process.exitcode

    def dismiss(self) -> None:
        members = list(self.members.values())
        for member in members:
            member.process.kill()  # all of them, before the first is waited for
        for member in members:
            self.remove(member, KILLED_SECONDS / len(members))


def _enter(end: socket.socket, spec: WorkerSpec) -> None:
    """Run a worker in its process. Only there torch is imported, so that the supervisor stays small.

    One on the CPU sees no GPU: torch asks one that it sees also where it computes on the CPU, and a broken one would stop it there, too.
    """
    if spec.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from hrm_submit.run.worker import worker_main

    worker_main(Channel(end, waits=True), spec)
