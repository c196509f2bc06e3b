"""The events of a run, one class a kind: what `events.jsonl` (version 1) holds, a line an event.

    {"v":1,"t":seconds since the attempt began,"event":KIND,"task":id or null,"worker":number or null, and the fields of its class}

Notable: a field with a default is left out of the line where it is None, the others are written as null. Reading takes None where a
field has another type, so that one odd field costs no event.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

VERSION = 1
INTERRUPTED = "interrupted"
MOST = 1e15
"""No figure of a run is as large; JSON may hold more, which would only break arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has; a line of an unknown kind is read as this class. The writer fills in `t`."""

    t: float = 0.0
    task: str | None = None
    worker: int | None = None

    @property
    def kind(self) -> str:
        """Return its name in the file: `run_start` of a RunStart."""
        return _kind(type(self))

    def to_json(self) -> dict[str, Any]:
        """Return the line's object."""
        line = {"v": VERSION, "t": round(self.t, 3), "event": self.kind, "task": self.task, "worker": self.worker}
        own = [(f, getattr(self, f.name)) for f in fields(self) if f.name not in _HEAD]
        return line | {f.name: value for f, value in own if value is not None or f.default is MISSING}


@dataclass(frozen=True)
class RunStart(Event):
    """A run begins or resumes: budget in seconds, tasks of the file, ids of the broken ones, tasks that keep their final answers."""

    budget: float | None
    tasks: int | None
    broken: list[str] | None
    resumed: int | None


@dataclass(frozen=True)
class Plan(Event):
    """The work of a run: ids of the tasks, number of the workers and their devices."""

    todo: list[str] | None = None
    workers: int | None = None
    devices: list[str] | None = None


@dataclass(frozen=True)
class WorkerStart(Event):
    """A worker's process starts on `device` or, where `ready`, has its model; `runtime` adds its keys to the line."""

    device: str | None = None
    ready: bool | None = None
    runtime: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the line's object."""
        line = super().to_json()
        return line | line.pop("runtime", {})


@dataclass(frozen=True)
class EngineChosen(Event):
    """Workers on GPUs named `card` (or `cpu`) compute by `engine` in number format `dtype` from now on, for `reason`. `trials`: what was
    compared in `seconds`, each as `solver.engine.Trial` has it."""

    card: str | None
    engine: str | None
    dtype: str | None
    reason: str | None
    seconds: float | None = None
    trials: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class TaskStart(Event):
    """A worker begins a task for `seconds` or `segments`. `attempt` counts the tries of a first
    training, `restart` numbers the retrains."""

    seconds: float | None
    segments: int | None
    attempt: int | None = None
    restart: int | None = None


@dataclass(frozen=True)
class Progress(Event):
    """Training goes on: segments so far and their seconds; mean loss (null where not finite) and share of exact augmented
    demonstrations since the last progress."""

    segments: int | None
    loss: float | None
    demo_exact: float | None
    seconds: float | None = None
    member: str | None = None
    """Which of several models trains."""


@dataclass(frozen=True)
class Candidates(Event):
    """A mid-run vote of `views` views in `vote_seconds`; `votes` of each output's candidates, earlier votes that count included."""

    segments: int | None
    votes: list[list[int]] | None
    views: int | None
    vote_seconds: float | None
    member: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TaskFinal(Candidates):
    """The last vote of a training, which took `seconds` and ended for `reason`."""

    seconds: float | None
    reason: str | None
    settled: bool | None
    restart: int | None = None


@dataclass(frozen=True)
class TaskFailed(Event):
    """A training failed, or a task ends without one; for the reason INTERRUPTED because the run was stopped, which is no failure."""

    reason: str | None
    attempt: int | None = None
    restart: int | None = None


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
    """The run is over: tasks that the model answered; why the last answers are not on disk, if they are not."""

    answered: int | None
    seconds: float | None
    unsaved: str | None


def parse_event(line: Mapping[str, Any]) -> Event:
    """Read a line's object. Raises ValueError where time or kind is missing, or task or worker is none."""
    t, name, task, worker = number(line.get("t")), line.get("event"), line.get("task"), line.get("worker")
    if t is None or not isinstance(name, str) or not isinstance(task, str | None) or _typed(int, worker) != worker:
        raise ValueError("it lacks a time, an event, a task or a worker")
    kind = _KINDS.get(name, Event)
    given = {field: _typed(wanted, line.get(field)) for field, wanted in _FIELDS[kind].items()}
    if given.get("ready"):
        runtime = {key: value for key, value in line.items() if key not in ("v", "event", "ready", *_HEAD)}
        given |= {"device": None, "runtime": runtime}
    return kind(t=t, task=task, worker=worker, **given)


def number(value: Any) -> float | None:
    """Return a finite number below MOST, else None."""
    return float(value) if type(value) in (int, float) and abs(value) < MOST else None


def _typed(wanted: Any, value: Any) -> Any:
    """Return `value` if it has the type `wanted`, else None."""
    plain = get_origin(wanted) or wanted
    if plain is float:
        return number(value)
    if type(value) is not plain or (plain is int and number(value) is None):
        return None
    if plain is list:
        (item,) = get_args(wanted)
        return value if all(type(x) is (get_origin(item) or item) for x in value) else None
    return value


def _kind(event: type[Event]) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", event.__name__).lower()


_HEAD = ("t", "task", "worker")
_KINDS = {_kind(event): event for event in (*Event.__subclasses__(), TaskFinal)}
_FIELDS = {
    event: {name: get_args(hint)[0] for name, hint in get_type_hints(event).items() if name not in _HEAD}
    for event in (Event, *_KINDS.values())
}
"""The own fields of each kind with their types, all of which are `X | None`."""
