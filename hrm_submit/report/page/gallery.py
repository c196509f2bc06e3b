"""The gallery: what the page shows of each task, on its card and behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_submit.arc.task import Grid, same_grid
from hrm_submit.core.clock import format_duration
from hrm_submit.report.draw.grids import grid_svg
from hrm_submit.report.draw.sparkline import training_curve
from hrm_submit.report.run.load import RunData, Snapshot
from hrm_submit.report.run.tables import Tables, truth_of
from hrm_submit.report.run.timeline import Timeline, Training
from hrm_submit.report.run.words import count, known, percent

STATES = {"solved": "✓ solved", "nearly": "≈ nearly", "wrong": "✗ wrong", "unknown": "? no truth"}
THUMB, LARGE = 104, 210
"""Pixels of the longer side of a grid on a card, and behind it."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A grid with its caption, what a screen reader says of it, its wrong cells, and what is wrong with its shape; `votes` are told
    only behind the card, a line each."""

    grid: Grid | None
    caption: str
    label: str
    wrong: NDArray[np.bool_] | None = None
    fault_notes: tuple[str, ...] = ()
    votes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is a grid to show."""
        return self.grid is not None and self.grid.size > 0

    @property
    def notes(self) -> tuple[str, ...]:
        """All that is told below the caption."""
        return (*self.fault_notes, *self.votes)

    def svg(self, side: int) -> str:
        """The picture, of at most about `side` pixels."""
        assert self.grid is not None
        return grid_svg(self.grid, label=self.label, cell=max(3, min(18, side // max(self.grid.shape))), wrong=self.wrong)

    def against(self, truth: Grid | None) -> Shown:
        """The same as an answer: right, with its wrong cells marked, or of a wrong shape, which is told."""
        if truth is None or self.grid is None or not self.known:
            return self
        if self.grid.shape != truth.shape:
            shapes = f"{_shape(self.grid)}, not {_shape(truth)}"
            return replace(self, caption=f"{self.caption} ✗", label=f"{self.label}, of the wrong size", fault_notes=(shapes,))
        right = same_grid(self.grid, truth)
        mark, words = ("✓", "right") if right else ("✗", "wrong")
        return replace(self, caption=f"{self.caption} {mark}", label=f"{self.label}, {words}", wrong=None if right else self.grid != truth)


@dataclass(frozen=True, eq=False)
class Test:
    """A test output: its input, attempts and truth, the candidates after the attempts, and the best answer each time that it changed."""

    strip: Sequence[Shown]
    next: Sequence[Shown]
    changes: Sequence[Shown]
    until: str


@dataclass(frozen=True, eq=False)
class Card:
    """A task: `keys` are what cards are sorted by; `pairs`, `tests`, `curve` (markup) and `training` are shown when it is opened."""

    id: str
    state: str
    keys: Sequence[tuple[str, float]]
    hints: Sequence[str]
    flags: Sequence[str]
    fault: str | None
    pairs: Sequence[tuple[Shown, Shown]]
    tests: Sequence[Test]
    curve: str
    training: Sequence[tuple[str, object]]


def cards(data: RunData, tables: Tables, timeline: Timeline) -> Iterator[Card]:
    """The card of each task, one after the other, in the file's order."""
    votes = {str(task): group[["votes", "votes_of"]].to_numpy().tolist() for task, group in tables.outputs.groupby("task", sort=False)}
    trainings: dict[str, list[Training]] = {}
    for training in timeline.trainings:
        trainings.setdefault(training.task, []).append(training)
    snapshots: dict[tuple[str, int], list[Snapshot]] = {}
    for snapshot in data.snapshots:
        snapshots.setdefault((snapshot.task, snapshot.output), []).append(snapshot)
    for number, found in enumerate(tables.tasks.to_dict("records")):
        row, task = {str(k): v for k, v in found.items()}, str(found["task"])
        keys = {"order": number, "size": row["side"], "votes": row["votes_share"], "seconds": row["seconds"]}
        keys |= {"accuracy": row["best_cell_accuracy"], "segments": row["segments"]}
        given, own = data.tasks.get(task), trainings.get(task, [])
        yield Card(
            task,
            str(row["state"]),
            [(name, value) for name, value in keys.items() if known(value)],
            list(_hints(row, given is not None, votes.get(task, ()))),
            [*([] if row["answered"] else ["fallback answer"]), *([count(int(row["failures"]), "failure")] if row["failures"] else [])],
            data.faults.get(task),
            [
                (Shown(p.input, "input", f"demonstration {n}, input"), Shown(p.output, "output", f"demonstration {n}, output"))
                for n, p in enumerate(given.train if given else (), 1)
            ],
            [_test(data, task, k, snapshots.get((task, k), [])) for k in range(int(row["outputs"]))],
            training_curve(own) if own else "",
            _training(own, row) if own else (),
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


def _test(data: RunData, task: str, k: int, snapshots: Sequence[Snapshot]) -> Test:
    truth, name, given, answers = truth_of(data, task, k), f"test {k + 1}", data.tasks.get(task), data.answers[task]
    candidates = data.candidates.get((task, k), ())
    of = sum(c.votes for c in candidates)
    told = [(_votes(c.votes, of), f"score {c.score:.3f}") for c in candidates]
    strip = [Shown(given.test[k], "input", f"{name}, input")] if given else []
    for n, grid in enumerate(answers[k] if k < len(answers) else (None, None), 1):
        # An attempt that is no candidate came from the fallback.
        whose = told[n - 1] if grid is not None and n <= len(told) and same_grid(candidates[n - 1].grid, grid) else ("fallback",)
        votes = whose if grid is not None and grid.size else ()
        strip.append(Shown(grid, f"attempt {n}", f"{name}, attempt {n}", votes=votes).against(truth))
    if truth is not None:
        strip.append(Shown(truth, "truth", f"{name}, truth"))
    following = [
        Shown(c.grid, f"candidate {rank}", f"{name}, candidate {rank}", votes=said).against(truth)
        for rank, (c, said) in enumerate(zip(candidates[2:], told[2:], strict=True), 3)
    ]
    changes = [
        Shown(s.grid, f"at {format_duration(s.t)}", f"best answer at {s.t:.0f} s", votes=(_votes(s.votes, s.votes_of),)).against(truth)
        for before, s in zip([None, *snapshots], snapshots, strict=False)
        if before is None or not same_grid(before.grid, s.grid)
    ]
    until = f"of {count(len(snapshots), 'vote')} until {format_duration(snapshots[-1].t)}" if snapshots else ""
    return Test(strip, following, changes, until)


def _training(trainings: Sequence[Training], row: dict[str, Any]) -> list[tuple[str, object]]:
    share = f" of {format_duration(row['planned_seconds'])} planned" if known(row["planned_seconds"]) else ""
    return [
        ("trainings", row["trainings"]),
        ("segments", f"{row['segments']:,}"),
        ("time", f"{format_duration(row['seconds'])}{share}"),
        ("demonstrations right at the end", percent(row["demo_exact"]) if known(row["demo_exact"]) else None),
        ("last loss", f"{row['loss']:.3g}" if known(row["loss"]) else None),
        ("worker", ", ".join(dict.fromkeys(str(t.worker) for t in trainings))),
        ("ended", "; ".join(t.outcome for t in trainings)),
    ]


def _votes(votes: int, of: int) -> str:
    return f"{votes} of {of} votes"


def _shape(grid: Grid) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"
