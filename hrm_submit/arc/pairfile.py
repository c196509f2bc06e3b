"""Many pairs a task in one `.npz` file, as RE-ARC's generators give them.

For each task id three arrays: `ID/inputs` and `ID/outputs`, the cells of all grids one after the other, and `ID/shapes`
(n, 4), the input's rows and columns and the output's rows and columns of each of the n pairs.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.entries import Entry
from hrm_submit.arc.jsonio import FaultError, located
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Grid, Pair
from hrm_submit.core.errors import DataError, clipped
from hrm_submit.core.files import open_regular, read_fault

PARTS = ("inputs", "outputs", "shapes")


def load_pair_file(path: Path) -> list[Entry]:
    """Read the tasks of a file, in its order; a bad one has no pairs, and a fault. Unpickles nothing. Raises DataError where the whole
    file is bad."""
    try:
        # opened here, as np.load leaves a file open that it cannot make sense of
        with open_regular(path) as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile) or not arrays.files:
                raise ValueError("it holds no named arrays")
            return [_entry(task_id, path, arrays) for task_id in dict.fromkeys(name.rpartition("/")[0] for name in arrays.files)]
    except OSError as error:
        raise DataError(f"{path}: {read_fault(error)}") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a usable .npz file: {clipped(error)}") from None


def _entry(task_id: str, path: Path, arrays: np.lib.npyio.NpzFile) -> Entry:
    try:
        if missing := [part for part in PARTS if f"{task_id}/{part}" not in arrays.files]:
            raise FaultError(f"has no {missing[0]}")
        inputs, outputs, shapes = (arrays[f"{task_id}/{part}"] for part in PARTS)
        if shapes.ndim != 2 or shapes.shape[1] != 4 or not np.issubdtype(shapes.dtype, np.integer) or not len(shapes):
            raise FaultError(f"shapes should be whole numbers (pairs, 4), not {shapes.dtype} {shapes.shape}")
        if shapes.min() < 1 or shapes.max() > MAX_SIDE:
            raise FaultError(f"has a side that is not within 1..{MAX_SIDE}")
        given, wanted = _grids(inputs, shapes[:, :2], "inputs"), _grids(outputs, shapes[:, 2:], "outputs")
    except FaultError as fault:
        return Entry(task_id, path, faults=(located(path, task_id, fault),), generated=True)
    return Entry(task_id, path, tuple(map(Pair, given, wanted)), generated=True)


def _grids(cells: npt.NDArray[Any], shapes: npt.NDArray[np.integer], part: str) -> list[Grid]:
    """Cut `cells` into grids. Raises FaultError."""
    ends = shapes.prod(axis=1, dtype=np.int64).cumsum()
    if not np.issubdtype(cells.dtype, np.integer) or cells.shape != (ends[-1],):
        raise FaultError(f"{part} should be {ends[-1]} whole numbers in a row, by its shapes, not {cells.dtype} {cells.shape}")
    if cells.min() < 0 or cells.max() >= N_COLOURS:
        raise FaultError(f"{part} have a cell that is not within 0..{N_COLOURS - 1}")
    flat = cells.astype(np.uint8)
    # views of read-only cells are read-only; one block a task costs far less than one a grid
    flat.setflags(write=False)
    return [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
