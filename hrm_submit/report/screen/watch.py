"""A run followed from another terminal: what `events.jsonl` (or a pre-training's `metrics.jsonl`) tells, as a few lines of text.

Notable: only what was appended is read, and half a line waits for its other half. How late it is in the run is known from the
last line and from how long ago the file grew, so it works for a run that another process, or another machine, writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import SolveError
from hrm_submit.record.folder import read_description
from hrm_submit.report.run.load import fit_of
from hrm_submit.report.screen.picture import printable
from hrm_submit.report.screen.watch_text import PretrainView, SolveView


class Tail:
    """A growing file of JSON lines, read as it grows. A file that got shorter was started again and is read from its start."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._half = path, 0, b""

    def read(self) -> Iterator[dict[str, Any]]:
        """The objects appended since the last call; a line that is none is skipped."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:
                    self._at, self._half = 0, b""
                file.seek(self._at)
                new = file.read()
        except OSError:
            return
        self._at += len(new)
        *lines, self._half = (self._half + new).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value

    def age(self, now: float) -> float:
        """Seconds since the file last grew, where `now` is a time of the wall clock, as the file's is; 0 where there is none."""
        try:
            return max(0.0, now - self._path.stat().st_mtime)
        except OSError:
            return 0.0


class Follower:
    """A run folder, or that of a pre-training, which need not be there yet."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder, self._now = folder, now
        self._tail: Tail | None = None
        self._view: SolveView | PretrainView | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has told that it is over."""
        return self._view is not None and self._view.ended

    def look(self) -> list[str]:
        """Read what is new, and say how the run stands."""
        if self._view is None or self._tail is None:
            kinds: tuple[tuple[str, type[SolveView] | type[PretrainView]], ...]
            kinds = (("events.jsonl", SolveView), ("metrics.jsonl", PretrainView))
            found = next(((self._folder / name, view) for name, view in kinds if (self._folder / name).is_file()), None)
            if found is None:
                return [printable(f"waiting for a run in {self._folder}")]
            self._tail, self._view = Tail(found[0]), found[1]()
        for line in self._tail.read():
            if line.get("event") == "run_start":  # a run that was killed goes on in its folder, and its clock begins anew
                self._view = SolveView(fit_of(read_description(self._folder, [])))
            self._view.take(line)
        if isinstance(self._view, PretrainView):
            self._view.ended = _newer(self._folder / "metrics.svg", self._folder / "metrics.jsonl")
        return [printable(line) for line in (f"{self._folder}:", *self._view.lines(self._tail.age(self._now())))]


def look_once(folder: Path) -> list[str]:
    """How the run in `folder` stands now. Raises SolveError where there is none."""
    if not any((folder / name).is_file() for name in ("events.jsonl", "metrics.jsonl")):
        raise SolveError(f"{folder}: there is no run here, neither of solve nor of pretrain")
    return Follower(folder).look()


def follow(folder: Path, every: float, show: Callable[[list[str]], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """`show` how the run in `folder` stands, every `every` seconds until it ends."""
    follower = Follower(folder)
    while True:
        show(follower.look())
        if follower.ended:
            return
        sleep(every)


class Painter:
    """Turns one look after the other into what must be written so that each takes the place of the one before."""

    def __init__(self, columns: int | None) -> None:
        """`columns` of the terminal; None where there is none, and looks follow each other."""
        self._columns, self._painted = columns, 0

    def paint(self, lines: list[str]) -> str:
        """What to write, with its last line's end."""
        if self._columns is None:
            return "".join(f"{line}\n" for line in lines)
        # A line that the terminal breaks would count as two.
        shown = [line[: self._columns - 1] for line in lines]
        back = f"\x1b[{self._painted}A\x1b[J" if self._painted else ""
        self._painted = len(shown)
        return back + "".join(f"{line}\n" for line in shown)


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime >= than.stat().st_mtime
    except OSError:
        return False
