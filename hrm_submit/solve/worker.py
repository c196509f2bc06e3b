"""A worker process: one model on one device, one task after the other, every answer sent on at once.

It ends when told to, or when the supervisor is gone. A fault of one task is reported and the worker goes on; memory that
runs out halves the batch; a broken CUDA context cannot be mended in a process, so the worker then exits to be replaced.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import Runtime, out_of_memory, runtime_for
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import build, load_checkpoint
from hrm_submit.solve.messages import Alive, Answer, Assignment, Failed, Progress, Ready, WorkerSpec
from hrm_submit.solve.session import TaskSession, n_rows, with_batch

log = logging.getLogger(__name__)

MOST_HALVINGS = 3


class Worker:
    """The model of one worker, set back to the weights that tasks start from before each task."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.runtime: Runtime = runtime_for(spec.device, spec.preset.device)
        if spec.device == "cpu":
            torch.set_num_threads(self.runtime.threads)
        source = load_checkpoint(spec.checkpoint) if spec.checkpoint else spec.preset.model
        self._model, self._embedding = build(
            source,
            n_rows=n_rows(spec.preset),
            dtype=getattr(torch, self.runtime.dtype),
            attention=self.runtime.attention,  # type: ignore[arg-type]
            seed=spec.seed,
            device=spec.device,
        )
        if self.runtime.compile:
            compile_blocks(self._model)
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self._model, self._embedding)]

    def warm_up(self) -> None:
        """Solve a task of one cell: what libraries load at first use comes out of no task's share, and a device that cannot
        compute fails before it is given one."""
        cell = make_grid([[0]])
        for _ in self.solve(Assignment(Task("warm-up", (Pair(cell, cell),), (cell,)), None, 1)):
            pass

    def solve(self, assignment: Assignment) -> Iterator[Alive | Progress | Answer]:
        """What the session of a task yields; memory that runs out starts it anew with half the batch, in the time left."""
        clock = Clock(assignment.seconds)
        divisor = 1
        while True:
            try:
                yield from self._attempt(assignment, clock, divisor)
                return
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or divisor >= 2**MOST_HALVINGS:
                    raise
            divisor *= 2
            log.warning("task %s: out of memory, batch divided by %d", assignment.task.id, divisor)
            self._model.zero_grad(set_to_none=True)
            gc.collect()
            if self.spec.device != "cpu":
                torch.cuda.empty_cache()

    def _attempt(self, assignment: Assignment, clock: Clock, divisor: int) -> Iterator[Alive | Progress | Answer]:
        for module, state in zip((self._model, self._embedding), self._start, strict=True):
            module.load_state_dict(state)
        left = None if assignment.seconds is None else Clock(clock.remaining())
        session = TaskSession(
            self._model,
            self._embedding,
            assignment.task,
            with_batch(self.spec.preset, divisor),
            self.spec.seed,
            left or Clock(),
            assignment.segments,
        )
        yield from session.run()


def one_line(error: BaseException) -> str:
    """Class, first line and place of an error."""
    text = str(error).strip().split("\n", 1)[0]
    place = "".join(f" ({Path(f.filename).name}:{f.lineno})" for f in traceback.extract_tb(error.__traceback__)[-1:])
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + place


def worker_main(connection: Connection, spec: WorkerSpec) -> None:
    """Entry point of the process: `Ready`, then for each Assignment received its messages, until None or a closed pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides what follows
    try:
        worker = Worker(spec)
        worker.warm_up()
    except Exception as error:
        log.error("worker %d cannot start: %s", spec.number, one_line(error))
        raise SystemExit(1) from None
    try:
        connection.send(Ready(worker.runtime.describe()))
        while (assignment := connection.recv()) is not None:
            _serve(connection, worker, assignment)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _serve(connection: Connection, worker: Worker, assignment: Assignment) -> None:
    """Solve one task and send what it yields, of the signs of life only as many as the supervisor needs."""
    clock, told = Clock(), 0.0
    try:
        for message in worker.solve(assignment):
            if isinstance(message, Alive) and clock.elapsed() - told < worker.spec.preset.budget.hang_seconds / 10:
                continue
            connection.send(message)
            told = clock.elapsed()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        fatal = "CUDA" in str(error) and not out_of_memory(error)
        connection.send(Failed(assignment.task.id, one_line(error), fatal))
        if fatal:
            os._exit(3)
