"""Kaggle's solutions file, `{id: [output of each test input, ...]}`, and tasks that carry their answers.

Notable: with `sources` this is all that can read an answer. Solving imports neither.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.arc.entries import Entry, parsed, read_task
from hrm_submit.arc.jsonio import located, parse_grid, read_by_task, shown, write_json
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.core.errors import DataError


def load_solutions(path: str | os.PathLike[str]) -> dict[str, tuple[Grid, ...]]:
    """Load all solutions of a file, in its order. Raises DataError at the first fault, naming file, task and place."""
    solutions = {}
    for task_id, value in read_by_task(path, "solutions").items():
        if not isinstance(value, list) or not value:
            raise DataError(located(path, task_id, f"should be a list of outputs, not {shown(value)}"))
        faults: list[str] = []
        solutions[task_id] = tuple(grid for grid in parsed(parse_grid, value, "output", faults) if grid is not None)
        if faults:
            raise DataError(located(path, task_id, faults[0]))
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


def read_solved_task(task_id: str, value: Any, file: Path) -> Entry:
    """Read a task with the known outputs of its tests. An output that is missing, empty or null is not known."""
    entry, faults = read_task(task_id, value, file), list[str]()
    tests = value.get("test") if isinstance(value, Mapping) else None
    outputs = parsed(_output, tests, "test", faults)
    return replace(entry, outputs=outputs, faults=(*entry.faults, *(located(file, task_id, fault) for fault in faults)))


def _output(test: Any, place: str) -> Grid | None:
    wanted = test.get("output") if isinstance(test, Mapping) else None
    return parse_grid(wanted, f"{place} output") if wanted else None
