"""Kaggle's solutions file, `{id: [output of each test input, ...]}`, and tasks that carry their answers.

Notable: with `sources` this is all that can read an answer. Solving imports neither.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.arc.entries import PAIR_KEYS, Entry, FaultList, is_pair, read_task
from hrm_submit.arc.jsonio import FaultError, located, parse_grid, read_by_task, shown, write_json
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.core.errors import DataError

NO_MORE = ("id", "task_id", "name", "test", *PAIR_KEYS)
"""Keys of a task that hold no further pairs."""


def load_solutions(path: str | os.PathLike[str]) -> dict[str, tuple[Grid, ...]]:
    """Load all solutions of a file, in its order. Raises DataError at the first fault, naming file, task and place."""
    content, solutions = read_by_task(path, "solutions"), {}
    for task_id, value in content.items():
        try:
            if task_id in content.duplicates:
                raise FaultError("appears twice")
            if not isinstance(value, list):
                raise FaultError(f"solutions: should be a list, not {shown(value)}")
            if not value:
                raise FaultError("has no outputs")
            solutions[task_id] = tuple(parse_grid(output, f"output {k}") for k, output in enumerate(value))
        except FaultError as fault:
            raise DataError(located(path, task_id, fault)) from None
    return solutions


def write_solutions(path: str | os.PathLike[str], solutions: Solutions) -> None:
    """Write a solutions file, in one piece. Raises DataError where it cannot be written."""
    write_json(path, {task_id: [grid.tolist() for grid in outputs] for task_id, outputs in solutions.items()})


def sibling_solutions(challenges: str | os.PathLike[str]) -> Path | None:
    """Find the solutions file beside a challenges file, named like it; None if there is none."""
    path = Path(challenges)
    sibling = path.with_name(path.name.replace("challenges", "solutions"))
    return sibling if sibling != path and sibling.is_file() else None


def solved_pairs(task: Task, outputs: tuple[Grid, ...]) -> tuple[Pair, ...]:
    """Pair the test inputs of `task` with their answers. Raises DataError unless there is one output a test input."""
    if len(outputs) != len(task.test):
        raise DataError(f"task {task.id}: {len(task.test)} test inputs, but solutions for {len(outputs)}")
    return tuple(Pair(given, wanted) for given, wanted in zip(task.test, outputs, strict=True))


def read_solved_task(task_id: str, value: Any, file: Path, *, answers: bool = True, more: bool = False) -> Entry:
    """Read a task with the known outputs of its tests if `answers`, and with the pairs that it has under other keys if `more`.

    An output that is missing, empty or null is not known.
    """
    entry, faults = read_task(task_id, value, file), FaultList(file, task_id)
    if not isinstance(value, Mapping):
        return entry
    tests = value["test"] if answers and isinstance(value.get("test"), list) else []
    known = [test.get("output") if isinstance(test, Mapping) else None for test in tests]
    outputs = tuple(faults.parsed(parse_grid, output, f"test {k} output") if output else None for k, output in enumerate(known))
    others = {key: items for key, items in value.items() if more and key not in NO_MORE and isinstance(items, list) and items}
    extra = {key: faults.pairs(items, f"{key} pair") if all(map(is_pair, items[:3])) else () for key, items in others.items()}
    return replace(entry, outputs=outputs, more=extra, faults=(*entry.faults, *faults))
