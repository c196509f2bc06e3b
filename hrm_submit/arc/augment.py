"""Invertible changes of a whole task: dihedral transform and colour permutation. Dihedral ids are those of the published HRM."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.task import N_COLOURS, Grid, Task, make_grid

N = TypeVar("N", bound=np.generic)
ColourRule: TypeAlias = Literal["permute", "permute_input", "fixed"]

DIHEDRAL = np.array([(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)], dtype=np.bool_)
"""The eight transforms, by their published numbers: whether to transpose, after reversing the rows, and the columns. 0 identity,
1-3 quarter turns anticlockwise, 4 left-right mirror, 5 top-bottom mirror, 6 transpose, 7 mirror about the other diagonal."""
N_DIHEDRAL = len(DIHEDRAL)
SAME_COLOURS: tuple[int, ...] = tuple(range(N_COLOURS))

_ROW, _OUTPUT, _ITEM = b"\n", b"\v", b"\f"


def dihedral(grid: npt.NDArray[N], transform: int) -> npt.NDArray[N]:
    """Return a view of `grid` under one of the transforms `DIHEDRAL`."""
    turned, up, left = DIHEDRAL[transform]
    view = grid[:: -1 if up else 1, :: -1 if left else 1]
    return view.T if turned else view


def inverse_dihedral(transform: int) -> int:
    """Return the transform that undoes `transform`."""
    return {1: 3, 3: 1}.get(transform, transform)


@dataclass(frozen=True)
class Augmentation:
    """One view of a task: `colours[old]` is the new colour. Raises ValueError unless `dihedral` is 0..7 and `colours` a permutation of
    0..9."""

    dihedral: int = 0
    colours: tuple[int, ...] = SAME_COLOURS

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < N_DIHEDRAL or sorted(self.colours) != list(SAME_COLOURS):
            raise ValueError(f"{self} is not an augmentation")

    def apply(self, grid: Grid) -> Grid:
        """Transform `grid`, then recolour it."""
        return make_grid(np.array(self.colours, dtype=np.uint8)[dihedral(grid, self.dihedral)])

    def invert(self, grid: Grid) -> Grid:
        """Undo `apply`."""
        old = np.argsort(self.colours).astype(np.uint8)
        return make_grid(dihedral(old[grid], inverse_dihedral(self.dihedral)))


def augmentation_arrays(views: Sequence[Augmentation]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return dihedral ids (B,) and colour tables (B, 10) of B augmentations, as `canvas.encode` takes them."""
    transforms = np.array([view.dihedral for view in views], dtype=np.uint8)
    colours = np.array([view.colours for view in views], dtype=np.uint8).reshape(-1, N_COLOURS)
    return transforms, colours


def movable_colours(task: Task, rule: ColourRule) -> tuple[int, ...]:
    """Return the colours that a permutation may move: `permute` 1..9 (published), `fixed` none.

    `permute_input` leaves out colours that a demonstration's output has and its input lacks: moved, one input would have several
    outputs.
    """
    if rule == "fixed":
        return ()
    if rule == "permute":
        return tuple(range(1, N_COLOURS))
    only_in_output = {c for pair in task.train for c in np.setdiff1d(pair.output, pair.input).tolist()}
    return tuple(c for c in range(1, N_COLOURS) if c not in only_in_output)


def sample_augmentations(task: Task, n: int, rng: np.random.Generator, *, colours: ColourRule = "permute") -> list[Augmentation]:
    """Sample up to `n` augmentations of `task`, the identity first, that give different pairs and test inputs, in any order.

    Where few different ones exist all are listed; else a bounded number is drawn, which may miss some of a task with many symmetries.
    """
    texts = [_text(task, transform) for transform in range(N_DIHEDRAL)]
    movable = np.array(movable_colours(task, colours), dtype=np.int64)
    used = np.intersect1d(movable, np.concatenate([grid.ravel() for grid in task.grids()]))
    found: dict[int, Augmentation] = {}

    def keep(transforms: npt.NDArray[np.int64], tables: npt.NDArray[np.int64]) -> None:
        for transform, table in zip(transforms.tolist(), tables.tolist(), strict=True):
            if len(found) == n:
                return
            # only the hash is kept: contents of a task with many pairs take megabytes
            recoloured = texts[transform].translate(bytes((*table, *range(N_COLOURS, 256))))
            key = hash(tuple(sorted(recoloured.split(_ITEM))))
            if key not in found:
                found[key] = Augmentation(transform, tuple(table))

    keep(np.zeros(1, dtype=np.int64), np.arange(N_COLOURS)[None])
    if N_DIHEDRAL * math.perm(len(movable), len(used)) <= 4 * n:
        transforms, tables = _every(movable, used)
        order = rng.permutation(len(transforms))
        keep(transforms[order], tables[order])
        return list(found.values())
    for _ in range(8):
        missing = n - len(found)
        if missing <= 0:
            break
        m = missing + missing // 4 + 8
        tables = np.tile(np.arange(N_COLOURS), (m, 1))
        tables[:, movable] = rng.permuted(np.tile(movable, (m, 1)), axis=1)
        keep(rng.integers(0, N_DIHEDRAL, size=m), tables)
    return list(found.values())


def _every(movable: npt.NDArray[np.int64], used: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """List each transform with each way to recolour the used colours; unused movable colours fill the rest in order."""
    unused = np.setdiff1d(movable, used)
    tables = []
    for images in permutations(movable.tolist(), len(used)):
        table = np.arange(N_COLOURS)
        table[used] = images
        table[unused] = np.setdiff1d(movable, images)
        tables.append(table)
    return np.repeat(np.arange(N_DIHEDRAL), len(tables)), np.tile(np.stack(tables), (N_DIHEDRAL, 1))


def _text(task: Task, transform: int) -> bytes:
    """Write all pairs and test inputs under `transform`, a byte a cell, with separators that are no colours."""

    def cells(grid: Grid) -> bytes:
        return _ROW.join(row.tobytes() for row in dihedral(grid, transform))

    return _ITEM.join([*(cells(pair.input) + _OUTPUT + cells(pair.output) for pair in task.train), *map(cells, task.test)])
