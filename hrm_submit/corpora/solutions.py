"""Kaggle's solutions file, `{id: [output of each test input, ...]}`, and single tasks that carry their answers.

Notable: with `sources` this is all that can read an answer. Solving imports neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hrm_submit.arc.challenges import parse_task
from hrm_submit.arc.jsonio import FaultError, parse_grid, parse_list, parse_tasks, write_json
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.core.errors import DataError


def load_solutions(path: str | os.PathLike[str]) -> dict[str, tuple[Grid, ...]]:
    """All solutions of a file, in its order. Raises DataError at the first fault, naming file, task and place."""
    return parse_tasks(path, "solutions", _outputs)


def write_solutions(path: str | os.PathLike[str], solutions: Solutions) -> None:
    """Write a solutions file, in one piece. Raises DataError where it cannot be written."""
    write_json(path, {task_id: [grid.tolist() for grid in outputs] for task_id, outputs in solutions.items()})


def sibling_solutions(challenges: str | os.PathLike[str]) -> Path | None:
    """The solutions file that lies beside a challenges file and is named like it; None if there is none."""
    path = Path(challenges)
    sibling = path.with_name(path.name.replace("challenges", "solutions"))
    return sibling if sibling != path and sibling.is_file() else None


def solved_pairs(task: Task, outputs: tuple[Grid, ...]) -> tuple[Pair, ...]:
    """The test inputs of `task` with their answers. Raises DataError unless there is one output a test input."""
    if len(outputs) != len(task.test):
        raise DataError(f"task {task.id}: {len(task.test)} test inputs, but solutions for {len(outputs)}")
    return tuple(Pair(given, wanted) for given, wanted in zip(task.test, outputs, strict=True))


def parse_solved_task(task_id: str, value: Any) -> tuple[Task, tuple[Grid, ...]]:
    """A task and the outputs of its tests, from an object whose `test` entries may have them: all or none. Raises FaultError."""
    task = parse_task(task_id, value)
    tests = value["test"]
    with_output = [k for k, test in enumerate(tests) if "output" in test]
    if not with_output:
        return task, ()
    if len(with_output) < len(tests):
        raise FaultError(f'test {min(set(range(len(tests))) - set(with_output))}: has no "output", as test {with_output[0]} has')
    return task, tuple(parse_grid(test["output"], f"test {k} output") for k, test in enumerate(tests))


def _outputs(value: Any) -> tuple[Grid, ...]:
    outputs = parse_list(value, "solutions")
    if not outputs:
        raise FaultError("has no outputs")
    return tuple(parse_grid(output, f"output {k}") for k, output in enumerate(outputs))
