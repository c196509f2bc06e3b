"""What tasks have so far, and which of them another training may improve: the next one first, at a cost that does not grow with them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hrm_submit.predict.vote import Outputs

MOST_DOUBLINGS = 32
"""A share doubled so often is longer than any run; trainings that end early, at their most segments, may be begun more often."""

_Entry: TypeAlias = tuple[int, float, str]
"""Trainings anew so far, less the promise, id: the least is the next one."""


@dataclass
class Result:
    """What a task has so far: pooled candidates, whether its votes agree, its share in the first pass, what it fitted."""

    outputs: Outputs
    settled: bool
    share: float
    demo_exact: float
    restarts: int = 0
    promise: float = 0.0
    """How much another training may change: most where half of the votes agree and the demonstrations are fit."""

    def __post_init__(self) -> None:
        self.judge()

    def judge(self) -> None:
        """Say the promise of what there is."""
        shares = [max(x.votes for x in c) / sum(x.votes for x in c) if c else 0.0 for c in self.outputs]
        self.promise = min((p * (1 - p) for p in shares), default=0.0) * (0.25 + self.demo_exact)


class Undecided:
    """The tasks of `results` whose votes disagree. A retraining gets at least `least` of the task's first share, and twice as long each
    time."""

    def __init__(self, results: Mapping[str, Result], least: float) -> None:
        self._results, self._least = results, least
        self._open: list[_Entry] = []
        self._stands: dict[str, _Entry] = {}
        self._begun: Counter[str] = Counter()
        self._spoilt: set[str] = set()

    def note(self, task: str) -> None:
        """The result or the trainings of a task have changed."""
        entry = self._entry(task)
        if self.may_improve(task) and self._stands.get(task) != entry:
            self._stands[task] = entry
            heapq.heappush(self._open, entry)

    def begin(self, task: str) -> int:
        """Start a retraining of `task`; returns its number, from 1."""
        self._begun[task] += 1
        self.note(task)
        return self._begun[task]

    def spoil(self, task: str) -> None:
        """Retrain this task no more: a retraining failed."""
        self._spoilt.add(task)

    def may_improve(self, task: str) -> bool:
        """Whether another training may follow."""
        result = self._results[task]
        return not result.settled and result.share > 0 and task not in self._spoilt

    def choose(self, takes: Callable[[str], bool], left: float, capacity: float = 0.0, most: int = 1) -> list[tuple[str, float]]:
        """Tasks to retrain and the seconds that each should have, in their order: the first one that who asks `takes` and for which
        `left` seconds are enough, then what else `capacity` seconds of all workers hold, the same task again where its turn comes."""
        chosen: list[tuple[str, float]] = []
        again: list[_Entry] = []
        back: list[_Entry] = []
        while len(chosen) < most and (self._open or again):
            own = not again or (bool(self._open) and self._open[0] < again[0])
            planned, promise, task = entry = heapq.heappop(self._open if own else again)
            if (own and entry != self._entry(task)) or not self.may_improve(task):
                continue  # it has changed since
            share = self._results[task].share
            if self._least * share > left:
                continue  # there will never be time for it again
            if own:
                back.append(entry)
            if not takes(task):
                continue
            wish = share * 2.0 ** min(planned, MOST_DOUBLINGS)
            if chosen and wish > capacity:
                break
            chosen.append((task, wish))
            capacity -= wish
            heapq.heappush(again, (planned + 1, promise, task))
        for entry in back:
            heapq.heappush(self._open, entry)
        return chosen

    def _entry(self, task: str) -> _Entry:
        return self._begun[task], -self._results[task].promise, task
