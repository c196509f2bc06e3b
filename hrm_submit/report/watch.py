"""`watch`: a run of `solve` or of `pretrain` followed from another terminal, as a few lines of text.

Notable: how far the run is follows from its last line and from how long ago the file grew, so it works for a run of another process or
another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import SolveError
from hrm_submit.record.events import number
from hrm_submit.record.folder import LineReader, event_reader, read_description
from hrm_submit.record.state import RunState
from hrm_submit.report.data import fit_of
from hrm_submit.report.picture import printable

QUIET = 600.0
"""Seconds without a new line after which a run may have been killed."""


class Follower:
    """Follows a run folder, or that of a pre-training, which need not be there yet."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """`now`: wall clock, in seconds, as file times are."""
        self.ended = False
        """Whether the run has said that it is over."""
        self._folder, self._now = folder, now
        self._events = event_reader(folder)
        self._metrics: LineReader[Mapping[str, Any]] = LineReader(folder / "metrics.jsonl", dict)
        self._state = RunState()
        self._last: Mapping[str, Any] = {}
        self._validation: Mapping[str, Any] = {}

    def look(self) -> list[str]:
        """Read what is new and describe the run."""
        if (self._folder / "events.jsonl").is_file():
            for event in self._events.read():
                self._state.take(event)
            self.ended, age = self._state.attempt.ended, self._events.age(self._now())
            lines = solve_lines(self._state, fit_of(read_description(self._folder, [])), age)
        elif (self._folder / "metrics.jsonl").is_file():
            for line in self._metrics.read():
                self._validation, self._last = (line, self._last) if "validation_pass@2" in line else (self._validation, line)
            # The picture is drawn last.
            self.ended, age = _newer(self._folder / "metrics.svg", self._folder / "metrics.jsonl"), self._metrics.age(self._now())
            lines = pretrain_lines(self._last, self._validation, self.ended, age)
        else:
            return [printable(f"waiting for a run in {self._folder}")]
        if not self.ended:
            lines.append(f"last line {format_duration(age)} ago" + ("; the run may have been killed" if age > QUIET else ""))
        return [printable(line) for line in (f"{self._folder}:", *lines)]


def look_once(folder: Path) -> list[str]:
    """Describe the run in `folder` as it is now. Raises SolveError where there is none."""
    if not any((folder / name).is_file() for name in ("events.jsonl", "metrics.jsonl")):
        raise SolveError(f"{folder}: there is no run here, neither of solve nor of pretrain")
    return Follower(folder).look()


def follow(folder: Path, every: float, show: Callable[[list[str]], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """`show` the run in `folder` every `every` seconds until it ends."""
    follower = Follower(folder)
    while True:
        show(follower.look())
        if follower.ended:
            return
        sleep(every)


class Painter:
    """Makes each description take the place of the one before on a terminal."""

    def __init__(self, columns: int | None) -> None:
        """`columns` of the terminal; None where there is none, and descriptions follow each other."""
        self._columns, self._painted = columns, 0

    def paint(self, lines: list[str]) -> str:
        """Return what to write, with its last line's end."""
        if self._columns is None:
            return "".join(f"{line}\n" for line in lines)
        # A line that the terminal breaks would count as two.
        shown = [line[: self._columns - 1] for line in lines]
        back = f"\x1b[{self._painted}A\x1b[J" if self._painted else ""
        self._painted = len(shown)
        return back + "".join(f"{line}\n" for line in shown)


def solve_lines(state: RunState, fit: float, age: float) -> list[str]:
    """Describe a solve run `age` seconds after its last event: counts, time, and a table of the workers."""
    attempt, given_up = state.attempt, state.given_up
    now = attempt.end if attempt.ended else attempt.end + age
    done = attempt.resumed + len(attempt.finals) + len(given_up)
    fits = sum(exact is not None and exact >= fit for exact in attempt.finals.values())
    counts = [f"{done} of {attempt.tasks} tasks done", f"{fits} fit their demonstrations"]
    counts += [f"{attempt.retries} tried again"] if attempt.retries else []
    counts += [f"{len(given_up)} given up"] if given_up else []
    passed = [f"ended after {format_duration(now)}" if attempt.ended else f"{format_duration(now)} gone"]
    if attempt.budget is not None and not attempt.ended:
        passed.append(f"{format_duration(max(0.0, attempt.budget - now))} left")
    lines = [f"{', '.join(counts)}; {', '.join(passed)}"]
    lines += [f"latest trouble: {state.trouble}"] if state.trouble else []
    return lines + _worker_table(state, now)


def _worker_table(state: RunState, now: float) -> list[str]:
    if not state.workers:
        return []
    from pandas import DataFrame

    rows = []
    for worker_number, worker in sorted(state.workers.items()):
        training = worker.training
        last = training.last if training else None
        rows.append(
            {
                "worker": worker_number,
                "device": worker.place,
                "task": training.task if training else "",
                "phase": worker.phase,
                "for": format_duration(max(0.0, now - worker.since)),
                "of": format_duration(training.planned) if training and training.planned is not None else "",
                "segments": last.segments if last else "",
                "loss": f"{last.loss:.3f}" if last and last.loss is not None else "",
                "demonstrations": f"{last.demo_exact:.0%}" if last and last.demo_exact is not None else "",
            }
        )
    return DataFrame(rows).to_string(index=False).split("\n")


def pretrain_lines(last: Mapping[str, Any], validation: Mapping[str, Any], ended: bool, age: float) -> list[str]:
    """Describe a pre-training by its last line of training and its last validation."""
    value = {key: number(x) for key, x in last.items()}
    loss, progress, seconds = value.get("loss"), value.get("progress"), value.get("seconds") or 0.0
    said = [
        f"segment {value.get('segment') or 0:.0f}: loss {'not finite' if loss is None else f'{loss:.3f}'}",
        f"exact {value.get('exact') or 0:.1%}",
        f"{value.get('examples_per_second') or 0:.0f} examples/s",
        f"{progress or 0:.0%} done",
    ]
    if ended:
        said.append(f"ended after {format_duration(seconds)}")
    elif progress:
        said.append(f"{format_duration(max(0.0, seconds * (1 - progress) / progress - age))} left")
    lines = [", ".join(said)]
    score = number(validation.get("validation_pass@2"))
    if score is not None:
        lines.append(f"validation at segment {number(validation.get('segment')) or 0:.0f}: pass@2 {score:.1%}")
    return lines


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime >= than.stat().st_mtime
    except OSError:
        return False
