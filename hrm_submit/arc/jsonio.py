"""JSON files and the grids in them, with faults of one line that name file, task and place (counted from 0).

A `FaultError` names the fault and its place within a task; `located` puts file and task before it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Grid, make_grid
from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import open_regular, write_output


class FaultError(ValueError):
    """What is wrong with a piece of parsed JSON, in one line."""


class JsonObject(dict[str, Any]):
    """An object of a JSON file; `duplicates` are the keys that the file gives more than once (the last value counts)."""

    duplicates: tuple[str, ...] = ()


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, its objects as `JsonObject`. Raises DataError."""
    return parse_json(read_bytes(path), os.fspath(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file. Raises DataError."""
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        fault = "no such file"
    except IsADirectoryError:
        fault = "is a folder, not a file"
    except OSError as error:
        fault = f"cannot be read: {error.strerror or error}"
    raise DataError(f"{os.fspath(path)}: {fault}")


def parse_json(text: bytes, where: str) -> Any:
    """Parse JSON, its objects as `JsonObject`. Raises DataError, naming `where`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError:
        fault = "not JSON: not UTF-8 text"
    except json.JSONDecodeError as error:
        fault = f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists thousands deep
        fault = f"not JSON that can be used: {error}"
    raise DataError(f"{where}: {fault}")


def read_by_task(path: str | os.PathLike[str], what: str) -> JsonObject:
    """Read an object that has one entry a task (`what` names an entry). Raises DataError, also where it is empty."""
    content = read_json(path)
    if not isinstance(content, JsonObject):
        raise DataError(f"{os.fspath(path)}: should be an object of {what} by task id, not {shown(content)}")
    if not content:
        raise DataError(f"{os.fspath(path)}: has no tasks")
    return content


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` in one piece, without spaces. Raises DataError where the file cannot be written."""
    write_output(path, json.dumps(content, separators=(",", ":")))


def located(path: str | os.PathLike[str] | None, task: str | None, fault: object) -> str:
    """Format `FILE: task ID: fault` as far as they are known, on one line whatever the id holds."""
    if task is not None:
        fault = f"task {clipped(task if task.isprintable() and task else ascii(task), 80)}: {fault}"
    return f"{fault}" if path is None else f"{os.fspath(path)}: {fault}"


def parse_grid(value: Any, place: str) -> Grid:
    """Make a grid of a list of rows. Raises FaultError, naming `place` and the row and column in it."""
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
    return make_grid(value)


def parse_object(value: Any, keys: tuple[str, ...], place: str) -> Mapping[str, Any]:
    """Check that `value` is an object that has each of `keys` once. Raises FaultError, naming `place`."""
    if not isinstance(value, Mapping):
        raise FaultError(f"{place}: should be an object, not {shown(value)}")
    for key in keys:
        if key not in value:
            raise FaultError(f'{place}: has no "{key}"')
        if key in getattr(value, "duplicates", ()):
            raise FaultError(f'{place}: has "{key}" twice')
    return value


def shown(value: Any) -> str:
    """Show a JSON value in a fault, short and on one line."""
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
