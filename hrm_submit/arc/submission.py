"""The submission file: `{id: [{"attempt_1": grid, "attempt_2": grid}, ...]}`, one entry a test input, in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from hrm_submit.arc.jsonio import (
    FaultError,
    JsonObject,
    located,
    of_task,
    parse_grid,
    parse_list,
    parse_object,
    parse_tasks,
    read_json,
    read_tasks,
    shown,
)
from hrm_submit.arc.task import Grid, Task
from hrm_submit.core.errors import DataError

Attempts: TypeAlias = tuple[Grid, Grid]
"""The first and the second guess at one test output."""

ATTEMPT_KEYS = ("attempt_1", "attempt_2")
NO_GRID: Grid = np.zeros((0, 0), dtype=np.uint8)
"""Stands for an attempt that is none."""


def to_json(answers: Mapping[str, Sequence[Attempts]]) -> str:
    """The text of a submission file."""
    return joined({task_id: answers_text(outputs) for task_id, outputs in answers.items()})


def answers_text(outputs: Sequence[Attempts]) -> str:
    """The part of a submission file that answers one task."""
    content = [{key: grid.tolist() for key, grid in zip(ATTEMPT_KEYS, attempts, strict=True)} for attempts in outputs]
    return json.dumps(content, separators=(",", ":"))


def joined(parts: Mapping[str, str]) -> str:
    """The text of a submission file from `answers_text` of each task."""
    return "{" + ",".join(f"{json.dumps(task_id)}:{text}" for task_id, text in parts.items()) + "}"


def load_submission(path: str | os.PathLike[str]) -> dict[str, tuple[Attempts, ...]]:
    """The answers of a submission file, which need not be complete. Raises DataError at the first fault."""
    return parse_tasks(path, "answers", lambda value: tuple(_attempts(x, k) for k, x in enumerate(parse_list(value, "answers"))))


def read_submission(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[Attempts, ...]], list[str]]:
    """The answers of anybody's submission file, and a line `FILE: task ID: fault` for each malformed attempt, which becomes a grid of no
    cells, that equals no answer. Raises DataError where the file as a whole is not a submission."""
    content, malformed = read_tasks(path, "answers"), list[str]()
    answers: dict[str, tuple[Attempts, ...]] = {}
    for task_id, value in content.items():
        if not isinstance(value, list):
            malformed.append(located(path, task_id, f"answers: should be a list, not {shown(value)}"))
            continue
        found = []
        for k, output in enumerate(value):
            grids = []
            for key in ATTEMPT_KEYS:
                try:
                    grids.append(_attempt(output, k, key))
                except FaultError as fault:
                    malformed.append(located(path, task_id, fault))
                    grids.append(NO_GRID)
            found.append((grids[0], grids[1]))
        answers[task_id] = tuple(found)
    return answers, malformed


def file_faults(path: str | os.PathLike[str], expected: Mapping[str, Task] | Mapping[str, int]) -> list[str]:
    """Everything wrong with a submission file, one line `FILE: task ID: fault` each; empty if it is valid."""
    try:
        content = read_json(path)
    except DataError as error:
        return [str(error)]
    return [located(path, None, fault) for fault in faults(content, expected)]


def faults(submission: Any, expected: Mapping[str, Task] | Mapping[str, int]) -> list[str]:
    """Everything wrong with a parsed submission for the tasks `expected` (or task id -> number of test outputs).

    One line a fault and at most one fault a grid, without the file's name; empty if the submission is valid.
    """
    if not isinstance(submission, Mapping):
        return [f"should be an object of answers by task id, not {shown(submission)}"]
    lines = []
    for task_id, task in expected.items():
        if task_id not in submission:
            lines.append(of_task(task_id, "is missing"))
            continue
        n_outputs = len(task.test) if isinstance(task, Task) else task
        lines += [of_task(task_id, fault) for fault in _answer_faults(submission[task_id], n_outputs)]
    lines += [of_task(task_id, "is not among the challenges") for task_id in submission if task_id not in expected]
    duplicates = submission.duplicates if isinstance(submission, JsonObject) else ()
    return lines + [of_task(task_id, "appears twice") for task_id in duplicates]


def _answer_faults(value: Any, n_outputs: int) -> Iterator[str]:
    try:
        outputs = parse_list(value, "answers")
    except FaultError as fault:
        yield str(fault)
        return
    if len(outputs) != n_outputs:
        yield f"has answers for {len(outputs)} test inputs, not {n_outputs}"
    for k, output in enumerate(outputs):
        for key in ATTEMPT_KEYS:
            try:
                _attempt(output, k, key)
            except FaultError as fault:
                yield str(fault)
                if not isinstance(output, Mapping):
                    break


def _attempts(value: Any, k: int) -> Attempts:
    return _attempt(value, k, ATTEMPT_KEYS[0]), _attempt(value, k, ATTEMPT_KEYS[1])


def _attempt(value: Any, k: int, key: str) -> Grid:
    return parse_grid(parse_object(value, (key,), f"output {k}")[key], f"output {k} {key}")
