"""Many pairs a task in one `.npz` file, as RE-ARC's generators give them.

For each task id three arrays: `ID/inputs` and `ID/outputs`, the cells of all grids one after the other, and `ID/shapes`
(n, 4), the input's rows and columns and the output's rows and columns of each of the n pairs.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.jsonio import FaultError, located
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Pair, Task
from hrm_submit.core.errors import DataError
from hrm_submit.core.files import write_atomic

MAX_CELLS = 10_000
"""Sides beyond this are no grid's, and their product could be any number."""
NO_COLOUR = f"has a cell that is not within 0..{N_COLOURS - 1}"
_PARTS = ("inputs", "outputs", "shapes")


def load_pair_file(path: str | os.PathLike[str]) -> tuple[dict[str, Task], list[str]]:
    """Tasks, in order of the file, with all pairs as demonstrations and no tests; and a line `FILE: task ID: fault` for each pair or
    task that is left out.

    Nothing is unpickled. Raises DataError where the file as a whole cannot be used.
    """
    try:
        # opened here, as np.load leaves a file open that it cannot make sense of
        with Path(path).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            return _tasks(path, arrays)
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{os.fspath(path)}: not a usable .npz file: {' '.join(str(error).split())}") from None


def write_pair_file(path: str | os.PathLike[str], tasks: Iterable[Task]) -> None:
    """The demonstrations of `tasks` as such a file, compressed; tests are left out. Raises OSError."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for task in tasks:
        arrays[f"{task.id}/inputs"] = np.concatenate([pair.input.ravel() for pair in task.train])
        arrays[f"{task.id}/outputs"] = np.concatenate([pair.output.ravel() for pair in task.train])
        arrays[f"{task.id}/shapes"] = np.array([(*pair.input.shape, *pair.output.shape) for pair in task.train], dtype=np.uint8)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(Path(path), buffer.getvalue())


def _tasks(path: str | os.PathLike[str], arrays: np.lib.npyio.NpzFile) -> tuple[dict[str, Task], list[str]]:
    tasks: dict[str, Task] = {}
    done: set[str] = set()
    left_out: list[str] = []
    for name in arrays.files:
        task_id, _, part = name.rpartition("/")
        if not task_id or part not in _PARTS:
            raise DataError(f"{os.fspath(path)}: has an array {name!r}, which is not one of ID/{', ID/'.join(_PARTS)}")
        if task_id in done:
            continue
        done.add(task_id)
        try:
            missing = [other for other in _PARTS if f"{task_id}/{other}" not in arrays.files]
            if missing:
                raise FaultError(f"has no {missing[0]}")
            pairs, faults = _pairs(*(arrays[f"{task_id}/{other}"] for other in _PARTS))
            left_out += [located(path, task_id, fault) for fault in faults]
            if pairs:
                tasks[task_id] = Task(task_id, pairs, ())
        except FaultError as fault:
            left_out.append(located(path, task_id, fault))
    if not tasks:
        raise DataError(left_out[0] if left_out else f"{os.fspath(path)}: has no tasks")
    return tasks, left_out


def _pairs(inputs: npt.NDArray[Any], outputs: npt.NDArray[Any], shapes: npt.NDArray[Any]) -> tuple[tuple[Pair, ...], list[str]]:
    """The pairs that can be used, and what is wrong with the others."""
    if shapes.ndim != 2 or shapes.shape[1] != 4 or not np.issubdtype(shapes.dtype, np.integer):
        raise FaultError(f"shapes should be whole numbers (pairs, 4), not {shapes.dtype} {shapes.shape}")
    if not len(shapes):
        raise FaultError("has no pairs")
    sides = shapes.astype(np.int64)
    if sides.min() < 1 or sides.max() > MAX_CELLS:
        raise FaultError(f"pair {int(((sides < 1) | (sides > MAX_CELLS)).any(axis=1).argmax())}: has a side that no grid has")
    wide = np.asarray((sides > MAX_SIDE).any(axis=1))
    given, given_bad = _grids(inputs, sides[:, :2], "inputs")
    wanted, wanted_bad = _grids(outputs, sides[:, 2:], "outputs")
    bad, faults = wide | given_bad | wanted_bad, list[str]()
    for k in np.flatnonzero(bad):
        part = "inputs" if given_bad[k] else "outputs"
        faults.append(f"pair {k}: has a side above {MAX_SIDE}" if wide[k] else f"pair {k}: {part} {NO_COLOUR}")
    return tuple(Pair(given[k], wanted[k]) for k in np.flatnonzero(~bad)), faults


def _grids(cells: npt.NDArray[Any], shapes: npt.NDArray[np.int64], part: str) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.bool_]]:
    """The grids of all pairs, and which of them have a cell that is no colour."""
    ends = (shapes[:, 0] * shapes[:, 1]).cumsum()
    if not np.issubdtype(cells.dtype, np.integer) or cells.shape != (ends[-1],):
        raise FaultError(f"{part} should be {ends[-1]} whole numbers in a row, by its shapes, not {cells.dtype} {cells.shape}")
    wrong = (cells < 0) | (cells >= N_COLOURS)
    strange = np.array([piece.any() for piece in np.split(wrong, ends[:-1])])
    flat = np.where(wrong, 0, cells).astype(np.uint8)
    # views of read-only cells are read-only; one block a task costs far less than one a grid
    flat.setflags(write=False)
    return [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)], strange
