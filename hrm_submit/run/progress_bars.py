"""Show a run while it runs: a bar where one can be drawn, else lines for a log. Both are drawn from the state of the run."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.terminal import bar, logs_above_bars, place
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Event
from hrm_submit.record.state import RunState
from hrm_submit.solver.messages import Answer

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 60.0
MOST_NAMED = 4
"""Tasks that are named as being worked on."""


class ProgressBars:
    """Draws a bar for all `tasks`, of which `done` had their answer before, or logs a line a minute; each finished task has a line. A task
    whose share of exact demonstrations reaches `fit` counts as fit."""

    def __init__(self, tasks: int, done: int = 0, fit: float = TTTConfig().fit) -> None:
        where = place()
        self._bar = bar(where, total=tasks, initial=done, unit="task")
        self._tasks, self._done_before, self._fit = tasks, done, fit
        self._state = RunState()
        self._next_line = LINE_EVERY_SECONDS
        self._logs = ExitStack()
        self._logs.enter_context(logs_above_bars(where))

    def take(self, event: Event) -> None:
        """Take an event of the run, whose time is set; it is shown at the next tick."""
        self._state.take(event)

    def final(self, answer: Answer, seconds: float) -> None:
        """Print the line of a task that has its final answer after `seconds`; its event was taken before."""
        exact = self._state.attempt.finals.get(answer.task) or 0.0
        line = (
            f"[{self._done}/{self._tasks}] {answer.task}: {answer.segments} segments in {format_duration(seconds)}, "
            f"{exact:.0%} of demonstrations exact, {', '.join(map(_agreement, answer.outputs))} ({answer.reason})"
        )
        if self._bar.disable:
            log.info(line)
        else:
            with suppress(OSError):  # the terminal may be gone
                self._bar.write(line, file=sys.stderr)

    def tick(self, clock: Clock) -> None:
        """Show the tasks done, the time left, and the tasks in hand; in a log once a minute."""
        fit = sum((exact or 0.0) >= self._fit for exact in self._state.attempt.finals.values())
        left = "" if clock.budget is None else f", {format_duration(max(0.0, clock.remaining()))} left"
        text = f"{fit} fit their demonstrations{left}{self._at_work()}"
        if not self._bar.disable:
            self._bar.n = self._done
            self._bar.set_postfix_str(text)
        elif clock.elapsed() >= self._next_line:
            self._next_line = clock.elapsed() + LINE_EVERY_SECONDS
            log.info("%d of %d tasks done, %s", self._done, self._tasks, text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.close()
        self._logs.close()

    @property
    def _done(self) -> int:
        return self._done_before + len(self._state.attempt.finals) + len(self._state.given_up)

    def _at_work(self) -> str:
        """Name the tasks in hand: `; working on a (63% exact), b and 2 more`."""
        trainings = [worker.training for worker in self._state.workers.values() if worker.training]
        named = [f"{t.task} ({t.last.demo_exact or 0.0:.0%} exact)" if t.last else t.task for t in trainings]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return f"; working on {', '.join(named[:MOST_NAMED])}{more}" if named else ""


def _agreement(candidates: Sequence[Candidate]) -> str:
    """Say how many views of one test input gave attempt 1; the composite may be a grid that no view gave."""
    if not candidates:
        return "no view gave a grid"
    views = sum(c.votes for c in candidates)
    best = candidates[0].votes
    return f"{best} of {views} views gave attempt 1" if best else f"attempt 1 is the composite of {views} views"
