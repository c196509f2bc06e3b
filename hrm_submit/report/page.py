"""The page of a run: one HTML file that needs nothing besides itself, from a template that escapes whatever it is given."""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from hrm_submit.core.clock import format_duration
from hrm_submit.record.folder import weights_of
from hrm_submit.record.state import PHASES, RunState, TaskState
from hrm_submit.report.charts import LEGEND, timeline_chart, training_curve
from hrm_submit.report.data import RunData, fit_of
from hrm_submit.report.grids import Output, Tile, answer_tiles, count, demonstrations_of, percent, votes_of
from hrm_submit.report.picture import asset, policy
from hrm_submit.report.statistics import Scores, right_by_votes, solved_by_side
from hrm_submit.report.tables import Tables, records

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
MOST_NAMED = 8
"""Tasks that a finding names."""


def page(data: RunData, tables: Tables, scored: Scores | None) -> str:
    """Make the whole file."""
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"count": count, "packed": packed, "percent": percent}
    pages.globals |= {"STATES": STATES, "THUMB": THUMB, "LARGE": LARGE, "FIGURES": FIGURES, "LEGEND": LEGEND}
    script = asset("page.js")
    files = {"policy": policy(script), "style": asset("page.css"), "script": script}
    return pages.from_string(asset("page.html.j2")).render(files, scored=scored, run=_content(data, tables))


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


def _content(data: RunData, tables: Tables) -> dict[str, Any]:
    """Make what the template shows of the run. Facts are (name, value), left out where the value is not known."""
    run, state, tasks = data.run, data.state, tables.tasks
    states = {name: int((tasks["state"] == name).sum()) for name in STATES}
    judged, spent = len(tasks) - states["unknown"], worker_seconds(state)
    total = sum(spent.values())
    versions = run.get("versions")
    return {
        "title": f"{data.directory.resolve().name}: {count(len(tasks), 'task')}",
        "findings": list(_findings(tables, fit_of(run))),
        "n_tasks": len(tasks),
        "answered": int(tasks["answered"].sum()),
        "others": len(data.answers) - len(data.scope),
        "states": states,
        "head_facts": [
            ("solved", f"{states['solved']} of {count(judged, 'task')}" if judged else None),
            ("nearly", states["nearly"] if judged else None),
            ("time used", "; ".join(_attempts(state))),
            ("device", _devices(data)),
            ("preset", (run.get("presets") or "the checkpoint's own") if run else None),
            ("seed", run.get("seed")),
        ],
        "timeline": timeline_chart(state),
        "phases": [(phase, format_duration(seconds), percent(seconds / total) if total else "") for phase, seconds in spent.items()],
        "groups": [
            ("Are sure votes right?", ("votes for attempt 1", "outputs", "right"), right_by_votes(tables.outputs)),
            ("Are small grids easier?", ("largest side", "tasks", "solved"), solved_by_side(tables.tasks)),
        ],
        "run_facts": [
            ("run folder", data.directory),
            *((f"engine on {card}", f"{e.engine} in {e.dtype}: {e.reason}") for card, e in state.engines.items()),
            ("challenges", run.get("challenges")),
            ("checkpoint", ", ".join(weights_of(run)) if run else None),
            ("segments a task", run.get("segments")),
            ("tasks of the file", len(data.answers)),
            *(versions.items() if isinstance(versions, dict) else ()),
        ],
        "config": json.dumps(run["config"], indent=1) if run.get("config") else "",
        "notes": data.notes,
        "cards": cards(data, tables),
    }


def _findings(tables: Tables, fit: float) -> Iterator[str]:
    """Say what stands out, the weightiest first. `fit`: the run's `[ttt] fit`."""
    tasks, exact = tables.tasks, tables.tasks["demo_exact"]
    missed = tables.outputs[tables.outputs["rank"] > 2]
    unfit = tasks[(exact < UNFIT) & (tasks["state"] != "solved")]
    found = (
        (missed, "test output", "the right grid is among the candidates, but below the first two: lost by the ranking"),
        (unfit, "task", "less than half of the demonstrations were exact at the end: they lacked training, not votes"),
        (tasks[(exact >= fit) & tasks["state"].isin(["wrong", "nearly"])], "task", "had learnt the demonstrations and still went wrong"),
        (tasks[~tasks["answered"]], "task", "no answer from the model, only a fallback"),
    )
    for rows, unit, said in found:
        if len(rows):
            named = ", ".join(rows["task"][:MOST_NAMED]) + (", ..." if len(rows) > MOST_NAMED else "")
            yield f"{count(len(rows), unit)}: {said} ({named})."


def _attempts(state: RunState) -> Iterator[str]:
    for number, attempt in enumerate(state.attempts, 1):
        used = format_duration(attempt.end) + (f" of {format_duration(attempt.budget)}" if attempt.budget else "")
        yield ("" if len(state.attempts) == 1 else f"attempt {number}: ") + used + ("" if attempt.ended else ", then cut off")


def _devices(data: RunData) -> str:
    devices = data.run.get("devices")
    counted = Counter(map(str, devices) if isinstance(devices, list) else ())
    names = [f"{n} x {device}" if n > 1 else device for device, n in counted.items()]
    return ", ".join(filter(None, [*names, str(data.state.runtime.get("dtype") or "")]))


def cards(data: RunData, tables: Tables) -> Iterator[dict[str, Any]]:
    """Make what the template shows of each task, in the file's order. Cards are sorted by `order` and what `sorts` names; `pairs`, the
    candidates after the attempts of each of `tests`, `curve` (markup) and `training` are shown when one is opened."""
    for number, row in enumerate(records(tables.tasks)):
        task = row["task"]
        outputs, given, state = data.outputs(task), data.tasks.get(task), data.state.tasks.get(task, TaskState())
        sorts = {"size": "side", "votes": "votes_share", "seconds": "seconds", "accuracy": "best_cell_accuracy", "segments": "segments"}
        yield {
            "id": task,
            "state": row["state"],
            "sorts": {"order": number} | {name: row[column] for name, column in sorts.items()},
            "hints": list(_hints(row, outputs)),
            "flags": [*([] if row["answered"] else ["fallback answer"]), *([count(state.failures, "failure")] if state.failures else [])],
            "fault": data.faults.get(task),
            "pairs": demonstrations_of(given) if given else (),
            "tests": [(tiles, _further(output)) for tiles, output in zip(answer_tiles(outputs), outputs, strict=True)],
            "curve": training_curve(state.trainings),
            "training": _training(state, row) if state.trainings else {},
        }


def _hints(row: dict[str, Any], outputs: Sequence[Output]) -> Iterator[str]:
    if row["demonstrations"] is not None:
        yield count(row["demonstrations"], "demo")
    best = [(output.candidates[0].votes, output.votes) for output in outputs if output.candidates]
    if best:
        yield f"{', '.join(f'{votes}/{total}' if votes else f'composite of {total}' for votes, total in best)} votes"
    if row["best_cell_accuracy"] is not None and row["state"] != "solved":
        yield f"{percent(row['best_cell_accuracy'])} of cells"
    if row["seconds"] is not None:
        yield format_duration(row["seconds"])


def _further(output: Output) -> list[Tile]:
    """Make the tiles of the candidates after the attempts."""
    ranked = enumerate(output.candidates[2:], 3)
    return [Tile(f"candidate {rank}", c.grid, votes_of(c, output.votes)).judged(output.truth) for rank, c in ranked]


def _training(state: TaskState, row: dict[str, Any]) -> dict[str, object]:
    planned, exact, loss = row["planned_seconds"], row["demo_exact"], row["loss"]
    members = {p.member: percent(p.demo_exact or 0.0) for t in state.trainings for p in t.points if p.member}
    return {
        "trainings": row["trainings"],
        "segments": f"{row['segments']:,}",
        "time": format_duration(row["seconds"]) + (f" of {format_duration(planned)} planned" if planned is not None else ""),
        "demonstrations exact at the end": None if exact is None else percent(exact),
        "of each member": ", ".join(f"{name} {share}" for name, share in members.items()),
        "last loss": None if loss is None else f"{loss:.3g}",
        "ended": "; ".join(t.outcome for t in state.trainings),
    }
