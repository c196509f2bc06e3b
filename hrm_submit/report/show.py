"""`show`: a task, a prediction or a run as a picture, in a notebook and in a terminal alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrm_submit.arc.choice import chosen
from hrm_submit.arc.jsonio import FaultError, parse_grid
from hrm_submit.arc.reader import as_task, tasks_by_id
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import task_results
from hrm_submit.corpora.solutions import sibling_solutions
from hrm_submit.corpora.sources import answers_of, load_source
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import open_tasks
from hrm_submit.report.data import RunData, load_run
from hrm_submit.report.grids import Output, Tile
from hrm_submit.report.options import ShowOptions
from hrm_submit.report.picture import ContactSheet, Picture, Section
from hrm_submit.solver.task_answer import TaskAnswer

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_TASKS = 4
"""Tasks of a run whose attempts are shown where none are named."""


def show(
    what: Any, prediction: Any = None, *, solutions: Solutions | Sequence[Grid] | None = None, ids: Sequence[str] | None = None
) -> Picture:
    """Make a picture of `what`, which Jupyter draws and `print` shows as coloured blocks.

    A task, also as a dict of lists: its demonstrations and test inputs, the two attempts of `prediction` at each test output where
    given, and the right outputs where `solutions` has them. A prediction, here or alone, may be what `Solver.solve` returns, a
    submission's entry (pairs of grids), or lists of candidates. Tasks, by id as `load` gives them or in a list: a contact sheet or, with
    predictions by id, the tasks that these answer. A run folder, by its path or as `load_run` read it: a table of its tasks, and the
    attempts at the tasks `ids` (default: the first few).

    `solutions` are the outputs of the one task, or all of them by task id; with them wrong cells are marked. Raises SolveError
    for a path that is no run folder, DataError for unknown ids or a dict that is no task, TypeError for anything else.
    """
    if isinstance(what, TaskAnswer):
        what, prediction = what.task, what
    if isinstance(what, Task) or (isinstance(what, Mapping) and "train" in what):
        return _show_task(as_task(what), prediction, solutions)
    several = what.values() if isinstance(what, Mapping) else what if isinstance(what, list | tuple) else ()
    if several and all(isinstance(task, Task) for task in several):
        tasks = tasks_by_id(what)
        if prediction is None:
            return contact_sheet(tasks)
        if not isinstance(prediction, Mapping) or not (solutions is None or isinstance(solutions, Mapping)):
            raise TypeError("predictions for several tasks, and their solutions, must be given by task id")
        if unknown := [task for task in prediction if task not in tasks]:
            raise DataError(f"there is no task {', '.join(unknown)}")
        return _together("tasks", [show(tasks[task], answer, solutions=solutions) for task, answer in prediction.items()])
    if isinstance(what, str | Path | RunData):
        if prediction is not None:
            raise TypeError("a run folder holds its predictions: show it alone")
        if solutions is not None and not isinstance(solutions, Mapping):
            raise TypeError("a run has many tasks: its solutions must be given by task id")
        run = what if isinstance(what, RunData) else load_run(Path(what))
        return _show_run(run if solutions is None else replace(run, solutions=solutions), ids)
    return Picture("prediction", (_tests(_outputs(_answers(what), (), _truth(solutions, None))),))


def picture_of(options: ShowOptions) -> Picture:
    """Make the picture of a task of `options.dataset`, or of the tasks of a run. Raises UserError."""
    if options.run_dir is not None:
        run = load_run(options.run_dir)
        given = run.run.get("challenges")
        solutions = _solutions(given if isinstance(given, str) else None, options.solutions)
        every = {task: run.tasks.get(task) for task in run.answers}
        ids = chosen(options, every, run.directory, lambda other: _left(other, solutions)) if options.chooses else None
        return show(run, solutions=solutions, ids=ids)
    name = str(options.dataset)
    _, tasks, answers = load_source(name, solved=options.solutions == "")
    solutions = (answers if options.solutions == "" else {}) or _solutions(name, options.solutions)
    found = {task: tasks[task] for task in chosen(options, tasks, name, lambda other: _left(other, solutions))}
    if options.tasks is None:
        return contact_sheet(found, name)
    return _together(name, [show(task, solutions=solutions) for task in found.values()])


def _together(title: str, pictures: Sequence[Picture]) -> Picture:
    """Join the pictures of tasks; one stays as it is."""
    if len(pictures) == 1:
        return pictures[0]
    headed = [(replace(p.sections[0], heading=p.title), *p.sections[1:]) for p in pictures]
    return Picture(title, tuple(section for sections in headed for section in sections))


def contact_sheet(tasks: Mapping[str, Task], title: str = "tasks") -> ContactSheet:
    """Show the first demonstration of each task on a page, and a table of the tasks in a terminal."""
    from pandas import DataFrame

    sections, rows = [], []
    for name, task in tasks.items():
        pairs = (Tile("input", task.train[0].input), Tile("output", task.train[0].output)) if task.train else ()
        sections.append(Section(name, (pairs,)))
        sizes = ", ".join("x".join(map(str, pair.input.shape)) + " to " + "x".join(map(str, pair.output.shape)) for pair in task.train[:1])
        rows.append((name, len(task.train), len(task.test), task.largest_side, sizes))
    table = DataFrame(rows, columns=["task", "demonstrations", "tests", "largest side", "first demonstration"])
    return ContactSheet(title, tuple(sections), (f"{len(tasks)} task{'s' * (len(tasks) > 1)}",), table)


def _left(run_dir: Path, solutions: Solutions | None) -> set[str]:
    """List the tasks that a run was to solve and did not or, without `solutions`, left open."""
    if solutions is None:
        return open_tasks(run_dir)
    run = load_run(run_dir)
    known = {task: task_results(run.answers[task], solutions.get(task, ())) for task in run.scope}
    return {task for task, outputs in known.items() if not outputs or not all(output.solved for output in outputs)}


def _solutions(challenges: str | None, asked: str | None) -> Solutions | None:
    if asked is None:
        return None
    path = Path(asked) if asked else sibling_solutions(challenges) if challenges else None
    if path is None:
        raise DataError(f"{challenges}: no solutions file lies beside it; --solutions F names one")
    return answers_of(path)


def _truth(solutions: Solutions | Sequence[Grid] | None, task_id: str | None) -> Sequence[Grid]:
    if isinstance(solutions, Mapping):
        return solutions.get(task_id, ()) if task_id is not None else ()
    return solutions or ()


def _show_task(task: Task, prediction: Any, solutions: Solutions | Sequence[Grid] | None) -> Picture:
    """Show the demonstrations, then the test inputs with attempts and truth where given."""
    shown = tuple((Tile(f"input {n}", pair.input), Tile(f"output {n}", pair.output)) for n, pair in enumerate(task.train, 1))
    answers = [] if prediction is None else _answers(prediction)
    tests = _tests(_outputs(answers, task.test, _truth(solutions, task.id)))
    return Picture(f"task {task.id}", (Section("", (*shown, *tests.groups)),) if prediction is None else (Section("", shown), tests))


def _tests(outputs: Sequence[Output], heading: str = "", other: str = "") -> Section:
    """Group for each test output the test input, the attempts and the truth, as far as they are known."""
    groups = []
    for k, output in enumerate(outputs, 1):
        tiles = [] if output.input is None else [Tile("test input" if len(outputs) == 1 else f"test input {k}", output.input)]
        tiles += [*output.tiles(other=other), *([] if output.truth is None else [Tile("answer", output.truth)])]
        groups.append(tuple(tile for tile in tiles if tile.grid.size))
    return Section(heading, tuple(filter(None, groups)))


def _outputs(answers: Sequence[Output], inputs: Sequence[Grid], truth: Sequence[Grid]) -> list[Output]:
    """Join answers with the test inputs and the truth."""
    found = zip_longest(answers, inputs, truth[: max(len(answers), len(inputs))])
    return [replace(answer or Output(), input=given, truth=right) for answer, given, right in found]


def _answers(what: Any) -> list[Output]:
    """Read a prediction in any of its forms. Raises TypeError for what is none."""
    if isinstance(what, TaskAnswer):
        return [Output(a, found, sum(c.votes for c in found)) for a, found in zip(what.attempts, what.candidates, strict=True)]
    if isinstance(what, Mapping) or not isinstance(what, Iterable) or isinstance(what, str | bytes | np.ndarray):
        raise TypeError(f"cannot show {type(what).__name__}: a Task, a run folder or the predictions for a task's outputs are needed")
    outputs = list(what)
    if outputs and all(isinstance(x, Candidate) for x in outputs):  # of a task's only output
        outputs = [outputs]
    return [_answer(list(x.values()) if isinstance(x, Mapping) else x) for x in outputs]


def _answer(grids: Any) -> Output:
    """Read candidates or grids, as arrays or as lists of rows; what is no grid is left out."""
    if not isinstance(grids, list | tuple):
        raise TypeError("a prediction has for each output its candidates or its pair of attempts")
    if all(isinstance(x, Candidate) for x in grids):
        return Output([c.grid for c in grids[:2]], grids, sum(c.votes for c in grids))
    attempts = []
    for cells in grids[:2]:
        with suppress(FaultError):
            attempts.append(parse_grid(cells.tolist() if isinstance(cells, np.ndarray) else cells, "attempt"))
    return Output(attempts)


def _show_run(run: RunData, ids: Sequence[str] | None) -> Picture:
    """Show a run: counts, the table of its tasks, and attempts at the tasks `ids`, or at a few of each state."""
    from hrm_submit.report.tables import make_tables

    unknown = [i for i in ids or () if i not in run.answers]
    if unknown:
        raise DataError(f"{run.directory}: has no task {', '.join(unknown)}")
    tables = make_tables(run)
    tasks, judged = tables.tasks, tables.outputs["solved"].dropna()
    lines = ["not scored: no solutions were given"]
    if len(judged):
        lines = [f"{int(judged.sum())} of {len(judged)} test outputs solved ({judged.mean():.1%})"]
    lines.append(f"{int(tasks['answered'].sum())} of {len(tasks)} tasks answered by the model, right or wrong")
    if ids is None:  # of each state the first, then of each the second, and so on
        answered = tasks[tasks["answered"]]
        order = answered.groupby("state").cumcount().sort_values(kind="stable")
        ids = [str(task) for task in answered.loc[order.index[:MOST_TASKS], "task"]]
    states = dict(zip(tasks["task"], tasks["state"], strict=True))
    sections = tuple(_run_task(run, task, str(states.get(task, "unknown"))) for task in ids)
    return Picture(f"run {run.directory}", sections, (*lines, *run.notes), _summary(tasks, tables.outputs))


def _run_task(run: RunData, task: str, state: str) -> Section:
    said = [f"task {task}"] + ([] if state == "unknown" else [state]) + ([] if task in run.answered else ["answered by fallback"])
    return _tests(run.outputs(task), ", ".join(said), "fallback")


def _summary(tasks: DataFrame, outputs: DataFrame) -> DataFrame:
    """Cut the table of tasks to what a person reads: fewer columns, figures rounded, blanks where nothing is known."""
    votes = outputs["votes"].astype("string") + " of " + outputs["votes_of"].astype("string")
    shown = tasks[["task", "state", "segments"]].astype("string")
    if (tasks["state"] == "unknown").all():
        del shown["state"]
    shown["time"] = tasks["seconds"].map(format_duration, na_action="ignore")
    shown["demonstrations"] = tasks["demo_exact"].map("{:.0%}".format, na_action="ignore")
    shown["votes"] = tasks["task"].map(votes.fillna("none").groupby(outputs["task"]).agg(", ".join))
    shown["ended"] = tasks["ended"]
    return shown.astype(object).fillna("")
