"""Tasks by name or path, with answers: for Python (`load`) and for the command line; `--data` adds options: `NAME|F[:demos][:weight],...`.

`arc/reader.py` says what a name or path may be. Notable: a training task is a plain `Task` whose demonstrations are all the pairs to
learn from, solved tests among them, so that augmentation and canvas see exactly what is trained on.
"""

import logging
import math
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, overload

from hrm_submit.arc.entries import read_task
from hrm_submit.arc.jsonio import located, read_json
from hrm_submit.arc.reader import Source, holds_tasks, read_source
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import load_solutions, read_solved_task, sibling_solutions

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corpus:
    """One part of a mix: its source as given, a name, the tasks, and whether `:demos` asked for their demonstrations alone."""

    source: str
    name: str
    tasks: tuple[TrainingTask, ...]
    demos_only: bool = False


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


def load_corpora(specs: str) -> tuple[Corpus, ...]:
    """Load every corpus of a mix `SPEC,SPEC,...`; the second one of a name is called `NAME-2`. Raises DataError as `load_corpus` does, and
    where one is in the mix twice."""
    corpora: list[Corpus] = []
    for spec in map(str.strip, specs.split(",")):
        corpus = load_corpus(spec, [other.name for other in corpora])
        if any(os.path.realpath(other.source) == os.path.realpath(corpus.source) for other in corpora):
            raise DataError(f"{spec}: is in the mix twice")
        corpora.append(corpus)
    return tuple(corpora)


def load_corpus(spec: str, taken: Collection[str] = ()) -> Corpus:
    """Load the tasks of `NAME|F[:demos][:weight]`, under a name that is not `taken`.

    `:demos` leaves test outputs out; so does a set that has none, which is logged. `:0.5` draws each of its tasks half as
    often as one of weight 1. Pairs, tasks and files that cannot be used are left out, counted and logged.
    Raises DataError, one line, for an unknown name (lists the known ones), a downloaded set that is not there (names the
    command that fetches it), a source that cannot be read, solutions that do not fit, and where nothing is left.
    """
    text, demos_only, weight = parse_spec(spec)
    source = read_source(text, read_task if demos_only else read_solved_task)
    known = {} if demos_only else _beside(source)
    numbered = (f"{source.name}-{n}" if n > 1 else source.name for n in count(1))
    name = next(name for name in numbered if name not in taken)
    training, faults = list[TrainingTask](), list(source.faults)
    for entry in source.entries:
        outputs = known.get(entry.id) or entry.outputs or [None] * len(entry.test)
        tests = [(given, wanted) for given, wanted in zip(entry.test, outputs, strict=False) if given is not None]
        pairs = (*entry.train, *(Pair(given, wanted) for given, wanted in tests if wanted is not None))
        faults += entry.faults
        if pairs:
            task = Task(f"{name}/{entry.id}", pairs, tuple(given for given, wanted in tests if wanted is None))
            training.append(TrainingTask(task, entry.id, weight, entry.generated))
        elif not entry.faults:
            faults.append(located(entry.file, entry.id, "has no pair to learn from"))
    if not training:
        raise DataError(faults[0])
    _warn(text, faults)
    without = sum(bool(task.task.test) for task in training)
    if without and not demos_only:
        log.warning("%s: %d of %d tasks have no solutions: only their demonstrations are used", text, without, len(training))
    return Corpus(text, name, tuple(training), demos_only)


def parse_spec(spec: str) -> tuple[str, bool, float]:
    """Source, whether `:demos` was given, and weight (1 unless given) of `NAME|F[:demos][:weight]`. Raises DataError."""
    found = re.fullmatch(r"(.+?)(:demos)?(:[-+.\de]+)?(:demos)?", spec.strip())
    if not found:
        raise DataError(f"data {spec!r}: names neither a set nor a file")
    try:
        weight = float(found[3][1:]) if found[3] else 1.0
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise DataError(f"{spec}: a weight should be a finite number above 0")
    return found[1], bool(found[2] or found[4]), weight


def load_source(source: str, *, solved: bool = True) -> tuple[str, dict[str, Task], Solutions]:
    """Load the short name, the tasks by id and the known solutions of a name or path without options.

    Tasks with a fault are left out with a warning; a task has solutions where all its outputs are known. A task of pairs alone has no
    tests. Unless `solved`, no answer is read. Raises DataError where nothing is left, and where solutions do not fit their tasks.
    """
    found = read_source(source, read_solved_task if solved else read_task)
    faults, tasks, solutions = list(found.faults), dict[str, Task](), dict[str, tuple[Grid, ...]]()
    for entry in found.entries:
        try:
            tasks[entry.id] = Task(entry.id, entry.train, ()) if entry.generated and entry.train else entry.task()
        except DataError as error:
            faults.append(str(error))
            continue
        outputs = tuple(grid for grid in entry.outputs if grid is not None)
        if outputs and len(outputs) == len(entry.test):
            solutions[entry.id] = outputs
        elif outputs:
            faults.append(located(entry.file, entry.id, "has outputs of some tests only, which are no solution"))
    if not tasks:
        raise DataError(faults[0])
    _warn(source, faults)
    return found.name, tasks, solutions | (_beside(found) if solved else {})


def answers_of(source: str | os.PathLike[str]) -> Solutions:
    """Load the known outputs by task id from a solutions file, or from tasks that carry them or have them beside. Raises DataError."""
    path = Path(source)
    if path.is_file() and path.suffix == ".json" and not holds_tasks(read_json(path)):
        return load_solutions(path)
    solutions = load_source(os.fspath(source))[2]
    if not solutions:
        raise DataError(f"{os.fspath(source)}: has no solutions")
    return solutions


def _beside(source: Source) -> dict[str, tuple[Grid, ...]]:
    """Load the solutions in the file beside a challenges file. Raises DataError where they do not fit their tasks."""
    path = sibling_solutions(source.path) if source.path is not None and source.path.is_file() else None
    solutions = load_solutions(path) if path else {}
    for entry in source.entries:
        given = len(solutions.get(entry.id, entry.test))
        if entry.test and given != len(entry.test):
            raise DataError(located(path, entry.id, f"has {given} outputs for {len(entry.test)} test inputs"))
    return solutions


def _warn(source: str, faults: Sequence[str]) -> None:
    if faults:
        log.warning("%s: what has a fault is left out: %d faults, the first is %s", source, len(faults), faults[0])
