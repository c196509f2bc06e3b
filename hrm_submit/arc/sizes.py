"""Predict the sizes of a task's test outputs from its demonstrations.

A canvas that is too small makes a task unsolvable, one that is too large only costs time: so it holds the largest prediction of all rules
that fit. Rules on counts (as many rows as colours) are tried only where no rule on sides fits: they often fit few pairs by chance.
"""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np

from hrm_submit.arc.task import MAX_SIDE, Grid, Task

MOST_DEMONSTRATIONS = 32
"""Rules are fitted to this many at most, which bounds the time."""

_COUNTS: tuple[Callable[[Grid, int], int], ...] = (
    lambda grid, axis: grid.shape[1 - axis],
    lambda grid, axis: len(np.unique(grid)),
    lambda grid, axis: len(np.unique(grid[grid > 0])),
    lambda grid, axis: int(np.count_nonzero(grid)),
    lambda grid, axis: int(np.count_nonzero(grid == 0)),
)
"""What a rule measures of an input, apart from its side along the axis (0 rows, 1 columns) of the output."""


def output_shape(task: Task, test_input: Grid) -> tuple[int, int] | None:
    """Predict (rows, columns), clipped to 30, of the output of `test_input` by the best rules that fit all demonstrations; None without.

    Rows and columns are predicted apart: a rational multiple of the input's side, a constant, a constant more or less, its square. Where
    none fits: a linear function of the input's other side, number of colours (with or without 0), coloured or empty cells.
    """
    rows, columns = (_sides(task, test_input, axis) for axis in (0, 1))
    return (rows[0], columns[0]) if rows and columns else None


def canvas_side(task: Task) -> int:
    """Return the side (1..30) of the smallest square canvas that holds every grid of `task` and every predicted output."""
    predicted = [side for test_input in task.test for axis in (0, 1) for side in _sides(task, test_input, axis)]
    return min(MAX_SIDE, max(task.largest_side, *predicted, 1))


def training_sides(task: Task, *, translate: bool = False) -> list[int]:
    """Return the side of each demonstration's canvas: its longest side, rounded up to an even number, so that few canvases occur, at most
    `canvas_side`; with random translation, which needs room, `canvas_side`."""
    most = canvas_side(task)
    return [most if translate else _canvas(max(*pair.input.shape, *pair.output.shape), most) for pair in task.train]


def answering_side(task: Task, *, translate: bool = False) -> int:
    """Return the side of the canvas that the test inputs are shown on: it holds them and every predicted output, rounded as in training.
    Where no rule predicts an output, and with random translation, it is `canvas_side`."""
    most, predicted = canvas_side(task), [_sides(task, grid, axis) for grid in task.test for axis in (0, 1)]
    if translate or not all(predicted):
        return most
    return _canvas(max([1, *(side for sides in predicted for side in sides), *(side for grid in task.test for side in grid.shape)]), most)


def _canvas(side: int, most: int) -> int:
    return min(most, side + side % 2)


def _sides(task: Task, test_input: Grid, axis: int) -> list[int]:
    """Predict output sides along `axis`, best first, each once."""
    train = task.train[:MOST_DEMONSTRATIONS]
    if not train:
        return []
    inputs = [*(pair.input for pair in train), test_input]
    wanted = [pair.output.shape[axis] for pair in train]
    sides = _whole(_from_side([grid.shape[axis] for grid in inputs], wanted))
    if not sides:
        lines = (_line([count(grid, axis) for grid in inputs], wanted) for count in _COUNTS)
        sides = _whole(side for side in lines if side is not None)
    return list(dict.fromkeys(sides))


def _from_side(given: list[int], wanted: list[int]) -> Iterator[Fraction]:
    """Predict by the rules on sides; the last of `given` is the test input's side."""
    *measured, test = given
    if len({Fraction(o, i) for i, o in zip(measured, wanted, strict=True)}) == 1:
        yield Fraction(test * wanted[0], measured[0])
    if len(set(wanted)) == 1:
        yield Fraction(wanted[0])
    if len({o - i for i, o in zip(measured, wanted, strict=True)}) == 1:
        yield Fraction(test + wanted[0] - measured[0])
    if all(o == i * i for i, o in zip(measured, wanted, strict=True)):
        yield Fraction(test * test)


def _line(given: list[int], wanted: list[int]) -> Fraction | None:
    """Predict by the line through all points; None if there is none, or if two points alone hold one that misses 0, as any two do."""
    *measured, test = given
    points = sorted(set(zip(measured, wanted, strict=True)))
    (i0, o0), (i1, o1) = points[0], points[-1]
    if i0 == i1:
        return None
    slope = Fraction(o1 - o0, i1 - i0)
    constant = o0 - slope * i0
    if (constant and len(points) < 3) or any(slope * i + constant != o for i, o in points):
        return None
    return slope * test + constant


def _whole(predictions: Iterable[Fraction]) -> list[int]:
    return [min(int(side), MAX_SIDE) for side in predictions if side.denominator == 1 and side >= 1]
