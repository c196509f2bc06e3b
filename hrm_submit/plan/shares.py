"""Who gets how long: equal shares of what is left, planned anew whenever a worker is free.

Shares are counted in rounds: with `queued` tasks and `workers` workers, each worker has `ceil(queued / workers)` tasks
before it, so all of them end together, and what a task gives back by stopping early is spread over those after it.
"""

from __future__ import annotations

import math

from hrm_submit.core.config import BudgetConfig


def usable_seconds(budget: float, config: BudgetConfig) -> float:
    """Seconds of `budget` in which tasks may run: all but the reserve for last votes, the last write and the exit."""
    reserve = max(config.reserve_min_seconds, budget * config.reserve)
    return budget - min(reserve, 0.5 * budget)


def next_share(remaining: float, queued: int, workers: int) -> float:
    """Seconds for the next task of `queued` (itself among them) when `remaining` usable seconds are left; never negative."""
    if queued < 1 or workers < 1:
        raise ValueError("a share needs a task and a worker")
    return max(0.0, remaining) / math.ceil(queued / workers)
