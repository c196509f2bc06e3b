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
from hrm_submit.run import progress_bars
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.solver.messages import Answer, Progress
from tests.run.fake_pool import Time
from tests.terminal import screen


def report(task: str, segments: int, demo_exact: float) -> Progress:
    return Progress(task, segments, 0.5, demo_exact, 1.0)


def answer(task: str, *votes: int) -> Answer:
    candidates = tuple(Candidate(make_grid([[k]]), n, -0.1) for k, n in enumerate(votes))
    return Answer(task, (candidates,), True, 120, "share used")


class Tty(io.StringIO):
    """A terminal, as far as a program asks."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Make standard error a terminal of 100 columns; what is returned gives the lines that stand there."""
    tty = Tty()
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setattr(logging.root, "handlers", [])
    return lambda: screen(tty.getvalue())


def test_a_terminal_shows_all_tasks_and_what_each_worker_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    time = Time()
    clock = Clock(100.0, source=time)
    watcher = ProgressBars(5, done=1)
    watcher.started(0, "aaaa", 40.0)
    watcher.started(3, "bbbb", 20.0)
    watcher.tick(clock)
    time.now = 10.0
    watcher.progress(report("aaaa", 55, 0.25), 0)
    watcher.progress(report("bbbb", 77, 1.0))
    watcher.tick(clock)
    first, second, third = (line for line in terminal() if line)
    assert first.startswith(" 20%|") and "1/5" in first and "0 fit their demonstrations, 1m30s left" in first
    assert second.startswith(" 25%|") and second.endswith("| worker 0 aaaa, 55 segments, 25% exact, 30.0s left")
    assert third.startswith(" 50%|") and third.endswith("| worker 3 bbbb, 77 segments, 100% exact, 10.0s left")

    time.now = 20.0
    watcher.final(answer("bbbb", 30, 10), 20.0, 3)
    watcher.started(3, "cccc", 80.0)
    watcher.tick(clock)
    said, first, second, third = (line for line in terminal() if line)
    assert said == "[2/5] bbbb: 120 segments in 20.0s, 100% of demonstrations exact, 30 of 40 views gave attempt 1 (share used)"
    assert "2/5" in first and "1 fit their demonstrations, 1m20s left" in first
    assert second.startswith(" 50%|") and "worker 0 aaaa" in second
    assert third.startswith("  0%|") and third.endswith("| worker 3 cccc, 1m20s left"), "nothing of the task before stays"

    watcher.given_up("aaaa", 0)
    watcher.ended(3)
    watcher.tick(clock)
    _, first, *rest = terminal()
    assert "3/5" in first and not any(rest)
    watcher.close()
    _, first, *rest = terminal()
    assert "3/5" in first and not any(rest), "only the count of tasks stays"


def test_fixed_work_has_no_share_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    watcher = ProgressBars(1)
    watcher.started(0, "aaaa", None)
    watcher.progress(report("aaaa", 9, 0.5))
    watcher.tick(Clock(source=Time()))
    first, second = (line for line in terminal() if line)
    assert "left" not in first and second == "worker 0 aaaa, 9 segments, 50% exact"
    watcher.close()


def test_a_worker_that_is_given_another_task_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    watcher = ProgressBars(9)
    for n in range(3):
        watcher.started(0, f"task{n}", 10.0)
    watcher.tick(Clock(100.0, source=Time()))
    lines = [line for line in terminal() if line]
    assert len(lines) == 2 and lines[1].endswith("| worker 0 task2, 10.0s left")
    watcher.close()


def test_words_about_tasks_that_nobody_holds_change_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    watcher = ProgressBars(3)
    watcher.started(0, "aaaa", 10.0)
    watcher.progress(report("bbbb", 5, 1.0), 0)
    watcher.progress(report("cccc", 5, 1.0), 7)
    watcher.final(answer("bbbb"), 3.0)
    watcher.ended(5)
    watcher.tick(Clock(100.0, source=Time()))
    said, first, second = (line for line in terminal() if line)
    assert said.endswith("100% of demonstrations exact, no view gave a grid (share used)")
    assert "1/3" in first and second.endswith("| worker 0 aaaa, 10.0s left")
    watcher.close()


def test_a_log_gets_a_line_a_task_and_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    time = Time()
    clock = Clock(1000.0, source=time)
    watcher = ProgressBars(7)
    with caplog.at_level(logging.INFO):
        for n in range(6):
            watcher.started(n, f"t{n}", 500.0)
        watcher.progress(report("t1", 5, 1.0))
        for time.now in (0.0, 59.0, 60.0, 60.5, 119.0, 300.0, 301.0):
            watcher.tick(clock)
        watcher.final(answer("t1", 3), 302.0)
        time.now = 361.0
        watcher.tick(clock)
    assert [r.getMessage() for r in caplog.records] == [
        "0 of 7 tasks done, 0 fit their demonstrations, 15m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "0 of 7 tasks done, 0 fit their demonstrations, 11m40s left; working on t0, t1 (100% exact), t2, t3 and 2 more",
        "[1/7] t1: 120 segments in 5m02s, 100% of demonstrations exact, 3 of 3 views gave attempt 1 (share used)",
        "1 of 7 tasks done, 1 fit their demonstrations, 10m39s left; working on t0, t2, t3, t4 and 1 more",
    ]
    watcher.close()


class Widget:
    """Stands in for a bar of a notebook, and remembers how it was made and what it shows."""

    made: list[Widget]
    disable = False

    def __init__(self, **options: Any) -> None:
        self.options, self.n, self.closed = options, 0.0, False
        self.bar_format, self.total = options.get("bar_format"), options["total"]
        self.description = self.postfix = ""
        self.made.append(self)

    def set_description_str(self, text: str, refresh: bool = True) -> None:
        self.description = text

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        self.postfix = text

    def reset(self, total: float | None = None) -> None:
        self.n, self.total = 0.0, self.total if total is None else total

    def update(self) -> None:
        self.n += 1

    def write(self, text: str, file: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("place", ["widgets", "one line"])
def test_a_notebook_has_a_widget_a_worker_or_one_bar(monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    Widget.made = []
    monkeypatch.setattr(progress_bars, "place", lambda: place)
    monkeypatch.setattr(progress_bars, "bar", lambda where, **options: Widget(**options))
    time = Time()
    clock = Clock(100.0, source=time)
    watcher = ProgressBars(3)
    watcher.started(0, "aaaa", 50.0)
    watcher.tick(clock)
    time.now = 20.0
    watcher.tick(clock)
    watcher.final(answer("aaaa", 1), 20.0)
    watcher.started(1, "bbbb", 30.0)
    watcher.tick(clock)
    everything = Widget.made[0]
    assert everything.n == 1 and everything.postfix.startswith("0 fit their demonstrations, 1m20s left")
    if place == "one line":
        assert len(Widget.made) == 1 and everything.postfix.endswith("; working on bbbb")
    else:
        (line,) = Widget.made[1:]
        assert (line.description, line.total, line.n) == ("worker 1 bbbb, 30.0s left", 30.0, 0.0)
    watcher.close()
    assert all(widget.closed for widget in Widget.made)


def test_a_widget_takes_what_the_watcher_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
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
    time = Time()
    clock = Clock(100.0, source=time)
    watcher = ProgressBars(4)
    watcher.started(2, "aaaa", 40.0)
    watcher.tick(clock)
    time.now = 10.0
    watcher.tick(clock)
    _, line = boxes
    left, bar, right = line.children
    text = (left.value + right.value).replace("\u2007", " ")
    assert (bar.max, bar.value) == (40.0, 10.0)
    assert "worker 2 aaaa, 30.0s left" in text
    watcher.close()
    assert line.closed and bar.bar_style == "", "nothing turns red because time ran out"


def test_a_composite_that_no_view_gave_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    watcher = ProgressBars(1)
    watcher.final(answer("aaaa", 0, 20, 12), 1.0)
    said = next(line for line in terminal() if line)
    assert said.endswith("attempt 1 is the composite of 32 views (share used)")
    watcher.close()
