"""A run as a picture: a line of counts, the table of its tasks, its time line, and the attempts at a few tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hrm_submit.arc.task import Grid
from hrm_submit.core.clock import format_duration
from hrm_submit.core.errors import DataError
from hrm_submit.report.run.load import RunData
from hrm_submit.report.run.timeline import Timeline, read_timeline
from hrm_submit.report.run.words import known
from hrm_submit.report.screen.picture import Picture, Section
from hrm_submit.report.screen.prediction import Guess, prediction_section

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_TASKS = 4
"""Tasks whose attempts are shown where none are named."""
CHART_COLOURS = (
    "max-width:900px;--ink:currentColor;--muted:#808890;--rule:#80889055;--surface:#ffffff;--good:#2a9d4a;--near:#c98a00;"
    "--bad:#d6453d;--none:#9aa0a6;--accent:#2f7fd1;--accent2:#e07b28"
)
"""What a chart's colours are where no page says so."""


def show_run(run: RunData, ids: Sequence[str] | None = None) -> Picture:
    """The picture of a run, with the attempts at the tasks `ids`, or without them a few of each state in turn.

    Raises DataError for a task that the run has not.
    """
    from hrm_submit.report.run.tables import make_tables

    unknown = [i for i in ids or () if i not in run.answers]
    if unknown:
        raise DataError(f"{run.directory}: has no task {', '.join(unknown)}")
    timeline = read_timeline(run.turns)
    tables = make_tables(run, timeline)
    chosen = list(ids) if ids is not None else _few(tables.tasks)
    states = dict(zip(tables.tasks["task"], tables.tasks["state"], strict=True))
    sections = tuple(_task(run, task, str(states.get(task, "unknown"))) for task in chosen)
    chart = _time_line(timeline)
    return Picture(f"run {run.directory}", sections, _counts(run, tables.outputs), _summary(tables.tasks, tables.outputs), chart)


def _few(tasks: DataFrame) -> list[str]:
    """Ids of some tasks that the model answered: of each state the first, then of each the second, and so on."""
    answered = tasks[tasks["answered"]]
    turns = answered.groupby("state").cumcount()
    return [str(task) for task in answered.loc[turns.sort_values(kind="stable").index[:MOST_TASKS], "task"]]


def _task(run: RunData, task: str, state: str) -> Section:
    answers = (run.solutions or {}).get(task, ())
    guesses = tuple(_guesses(run, task, k) for k in range(len(run.answers[task])))
    said = [f"task {task}"] + ([] if state == "unknown" else [state]) + ([] if task in run.answered else ["answered by fallback"])
    return prediction_section(guesses, run.tasks.get(task), answers, ", ".join(said))


def _guesses(run: RunData, task: str, output: int) -> tuple[Guess, ...]:
    """The two attempts as submitted, with their votes, and then the candidates that are neither."""
    candidates = {_key(c.grid): Guess(c.grid, c.votes, c.score) for c in run.candidates.get((task, output), ())}
    attempts = [candidates.pop(_key(grid), Guess(grid)) for grid in run.answers[task][output] if grid.size]
    return (*attempts, *candidates.values())


def _key(grid: Grid) -> tuple[tuple[int, ...], bytes]:
    return grid.shape, grid.tobytes()


def _counts(run: RunData, outputs: DataFrame) -> tuple[str, ...]:
    answered = sum(task in run.answered for task in run.scope)
    lines = [f"{answered} of {len(run.scope)} tasks answered by the model"]
    judged = outputs["solved"].dropna()
    if len(judged):
        lines.append(f"{int(judged.sum())} of {len(judged)} test outputs solved ({judged.mean():.1%})")
    return (*lines, *run.notes)


def _summary(tasks: DataFrame, outputs: DataFrame) -> DataFrame:
    """The table of tasks as a person reads it: fewer columns, figures rounded, blanks where nothing is known."""
    from pandas import DataFrame

    votes: dict[str, list[str]] = {}
    for output in outputs.to_dict("records"):
        votes.setdefault(output["task"], []).append(f"{output['votes']} of {output['votes_of']}" if known(output["votes"]) else "none")
    judged = any(tasks["state"] != "unknown")
    rows = [
        {"task": task["task"], **({"state": task["state"]} if judged else {})}
        | {
            "segments": _text(task["segments"], "{:d}"),
            "time": format_duration(task["seconds"]) if known(task["seconds"]) else "",
            "demonstrations": _text(task["demo_exact"], "{:.0%}"),
            "votes": ", ".join(votes.get(task["task"], [])),
            "ended": _text(task["ended"], "{}"),
        }
        for task in tasks.to_dict("records")
    ]
    return DataFrame(rows)


def _text(value: Any, form: str) -> str:
    return form.format(value) if known(value) else ""


def _time_line(timeline: Timeline) -> str:
    """The chart of what each worker did when, in colours that suit a light and a dark notebook; empty where nothing was done."""
    if not timeline.stretches:
        return ""
    from hrm_submit.report.draw.charts import gantt

    return f'<div style="{CHART_COLOURS}">{gantt(timeline)}</div>'
