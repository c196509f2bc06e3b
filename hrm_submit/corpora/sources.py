"""Tasks by name or path, with answers: for Python (`load`) and for the command line; `--data` adds options: `NAME|F[:demos][:weight],...`.

What a name or path may be says `arc/entries.py`. Notable: a training task is a plain `Task` whose demonstrations are all the pairs to
learn from, solved tests among them, so that augmentation and canvas see exactly what is trained on.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

from hrm_submit.arc.challenges import parse_task
from hrm_submit.arc.entries import Entry, Source, holds_tasks, read_source, source_names
from hrm_submit.arc.jsonio import FaultError, located, read_json
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.learnable import LeftOut, learnable
from hrm_submit.corpora.solutions import load_solutions, parse_solved_task, sibling_solutions

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corpus:
    """One part of a mix: its name, the tasks, and whether their demonstrations alone are used (asked for by `:demos`)."""

    name: str
    tasks: tuple[TrainingTask, ...]
    demos_only: bool = False
    weight: float = 1.0

    def renamed(self, name: str) -> Corpus:
        """The same tasks under another name."""
        tasks = tuple(replace(t, task=replace(t.task, id=f"{name}/{t.key}"), corpus=name) for t in self.tasks)
        return replace(self, name=name, tasks=tasks)


@overload
def load(source: str | os.PathLike[str], solutions: Literal[False] = False) -> dict[str, Task]: ...
@overload
def load(source: str | os.PathLike[str], solutions: Literal[True]) -> tuple[dict[str, Task], Solutions]: ...
def load(source: str | os.PathLike[str], solutions: bool = False) -> dict[str, Task] | tuple[dict[str, Task], Solutions]:
    """Tasks by id of a name or path, and with `solutions` also the outputs that are known, by task id.

    Without `solutions` no answer is among what is returned, and no solutions file is opened. Tasks that cannot be used are left out with
    a warning. Raises DataError where none can.
    """
    _, tasks, known = load_source(os.fspath(source), solved=solutions)
    return (tasks, known) if solutions else tasks


def load_corpora(specs: str, folder: str | os.PathLike[str] | None = None, *, strict: bool = False) -> tuple[Corpus, ...]:
    """Every corpus of a mix `SPEC,SPEC,...`; two that are called alike get names from more of their paths. Raises DataError as
    `load_corpus` does, and where one is in the mix twice."""
    given = specs.split(",")
    corpora = [load_corpus(spec, folder, strict=strict) for spec in given]
    places = [Path(parse_spec(spec)[0]).resolve() for spec in given]
    for name, times in Counter(corpus.name for corpus in corpora).items():
        alike = [k for k, corpus in enumerate(corpora) if corpus.name == name] if times > 1 else []
        for k in alike:
            corpora[k] = corpora[k].renamed(_apart(places[k], [places[other] for other in alike if other != k], given[k], name))
    return tuple(corpora)


def _apart(place: Path, others: list[Path], spec: str, name: str) -> str:
    """As many of the last parts of `place` as tell it from the `others`."""
    if place in others or spec in source_names():
        raise DataError(f"{spec}: data called {name!r} is in the mix twice")
    parts = place.with_suffix("").parts
    for n in range(2, len(parts) + 1):
        if all(other.with_suffix("").parts[-n:] != parts[-n:] for other in others):
            return "/".join(parts[-n:])
    raise DataError(f"{spec}: data called {name!r} is in the mix twice")


def load_corpus(spec: str, folder: str | os.PathLike[str] | None = None, *, strict: bool = False) -> Corpus:
    """The tasks of `NAME|F[:demos][:weight]`; `folder` as for `data_folder`.

    `:demos` leaves test outputs out; so does a set that has none, which is logged. `:0.5` draws each of its tasks half as
    often as one of weight 1. Pairs, tasks and files that cannot be used are left out, counted and logged; with `strict` the first of them
    is raised. Raises DataError, one line, for an unknown name (lists the known ones), a downloaded set that is not there (names the
    command that fetches it), a source that cannot be read, and where nothing is left.
    """
    text, demos_only, weight = parse_spec(spec)
    source, left, used = read_source(text, answers=True, folder=folder), LeftOut(strict), dict[str, int]()
    for stranger in source.strangers:
        left.add("file" if ": task " not in stranger else "pair", stranger)
    known = {} if demos_only else _beside(source)
    training, unsolved = [], 0
    for entry in source.entries:
        found = learnable(entry, known.get(entry.id), left, used, demos_only=demos_only)
        if found is not None:
            task = Task(f"{source.name}/{entry.id}", found.pairs, found.unsolved)
            training.append(TrainingTask(task, source.name, entry.id, weight, generated=found.generated))
            unsolved += bool(found.unsolved)
    for line in left.lines():
        log.warning("%s: %s", text, line)
    for key, pairs in used.items():
        log.info("%s: %s", text, f"{pairs} pairs under {key!r} are used too" if pairs else f"what is under {key!r} is ignored")
    if not training:
        raise DataError(left.first() or f"{text}: has no tasks")
    if unsolved and not demos_only:
        some = "it has no" if unsolved == len(training) else f"{unsolved} of its {len(training)} tasks have no"
        log.warning("%s: %s solutions, so only demonstrations are used there", text, some)
    return Corpus(source.name, tuple(training), demos_only, weight)


def parse_spec(spec: str) -> tuple[str, bool, float]:
    """Source, whether `:demos` was given, and weight (1 unless given) of `NAME|F[:demos][:weight]`. Raises DataError."""
    parts = spec.strip().split(":")
    demos_only, weight = False, None
    while len(parts) > 1:
        number = _number(parts[-1])
        if parts[-1] == "demos" and not demos_only:
            demos_only = True
        elif number is not None and weight is None:
            weight = number
        else:
            break
        parts.pop()
    source = ":".join(parts)
    if not source:
        raise DataError(f"data {spec!r}: names neither a set nor a file")
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise DataError(f"{spec}: a weight should be a finite number above 0")
    if len(parts) > 1 and (parts[0] in source_names() or Path(parts[0]).exists()) and not Path(source).exists():
        raise DataError(f"{spec}: {':'.join(parts[1:])!r} is neither 'demos' nor a weight")
    return source, demos_only, 1.0 if weight is None else weight


def load_source(
    source: str, folder: str | os.PathLike[str] | None = None, *, solved: bool = True
) -> tuple[str, dict[str, Task], Solutions]:
    """Short name, tasks by id, and the solutions that are known, of a name or path without options.

    Tasks that cannot be used are left out with a warning. A task of pairs alone has no tests. Unless `solved`, no answer is read. Raises
    DataError where nothing is left, and where solutions do not fit their tasks.
    """
    read = read_source(source, answers=solved, folder=folder)
    left, tasks = LeftOut(), dict[str, Task]()
    solutions: dict[str, tuple[Grid, ...]] = {}
    for stranger in read.strangers:
        left.add("file", stranger)
    for entry in read.entries:
        try:
            tasks[entry.id], outputs = _with_outputs(entry)
            if outputs:
                solutions[entry.id] = outputs
        except FaultError as fault:
            left.add("task", located(entry.file, entry.id, fault))
    if not tasks:
        raise DataError(left.first() or f"{source}: has no tasks")
    for line in left.lines():
        log.warning("%s: %s", source, line)
    for task_id, beside in (_beside(read) if solved else {}).items():
        if task_id in tasks and len(beside) != len(tasks[task_id].test):
            wrong = f"has {len(beside)} outputs for {len(tasks[task_id].test)} test inputs"
            raise DataError(located((read.path and sibling_solutions(read.path)) or source, task_id, wrong))
        solutions[task_id] = beside
    return read.name, tasks, solutions


def answers_of(source: str | os.PathLike[str]) -> Solutions:
    """The known outputs by task id: of a solutions file, or of tasks that carry their answers or have them beside. Raises DataError."""
    path = Path(source)
    if path.is_file() and path.suffix == ".json" and not holds_tasks(read_json(path)):
        return load_solutions(path)
    solutions = load_source(os.fspath(source))[2]
    if not solutions:
        raise DataError(f"{os.fspath(source)}: has no solutions")
    return solutions


def _with_outputs(entry: Entry) -> tuple[Task, tuple[Grid, ...]]:
    """The task of an entry, and the outputs of its tests where it has them. Raises FaultError."""
    if entry.twice:
        raise FaultError("appears twice")
    if isinstance(entry.value, Task):
        return entry.value, ()
    if isinstance(entry.value, list):
        left = LeftOut(strict=True)
        try:
            found = learnable(entry, None, left, {}, demos_only=True)
        except DataError as error:
            raise FaultError(str(error).split(": ", 2)[-1]) from None
        return Task(entry.id, found.pairs if found else (), ()), ()
    if isinstance(entry.value, Mapping) and not any(isinstance(t, Mapping) and "output" in t for t in entry.value.get("test") or ()):
        return parse_task(entry.id, entry.value), ()
    return parse_solved_task(entry.id, entry.value)


def _beside(source: Source) -> dict[str, tuple[Grid, ...]]:
    """Solutions in the file beside a challenges file."""
    sibling = sibling_solutions(source.path) if source.path is not None and source.path.is_file() else None
    return load_solutions(sibling) if sibling else {}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
