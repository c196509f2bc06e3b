"""What a person sees of a run: on the screen of a terminal, in the lines of a log."""

import io
import logging
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.core.clock import Clock
from hrm_submit.predict.vote import Candidate
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.solver.messages import Answer
from tests.events import event
from tests.run.fake_pool import Time
from tests.terminal import screen


def answer(task: str, *votes: int) -> Answer:
    candidates = tuple(Candidate(make_grid([[k]]), n, -0.1) for k, n in enumerate(votes))
    return Answer(task, (candidates,), True, 120, "share used")


class Shown:
    """Progress bars, and a run whose events a test gives by hand."""

    def __init__(self, tasks: int, done: int = 0, budget: float | None = 100.0) -> None:
        self.time = Time()
        self.clock = Clock(budget, source=self.time)
        self.bars = ProgressBars(tasks, done)

    def take(self, kind: str, task: str | None, worker: int, **fields: Any) -> None:
        self.bars.take(event(kind, task, worker, t=self.time.now, **fields))

    def final(self, worker: int, given: Answer, seconds: float) -> None:
        self.take("task_final", given.task, worker, reason=given.reason)
        self.bars.final(given, seconds)

    def tick(self, now: float) -> None:
        self.time.now = now
        self.bars.tick(self.clock)


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Make standard error a terminal of 160 columns; the result gives the lines that stand there."""
    tty = io.StringIO()
    monkeypatch.setattr(tty, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setattr(logging.root, "handlers", [])
    return lambda: [line for line in screen(tty.getvalue()) if line]


def test_a_terminal_that_is_gone_costs_the_run_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    run = Shown(5)
    run.take("task_start", "aaaa", 0)
    monkeypatch.setattr(sys.stderr, "write", Mock(side_effect=OSError(5, "Input/output error")))
    run.final(0, answer("aaaa", 3), 2.0)
    run.tick(3.0)
    run.bars.close()


def test_a_terminal_shows_how_far_the_run_is_and_the_tasks_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    run = Shown(5, done=1)
    run.take("task_start", "aaaa", 0)
    run.take("task_start", "bbbb", 3)
    run.take("progress", "bbbb", 3, segments=77, demo_exact=1.0)
    run.tick(10.0)
    (line,) = terminal()
    assert line.startswith(" 20%|") and "1/5" in line
    assert "0 fit their demonstrations, 1m30s left; working on aaaa, bbbb (100% exact)" in line

    run.final(3, answer("bbbb", 30, 10), 20.0)
    run.take("task_start", "cccc", 3)
    run.tick(20.0)
    said, line = terminal()
    assert said == "[2/5] bbbb: 120 segments in 20.0s, 100% of demonstrations exact, 30 of 40 views gave attempt 1 (share used)"
    assert "2/5" in line and "1 fit their demonstrations, 1m20s left; working on aaaa, cccc" in line

    run.take("task_failed", "aaaa", 0)
    run.take("worker_exit", None, 3)
    run.tick(20.0)
    run.bars.close()
    _, line = terminal()
    assert "3/5" in line and "working" not in line


def test_a_log_gets_a_line_a_task_and_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    run = Shown(7, budget=1000.0)
    with caplog.at_level(logging.INFO):
        for n in range(6):
            run.take("task_start", f"t{n}", n)
        run.take("progress", "t1", 1, segments=5, demo_exact=1.0)
        for now in (0.0, 59.0, 60.0, 60.5, 119.0, 300.0, 301.0):
            run.tick(now)
        run.final(1, answer("t1", 0, 20, 12), 302.0)
        run.final(3, answer("t3"), 302.0)
        run.tick(361.0)
    assert [r.getMessage() for r in caplog.records] == [
        "0 of 7 tasks done, 0 fit their demonstrations, 15m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "0 of 7 tasks done, 0 fit their demonstrations, 11m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "[1/7] t1: 120 segments in 5m02s, 100% of demonstrations exact, attempt 1 is the composite of 32 views (share used)",
        "[2/7] t3: 120 segments in 5m02s, 0% of demonstrations exact, no view gave a grid (share used)",
        "2 of 7 tasks done, 1 fit their demonstrations, 10m39s left; working on t0, t2, t4, t5",
    ]
    run.bars.close()
