"""JSON files and the grids in them, with faults of one line that name file, task and place (counted from 0).

A `FaultError` names the fault and its place within a task; `located` puts file and task before it.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Grid, make_grid
from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import open_regular, read_fault, write_output

log = logging.getLogger(__name__)


class FaultError(ValueError):
    """What is wrong with a piece of parsed JSON, in one line."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises DataError."""
    return parse_json(read_bytes(path), os.fspath(path))


def parse_json(text: bytes, where: str) -> Any:
    """Parse JSON. Where an object has a key twice, the last value counts, as for Kaggle, and the log says so. Raises DataError, naming
    `where`."""
    twice = set[str]()

    def one_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice.update(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return content

    try:
        content = json.loads(text, object_pairs_hook=one_object)
        if twice:
            log.warning("%s: twice in an object, of which the last counts: %s", where, clipped(json.dumps(sorted(twice)), 100))
        return content
    except UnicodeDecodeError:
        fault = "not UTF-8 text"
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists thousands deep
        fault = str(error)
    raise DataError(f"{where}: not JSON: {fault}")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file. Raises DataError."""
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: {read_fault(error)}") from None


def read_by_task(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Read an object that has one entry a task (`what` names an entry). Raises DataError, also where it is empty."""
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{os.fspath(path)}: should be an object of {what} by task id, not {shown(content)}")
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
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SIDE:
        raise FaultError(f"{place}: should be a list of 1 to {MAX_SIDE} rows, not {shown(value)}")
    for y, row in enumerate(value):
        if not isinstance(row, list) or not 1 <= len(row) <= MAX_SIDE or len(row) != len(value[0]):
            raise FaultError(f"{place}: row {y} should be a list of 1 to {MAX_SIDE} cells, as many as row 0 has, not {shown(row)}")
        for x, cell in enumerate(row):
            # `type` and not isinstance: true is an int to Python and not to JSON
            if type(cell) is not int or not 0 <= cell < N_COLOURS:
                raise FaultError(f"{place}: row {y}, column {x} is {shown(cell)}, not a whole number within 0..{N_COLOURS - 1}")
    return make_grid(value)


def part(value: Any, key: str, place: str) -> Any:
    """Return `value[key]` of a JSON object. Raises FaultError, naming `place`."""
    if not isinstance(value, Mapping):
        raise FaultError(f"{place}: should be an object, not {shown(value)}")
    if key not in value:
        raise FaultError(f'{place}: has no "{key}"')
    return value[key]


def shown(value: Any) -> str:
    """Show a JSON value in a fault, short and on one line."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 30 else text[:27] + "..."
