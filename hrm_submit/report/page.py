"""The page of a run: one HTML file that needs nothing besides itself, from a template that escapes whatever it is given."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from hrm_submit.core.clock import format_duration
from hrm_submit.record.folder import weights_of
from hrm_submit.record.state import PHASES, RunState
from hrm_submit.report.cards import Card, cards, count, known, percent
from hrm_submit.report.charts import LEGEND, timeline_chart
from hrm_submit.report.data import RunData, fit_of
from hrm_submit.report.document import asset, policy
from hrm_submit.report.statistics import Groups, Scores, right_by_votes, solved_by_side
from hrm_submit.report.tables import Tables

FIGURES = {
    "pass@1": "test outputs right at the first attempt",
    "pass@2": "test outputs right at either attempt: Kaggle's score",
    "task_pass@2": "tasks with every output right",
    "mean_task_pass@2": "mean share of a task's outputs",
    "cell_accuracy": "cells right in the first attempt",
}
"""The figures of a score in words."""
STATES = {"solved": "✓ solved", "nearly": "≈ nearly", "wrong": "✗ wrong", "unknown": "? not scored"}
THUMB, LARGE = 104, 210
"""Pixels of the longer side of a grid on a card, and behind it."""
UNFIT = 0.5
"""Below this share of exact demonstrations a task lacked training."""


@dataclass(frozen=True, eq=False)
class PageContent:
    """What the template shows. Facts are (name, value), left out where the value is not known."""

    title: str
    scores: Sequence[tuple[str, Scores]]
    findings: Sequence[str]
    n_tasks: int
    answered: int
    others: int
    """Tasks of the file that were not to be solved."""
    states: dict[str, int]
    head_facts: Sequence[tuple[str, object]]
    timeline: str
    legend: dict[str, str]
    """Name -> colour of what the timeline shows."""
    phases: Sequence[tuple[str, str, str]]
    groups: Sequence[tuple[str, tuple[str, str, str], Sequence[tuple[str, int, str]]]]
    """What decides success: a title, the head of a table, and its rows."""
    run_facts: Sequence[tuple[str, object]]
    config: str
    notes: Sequence[str]
    cards: Iterable[Card]


def page(data: RunData, tables: Tables, scores: Sequence[tuple[str, Scores]]) -> str:
    """Make the whole file. `scores`: with the name of the tasks that each is over, the one for the headline first."""
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"count": count, "packed": packed, "percent": percent}
    pages.tests["known"] = known
    pages.globals |= {"STATES": STATES, "THUMB": THUMB, "LARGE": LARGE, "FIGURES": FIGURES}
    script = asset("page.js")
    content = _content(data, tables, scores)
    return pages.from_string(asset("page.html.j2")).render(run=content, policy=policy(script), style=asset("page.css"), script=script)


def packed(markup: str) -> str:
    """Deflate and encode in base64 what is shown only on demand: pictures of grids shrink to a tenth."""
    return base64.b64encode(zlib.compress(markup.encode("utf-8", "replace"), 9)).decode("ascii")


def worker_seconds(state: RunState) -> dict[str, float]:
    """Sum up the seconds of all workers in each phase, and `idle`: in no phase, from each one's start to the end of its attempt."""
    phases, first = dict.fromkeys(PHASES, 0.0), dict[tuple[int, int], float]()
    for s in state.stretches:
        phases[s.phase] += s.end - s.start
        first[s.attempt, s.worker] = min(s.start, first.get((s.attempt, s.worker), s.start))
    total = sum(state.attempts[attempt - 1].end - start for (attempt, _), start in first.items())
    return {**phases, "idle": max(0.0, total - sum(phases.values()))}


def _content(data: RunData, tables: Tables, scores: Sequence[tuple[str, Scores]]) -> PageContent:
    run, state, tasks = data.run, data.state, tables.tasks
    states = {name: int((tasks["state"] == name).sum()) for name in STATES}
    judged, spent = len(tasks) - states["unknown"], worker_seconds(state)
    total = sum(spent.values())
    versions = run.get("versions")
    numbers = {str(name): str(v) for name, v in versions.items()} if isinstance(versions, dict) else {}
    preset = (str(run.get("presets") or "") or "the checkpoint's own") if run else None
    return PageContent(
        title=f"{data.directory.resolve().name}: {count(len(tasks), 'task')}",
        scores=scores,
        findings=list(_findings(tables, fit_of(run))),
        n_tasks=len(tasks),
        answered=int(tasks["answered"].sum()),
        others=len(data.answers) - len(data.scope),
        states=states,
        head_facts=[
            ("solved", f"{states['solved']} of {count(judged, 'task')}" if judged else None),
            ("nearly", str(states["nearly"]) if judged else None),
            ("time used", "; ".join(_attempts(state))),
            ("device", _devices(data)),
            ("preset", preset),
            ("seed", run.get("seed")),
            ("versions", ", ".join(f"{name} {numbers[name]}" for name in ("hrm_submit", "torch") if name in numbers)),
        ],
        timeline=timeline_chart(state),
        legend=LEGEND,
        phases=[(phase, format_duration(seconds), percent(seconds / total) if total else "") for phase, seconds in spent.items()],
        groups=[
            ("Are sure votes right?", ("votes for attempt 1", "outputs", "right"), _shares(right_by_votes(tables.outputs))),
            ("Are small grids easier?", ("largest side", "tasks", "solved"), _shares(solved_by_side(tables.tasks))),
        ],
        run_facts=[
            ("run folder", data.directory),
            *((f"engine on {card}", f"{e.engine} in {e.dtype}: {e.reason}") for card, e in state.engines.items()),
            ("challenges", run.get("challenges")),
            ("checkpoint", ", ".join(weights_of(run)) if run else None),
            ("segments a task", run.get("segments")),
            ("tasks of the file", len(data.answers)),
            *numbers.items(),
        ],
        config=json.dumps(run["config"], indent=1) if run.get("config") else "",
        notes=data.notes,
        cards=cards(data, tables),
    )


def _shares(groups: Groups) -> list[tuple[str, int, str]]:
    return [(name, n, f"{right} ({percent(right / n)})") for name, n, right in groups]


def _findings(tables: Tables, fit: float) -> Iterator[str]:
    """Say what stands out, the weightiest first. `fit`: the run's `[ttt] fit`."""
    tasks = tables.tasks
    missed = int((tables.outputs["rank"] > 2).sum())
    if missed:
        yield f"{count(missed, 'test output')} had the right grid among the candidates, but below the first two: lost by the ranking."
    trained = tasks[tasks["demo_exact"].notna()]
    unfit = int((trained["demo_exact"] < UNFIT).sum())
    if unfit:
        of = f"{unfit} of {count(len(trained), 'task')}"
        yield f"{of} ended with less than half of their demonstrations exact: they lacked training, not votes."
    wrong = trained[(trained["demo_exact"] >= fit) & trained["state"].isin(["wrong", "nearly"])]
    if len(wrong):
        yield f"{count(len(wrong), 'task')} had learnt their demonstrations and still went wrong: {_ids(wrong)}."
    missing = tasks[~tasks["answered"]]
    if len(missing):
        yield f"{count(len(missing), 'task has', 'tasks have')} no answer from the model, only a fallback: {_ids(missing)}."


def _ids(tasks: pd.DataFrame, most: int = 8) -> str:
    ids = [str(task) for task in tasks["task"]]
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def _attempts(state: RunState) -> Iterator[str]:
    for number, attempt in enumerate(state.attempts, 1):
        used = f"{format_duration(attempt.end)} of {format_duration(attempt.budget)}" if attempt.budget else format_duration(attempt.end)
        yield ("" if len(state.attempts) == 1 else f"attempt {number}: ") + used + ("" if attempt.ended else ", then cut off")


def _devices(data: RunData) -> str:
    devices = data.run.get("devices")
    names = [str(d) for d in devices] if isinstance(devices, list) else []
    counted = [f"{names.count(d)} x {d}" if names.count(d) > 1 else d for d in dict.fromkeys(names)]
    return ", ".join(filter(None, [*counted, str(data.state.runtime.get("dtype") or "")]))
