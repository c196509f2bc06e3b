"""How far a run is, in segments or in seconds, and how much of its time must be kept for what comes after the last segment.

In time mode the rate should reach its end, the checkpoints be written and the last validation be done *before* the time is
up, so what each of these took when last done is taken off the budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from hrm_submit.core.clock import Clock

CLOSING = 3.0
"""Seconds for drawing the plot and leaving the process."""
MOST_KEPT = 0.5
"""Largest share of the budget that is kept, however long things took."""
MARGIN = 1.25


class Pace:
    """Exactly one of `budget` (seconds) and `segments` is given, in all: `before` are the seconds of earlier turns."""

    def __init__(self, clock: Clock, budget: float | None, segments: int | None) -> None:
        self._clock, self.budget, self.segments = clock, budget, segments
        self.before = 0.0
        self._took: dict[str, float] = {}
        self._recent: deque[float] = deque(maxlen=64)
        self._mark: float | None = None
        self._warm = False
        self._aside = 0.0
        self._furthest = 0.0

    def seconds(self) -> float:
        """Spent by now, earlier turns included."""
        return self.before + self._clock.elapsed()

    def expect(self, what: str, share: float, most: float) -> None:
        """Until `what` has been timed, keep `share` of the budget for it, at most `most` seconds."""
        self._took.setdefault(what, min(most, share * (self.budget or 0.0)))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Measures `what`, which will have to be done once more at the end."""
        start = self.seconds()
        yield
        took = self.seconds() - start
        self._took[what] = MARGIN * took
        self._aside += took

    def last(self, what: str) -> float:
        """Seconds that `what` took when it was last timed, with a margin."""
        return self._took.get(what, 0.0)

    def progress(self, segment: int) -> float:
        """0..1 before the segment that follows `segment` finished ones; never falls. The last of n segments has (n - 1) / n."""
        if self.segments is not None:
            return min(1.0, segment / self.segments)
        self._note_segment()
        self._furthest = max(self._furthest, min(1.0, self.seconds() / max(1e-9, (self.budget or 0.0) - self.kept())))
        return self._furthest

    def kept(self) -> float:
        """Seconds of the budget that are kept for the end, the last segment among them."""
        budget = self.budget or 0.0
        slowest = max(self._recent, default=0.0)
        return min(MOST_KEPT * budget, self._closing() + slowest + sum(self._took.values()))

    def late(self) -> bool:
        """Whether nothing but closing fits into what is left of the budget."""
        return self.budget is not None and self.seconds() > self.budget - self._closing()

    def _closing(self) -> float:
        return min(CLOSING, 0.1 * (self.budget or 0.0))

    def _note_segment(self) -> None:
        """Time since the last call less what was set aside: a segment, all that waits for it included.

        The first segment of a process compiles and loads, which the last one will not.
        """
        now = self.seconds()
        if self._warm and self._mark is not None:
            self._recent.append(now - self._mark - self._aside)
        self._warm = self._mark is not None
        self._mark, self._aside = now, 0.0
