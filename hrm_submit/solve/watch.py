"""What a person sees of a run while it goes on: a bar in a terminal, else plain lines that a log keeps."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.solve.messages import Answer, Progress

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 60.0


class Watcher:
    """Counts tasks; shows them as a tqdm bar where standard error is a terminal, else one line a task and one a minute."""

    def __init__(self, tasks: int, done: int = 0) -> None:
        self._bar = tqdm(total=tasks, initial=done, unit="task", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self._tasks, self._done, self._fit = tasks, done, 0
        self._exact: dict[str, float] = {}
        self._next_line = LINE_EVERY_SECONDS

    def progress(self, progress: Progress) -> None:
        """A task's training has gone on."""
        self._exact[progress.task] = progress.demo_exact

    def final(self, answer: Answer, seconds: float) -> None:
        """A task has its final answer."""
        self._done += 1
        exact = self._exact.pop(answer.task, 0.0)
        self._fit += exact >= 0.99
        votes = ", ".join(f"{c[0].votes if c else 0} of {sum(x.votes for x in c)} votes" for c in answer.outputs)
        line = (
            f"[{self._done}/{self._tasks}] {answer.task}: {answer.segments} segments in {format_duration(seconds)}, "
            f"demonstrations {exact:.0%}, {votes} ({answer.reason})"
        )
        if self._bar.disable:
            log.info(line)
        else:
            self._bar.write(line, file=sys.stderr)
        self._bar.update()

    def given_up(self, task: str) -> None:
        """A task keeps what it has."""
        self._done += 1
        self._exact.pop(task, None)
        self._bar.update()

    def tick(self, clock: Clock) -> None:
        """Show the time left; in a log once a minute."""
        left = "" if clock.budget is None else f", {format_duration(max(0.0, clock.remaining()))} left"
        text = f"{self._fit} fit their demonstrations{left}"
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=True)
        elif clock.elapsed() >= self._next_line:
            self._next_line += LINE_EVERY_SECONDS
            log.info("%d of %d tasks done, %s", self._done, self._tasks, text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.close()
