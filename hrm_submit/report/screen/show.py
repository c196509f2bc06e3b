"""`show`: a task, a prediction or a run as a picture, in a notebook and in a terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrm_submit.arc.challenges import as_task
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.report.run.load import RunData, load_run
from hrm_submit.report.screen.picture import Picture
from hrm_submit.report.screen.prediction import guesses, prediction_section, show_task
from hrm_submit.report.screen.show_run import show_run
from hrm_submit.solver.task_answer import TaskAnswer


def show(
    what: Any, prediction: Any = None, *, solutions: Solutions | Sequence[Grid] | None = None, ids: Sequence[str] | None = None
) -> Picture:
    """A picture of `what`, which Jupyter draws and `print` shows as coloured blocks.

    A task, also as a dict of lists: its demonstrations and test inputs, the two attempts of `prediction` at each test output where
    given, and the right outputs where `solutions` has them. A prediction, here or alone, may be what `Solver.solve` returns, a
    submission's entry (pairs of grids), lists of candidates (`.grid`, `.votes`, `.score`), or lines of `predictions.jsonl`. A run
    folder, by its path or as `load_run` read it: a table of its tasks, its time line, and the attempts at the tasks `ids` (default:
    the first few).

    `solutions` are the outputs of the one task, or all of them by task id; with them wrong cells are marked. Raises SolveError
    for a path that is no run folder, DataError for ids that the run has not or a dict that is no task, TypeError for anything else.
    """
    if isinstance(what, TaskAnswer):
        what, prediction = what.task, what
    if isinstance(what, Task) or (isinstance(what, Mapping) and "train" in what):
        task = as_task(what)
        return show_task(task, _answers(solutions, task.id), None if prediction is None else guesses(prediction))
    if isinstance(what, str | Path | RunData):
        if solutions is not None and not isinstance(solutions, Mapping):
            raise TypeError("a run has many tasks: its solutions must be given by task id")
        run = what if isinstance(what, RunData) else load_run(Path(what))
        return show_run(run if solutions is None else replace(run, solutions=solutions), ids)
    return Picture("prediction", (prediction_section(guesses(what), None, _answers(solutions, None)),))


def _answers(solutions: Solutions | Sequence[Grid] | None, task_id: str | None) -> Sequence[Grid]:
    if isinstance(solutions, Mapping):
        return solutions.get(task_id, ()) if task_id is not None else ()
    return solutions or ()
