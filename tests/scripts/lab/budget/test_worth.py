"""Time divided where it pays: against exhaustive division, and what holds of the best one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.budget.worth import Floats, Slopes, water_level


def chance(segments: Floats, half: Floats, power: float) -> Floats:
    """The law by which a task is solved; 0 without a segment."""
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / (1.0 + (half / segments) ** power))


def shares(half: list[float], each: list[float], total: float, least: float, power: float) -> Floats:
    slopes, halves, seconds = Slopes.of(power), np.array(half), np.array(each)
    return water_level(slopes, halves, seconds, total, least).seconds(slopes, halves, seconds)


def solved(half: list[float], each: list[float], seconds: Floats, power: float) -> float:
    return float(chance(seconds / np.array(each), np.array(half), power).sum())


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_three_tasks_against_every_division_in_forty_parts(power: float) -> None:
    half, each, total, parts = [10.0, 60.0, 2000.0], [1.0, 0.5, 2.0], 120.0, 40
    divisions = [d for d in product(range(parts + 1), repeat=3) if sum(d) == parts]
    best = max(solved(half, each, total * np.array(d) / parts + 1e-9, power) for d in divisions)
    found = shares(half, each, total, 1e-6, power)
    assert found.sum() == pytest.approx(total) and solved(half, each, found, power) >= best - 0.002


tasks = st.lists(st.tuples(st.floats(1.0, 1e4), st.floats(0.01, 10.0)), min_size=1, max_size=12)


@given(tasks, st.floats(1.0, 1e4), st.floats(0.1, 3.0), st.floats(0.3, 2.5))
@settings(max_examples=80, deadline=None)
def test_it_uses_all_time_and_solves_as_much_as_equal_shares(
    known: list[tuple[float, float]], total: float, least: float, power: float
) -> None:
    half, each = [h for h, _ in known], [s for _, s in known]
    found = shares(half, each, total, least, power)
    assert found.sum() == pytest.approx(total)
    if least * sum(each) <= total:
        assert (found >= 0.999 * least * np.array(each)).all()
    equal = np.full(len(each), total / len(each))
    if power <= 1 and (equal >= least * np.array(each)).all():
        assert solved(half, each, found, power) >= solved(half, each, equal, power) - 1e-4


def test_a_task_that_cannot_be_solved_in_the_time_gets_the_least() -> None:
    first, second = shares([100, 1e6], [1.0, 1.0], 400.0, 5.0, 1.5)
    assert second == pytest.approx(5.0, rel=0.01) and first == pytest.approx(395.0, rel=0.01)


def test_equal_tasks_get_equal_shares_and_dear_ones_some_of_what_they_need() -> None:
    assert shares([50] * 4, [1.0] * 4, 40.0, 1.0, 0.8) == pytest.approx([10.0] * 4)
    cheap, dear = shares([50] * 2, [0.1, 0.2], 100.0, 1.0, 0.8)
    assert cheap < dear < 2 * cheap


def test_one_task_has_the_share_that_it_has_among_all() -> None:
    slopes, half, each = Slopes.of(0.7), np.array([20.0, 300.0, 5e4]), np.array([0.1, 0.3, 2.0])
    level = water_level(slopes, half, each, 200.0, 2.0)
    assert [float(level.seconds(slopes, half[k : k + 1], each[k : k + 1])[0]) for k in range(3)] == pytest.approx(
        level.seconds(slopes, half, each).tolist()
    )


def test_the_table_has_the_slope_of_the_chance() -> None:
    slopes, n = Slopes.of(1.3), np.array([1.4, 5.0, 80.0])
    one = np.ones(3)
    slope = (chance(n + 1e-5, one, 1.3) - chance(n - 1e-5, one, 1.3)) / 2e-5
    assert slopes.parts_at(slope) == pytest.approx(n, rel=1e-3)
    assert chance(np.array([0.0, 7.0]), np.array([7.0, 7.0]), 1.3).tolist() == [0.0, 0.5]


def test_what_cannot_be_divided_is_refused() -> None:
    for half, each, total in (([1.0], [0.0], 1.0), ([0.0], [1.0], 1.0), ([1.0], [1.0], 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            shares(half, each, total, 1.0, 1.0)
    with pytest.raises(ValueError, match="above 0"):
        Slopes.of(0.0)
