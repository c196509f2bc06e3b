"""The submission file: `{id: [{"attempt_1": grid, "attempt_2": grid}, ...]}`, one entry a test input, in order."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hrm_submit.arc.jsonio import FaultError, located, parse_grid, part, read_by_task, read_json, shown
from hrm_submit.arc.task import NO_GRID, Grid, Task
from hrm_submit.core.errors import DataError

Attempts: TypeAlias = tuple[Grid, Grid]
"""The first and the second guess at one test output."""
Expected: TypeAlias = Mapping[str, Task] | Mapping[str, int]
"""The tasks to answer, or task id -> number of test outputs."""

ATTEMPT_KEYS = ("attempt_1", "attempt_2")


def to_json(answers: Mapping[str, Sequence[Attempts]]) -> str:
    """Format a submission file."""
    content = {
        task_id: [{key: grid.tolist() for key, grid in zip(ATTEMPT_KEYS, attempts, strict=True)} for attempts in outputs]
        for task_id, outputs in answers.items()
    }
    return json.dumps(content, separators=(",", ":"))


def read_submission(path: Path) -> tuple[dict[str, tuple[Attempts, ...]], list[str]]:
    """Read the answers of anybody's submission file, and a line `FILE: task ID: fault` for each malformed attempt (a `NO_GRID`).

    Raises DataError where the whole file is not a submission.
    """
    answers, malformed = {}, list[str]()
    for task_id, value in read_by_task(path, "answers").items():
        attempts, wrong = _attempts(value)
        malformed += [located(path, task_id, fault) for fault in wrong]
        if isinstance(value, list):
            answers[task_id] = attempts
    return answers, malformed


def file_faults(path: Path, expected: Expected) -> list[str]:
    """List everything wrong with a submission file, one line `FILE: task ID: fault` each; empty if it is valid."""
    try:
        return [f"{path}: {fault}" for fault in faults(read_json(path), expected)]
    except DataError as error:
        return [str(error)]


def faults(submission: Any, expected: Expected) -> list[str]:
    """List everything wrong with a parsed submission, one line `task ID: fault` each, at most one a grid; empty if it is valid."""
    if not isinstance(submission, Mapping):
        return [f"should be an object of answers by task id, not {shown(submission)}"]
    lines = []
    for task_id, task in expected.items():
        value, n_outputs = submission.get(task_id), task if isinstance(task, int) else len(task.test)
        wrong = _attempts(value)[1] if task_id in submission else ["is missing"]
        if isinstance(value, list) and len(value) != n_outputs:
            wrong.insert(0, f"has answers for {len(value)} test inputs, not {n_outputs}")
        lines += [located(None, task_id, fault) for fault in dict.fromkeys(wrong)]
    return lines + [located(None, task_id, "is not among the challenges") for task_id in submission if task_id not in expected]


def _attempts(value: Any) -> tuple[tuple[Attempts, ...], list[str]]:
    """The attempts at each output of a task, and a fault for each malformed one."""
    if not isinstance(value, list):
        return (), [f"answers: should be a list, not {shown(value)}"]
    grids, wrong = list[Grid](), list[str]()
    for k, output in enumerate(value):
        for key in ATTEMPT_KEYS:
            try:
                grids.append(parse_grid(part(output, key, f"output {k}"), f"output {k} {key}"))
            except FaultError as fault:
                grids.append(NO_GRID)
                wrong.append(str(fault))
    return tuple(zip(grids[::2], grids[1::2], strict=True)), wrong
