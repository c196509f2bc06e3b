"""The one clock behind every decision. Durations are seconds; the budget counts from the start.

Based on the monotonic clock, so a change of the wall clock moves no deadline. Tests pass a fake `source`.
"""

import re
import time
from collections.abc import Callable

from hrm_submit.core.errors import ConfigError

_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


def parse_duration(text: str) -> float:
    """Parse a duration into seconds: `"11h30m"`, `"20m"`, `"90s"` or `"2m30s"`. Raises ConfigError, also for zero and without a unit."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = sum(float(match[unit] or 0) * size for unit, size in (("h", 3600), ("m", 60), ("s", 1))) if match else 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"not a duration: {text!r}; write it with units, as 11h30m, 20m or 90s")
    return seconds


def format_duration(seconds: float) -> str:
    """Format seconds as `"1h02m"`, `"3m20s"` or `"12.3s"`."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"
    if seconds >= 60:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    return f"{seconds:.1f}s"


class Clock:
    """Seconds since its start, and what is left of a budget (infinite where there is none)."""

    def __init__(self, budget: float | None = None, *, source: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._start = source()
        self.budget = budget

    def elapsed(self) -> float:
        """Seconds since the start; never less than zero."""
        return max(0.0, self._source() - self._start)

    def remaining(self) -> float:
        """Seconds until the budget is spent; negative after it, infinite without one."""
        return float("inf") if self.budget is None else self.budget - self.elapsed()
