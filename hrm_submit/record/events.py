"""The events of a run, one class a kind: what `events.jsonl` (version 1) holds, a line an event.

    {"v":1,"t":seconds since the start,"event":KIND,"task":id or null,"worker":number or null, and the fields of its class}

Notable: a field with a default is left out of the line where it is None, the others are written as null. Reading takes each field
as its type says, and None where the file has something else, so that one odd field costs no event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, get_type_hints

VERSION = 1
MOST = 1e15
"""No figure of a run is as large as this; what JSON may hold beyond it would only break arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has; a line of a kind that this version does not know is read as this class itself."""

    t: float = 0.0
    """Seconds since the run started; whoever writes the event fills it in."""
    task: str | None = None
    worker: int | None = None

    @property
    def kind(self) -> str:
        """Its name in the file: `run_start` of a RunStart."""
        return _kind(type(self))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        line = {"v": VERSION, "t": round(self.t, 3), "event": self.kind, "task": self.task, "worker": self.worker}
        for name, always in _own_fields(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if always or value is not None:
                line[name] = value
        return line


@dataclass(frozen=True)
class RunStart(Event):
    """A run begins or resumes: its budget in seconds, how many tasks the file has, which are broken, how many keep their answers."""

    budget: float | None
    tasks: int | None
    broken: list[str] | None
    resumed: int | None


@dataclass(frozen=True)
class Plan(Event):
    """What is to be done by whom (`todo`, `workers`, `devices`), or the shares in seconds by what is known now, until `end`."""

    todo: list[str] | None = None
    workers: int | None = None
    devices: list[str] | None = None
    shares: dict[str, float] | None = None
    end: float | None = None
    given_back: float | None = None


@dataclass(frozen=True)
class WorkerStart(Event):
    """A worker's process was started on `device` or, where `ready`, has its model and runs as `runtime` says, whose keys stand beside
    the others in the line."""

    device: str | None = None
    ready: bool | None = None
    runtime: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        line = super().to_json()
        return line | line.pop("runtime", {})


@dataclass(frozen=True)
class TaskStart(Event):
    """A worker begins a task (or, in phase "joint", all of them together) for `seconds` or `segments`: `attempt` counts those of a
    first training, `restart` numbers the retrainings."""

    seconds: float | None
    segments: int | None
    attempt: int | None = None
    restart: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Progress(Event):
    """Training progress: segments so far and the seconds of them; mean loss (null where it is not finite) and share of exactly right
    augmented demonstrations since the last one."""

    segments: int | None
    loss: float | None
    demo_exact: float | None
    seconds: float | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Candidates(Event):
    """A vote on the way, of `views` views, which took `vote_seconds`; `votes` of each output's candidates, with those before that count."""

    segments: int | None
    votes: list[list[int]] | None
    views: int | None
    vote_seconds: float | None


@dataclass(frozen=True)
class TaskFinal(Candidates):
    """The last vote of a training, which took `seconds` in all and ended for `reason`."""

    seconds: float | None
    reason: str | None
    settled: bool | None
    restart: int | None = None


@dataclass(frozen=True)
class TaskFailed(Event):
    """A training is lost, or a task ends without one."""

    reason: str | None
    attempt: int | None = None
    restart: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Retry(Event):
    """A task is started again."""

    reason: str | None


@dataclass(frozen=True)
class WorkerExit(Event):
    """A worker is gone: the exit code of its process, and why."""

    code: int | None
    reason: str | None


@dataclass(frozen=True)
class Flush(Event):
    """A file could not be written and will be tried again."""

    failed: str | None
    reason: str | None


@dataclass(frozen=True)
class RunEnd(Event):
    """The run is over: tasks that a model answered, and why the last answers are not on disk, if they are not."""

    answered: int | None
    seconds: float | None
    unsaved: str | None


def parse_event(line: Mapping[str, Any]) -> Event:
    """The event of a line's object. Raises ValueError where it lacks a time or a kind, or has a task or worker that is none."""
    t, name, task, worker = number(line.get("t")), line.get("event"), line.get("task"), line.get("worker")
    if t is None or not isinstance(name, str) or not isinstance(task, str | None) or not (worker is None or type(worker) is int):
        raise ValueError("it lacks a time, an event, a task or a worker")
    kind = _KINDS.get(name, Event)
    given = {field: _READERS[_TYPES[kind][field]](line.get(field)) for field in _TYPES[kind] if field not in _HEAD}
    if given.get("ready"):
        runtime = {key: value for key, value in line.items() if key not in ("v", "event", "ready", *_HEAD)}
        given |= {"device": None, "runtime": runtime}
    return kind(t=t, task=task, worker=worker, **given)


def turns(events: Iterable[Event]) -> list[list[Event]]:
    """The events by the start of the run that they follow: a killed run that resumes starts its clock again. Never empty."""
    found: list[list[Event]] = [[]]
    for event in events:
        if isinstance(event, RunStart) and found[-1]:
            found.append([])
        found[-1].append(event)
    return found


def number(value: Any) -> float | None:
    """A finite number that can be seconds or a count, else None."""
    return float(value) if type(value) in (int, float) and abs(value) < MOST else None


def _of(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else None


def _list_of(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, list) and all(type(x) is kind for x in value) else None


@cache
def _own_fields(event: type[Event]) -> list[tuple[str, bool]]:
    """Fields of this kind alone, and whether each stands in a line even where it is None."""
    return [(f.name, f.default is not None) for f in fields(event) if f.name not in _HEAD]


@cache
def _kind(event: type[Event]) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", event.__name__).lower()


_HEAD = ("t", "task", "worker")
_KINDS = {
    _kind(event): event
    for event in (RunStart, Plan, WorkerStart, TaskStart, Progress, Candidates, TaskFinal, TaskFailed, Retry, WorkerExit, Flush, RunEnd)
}
_TYPES = {event: get_type_hints(event) for event in (Event, *_KINDS.values())}
_READERS: dict[Any, Callable[[Any], Any]] = {
    float | None: number,
    int | None: lambda value: value if type(value) is int and abs(value) < MOST else None,
    str | None: _of(str),
    bool | None: _of(bool),
    list[str] | None: _list_of(str),
    list[list[int]] | None: _list_of(list),
    dict[str, float] | None: _of(dict),
    dict[str, Any] | None: _of(dict),
}
