"""`show`: a task, an answer or a run as a picture, in a notebook and in a terminal alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pandas import DataFrame

from hrm_submit.arc.choice import chosen
from hrm_submit.arc.reader import is_one_task, tasks_by_id
from hrm_submit.arc.task import Grid, Solutions, Task
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import answers_of, load
from hrm_submit.record.folder import open_tasks, read_description
from hrm_submit.report.data import RunData, challenges_of, load_run
from hrm_submit.report.grids import Output, answer_tiles, count, demonstrations_of
from hrm_submit.report.options import ShowOptions
from hrm_submit.report.picture import Picture, Section
from hrm_submit.report.tables import make_tables
from hrm_submit.solver.task_answer import TaskAnswer

MOST_TASKS = 4
"""Tasks of a run whose attempts are shown where none are named."""
RUN_COLUMNS = ["task", "state", "segments", "seconds", "demo_exact", "votes_share", "ended"]
"""What is shown of the table of a run's tasks."""


def show(
    what: Any, answer: TaskAnswer | None = None, *, solutions: Solutions | Sequence[Grid] | None = None, ids: Sequence[str] | None = None
) -> Picture:
    """Make a picture of `what`, which Jupyter draws and `print` shows as coloured blocks.

    A task, also as a dict of lists: its demonstrations and test inputs, the two attempts of `answer` at each test output where given, and
    the right outputs where `solutions` has them. An answer, as `Solver.solve` returns it, alone. Tasks, by id as `load` gives them or in a
    list: a contact sheet. A run folder, by its path: a table of its tasks, and the attempts at the tasks `ids` (default: the first few).

    `solutions` are the outputs of the one task, or all of them by task id; with them wrong cells are marked. Raises SolveError
    for a path that is no run folder, DataError for unknown ids or what is no task, TypeError for what fits nothing of this.
    """
    if isinstance(what, str | Path):
        if answer is not None or not isinstance(solutions, Mapping | None):
            raise TypeError("a run folder holds its answers, and takes solutions by task id")
        return _show_run(replace(load_run(Path(what)), solutions=solutions), ids)
    if isinstance(what, TaskAnswer):
        what, answer = what.task, what
    if not isinstance(what, Task | Mapping | list | tuple):
        raise TypeError(f"cannot show {type(what).__name__}: a task, several tasks, an answer or a run folder is needed")
    tasks, one = tasks_by_id(what), is_one_task(what)
    if answer is not None and not (one and isinstance(answer, TaskAnswer)):
        raise TypeError("an answer is what Solver.solve returns, and is shown with its task")
    return _show_task(next(iter(tasks.values())), answer, solutions) if one else contact_sheet(tasks)


def picture_of(options: ShowOptions) -> Picture:
    """Make the picture of tasks of `options.dataset`, or of the tasks of a run. Raises UserError."""
    source = str(options.dataset) if options.run_dir is None else challenges_of(read_description(options.run_dir, [])) or ""
    answers = None if options.solutions is None else options.solutions or source
    if answers == "":
        raise DataError(f"{options.run_dir}: its challenges are not there any more: give --solutions F")
    left = partial(_left, solutions=answers)
    if options.run_dir:
        run = load_run(options.run_dir, None, answers)
        every = {task: run.tasks.get(task) for task in run.answers}
        ids = chosen(options, every, run.directory, left) if options.chooses else None
        return _show_run(run, ids)
    tasks, solutions = load(source), None if answers is None else answers_of(answers)
    found = {task: tasks[task] for task in chosen(options, tasks, source, left)}
    if options.tasks is None:
        return contact_sheet(found, source)
    return _together(source, [_show_task(task, None, solutions) for task in found.values()])


def _together(title: str, pictures: Sequence[Picture]) -> Picture:
    """Join the pictures of tasks; one stays as it is."""
    if len(pictures) == 1:
        return pictures[0]
    headed = [[Section(p.title, p.sections[0].groups), *p.sections[1:]] for p in pictures]
    return Picture(title, [section for sections in headed for section in sections])


def contact_sheet(tasks: Mapping[str, Task], title: str = "tasks") -> Picture:
    """Show a table of the tasks and, on a page, the first demonstration of each."""
    pairs = [(name, *demonstrations_of(task)[0]) for name, task in tasks.items() if task.train]
    groups = [[replace(given, caption=name), replace(wanted, caption="")] for name, given, wanted in pairs]
    rows = [(name, len(task.train), len(task.test), task.largest_side) for name, task in tasks.items()]
    table = DataFrame(rows, columns=["task", "demonstrations", "tests", "largest side"])
    return Picture(title, [Section("", groups)], [count(len(tasks), "task")], table, sheet=True)


def _left(run_dir: Path, solutions: str | None) -> set[str]:
    """List the tasks that a run was to solve and did not or, without a source of `solutions`, left open."""
    if solutions is None:
        return open_tasks(run_dir)
    tasks = make_tables(load_run(run_dir, None, solutions)).tasks
    return set(tasks["task"][tasks["state"] != "solved"])


def _show_task(task: Task, answer: TaskAnswer | None, solutions: Solutions | Sequence[Grid] | None) -> Picture:
    """Show the demonstrations, then the test inputs with attempts and truth where given."""
    truth = solutions.get(task.id, ()) if isinstance(solutions, Mapping) else solutions or ()
    answered = zip(answer.attempts, answer.candidates, strict=True) if answer else ()
    found = [Output(attempts, candidates, sum(c.votes for c in candidates)) for attempts, candidates in answered]
    joined = zip_longest(found, task.test, truth[: len(task.test)])
    outputs = [replace(output or Output(), input=given, truth=right) for output, given, right in joined]
    tests = list(filter(None, answer_tiles(outputs)))
    return Picture(f"task {task.id}", [Section("", demonstrations_of(task)), Section("", tests)])


def _show_run(run: RunData, ids: Sequence[str] | None) -> Picture:
    """Show a run: counts, the table of its tasks, and attempts at the tasks `ids`, or at the first few that the model answered."""
    if unknown := [i for i in ids or () if i not in run.answers]:
        raise DataError(f"{run.directory}: has no task {', '.join(unknown)}")
    tables = make_tables(run)
    tasks, judged = tables.tasks, tables.outputs["solved"].dropna()
    scored = f"{judged.sum()} of {len(judged)} test outputs solved ({judged.mean():.1%})"
    lines = [
        scored if len(judged) else "not scored: no solutions were given",
        f"{tasks['answered'].sum()} of {len(tasks)} tasks answered by the model, right or wrong",
    ]
    states = dict(zip(tasks["task"], tasks["state"], strict=True))
    sections = []
    for task in tasks["task"][tasks["answered"]][:MOST_TASKS] if ids is None else ids:
        said = [f"task {task}", states.get(task, "unknown"), *([] if task in run.answered else ["answered by fallback"])]
        sections.append(Section(", ".join(said).replace(", unknown", ""), list(filter(None, answer_tiles(run.outputs(task))))))
    return Picture(f"run {run.directory}", sections, [*lines, *run.notes], tasks[RUN_COLUMNS].round(2).astype(object).fillna(""))
