"""Reading JSON files and the grids in them, with faults that name file, task and place.

Notable: a `FaultError` says what is wrong and where within a task, and nothing of files; whoever knows the file and the task
puts them before it. Rows, columns, demonstrations and tests are counted from 0, as the lists in the file are.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Grid
from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import write_atomic

T = TypeVar("T")


class FaultError(ValueError):
    """What is wrong with a piece of parsed JSON, in one line."""


class JsonObject(dict[str, Any]):
    """An object of a JSON file; `duplicates` are the keys that the file gives more than once (the last value counts)."""

    duplicates: tuple[str, ...] = ()


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file, its objects as `JsonObject`. Raises DataError."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        fault = "no such file"
    except IsADirectoryError:
        fault = "is a folder, not a file"
    except OSError as error:
        fault = f"cannot be read: {error.strerror or error}"
    else:
        return parse_json(text, os.fspath(path))
    raise DataError(f"{os.fspath(path)}: {fault}")


def parse_json(text: bytes, where: str) -> Any:
    """The JSON value that `text` is, its objects as `JsonObject`. Raises DataError, naming `where`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError:
        fault = "not JSON: not UTF-8 text"
    except json.JSONDecodeError as error:
        fault = f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists thousands deep
        fault = f"not JSON that can be used: {error}"
    raise DataError(f"{where}: {fault}")


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` in one piece, without spaces. Raises DataError where the file cannot be written."""
    try:
        write_atomic(path, json.dumps(content, separators=(",", ":")))
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from None


def located(path: str | os.PathLike[str], task: str | None, fault: object) -> str:
    """`FILE: task ID: fault`, on one line whatever the id holds."""
    return f"{os.fspath(path)}: {of_task(task, fault) if task is not None else fault}"


def of_task(task: str, fault: object) -> str:
    """`task ID: fault`, on one line whatever the id holds."""
    return f"task {clipped(task if task.isprintable() and task else ascii(task), 80)}: {fault}"


def parse_grid(value: Any, place: str) -> Grid:
    """The read-only grid that a list of rows gives. Raises FaultError, naming `place` and the row and column in it."""
    if not isinstance(value, list):
        raise FaultError(f"{place}: should be a list of rows, not {shown(value)}")
    if not value:
        raise FaultError(f"{place}: has no rows")
    if len(value) > MAX_SIDE:
        raise FaultError(f"{place}: has {len(value)} rows, more than {MAX_SIDE}")
    for y, row in enumerate(value):
        if not isinstance(row, list):
            raise FaultError(f"{place}: row {y} should be a list of cells, not {shown(row)}")
        if not row:
            raise FaultError(f"{place}: row {y} has no cells")
        if len(row) != len(value[0]):
            raise FaultError(f"{place}: row {y} has {len(row)} cells, row 0 has {len(value[0])}")
        for x, cell in enumerate(row):
            # `type` and not isinstance: true is an int to Python and not to JSON
            if type(cell) is not int or not 0 <= cell < N_COLOURS:
                raise FaultError(f"{place}: row {y}, column {x} is {shown(cell)}, not a whole number within 0..{N_COLOURS - 1}")
    if len(value[0]) > MAX_SIDE:
        raise FaultError(f"{place}: has {len(value[0])} columns, more than {MAX_SIDE}")
    grid = np.array(value, dtype=np.uint8)
    grid.setflags(write=False)
    return grid


def parse_object(value: Any, keys: tuple[str, ...], place: str) -> Mapping[str, Any]:
    """`value` if it is an object that has `keys`, none of them twice. Raises FaultError, naming `place` unless that is empty."""
    before = f"{place}: " if place else ""
    if not isinstance(value, Mapping):
        raise FaultError(f"{before}should be an object, not {shown(value)}")
    for key in keys:
        if key not in value:
            raise FaultError(f'{before}has no "{key}"')
        if key in getattr(value, "duplicates", ()):
            raise FaultError(f'{before}has "{key}" twice')
    return value


def parse_list(value: Any, place: str) -> list[Any]:
    """`value` if it is a list. Raises FaultError."""
    if not isinstance(value, list):
        raise FaultError(f"{place}: should be a list, not {shown(value)}")
    return value


def read_tasks(path: str | os.PathLike[str], what: str) -> JsonObject:
    """The object of a file that has one entry a task; duplicates are left to the caller. Raises DataError."""
    content = read_json(path)
    if not isinstance(content, JsonObject):
        raise DataError(f"{os.fspath(path)}: should be an object of {what} by task id, not {shown(content)}")
    if not content:
        raise DataError(f"{os.fspath(path)}: has no tasks")
    return content


def parse_tasks(path: str | os.PathLike[str], what: str, parse: Callable[[Any], T]) -> dict[str, T]:
    """What `parse` makes of each task's entry of a file, in its order. Raises DataError at the first fault, naming file, task and place."""
    content, found = read_tasks(path, what), {}
    for task_id, value in content.items():
        try:
            if task_id in content.duplicates:
                raise FaultError("appears twice")
            found[task_id] = parse(value)
        except FaultError as fault:
            raise DataError(located(path, task_id, fault)) from None
    return found


def shown(value: Any) -> str:
    """A JSON value as a fault shows it: short and on one line."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= 30 else text[:27] + "..."


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    content = JsonObject(pairs)
    if len(content) < len(pairs):
        content.duplicates = tuple(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
    return content
