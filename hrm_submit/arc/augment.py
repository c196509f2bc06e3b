"""Invertible changes of a whole task: dihedral transform, colour permutation, placement on the canvas (applied by `arc.canvas`).

Dihedral ids are those of the published HRM. `sample_augmentations` tells augmented tasks apart by a hash that is linear in the colours,
so each (transform, permutation) costs a few multiplications a grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.task import MAX_SIDE, N_COLOURS, Grid, Task, make_grid

N = TypeVar("N", bound=np.generic)
ColourRule: TypeAlias = Literal["permute", "permute_input", "fixed"]

DIHEDRAL = np.array([(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)], dtype=np.bool_)
"""The eight transforms, by their published numbers: whether to transpose, after reversing the rows, and the columns. 0 identity,
1-3 quarter turns anticlockwise, 4 left-right mirror, 5 top-bottom mirror, 6 transpose, 7 mirror about the other diagonal."""
N_DIHEDRAL = len(DIHEDRAL)
SAME_COLOURS: tuple[int, ...] = tuple(range(N_COLOURS))


def dihedral(grid: npt.NDArray[N], transform: int) -> npt.NDArray[N]:
    """Return a view of `grid` under one of the transforms `DIHEDRAL`."""
    turned, up, left = DIHEDRAL[transform]
    view = grid[:: -1 if up else 1, :: -1 if left else 1]
    return view.T if turned else view


def inverse_dihedral(transform: int) -> int:
    """Return the transform that undoes `transform`; all but the quarter turns undo themselves."""
    return {1: 3, 3: 1}.get(transform, transform)


@dataclass(frozen=True)
class Augmentation:
    """One view of a task: `colours[old]` is the new colour; a grid's top left cell is at the canvas's (row, column) `offset`.

    Raises ValueError unless `dihedral` is 0..7, `colours` a permutation of 0..9 and `offset` not negative.
    """

    dihedral: int = 0
    colours: tuple[int, ...] = SAME_COLOURS
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < N_DIHEDRAL:
            raise ValueError(f"dihedral transform {self.dihedral} is not within 0..7")
        if sorted(self.colours) != list(SAME_COLOURS):
            raise ValueError(f"{self.colours} is not a permutation of 0..9")
        if min(self.offset) < 0:
            raise ValueError(f"offset {self.offset} is negative")

    def apply(self, grid: Grid) -> Grid:
        """Transform `grid`, then recolour it."""
        return make_grid(np.array(self.colours, dtype=np.uint8)[dihedral(grid, self.dihedral)])

    def invert(self, grid: Grid) -> Grid:
        """Undo `apply`."""
        old = np.argsort(self.colours).astype(np.uint8)
        return make_grid(dihedral(old[grid], inverse_dihedral(self.dihedral)))


IDENTITY = Augmentation()


def augmentation_arrays(views: Sequence[Augmentation]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return dihedral ids (B,), colour tables (B, 10) and offsets (B, 2) of B augmentations, as `canvas.encode` takes them."""
    transforms = np.array([view.dihedral for view in views], dtype=np.uint8)
    colours = np.array([view.colours for view in views], dtype=np.uint8).reshape(-1, N_COLOURS)
    return transforms, colours, np.array([view.offset for view in views], dtype=np.int64).reshape(-1, 2)


def movable_colours(task: Task, rule: ColourRule) -> tuple[int, ...]:
    """Return the colours that a permutation may move: `permute` 1..9 (published), `fixed` none.

    `permute_input` leaves out colours that a demonstration's output has and its input lacks: moved, one input would have several
    outputs.
    """
    if rule == "fixed":
        return ()
    if rule == "permute":
        return tuple(range(1, N_COLOURS))
    only_in_output = {c for pair in task.train for c in _colours_of([pair.output]) - _colours_of([pair.input])}
    return tuple(c for c in range(1, N_COLOURS) if c not in only_in_output)


def sample_augmentations(task: Task, n: int, rng: np.random.Generator, *, colours: ColourRule = "permute") -> list[Augmentation]:
    """Sample up to `n` augmentations of `task`, the identity first, that give different pairs and test inputs, in any order.

    Where few different ones exist all are listed; else a bounded number is drawn, which may miss some of a task with many symmetries.
    """
    contents = _ContentHash(task)
    movable = np.array(movable_colours(task, colours), dtype=np.int64)
    used = np.intersect1d(movable, sorted(_colours_of(task.grids())))
    found = [IDENTITY]
    seen = {int(contents.of(np.zeros(1, dtype=np.int64), np.arange(N_COLOURS)[None])[0])}

    def keep(transforms: npt.NDArray[np.int64], tables: npt.NDArray[np.int64]) -> None:
        for key, transform, table in zip(contents.of(transforms, tables).tolist(), transforms.tolist(), tables.tolist(), strict=True):
            if len(found) >= n:
                return
            if key not in seen:
                seen.add(key)
                found.append(Augmentation(transform, tuple(table)))

    if N_DIHEDRAL * math.perm(len(movable), len(used)) <= 4 * n:
        transforms, tables = _every(movable, used)
        order = rng.permutation(len(transforms))
        keep(transforms[order], tables[order])
        return found[:n]
    for _ in range(8):
        missing = n - len(found)
        if missing <= 0:
            break
        m = missing + missing // 4 + 8
        tables = np.tile(np.arange(N_COLOURS), (m, 1))
        tables[:, movable] = rng.permuted(np.tile(movable, (m, 1)), axis=1)
        keep(rng.integers(0, N_DIHEDRAL, size=m), tables)
    return found[:n]


def _colours_of(grids: Iterable[Grid]) -> set[int]:
    return {int(c) for grid in grids for c in np.unique(grid)}


def _every(movable: npt.NDArray[np.int64], used: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """List each transform with each way to recolour the used colours; unused movable colours fill the rest in order."""
    unused = [int(c) for c in movable if c not in used]
    tables = []
    for images in permutations(movable.tolist(), len(used)):
        table = np.arange(N_COLOURS)
        table[used] = images
        table[unused] = [c for c in movable.tolist() if c not in images]
        tables.append(table)
    return np.repeat(np.arange(N_DIHEDRAL), len(tables)), np.tile(np.stack(tables), (N_DIHEDRAL, 1))


class _ContentHash:
    """64-bit hashes of the augmented contents of one task; equal contents always have equal hashes."""

    def __init__(self, task: Task) -> None:
        keys = np.random.default_rng(20250626).integers(0, 2**64, size=MAX_SIDE * MAX_SIDE + N_COLOURS, dtype=np.uint64)
        self._cells = keys[: MAX_SIDE * MAX_SIDE].reshape(MAX_SIDE, MAX_SIDE)
        self._colours = keys[MAX_SIDE * MAX_SIDE :]
        self._n_pairs = len(task.train)
        grids = list(task.grids())
        # sums[d, g, c]: the keys of the cells that colour c takes in grid g under transform d; 0 is a colour as any other,
        # so that these tell grids of different shapes apart too
        self._sums = np.zeros((N_DIHEDRAL, len(grids), N_COLOURS), dtype=np.uint64)
        for d in range(N_DIHEDRAL):
            for g, grid in enumerate(grids):
                turned = dihedral(grid, d)
                np.add.at(self._sums[d, g], turned.ravel(), self._cells[: turned.shape[0], : turned.shape[1]].ravel())

    def of(self, transforms: npt.NDArray[np.int64], tables: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Hash the task under transforms (B,) and colour tables (B, 10)."""
        grids = np.empty((len(tables), self._sums.shape[1]), dtype=np.uint64)
        for d in range(N_DIHEDRAL):
            here = transforms == d
            grids[here] = _mix(self._colours[tables[here]] @ self._sums[d].T)
        inputs, outputs = grids[:, 0 : 2 * self._n_pairs : 2], grids[:, 1 : 2 * self._n_pairs : 2]
        tests = grids[:, 2 * self._n_pairs :]
        # sums over mixed terms forget the order of pairs and of test inputs, and nothing else
        pairs: npt.NDArray[np.uint64] = _mix(inputs * np.uint64(3) + outputs).sum(axis=1, dtype=np.uint64)
        alone: npt.NDArray[np.uint64] = _mix(tests + np.uint64(1)).sum(axis=1, dtype=np.uint64)
        return _mix(pairs) + alone


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
