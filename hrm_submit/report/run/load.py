"""All that a report is made from: the run folder, and the challenges and solutions files where there are any.

Notable: the answers come from the code with which `solve` resumes a run, so they are those of the submission file to the
cell, fallbacks included. Whatever cannot be used (a damaged line, a record without a time) is left out and named.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.challenges import BrokenTask, read_challenges
from hrm_submit.arc.jsonio import located
from hrm_submit.arc.reader import digest, source_names
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import answers_of
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Event, Plan
from hrm_submit.record.folder import read_run, training_warning
from hrm_submit.record.predictions import Prediction, answers_from, fallback_answers
from hrm_submit.report.run.timeline import turns

NO_GRID: Grid = np.zeros((0, 0), dtype=np.uint8)
"""Stands for an answer that nobody knows: it equals no grid."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The best candidate of one test output at one moment; `votes` of `votes_of` counted ones were for it."""

    turn: int
    t: float
    task: str
    output: int
    final: bool
    grid: Grid
    votes: int
    votes_of: int


@dataclass(frozen=True, eq=False)
class RunData:
    """A run and what belongs to it. Mappings are by task id."""

    directory: Path
    run: Mapping[str, Any]
    """`run.json`; of several turns that of the last."""
    turns: Sequence[Sequence[Event]]
    """The events of each start of the run, at least one list, each with its own clock."""
    snapshots: tuple[Snapshot, ...]
    candidates: Mapping[tuple[str, int], tuple[Candidate, ...]]
    """Of each (task, output) the newest, best first."""
    order: tuple[str, ...]
    """Every task that the submission has, in the file's order."""
    scope: tuple[str, ...]
    """Those of them that the run was to solve: all, but with `--tasks`."""
    tasks: Mapping[str, Task]
    """Empty where no challenges file is at hand."""
    faults: Mapping[str, str]
    """Of tasks that cannot be used, why."""
    answers: Mapping[str, tuple[Attempts, ...]]
    answered: frozenset[str]
    """Tasks for which the model gave a candidate; all others have fallback answers."""
    solutions: Solutions | None
    notes: tuple[str, ...]
    """Damaged lines (`file:line: fault`), and what else was left out."""

    @property
    def events(self) -> Iterator[Event]:
        """Those of all turns."""
        return chain.from_iterable(self.turns)


def fit_of(run: Mapping[str, Any]) -> float:
    """`[ttt] fit` of the preset that `run` (`run.json`) names, else the default: from which share of its demonstrations a task has
    fit them."""
    try:
        return float(run["config"]["ttt"]["fit"])
    except (KeyError, TypeError, ValueError):
        return TTTConfig().fit


def load_run(directory: Path, challenges: Path | None = None, solutions: Path | None = None) -> RunData:
    """Read a run folder, whole or of a killed run.

    Without `challenges` the file that `run.json` names is used, where it is still there and unchanged. Raises SolveError
    where there is no run folder, DataError for a file that is not what it should be or belongs to another run.
    """
    with _collector_at_rest():
        return _load(directory, challenges, solutions)


def _load(directory: Path, challenges: Path | None, solutions: Path | None) -> RunData:
    record = read_run(directory)
    notes = [*filter(None, [training_warning(record.run)]), *record.damaged]
    tasks, broken = _challenges(record.run, challenges, notes)
    each_turn = turns(record.events)
    snapshots = tuple(_snapshot(p) for p in record.predictions if p.candidates)
    candidates = {(p.task, p.output): p.candidates for p in record.predictions if p.candidates}
    wanted = _wanted(record.events, (task for task, _ in candidates))
    order = (*tasks, *broken) or tuple(wanted)
    sizes: dict[str, int] = {}
    for name, k in candidates:
        sizes[name] = max(sizes.get(name, 0), k + 1)
    unknown = {name: [(NO_GRID, NO_GRID)] * sizes.get(name, 0) for name in order}
    found = answers_from(fallback_answers(tasks, broken) or unknown, record.predictions)
    answers, answered = {name: tuple(attempts) for name, attempts in found.attempts.items()}, frozenset(found.answered)
    truth = _solutions(solutions, answers, tasks) if solutions is not None else None
    scope = tuple(t for t in order if t in wanted) if wanted else order
    if set(scope) | set(broken) == set(order):
        scope = order
    faults = {t: b.fault for t, b in broken.items()}
    notes += [*faults.values(), *(f"task {t!r}: in the run folder, but not among the challenges" for t in wanted if t not in answers)]
    return RunData(
        directory, record.run, each_turn, snapshots, candidates, order, scope, tasks, faults, answers, answered, truth, tuple(notes)
    )


def _snapshot(p: Prediction) -> Snapshot:
    best = p.candidates[0]
    return Snapshot(p.attempt - 1, p.t, p.task, p.output, p.final, best.grid, best.votes, sum(c.votes for c in p.candidates))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Candidates are millions of small lists without a cycle, which the garbage collector would look through again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _challenges(run: Mapping[str, Any], explicit: Path | None, notes: list[str]) -> tuple[Mapping[str, Task], Mapping[str, BrokenTask]]:
    path = explicit or (Path(run["challenges"]) if isinstance(run.get("challenges"), str) else None)
    if path is None:
        notes.append("the run folder names no challenges file (--challenges does): no demonstrations are shown")
        return {}, {}
    if explicit is None and not (path.exists() or str(path) in source_names()):
        notes.append(f"{path}: the challenges file is not there (--challenges names it): no demonstrations are shown")
        return {}, {}
    found = read_challenges(path)
    content = run.get("challenges_sha256")
    if content is not None and content != digest(path):
        if explicit is not None:
            raise DataError(f"{path}: is not the challenges file of this run, or was changed since")
        notes.append(f"{path}: the challenges file was changed since the run (--challenges names the right one): none is used")
        return {}, {}
    return found


def _wanted(events: Iterable[Event], predicted: Iterable[str]) -> dict[str, None]:
    """Ids of the tasks that the run had to do or did something for."""
    wanted: dict[str, None] = {}
    for event in events:
        if isinstance(event, Plan):
            wanted.update(dict.fromkeys(event.todo or ()))
        if event.task is not None:
            wanted[event.task] = None
    return {**wanted, **dict.fromkeys(predicted)}


def _solutions(path: Path, answers: Mapping[str, tuple[Attempts, ...]], tasks: Mapping[str, Task]) -> Solutions:
    solutions = answers_of(path)
    if not solutions.keys() & answers.keys():
        raise DataError(f"{path}: has no solution of any task of this run")
    for task_id, task in tasks.items():
        if task_id in solutions and len(solutions[task_id]) != len(task.test):
            fault = f"{len(solutions[task_id])} solutions for {len(task.test)} test inputs"
            raise DataError(located(path, task_id, fault))
    return solutions
