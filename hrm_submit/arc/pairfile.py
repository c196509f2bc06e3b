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

from hrm_submit.arc.entries import Entry, FaultList
from hrm_submit.arc.jsonio import FaultError
from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Pair, Task
from hrm_submit.core.errors import DataError
from hrm_submit.core.files import write_atomic

MAX_CELLS = 10_000
"""Larger sides are refused, so that their product cannot overflow."""
_PARTS = ("inputs", "outputs", "shapes")


def load_pair_file(path: Path) -> list[Entry]:
    """Read the tasks of a file, in its order, without their bad pairs. Unpickles nothing. Raises DataError where the whole file is bad."""
    try:
        # opened here, as np.load leaves a file open that it cannot make sense of
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            for name in arrays.files:
                if "/" not in name or name.rpartition("/")[2] not in _PARTS:
                    raise DataError(f"{path}: has an array {name!r}, which is not one of ID/{', ID/'.join(_PARTS)}")
            ids = dict.fromkeys(name.rpartition("/")[0] for name in arrays.files)
            return [_entry(task_id, path, arrays) for task_id in ids]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a usable .npz file: {' '.join(str(error).split())}") from None


def write_pair_file(path: str | os.PathLike[str], tasks: Iterable[Task]) -> None:
    """Write the demonstrations of `tasks` as such a file, compressed, without their tests. Raises OSError."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for task in tasks:
        arrays[f"{task.id}/inputs"] = np.concatenate([pair.input.ravel() for pair in task.train])
        arrays[f"{task.id}/outputs"] = np.concatenate([pair.output.ravel() for pair in task.train])
        arrays[f"{task.id}/shapes"] = np.array([(*pair.input.shape, *pair.output.shape) for pair in task.train], dtype=np.uint8)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(Path(path), buffer.getvalue())


def _entry(task_id: str, path: Path, arrays: np.lib.npyio.NpzFile) -> Entry:
    faults, pairs = FaultList(path, task_id), list[Pair]()
    try:
        missing = [part for part in _PARTS if f"{task_id}/{part}" not in arrays.files]
        if missing:
            raise FaultError(f"has no {missing[0]}")
        shapes = arrays[f"{task_id}/shapes"]
        if shapes.ndim != 2 or shapes.shape[1] != 4 or not np.issubdtype(shapes.dtype, np.integer):
            raise FaultError(f"shapes should be whole numbers (pairs, 4), not {shapes.dtype} {shapes.shape}")
        sides = shapes.astype(np.int64)
        if not len(sides) or sides.min() < 1 or sides.max() > MAX_CELLS:
            raise FaultError("has a side that no grid has" if len(sides) else "has no pairs")
        given, wanted = (_grids(arrays[f"{task_id}/{part}"], sides[:, k : k + 2], part) for part, k in (("inputs", 0), ("outputs", 2)))
        for k, (before, after) in enumerate(zip(given, wanted, strict=True)):
            if sides[k].max() > MAX_SIDE:
                faults.note("pair", f"pair {k}: has a side above {MAX_SIDE}")
            elif before is None or after is None:
                part = "inputs" if before is None else "outputs"
                faults.note("pair", f"pair {k}: {part} has a cell that is not within 0..{N_COLOURS - 1}")
            else:
                pairs.append(Pair(before, after))
    except FaultError as fault:
        faults.note("task", fault)
    return Entry(task_id, path, tuple(pairs), (), tuple(faults), generated=True)


def _grids(cells: npt.NDArray[Any], shapes: npt.NDArray[np.int64], part: str) -> list[npt.NDArray[np.uint8] | None]:
    """Cut `cells` into grids, None for one that has a cell that is no colour."""
    ends = shapes.prod(axis=1).cumsum()
    if not np.issubdtype(cells.dtype, np.integer) or cells.shape != (ends[-1],):
        raise FaultError(f"{part} should be {ends[-1]} whole numbers in a row, by its shapes, not {cells.dtype} {cells.shape}")
    wrong = (cells < 0) | (cells >= N_COLOURS)
    flat = np.where(wrong, 0, cells).astype(np.uint8)
    # views of read-only cells are read-only; one block a task costs far less than one a grid
    flat.setflags(write=False)
    grids = [piece.reshape(shape) for piece, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
    strange = set(np.searchsorted(ends, np.flatnonzero(wrong), side="right").tolist())
    return [None if k in strange else grid for k, grid in enumerate(grids)]
