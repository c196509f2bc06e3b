"""One task of any file: its good pairs and test inputs, and a fault for each thing that was left out.

Notable: outputs of tests are never read here. `corpora` reads them after `read_task`, from the same JSON.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hrm_submit.arc.jsonio import FaultError, located, parse_grid, part, shown
from hrm_submit.arc.task import Grid, Pair, Task
from hrm_submit.core.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Entry:
    """What a file holds of one task; `task` makes it one to solve."""

    id: str
    file: Path | None
    train: tuple[Pair, ...] = ()
    """The good demonstrations."""
    test: tuple[Grid | None, ...] = ()
    """The test inputs, None where one cannot be read."""
    faults: tuple[str, ...] = ()
    """What was left out and why, lines `FILE: task ID: fault`."""
    generated: bool = False
    """The file has only pairs, as generators write them."""
    outputs: tuple[Grid | None, ...] = ()
    """The known outputs of the tests; only `corpora` reads them."""

    @property
    def fault(self) -> str:
        """Why it cannot be solved, "" where it can."""
        if self.faults:
            return self.faults[0]
        if self.train and self.test:
            return ""
        missing = "test inputs, only pairs to learn from" if self.generated else "test inputs" if self.train else "demonstrations"
        return located(self.file, self.id, f"has no {missing}")

    def task(self) -> Task:
        """Make a task to solve. Raises DataError with the first fault."""
        if self.fault:
            raise DataError(self.fault)
        return Task(self.id, self.train, tuple(grid for grid in self.test if grid is not None))


def read_task(task_id: str, value: Any, file: Path | None = None) -> Entry:
    """Read one task from its JSON: an object with `train` and `test`, or a list of pairs."""
    faults, generated = list[str](), isinstance(value, list) and bool(value) and is_pair(value[0])
    content = {"train": value} if generated else value
    if not isinstance(content, Mapping):
        faults.append(f"should be an object, not {shown(value)}")
        content = {}
    elif not isinstance(content.get("train"), list):
        faults.append('has no list of pairs under "train"')
    train = parsed(_pair, content.get("train"), "pair" if generated else "demonstration", faults)
    test = parsed(_test_input, content.get("test"), "test", faults)
    lines = tuple(located(file, task_id, fault) for fault in faults)
    return Entry(task_id, file, tuple(pair for pair in train if pair), test, lines, generated)


def parsed(parse: Callable[[Any, str], T], items: Any, what: str, faults: list[str]) -> tuple[T | None, ...]:
    """Return `parse(item, place)` of each item of a JSON list; None for a malformed one, whose fault is appended to `faults`."""
    found: list[T | None] = []
    for k, item in enumerate(items if isinstance(items, list) else ()):
        try:
            found.append(parse(item, f"{what} {k}"))
        except FaultError as fault:
            found.append(None)
            faults.append(str(fault))
    return tuple(found)


def is_pair(value: Any) -> bool:
    """Tell whether a JSON value has the form of a pair."""
    return isinstance(value, Mapping) and "input" in value and "output" in value


def _pair(value: Any, place: str) -> Pair:
    given, wanted = (parse_grid(part(value, key, place), f"{place} {key}") for key in ("input", "output"))
    return Pair(given, wanted)


def _test_input(value: Any, place: str) -> Grid:
    return parse_grid(part(value, "input", place), f"{place} input")
