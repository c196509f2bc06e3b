"""How far a run is, in segments or in seconds, and the seconds reserved for what follows the last segment.

In time mode the rate must reach its end, the checkpoints be written and the last validation be done *before* the time is up. So the
budget is reduced by the time each of these took when last done.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from hrm_submit.core.clock import Clock

CLOSING = 3.0
"""Seconds for drawing the plot and leaving the process."""
MOST_RESERVED = 0.5
"""Largest reserved share of the budget, however long things took."""
MARGIN = 1.25


class RunProgress:
    """Progress of a run limited by either `budget` (seconds) or `segments`; `before` are the seconds of earlier starts."""

    def __init__(self, clock: Clock, budget: float | None, segments: int | None) -> None:
        self._clock, self._budget, self._segments = clock, budget or math.inf, segments
        self._closing = min(CLOSING, 0.1 * self._budget)
        self.before = 0.0
        self._took: dict[str, float] = {}
        self._recent = deque[float](maxlen=64)
        self._first: int | None = None
        self._mark = self._aside = self._furthest = 0.0

    def seconds(self) -> float:
        """Return the seconds spent, earlier starts included."""
        return self.before + self._clock.elapsed()

    def expect(self, work: str, share: float, most: float) -> None:
        """Until `work` has been timed, reserve `share` of the budget for it, at most `most` seconds."""
        self._took.setdefault(work, min(most, share * self._budget))

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Measure `work`, which is done once more at the end."""
        start = self.seconds()
        yield
        took = self.seconds() - start
        self._took[work] = MARGIN * took
        self._aside += took

    def last(self, work: str) -> float:
        """Return the seconds `work` took when last timed, with a margin."""
        return self._took[work]

    def after(self, segment: int) -> float:
        """Return the progress 0..1 after `segment` finished segments; it never falls. By time, it measures the segment since the last call,
        without what was set aside, but not a process's first one, which compiles and loads."""
        if self._segments is not None:
            return min(1.0, segment / self._segments)
        now = self.seconds()
        self._first = segment if self._first is None else self._first
        if segment > self._first + 1:
            self._recent.append(now - self._mark - self._aside)
        self._mark, self._aside = now, 0.0
        self._furthest = max(self._furthest, min(1.0, now / max(1e-9, self._budget - self.reserved())))
        return self._furthest

    def reserved(self) -> float:
        """Return the seconds of the budget reserved for the end, the last segment among them."""
        expected = self._closing + max(self._recent, default=0.0) + sum(self._took.values())
        return min(MOST_RESERVED * self._budget, expected)

    def late(self) -> bool:
        """Return whether nothing but closing fits into the rest of the budget."""
        return self.seconds() > self._budget - self._closing
