"""Many pairs a task in one `.npz` file, as RE-ARC's generators give them.

For each task id three arrays: `ID/inputs` and `ID/outputs`, the cells of all grids one after the other, and `ID/shapes`
(n, 4), the input's rows and columns and the output's rows and columns of each of the n pairs.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.jsonio import FaultError, located
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Pair, Task
from hrm_submit.core.errors import DataError

_PARTS = ("inputs", "outputs", "shapes")


def load_pair_file(path: str | os.PathLike[str]) -> dict[str, Task]:
    """Tasks, in order of the file, with all pairs as demonstrations and no tests.

    Nothing is unpickled. Raises DataError at the first fault, naming file, task and place.
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


def _tasks(path: str | os.PathLike[str], arrays: np.lib.npyio.NpzFile) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for name in arrays.files:
        task_id, _, part = name.rpartition("/")
        if not task_id or part not in _PARTS:
            raise DataError(f"{os.fspath(path)}: has an array {name!r}, which is not one of ID/{', ID/'.join(_PARTS)}")
        if task_id in tasks:
            continue
        try:
            missing = [other for other in _PARTS if f"{task_id}/{other}" not in arrays.files]
            if missing:
                raise FaultError(f"has no {missing[0]}")
            tasks[task_id] = Task(task_id, _pairs(*(arrays[f"{task_id}/{other}"] for other in _PARTS)), ())
        except FaultError as fault:
            raise DataError(located(path, task_id, fault)) from None
    if not tasks:
        raise DataError(f"{os.fspath(path)}: has no tasks")
    return tasks


def _pairs(inputs: npt.NDArray[Any], outputs: npt.NDArray[Any], shapes: npt.NDArray[Any]) -> tuple[Pair, ...]:
    if shapes.ndim != 2 or shapes.shape[1] != 4 or not np.issubdtype(shapes.dtype, np.integer):
        raise FaultError(f"shapes should be whole numbers (pairs, 4), not {shapes.dtype} {shapes.shape}")
    if not len(shapes):
        raise FaultError("has no pairs")
    if shapes.min() < 1 or shapes.max() > MAX_SIDE:
        pair = int(np.flatnonzero(((shapes < 1) | (shapes > MAX_SIDE)).any(axis=1))[0])
        raise FaultError(f"pair {pair}: has a side outside 1..{MAX_SIDE}")
    sides = shapes.astype(np.int64)
    grids = [_grids(inputs, sides[:, :2], "inputs"), _grids(outputs, sides[:, 2:], "outputs")]
    return tuple(map(Pair, *grids))


def _grids(cells: npt.NDArray[Any], shapes: npt.NDArray[np.int64], part: str) -> list[npt.NDArray[np.uint8]]:
    ends = (shapes[:, 0] * shapes[:, 1]).cumsum()
    if not np.issubdtype(cells.dtype, np.integer) or cells.shape != (ends[-1],):
        raise FaultError(f"{part} should be {ends[-1]} whole numbers in a row, by its shapes, not {cells.dtype} {cells.shape}")
    if cells.min() < 0 or cells.max() >= N_COLOURS:
        pair = int(np.searchsorted(ends, np.flatnonzero((cells < 0) | (cells >= N_COLOURS))[0], side="right"))
        raise FaultError(f"pair {pair}: {part} has a cell that is not within 0..{N_COLOURS - 1}")
    flat = cells.astype(np.uint8)
    # views of read-only cells are read-only; one block a task costs far less than one a grid
    flat.setflags(write=False)
    return [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
