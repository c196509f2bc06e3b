"""The curve of solved outputs against training, on data drawn from a known one."""

import numpy as np
import pytest
from lab.budget.curve import SolvedCurve, fit_curve


def test_values_by_hand() -> None:
    curve = SolvedCurve(most=0.6, scale=100.0)
    assert curve(0) == 0.0
    assert curve(100 * np.log(2)) == pytest.approx(0.3)
    assert curve(1e9) == pytest.approx(0.6)


def test_a_known_curve_is_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = SolvedCurve(0.5, 200.0)
    segments = rng.uniform(10, 1500, 20000)
    solved = rng.random(20000) < [truth(s) for s in segments]
    found = fit_curve(segments, solved)
    assert found is not None
    for s in (50, 200, 1000):
        assert found(s) == pytest.approx(truth(s), abs=0.05)


@pytest.mark.parametrize(("solved", "share"), [(True, 1.0), (False, 0.0)])
def test_all_or_none(solved: bool, share: float) -> None:
    found = fit_curve([100.0, 200.0], [solved, solved])
    assert found is not None and found(200.0) == pytest.approx(share, abs=0.01)


def test_without_data_there_is_no_curve() -> None:
    assert fit_curve([], []) is None
    assert fit_curve([0.0], [True]) is None
