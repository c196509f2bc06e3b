"""The events of a run, one class a kind: what `events.jsonl` (version 1) holds, a line an event.

    {"v":1,"t":seconds since the start,"event":NAME,"task":id or null,"worker":number or null, and the fields of its class}

Notable: a field that is `absent` where it is unset is left out of the line, all others are written as null. Reading takes each
field as its type says and leaves the default where the file has something else, so that one odd field costs no event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

VERSION = 1

_absent: dict[str, Any] = {"absent": True}


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has; a line of a kind that this version does not know is read as this class itself."""

    NAME: ClassVar[str] = ""
    t: float = 0.0
    """Seconds since the run started."""
    task: str | None = None
    worker: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _HEAD}
        unset = {f.name for f in fields(self) if f.metadata.get("absent") and getattr(self, f.name) is None}
        about = {k: v for k, v in own.items() if k not in unset and k != "runtime"}
        return {"v": VERSION, "t": round(self.t, 3), "event": self.NAME, "task": self.task, "worker": self.worker, **about}


@dataclass(frozen=True, kw_only=True)
class RunStart(Event):
    """A run begins, or goes on: its budget in seconds, tasks of the file, ids of the broken ones, tasks that keep their answers."""

    NAME: ClassVar[str] = "run_start"
    budget: float | None = None
    tasks: int | None = None
    broken: tuple[str, ...] = ()
    resumed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(Event):
    """What is to be done by whom (`todo`, `workers`, `devices`), or the shares in seconds by what is known now, until `end`."""

    NAME: ClassVar[str] = "plan"
    todo: tuple[str, ...] | None = field(default=None, metadata=_absent)
    workers: int | None = field(default=None, metadata=_absent)
    devices: tuple[str, ...] | None = field(default=None, metadata=_absent)
    shares: dict[str, float] | None = field(default=None, metadata=_absent)
    end: float | None = field(default=None, metadata=_absent)
    given_back: float | None = field(default=None, metadata=_absent)


@dataclass(frozen=True, kw_only=True)
class WorkerStart(Event):
    """A worker's process was started or, with `ready`, has its model; then the line tells how it runs, too."""

    NAME: ClassVar[str] = "worker_start"
    device: str | None = field(default=None, metadata=_absent)
    ready: bool | None = field(default=None, metadata=_absent)
    dtype: str | None = field(default=None, metadata=_absent)
    runtime: dict[str, Any] | None = field(default=None, metadata=_absent)
    """Everything that a ready worker told of how it runs; in the line its keys stand beside the others."""

    def to_json(self) -> dict[str, Any]:
        """The line's object."""
        return {**super().to_json(), **(self.runtime or {})}


@dataclass(frozen=True, kw_only=True)
class TaskStart(Event):
    """A worker begins a task (or, with `phase` "joint", all of them together) for `seconds` or `segments`."""

    NAME: ClassVar[str] = "task_start"
    seconds: float | None = None
    segments: int | None = None
    restart: int | None = field(default=None, metadata=_absent)
    """Which training anew this is; absent for a first one."""
    attempt: int | None = field(default=None, metadata=_absent)
    phase: str | None = field(default=None, metadata=_absent)


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Training goes on: segments so far and the seconds of them, mean loss and share of exactly right demonstrations since the last."""

    NAME: ClassVar[str] = "progress"
    segments: int | None = None
    loss: float | None = None
    """None where it is not finite, as JSON has no such number."""
    demo_exact: float | None = None
    seconds: float | None = field(default=None, metadata=_absent)
    phase: str | None = field(default=None, metadata=_absent)


@dataclass(frozen=True, kw_only=True)
class Candidates(Event):
    """A vote on the way: `votes` of the candidates of each output, by `views` views, which took `vote_seconds`."""

    NAME: ClassVar[str] = "candidates"
    segments: int | None = None
    votes: list[list[int]] | None = None
    views: int | None = None
    vote_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskFinal(Candidates):
    """The last vote of a training, which took `seconds` in all and ended for `reason`."""

    NAME: ClassVar[str] = "task_final"
    seconds: float | None = None
    reason: str | None = None
    settled: bool | None = None
    restart: int | None = field(default=None, metadata=_absent)


@dataclass(frozen=True, kw_only=True)
class TaskFailed(Event):
    """A training is lost, or a task ends without one."""

    NAME: ClassVar[str] = "task_failed"
    reason: str | None = None
    attempt: int | None = field(default=None, metadata=_absent)
    restart: int | None = field(default=None, metadata=_absent)
    phase: str | None = field(default=None, metadata=_absent)


@dataclass(frozen=True, kw_only=True)
class Retry(Event):
    """A task is begun anew."""

    NAME: ClassVar[str] = "retry"
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerExit(Event):
    """A worker is gone: the exit code of its process, and why."""

    NAME: ClassVar[str] = "worker_exit"
    code: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Flush(Event):
    """A file could not be written and will be tried again."""

    NAME: ClassVar[str] = "flush"
    failed: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunEnd(Event):
    """The run is over: tasks that a model answered, and why the last answers are not on disk, if they are not."""

    NAME: ClassVar[str] = "run_end"
    answered: int | None = None
    seconds: float | None = None
    unsaved: str | None = None


KINDS: dict[str, type[Event]] = {
    kind.NAME: kind
    for kind in (RunStart, Plan, WorkerStart, TaskStart, Progress, Candidates, TaskFinal, TaskFailed, Retry, WorkerExit, Flush, RunEnd)
}
_HEAD = frozenset(("t", "task", "worker"))


def parse_event(line: Mapping[str, Any]) -> Event:
    """The event of a line's object. Raises ValueError where it lacks a time or a name, or has a task or worker that is none."""
    t, name, task, worker = number(line.get("t")), line.get("event"), line.get("task"), line.get("worker")
    if t is None or not isinstance(name, str) or not isinstance(task, str | None) or not (worker is None or type(worker) is int):
        raise ValueError("it lacks a time, an event, a task or a worker")
    kind = KINDS.get(name, Event)
    values = {f.name: _READERS[str(f.type)](line[f.name]) for f in fields(kind) if f.name not in _HEAD and f.name in line}
    given = {key: value for key, value in values.items() if value is not None}
    if kind is WorkerStart and line.get("ready") is True:
        given["runtime"] = {key: value for key, value in line.items() if key not in ("v", "t", "event", "task", "worker", "ready")}
    return kind(t=t, task=task, worker=worker, **given)


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(x for x in value if isinstance(x, str)) if isinstance(value, list) else None


def _shares(value: Any) -> dict[str, float] | None:
    return {str(k): n for k, v in value.items() if (n := number(v)) is not None} if isinstance(value, dict) else None


def _votes(value: Any) -> list[list[int]] | None:
    if not isinstance(value, list) or not all(isinstance(row, list) and all(type(n) is int for n in row) for row in value):
        return None
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "float | None": number,
    "int | None": _whole,
    "str | None": _text,
    "bool | None": _flag,
    "tuple[str, ...]": _texts,
    "tuple[str, ...] | None": _texts,
    "dict[str, float] | None": _shares,
    "dict[str, Any] | None": lambda value: None,
    "list[list[int]] | None": _votes,
}
