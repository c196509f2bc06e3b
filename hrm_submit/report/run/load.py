"""All that a report is made from: the run folder, and the challenges and solutions files where there are any.

Notable: the answers come from the code with which `solve` resumes a run, so they are those of the submission file to the
cell, fallbacks included. Whatever cannot be used (a damaged line, a record without a time) is left out and named.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.challenges import BrokenTask, read_challenges
from hrm_submit.arc.entries import digest, source_names
from hrm_submit.arc.jsonio import FaultError, located
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import answers_of
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.record.events import Event, Plan, number, turns
from hrm_submit.record.folder import RunRecord, read_run, training_warning
from hrm_submit.run.answers import AnswerBook

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
    ends = [max((e.t for e in turn), default=0.0) for turn in each_turn]
    snapshots, newest = _predictions(record.predictions, ends, notes)
    candidates = {key: _candidates(line) for key, line in newest.items()}
    wanted = _wanted(record.events, (task for task, _ in candidates))
    order = (*tasks, *broken) or tuple(wanted)
    if tasks or broken:
        answers, answered = _answers(tasks, broken, replace(record, predictions=[dict(line) for line in newest.values()]))
    else:
        answers, answered = _answers_of_candidates(order, candidates)
    truth = _solutions(solutions, answers, tasks) if solutions is not None else None
    scope = tuple(t for t in order if t in wanted) if wanted else order
    if set(scope) | set(broken) == set(order):
        scope = order
    faults = {t: b.fault for t, b in broken.items()}
    notes += [*faults.values(), *(f"task {t!r}: in the run folder, but not among the challenges" for t in wanted if t not in answers)]
    return RunData(
        directory, record.run, each_turn, snapshots, candidates, order, scope, tasks, faults, answers, answered, truth, tuple(notes)
    )


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


def _predictions(
    lines: Iterable[Mapping[str, Any]], ends: Sequence[float], notes: list[str]
) -> tuple[tuple[Snapshot, ...], dict[tuple[str, int], Mapping[str, Any]]]:
    """Every prediction's best candidate, and the newest line of each (task, output) whose candidates can all be used."""
    snapshots: list[Snapshot] = []
    of_output: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    turn, before = 0, 0.0
    for line in lines:
        t, task, output, listed = number(line.get("t")), line.get("task"), line.get("output"), line.get("candidates")
        if t is None or not isinstance(task, str) or type(output) is not int or output < 0 or not isinstance(listed, list):
            notes.append(f"predictions.jsonl: a record is left out: it lacks a time, a task, an output or candidates: {_short(line)}")
            continue
        # Predictions do not say to which turn they belong; time that runs backwards or beyond a turn's end does.
        while turn < len(ends) - 1 and (t < before or t > ends[turn]):
            turn, before = turn + 1, 0.0
        before = t
        if not listed:
            continue
        try:
            best, votes_of = Candidate.from_json(listed[0]), sum(int(c["votes"]) for c in listed)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            notes.append(f"predictions.jsonl: a prediction of task {task!r} is left out: {error}")
            continue
        snapshots.append(Snapshot(turn, t, task, output, line.get("final") is True, best.grid, best.votes, votes_of))
        of_output.setdefault((task, output), []).append(line)
    newest = {}
    for key, found in of_output.items():
        for line in reversed(found):
            try:
                _candidates(line)
            except (TypeError, FaultError) as error:
                notes.append(f"predictions.jsonl: a prediction of task {key[0]!r} is left out: {error}")
                continue
            newest[key] = line
            break
    return tuple(snapshots), newest


def _candidates(line: Mapping[str, Any]) -> tuple[Candidate, ...]:
    return tuple(map(Candidate.from_json, line["candidates"]))


def _wanted(events: Iterable[Event], predicted: Iterable[str]) -> dict[str, None]:
    """Ids of the tasks that the run had to do or did something for."""
    wanted: dict[str, None] = {}
    for event in events:
        if isinstance(event, Plan):
            wanted.update(dict.fromkeys(event.todo or ()))
        if event.task is not None:
            wanted[event.task] = None
    return {**wanted, **dict.fromkeys(predicted)}


def _answers(
    tasks: Mapping[str, Task], broken: Mapping[str, BrokenTask], record: RunRecord
) -> tuple[Mapping[str, tuple[Attempts, ...]], frozenset[str]]:
    """The submission that `solve` makes of this folder, by its own code.

    `record` needs only the newest prediction of each output, as that is what a submission shows.
    """
    book = AnswerBook([*tasks, *broken], tasks, broken, Path("unwritten"))
    book.restore(record)
    return book.answers, frozenset(book.answered)


def _answers_of_candidates(
    order: tuple[str, ...], candidates: Mapping[tuple[str, int], tuple[Candidate, ...]]
) -> tuple[Mapping[str, tuple[Attempts, ...]], frozenset[str]]:
    """Attempts as far as they are known without the challenges, from which a fallback would come."""
    answers = {}
    for task in order:
        outputs = 1 + max((k for t, k in candidates if t == task), default=-1)
        answers[task] = tuple(two_attempts(candidates.get((task, k), ()), (NO_GRID, NO_GRID)) for k in range(outputs))
    return answers, frozenset(task for (task, _), found in candidates.items() if found)


def _solutions(path: Path, answers: Mapping[str, tuple[Attempts, ...]], tasks: Mapping[str, Task]) -> Solutions:
    solutions = answers_of(path)
    if not solutions.keys() & answers.keys():
        raise DataError(f"{path}: has no solution of any task of this run")
    for task_id, task in tasks.items():
        if task_id in solutions and len(solutions[task_id]) != len(task.test):
            fault = f"{len(solutions[task_id])} solutions for {len(task.test)} test inputs"
            raise DataError(located(path, task_id, fault))
    return solutions


def _short(line: Mapping[str, Any]) -> str:
    text = repr({k: v for k, v in line.items() if k != "candidates"})
    return text if len(text) <= 120 else text[:117] + "..."
