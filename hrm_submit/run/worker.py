"""A worker process: its models on one device, one task after the other, every answer sent on at once.

It ends when told to, or when the supervisor is gone. A fault of one task is reported and the worker continues; memory that
runs out halves the batch; a broken CUDA context cannot be mended in a process, so the worker then exits to be replaced.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import context_broken, free_memory, gpu_dtypes, keep_freed_memory, no_engine, out_of_memory
from hrm_submit.core.errors import UserError, one_line
from hrm_submit.model.compiled import compiling_in_turn, engine_of
from hrm_submit.predict.raw import RawVote
from hrm_submit.record.events import EngineChosen
from hrm_submit.run.cost import batch_that_fits
from hrm_submit.run.protocol import Assignment, Channel, Failed, Ready, WorkerSpec, keep_raw
from hrm_submit.solver.engine import Trial, chosen, measure, trials
from hrm_submit.solver.messages import Alive
from hrm_submit.solver.solver import Ensemble, TaskSolver, load_members, with_batch

log = logging.getLogger(__name__)

SIGN_OF_LIFE_SECONDS = 2.0
WAIT_SECONDS = 0.5
"""Between two attempts to compile while another process does."""
LONGEST_WAIT = 600.0
"""Seconds after which a worker compiles although another process does, which may stand still."""
PAID = 0.1
"""Most of its time that a task pays for the choice of an engine."""


class Worker:
    """Solves tasks on one device, set up by its spec."""

    def __init__(self, spec: WorkerSpec) -> None:
        runtime = runtime_for(spec.device, spec.preset.device)
        if spec.device == "cpu":
            torch.set_num_threads(runtime.threads)
            keep_freed_memory()
        else:
            torch.set_num_threads(1)  # one core launches the GPU's work; more threads would take those of other workers
            torch.cuda.set_device(spec.device)
        self.spec = spec = _with_room(spec, runtime)
        self.card = "cpu" if spec.device == "cpu" else torch.cuda.get_device_name(spec.device)
        self._loaded = load_members(spec.members)
        self.solver = Ensemble.of(self._loaded, runtime, spec.seed)
        with compiling_in_turn() if runtime.engine != "plain" else nullcontext():
            for _ in self.solver.warm_up():
                pass

    def describe(self) -> dict[str, Any]:
        """Return how it runs, for the run folder."""
        preset = self.spec.preset
        return {**asdict(self.solver.first.runtime), "batch_size": preset.ttt.batch_size, "vote_batch_size": preset.vote.batch_size}

    def serve(self, work: Assignment) -> Iterator[Any]:
        """Yield the solver's messages, with no more signs of life than the supervisor needs, and `Failed` where the work raises."""
        clock, sent, pause = Clock(), 0.0, min(SIGN_OF_LIFE_SECONDS, self.spec.preset.budget.hang_seconds / 10)
        messages = self._work(work)
        while True:
            # Only what the work itself raises is its fault: an error of the listener is not.
            try:
                message = next(messages, None)
            except Exception as error:
                memory = out_of_memory(error) and not no_engine(error)
                yield Failed(work.task.id, one_line(error), context_broken(error) or "solver" not in vars(self), memory)
                return
            if message is None:
                return
            if isinstance(message, Alive) and clock.elapsed() - sent < pause:
                continue
            yield message
            sent = clock.elapsed()

    def _work(self, work: Assignment) -> Iterator[Any]:
        """Yield what comes of the assignment, the engine first. The task pays for that with at most `PAID` of its time; what is beyond
        makes it late, and the next plan makes that good."""
        seconds, now = work.seconds, self.solver.first.runtime
        if work.compare_seconds or (work.engine and (now.engine, now.dtype) != (work.engine.engine, work.engine.dtype)):
            clock = Clock(work.compare_seconds)
            yield from self._set_engine(work, clock)
            seconds = None if seconds is None else seconds - min(clock.elapsed(), PAID * seconds)
        try:
            for message in self.solver.solve(work.task, seconds=seconds, segments=work.segments, restart=work.restart):
                yield from self._fallen(work)  # before the task's end, after which the supervisor gives the next order
                yield message
        except Exception:
            yield from self._fallen(work)
            raise

    def _set_engine(self, work: Assignment, clock: Clock) -> Iterator[Alive | EngineChosen]:
        """Change to the engine of the assignment, or to the one that comparing finds best."""
        told, config, tried = work.engine, self.spec.preset.device, list[Trial]()
        if told is None:
            otherwise = self.solver.first.runtime.dtype
            fast = gpu_dtypes(self.spec.device) if self.spec.device != "cpu" else [otherwise]
            dtypes = ["float32", *(d for d in fast if d != "float32")] if config.dtype == "auto" else [otherwise]
            with compiling_in_turn():
                for trial in trials(lambda *how: measure(self._change(*how), work.task), dtypes, clock):
                    tried.append(trial)
                    yield Alive(work.task.id)
            told = chosen(self.card, tried, otherwise, clock.elapsed())
            yield told
        self._change(told.engine or "plain", told.dtype or "float32")
        yield from self._warm_up(work, told.engine != "plain")

    def _warm_up(self, work: Assignment, compiled: bool) -> Iterator[Alive]:
        """Warm up the models, with a sign of life after each and while other processes compile, but for too long."""
        warming, going, patience = self.solver.warm_up(), True, Clock(LONGEST_WAIT)
        while going:
            with compiling_in_turn(wait=False) if compiled else nullcontext(True) as ours:
                waits = not ours and patience.remaining() > 0
                going = waits or next(warming, None) is not None
            yield Alive(work.task.id)
            if waits:
                time.sleep(WAIT_SECONDS)

    def _change(self, engine: str, dtype: str) -> TaskSolver:
        """Build the models anew; return the first."""
        config = replace(self.spec.preset.device, engine=engine, dtype=dtype)  # type: ignore[arg-type]
        vars(self).pop("solver", None)  # its memory first
        free_memory(self.spec.device)
        self.solver = Ensemble.of(self._loaded, runtime_for(self.spec.device, config), self.spec.seed)
        return self.solver.first

    def _fallen(self, work: Assignment) -> Iterator[EngineChosen]:
        """Tell once that the engine has been given up."""
        for solver in self.solver.solvers.values():
            engine, runtime = engine_of(solver.model), solver.runtime
            if engine != runtime.engine:
                solver.runtime = replace(runtime, engine=engine)
                yield EngineChosen(card=self.card, engine=engine, dtype=runtime.dtype, reason=f"{runtime.engine} failed in {work.task.id}")


def _with_room(spec: WorkerSpec, runtime: Runtime) -> WorkerSpec:
    """Return `spec` with batches that fit into its part of its GPU's memory by estimate; the solver halves them where that was wrong."""
    if spec.device == "cpu":
        return spec
    free, total = torch.cuda.mem_get_info(spec.device)
    # Workers that start together all see the same memory free.
    free = min(free, total // spec.sharing)
    element, fused = (4 if runtime.dtype == "float32" else 2), runtime.attention == "sdpa"

    def fitted(preset: Preset) -> Preset:
        batch = preset.ttt.batch_size
        fits = batch_that_fits(free, preset.model, spec.tokens, batch, element=element, fused_attention=fused)
        if fits < batch:
            log.warning("%s: %.1f GiB are free, the batch is %d instead of %d", spec.device, free / 2**30, fits, batch)
        return with_batch(preset, batch // fits)

    return replace(spec, members=tuple(replace(m, preset=fitted(m.preset)) for m in spec.members))


def worker_main(channel: Channel, spec: WorkerSpec) -> None:
    """Run a worker process: send `Ready`, then for each Assignment received its messages, until None or a closed channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides what follows
    try:
        worker = Worker(spec)
    except UserError as error:
        with suppress(OSError):
            channel.send(Failed("", str(error), fatal=True))
        raise SystemExit(1) from None
    except Exception as error:
        log.error("worker %d cannot start: %s", spec.number, one_line(error))
        raise SystemExit(1) from None
    try:
        channel.send(Ready(worker.describe(), worker.card))
        while (work := channel.receive()) is not None:
            for message in worker.serve(work):
                if isinstance(message, RawVote):
                    keep_raw(worker.spec, message)
                else:
                    channel.send(message)
                if isinstance(message, Failed) and message.fatal:
                    os._exit(3)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
