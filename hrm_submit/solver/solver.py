"""A model that solves one task after the other, each from the same weights: built, reset, and restarted where training fails."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import out_of_memory
from hrm_submit.model.compiled import compile_blocks, give_up_compiling, is_compiled
from hrm_submit.model.weights import Checkpoint, build_on
from hrm_submit.solver.messages import Answer, Message, Restarted
from hrm_submit.solver.session import DivergedError, TaskSession, n_rows

log = logging.getLogger(__name__)

MOST_HALVINGS = 3
MOST_SLOWDOWNS = 2
COMPILED_SIDES = (9, 14)


class TaskSolver:
    """The model of `preset` on the device of `runtime`, reset before each task: `source`'s weights and mean row (a
    task that has a row of its own there starts from that), or fresh weights drawn from `seed`.

    `now` is the clock that a task's seconds are counted by. Raises CheckpointError where `source` does not fit.
    """

    def __init__(
        self,
        preset: Preset,
        runtime: Runtime,
        source: Checkpoint | None = None,
        seed: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.preset, self.runtime, self._seed, self._now = preset, runtime, seed, now
        self.source = source
        self.model, self._embedding = build_on(runtime, source or preset.model, n_rows=n_rows(preset), seed=seed)
        if runtime.compile:
            compile_blocks(self.model)
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self.model, self._embedding)]

    def start_from(self, source: Checkpoint) -> None:
        """From now on tasks start from these weights, and each that has a row there from its own."""
        self.source = source
        built = build_on(self.runtime, source, n_rows=n_rows(self.preset))
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in built]

    def warm_up(self) -> None:
        """Solve a task of one cell: what libraries load at first use comes out of no task's time, and a device that cannot compute
        fails before it is given one. What is compiled sees two sizes, by which the compiler learns that sizes differ."""
        for side in COMPILED_SIDES if self.runtime.compile else (1,):
            grid = make_grid(np.arange(side * side).reshape(side, side) % 10)
            for _ in self.solve(Task("warm-up", (Pair(grid, grid),), (grid,)), segments=1):
                pass

    def solve(self, task: Task, *, seconds: float | None = None, segments: int | None = None, restart: int = 0) -> Iterator[Message]:
        """Train on the task's demonstrations for `seconds` or exactly `segments` and vote; yields what the session does, last of all an
        Answer with `final` set. `restart` tells apart the trainings of one task, whose draws differ.

        It restarts, in the time left, with half the batch where memory runs out, uncompiled where a compiled model fails, and at a third of
        the rates where training diverges; where that does not help either, the final Answer has no candidates and the votes until then
        stand.
        """
        clock, preset = Clock(seconds, source=self._now), self.preset
        halvings = slowdowns = 0
        while True:
            try:
                self._set_back(task.id)
                left = Clock(None if seconds is None else clock.remaining(), source=self._now)
                yield from TaskSession(self.model, self._embedding, task, preset, self._seed, left, segments, restart).run()
                return
            except DivergedError as error:
                slowdowns += 1
                reason = str(error)
                if slowdowns > MOST_SLOWDOWNS or clock.remaining() <= 0:
                    yield Answer(task.id, tuple(() for _ in task.test), final=True, segments=0, reason=reason)
                    return
                preset = with_rate(preset, 1 / 3)
            except Exception as error:
                if out_of_memory(error) and halvings < MOST_HALVINGS:
                    halvings += 1
                    reason = "out of memory"
                    preset = with_batch(preset, 2)
                elif is_compiled(self.model) and not out_of_memory(error):
                    # Where compiled code fails, above all in a backward pass, the plain model may not.
                    give_up_compiling(self.model, error)
                    reason = "the compiler failed"
                else:
                    raise
            log.warning("task %s: %s, training restarts: batch %d, rate %.2g", task.id, reason, preset.ttt.batch_size, preset.ttt.lr)
            yield Restarted(task.id, reason)
            # Not before the error and the frames that it holds are gone.
            self.model.zero_grad(set_to_none=True)
            gc.collect()
            if self.runtime.device != "cpu":
                torch.cuda.empty_cache()

    def _set_back(self, task_id: str) -> None:
        for module, state in zip((self.model, self._embedding), self._start, strict=True):
            module.load_state_dict(state)
        if self.source and self.source.tables.rows is not None and task_id in self.source.meta.row_ids:
            own = self.source.tables.rows[self.source.meta.row_ids.index(task_id)]
            self._embedding.reset_rows(torch.arange(len(self._embedding.rows), device=own.device), own)


def with_rate(preset: Preset, factor: float) -> Preset:
    """`preset` with all learning rates of test-time training times `factor`."""
    ttt = preset.ttt
    slower = replace(ttt, lr=ttt.lr * factor, muon_lr=ttt.muon_lr * factor, embedding_lr=ttt.embedding_lr * factor)
    return replace(preset, ttt=slower)


def with_batch(preset: Preset, divisor: int) -> Preset:
    """`preset` with its batches cut by `divisor`, for a device whose memory did not hold them."""
    return replace(
        preset,
        ttt=replace(preset.ttt, batch_size=max(1, preset.ttt.batch_size // divisor)),
        vote=replace(preset.vote, batch_size=max(1, preset.vote.batch_size // divisor)),
    )
