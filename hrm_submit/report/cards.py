"""The card of each task: what the page shows of it at a glance and when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hrm_submit.arc.task import same_grid
from hrm_submit.core.clock import format_duration
from hrm_submit.record.predictions import Prediction
from hrm_submit.record.state import TaskState
from hrm_submit.report.charts import training_curve
from hrm_submit.report.data import RunData
from hrm_submit.report.grids import Output, Tile, votes_of
from hrm_submit.report.tables import Tables


@dataclass(frozen=True, eq=False)
class Test:
    """A test output: its input, attempts and truth, the candidates after the attempts, and the best answer each time it changed."""

    strip: Sequence[Tile]
    next: Sequence[Tile]
    changes: Sequence[Tile]
    until: str


@dataclass(frozen=True, eq=False)
class Card:
    """A task. Cards are sorted by `keys`; `pairs`, `tests`, `curve` (markup) and `training` are shown when it is opened."""

    id: str
    state: str
    keys: Sequence[tuple[str, float]]
    hints: Sequence[str]
    flags: Sequence[str]
    fault: str | None
    pairs: Sequence[tuple[Tile, Tile]]
    tests: Sequence[Test]
    curve: str
    training: Sequence[tuple[str, object]]


def known(value: object) -> bool:
    """Whether there is something to show."""
    return value is not None and value is not pd.NA and value != "" and value == value


def percent(share: float) -> str:
    """Write `12.5 %`."""
    return f"{100 * share:.1f} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """Write `1 task`, `2 tasks`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def cards(data: RunData, tables: Tables) -> Iterator[Card]:
    """Make the card of each task, in the file's order."""
    votes = {str(task): group[["votes", "votes_of"]].to_numpy().tolist() for task, group in tables.outputs.groupby("task", sort=False)}
    history: dict[tuple[str, int], list[Prediction]] = {}
    for p in data.record.predictions:
        if p.candidates:
            history.setdefault((p.task, p.output), []).append(p)
    for number, found in enumerate(tables.tasks.to_dict("records")):
        row, task = {str(k): v for k, v in found.items()}, str(found["task"])
        keys = {"order": number, "size": row["side"], "votes": row["votes_share"], "seconds": row["seconds"]}
        keys |= {"accuracy": row["best_cell_accuracy"], "segments": row["segments"]}
        given, state = data.tasks.get(task), data.state.tasks.get(task, TaskState())
        yield Card(
            id=task,
            state=str(row["state"]),
            keys=[(name, value) for name, value in keys.items() if known(value)],
            hints=list(_hints(row, given is not None, votes.get(task, ()))),
            flags=[*([] if row["answered"] else ["fallback answer"]), *([count(state.failures, "failure")] if state.failures else [])],
            fault=data.faults.get(task),
            pairs=[
                (Tile("input", pair.input, f"demonstration {n}"), Tile("output", pair.output, f"demonstration {n}"))
                for n, pair in enumerate(given.train if given else (), 1)
            ],
            tests=[_test(output, f"test {k + 1}", history.get((task, k), [])) for k, output in enumerate(data.outputs(task))],
            curve=training_curve(state.trainings),
            training=_training(state, row) if state.trainings else (),
        )


def _hints(row: dict[str, Any], has_task: bool, votes: Sequence[Sequence[Any]]) -> Iterator[str]:
    if has_task:
        yield count(int(row["demonstrations"]), "demo")
    counted = [f"{v}/{of}" for v, of in votes if known(v)]
    if counted:
        yield f"{', '.join(counted)} votes"
    if known(row["best_cell_accuracy"]) and row["state"] != "solved":
        yield f"{percent(row['best_cell_accuracy'])} of cells"
    if known(row["seconds"]):
        yield format_duration(row["seconds"])


def _test(output: Output, part: str, history: Sequence[Prediction]) -> Test:
    truth, strip = output.truth, [] if output.input is None else [Tile("input", output.input, part)]
    strip += output.tiles(part, "fallback")
    if truth is not None:
        strip.append(Tile("truth", truth, part))
    ranked = enumerate(output.candidates[2:], 3)
    following = [Tile(f"candidate {rank}", c.grid, part, votes_of(c, output.votes)).judged(truth) for rank, c in ranked]
    changes = []
    for before, p in zip([None, *history], history, strict=False):
        best = p.candidates[0]
        if before is None or not same_grid(before.candidates[0].grid, best.grid):
            notes = votes_of(best, p.votes)[:1]
            changes.append(Tile(f"at {format_duration(p.t)}", best.grid, f"{part}, best answer", notes).judged(truth))
    until = f"of {count(len(history), 'vote')} until {format_duration(history[-1].t)}" if history else ""
    return Test(strip, following, changes, until)


def _training(state: TaskState, row: dict[str, Any]) -> list[tuple[str, object]]:
    share = f" of {format_duration(row['planned_seconds'])} planned" if known(row["planned_seconds"]) else ""
    members = {p.member: percent(p.demo_exact or 0.0) for t in state.trainings for p in t.points if p.member}
    return [
        ("trainings", row["trainings"]),
        ("segments", f"{row['segments']:,}"),
        ("time", f"{format_duration(row['seconds'])}{share}"),
        ("demonstrations exact at the end", percent(row["demo_exact"]) if known(row["demo_exact"]) else None),
        ("of each member", ", ".join(f"{name} {exact}" for name, exact in members.items()) or None),
        ("last loss", f"{row['loss']:.3g}" if known(row["loss"]) else None),
        ("worker", ", ".join(dict.fromkeys(str(t.worker) for t in state.trainings))),
        ("ended", "; ".join(t.outcome for t in state.trainings)),
    ]
