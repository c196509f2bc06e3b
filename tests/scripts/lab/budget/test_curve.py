"""The curve of solved outputs against training and size, on data drawn from a known one."""

from __future__ import annotations

import numpy as np
import pytest
from lab.budget.curve import Outcome, SolvedCurve, fit_curve, predicted, resampled

TRUTH = SolvedCurve(-1.0, 0.8, -0.6)


def drawn(n: int, seed: int = 0) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    segments, cells = rng.integers(10, 1500, n), rng.integers(9, 900, n)
    return [
        Outcome(f"t{k // 2}", int(s), int(c), bool(rng.random() < TRUTH(s, c)))
        for k, (s, c) in enumerate(zip(segments, cells, strict=True))
    ]


def test_values_by_hand() -> None:
    curve = SolvedCurve(bias=0.0, power=1.0, cells=-1.0)
    assert curve(0, 100) == 0.0
    assert curve(100, 100) == pytest.approx(0.5) and curve(300, 100) == pytest.approx(0.75) and curve(100, 300) == pytest.approx(0.25)


def test_a_known_curve_is_found_again() -> None:
    found = fit_curve(drawn(20000))
    assert found is not None
    for s, c in ((50, 100), (200, 400), (1000, 25)):
        assert found(s, c) == pytest.approx(TRUTH(s, c), abs=0.02)


@pytest.mark.parametrize(("solved", "share"), [(True, 1.0), (False, 0.0)])
def test_all_or_none(solved: bool, share: float) -> None:
    found = fit_curve([Outcome(f"t{k}", s, 100, solved) for k, s in enumerate([100, 200] * 20)])
    assert found is not None and found(150, 100) == pytest.approx(share, abs=0.01)


def test_runs_of_one_budget_leave_the_prior_of_what_more_time_gives() -> None:
    found = fit_curve([Outcome(f"t{k}", 100, 100, k % 2 == 0) for k in range(40)])
    assert found is not None and found(100, 100) == pytest.approx(0.5, abs=0.01)
    assert found.power == pytest.approx(0.5, abs=0.01) and found.cells == pytest.approx(-0.5, abs=0.01)


def test_without_data_there_is_no_curve() -> None:
    assert fit_curve([]) is None and fit_curve([Outcome("t", 0, 9, True)]) is None
    assert resampled([], 5) == []


def test_nineteen_of_twenty_runs_are_within_the_interval() -> None:
    """Forty recordings, each used to predict another run of the same kind."""
    rng, within = np.random.default_rng(1), 0
    tasks = [(float(s), int(c)) for s, c in zip(rng.integers(50, 800, 60), rng.integers(25, 400, 60), strict=True)]
    for k in range(40):
        outcomes = drawn(160, seed=k)
        curve = fit_curve(outcomes)
        assert curve is not None
        share, low, high = predicted(curve, resampled(outcomes, 40, seed=k), tasks, seed=k)
        assert low <= share <= high
        within += bool(low <= np.mean(rng.random(60) < [TRUTH(*t) for t in tasks]) <= high)
    assert within >= 35


def test_the_law_says_the_same_curve() -> None:
    law = TRUTH.law()
    assert law is not None
    for n, cells in ((50, 100), (400, 900)):
        half = law.half * (cells / 100) ** law.growth
        assert 1 / (1 + (half / n) ** law.power) == pytest.approx(TRUTH(n, cells), abs=1e-9)
    assert SolvedCurve(0.0, -0.1, -1.0).law() is None and SolvedCurve(0.0, 1.0, 0.5).law() is None
    assert SolvedCurve(8.0, 0.45, -1.6).law() is not None, "as fitted to a run of 30 minutes"
