"""Files of one task each and folders of them, as ARC, ConceptARC and RE-ARC lay them out.

A file's name without `.json` is the id of its task. Its content is an object with `train` and `test`, whose tests may carry
their outputs (ARC `data/training`, ConceptARC `corpus/CONCEPT`), or a list of pairs (RE-ARC `re_arc/tasks`): a task with
demonstrations and no tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hrm_submit.arc.challenges import parse_pairs
from hrm_submit.arc.jsonio import FaultError, located, read_json
from hrm_submit.arc.task import Grid, Task
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import parse_solved_task


def load_folder(path: str | os.PathLike[str]) -> tuple[dict[str, Task], dict[str, tuple[Grid, ...]]]:
    """Tasks and, for those whose tests carry outputs, solutions, from every `.json` file in `path` and the folders in it.

    In order of the files' paths. Raises DataError at the first fault, naming file, task and place.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: {'is a file, not a folder' if root.exists() else 'no such folder'}")
    tasks: dict[str, Task] = {}
    solutions: dict[str, tuple[Grid, ...]] = {}
    files: dict[str, Path] = {}
    for file in sorted(root.rglob("*.json")):
        if file.name.startswith("."):
            continue
        if file.stem in files:
            raise DataError(located(file, file.stem, f"appears twice, the first time in {files[file.stem]}"))
        files[file.stem] = file
        task, solved = parse_task_file(file, read_json(file))
        tasks.update(task)
        solutions.update(solved)
    if not tasks:
        raise DataError(f"{root}: holds no .json files")
    return tasks, solutions


def parse_task_file(file: Path, content: Any) -> tuple[dict[str, Task], dict[str, tuple[Grid, ...]]]:
    """The task that `content`, read from `file`, is, and its solution where its tests carry outputs. Raises DataError."""
    task_id = file.stem
    try:
        if isinstance(content, list):
            return {task_id: Task(task_id, parse_pairs(content), ())}, {}
        task, outputs = parse_solved_task(task_id, content)
    except FaultError as fault:
        raise DataError(located(file, task_id, fault)) from None
    return {task_id: task}, {task_id: outputs} if outputs else {}
