"""Tasks to solve, from any source that `entries.py` reads; written as Kaggle's file
`{id: {"train": [{"input", "output"}, ...], "test": [{"input"}, ...]}}`.

Notable: `load_challenges` refuses a source with any fault, `read_challenges` parts the good tasks from the broken ones and
keeps of a broken one what a fallback answer needs. Neither sees a test output, even where a file has one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hrm_submit.arc.entries import is_pair, read_source
from hrm_submit.arc.jsonio import FaultError, located, of_task, parse_grid, parse_list, parse_object, write_json
from hrm_submit.arc.task import Grid, Pair, Task
from hrm_submit.core.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BrokenTask:
    """A task that cannot be used as it stands, and what is known of the answers it wants."""

    id: str
    fault: str
    """`FILE: task ID: fault`."""
    n_outputs: int
    """Test outputs that it seems to want, at least 1."""
    test_inputs: tuple[Grid | None, ...]
    """Its test inputs, `n_outputs` of them, None where one cannot be read."""


def load_challenges(path: str | os.PathLike[str]) -> dict[str, Task]:
    """All tasks of a source, in its order. Raises DataError at the first fault, naming file, task and place."""
    tasks, broken = read_challenges(path)
    for task in broken.values():
        raise DataError(task.fault)
    return tasks


def read_challenges(path: str | os.PathLike[str]) -> tuple[dict[str, Task], dict[str, BrokenTask]]:
    """The good and the broken tasks of a source, each in its order.

    An id that a file has twice is broken. Raises DataError only where the source as a whole is: nothing there, not JSON, no tasks in it.
    """
    source = read_source(path)
    for stranger in source.strangers:
        log.warning("left out: %s", stranger)
    tasks: dict[str, Task] = {}
    broken: dict[str, BrokenTask] = {}
    for entry in source.entries:
        try:
            if entry.twice:
                raise FaultError("appears twice")
            tasks[entry.id] = parse_task(entry.id, entry.value)
        except FaultError as fault:
            inputs = _salvage(entry.value)
            broken[entry.id] = BrokenTask(entry.id, located(entry.file, entry.id, fault), len(inputs), inputs)
    for task_id in broken.keys() & tasks.keys():  # twice in a list of tasks: neither is sure to be the one that is meant
        del tasks[task_id]
    return tasks, broken


def parse_task(task_id: str, value: Any) -> Task:
    """A task from its JSON object, without its test outputs. Raises FaultError."""
    if isinstance(value, Task) or (isinstance(value, list) and value and is_pair(value[0])):
        raise FaultError("has no test inputs, only pairs to learn from")
    content = parse_object(value, ("train", "test"), "")
    train = parse_pairs(content["train"])
    tests = parse_list(content["test"], '"test"')
    if not tests:
        raise FaultError("has no test inputs")
    return Task(task_id, train, tuple(_test_input(test, k) for k, test in enumerate(tests)))


def as_task(value: Task | Mapping[str, Any], task_id: str = "handwritten") -> Task:
    """A Task as it is, or the one that a dict of lists (`train`, `test`) gives. Raises DataError."""
    if isinstance(value, Task):
        return value
    try:
        return parse_task(task_id, value)
    except FaultError as fault:
        raise DataError(of_task(task_id, fault)) from None


def parse_pairs(value: Any) -> tuple[Pair, ...]:
    """Demonstrations from a JSON list of `{"input", "output"}`. Raises FaultError."""
    demonstrations = parse_list(value, '"train"')
    if not demonstrations:
        raise FaultError("has no demonstrations")
    return tuple(_pair(demonstration, k) for k, demonstration in enumerate(demonstrations))


def write_challenges(path: str | os.PathLike[str], tasks: Mapping[str, Task]) -> None:
    """Write `tasks` as a challenges file, in one piece. Raises DataError where it cannot be written."""
    content = {
        task_id: {
            "train": [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in task.train],
            "test": [{"input": grid.tolist()} for grid in task.test],
        }
        for task_id, task in tasks.items()
    }
    write_json(path, content)


def _pair(value: Any, k: int) -> Pair:
    content = parse_object(value, ("input", "output"), f"demonstration {k}")
    return Pair(parse_grid(content["input"], f"demonstration {k} input"), parse_grid(content["output"], f"demonstration {k} output"))


def _test_input(value: Any, k: int) -> Grid:
    return parse_grid(parse_object(value, ("input",), f"test {k}")["input"], f"test {k} input")


def _salvage(value: Any) -> tuple[Grid | None, ...]:
    tests = value.get("test") if isinstance(value, dict) else None
    if not isinstance(tests, list) or not tests:
        return (None,)
    inputs: list[Grid | None] = []
    for k, test in enumerate(tests):
        try:
            inputs.append(_test_input(test, k))
        except FaultError:
            inputs.append(None)
    return tuple(inputs)
