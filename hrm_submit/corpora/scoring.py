"""Scores of a submission: Kaggle's own, and those that published work quotes, from one pass over the solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Grid, Solutions, same_grid
from hrm_submit.core.errors import DataError

Counts = TypedDict(
    "Counts",
    {"tasks": int, "outputs": int, "solved_outputs@1": int, "solved_outputs@2": int, "solved_tasks": int, "missing": int, "malformed": int},
)
"""`missing`: test outputs that the submission has no answer for; `malformed`: attempts that are no grids."""

Score = TypedDict(
    "Score",
    {
        "pass@1": float,
        "pass@2": float,
        "task_pass@2": float,
        "mean_task_pass@2": float,
        "cell_accuracy": float,
        "counts": Counts,
    },
)
"""All within 0..1 but `counts`. `pass@k`: share of test outputs that one of the first k attempts equals (`pass@2` is Kaggle's
score); `task_pass@2`: share of tasks with every output right (as HRM's evaluator counts); `mean_task_pass@2`: mean over
tasks of the share of their outputs that are right (as TRM's does); `cell_accuracy`: mean over test outputs of the share of
cells that the first attempt has right, 0 where its shape is another."""


@dataclass(frozen=True)
class OutputResult:
    """How the two attempts at one test output did."""

    first: bool
    second: bool
    cells: float
    """Share of cells that the first attempt has right, 0..1."""
    answered: bool = True

    @property
    def solved(self) -> bool:
        """Whether either attempt is right."""
        return self.first or self.second


def score(submission: Mapping[str, Sequence[Attempts]], solutions: Solutions, malformed: int = 0) -> Score:
    """Scores over every task of `solutions`. A task or output that the submission lacks is wrong; tasks that only the
    submission has do not count. Raises DataError where there are no solutions."""
    if not any(solutions.values()):
        raise DataError("no solutions to score against")
    tasks = [task_results(submission.get(task_id, ()), outputs) for task_id, outputs in solutions.items()]
    results = [result for task in tasks for result in task]
    counts: Counts = {
        "tasks": len(tasks),
        "outputs": len(results),
        "solved_outputs@1": sum(result.first for result in results),
        "solved_outputs@2": sum(result.solved for result in results),
        "solved_tasks": sum(all(result.solved for result in task) for task in tasks),
        "missing": sum(not result.answered for result in results),
        "malformed": malformed,
    }
    return {
        "pass@1": counts["solved_outputs@1"] / len(results),
        "pass@2": counts["solved_outputs@2"] / len(results),
        "task_pass@2": counts["solved_tasks"] / len(tasks),
        "mean_task_pass@2": sum(sum(result.solved for result in task) / len(task) for task in tasks) / len(tasks),
        "cell_accuracy": sum(result.cells for result in results) / len(results),
        "counts": counts,
    }


def task_results(answers: Sequence[Attempts], outputs: Sequence[Grid]) -> list[OutputResult]:
    """How each test output of one task was answered; answers beyond the last output are ignored."""
    results = []
    for k, wanted in enumerate(outputs):
        if k >= len(answers):
            results.append(OutputResult(False, False, 0.0, answered=False))
            continue
        first, second = answers[k]
        cells = float((first == wanted).mean()) if first.shape == wanted.shape else 0.0
        results.append(OutputResult(same_grid(first, wanted), same_grid(second, wanted), cells))
    return results
