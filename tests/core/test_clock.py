"""Durations as people write them, and a clock whose time is given."""

import pytest

from hrm_submit.core.clock import Clock, format_duration, parse_duration
from hrm_submit.core.errors import ConfigError


def test_durations_that_are_understood() -> None:
    durations = {"11h30m": 41400.0, "20m": 1200.0, "2m30s": 150.0, "1.5h": 5400.0, "0.5s": 0.5, "1h0m1s": 3601.0, " 5M ": 300.0}
    assert {text: parse_duration(text) for text in durations} == durations


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "90", "0.5", "2m30", "0s", "0h0m", "-5m", "5 m", "m", "h30", "30m1h", "1d", "five", "1e3", "nan", "9" * 400],
)
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration") as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)


def test_durations_as_they_are_shown() -> None:
    assert [format_duration(s) for s in (0, 12.34, 200, 3720, 41400)] == ["0.0s", "12.3s", "3m20s", "1h02m", "11h30m"]


def test_the_clock_counts_from_its_start() -> None:
    times = iter([100.0, 103.0, 107.0, 113.0, 99.0])
    clock = Clock(10.0, source=lambda: next(times))
    assert clock.elapsed() == 3.0
    assert clock.remaining() == 3.0
    assert clock.remaining() == -3.0
    assert clock.elapsed() == 0.0, "a source that steps back gives no negative time"
    assert Clock().remaining() == float("inf")
