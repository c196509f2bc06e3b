"""Events and the lines that they are: the file's form, version 1, is others' to rely on."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.record import events as kinds
from hrm_submit.record.events import Event, parse_event

A0: Any = {"task": "a", "worker": 0}
VOTES = '"segments":40,"votes":[[3,1]],"views":4,"vote_seconds":0.125'
EXAMPLES = [
    (kinds.RunStart(600.0, 12, ["bad"], 3), "run_start", '"budget":600.0,"tasks":12,"broken":["bad"],"resumed":3'),
    (kinds.RunStart(None, 12, [], 0), "run_start", '"budget":null,"tasks":12,"broken":[],"resumed":0'),
    (kinds.Plan(["a", "b"], 2, ["cpu", "cpu"]), "plan", '"todo":["a","b"],"workers":2,"devices":["cpu","cpu"]'),
    (kinds.WorkerStart("cuda:0", worker=1), "worker_start", '"device":"cuda:0"'),
    (kinds.WorkerStart(ready=True, runtime={"device": "cpu"}, worker=1), "worker_start", '"ready":true,"device":"cpu"'),
    (
        kinds.EngineChosen("L4", "compile", "bfloat16", "faster", 41.5, [{"rate": 2.0}], worker=0),
        "engine_chosen",
        '"card":"L4","engine":"compile","dtype":"bfloat16","reason":"faster","seconds":41.5,"trials":[{"rate":2.0}]',
    ),
    (kinds.TaskStart(30.25, None, 1, **A0), "task_start", '"seconds":30.25,"segments":null,"attempt":1'),
    (kinds.TaskStart(None, 20, restart=2, **A0), "task_start", '"seconds":null,"segments":20,"restart":2'),
    (kinds.Progress(40, None, 0.75, 9.5, **A0), "progress", '"segments":40,"loss":null,"demo_exact":0.75,"seconds":9.5'),
    (kinds.Candidates(40, [[3, 1]], 4, 0.125, **A0), "candidates", VOTES),
    (
        kinds.TaskFinal(40, [[3, 1]], 4, 0.125, 30.5, "votes agree", True, 1, **A0),
        "task_final",
        VOTES + ',"seconds":30.5,"reason":"votes agree","settled":true,"restart":1',
    ),
    (kinds.TaskFailed("worker died", 1, 0, **A0), "task_failed", '"reason":"worker died","attempt":1,"restart":0'),
    (kinds.TaskFailed("time is up", task="a"), "task_failed", '"reason":"time is up"'),
    (kinds.Retry("worker died", **A0), "retry", '"reason":"worker died"'),
    (kinds.WorkerExit(None, "worker hangs", worker=0), "worker_exit", '"code":null,"reason":"worker hangs"'),
    (kinds.Flush("submission", "disk full"), "flush", '"failed":"submission","reason":"disk full"'),
    (kinds.RunEnd(9, 512.25, None), "run_end", '"answered":9,"seconds":512.25,"unsaved":null'),
]


@pytest.mark.parametrize(("event", "kind", "rest"), EXAMPLES)
def test_every_kind_is_written_as_it_always_was_and_read_back(event: Event, kind: str, rest: str) -> None:
    line = f'{{"v":1,"t":1.5,"event":"{kind}","task":{json.dumps(event.task)},"worker":{json.dumps(event.worker)},{rest}}}'
    timed = replace(event, t=1.5)
    assert json.dumps(timed.to_json(), separators=(",", ":")) == line
    assert parse_event(json.loads(line)) == timed


def test_every_kind_has_an_example() -> None:
    assert {type(event) for event, *_ in EXAMPLES} == set(kinds._KINDS.values())


def test_an_odd_field_or_a_kind_of_a_later_version_costs_no_event() -> None:
    line = {"t": 2, "event": "progress", "task": "a", "worker": 0, "segments": "many", "loss": float("nan"), "demo_exact": True, "new": 1}
    assert parse_event(line) == kinds.Progress(None, None, None, t=2.0, task="a", worker=0)
    assert parse_event({"t": 2, "event": "plan", "todo": ["a", 1]}) == kinds.Plan(t=2.0)
    assert parse_event({"t": 2, "event": "lunch", "task": "a", "menu": []}) == Event(t=2.0, task="a")


@pytest.mark.parametrize("line", [{}, {"t": "now", "event": "flush"}, {"t": 1, "event": 5}, {"t": 1, "event": "flush", "task": 5}])
def test_a_line_that_is_no_event_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lacks a time, an event, a task or a worker"):
        parse_event(line)
