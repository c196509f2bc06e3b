"""The run folder, version 1: `run.json`, and two append-only files of JSON lines, `events.jsonl` and `predictions.jsonl`.

Writing never stops a run: a line that cannot be written (disk full) waits in memory and is tried again with the next one.
Reading never stops at a damaged line, the last one of a killed run among them: it is skipped and named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.record.events import VERSION, Event, Flush, parse_event

T = TypeVar("T")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Lines:
    """Appends JSON lines; what fails to be written is kept and tried again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[str] = []
        # A killed run may have left half a line: it must not swallow the first new one.
        self._lead = "\n" if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n") else ""

    def append(self, record: Mapping[str, Any]) -> None:
        self._pending.append(_encode(record) + "\n")
        self.flush()

    def flush(self) -> bool:
        """True when nothing waits."""
        if not self._pending:
            return True
        data = (self._lead + "".join(self._pending)).encode()
        try:
            with self._path.open("ab", buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                if file.write(data) != len(data):  # a disk that is about to be full takes a part, which must not stay
                    file.truncate(before)
                    return False
        except OSError:
            return False
        self._lead = ""
        self._pending.clear()
        return True


class RunWriter:
    """Appends to the run folder `directory`, which it creates. Raises SolveError where that is impossible."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._events, self._predictions = _Lines(directory / "events.jsonl"), _Lines(directory / "predictions.jsonl")
            (directory / "events.jsonl").touch()
        except OSError as error:
            raise SolveError(f"{directory}: run folder cannot be written: {error.strerror or error}") from None
        self._directory = directory
        self._now = now
        self._described: dict[str, Any] = {}

    def describe(self, run: Mapping[str, Any]) -> None:
        """Write `run.json`: config, seed, versions, devices, budget; a later call adds to it. A disk that refuses costs only this
        file."""
        self._described = {**self._described, **run}
        try:
            write_atomic(self._directory / "run.json", json.dumps({"v": VERSION, **self._described}, indent=1) + "\n")
        except OSError as error:
            self.event(Flush("run.json", str(error)))

    def event(self, event: Event) -> None:
        """Append one line to `events.jsonl`, with the time that it is now."""
        self._events.append({**event.to_json(), "t": round(self._now(), 3)})

    def prediction(self, task: str, output: int, final: bool, candidates: list[dict[str, Any]]) -> None:
        """Append the candidates `[{"grid", "votes", "score", "weight"}, ...]`, best first, of output number `output` of `task`."""
        self._predictions.append(
            {"v": VERSION, "t": round(self._now(), 3), "task": task, "output": output, "final": final, "candidates": candidates}
        )

    def flush(self) -> bool:
        """Try again to write what waits; True when nothing does."""
        return all([self._events.flush(), self._predictions.flush()])


@dataclass(frozen=True)
class RunRecord:
    """A run folder as read: damaged lines are left out and named in `damaged` (`file:line: fault`)."""

    run: dict[str, Any]
    events: list[Event]
    predictions: list[dict[str, Any]]
    damaged: list[str] = field(default_factory=list)


def read_run(directory: Path) -> RunRecord:
    """Read a run folder, whole or of a killed run. Raises SolveError where there is none."""
    if not directory.is_dir():
        raise SolveError(f"{directory}: no such run folder")
    damaged: list[str] = []
    run = read_description(directory, damaged)
    events = _read_lines(directory / "events.jsonl", parse_event, damaged)
    return RunRecord(run, events, _read_lines(directory / "predictions.jsonl", dict[str, Any], damaged), damaged)


def read_description(directory: Path, damaged: list[str]) -> dict[str, Any]:
    """`run.json`; empty where it cannot be read, which is then added to `damaged`."""
    try:
        content = json.loads((directory / "run.json").read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        damaged.append("run.json: not an object")
    except (OSError, ValueError, RecursionError) as error:
        damaged.append(f"run.json: {error}")
    return {}


def training_warning(run: Mapping[str, Any]) -> str | None:
    """One line where the weights of the run that `run` (`run.json`) describes had been trained on some of its tasks, whose score says
    nothing; else None."""
    known = run.get("trained_on")
    if not isinstance(known, list) or not known:
        return None
    return f"{run.get('checkpoint')} was trained on {len(known)} of these tasks, the first is {known[0]}: a score of them says nothing"


def run_of(submission: Path) -> dict[str, Any]:
    """`run.json` of the run that wrote `submission`, from its default folder or the notebook's; empty where there is none."""
    for folder in (Path(f"{submission}.run"), submission.parent / "run"):
        described = read_description(folder, [])
        if described and (folder.name != "run" or Path(str(described.get("output", ""))).name == submission.name):
            return described
    return {}


def _read_lines(path: Path, parse: Callable[[dict[str, Any]], T], damaged: list[str]) -> list[T]:
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or record.get("v") != VERSION:
                raise ValueError(f"not a record of version {VERSION}")
            records.append(parse(record))
        except (ValueError, RecursionError) as error:
            damaged.append(f"{path.name}:{number}: {error}")
    return records
