"""Durations as people write them, and a clock whose time is given."""

import pytest

from hrm_submit.core.clock import Clock, format_duration, parse_duration
from hrm_submit.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("11h30m", 41400.0),
        ("20m", 1200.0),
        ("2m30s", 150.0),
        ("1.5h", 5400.0),
        ("0.5s", 0.5),
        ("1h0m1s", 3601.0),
        (" 5M ", 300.0),
    ],
)
def test_durations_that_are_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "90", "0.5", "2m30", "0s", "0h0m", "-5m", "5 m", "m", "h30", "30m1h", "1d", "five", "1e3", "nan", "9" * 400],
)
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration") as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3s"), (200.0, "3m20s"), (3720.0, "1h02m"), (0.0, "0.0s"), (41400.0, "11h30m")])
def test_durations_as_they_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_clock_counts_from_its_start() -> None:
    times = iter([100.0, 103.0, 107.0, 113.0, 99.0])
    clock = Clock(10.0, source=lambda: next(times))
    assert clock.elapsed() == 3.0
    assert clock.remaining() == 3.0
    assert clock.remaining() == -3.0
    assert clock.elapsed() == 0.0, "a source that steps back gives no negative time"
    assert Clock().remaining() == float("inf")
