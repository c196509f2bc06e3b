"""Show a run while it runs: bars where they can be drawn, else lines for a log. All of it is drawn from the state of the run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.terminal import bar, logs_above_bars, place
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Event
from hrm_submit.record.state import RunState, Training
from hrm_submit.solver.messages import Answer

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 60.0
MOST_NAMED = 4
"""Tasks that a line names as being worked on."""

_TASK_BAR, _TASK_LINE = "{percentage:3.0f}%|{bar:12}| {desc}", "{desc}"


class ProgressBars:
    """Draws one bar for all `tasks`, of which `done` had their answer before, and one for each worker; in a log, a line for each finished
    task and one a minute. A task whose share of exact demonstrations reaches `fit` counts as fit."""

    def __init__(self, tasks: int, done: int = 0, fit: float = TTTConfig().fit) -> None:
        self._place = place()
        self._bar = bar(self._place, total=tasks, initial=done, unit="task")
        self._tasks, self._done_before, self._fit = tasks, done, fit
        self._state = RunState()
        self._shown: dict[int, tuple[Any, Training]] = {}
        self._worker_bars, self._free = list[Any](), list[Any]()
        self._next_line = LINE_EVERY_SECONDS
        self._logs = ExitStack()
        self._logs.enter_context(logs_above_bars(self._place))

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
            self._bar.write(line, file=sys.stderr)

    def tick(self, clock: Clock) -> None:
        """Show the tasks done, the time left, and what each worker does; in a log once a minute."""
        now = clock.elapsed()
        at_work = {number: worker.training for number, worker in self._state.workers.items() if worker.training}
        if self._place in ("terminal", "widgets"):
            self._draw_workers(at_work, now)
        fit = sum((exact or 0.0) >= self._fit for exact in self._state.attempt.finals.values())
        left = "" if clock.budget is None else f", {format_duration(max(0.0, clock.remaining()))} left"
        text = f"{fit} fit their demonstrations{left}"
        if not self._bar.disable:
            self._bar.n = self._done
            self._bar.set_postfix_str(text if self._place != "one line" else text + _tasks_at_work(at_work), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY_SECONDS
            log.info("%d of %d tasks done, %s%s", self._done, self._tasks, text, _tasks_at_work(at_work))

    def close(self) -> None:
        """Leave the terminal as it was."""
        for shown in reversed(self._worker_bars):
            shown.n = shown.total  # a widget that closes before its end turns red and stays, as after an error
            shown.close()
        self._bar.close()
        self._logs.close()

    @property
    def _done(self) -> int:
        return self._done_before + len(self._state.attempt.finals) + len(self._state.given_up)

    def _draw_workers(self, at_work: Mapping[int, Training], now: float) -> None:
        for number in [n for n in self._shown if n not in at_work]:
            shown, _ = self._shown.pop(number)
            shown.bar_format = _TASK_LINE
            shown.set_description_str("", refresh=False)
            shown.reset()
            self._free.append(shown)
        for number, training in at_work.items():
            if number not in self._shown and not self._free:
                self._worker_bars.append(bar(self._place, total=1.0, leave=False, bar_format=_TASK_LINE))
                self._free.append(self._worker_bars[-1])
            shown, before = self._shown.get(number) or (self._free.pop(0), None)
            if before is not training:
                # No percentage of a training that is not planned in seconds.
                shown.bar_format = _TASK_LINE if training.planned is None else _TASK_BAR
                shown.reset(total=training.planned)
                self._shown[number] = shown, training
            node = self._state.nodes.get(number)
            said = [f"{node + ' ' if node else ''}worker {number} {training.task}"]
            if training.last:
                said += [f"{training.segments} segments", f"{training.last.demo_exact or 0.0:.0%} exact"]
            if training.planned is not None:
                shown.n = min(training.planned, now - training.start)
                said.append(f"{format_duration(training.planned - shown.n)} left")
            shown.set_description_str(", ".join(said))


def _tasks_at_work(at_work: Mapping[int, Training]) -> str:
    """Name the tasks in hand, for a line: `; working on a (63% exact), b and 2 more`."""
    if not at_work:
        return ""
    named = [f"{t.task} ({t.last.demo_exact or 0.0:.0%} exact)" if t.last else t.task for t in at_work.values()]
    more = len(named) - MOST_NAMED
    return "; working on " + ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _agreement(candidates: Sequence[Candidate]) -> str:
    """Say how many views of one test input gave attempt 1; the composite may be a grid that no view gave."""
    if not candidates:
        return "no view gave a grid"
    views = sum(c.votes for c in candidates)
    best = candidates[0].votes
    return f"{best} of {views} views gave attempt 1" if best else f"attempt 1 is the composite of {views} views"
