"""Who gets how long: tasks of unequal weight are packed onto workers so that each weight gets the same rate and all end together.

A plan is made again whenever a worker is free, from what is left by then, so nothing here keeps any state.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from hrm_submit.config.schema import BudgetConfig

FINE, COARSE = (24, 1e-6), (10, 2e-3)
"""Halvings by which the common scale is found, to less than the part of the time by which a task may end late: shares are stretched or
shrunk to fit in the end. The coarse way is for more than `SEVERAL` tasks."""
SEVERAL = 256


@dataclass(frozen=True)
class Slot:
    """Where a task goes: the number of its worker in the plan, when it starts and how long it gets, in seconds."""

    worker: int
    start: float
    seconds: float


def usable_seconds(budget: float, config: BudgetConfig) -> float:
    """Seconds of `budget` in which tasks may run: all but the reserve for last votes, the last write and the exit."""
    reserve = max(config.reserve_min_seconds, budget * config.reserve)
    return budget - min(reserve, 0.5 * budget)


def weight(segment_cost: float, pairs: int, config: BudgetConfig) -> float:
    """What a task's share is proportional to: its cost of a segment (in any unit) and its number of demonstration pairs, each to
    the power that `config` gives. Power 0 of both is equal seconds for all, power 1 of the cost is equal segments for all."""
    return float(max(segment_cost, 1e-12) ** config.size_power * max(pairs, 1) ** config.pairs_power)


def pack(weights: Sequence[float], free_at: Sequence[float], end: float) -> list[Slot]:
    """A slot for each of `weights` (in the order in which they start) on workers that are free at `free_at`, until `end`.

    Each task goes to whoever is free first. Shares are the weights times the largest common scale at which the last task
    still ends at `end`; then each worker's tasks are stretched alike to fill its time. Workers free only at or after `end`
    get nothing. Raises ValueError for a weight that is not positive, or where no worker has time.
    """
    if any(not w > 0 for w in weights):
        raise ValueError("a weight must be positive")
    workers = [(at, number) for number, at in enumerate(free_at) if at < end]
    if not workers:
        raise ValueError("no worker has time before the end")
    if not weights:
        return []
    halvings, tolerance = FINE if len(weights) <= SEVERAL else COARSE
    low, high = 0.0, sum(end - at for at, _ in workers) / sum(weights)
    last = end + tolerance * (end - min(at for at, _ in workers))
    best = _list_schedule(weights, workers, last, high)
    if best is None:
        for _ in range(halvings):
            middle = (low + high) / 2
            found = _list_schedule(weights, workers, last, middle)
            if found is None:
                high = middle
            else:
                low, best = middle, found
    assert best is not None, "a scale near zero always fits"
    return _stretched(weights, best, {number: at for at, number in workers}, end)


def level(weights: Sequence[float], free_at: Sequence[float], end: float) -> float:
    """Seconds for a weight of 1 where tasks are so many that none is left over at a worker's end: all time over all weights. Raises
    ValueError where no worker has time."""
    capacity = sum(max(0.0, end - at) for at in free_at)
    if not capacity > 0:
        raise ValueError("no worker has time before the end")
    return capacity / sum(weights)


def _list_schedule(weights: Sequence[float], workers: list[tuple[float, int]], last: float, scale: float) -> list[int] | None:
    """The worker of each task, each given to whoever is free first; None where one would end after `last`."""
    free = list(workers)
    heapq.heapify(free)
    chosen = []
    for w in weights:
        at, number = free[0]
        done = at + scale * w
        if done > last:
            return None
        heapq.heapreplace(free, (done, number))
        chosen.append(number)
    return chosen


def _stretched(weights: Sequence[float], chosen: list[int], free_at: dict[int, float], end: float) -> list[Slot]:
    totals = dict.fromkeys(free_at, 0.0)
    for w, number in zip(weights, chosen, strict=True):
        totals[number] += w
    start, slots = dict(free_at), []
    for w, number in zip(weights, chosen, strict=True):
        seconds = (end - free_at[number]) * w / totals[number]
        slots.append(Slot(number, start[number], seconds))
        start[number] += seconds
    return slots
