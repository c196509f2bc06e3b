"""Answers without a model."""

import json

import numpy as np
import pytest
from hypothesis import given, settings

from hrm_submit.arc.submission import faults, to_json
from hrm_submit.arc.task import Pair, Task, make_grid, same_grid
from hrm_submit.predict.fallback import fallback_attempts
from tests.arc.strategies import tasks


def task(*pairs: tuple[list[list[int]], list[list[int]]], test: list[list[int]]) -> Task:
    return Task("t", tuple(Pair(make_grid(i), make_grid(o)) for i, o in pairs), (make_grid(test),))


SAME_SIZE = task(([[1, 1]], [[2, 2]]), ([[3, 1]], [[2, 4]]), test=[[5, 6]])
ONE_SIZE = task(([[1]], [[2, 3]]), ([[1], [1]], [[2, 4]]), ([[1, 1]], [[7, 4]]), test=[[5, 6, 7]])


@pytest.mark.parametrize(
    ("example", "first", "second"),
    [
        # Of outputs laid over each other, 2 and 4 are as frequent in the second cell: the lesser colour.
        (SAME_SIZE, [[5, 6]], [[2, 2]]),
        (ONE_SIZE, [[2, 4]], [[0, 0]]),
        (task(([[5, 6]], [[5, 6]]), test=[[5, 6]]), [[5, 6]], [[0, 0]]),
        (task(([[0]], [[0]]), test=[[0]]), [[0]], [[1]]),
    ],
    ids=["the input, then the overlay", "the overlay, then blank", "input and overlay are equal", "blank too"],
)
def test_attempts_by_hand(example: Task, first: list[list[int]], second: list[list[int]]) -> None:
    (both,) = fallback_attempts(example)
    assert [g.tolist() for g in both] == [first, second]


@settings(max_examples=60)
@given(tasks(max_side=8))
def test_always_valid_and_always_two_different_grids(t: Task) -> None:
    pairs = fallback_attempts(t)
    assert not faults(json.loads(to_json({t.id: pairs})), {t.id: t})
    assert all(not same_grid(a, b) for a, b in pairs)
    assert all(isinstance(g, np.ndarray) and not g.flags.writeable for both in pairs for g in both)
