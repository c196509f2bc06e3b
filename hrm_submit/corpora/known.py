"""Score answers from Python: `hrm_submit.score(task, answer)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from hrm_submit.arc.reader import source_names, tasks_by_id
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Solutions, Task, same_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import Score, score
from hrm_submit.corpora.sources import load


class Answer(Protocol):
    """What `hrm_submit.Solver` returns, or anything with two attempts at each test output."""

    @property
    def attempts(self) -> Sequence[Attempts]: ...


def score_answers(
    task: Task | Mapping[str, Task] | Iterable[Task],
    answer: Answer | Mapping[str, Answer],
    solutions: Solutions | Sequence[Grid] | None = None,
) -> Score:
    """Score the answer to a task, or the answers by id to several tasks, as the command `score` does.

    `solutions`: the outputs of the task, or by task id, as `load(..., solutions=True)` gives them. Without them they are looked up in
    the public sets. Raises DataError where no public set holds a task.
    """
    tasks = tasks_by_id(task)
    answers = answer if isinstance(answer, Mapping) else dict.fromkeys(tasks, answer)
    if isinstance(task, Task) == isinstance(answer, Mapping) or not all(hasattr(given, "attempts") for given in answers.values()):
        raise DataError("score takes a task and what Solver.solve returned, or tasks and their answers by id")
    if solutions is None:
        solutions = public_solutions(tasks)
    known = solutions if isinstance(solutions, Mapping) else dict.fromkeys(tasks, tuple(solutions))
    return score({key: given.attempts for key, given in answers.items()}, {key: known[key] for key in tasks if key in known})


def public_solutions(tasks: Mapping[str, Task]) -> Solutions:
    """Look the outputs of `tasks` up in the public sets that are here, by id and test inputs. Raises DataError for one that none holds."""
    found: dict[str, tuple[Grid, ...]] = {}
    for name in source_names():
        if found.keys() == tasks.keys():
            break
        with suppress(DataError):  # not downloaded
            theirs, solutions = load(name, solutions=True)
            alike = {key for key, task in tasks.items() if task.id in solutions and _same_tests(task, theirs[task.id])}
            found = {key: solutions[tasks[key].id] for key in alike} | found
    if unknown := [key for key in tasks if key not in found]:
        raise DataError(f"{unknown[0]}: no public set holds this task; give its solutions")
    return found


def _same_tests(task: Task, other: Task) -> bool:
    return len(task.test) == len(other.test) and all(map(same_grid, task.test, other.test))
