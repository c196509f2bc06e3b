"""What a person sees of a run: on the screen of a terminal, in the widgets of a notebook, in the lines of a log."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.core.clock import Clock
from hrm_submit.predict.vote import Candidate
from hrm_submit.record import events
from hrm_submit.run import progress_bars
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.solver.messages import Answer
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

    def start(self, worker: int, task: str, seconds: float | None) -> None:
        self.bars.take(events.TaskStart(seconds, None, t=self.time.now, task=task, worker=worker))

    def progress(self, worker: int, task: str, segments: int, exact: float) -> None:
        self.bars.take(events.Progress(segments, 0.5, exact, 1.0, t=self.time.now, task=task, worker=worker))

    def final(self, worker: int, given: Answer, seconds: float) -> None:
        self.bars.take(events.TaskFinal(120, [], 1, 0.1, seconds, given.reason, True, t=self.time.now, task=given.task, worker=worker))
        self.bars.final(given, seconds)

    def fail(self, worker: int, task: str) -> None:
        self.bars.take(events.TaskFailed("no", t=self.time.now, task=task, worker=worker))

    def tick(self, now: float | None = None) -> None:
        self.time.now = self.time.now if now is None else now
        self.bars.tick(self.clock)


class Tty(io.StringIO):
    """A terminal, as far as a program asks."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Make standard error a terminal of 100 columns; the result gives the lines that stand there."""
    tty = Tty()
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setattr(logging.root, "handlers", [])
    return lambda: [line for line in screen(tty.getvalue()) if line]


def test_a_terminal_shows_all_tasks_and_the_work_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    run = Shown(5, done=1)
    run.start(0, "aaaa", 40.0)
    run.start(3, "bbbb", 20.0)
    run.tick()
    run.progress(0, "aaaa", 55, 0.25)
    run.progress(3, "bbbb", 77, 1.0)
    run.tick(10.0)
    first, second, third = terminal()
    assert first.startswith(" 20%|") and "1/5" in first and "0 fit their demonstrations, 1m30s left" in first
    assert second.startswith(" 25%|") and second.endswith("| worker 0 aaaa, 55 segments, 25% exact, 30.0s left")
    assert third.startswith(" 50%|") and third.endswith("| worker 3 bbbb, 77 segments, 100% exact, 10.0s left")

    run.time.now = 20.0
    run.final(3, answer("bbbb", 30, 10), 20.0)
    run.start(3, "cccc", 80.0)
    run.tick()
    said, first, second, third = terminal()
    assert said == "[2/5] bbbb: 120 segments in 20.0s, 100% of demonstrations exact, 30 of 40 views gave attempt 1 (share used)"
    assert "2/5" in first and "1 fit their demonstrations, 1m20s left" in first
    assert second.startswith(" 50%|") and "worker 0 aaaa" in second
    assert third.startswith("  0%|") and third.endswith("| worker 3 cccc, 1m20s left"), "nothing of the task before stays"

    run.fail(0, "aaaa")
    run.bars.take(events.WorkerExit(-9, "worker died", t=20.0, worker=3))
    run.tick()
    _, first, *rest = terminal()
    assert "3/5" in first and not rest
    run.bars.close()
    _, first, *rest = terminal()
    assert "3/5" in first and not rest, "only the count of tasks stays"


def test_a_worker_of_a_cluster_is_shown_with_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    run = Shown(9)
    run.bars.take(events.WorkerStart("10.0.0.3/cpu", worker=0))
    for n in range(3):
        run.start(0, f"task{n}", 10.0)
    run.tick()
    _, second = terminal()
    assert second.endswith("| 10.0.0.3 worker 0 task2, 10.0s left"), "one line for each worker"
    run.bars.close()


def test_a_log_gets_a_line_a_task_and_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    run = Shown(7, budget=1000.0)
    with caplog.at_level(logging.INFO):
        for n in range(6):
            run.start(n, f"t{n}", 500.0)
        run.progress(1, "t1", 5, 1.0)
        for now in (0.0, 59.0, 60.0, 60.5, 119.0, 300.0, 301.0):
            run.tick(now)
        run.final(1, answer("t1", 3), 302.0)
        run.tick(361.0)
    assert [r.getMessage() for r in caplog.records] == [
        "0 of 7 tasks done, 0 fit their demonstrations, 15m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "0 of 7 tasks done, 0 fit their demonstrations, 11m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "[1/7] t1: 120 segments in 5m02s, 100% of demonstrations exact, 3 of 3 views gave attempt 1 (share used)",
        "1 of 7 tasks done, 1 fit their demonstrations, 10m39s left; working on t0, t2, t3, t4 and 1 more",
    ]
    run.bars.close()


def test_a_notebook_without_widgets_has_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(progress_bars, "place", lambda: "one line")
    run = Shown(3)
    run.start(0, "aaaa", 50.0)
    run.final(0, answer("aaaa", 1), 20.0)
    run.start(1, "bbbb", 30.0)
    run.tick(20.0)
    _, line = terminal()
    assert "1/3" in line and "0 fit their demonstrations, 1m20s left; working on bbbb" in line
    run.bars.close()


def test_a_widget_of_tqdm_shows_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over tqdm's own notebook bar, with widgets that only hold what they are given."""
    notebook = pytest.importorskip("tqdm.notebook")

    class Box(SimpleNamespace):
        def __init__(self, **fields: Any) -> None:
            fields.setdefault("layout", SimpleNamespace(width=None))
            fields.setdefault("style", SimpleNamespace())
            fields.setdefault("bar_style", "")
            fields.setdefault("value", 0)
            super().__init__(**fields)

        def close(self) -> None:
            self.closed = True

    for name in ("IProgress", "HTML"):
        monkeypatch.setattr(notebook, name, Box, raising=False)
    boxes: list[Box] = []

    def container(children: Any) -> Box:
        boxes.append(Box(children=children))
        return boxes[-1]

    monkeypatch.setattr(notebook, "TqdmHBox", container)
    monkeypatch.setattr(notebook, "display", lambda *_: None, raising=False)
    monkeypatch.setattr(progress_bars, "place", lambda: "widgets")
    run = Shown(4)
    run.start(2, "aaaa", 40.0)
    run.tick(10.0)
    _, line = boxes
    left, bar, right = line.children
    text = (left.value + right.value).replace("\u2007", " ")
    assert (bar.max, bar.value) == (40.0, 10.0)
    assert "worker 2 aaaa, 30.0s left" in text
    run.bars.close()
    assert line.closed and bar.bar_style == "", "nothing turns red because time ran out"


@pytest.mark.parametrize(
    ("votes", "said"),
    [((0, 20, 12), "attempt 1 is the composite of 32 views"), ((), "no view gave a grid"), ((2, 1), "2 of 3 views gave attempt 1")],
)
def test_a_finished_task_says_how_many_views_agree(monkeypatch: pytest.MonkeyPatch, votes: tuple[int, ...], said: str) -> None:
    terminal = open_terminal(monkeypatch)
    run = Shown(1)
    run.final(0, answer("aaaa", *votes), 1.0)
    assert any(line.endswith(f"{said} (share used)") for line in terminal())
    run.bars.close()
