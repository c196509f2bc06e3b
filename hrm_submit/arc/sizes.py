"""How large the outputs of a task's test inputs may be, from its demonstrations alone.

Notable: a canvas that is too small makes a task unsolvable, one that is too large costs only time; so for the canvas every
rule that fits all demonstrations counts and the largest prediction wins. Rules on counts (so many rows as the input has
colours) are asked only where no rule on sides fits: with few demonstrations they fit too often by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from hrm_submit.arc.task import MAX_SIDE, Grid, Task

Quantity = Callable[[Grid, int], int]
"""What a rule measures of an input; the second argument is the axis (0 rows, 1 columns) of the output that it predicts."""

_COUNTS: tuple[Quantity, ...] = (
    lambda grid, axis: len(np.unique(grid)),
    lambda grid, axis: len(np.unique(grid[grid > 0])),
    lambda grid, axis: int(np.count_nonzero(grid)),
    lambda grid, axis: int(np.count_nonzero(grid == 0)),
)


MOST_DEMONSTRATIONS = 32
"""Rules are fitted to so many, which tell as much as hundreds and cost a bounded time."""


def output_shapes(task: Task, test_input: Grid) -> list[tuple[int, int]]:
    """Every (rows, columns), clipped to 30, that the rules which fit all demonstrations give for the output of `test_input`.

    Rows and columns are judged apart. A rule makes an output side from the input's side: a rational multiple of it, the
    same always, a constant more or less, its square. Where none fits: a multiple or a linear function of the input's other
    side, of its number of colours (with or without 0) or of its coloured or empty cells. Most trusted first; empty if no
    rule fits.
    """
    rows, columns = (list(_sides(task, test_input, axis)) for axis in (0, 1))
    ranked = sorted((i + j, i, r, c) for i, r in enumerate(rows) for j, c in enumerate(columns))
    return [(r, c) for _, _, r, c in ranked]


def canvas_side(task: Task) -> int:
    """Side (1..30) of the smallest square canvas that holds every grid of `task` and every predicted output."""
    sides = [task.largest_side]
    for test_input in task.test:
        for axis in (0, 1):
            sides += _sides(task, test_input, axis)
    return min(MAX_SIDE, max(sides))


def _sides(task: Task, test_input: Grid, axis: int) -> Iterator[int]:
    """Predicted output sides along `axis`, best first, each once."""
    if not task.train:
        return
    if len(task.train) > MOST_DEMONSTRATIONS:
        task = replace(task, train=task.train[:MOST_DEMONSTRATIONS])
    wanted = [pair.output.shape[axis] for pair in task.train]
    given: list[int] = []
    for predictions in (_from_side(task, test_input, axis, wanted), _from_counts(task, test_input, axis, wanted)):
        for side in predictions:
            if side.denominator == 1 and side >= 1:
                given.append(min(int(side), MAX_SIDE))
        if given:
            break
    yield from dict.fromkeys(given)


def _from_side(task: Task, test_input: Grid, axis: int, wanted: list[int]) -> Iterator[Fraction]:
    """Predictions from the input's side along the same axis."""
    seen = [pair.input.shape[axis] for pair in task.train]
    test = test_input.shape[axis]
    if _all_same([Fraction(o, i) for i, o in zip(seen, wanted, strict=True)]):
        yield Fraction(test * wanted[0], seen[0])
    if _all_same(wanted):
        yield Fraction(wanted[0])
    if _all_same([o - i for i, o in zip(seen, wanted, strict=True)]):
        yield Fraction(test + wanted[0] - seen[0])
    if all(o == i * i for i, o in zip(seen, wanted, strict=True)):
        yield Fraction(test * test)


def _from_counts(task: Task, test_input: Grid, axis: int, wanted: list[int]) -> Iterator[Fraction]:
    """Predictions from the input's other side and from what can be counted in it."""
    for quantity in (lambda grid, axis: grid.shape[1 - axis], *_COUNTS):
        seen = [quantity(pair.input, axis) for pair in task.train]
        test = quantity(test_input, axis)
        line = _line(seen, wanted)
        if line is not None:
            yield line[0] * test + line[1]


def _line(seen: list[int], wanted: list[int]) -> tuple[Fraction, Fraction] | None:
    """(slope, constant) of the line through all points; None if there is none, or if it goes past 0 with only two places
    to hold it, as any two do."""
    points = sorted(set(zip(seen, wanted, strict=True)))
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    (i0, o0), (i1, o1) = points[0], points[-1]
    slope = Fraction(o1 - o0, i1 - i0)
    constant = o0 - slope * i0
    if (constant and len(points) < 3) or any(slope * i + constant != o for i, o in points):
        return None
    return slope, constant


def _all_same(values: list[int] | list[Fraction]) -> bool:
    return all(value == values[0] for value in values)
