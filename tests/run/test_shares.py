"""Shares of a budget: packed by hand, and by playing a whole run through."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_submit.config.schema import BudgetConfig
from hrm_submit.run.shares import first_share, usable_seconds, weights

END = 100.0


@pytest.mark.parametrize(("budget", "usable"), [(1000.0, 990.0), (100.0, 98.0), (3.0, 1.5)])
def test_what_the_reserve_leaves(budget: float, usable: float) -> None:
    assert usable_seconds(budget, BudgetConfig(reserve=0.01, reserve_min_seconds=2.0)) == pytest.approx(usable)


@pytest.mark.parametrize(
    ("cost", "pairs", "size_power", "pairs_power", "expected"),
    [
        (16.0, 3, 0.0, 0.0, 1.0),  # equal seconds for all
        (16.0, 3, 1.0, 0.0, 16.0),  # equal segments for all
        (16.0, 3, 0.5, 0.0, 4.0),
        (16.0, 4, 0.5, 0.5, 8.0),
        (1.0, 9, 0.5, 1.0, 9.0),
        (0.0, 1, 0.5, 0.0, 1e-6),  # the least weight is above 0
        (16.0, 0, 0.5, 0.5, 4.0),  # a task without demonstrations counts as one with a single pair
    ],
)
def test_weights_by_hand(cost: float, pairs: int, size_power: float, pairs_power: float, expected: float) -> None:
    assert weights([cost], [pairs], BudgetConfig(size_power=size_power, pairs_power=pairs_power)) == pytest.approx([expected])


@pytest.mark.parametrize(
    ("weights", "free_at", "seconds"),
    [
        ([1, 1, 2], [0.0], 25),
        ([1, 1], [20.0], 40),
        ([2, 2, 1], [0.0, 0.0], 200 / 3),  # the third shares worker 0, which is free first
        ([4, 2, 1], [0.0, 0.0], 100),
        ([1, 1, 1], [0.0, 50.0], 50),  # at a scale of 50 the third goes to the late worker, and fits there exactly
        ([1], [0.0, 10.0], 100),
        ([1, 1, 1], [100.0, 40.0, 130.0], 20),  # two workers have no time left
    ],
)
def test_first_shares_by_hand(weights: list[float], free_at: list[float], seconds: float) -> None:
    assert first_share(weights, free_at, END) == pytest.approx(seconds)


def played(weights: Sequence[float], workers: int, used: Sequence[float]) -> list[float]:
    """When each worker is free at last, if every task uses its part `used` of its share and the first worker that is free takes it."""
    free = [0.0] * workers
    for k in range(len(weights)):
        worker = min(range(workers), key=free.__getitem__)
        others = [max(free[worker], at) for n, at in enumerate(free) if n != worker]
        seconds = first_share(weights[k:], [free[worker], *others], END)
        assert seconds > 0
        free[worker] += seconds * used[k]
    return free


@given(
    st.lists(st.floats(0.01, 100.0), min_size=1, max_size=30),
    st.integers(1, 6),
    st.lists(st.floats(0.05, 1.0), min_size=30, max_size=30),
)
def test_planned_anew_at_every_task_all_get_time_and_none_ends_late(weights: list[float], workers: int, used: list[float]) -> None:
    assert max(played(weights, workers, used)) <= END + 1e-6
