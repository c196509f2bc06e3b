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
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.allocator import keep_freed_memory
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import out_of_memory
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import Checkpoint, build, load_checkpoint
from hrm_submit.plan.memory import batch_that_fits
from hrm_submit.predict.raw import RawVote, save_raw
from hrm_submit.solve.joint_training import train_together
from hrm_submit.solve.messages import Alive, Answer, Assignment, Failed, Joined, Joint, Progress, Ready, Restarted, WorkerSpec
from hrm_submit.solve.session import DivergedError, TaskSession, n_rows, with_batch, with_rate

log = logging.getLogger(__name__)

MOST_HALVINGS = 3
MOST_SLOWDOWNS = 2
SIGN_OF_LIFE_SECONDS = 2.0


class Worker:
    """The model of one worker, set back to the weights that tasks start from before each task."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.runtime: Runtime = runtime_for(spec.device, spec.preset.device)
        self.spec = spec = _with_room(spec, self.runtime)
        if spec.device == "cpu":
            torch.set_num_threads(self.runtime.threads)
            keep_freed_memory()
        self._source = load_checkpoint(spec.checkpoint, rows=True) if spec.checkpoint else None
        self._model, self._embedding = build(
            self._source or spec.preset.model,
            n_rows=n_rows(spec.preset),
            dtype=getattr(torch, self.runtime.dtype),
            attention=self.runtime.attention,  # type: ignore[arg-type]
            seed=spec.seed,
            device=spec.device,
        )
        if self.runtime.compile:
            compile_blocks(self._model)
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self._model, self._embedding)]

    def describe(self) -> dict[str, Any]:
        """How it runs, for the run folder."""
        preset = self.spec.preset
        return {**self.runtime.describe(), "batch_size": preset.ttt.batch_size, "vote_batch_size": preset.vote.batch_size}

    def join(self, joint: Joint) -> Iterator[Alive | Joined]:
        """Train on all tasks together; from then on each starts from those weights, and from its own row."""
        yield from train_together(self._source, joint, self.spec.preset, self.runtime, self.spec.seed)
        self._start_from(load_checkpoint(joint.path, rows=True))

    def _start_from(self, source: Checkpoint) -> None:
        self._source = source
        model, embedding = build(source, n_rows=n_rows(self.spec.preset), device=self.spec.device)
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (model, embedding)]

    def warm_up(self) -> None:
        """Solve a task of one cell: what libraries load at first use comes out of no task's share, and a device that cannot
        compute fails before it is given one."""
        cell = make_grid([[0]])
        for _ in self.solve(Assignment(Task("warm-up", (Pair(cell, cell),), (cell,)), None, 1)):
            pass

    def keep(self, raw: RawVote) -> None:
        """Write down what a last vote was made of, where the run has a folder for it; a disk that refuses costs only this file."""
        if self.spec.raw is None:
            return
        try:
            save_raw(self.spec.raw, raw)
        except (OSError, MemoryError) as error:
            log.warning("task %s: its raw predictions are not kept: %s", raw.task, one_line(error))

    def solve(self, assignment: Assignment) -> Iterator[Alive | Progress | Answer | Restarted | RawVote]:
        """What the session of a task yields. It starts anew, in the time left, with half the batch where memory runs out and at a
        third of the rates where training diverges; where that does not help either, the votes until then are the answer."""
        clock, preset, task = Clock(assignment.seconds), self.spec.preset, assignment.task.id
        halvings = slowdowns = 0
        while True:
            try:
                yield from self._attempt(assignment, clock, preset)
                return
            except DivergedError as error:
                slowdowns += 1
                reason = str(error)
                if slowdowns > MOST_SLOWDOWNS or clock.remaining() <= 0:
                    yield Answer(task, tuple(() for _ in assignment.task.test), final=True, segments=0, reason=reason)
                    return
                preset = with_rate(preset, 1 / 3)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or halvings >= MOST_HALVINGS:
                    raise
                halvings += 1
                reason = "out of memory"
                preset = with_batch(preset, 2)
            log.warning("task %s: %s, begun anew: batch %d, rate %.2g", task, reason, preset.ttt.batch_size, preset.ttt.lr)
            yield Restarted(task, reason)
            self._model.zero_grad(set_to_none=True)
            gc.collect()
            if self.spec.device != "cpu":
                torch.cuda.empty_cache()

    def _attempt(self, assignment: Assignment, clock: Clock, preset: Preset) -> Iterator[Alive | Progress | Answer | RawVote]:
        for module, state in zip((self._model, self._embedding), self._start, strict=True):
            module.load_state_dict(state)
        if self._source and self._source.tables.rows is not None and assignment.task.id in self._source.meta.row_ids:
            own = self._source.tables.rows[self._source.meta.row_ids.index(assignment.task.id)]
            self._embedding.reset_rows(torch.arange(len(self._embedding.rows), device=own.device), own)
        left = Clock() if assignment.seconds is None else Clock(clock.remaining())
        model, embedding, seed = self._model, self._embedding, self.spec.seed
        yield from TaskSession(model, embedding, assignment.task, preset, seed, left, assignment.segments, assignment.restart).run()


def _with_room(spec: WorkerSpec, runtime: Runtime) -> WorkerSpec:
    """`spec` with batches that the free memory of its GPU holds, by estimate; what is wrong with that, running shows."""
    if spec.device == "cpu":
        return spec
    free, _ = torch.cuda.mem_get_info(spec.device)
    model, batch = spec.preset.model, spec.preset.ttt.batch_size
    element, fused = (4 if runtime.dtype == "float32" else 2), runtime.attention == "sdpa"
    fits = batch_that_fits(free, model, spec.tokens, batch, element=element, fused_attention=fused)
    if fits < batch:
        log.warning("%s: %.1f GiB are free, the batch is %d instead of %d", spec.device, free / 2**30, fits, batch)
    return replace(spec, preset=with_batch(spec.preset, batch // fits))


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
        connection.send(Ready(worker.describe()))
        while (assignment := connection.recv()) is not None:
            if isinstance(assignment, Joint):
                _serve(connection, worker, worker.join(assignment), "")
            else:
                _serve(connection, worker, worker.solve(assignment), assignment.task.id)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _serve(connection: Connection, worker: Worker, messages: Iterator[Any], task: str) -> None:
    """Send what the work yields, of the signs of life only as many as the supervisor needs, and a fault if it ends with one."""
    clock, told, hang_seconds = Clock(), 0.0, worker.spec.preset.budget.hang_seconds
    try:
        for message in messages:
            if isinstance(message, RawVote):
                worker.keep(message)
                continue
            if isinstance(message, Alive) and clock.elapsed() - told < min(SIGN_OF_LIFE_SECONDS, hang_seconds / 10):
                continue
            connection.send(message)
            told = clock.elapsed()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        memory = out_of_memory(error)
        fatal = "CUDA" in str(error) and not memory
        connection.send(Failed(task, one_line(error), fatal, memory))
        if fatal:
            os._exit(3)
