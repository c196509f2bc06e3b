"""Events as tests write them: a kind and its fields."""

from typing import Any

from hrm_submit.record.events import Event, parse_event
from hrm_submit.record.folder import RunRecord


def event(kind: str, task: str | None = None, worker: int | None = None, **fields: Any) -> Event:
    """The event that the line of these fields is read as."""
    return parse_event({"t": 0.0, "event": kind, "task": task, "worker": worker} | fields)


def told(record: RunRecord, kind: str | None = None) -> list[dict[str, Any]]:
    """The events of a run as the objects of their lines, of one kind or all."""
    return [e.to_json() for e in record.events if kind in (None, e.kind)]
