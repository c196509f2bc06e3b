"""What the shares of a run's tasks are proportional to: a power of what each costs, or where a second is worth most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.plan.cost import segment_work
from hrm_submit.plan.gain import Floats, Level, Slopes, halves, water_level
from hrm_submit.plan.shares import weight

Fit = tuple[float, float]
"""Overhead and slope of a segment's cost."""
UNKNOWN: Fit = (0.0, 1.0)
"""As long as nothing was measured: a cost is then in operations instead of seconds."""


class Weights:
    """The weights of `tasks` under the `[budget]` of `preset`. A plan and all shares that it serves for are of one fit and one level:
    another fit has another unit."""

    def __init__(self, tasks: Sequence[Task], preset: Preset) -> None:
        self._budget = preset.budget
        cells = {t.id: canvas_side(t, preset.ttt.spare) ** 2 for t in tasks}
        self.work = {t.id: segment_work(preset.model, preset.ttt, cells[t.id]) for t in tasks}
        """Operations of a segment, by task."""
        half = halves(np.array(list(cells.values()), dtype=np.float64), self._budget.solve_half, self._budget.solve_cells)
        self._half = dict(zip(cells, half.tolist(), strict=True))
        self._slopes = Slopes.of(self._budget.solve_power) if self._budget.solve_power else None

    def of(self, tasks: Sequence[Task], fit: Fit, level: Level | None) -> list[float]:
        """The weight of each task."""
        if self._slopes is None:
            return [weight(cost, len(t.train), self._budget) for cost, t in zip(self._costs(tasks, fit), tasks, strict=True)]
        if level is None:
            return [1.0] * len(tasks)  # how long a segment takes is not known yet
        return [float(s) for s in level.seconds(self._slopes, self._halves(tasks), np.array(self._costs(tasks, fit)))]

    def level(self, tasks: Sequence[Task], fit: Fit, free_at: Sequence[float], end: float) -> Level | None:
        """The worth of a second at which the tasks' shares take all time until `end`; None where they do not depend on it."""
        total = sum(max(0.0, end - at) for at in free_at)
        if self._slopes is None or fit == UNKNOWN or not total > 0:
            return None
        return water_level(self._slopes, self._halves(tasks), np.array(self._costs(tasks, fit)), total, self._budget.least_segments)

    def _costs(self, tasks: Sequence[Task], fit: Fit) -> list[float]:
        overhead, slope = fit
        return [overhead + slope * self.work[t.id] for t in tasks]

    def _halves(self, tasks: Sequence[Task]) -> Floats:
        return np.array([self._half[t.id] for t in tasks])
