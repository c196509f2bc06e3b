"""What a person sees of a running run: bars where they can be drawn, else plain lines that a log keeps.

Notable: a line belongs to the worker that holds a task and passes on to the next one, so there are never more lines than
workers at once. Seconds come from the clock of `tick`, which is called twice a second; nothing here reads another.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.terminal import bar, logs_above_bars, place
from hrm_submit.predict.vote import Candidate
from hrm_submit.solver.messages import Answer, Progress

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 60.0
MOST_NAMED = 4
"""Tasks that a plain line names as being worked on."""

_TASK_BAR, _TASK_LINE = "{percentage:3.0f}%|{bar:12}| {desc}", "{desc}"


@dataclass
class _Line:
    """What a worker is at: its task's share in seconds, when that ends (known from the first tick on), and its last report."""

    task: str
    seconds: float | None
    bar: Any
    ends: float | None = None
    report: Progress | None = None


class ProgressBars:
    """Counts tasks and shows them: in a terminal or a notebook a bar for all and one a worker, else one line a task and one a minute."""

    def __init__(self, tasks: int, done: int = 0, fit: float = TTTConfig().fit) -> None:
        self._place = place()
        self._bar = bar(self._place, total=tasks, initial=done, unit="task")
        self._tasks, self._done, self._fit, self._fit_from = tasks, done, 0, fit
        self._exact: dict[str, float] = {}
        self._lines: dict[int, _Line] = {}
        self._spare: list[Any] = []
        self._every_bar = [self._bar]
        self._next_line = LINE_EVERY_SECONDS
        self._logs = ExitStack()
        self._logs.enter_context(logs_above_bars(self._place))

    def started(self, worker: int, task: str, seconds: float | None, node: str = "") -> None:
        """A worker, of a cluster on `node`, has been given a task, and `seconds` for it where time is what limits it."""
        self.ended(worker)
        self._lines[worker] = line = _Line(task, seconds, self._task_bar())
        if line.bar is not None:
            # No percentage of a share that is not counted in seconds.
            line.bar.bar_format = _TASK_LINE if seconds is None else _TASK_BAR
            line.bar.set_description_str(f"{node + ' ' if node else ''}worker {worker} {task}", refresh=False)
            line.bar.reset(total=seconds)

    def progress(self, progress: Progress, worker: int | None = None) -> None:
        """A task's training has gone on, on `worker` or whichever is known to hold it."""
        self._exact[progress.task] = progress.demo_exact
        number = self._holder(progress.task, worker)
        if number is not None:
            self._lines[number].report = progress

    def final(self, answer: Answer, seconds: float, worker: int | None = None) -> None:
        """A task has its final answer."""
        self._done += 1
        exact = self._exact.pop(answer.task, 0.0)
        self._fit += exact >= self._fit_from
        self.ended(self._holder(answer.task, worker))
        line = (
            f"[{self._done}/{self._tasks}] {answer.task}: {answer.segments} segments in {format_duration(seconds)}, "
            f"{exact:.0%} of demonstrations exact, {', '.join(map(_agreement, answer.outputs))} ({answer.reason})"
        )
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line, file=sys.stderr)
        self._bar.update()

    def given_up(self, task: str, worker: int | None = None) -> None:
        """A task keeps what it has."""
        self._done += 1
        self._exact.pop(task, None)
        self.ended(self._holder(task, worker))
        self._bar.update()

    def ended(self, worker: int | None) -> None:
        """A worker holds no task now, whatever became of the one it had; one that held none changes nothing."""
        line = None if worker is None else self._lines.pop(worker, None)
        if line is not None and line.bar is not None:
            line.bar.bar_format = _TASK_LINE
            line.bar.set_description_str("", refresh=False)
            line.bar.reset()
            self._spare.append(line.bar)

    def tick(self, clock: Clock) -> None:
        """Show the time left, of the run and of each task's share; in a log once a minute."""
        now = clock.elapsed()
        for worker, line in self._lines.items():
            if line.bar is not None or (line.ends is None and line.seconds is not None):
                self._draw(worker, line, now)
        left = "" if clock.budget is None else f", {format_duration(max(0.0, clock.remaining()))} left"
        text = f"{self._fit} fit their demonstrations{left}"
        if not self._bar.disable:
            self._bar.set_postfix_str(text if self._place != "one line" else text + self._at_work(), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY_SECONDS
            log.info("%d of %d tasks done, %s%s", self._done, self._tasks, text, self._at_work())

    def close(self) -> None:
        """Leave the terminal as it was."""
        for shown in self._every_bar[:0:-1]:
            shown.n = shown.total  # a widget that closes before its end turns red and stays, as after an error
            shown.close()
        self._bar.close()
        self._logs.close()

    def _holder(self, task: str, worker: int | None) -> int | None:
        """The worker whose line is the task's."""
        numbers = self._lines if worker is None else [worker]
        return next((n for n in numbers if n in self._lines and self._lines[n].task == task), None)

    def _task_bar(self) -> Any:
        """A bar for a worker's task: one that is no longer used, or a new one; None where one bar is all that fits."""
        if self._place not in ("terminal", "widgets"):
            return None
        if not self._spare:
            self._every_bar.append(bar(self._place, total=1.0, leave=False, bar_format=_TASK_LINE))
            return self._every_bar[-1]
        return self._spare.pop(0)

    def _draw(self, worker: int, line: _Line, now: float) -> None:
        said = [f"worker {worker} {line.task}"]
        if line.report:
            said += [f"{line.report.segments} segments", f"{line.report.demo_exact:.0%} exact"]
        if line.seconds is not None:
            line.ends = now + line.seconds if line.ends is None else line.ends
            said.append(f"{format_duration(max(0.0, line.ends - now))} left")
        if line.bar is not None:
            if line.seconds is not None and line.ends is not None:
                line.bar.n = min(line.seconds, line.seconds - (line.ends - now))
            line.bar.set_description_str(", ".join(said))

    def _at_work(self) -> str:
        """The tasks in hand, for a line: `; working on a (63% exact), b and 2 more`."""
        named = [f"{x.task} ({x.report.demo_exact:.0%} exact)" if x.report else x.task for x in self._lines.values()]
        if not named:
            return ""
        more = len(named) - MOST_NAMED
        return "; working on " + ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _agreement(candidates: Sequence[Candidate]) -> str:
    """How far the views of one test input agree, for a person; the composite may be a grid that no view gave."""
    if not candidates:
        return "no view gave a grid"
    views = sum(c.votes for c in candidates)
    best = candidates[0].votes
    return f"{best} of {views} views gave attempt 1" if best else f"attempt 1 is the composite of {views} views"
