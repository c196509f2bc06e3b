"""The run folder, version 1: `run.json`, and two append-only files of JSON lines, `events.jsonl` and `predictions.jsonl`.

Writing never stops a run: a line that cannot be written (disk full) waits in memory and is tried again with the next one. An event
waits for the predictions before it, so that whoever reads that a task ended finds its answer, whenever the run is killed.
Reading never stops at a damaged line, such as the last one of a killed run: it is skipped and named.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hrm_submit.arc.task import Task
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import append_whole, open_regular, write_atomic
from hrm_submit.predict.vote import Candidate, Outputs
from hrm_submit.record.events import VERSION, Event, Flush, RunStart, TaskFinal, parse_event
from hrm_submit.record.predictions import CANDIDATES_KEPT, Prediction, parse_prediction
from hrm_submit.record.state import RunState

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_BYTES = 2**30
"""No run writes a larger file into its folder, and a mistake or a damaged disk can leave one that no memory holds."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Appender:
    """Appends JSON lines; keeps what cannot be written and tries it again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[str] = []
        self._lead = ""
        if path.exists():
            with open_regular(path) as file:
                # A killed run may have left half a line, which must not swallow the first new one.
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    self._lead = "" if file.read(1) == b"\n" else "\n"

    def append(self, record: Mapping[str, Any]) -> None:
        self._pending.append(_encode(record) + "\n")

    def flush(self) -> bool:
        """True when nothing waits."""
        if not self._pending:
            return True
        try:
            append_whole(self._path, (self._lead + "".join(self._pending)).encode())
        except OSError:
            self._lead = "\n"  # in case a part of a line stayed
            return False
        self._lead = ""
        self._pending.clear()
        return True


class RunWriter:
    """Appends to the run folder `directory`, which it creates. Raises SolveError where that is impossible.

    `now`: seconds since the run began. Predictions get the number of the attempt: of the `run_start` events in the folder.
    """

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._events, self._predictions = _Appender(directory / "events.jsonl"), _Appender(directory / "predictions.jsonl")
            (directory / "events.jsonl").touch()
            with open_regular(directory / "events.jsonl", MOST_BYTES) as file:
                self._attempt = file.read().count(b'"event":"run_start"')
        except OSError as error:
            raise SolveError(f"{directory}: run folder cannot be written: {error.strerror or error}") from None
        self._directory = directory
        self._now = now
        self._described: dict[str, Any] = {}

    def describe(self, run: Mapping[str, Any]) -> None:
        """Write `run.json` (config, seed, versions, devices, budget); a later call adds to it. A full disk costs only this file."""
        self._described = {**self._described, **run}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomic(self._directory / "run.json", json.dumps({"v": VERSION, **self._described}, indent=1) + "\n")
        except OSError as error:
            self.event(Flush("run.json", str(error)))

    def event(self, event: Event) -> None:
        """Append one line to `events.jsonl`, with the current time."""
        self._attempt += isinstance(event, RunStart)
        self._events.append({**event.to_json(), "t": round(self._now(), 3)})
        self.flush()

    def prediction(self, task: str, output: int, final: bool, candidates: Sequence[Candidate]) -> None:
        """Append the first candidates of output number `output` of `task`, best first, to `predictions.jsonl`."""
        kept, votes = tuple(candidates[:CANDIDATES_KEPT]), sum(c.votes for c in candidates)
        self._predictions.append(Prediction(self._now(), task, output, final, max(1, self._attempt), kept, votes).to_json())
        self.flush()

    def flush(self) -> bool:
        """Try again to write what waits; True when nothing does."""
        return self._predictions.flush() and self._events.flush()


def read_lines(path: Path, parse: Callable[[dict[str, Any]], T]) -> tuple[list[T], list[str]]:
    """Read a file of JSON lines; returns what `parse` makes of each line's object, and the lines that are none (`file:line: fault`).

    `parse` raises ValueError. Raises SolveError where there is a file, but none that can be read.
    """
    try:
        with open_regular(path, MOST_BYTES) as file:
            lines = file.read().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise SolveError(f"{path}: cannot be read: {error.strerror or error}") from None
    values, damaged = list[T](), list[str]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or record.get("v", VERSION) != VERSION:
                raise ValueError(f"not a record of version {VERSION}")
            values.append(parse(record))
        except (ValueError, RecursionError) as error:
            damaged.append(f"{path.name}:{number}: {error}")
    return values, damaged


def read_events(directory: Path) -> tuple[list[Event], list[str]]:
    """Read the events of a run folder, and what is damaged. Raises SolveError."""
    return read_lines(directory / "events.jsonl", parse_event)


@dataclass(frozen=True)
class RunRecord:
    """A run folder as read. `damaged` names lines that are left out (`file:line: fault`)."""

    run: dict[str, Any]
    events: list[Event]
    predictions: list[Prediction]
    damaged: list[str] = field(default_factory=list)

    @cached_property
    def state(self) -> RunState:
        """The state at the end of the run, or where it was killed."""
        state = RunState(self.events)
        state.close()
        return state

    def newest(self, tasks: Sequence[Task]) -> dict[str, Outputs]:
        """Return the newest candidates of each output of `tasks`, none where there are none."""
        found = {(p.task, p.output): p.candidates for p in self.predictions if p.candidates}
        return {task.id: tuple(found.get((task.id, k), ()) for k in range(len(task.test))) for task in tasks}

    @property
    def reached(self) -> dict[str, int]:
        """Most segments before a vote of the attempt that each task's newest answer comes from; a first training's."""
        newest, most = {p.task: p.attempt for p in self.predictions if p.candidates}, dict[str, int]()
        for t in self.state.trainings:
            if not t.retrain and newest.get(t.task) == t.attempt:
                most[t.task] = max([most.get(t.task, 0), *(vote.segments or 0 for vote in t.votes)])
        return most


def check_no_file(directory: Path) -> None:
    """Raise SolveError for a file instead of a run folder, and name the folder of a submission."""
    if directory.is_file():
        beside = Path(f"{directory}.run")
        raise SolveError(f"{directory}: is a file, no run folder" + (f"; its run folder is {beside}" if beside.is_dir() else ""))


def read_run(directory: Path) -> RunRecord:
    """Read a run folder, whole or of a killed run. Raises SolveError where there is none, or a log cannot be read."""
    check_no_file(directory)
    if not directory.is_dir():
        raise SolveError(f"{directory}: no such run folder")
    damaged: list[str] = []
    run = read_description(directory, damaged)
    events, wrong_events = read_events(directory)
    predictions, wrong_predictions = read_lines(directory / "predictions.jsonl", parse_prediction)
    record = RunRecord(run, events, predictions, [*damaged, *wrong_events, *wrong_predictions])
    return replace(record, predictions=_numbered(predictions, len(record.state.attempts)))


def set_aside_unreadable(directory: Path) -> None:
    """Rename the predictions of a run folder where they cannot be read, so that the next run records its own, and log that."""
    path, aside = directory / "predictions.jsonl", directory / "predictions.jsonl.unreadable"
    try:
        open_regular(path, MOST_BYTES).close()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        with suppress(OSError):
            path.replace(aside)
        log.warning("%s: cannot be read: %s; it is now %s, and its tasks are solved again", path, error.strerror or error, aside.name)


def open_tasks(directory: Path) -> set[str]:
    """List the tasks of a run without a final vote that agreed with itself and had fit demonstrations. Raises SolveError without a run."""
    record = read_run(directory)
    if not record.events:
        raise SolveError(f"{directory}: holds no run")
    settled = {event.task: event.settled for event in record.events if isinstance(event, TaskFinal)}
    return {task for task in record.state.tasks if not settled.get(task)}


def read_description(directory: Path, damaged: list[str]) -> dict[str, Any]:
    """Read `run.json`; where that fails return nothing and add the fault to `damaged`."""
    try:
        with open_regular(directory / "run.json", MOST_BYTES) as file:
            content = json.loads(file.read())
        if isinstance(content, dict):
            return content
        damaged.append("run.json: not an object")
    except (OSError, ValueError, RecursionError) as error:
        damaged.append(f"run.json: {getattr(error, 'strerror', None) or error}")
    return {}


def weights_of(run: Mapping[str, Any]) -> list[str]:
    """List the paths of the weights of `run` (`run.json`), those of further members included; `none` for random ones."""
    members = run.get("members")
    further = [m.get("checkpoint") for m in members if isinstance(m, dict)] if isinstance(members, list) else []
    return [str(path or "none") for path in (run.get("checkpoint"), *further)]


def training_warning(run: Mapping[str, Any]) -> str | None:
    """Warn where the weights of `run` (`run.json`) are random, or were trained on some of its tasks, so that a score says nothing of
    pre-trained ones; else None."""
    if "checkpoint" in run and run["checkpoint"] is None:
        return f"preset {run.get('presets') or 'nano'} starts from random weights: pre-trained ones solve far more"
    known = run.get("trained_on")
    if not isinstance(known, list) or not known:
        return None
    return f"{', '.join(weights_of(run))} was trained on {len(known)} of these tasks, the first is {known[0]}: a score of them says nothing"


def run_of(submission: Path) -> dict[str, Any]:
    """Read `run.json` of the run that wrote `submission`, in its default folder or the notebook's; empty where there is none."""
    for folder in (Path(f"{submission}.run"), submission.parent / "run"):
        described = read_description(folder, [])
        if described and (folder.name != "run" or Path(str(described.get("output", ""))).name == submission.name):
            return described
    return {}


def _numbered(predictions: Sequence[Prediction], attempts: int) -> list[Prediction]:
    """Give each prediction the number of an attempt that there is. Earlier versions did not number them: there a new attempt begins where
    time runs backwards."""
    found, attempt, before = list[Prediction](), 1, 0.0
    for p in predictions:
        attempt = min(p.attempt or attempt + (p.t < before), attempts)
        before = p.t
        found.append(replace(p, attempt=attempt))
    return found
