"""Tasks: pairs of small coloured grids, as frozen dataclasses of read-only numpy arrays.

A `Task` never holds the answers to its test inputs; only scoring, pre-training and reports load `Solutions`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Grid: TypeAlias = npt.NDArray[np.uint8]
"""Colours 0..9, shape (rows, columns), each 1..30; read-only, rows contiguous."""

MAX_SIDE = 30
N_COLOURS = 10
NO_GRID: Grid = np.zeros((0, 0), dtype=np.uint8)
"""Stands for a grid that is not there; equals no grid of a task."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A demonstration: an input grid and the output grid that the task's rule makes of it."""

    input: Grid
    output: Grid


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """Demonstration pairs and test inputs. Compares by identity; `same_grid` compares grids."""

    id: str
    train: tuple[Pair, ...]
    test: tuple[Grid, ...]

    def __repr__(self) -> str:
        return f"<Task {self.id}: {len(self.train)} demonstration pairs, {len(self.test)} to solve>"

    def grids(self) -> Iterator[Grid]:
        """Iterate over every grid: the demonstrations' inputs and outputs, then the test inputs."""
        for pair in self.train:
            yield pair.input
            yield pair.output
        yield from self.test

    @property
    def largest_side(self) -> int:
        """The largest number of rows or columns of any grid of the task."""
        return max(max(grid.shape) for grid in self.grids())


Solutions: TypeAlias = Mapping[str, tuple[Grid, ...]]
"""Task id -> the right output of each test input, in order."""


def make_grid(cells: Sequence[Sequence[int]] | npt.NDArray[np.integer]) -> Grid:
    """Make a read-only, contiguous copy of `cells` (rows, columns), which must already be a valid grid."""
    grid = np.array(cells, dtype=np.uint8, order="C")
    grid.setflags(write=False)
    return grid


def same_grid(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> bool:
    """Tell whether two grids have the same shape and the same cells."""
    return a.shape == b.shape and bool((a == b).all())
