"""Predicted output sizes: each rule on a task made for it, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings

from hrm_submit.arc.sizes import answering_side, canvas_side, output_shape, training_sides
from hrm_submit.arc.task import Pair, Task, make_grid
from tests.arc.strategies import tasks


def blank(rows, columns):
    return make_grid(np.zeros((rows, columns)))


def task_of(shapes, test):
    """A task of grids of colour 0 with the (input, output) shapes given."""
    return Task("t", tuple(Pair(blank(*i), blank(*o)) for i, o in shapes), (blank(*test),))


@pytest.mark.parametrize(
    ("shapes", "test", "shape", "side", "training", "answering"),
    [
        ([((3, 3), (9, 9)), ((4, 2), (12, 6))], (5, 4), (15, 12), 15, [10, 12], 15),  # three times the input, per axis
        ([((4, 6), (6, 2)), ((6, 3), (9, 1))], (8, 9), (12, 3), 12, [6, 10], 12),  # a rational multiple, and another on the other axis
        ([((9, 9), (3, 4)), ((7, 5), (3, 4))], (11, 6), (3, 4), 11, [10, 8], 11),  # the same whatever the input
        ([((9, 9), (3, 4)), ((7, 5), (3, 4))], (3, 2), (3, 4), 9, [9, 8], 4),  # the output is larger than the test input
        ([((3, 4), (3, 4)), ((9, 2), (9, 2))], (5, 6), (5, 6), 9, [4, 9], 6),  # no canvas is above that of the whole task
        ([((3, 4), (5, 6)), ((5, 7), (7, 9))], (9, 9), (11, 11), 11, [6, 10], 11),  # two rows and columns more
        ([((2, 2), (4, 4)), ((3, 3), (9, 9))], (4, 4), (16, 16), 16, [4, 10], 16),  # the square
        ([((3, 7), (7, 3)), ((5, 4), (4, 5))], (12, 2), (2, 12), 12, [8, 6], 12),  # rows become columns
        ([((3, 3), (9, 9)), ((4, 4), (12, 12))], (12, 12), (30, 30), 30, [10, 12], 30),  # clipped to what a grid can be
        ([((3, 3), (2, 7)), ((3, 3), (5, 4)), ((4, 4), (1, 11))], (6, 6), None, 11, [8, 6, 11], 11),  # no rule: what was seen
    ],
)
def test_rules_on_sides_and_a_canvas_for_each_pair(shapes, test, shape, side, training, answering):
    task = task_of(shapes, test)
    assert (output_shape(task, task.test[0]), canvas_side(task)) == (shape, side)
    assert (training_sides(task), answering_side(task)) == (training, answering)
    assert training_sides(task, translate=True) == [side] * len(shapes), "it needs room"


def test_where_several_rules_fit_the_canvas_holds_them_all():
    # one demonstration, 3 -> 9: three times, always 9, six more, or the square
    task = task_of([((3, 3), (9, 9))], (5, 5))
    assert output_shape(task, task.test[0]) == (15, 15)
    assert canvas_side(task) == 25


def test_counts_of_colours_are_asked_only_where_no_rule_on_sides_fits():
    def coloured(side, n):
        return make_grid(np.arange(side * side).reshape(side, side) % n)

    task = Task("t", tuple(Pair(coloured(3, n), blank(5 * n, 5 * n)) for n in (1, 2, 3)), (coloured(3, 4),))
    assert output_shape(task, task.test[0]) == (20, 20)
    assert canvas_side(task) == 20
    # outputs have the inputs' sides, which are the inputs' numbers of colours too, but for the test's 9
    task = Task("t", tuple(Pair(coloured(n, n), blank(n, n)) for n in (2, 3)), (coloured(4, 9),))
    assert output_shape(task, task.test[0]) == (4, 4)


def test_a_line_through_two_places_that_misses_zero_is_chance():
    # rows 4 -> 9 and 5 -> 11 are on the line 2n + 1; a third place on it makes it a rule, one off it breaks it
    two = [((3, 4), (9, 3)), ((4, 5), (11, 4))]
    assert output_shape(task_of(two, (3, 7)), blank(3, 7)) is None
    three = [*two, ((2, 6), (13, 2))]
    assert output_shape(task_of(three, (3, 7)), blank(3, 7))[0] == 15
    assert output_shape(task_of([*two, ((2, 6), (12, 2))], (3, 7)), blank(3, 7)) is None


def test_without_a_test_input_the_canvas_holds_what_was_seen():
    assert canvas_side(Task("t", (Pair(blank(2, 3), blank(4, 1)),), ())) == 4


@settings(max_examples=60)
@given(tasks())
def test_a_canvas_holds_what_is_shown_on_it_and_every_prediction(task):
    most, sides = canvas_side(task), training_sides(task)
    for pair, side in zip(task.train, sides, strict=True):
        assert max(*pair.input.shape, *pair.output.shape) <= side <= most
    predicted = [s for grid in task.test for s in output_shape(task, grid) or ()]
    assert max([*predicted, *(s for grid in task.test for s in grid.shape)]) <= answering_side(task) <= most
    assert max(task.largest_side, *predicted, 1) <= most <= 30 and min([1, *predicted]) == 1
