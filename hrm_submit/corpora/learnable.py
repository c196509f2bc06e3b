"""What can be learnt from: the good pairs of every task, whatever is wrong with the others, and a count of what is left out and why."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hrm_submit.arc.entries import PAIR_KEYS, Entry, is_pair
from hrm_submit.arc.jsonio import FaultError, located, parse_grid, shown
from hrm_submit.arc.task import Grid, Pair, Task
from hrm_submit.core.errors import DataError

log = logging.getLogger(__name__)

NOTED = ("id", "task_id", "name", "test", *PAIR_KEYS)
"""Keys of a task that are known; others that hold pairs are used too, and all are told of."""


@dataclass
class LeftOut:
    """What could not be used, by kind and reason: how much of it, and the first. With `strict` the first is raised as DataError."""

    strict: bool = False
    found: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, fault: str) -> None:
        """Note `FILE: task ID: fault` of a `kind` (pair, task, file)."""
        if self.strict:
            raise DataError(fault)
        reason = re.sub(r"\d+", "N", fault.rsplit(": ", 1)[-1].split(", the first")[0])
        n, first = self.found.get((kind, reason), (0, fault))
        self.found[kind, reason] = n + 1, first

    def lines(self) -> list[str]:
        """For a person: one line a reason."""
        return [
            f"{n} {kind}{'s' if n > 1 else ''} left out: {reason}; the first is {first}"
            for (kind, reason), (n, first) in self.found.items()
        ]

    def first(self) -> str | None:
        """What was left out first."""
        return next((first for _, first in self.found.values()), None)


@dataclass(frozen=True, eq=False)
class Learnable:
    """Pairs of one task to learn from, test inputs whose outputs are not known, and whether a generator drew the pairs."""

    pairs: tuple[Pair, ...]
    unsolved: tuple[Grid, ...]
    generated: bool


def learnable(entry: Entry, outputs: Sequence[Grid] | None, left: LeftOut, used: dict[str, int], *, demos_only: bool) -> Learnable | None:
    """What can be learnt from `entry`; None where that is nothing. `outputs` are the known ones of its tests, from a file beside it.

    `used` counts pairs, or 0 for a key that is ignored, by the other keys of tasks. Raises DataError where `left` is strict.
    """
    value = entry.value
    if isinstance(value, Task):
        return Learnable(value.train, (), generated=True)
    at = _Place(entry, left)
    if isinstance(value, list):
        pairs = at.pairs(value, "pair")
        return at.kept(pairs, (), generated=True)
    if not isinstance(value, Mapping) or not any(isinstance(value.get(key), list) for key in PAIR_KEYS):
        left.add("task", located(entry.file, entry.id, f'has no "train" with a list of pairs, but is {shown(value)}'))
        return None
    if entry.twice:
        left.add("task", located(entry.file, entry.id, "appears twice"))
        return None
    pairs = [pair for key in PAIR_KEYS if isinstance(value.get(key), list) for pair in at.pairs(value[key], "demonstration")]
    for key, more in value.items():
        if key in NOTED or not isinstance(more, list) or not more:
            continue
        extra = at.pairs(more, f"{key} pair") if all(is_pair(item) for item in more[:3]) else []
        used[key] = used.get(key, 0) + len(extra)
        pairs += extra
    solved, unsolved = at.tests(value.get("test"), outputs, demos_only=demos_only)
    return at.kept([*pairs, *solved], unsolved, generated=False)


class _Place:
    """An entry that is read, and where its faults are noted."""

    def __init__(self, entry: Entry, left: LeftOut) -> None:
        self._entry, self._left = entry, left

    def pairs(self, items: Sequence[Any], what: str) -> list[Pair]:
        return [pair for k, item in enumerate(items) if (pair := self._pair(item, f"{what} {k}")) is not None]

    def tests(self, tests: Any, outputs: Sequence[Grid] | None, *, demos_only: bool) -> tuple[list[Pair], list[Grid]]:
        """Solved tests, and inputs of the others. An output that is empty or null counts as not known."""
        solved, unsolved = [], []
        tests = tests if isinstance(tests, list) else []
        if outputs is not None and len(outputs) != len(tests):
            self._fault("task", f"has {len(outputs)} outputs for {len(tests)} test inputs")
            outputs = None
        for k, test in enumerate(tests):
            if not isinstance(test, Mapping) or (given := self._grid(test.get("input"), f"test {k} input")) is None:
                continue
            known = None if demos_only else outputs[k] if outputs is not None else test.get("output") or None
            if known is None:
                unsolved.append(given)
                continue
            wanted = known if outputs is not None else self._grid(known, f"test {k} output")
            if wanted is not None:
                solved.append(Pair(given, wanted))
        return solved, unsolved

    def kept(self, pairs: Sequence[Pair], unsolved: Sequence[Grid], *, generated: bool) -> Learnable | None:
        if not pairs:
            self._fault("task", "has no pair to learn from")
            return None
        return Learnable(tuple(pairs), tuple(unsolved), generated)

    def _pair(self, item: Any, place: str) -> Pair | None:
        if not is_pair(item):
            self._fault("pair", f"{place}: should be an object with input and output, not {shown(item)}")
            return None
        given, wanted = (item["input"], item["output"]) if isinstance(item, Mapping) else item
        grids = [self._grid(given, f"{place} input"), self._grid(wanted, f"{place} output")]
        return Pair(grids[0], grids[1]) if grids[0] is not None and grids[1] is not None else None

    def _grid(self, value: Any, place: str) -> Grid | None:
        try:
            return parse_grid(value, place)
        except FaultError as fault:
            self._fault("pair", str(fault))
            return None

    def _fault(self, kind: str, fault: str) -> None:
        self._left.add(kind, located(self._entry.file, self._entry.id, fault))
