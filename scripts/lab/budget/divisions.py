"""What other divisions of the time would have solved of the tasks that were recorded, and the most that any division could.

Notable: between two votes on the way what is solved is taken to change evenly with the logarithm of time. A training that was given only
those seconds would have let its rates fall sooner and done a little more, so that all divisions but the recorded one are told somewhat too
low, short shares most. Shares by worth follow a curve that is fitted to other tasks. The oracle knows all answers, and at which vote each
was right: a knapsack, solved by dynamic programming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.report.run.statistics import Interval, draws
from lab.budget.curve import Outcome, SolvedCurve, fit_curve
from lab.budget.looks import Look
from lab.budget.seen import FOLDS, fold_of, folds_of
from lab.budget.worth import Slopes, halves, water_level

Floats = npt.NDArray[np.float64]
LEAST = 1.0
"""Segments that every task gets in shares by worth."""
BINS = 4000
"""Parts into which the oracle divides the time."""


@dataclass(frozen=True)
class Course:
    """One training of a task: seconds after which there were votes, outputs right at each, seconds of a segment, cells of the canvas."""

    task: str
    cells: int
    at: Floats
    right: npt.NDArray[np.int64]
    segment: float

    def solved(self, seconds: float) -> float:
        """Outputs right after so many seconds; none before the first vote."""
        return float(np.interp(np.log(max(seconds, 1e-9)), np.log(np.maximum(self.at, 1e-9)), self.right, left=0.0))


def courses(looks: Sequence[Look]) -> list[Course]:
    """The trainings of one run, in the order of their tasks' names."""
    by_task: dict[str, list[Look]] = {}
    for look in looks:
        by_task.setdefault(look.task, []).append(look)
    found = []
    for task in sorted(by_task):
        mine = by_task[task]
        outputs = sorted({k.output for k in mine})
        of_first = [k for k in mine if k.output == outputs[0]]
        right = np.array([[k.right for k in mine if k.output == output] for output in outputs], dtype=np.int64).sum(axis=0)
        last = of_first[-1]
        at = np.array([k.seconds for k in of_first])
        found.append(Course(task, last.cells, at, right, max(last.seconds, 1e-9) / max(1, last.segments)))
    return found


def divisions(looks: Sequence[Look], total: float) -> dict[str, dict[str, Floats]]:
    """Outputs solved of each task, by division and run, if the tasks of each run had `total` seconds of a worker in all. Raises ValueError
    where there are fewer tasks than folds."""
    runs = {run: courses([k for k in looks if k.run == run]) for run in sorted({k.run for k in looks})}
    found: dict[str, dict[str, Floats]] = {"equal": {}, "by worth": {}, "oracle": {}}
    curves = _curves(looks)
    for run, tasks in runs.items():
        equal = np.full(len(tasks), total / len(tasks))
        found["equal"][run] = _solved(tasks, equal)
        found["by worth"][run] = _solved(tasks, _by_worth(tasks, curves, total))
        found["oracle"][run] = _solved(tasks, _oracle(tasks, total))
    return found


def table(found: Mapping[str, Mapping[str, Floats]], outputs: int) -> pd.DataFrame:
    """A line for each division: outputs solved, a mean over runs, and how many more than by equal shares, with its 95 % interval."""
    rows = []
    for name, by_run in found.items():
        more = np.mean([by_run[run] - found["equal"][run] for run in by_run], axis=0)
        interval = Interval.of(more.sum(), draws(np.random.default_rng(0), len(more)) @ more)
        solved = float(np.mean([each.sum() for each in by_run.values()]))
        row = {"division": name, "solved": solved, "share": solved / outputs}
        rows.append(row | {"more": interval.value, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def _solved(tasks: Sequence[Course], seconds: Floats) -> Floats:
    return np.array([task.solved(float(s)) for task, s in zip(tasks, seconds, strict=True)], dtype=np.float64)


def _curves(looks: Sequence[Look]) -> list[SolvedCurve | None]:
    """For each fold the curve of the looks at all tasks outside it."""
    folds = folds_of(looks)
    return [
        fit_curve([Outcome(k.task, k.segments, k.cells, k.right) for k, fold in zip(looks, folds, strict=True) if fold != left_out])
        for left_out in range(FOLDS)
    ]


def _by_worth(tasks: Sequence[Course], curves: Sequence[SolvedCurve | None], total: float) -> Floats:
    """Each task's seconds when all are planned by the curve of its fold."""
    each, cells = np.array([t.segment for t in tasks]), np.array([t.cells for t in tasks], dtype=np.float64)
    planned: dict[int, Floats] = {}
    for fold in {fold_of(t.task) for t in tasks}:
        curve = curves[fold]
        law = curve.law() if curve else None
        if law is None:
            planned[fold] = np.full(len(tasks), total / len(tasks))
            continue
        half, slopes = halves(cells, law.half, law.growth), Slopes.of(law.power)
        planned[fold] = water_level(slopes, half, each, total, least=LEAST).seconds(slopes, half, each)
    seconds = np.array([planned[fold_of(t.task)][k] for k, t in enumerate(tasks)])
    return seconds * (total / seconds.sum())


def _oracle(tasks: Sequence[Course], total: float) -> Floats:
    """The seconds of each task by which most outputs are solved: those of one of its votes, or none."""
    best, chosen = np.zeros(BINS + 1), []
    for task in tasks:
        gained, option = best.copy(), np.full(BINS + 1, -1)
        for k, (at, right) in enumerate(zip(task.at, task.right, strict=True)):
            cost = math.ceil(at / total * BINS)
            if right and cost <= BINS:
                offered = np.concatenate([np.full(cost, -1.0), best[: BINS + 1 - cost] + right])
                better = offered > gained
                gained[better], option[better] = offered[better], k
        best = gained
        chosen.append(option)
    seconds, left = np.zeros(len(tasks)), BINS
    for n in range(len(tasks) - 1, -1, -1):
        k = int(chosen[n][left])
        if k >= 0:
            seconds[n] = tasks[n].at[k]
            left -= math.ceil(tasks[n].at[k] / total * BINS)
    return seconds
