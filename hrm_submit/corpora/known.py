"""Score answers from Python: `hrm_submit.score(task, answer)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hrm_submit.arc.reader import source_names
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
    task: Task | Mapping[str, Task], answer: Answer | Mapping[str, Answer], solutions: Solutions | Sequence[Grid] | None = None
) -> Score:
    """Score the answer to a task, or the answers by id to tasks by id, as the command `score` does.

    `solutions`: the outputs of the task, or by task id, as `load(..., solutions=True)` gives them. Without them they are looked up in
    the public sets. Raises DataError where no public set holds a task.
    """
    tasks = {task.id: task} if isinstance(task, Task) else task
    answers = answer if isinstance(answer, Mapping) else dict.fromkeys(tasks, answer)
    if isinstance(task, Task) == isinstance(answer, Mapping) or not all(hasattr(given, "attempts") for given in answers.values()):
        raise DataError("score takes a task and what Solver.solve returned, or tasks and answers by id")
    if solutions is None:
        solutions = public_solutions(tasks)
    known = solutions if isinstance(solutions, Mapping) else dict.fromkeys(tasks, tuple(solutions))
    return score({key: given.attempts for key, given in answers.items()}, {key: known[key] for key in tasks if key in known})


def public_solutions(tasks: Mapping[str, Task]) -> Solutions:
    """Look the outputs of `tasks` up in the public sets that are here, by id and test inputs. Raises DataError for one that none holds."""
    found: dict[str, tuple[Grid, ...]] = {}
    for name in source_names():
        if len(found) == len(tasks):
            break
        try:
            theirs, solutions = load(name, solutions=True)
        except DataError:  # not downloaded
            continue
        for key, task in tasks.items():
            same = theirs.get(task.id)
            alike = same is not None and len(same.test) == len(task.test) and all(map(same_grid, same.test, task.test))
            if key not in found and alike and task.id in solutions:
                found[key] = solutions[task.id]
    for key in tasks:
        if key not in found:
            raise DataError(f"{key}: no public set holds this task; give its solutions")
    return found
