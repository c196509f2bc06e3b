"""Several models that train a task one after the other, each with an equal part of its time; their votes are pooled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hrm_submit.arc.task import Task
from hrm_submit.core.clock import Clock
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs, first_attempts, pooled
from hrm_submit.solver.messages import VOTES_AGREE, Answer, Message, Progress, Restarted
from hrm_submit.solver.solver import TaskSolver


class Ensemble:
    """The models of `solvers`, at least one, by name, in the order in which they train. `now`: the clock that counts a task's seconds."""

    def __init__(self, solvers: Mapping[str, TaskSolver], now: Callable[[], float] = time.monotonic) -> None:
        self.solvers, self._now = solvers, now

    @property
    def first(self) -> TaskSolver:
        """The model that trains first; where engines are compared, it alone is measured."""
        return next(iter(self.solvers.values()))

    def warm_up(self) -> None:
        """Prepare each model, as `TaskSolver.warm_up` does."""
        for solver in self.solvers.values():
            solver.warm_up()

    def solve(self, task: Task, *, seconds: float | None = None, segments: int | None = None, restart: int = 0) -> Iterator[Message]:
        """Train and vote with each model, in `seconds` or `segments` for all together; the last message is a final Answer.

        Each Answer pools the last ones of the models before. Where the votes of a model agree, no other trains.
        """
        if len(self.solvers) == 1:
            yield from self.first.solve(task, seconds=seconds, segments=segments, restart=restart)
            return
        clock, outputs, voters, done, spent = Clock(seconds, source=self._now), Outputs(), 0, 0, 0.0
        trained = [name for k, name in enumerate(self.solvers) if segments is None or k < segments]
        for k, name in enumerate(trained):
            share = None if seconds is None else max(1e-3, clock.remaining()) / (len(trained) - k)
            part = None if segments is None else (segments + k) // len(trained)
            before, answer = (done, spent), Answer(task.id, outputs, final=False, segments=done, reason="", voters=voters)
            for message in self.solvers[name].solve(task, seconds=share, segments=part, restart=restart):
                match message:
                    case Restarted():
                        before = (0, 0.0)
                    case Progress():
                        done, spent = before[0] + message.segments, before[1] + message.seconds
                        message = replace(message, segments=done, seconds=spent, member=name)
                    case Answer():
                        last = message.final and (k == len(trained) - 1 or message.reason == VOTES_AGREE)
                        together = pooled(outputs, message.outputs)
                        message = answer = replace(
                            message,
                            outputs=together,
                            final=last,
                            segments=done,
                            settled=message.settled and first_attempts(together) == first_attempts(message.outputs),
                            voters=voters + message.voters,
                            member=name,
                        )
                    case RawVote():
                        message = replace(message, restart=restart * len(self.solvers) + k)
                yield message
            if answer.final:
                return
            outputs, voters = answer.outputs, answer.voters
