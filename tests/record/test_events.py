"""Events and the lines that they are: the file's form, version 1, is others' to rely on."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from hrm_submit.record import events
from hrm_submit.record.events import (
    Candidates,
    Event,
    Flush,
    Plan,
    Progress,
    Retry,
    RunEnd,
    RunStart,
    TaskFailed,
    TaskFinal,
    TaskStart,
    WorkerExit,
    WorkerStart,
    parse_event,
)

LINES = [
    (
        RunStart(600.0, 12, ["bad"], 3),
        '{"v":1,"t":1.5,"event":"run_start","task":null,"worker":null,"budget":600.0,"tasks":12,"broken":["bad"],"resumed":3}',
    ),
    (
        RunStart(None, 12, [], 0),
        '{"v":1,"t":1.5,"event":"run_start","task":null,"worker":null,"budget":null,"tasks":12,"broken":[],"resumed":0}',
    ),
    (
        Plan(["a", "b"], 2, ["cpu", "cpu"]),
        '{"v":1,"t":1.5,"event":"plan","task":null,"worker":null,"todo":["a","b"],"workers":2,"devices":["cpu","cpu"]}',
    ),
    (WorkerStart("cuda:0", worker=1), '{"v":1,"t":1.5,"event":"worker_start","task":null,"worker":1,"device":"cuda:0"}'),
    (
        WorkerStart(ready=True, runtime={"device": "cpu", "dtype": "bfloat16"}, worker=1),
        '{"v":1,"t":1.5,"event":"worker_start","task":null,"worker":1,"ready":true,"device":"cpu","dtype":"bfloat16"}',
    ),
    (
        TaskStart(30.25, None, 1, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"task_start","task":"a","worker":0,"seconds":30.25,"segments":null,"attempt":1}',
    ),
    (
        TaskStart(None, 20, restart=2, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"task_start","task":"a","worker":0,"seconds":null,"segments":20,"restart":2}',
    ),
    (
        Progress(40, None, 0.75, 9.5, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"progress","task":"a","worker":0,"segments":40,"loss":null,"demo_exact":0.75,"seconds":9.5}',
    ),
    (
        Candidates(40, [[3, 1]], 4, 0.125, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"candidates","task":"a","worker":0,"segments":40,"votes":[[3,1]],"views":4,"vote_seconds":0.125}',
    ),
    (
        TaskFinal(40, [[3, 1]], 4, 0.125, 30.5, "votes agree", True, 1, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"task_final","task":"a","worker":0,"segments":40,"votes":[[3,1]],"views":4,"vote_seconds":0.125,'
        '"seconds":30.5,"reason":"votes agree","settled":true,"restart":1}',
    ),
    (
        TaskFailed("worker died", 1, 0, task="a", worker=0),
        '{"v":1,"t":1.5,"event":"task_failed","task":"a","worker":0,"reason":"worker died","attempt":1,"restart":0}',
    ),
    (TaskFailed("time is up", task="a"), '{"v":1,"t":1.5,"event":"task_failed","task":"a","worker":null,"reason":"time is up"}'),
    (Retry("worker died", task="a", worker=0), '{"v":1,"t":1.5,"event":"retry","task":"a","worker":0,"reason":"worker died"}'),
    (
        WorkerExit(None, "worker hangs", worker=0),
        '{"v":1,"t":1.5,"event":"worker_exit","task":null,"worker":0,"code":null,"reason":"worker hangs"}',
    ),
    (
        Flush("submission", "disk full"),
        '{"v":1,"t":1.5,"event":"flush","task":null,"worker":null,"failed":"submission","reason":"disk full"}',
    ),
    (
        RunEnd(9, 512.25, None),
        '{"v":1,"t":1.5,"event":"run_end","task":null,"worker":null,"answered":9,"seconds":512.25,"unsaved":null}',
    ),
]


@pytest.mark.parametrize(("event", "line"), LINES)
def test_every_kind_is_written_as_it_always_was_and_read_back(event: Event, line: str) -> None:
    given = {f.name: getattr(event, f.name) for f in fields(event)} | {"t": 1.5}
    assert json.dumps(type(event)(**given).to_json(), separators=(",", ":")) == line
    assert parse_event(json.loads(line)) == type(event)(**given)


def test_every_kind_has_an_example() -> None:
    assert {type(event) for event, _ in LINES} == set(events._KINDS.values())


def test_an_odd_field_costs_no_event() -> None:
    line = {"t": 2, "event": "progress", "task": "a", "worker": 0, "segments": "many", "loss": float("nan"), "demo_exact": True, "new": 1}
    assert parse_event(line) == Progress(None, None, None, t=2.0, task="a", worker=0)
    assert parse_event({"t": 2, "event": "plan", "todo": ["a", 1]}) == Plan(t=2.0)


def test_a_kind_of_a_later_version_is_kept() -> None:
    assert parse_event({"t": 2, "event": "lunch", "task": "a", "menu": []}) == Event(t=2.0, task="a")


@pytest.mark.parametrize("line", [{}, {"t": "now", "event": "flush"}, {"t": 1, "event": 5}, {"t": 1, "event": "flush", "task": 5}])
def test_a_line_that_is_no_event_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lacks a time, an event, a task or a worker"):
        parse_event(line)
