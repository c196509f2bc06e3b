"""What the shares of a run's tasks are proportional to: a power of what a segment of each costs, and of its demonstrations."""

from __future__ import annotations

from collections.abc import Sequence

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.run.cost import segment_work
from hrm_submit.run.shares import weight

Fit = tuple[float, float]
"""Overhead and slope of a segment's cost."""
UNKNOWN: Fit = (0.0, 1.0)
"""As long as nothing was measured: a cost is then in operations instead of seconds."""


class Weights:
    """The weights of `tasks` under the `[budget]` of `preset`. A plan and all shares that it serves for are of one fit: another has
    another unit."""

    def __init__(self, tasks: Sequence[Task], preset: Preset) -> None:
        self._budget = preset.budget
        self.work = {t.id: segment_work(preset.model, preset.ttt, canvas_side(t) ** 2) for t in tasks}
        """Operations of a segment, by task."""

    def of(self, tasks: Sequence[Task], fit: Fit) -> list[float]:
        """The weight of each task."""
        overhead, slope = fit
        return [weight(overhead + slope * self.work[t.id], len(t.train), self._budget) for t in tasks]
