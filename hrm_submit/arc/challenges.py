"""Tasks to solve, from any source that `reader.py` reads; written as Kaggle's challenges file.

Notable: `load_challenges` refuses a source with any fault; `read_challenges` keeps of a broken task what a fallback answer needs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hrm_submit.arc.entries import read_task
from hrm_submit.arc.jsonio import write_json
from hrm_submit.arc.reader import read_source
from hrm_submit.arc.task import Grid, Task
from hrm_submit.core.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BrokenTask:
    """A task that cannot be solved."""

    id: str
    fault: str
    """`FILE: task ID: fault`."""
    test_inputs: tuple[Grid | None, ...]
    """Its test inputs, one at least, None where one cannot be read."""

    @property
    def n_outputs(self) -> int:
        """Test outputs to answer."""
        return len(self.test_inputs)


def load_challenges(path: str | os.PathLike[str]) -> dict[str, Task]:
    """Load all tasks of a source, in its order. Raises DataError at the first fault, naming file, task and place."""
    tasks, broken = read_challenges(path)
    for task in broken.values():
        raise DataError(task.fault)
    return tasks


def read_challenges(path: str | os.PathLike[str]) -> tuple[dict[str, Task], dict[str, BrokenTask]]:
    """Read the good and the broken tasks of a source, each in its order.

    Raises DataError only where the whole source cannot be used: nothing there, not JSON, no tasks in it.
    """
    source = read_source(path)
    for fault in source.faults:
        log.warning("left out: %s", fault.line)
    tasks: dict[str, Task] = {}
    broken: dict[str, BrokenTask] = {}
    for entry in source.entries:
        try:
            tasks[entry.id] = entry.task()
        except DataError as error:
            broken[entry.id] = BrokenTask(entry.id, str(error), entry.test or (None,))
    return tasks, broken


def as_task(value: Task | Mapping[str, object], task_id: str = "handwritten") -> Task:
    """Return a Task as it is, or make one of a dict of lists (`train`, `test`). Raises DataError."""
    return value if isinstance(value, Task) else read_task(task_id, value).task()


def write_challenges(path: str | os.PathLike[str], tasks: Mapping[str, Task]) -> None:
    """Write a challenges file, in one piece. Raises DataError where it cannot be written."""
    content = {
        task_id: {
            "train": [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in task.train],
            "test": [{"input": grid.tolist()} for grid in task.test],
        }
        for task_id, task in tasks.items()
    }
    write_json(path, content)
