"""What the sections of the page show: figures and sentences, which the template puts into place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hrm_submit.core.clock import format_duration
from hrm_submit.record.events import RunEnd, RunStart, WorkerStart
from hrm_submit.report.draw import charts
from hrm_submit.report.page.gallery import STATES
from hrm_submit.report.run.findings import usage
from hrm_submit.report.run.load import RunData
from hrm_submit.report.run.statistics import Group, accuracy_bands, confidence_groups, pass_at_k, solved_by
from hrm_submit.report.run.tables import Tables
from hrm_submit.report.run.timeline import Timeline
from hrm_submit.report.run.words import count, percent

SUCCESS_BY = (
    ("side", "largest side of any grid", "Grid size"),
    ("colours", "colours in the task", "Number of colours"),
    ("size_change", "output compared with input", "Size change"),
    ("demonstrations", "demonstration pairs", "Demonstrations"),
)
FIGURES = {
    "pass@1": "test outputs right at the first attempt",
    "pass@2": "test outputs right at either attempt: Kaggle's score",
    "task_pass@2": "tasks with every output right",
    "mean_task_pass@2": "mean share of a task's outputs",
    "cell_accuracy": "cells right in the first attempt",
}
"""The figures of a score in words."""


@dataclass(frozen=True)
class Chart:
    """A chart (markup) under its title, and its numbers as a table."""

    title: str
    svg: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


def values(data: RunData, tables: Tables, timeline: Timeline) -> dict[str, Any]:
    """The names that the template reads, besides scores, findings and cards."""
    tasks = tables.tasks
    states = {state: int((tasks["state"] == state).sum()) for state in STATES}
    judged, turns = len(tasks) - states["unknown"], _turn_words(data, timeline)
    used = usage(timeline)
    again = [t for t in timeline.trainings if t.number > 1 or timeline.failures[t.task]]
    versions, devices = data.run.get("versions"), _devices(data)
    known = {str(name): str(v) for name, v in versions.items()} if isinstance(versions, dict) else {}
    preset = (str(data.run.get("presets") or "") or "the checkpoint's own") if data.run else None
    start = next((e for e in data.events if isinstance(e, RunStart)), None)
    budget = data.run.get("budget")
    return {
        "n_tasks": len(tasks),
        "answered": int(tasks["answered"].sum()),
        "others": len(data.order) - len(data.scope),
        "states": states,
        "judged": bool(judged),
        "head_facts": [
            ("solved", f"{states['solved']} of {count(judged, 'task')}" if judged else None),
            ("nearly", str(states["nearly"]) if judged else None),
            ("time used", "; ".join(turns)),
            ("device", devices),
            ("preset", preset),
            ("seed", data.run.get("seed")),
            ("versions", ", ".join(f"{name} {known[name]}" for name in ("hrm_submit", "torch") if name in known)),
        ],
        "turns": turns,
        "gantt": charts.gantt(timeline) if timeline.stretches else "",
        "phases": [
            (name, format_duration(seconds), percent(seconds / used.total) if used.total else "")
            for name, seconds in (*used.phases.items(), ("idle", used.idle))
        ],
        "failed": [
            (t.task, t.number, t.worker, format_duration(t.start), format_duration(t.seconds), _duration(t.planned), t.outcome)
            for t in again
        ],
        "charts": list(_charts(tables, bool(judged))),
        "run_facts": [
            ("run folder", data.directory),
            ("challenges", data.run.get("challenges")),
            ("checkpoint", data.run.get("checkpoint") or ("none" if data.run else None)),
            ("presets", preset),
            ("seed", data.run.get("seed")),
            ("budget", format_duration(budget) if isinstance(budget, int | float) else None),
            ("segments a task", data.run.get("segments")),
            ("devices", devices),
            ("tasks of the file", start.tasks if start else None),
            *known.items(),
        ],
        "config": json.dumps(data.run["config"], indent=1) if data.run.get("config") else "",
        "notes": data.notes,
    }


def _charts(tables: Tables, judged: bool) -> Iterator[Chart]:
    """What decides success; without solutions only how sure the votes are."""
    if judged:
        bands, shares = accuracy_bands(tables.tasks), pass_at_k(tables.outputs)
        yield Chart("Right cells of a task", charts.band_chart(bands), ("right cells", "tasks"), [(g.name, g.n) for g in bands])
        rows = [(k, percent(share)) for k, share in enumerate(shares, 1)]
        yield Chart("pass@k of the ranked candidates", charts.pass_chart(shares), ("k", "pass@k"), rows)
    confidence = confidence_groups(tables.outputs)
    if any(g.n for g in confidence):
        title = "Are sure votes right?" if judged else "Votes for the first attempt"
        chart = charts.confidence_chart(confidence, judged=judged)
        yield Chart(title, chart, ("share of votes", "outputs", "right"), _share_rows(confidence, judged))
    for column, what, title in SUCCESS_BY if judged else ():
        groups = solved_by(tables.tasks, column)
        if groups:
            chart = charts.share_chart(column.replace("_", "-"), what, groups)
            yield Chart(title, chart, (what, "tasks", "solved"), _share_rows(groups, True))


def _turn_words(data: RunData, timeline: Timeline) -> list[str]:
    words = []
    for number, (turn, seconds, budget) in enumerate(zip(data.turns, timeline.ends, timeline.budgets, strict=True), 1):
        used = f"{format_duration(seconds)} of {format_duration(budget)}" if budget else format_duration(seconds)
        ended = any(isinstance(event, RunEnd) for event in turn)
        words.append(("" if len(data.turns) == 1 else f"turn {number}: ") + used + ("" if ended else ", then cut off"))
    return words


def _devices(data: RunData) -> str:
    devices = data.run.get("devices")
    names = [str(d) for d in devices] if isinstance(devices, list) else []
    runtime = next((e.runtime for e in data.events if isinstance(e, WorkerStart) and e.runtime), {})
    counted = [f"{names.count(d)} x {d}" if names.count(d) > 1 else d for d in dict.fromkeys(names)]
    return ", ".join(filter(None, [*counted, str(runtime.get("dtype") or "")]))


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _share_rows(groups: Sequence[Group], judged: bool) -> list[tuple[object, ...]]:
    return [(g.name, g.n, f"{g.right} ({percent(g.share)})" if judged and g.n else "") for g in groups]
