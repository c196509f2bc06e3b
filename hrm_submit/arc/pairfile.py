"""Many pairs a task in one `.npz` file, as RE-ARC's generators give them.

For each task id three arrays: `ID/inputs` and `ID/outputs`, the cells of all grids one after the other, and `ID/shapes`
(n, 4), the input's rows and columns and the output's rows and columns of each of the n pairs.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.entries import Entry, FaultList
from hrm_submit.arc.jsonio import FaultError
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, NO_GRID, Grid, Pair
from hrm_submit.core.errors import DataError
from hrm_submit.core.files import open_regular

MAX_CELLS = 10_000
"""Larger sides are refused, so that their product cannot overflow."""
PARTS = ("inputs", "outputs", "shapes")


def load_pair_file(path: Path) -> list[Entry]:
    """Read the tasks of a file, in its order, without their bad pairs. Unpickles nothing. Raises DataError where the whole file is bad."""
    try:
        # opened here, as np.load leaves a file open that it cannot make sense of
        with open_regular(path) as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            names = [name.rpartition("/") for name in arrays.files]
            for task_id, slash, part in names:
                if not slash or part not in PARTS:
                    raise ValueError(f"has an array {task_id + slash + part!r}, which is not one of ID/{', ID/'.join(PARTS)}")
            return [_entry(task_id, path, arrays) for task_id in dict.fromkeys(name[0] for name in names)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a usable .npz file: {' '.join(str(error).split())}") from None


def _entry(task_id: str, path: Path, arrays: np.lib.npyio.NpzFile) -> Entry:
    faults, pairs = FaultList(path, task_id), list[Pair]()
    try:
        for part in PARTS:
            if f"{task_id}/{part}" not in arrays.files:
                raise FaultError(f"has no {part}")
        shapes = arrays[f"{task_id}/shapes"]
        if shapes.ndim != 2 or shapes.shape[1] != 4 or not np.issubdtype(shapes.dtype, np.integer) or not len(shapes):
            raise FaultError(f"shapes should be whole numbers (pairs, 4), not {shapes.dtype} {shapes.shape}")
        if shapes.min() < 1 or shapes.max() > MAX_CELLS:
            raise FaultError("has a side that no grid has")
        given, wanted = (_grids(arrays[f"{task_id}/{part}"], shapes[:, k : k + 2], part) for part, k in (("inputs", 0), ("outputs", 2)))
        for k, pair in enumerate(map(Pair, given, wanted)):
            if shapes[k].max() > MAX_SIDE:
                faults.note("pair", f"pair {k}: has a side above {MAX_SIDE}")
            elif not (pair.input.size and pair.output.size):
                faults.note("pair", f"pair {k}: has a cell that is not within 0..{N_COLOURS - 1}")
            else:
                pairs.append(pair)
    except FaultError as fault:
        faults.note("task", fault)
    return Entry(task_id, path, tuple(pairs), (), tuple(faults), generated=True)


def _grids(cells: npt.NDArray[Any], shapes: npt.NDArray[np.integer], part: str) -> list[Grid]:
    """Cut `cells` into grids, `NO_GRID` for one that has a cell that is no colour."""
    ends = shapes.prod(axis=1, dtype=np.int64).cumsum()
    if not np.issubdtype(cells.dtype, np.integer) or cells.shape != (ends[-1],):
        raise FaultError(f"{part} should be {ends[-1]} whole numbers in a row, by its shapes, not {cells.dtype} {cells.shape}")
    wrong = (cells < 0) | (cells >= N_COLOURS)
    flat = np.where(wrong, 0, cells).astype(np.uint8)
    # views of read-only cells are read-only; one block a task costs far less than one a grid
    flat.setflags(write=False)
    grids = [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
    for k in set(np.searchsorted(ends, np.flatnonzero(wrong), side="right").tolist()):
        grids[k] = NO_GRID
    return grids
