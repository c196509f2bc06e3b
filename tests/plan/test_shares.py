"""Shares of a budget, by hand and by playing a whole run through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_submit.core.config import BudgetConfig
from hrm_submit.plan.shares import next_share, usable_seconds


@pytest.mark.parametrize(
    ("budget", "usable"),
    [(1000.0, 990.0), (100.0, 98.0), (4.0, 2.0), (3.0, 1.5), (41400.0, 40986.0)],
)
def test_what_the_reserve_leaves(budget: float, usable: float) -> None:
    assert usable_seconds(budget, BudgetConfig(reserve=0.01, reserve_min_seconds=2.0)) == pytest.approx(usable)


@given(st.floats(0.01, 1e6), st.floats(0.0, 0.99), st.floats(0.0, 1e5))
def test_at_least_half_of_a_budget_is_used_and_never_more_than_all(budget: float, reserve: float, least: float) -> None:
    usable = usable_seconds(budget, BudgetConfig(reserve=reserve, reserve_min_seconds=least))
    assert 0.5 * budget <= usable <= budget


@pytest.mark.parametrize(
    ("remaining", "queued", "workers", "share"),
    [(100.0, 20, 2, 10.0), (100.0, 1, 4, 100.0), (100.0, 5, 2, 100 / 3), (100.0, 4, 4, 100.0), (90.0, 9, 4, 30.0), (-1.0, 3, 1, 0.0)],
)
def test_shares_by_hand(remaining: float, queued: int, workers: int, share: float) -> None:
    assert next_share(remaining, queued, workers) == pytest.approx(share)


@pytest.mark.parametrize(("queued", "workers"), [(0, 1), (1, 0), (-1, 2)])
def test_a_share_of_nothing_is_a_mistake(queued: int, workers: int) -> None:
    with pytest.raises(ValueError):
        next_share(10.0, queued, workers)


@given(st.integers(1, 60), st.integers(1, 9), st.lists(st.floats(0.05, 1.0), min_size=60, max_size=60))
def test_played_through_all_tasks_get_time_and_none_ends_late(tasks: int, workers: int, used: list[float]) -> None:
    """Each task takes its part `used` of its share; whoever is free first takes the next one."""
    free = [0.0] * workers
    for k in range(tasks):
        worker = min(range(workers), key=free.__getitem__)
        share = next_share(100.0 - free[worker], tasks - k, workers)
        assert share > 0
        free[worker] += share * used[k]
        assert free[worker] <= 100.0 + 1e-6


@given(st.integers(1, 60), st.integers(1, 9))
def test_where_every_share_is_used_up_all_workers_end_together(tasks: int, workers: int) -> None:
    free = [0.0] * workers
    for k in range(tasks):
        worker = min(range(workers), key=free.__getitem__)
        free[worker] += next_share(100.0 - free[worker], tasks - k, workers)
    busy = min(tasks, workers)
    assert sorted(free)[-busy:] == pytest.approx([100.0] * busy)
