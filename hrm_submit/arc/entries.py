"""One task of any file: its good pairs and test inputs, and a fault for each thing that was left out.

Notable: outputs of tests are never read here. `corpora` reads them after `read_task`, from the same JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from hrm_submit.arc.jsonio import FaultError, located, parse_grid, parse_object, shown
from hrm_submit.arc.task import Grid, Pair, Task
from hrm_submit.core.errors import DataError

T = TypeVar("T")

PAIR_KEYS = ("train", "examples")
NO_PAIRS = 'has no list of pairs under "train"'


@dataclass(frozen=True)
class Fault:
    """What was left out (one pair or test input, a whole task, a file) and why, as `FILE: task ID: fault`."""

    kind: Literal["pair", "task", "file"]
    line: str


@dataclass(frozen=True, eq=False)
class Entry:
    """What a file holds of one task."""

    id: str
    file: Path | None
    train: tuple[Pair, ...] = ()
    """The good demonstrations."""
    test: tuple[Grid | None, ...] = ()
    """The test inputs, None where one cannot be read."""
    faults: tuple[Fault, ...] = ()
    generated: bool = False
    """The file has only pairs, as generators write them."""
    outputs: tuple[Grid | None, ...] = ()
    """The known outputs of the tests; only `corpora` reads them."""
    more: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    """The pairs of other lists, by key, () of a list of anything else; only `corpora` reads them."""

    @property
    def fault(self) -> str:
        """Why it cannot be solved, "" where it can."""
        if self.faults:
            return self.faults[0].line
        if self.train and self.test:
            return ""
        missing = "test inputs, only pairs to learn from" if self.generated else "test inputs" if self.train else "demonstrations"
        return located(self.file, self.id, f"has no {missing}")

    def task(self) -> Task:
        """Make a task to solve. Raises DataError with the first fault."""
        if self.fault:
            raise DataError(self.fault)
        return Task(self.id, self.train, tuple(grid for grid in self.test if grid is not None))


class FaultList(list[Fault]):
    """The faults of one task, in the order found."""

    def __init__(self, file: Path | None, task_id: str) -> None:
        super().__init__()
        self._file, self._task = file, task_id

    def note(self, kind: Literal["pair", "task"], fault: object) -> None:
        """Add a fault."""
        self.append(Fault(kind, located(self._file, self._task, fault)))

    def parsed(self, parse: Callable[[Any, str], T], value: Any, place: str) -> T | None:
        """Return `parse(value, place)`, or note its FaultError and return None."""
        try:
            return parse(value, place)
        except FaultError as fault:
            self.note("pair", fault)
            return None

    def pairs(self, items: Sequence[Any], what: str) -> tuple[Pair, ...]:
        """Return the good pairs of a JSON list and note the others."""
        return tuple(pair for k, item in enumerate(items) if (pair := self.parsed(_pair, item, f"{what} {k}")) is not None)


def read_task(task_id: str, value: Any, file: Path | None = None) -> Entry:
    """Read one task from its JSON: an object with `train` (or `examples`) and `test`, or a list of pairs."""
    faults = FaultList(file, task_id)
    if isinstance(value, list) and value and is_pair(value[0]):
        pairs = faults.pairs(value, "pair")
        return Entry(task_id, file, pairs, (), tuple(faults), generated=True)
    if not isinstance(value, Mapping):
        faults.note("task", f"should be an object, not {shown(value)}")
        return Entry(task_id, file, faults=tuple(faults))
    for key in ("train", "test"):
        if key in getattr(value, "duplicates", ()):
            faults.note("task", f'has "{key}" twice')
    lists = [value[key] for key in PAIR_KEYS if isinstance(value.get(key), list)]
    if not lists:
        faults.note("task", NO_PAIRS)
    train = tuple(pair for items in lists for pair in faults.pairs(items, "demonstration"))
    tests = value.get("test")
    inputs = tuple(faults.parsed(_test_input, test, f"test {k}") for k, test in enumerate(tests if isinstance(tests, list) else ()))
    return Entry(task_id, file, train, inputs, tuple(faults))


def is_pair(value: Any) -> bool:
    """Tell whether a JSON value has the form of a pair: an object with `input` and `output`, or a list of the two."""
    if isinstance(value, Mapping):
        return "input" in value and "output" in value
    return isinstance(value, list) and len(value) == 2 and all(isinstance(g, list) and g and isinstance(g[0], list) for g in value)


def _pair(value: Any, place: str) -> Pair:
    if isinstance(value, list) and is_pair(value):
        given, wanted = value
    else:
        given, wanted = (parse_object(value, ("input", "output"), place)[key] for key in ("input", "output"))
    return Pair(parse_grid(given, f"{place} input"), parse_grid(wanted, f"{place} output"))


def _test_input(value: Any, place: str) -> Grid:
    return parse_grid(parse_object(value, ("input",), place)["input"], f"{place} input")
