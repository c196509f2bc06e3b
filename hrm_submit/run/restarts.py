"""When a worker counts as hung, and when one is started again: at once after one that worked, later and later after starts that failed,
then no more. A device that alone fails its tasks, or of which nothing else ever came, counts as one where starts fail."""

import math
from collections import Counter
from collections.abc import Collection

from hrm_submit.run.protocol import WorkerSpec

PAUSES = 0.0, 5.0, 60.0
"""Seconds between a failed start and the next, for the failed starts in a row of a device; after one more the device is given up. The
memory of a killed process may be freed late."""
LONGEST_PAUSE = 0.05
"""Part of the budget that no pause exceeds."""

LEAST_PATIENCE, SLOW_START, LONGEST_START = 20.0, 60.0, 900.0
"""Seconds of silence that no worker is killed for, and that no start is; those after which a start counts as hung in any run."""

MOST_LOST, MOST_FAILED = 2, 3
"""Tasks in a row from which a device is sick if other devices lose none: tasks that ended its worker, or that the worker outlived."""
MOST_IN_VAIN = 12
"""Tasks that all devices together may lose before the first vote; from then on each of them is sick."""


def patience(budget: float, hang_seconds: float, segment: float | None) -> float:
    """Return the seconds of silence after which a worker counts as hung whose segments take `segment` seconds. None: it starts, for up
    to half of the budget, whatever `hang_seconds` says."""
    if segment is None:
        return max(SLOW_START, min(LONGEST_START, budget / 2))
    return max(min(5 * segment, budget / 3), min(hang_seconds, max(LEAST_PATIENCE, budget / 10)))


class Restarts:
    """The workers that wait for their start, in a run of `budget` seconds (infinity: without an end)."""

    def __init__(self, budget: float) -> None:
        self._longest = LONGEST_PAUSE * budget
        self._failed: Counter[str] = Counter()
        self._waiting: list[tuple[float, WorkerSpec]] = []
        self.lost_tasks: Counter[str] = Counter()
        """Tasks that failed on each device since its last answer."""
        self.answered = False
        """Whether any device gave a vote."""

    def __bool__(self) -> bool:
        """Return whether a worker waits for its start."""
        return bool(self._waiting)

    def sick(self, spec: WorkerSpec, ready: Collection[str], least: int = MOST_LOST) -> bool:
        """Return whether at least `least` tasks in a row failed on the device, though another one of those `ready` fails none, or where
        nothing but failures came of this run."""
        here = spec.location
        in_vain = not self.answered and self.lost_tasks.total() >= MOST_IN_VAIN
        return self.lost_tasks[here] >= least and (in_vain or any(not self.lost_tasks[other] for other in ready if other != here))

    def add(self, spec: WorkerSpec, now: float, *, was_ready: bool) -> bool:
        """Start a worker like `spec` again after one that is gone; return False where its device is given up."""
        here = spec.location
        at = max((at for at, other in self._waiting if other.location == here), default=-math.inf)
        if was_ready:
            self._failed[here], at = 0, now
        elif at <= now:  # else it met the same fault as the one that waits, and waits with it
            if self._failed[here] == len(PAUSES):
                return False
            at = now + min(PAUSES[self._failed[here]], self._longest)
            self._failed[here] += 1
        self._waiting.append((at, spec))
        return True

    def due(self, now: float) -> list[WorkerSpec]:
        """Take out the workers whose time has come."""
        come = [spec for at, spec in self._waiting if at <= now]
        self._waiting = [(at, spec) for at, spec in self._waiting if at > now]
        return come
