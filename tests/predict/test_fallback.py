"""Answers without a model."""

import json

import numpy as np
from hypothesis import given, settings

from hrm_submit.arc.submission import faults, to_json
from hrm_submit.arc.task import Pair, Task, make_grid, same_grid
from hrm_submit.predict.fallback import fallback_attempts
from tests.arc.strategies import tasks


def task(*pairs: tuple[list[list[int]], list[list[int]]], test: list[list[int]]) -> Task:
    return Task("t", tuple(Pair(make_grid(i), make_grid(o)) for i, o in pairs), (make_grid(test),))


def attempts(t: Task) -> list[list[list[int]]]:
    (both,) = fallback_attempts(t)
    return [g.tolist() for g in both]


def test_outputs_of_the_inputs_size_start_from_the_input() -> None:
    t = task(([[1, 1]], [[2, 2]]), ([[3, 1]], [[2, 4]]), test=[[5, 6]])
    # the second is what outputs have most often at each place; 2 and 4 are as frequent, so the lesser colour
    assert attempts(t) == [[[5, 6]], [[2, 2]]]


def test_outputs_of_one_size_are_laid_over_each_other() -> None:
    t = task(([[1]], [[2, 3]]), ([[1], [1]], [[2, 4]]), ([[1, 1]], [[7, 4]]), test=[[5, 6, 7]])
    assert attempts(t) == [[[2, 4]], [[0, 0]]]


def test_where_the_overlay_says_the_same_a_blank_is_the_other_and_then_ones() -> None:
    assert attempts(task(([[5, 6]], [[5, 6]]), test=[[5, 6]])) == [[[5, 6]], [[0, 0]]]
    assert attempts(task(([[0]], [[0]]), test=[[0]])) == [[[0]], [[1]]]


@settings(max_examples=60)
@given(tasks(max_side=8))
def test_always_valid_and_always_two_different_grids(t: Task) -> None:
    pairs = fallback_attempts(t)
    assert not faults(json.loads(to_json({t.id: pairs})), {t.id: t})
    assert all(not same_grid(a, b) for a, b in pairs)
    assert all(isinstance(g, np.ndarray) and not g.flags.writeable for both in pairs for g in both)
