"""Divide time among tasks of unequal weight so that each weight gets the same rate and all workers end together.

Keeps no state: a plan is made anew, from what is left, whenever a worker is free.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from hrm_submit.config.schema import BudgetConfig

TOLERANCE = 1e-3
"""How closely the common scale is found, relative to the best one; shares are then scaled to fill each worker's time exactly."""
CLOSE = 0.01
"""Relative gap between the bounds of the common scale, with hundreds of tasks a worker, below which no schedule is searched."""


def usable_seconds(budget: float, config: BudgetConfig) -> float:
    """Return the seconds of `budget` in which tasks may run: all but the reserve for last votes, the last write and the exit."""
    reserve = max(config.reserve_min_seconds, budget * config.reserve)
    return budget - min(reserve, 0.5 * budget)


def weights(segment_costs: Sequence[float], pairs: Sequence[int], config: BudgetConfig) -> list[float]:
    """Return what each task's share is proportional to: its cost of a segment (in any unit) and its number of demonstration pairs, each
    to the power in `config`. Power 0 of both gives equal seconds, power 1 of the cost gives equal segments."""
    costs, counts = np.maximum(segment_costs, 1e-12), np.maximum(pairs, 1)
    return (costs**config.size_power * counts**config.pairs_power).tolist()


def first_share(weights: Sequence[float], free_at: Sequence[float], end: float) -> float:
    """Return the seconds of the first of the tasks with `weights`, all above 0, in a plan of all of them on workers that are free at
    `free_at`, one of them at least before `end`.

    Each task, in order, goes to the worker that is free first. Shares are the weights times the largest common scale at which the last
    task still ends at `end`; then each worker's shares are scaled to fill its time. A worker free at or after `end` gets nothing.
    """
    workers = sorted((at, number) for number, at in enumerate(free_at) if at < end)
    capacity, total = sum(end - at for at, _ in workers), sum(weights)
    last = end + TOLERANCE * (end - workers[0][0])
    # A task starts, at the latest, when the mean worker is busy until then: the lower scale always fits.
    low, high = capacity / (total + (len(workers) - 1) * max(weights)), capacity / total
    if high <= low * (1 + CLOSE):
        return low * weights[0]
    if _at_scale(weights, workers, last, high):
        low = high
    while high > low * (1 + TOLERANCE):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_scale(weights, workers, last, middle) else (low, middle)
    chosen = _at_scale(weights, workers, last, low)
    own = sum(w for w, number in zip(weights, chosen, strict=True) if number == chosen[0])
    return (end - free_at[chosen[0]]) * weights[0] / own


def _at_scale(weights: Sequence[float], workers: Sequence[tuple[float, int]], last: float, scale: float) -> list[int]:
    """Return the worker of each task, each given to the one that is free first; none where a task would end after `last`."""
    free, chosen = list(workers), []
    for w in weights:
        at, number = free[0]
        at += scale * w
        if at > last:
            return []
        heapq.heapreplace(free, (at, number))
        chosen.append(number)
    return chosen
