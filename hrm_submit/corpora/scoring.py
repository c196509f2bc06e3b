"""Scores of a submission: Kaggle's own, and those that published work quotes, from one pass over the solutions.

`score_answers` is `hrm_submit.score`: it takes what `hrm_submit.Solver` returns.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.reader import AnyTask, is_one_task, source_names, tasks_by_id
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Solutions, Task, same_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import load

Floats: TypeAlias = npt.NDArray[np.float64]

Score = TypedDict(
    "Score",
    {
        "pass@1": float,
        "pass@2": float,
        "task_pass@2": float,
        "mean_task_pass@2": float,
        "cell_accuracy": float,
        "counts": dict[str, int],
    },
)
"""All within 0..1 but `counts`: there `missing` are test outputs that the submission has no answer for, `malformed` attempts that are no
grids. `pass@k`: share of test outputs that one of the first k attempts equals (`pass@2` is Kaggle's
score); `task_pass@2`: share of tasks with every output right (as HRM's evaluator counts); `mean_task_pass@2`: mean over
tasks of the share of their outputs that are right (as TRM's does); `cell_accuracy`: mean over test outputs of the share of
cells that the first attempt has right, 0 where its shape is another."""


@dataclass(frozen=True)
class OutputResult:
    """How the two attempts at one test output did: which are right, and the share of cells, 0..1, that each has right."""

    first: bool = False
    second: bool = False
    cells: float = 0.0
    second_cells: float = 0.0

    @property
    def solved(self) -> bool:
        """Whether either attempt is right."""
        return self.first or self.second


def score(submission: Mapping[str, Sequence[Attempts]], solutions: Solutions, malformed: int = 0) -> Score:
    """Score over every task of `solutions`. A task or output that the submission lacks is wrong; tasks that only the submission has do not
    count. Raises DataError where there are no solutions."""
    rows = by_task(submission, solutions)
    sums = rows.sum(axis=0)
    names = ("tasks", "outputs", "solved_outputs@1", "solved_outputs@2", "solved_tasks", "missing")
    counts = dict(zip(names, sums.astype(int).tolist(), strict=False)) | {"malformed": malformed}
    return cast(Score, {name: float(value) for name, value in shares(sums).items()} | {"counts": counts})


def by_task(submission: Mapping[str, Sequence[Attempts]], solutions: Solutions) -> Floats:
    """Count for each task of `solutions`, (tasks, 8): 1, its outputs, those right at first and at either attempt, whether all are right,
    those without an answer, the share that is right, and the sum of its outputs' shares of right cells. Raises DataError without any."""
    if not any(solutions.values()):
        raise DataError("no solutions to score against")
    rows = []
    for task_id, outputs in solutions.items():
        answers = submission.get(task_id, ())
        results = task_results(answers, outputs)
        n, solved = len(results), sum(r.solved for r in results)
        right = sum(r.first for r in results), solved, solved == n
        rows.append((1, n, *right, max(0, n - len(answers)), solved / n, sum(r.cells for r in results)))
    return np.array(rows, dtype=np.float64)


def shares(sums: Floats) -> dict[str, Floats]:
    """Make the figures of a score from sums (..., 8) of rows of `by_task`."""
    tasks, outputs, first, solved, whole, _, share, cells = np.moveaxis(sums, -1, 0)
    by_output = {"pass@1": first / outputs, "pass@2": solved / outputs}
    return by_output | {"task_pass@2": whole / tasks, "mean_task_pass@2": share / tasks, "cell_accuracy": cells / outputs}


def task_results(answers: Sequence[Attempts], outputs: Sequence[Grid]) -> list[OutputResult]:
    """Judge the answer to each test output of one task; answers beyond the last output are ignored."""
    results = []
    for attempts, wanted in zip(answers, outputs, strict=False):
        right = (same_grid(grid, wanted) for grid in attempts)
        cells = (float((grid == wanted).mean()) if grid.shape == wanted.shape else 0.0 for grid in attempts)
        results.append(OutputResult(*right, *cells))
    return results + [OutputResult()] * (len(outputs) - len(results))


def score_answers(
    task: AnyTask | Mapping[str, AnyTask] | Iterable[AnyTask],
    answer: Any,
    solutions: Solutions | Sequence[Grid] | None = None,
) -> Score:
    """Score the answer of `hrm_submit.Solver` to a task, or its answers by id to several tasks, as the command `score` does.

    `solutions`: the outputs of the task, or by task id, as `load(..., solutions=True)` gives them. Without them they are looked up in
    the public sets. Raises DataError where no public set holds a task.
    """
    tasks, one = tasks_by_id(task), is_one_task(task)
    answers = answer if isinstance(answer, Mapping) else dict.fromkeys(tasks, answer)
    if one == isinstance(answer, Mapping) or not all(hasattr(given, "attempts") for given in answers.values()):
        raise DataError("score takes a task and what Solver.solve returned, or tasks and their answers by id")
    if solutions is None:
        solutions = _public_solutions(tasks)
    if not one and not isinstance(solutions, Mapping):
        raise DataError("score takes the solutions of several tasks by id")
    known = solutions if isinstance(solutions, Mapping) else dict.fromkeys(tasks, tuple(solutions))
    return score({key: given.attempts for key, given in answers.items()}, {key: known[key] for key in tasks if key in known})


def _public_solutions(tasks: Mapping[str, Task]) -> Solutions:
    """Look the outputs of `tasks` up in the public sets that are here, by id and test inputs. Raises DataError for one that none holds."""
    found: dict[str, tuple[Grid, ...]] = {}
    for name in source_names():
        if found.keys() == tasks.keys():
            break
        with suppress(DataError):  # not downloaded
            theirs, solutions = load(name, solutions=True)
            for key, task in tasks.items():
                if task.id in solutions and _same_tests(task, theirs[task.id]):
                    found.setdefault(key, solutions[task.id])
    if unknown := [key for key in tasks if key not in found]:
        raise DataError(f"{unknown[0]}: no public set holds this task; give its solutions")
    return found


def _same_tests(task: Task, other: Task) -> bool:
    return len(task.test) == len(other.test) and all(map(same_grid, task.test, other.test))
