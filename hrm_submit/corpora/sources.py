"""Tasks by name or path, with answers: for Python (`load`) and for the command line; `--data` adds options: `NAME|F[:demos][:weight],...`.

`arc/reader.py` says what a name or path may be. Notable: a training task is a plain `Task` whose demonstrations are all the pairs to
learn from, solved tests among them, so that augmentation and canvas see exactly what is trained on.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, overload

from hrm_submit.arc.entries import Entry, Fault, read_task
from hrm_submit.arc.jsonio import located
from hrm_submit.arc.reader import Source, holds_tasks, read_source, source_names
from hrm_submit.arc.task import Grid, Pair, Solutions, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.core.errors import DataError
from hrm_submit.core.options import split_names
from hrm_submit.corpora.solutions import load_solutions, read_solved_task, sibling_solutions

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corpus:
    """One part of a mix: its name, the tasks, and whether their demonstrations alone are used (asked for by `:demos`)."""

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
    given = split_specs(specs)
    sources = [os.path.realpath(parse_spec(spec)[0]) for spec in given]
    for k, spec in enumerate(given):
        if sources[k] in sources[:k]:
            raise DataError(f"{spec}: is in the mix twice")
    corpora = dict[str, Corpus]()
    for spec in given:
        corpus = load_corpus(spec, corpora)
        corpora[corpus.name] = corpus
    return tuple(corpora.values())


def load_corpus(spec: str, taken: Collection[str] = ()) -> Corpus:
    """Load the tasks of `NAME|F[:demos][:weight]`, under a name that is not `taken`.

    `:demos` leaves test outputs out; so does a set that has none, which is logged. `:0.5` draws each of its tasks half as
    often as one of weight 1. Pairs, tasks and files that cannot be used are left out, counted and logged.
    Raises DataError, one line, for an unknown name (lists the known ones), a downloaded set that is not there (names the
    command that fetches it), a source that cannot be read, and where nothing is left.
    """
    text, demos_only, weight = parse_spec(spec)
    source = read_source(text, partial(read_solved_task, answers=not demos_only, more=True))
    known, faults, training = {} if demos_only else _beside(source), list(source.faults), list[TrainingTask]()
    numbered = (f"{source.name}-{n}" if n > 1 else source.name for n in count(1))
    name = next(name for name in numbered if name not in taken)
    for entry in source.entries:
        pairs, unsolved, left = _learnable(entry, known.get(entry.id))
        faults += left
        if pairs:
            task = Task(f"{name}/{entry.id}", pairs, unsolved)
            training.append(TrainingTask(task, entry.id, weight, generated=entry.generated))
    if faults and not training:
        raise DataError(faults[0].line)
    for line in left_out(faults):
        log.warning("%s: %s", text, line)
    for key in dict.fromkeys(key for entry in source.entries for key in entry.more):
        n = sum(len(entry.more.get(key, ())) for entry in source.entries)
        log.info("%s: %s", text, f"{n} pairs under {key!r} are used too" if n else f"what is under {key!r} is ignored")
    without = sum(bool(task.task.test) for task in training)
    if without and not demos_only:
        some = "it has no" if without == len(training) else f"{without} of its {len(training)} tasks have no"
        log.warning("%s: %s solutions, so only demonstrations are used there", text, some)
    return Corpus(name, tuple(training), demos_only)


def split_specs(specs: str) -> list[str]:
    """Split a mix at its commas; a path may hold commas itself."""
    return split_names(specs, lambda spec: os.path.exists(re.sub(r"(:demos|:[\d.]+)+$", "", spec)))


def parse_spec(spec: str) -> tuple[str, bool, float]:
    """Source, whether `:demos` was given, and weight (1 unless given) of `NAME|F[:demos][:weight]`. Raises DataError."""
    found = re.fullmatch(r"(.+?)((?::demos|:[-+.\de]+)*)", spec.strip())
    if not found:
        raise DataError(f"data {spec!r}: names neither a set nor a file")
    source, options = found[1], found[2].split(":")[1:]
    numbers = [option for option in options if option != "demos"]
    try:
        weight = float(numbers[0]) if len(numbers) == 1 else 0.0 if numbers else 1.0
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise DataError(f"{spec}: a weight should be one finite number above 0")
    name, _, rest = source.partition(":")
    if rest and (name in source_names() or Path(name).exists()) and not Path(source).exists():
        raise DataError(f"{spec}: {rest!r} is neither 'demos' nor a weight")
    return source, "demos" in options, weight


def load_source(source: str, *, solved: bool = True) -> tuple[str, dict[str, Task], Solutions]:
    """Load the short name, the tasks by id and the known solutions of a name or path without options.

    Tasks with a fault are left out with a warning. A task of pairs alone has no tests. Unless `solved`, no answer is read. Raises
    DataError where nothing is left, and where solutions do not fit their tasks.
    """
    found = read_source(source, read_solved_task if solved else read_task)
    faults, tasks = list(found.faults), dict[str, Task]()
    solutions: dict[str, tuple[Grid, ...]] = {}
    for entry in found.entries:
        outputs = tuple(grid for grid in entry.outputs if grid is not None)
        try:
            task = Task(entry.id, entry.train, ()) if entry.generated and entry.train else entry.task()
            if outputs and len(outputs) < len(task.test):
                gap, known = entry.outputs.index(None), next(k for k, grid in enumerate(entry.outputs) if grid is not None)
                raise DataError(located(entry.file, entry.id, f'test {gap}: has no "output", as test {known} has'))
        except DataError as error:
            faults.append(Fault("task", str(error)))
            continue
        tasks[entry.id] = task
        if outputs:
            solutions[entry.id] = outputs
    if not tasks:
        raise DataError(faults[0].line)
    for line in left_out(faults):
        log.warning("%s: %s", source, line)
    for task_id, beside in (_beside(found) if solved else {}).items():
        if task_id in tasks and len(beside) != len(tasks[task_id].test):
            wrong = f"has {len(beside)} outputs for {len(tasks[task_id].test)} test inputs"
            raise DataError(located((found.path and sibling_solutions(found.path)) or source, task_id, wrong))
        solutions[task_id] = beside
    return found.name, tasks, solutions


def answers_of(source: str | os.PathLike[str]) -> Solutions:
    """Load the known outputs by task id from a solutions file, or from tasks that carry them or have them beside. Raises DataError."""
    path = Path(source)
    if path.is_file() and path.suffix == ".json" and not holds_tasks(path):
        return load_solutions(path)
    solutions = load_source(os.fspath(source))[2]
    if not solutions:
        raise DataError(f"{os.fspath(source)}: has no solutions")
    return solutions


def left_out(faults: Iterable[Fault]) -> list[str]:
    """Summarize faults for a person: one line a reason, with their number and the first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        said = re.sub(r".*: (?![^{]*\})", "", fault.line).split(", the first")[0]  # not at a colon in braces
        reason = re.sub(r"""'[^']*'|"[^"]*"|\d+""", lambda found: "N" if found[0].isdigit() else found[0], said)
        groups.setdefault((fault.kind, reason), []).append(fault.line)
    return [
        f"{len(lines)} {kind}{'s' if len(lines) > 1 else ''} left out: {reason}; the first is {lines[0]}"
        for (kind, reason), lines in groups.items()
    ]


def _learnable(entry: Entry, beside: Sequence[Grid] | None) -> tuple[tuple[Pair, ...], tuple[Grid, ...], list[Fault]]:
    """Return the pairs to learn from (none of a broken task), the test inputs without known outputs, and what is left out.

    Outputs `beside`, from a file of their own, replace those of the entry.
    """
    faults = list(entry.faults)
    if any(fault.kind == "task" for fault in faults):
        return (), (), faults
    outputs: Sequence[Grid | None] = entry.outputs or [None] * len(entry.test)
    if beside is not None and len(beside) == len(entry.test):
        outputs = beside
    elif beside is not None:
        wrong = f"has {len(beside)} outputs for {len(entry.test)} test inputs"
        faults.append(Fault("task", located(entry.file, entry.id, wrong)))
    tests = [(given, wanted) for given, wanted in zip(entry.test, outputs, strict=True) if given is not None]
    solved = [Pair(given, wanted) for given, wanted in tests if wanted is not None]
    pairs = (*entry.train, *(pair for extra in entry.more.values() for pair in extra), *solved)
    if not pairs:
        faults.append(Fault("task", located(entry.file, entry.id, "has no pair to learn from")))
    return pairs, tuple(given for given, wanted in tests if wanted is None), faults


def _beside(source: Source) -> dict[str, tuple[Grid, ...]]:
    """Load the solutions in the file beside a challenges file."""
    sibling = sibling_solutions(source.path) if source.path is not None and source.path.is_file() else None
    return load_solutions(sibling) if sibling else {}
