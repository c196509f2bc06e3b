"""A model that solves one task after the other, each from the same weights, restarted when training fails; and several such models that
train a task in turn, whose votes are pooled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import context_broken, free_memory, no_engine, out_of_memory
from hrm_submit.core.errors import CheckpointError, one_line
from hrm_submit.model.compiled import compile_blocks, engine_of, step_down
from hrm_submit.model.hrm import HRM
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.model.weights import Checkpoint, build, load_checkpoint
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs, first_attempts, pooled
from hrm_submit.solver.messages import VOTES_AGREE, Answer, Message, Progress, Restarted
from hrm_submit.solver.session import DivergedError, TaskSession, n_rows

log = logging.getLogger(__name__)

LoadedMembers: TypeAlias = list[tuple[EnsembleMember, Checkpoint | None]]
"""Members, each with what its trainings start from."""
MOST_HALVINGS = 3
MOST_SLOWDOWNS, SLOWER = 2, 1 / 3
COMPILED_SIDES = (9, 14)


class Recovery:
    """What changes between the trainings of one task after a failure: `preset`'s batch sizes or rates, or the engine."""

    _halvings = _slowdowns = 0

    def __init__(self, preset: Preset, model: HRM) -> None:
        self.preset, self._model = preset, model

    def after(self, error: Exception) -> str:
        """Prepare a restart and return its reason; "" if nothing is left to try."""
        if isinstance(error, DivergedError):
            self._slowdowns += 1
            slower = {name: getattr(self.preset.ttt, name) * SLOWER for name in ("lr", "muon_lr", "embedding_lr")}
            self.preset = replace(self.preset, ttt=replace(self.preset.ttt, **slower))
            return str(error) if self._slowdowns <= MOST_SLOWDOWNS else ""
        if no_engine(error) and self._halvings:
            tried, torch.backends.cudnn.enabled = not torch.backends.cudnn.enabled, False
            return "" if tried else "cuDNN has no engine, going on without it"
        if out_of_memory(error):
            self._halvings += 1
            self.preset = with_batch(self.preset, 2)
            return "out of memory" if self._halvings <= MOST_HALVINGS else ""
        if engine_of(self._model) != "plain":
            # Where compiled code fails, above all in a backward pass, the plain model may not.
            step_down(self._model, error)
            return "the compiler failed"
        return ""


class TaskSolver:
    """The model of `preset` on the device of `runtime`, reset before each task: to `source`'s weights and mean row, or to fresh
    weights drawn from `seed`. `now` is the clock that counts a task's seconds."""

    def __init__(
        self, preset: Preset, runtime: Runtime, source: Checkpoint | None = None, seed: int = 0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.preset, self.runtime, self._source, self._seed, self._now = preset, runtime, source, seed, now
        self.model, self.embedding = build(source or preset.model, runtime, n_rows=n_rows(preset), seed=seed)
        compile_blocks(self.model, runtime.engine)
        self._start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self.model, self.embedding)]

    def warm_up(self) -> None:
        """Solve a task of one cell: first use loads libraries, in no task's time, and shows whether the device computes at all.

        A compiled model solves two sizes, from which the compiler learns that sizes vary. Raises RuntimeError where no training succeeds.
        """
        for side in (1,) if self.runtime.engine == "plain" else COMPILED_SIDES:
            grid = make_grid(np.arange(side * side).reshape(side, side) % 10)
            for said in self.solve(Task("warm-up", (Pair(grid, grid),), (grid,)), segments=1):
                if isinstance(said, Answer) and said.final and not said.segments:
                    raise RuntimeError(said.reason)

    def solve(self, task: Task, *, seconds: float | None = None, segments: int | None = None, restart: int = 0) -> Iterator[Message]:
        """Train on the task's demonstrations for `seconds` or exactly `segments`, then vote; the last message is a final Answer.

        `restart` numbers the trainings of one task, whose draws differ. A training that fails restarts, in the time left: with half the
        batch if memory ran out (then without cuDNN, if that has no engine), with the next simpler engine if a compiled model failed, at a
        third of the rates if it diverged. If it still diverges, the final Answer has no candidates and the earlier votes stand.
        """
        clock, recovery = Clock(seconds, source=self._now), Recovery(self.preset, self.model)
        while True:
            try:
                left = Clock(None if seconds is None else clock.remaining(), source=self._now)
                yield from self.session(task, recovery.preset, left, segments, restart).run()
                return
            except Exception as error:
                reason, diverged = recovery.after(error), isinstance(error, DivergedError)
                if diverged and (not reason or clock.remaining() <= 0):
                    yield Answer(task.id, tuple(() for _ in task.test), final=True, segments=0, reason=str(error))
                    return
                if not reason:
                    raise
            ttt = recovery.preset.ttt
            log.warning("task %s: %s, training restarts: batch %d, rate %.2g", task.id, reason, ttt.batch_size, ttt.lr)
            yield Restarted(task.id, reason)
            # Only now are the error and the frames that it holds gone.
            self.model.zero_grad(set_to_none=True)
            free_memory(self.runtime.device)

    def session(self, task: Task, preset: Preset, clock: Clock, segments: int | None, restart: int = 0) -> TaskSession:
        """Begin a training of `task` from the first weights."""
        for module, state in zip((self.model, self.embedding), self._start, strict=True):
            module.load_state_dict(state)
        return TaskSession(self.model, self.embedding, task, preset, self._seed, clock, segments, restart)


class Ensemble:
    """The models of `solvers`, at least one, by name, in the order in which they train. `now`: the clock that counts a task's seconds.

    A model after the first that cannot be built or warmed up is left out, and one that fails in a task leaves it to the others.
    """

    def __init__(self, solvers: Mapping[str, TaskSolver], now: Callable[[], float] = time.monotonic) -> None:
        self.solvers, self._now, self._count = dict(solvers), now, len(solvers)

    @classmethod
    def of(cls, loaded: LoadedMembers, runtime: Runtime, seed: int) -> Ensemble:
        """Build the models of `loaded`. Raises what building the first raises."""
        built: dict[str, TaskSolver] = {}
        for member, source in loaded:
            try:
                built[member.name] = TaskSolver(member.preset, runtime, source, seed)
            except Exception as error:
                if not built:
                    raise
                log.error("member %s is left out: %s", member.name, one_line(error))
        return cls(built)

    @property
    def first(self) -> TaskSolver:
        """The model that trains first; where engines are compared, it alone is measured."""
        return next(iter(self.solvers.values()))

    def warm_up(self) -> Iterator[str]:
        """Prepare each model, as `TaskSolver.warm_up` does, and yield its name then. Raises what preparing the first raises."""
        for name, solver in [*self.solvers.items()]:
            try:
                solver.warm_up()
            except Exception as error:
                if solver is self.first or context_broken(error):
                    raise
                log.error("member %s is left out: %s", name, one_line(error))
                del self.solvers[name]
            yield name

    def solve(self, task: Task, *, seconds: float | None = None, segments: int | None = None, restart: int = 0) -> Iterator[Message]:
        """Train and vote with each model, in `seconds` or `segments` for all together; the last message is a final Answer.

        Each Answer pools the last ones of the models before. Where the votes of a model agree, no other trains. A model trains no canvas
        outside `[ttt] min_side` .. `max_side` of its preset that another one trains. What a model raises is raised where none gave a grid.
        """
        if len(self.solvers) == 1:
            yield from self.first.solve(task, seconds=seconds, segments=segments, restart=restart)
            return
        clock, outputs, voters, done, spent = Clock(seconds, source=self._now), Outputs(), 0, 0, 0.0
        trained, failures = self._trained_by(canvas_side(task))[:segments], list[tuple[str, Exception]]()
        for k, name in enumerate(trained):
            share = None if seconds is None else max(1e-3, clock.remaining()) / (len(trained) - k)
            part = None if segments is None else (segments + k) // len(trained)
            last, before = k == len(trained) - 1, (done, spent)
            blank = answer = Answer(task.id, outputs, final=False, segments=done, reason="", voters=voters, member=name)
            try:
                for message in self.solvers[name].solve(task, seconds=share, segments=part, restart=restart):
                    match message:
                        case Restarted():
                            (done, spent), answer = before, blank
                            message = replace(message, segments=done, seconds=spent)
                        case Progress():
                            done, spent = before[0] + message.segments, before[1] + message.seconds
                            message = replace(message, segments=done, seconds=spent, member=name)
                        case Answer():
                            together = pooled(outputs, message.outputs)
                            message = answer = replace(
                                message,
                                outputs=together,
                                final=message.final and (last or message.reason == VOTES_AGREE),
                                segments=done,
                                settled=message.settled and first_attempts(together) == first_attempts(message.outputs),
                                voters=voters + message.voters,
                                member=name,
                            )
                            if answer.final:
                                break
                        case RawVote():
                            message = replace(message, restart=restart * self._count + k)
                    yield message
            except Exception as error:
                if context_broken(error):
                    raise
                failures.append((f"{name} failed: {one_line(error)}", error.with_traceback(None)))  # without the frames and what they hold
                log.warning("task %s: %s", task.id, failures[-1][0])
                # A training that would have been begun again has no part in what others answered.
                answer = replace(blank if any(outputs) else answer, final=last, settled=False, segments=done, seconds=0.0, reason="")
                free_memory(self.first.runtime.device)
            outputs, voters = answer.outputs, answer.voters
            if answer.final:
                break
        if failures and not any(outputs):
            raise next((error for _, error in failures if out_of_memory(error)), failures[0][1])
        yield replace(answer, reason="; ".join(filter(None, [answer.reason, *(what for what, _ in failures)])))

    def _trained_by(self, side: int) -> list[str]:
        """Return the names of the models for canvases of `side`, of all where none is."""
        sides = {name: solver.preset.ttt for name, solver in self.solvers.items()}
        return [name for name, ttt in sides.items() if ttt.min_side <= side <= ttt.max_side] or list(self.solvers)


def load_members(members: Sequence[EnsembleMember]) -> LoadedMembers:
    """Load what the trainings of each member start from; leave out a further one that is damaged. Raises CheckpointError of the first."""
    loaded: LoadedMembers = []
    for member in members:
        try:
            loaded.append((member, load_checkpoint(member.checkpoint) if member.checkpoint else None))
        except CheckpointError as error:
            if not loaded:
                raise
            log.error("member %s is left out: %s", member.name, error)
    return loaded


def with_batch(preset: Preset, divisor: int) -> Preset:
    """Return `preset` with its batches cut by `divisor`, at least 1 example each."""
    ttt, vote = preset.ttt, preset.vote
    return replace(
        preset,
        ttt=replace(ttt, batch_size=max(1, ttt.batch_size // divisor)),
        vote=replace(vote, batch_size=max(1, vote.batch_size // divisor)),
    )
