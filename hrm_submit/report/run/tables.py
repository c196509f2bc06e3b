"""A run as tables: pandas data frames that the page, `--json` and `--csv` show, and that a notebook can use.

    from hrm_submit.report.run.tables import read_tables
    tables = read_tables(Path("submission.json.run"), solutions=Path("arc-agi_evaluation_solutions.json"))
    tables.tasks.query("state == 'nearly'").sort_values("seconds")

Columns that say whether something is right are empty (`<NA>`) where the solution is not known. Grids are text: a digit a cell,
rows apart by `/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hrm_submit.arc.task import Grid, Pair, Task, same_grid
from hrm_submit.corpora.scoring import OutputResult, task_results
from hrm_submit.report.run.load import RunData, load_run
from hrm_submit.report.run.timeline import Timeline, Training, read_timeline

NEARLY = 0.95
"""Above this share of right cells a task that is not solved was nearly."""

TASKS = {
    "task": "string",
    "state": "string",
    "answered": "bool",
    "outputs": "Int64",
    "solved_outputs": "Int64",
    "cell_accuracy": "Float64",
    "best_cell_accuracy": "Float64",
    "demonstrations": "Int64",
    "side": "Int64",
    "colours": "Int64",
    "size_change": "string",
    "votes_share": "Float64",
    "seconds": "Float64",
    "planned_seconds": "Float64",
    "segments": "Int64",
    "trainings": "Int64",
    "failures": "Int64",
    "loss": "Float64",
    "demo_exact": "Float64",
    "ended": "string",
}
OUTPUTS = {
    "task": "string",
    "output": "Int64",
    "solved": "boolean",
    "first": "boolean",
    "second": "boolean",
    "cells": "Float64",
    "second_cells": "Float64",
    "rank": "Int64",
    "candidates": "Int64",
    "votes": "Int64",
    "votes_of": "Int64",
    "votes_share": "Float64",
    "score": "Float64",
    "attempt_1": "string",
    "attempt_2": "string",
}
CANDIDATES = {
    "task": "string",
    "output": "Int64",
    "rank": "Int64",
    "votes": "Int64",
    "votes_share": "Float64",
    "score": "Float64",
    "right": "boolean",
    "cells": "Float64",
    "grid": "string",
}
HISTORY = {
    "task": "string",
    "output": "Int64",
    "turn": "Int64",
    "t": "Float64",
    "final": "bool",
    "votes": "Int64",
    "votes_of": "Int64",
    "right": "boolean",
    "grid": "string",
}
TRAINING = {
    "task": "string",
    "training": "Int64",
    "turn": "Int64",
    "t": "Float64",
    "segments": "Int64",
    "loss": "Float64",
    "demo_exact": "Float64",
}
TIMELINE = {
    "turn": "Int64",
    "worker": "Int64",
    "task": "string",
    "training": "Int64",
    "phase": "string",
    "start": "Float64",
    "end": "Float64",
    "planned": "Float64",
    "detail": "string",
}


@dataclass(frozen=True)
class Tables:
    """The tables of a run; a row stands for a task, a test output, a candidate, and so on.

    `tasks`: every task that the run was to solve. `state`: `solved` (every output), `nearly` (some outputs, or
    `best_cell_accuracy` above 95 %), `wrong`, or `unknown` without a solution. `answered`: the model gave a candidate; all
    others have fallback answers. `cell_accuracy`: share of cells that attempt_1 has right, mean over outputs, as `score`
    counts it; `best_cell_accuracy`: the same of the better attempt at each output. `side`: largest number of rows or columns
    of its grids; `colours`: how many they have. `votes_share`: least over the outputs. `seconds`, `segments`, `trainings`: of
    all its trainings together; `planned_seconds`: what they were to take; `loss`, `demo_exact`: at the last progress;
    `ended`: why the last one did.

    `outputs`: `first`, `second`: whether an attempt is right; `rank`: place of the truth among attempt_1, attempt_2 and the
    candidates after them, from 1; `votes` of `votes_of` (those of the candidates kept) were for the first candidate, whose mean
    log-probability a cell is `score`. `candidates`: the newest ones, best first. `history`: the best candidate at each vote.
    `training`: each progress event. `timeline`: stretches of each worker, see `timeline.Stretch`; seconds since the turn began.
    """

    tasks: pd.DataFrame
    outputs: pd.DataFrame
    candidates: pd.DataFrame
    history: pd.DataFrame
    training: pd.DataFrame
    timeline: pd.DataFrame

    def named(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each table with its name."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)


def read_tables(run_dir: Path, *, solutions: Path | None = None, challenges: Path | None = None) -> Tables:
    """The tables of a run folder; `challenges` only if the file is no longer where the run found it. Raises UserError."""
    data = load_run(run_dir, challenges, solutions)
    return make_tables(data, read_timeline(data.turns))


def make_tables(data: RunData, timeline: Timeline) -> Tables:
    """The tables of a run that has been read."""
    outputs = _frame(OUTPUTS, (row for task in data.scope for row in _outputs(data, task)))
    return Tables(
        tasks=_frame(TASKS, _tasks(data, timeline, outputs)),
        outputs=outputs,
        candidates=_frame(CANDIDATES, (row for task in data.scope for row in _candidates(data, task))),
        history=_frame(HISTORY, _history(data)),
        training=_frame(TRAINING, _training(timeline)),
        timeline=_frame(TIMELINE, ({k: getattr(s, k) for k in TIMELINE} | {"detail": s.detail or None} for s in timeline.stretches)),
    )


def grid_text(grid: Grid) -> str | None:
    """A digit a cell, rows apart by `/`; None for a grid that is not known."""
    return b"/".join(row.tobytes() for row in grid + ord("0")).decode() or None


def truth_of(data: RunData, task: str, output: int) -> Grid | None:
    """The solution of a test output, if it is known."""
    outputs = data.solutions.get(task, ()) if data.solutions is not None else ()
    return outputs[output] if output < len(outputs) else None


def size_change(pairs: Iterable[Pair]) -> str:
    """How outputs compare with their inputs in all demonstrations: `same` shape, `smaller`, `larger` (in cells), or `mixed`."""
    kinds = set()
    for pair in pairs:
        if pair.input.shape == pair.output.shape:
            kinds.add("same")
        else:
            kinds.add("mixed" if pair.input.size == pair.output.size else "smaller" if pair.output.size < pair.input.size else "larger")
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _frame(schema: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(schema)).astype(dict(schema))


def _outputs(data: RunData, task: str) -> Iterator[dict[str, Any]]:
    answers = data.answers[task]
    n = max(len(answers), len((data.solutions or {}).get(task, ())))
    for k in range(n):
        candidates = data.candidates.get((task, k), ())
        total = sum(c.votes for c in candidates)
        row: dict[str, Any] = {"task": task, "output": k, "candidates": len(candidates)}
        if candidates:
            best = candidates[0]
            row |= {"votes": best.votes, "votes_of": total, "votes_share": best.votes / total if total else None, "score": best.score}
        if k < len(answers):
            row |= {"attempt_1": grid_text(answers[k][0]), "attempt_2": grid_text(answers[k][1])}
        truth = truth_of(data, task, k)
        if truth is not None:
            row |= _judged(data, task, k, truth)
        yield row


def _judged(data: RunData, task: str, k: int, truth: Grid) -> dict[str, Any]:
    attempts = data.answers[task][k] if k < len(data.answers[task]) else None
    result = task_results([attempts], [truth])[0] if attempts else OutputResult(False, False, 0.0, answered=False)
    other = task_results([attempts[::-1]], [truth])[0] if attempts else result
    ranked = [*(attempts or ()), *(c.grid for c in data.candidates.get((task, k), ())[2:])]
    rank = next((place for place, grid in enumerate(ranked, 1) if same_grid(grid, truth)), None)
    return {
        "solved": result.solved,
        "first": result.first,
        "second": result.second,
        "cells": result.cells,
        "second_cells": other.cells,
        "rank": rank,
    }


def _tasks(data: RunData, timeline: Timeline, outputs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    by_task: dict[str, list[Training]] = defaultdict(list)
    for training in timeline.trainings:
        by_task[training.task].append(training)
    groups = {str(task): group for task, group in outputs.groupby("task", sort=False)}
    for task in data.scope:
        row: dict[str, Any] = {"task": task, "state": "unknown", "answered": task in data.answered, "outputs": 0}
        row |= {"failures": timeline.failures[task], **_trained(by_task[task])}
        if task in data.tasks:
            row |= _features(data.tasks[task])
        if task in groups:
            row |= _result(groups[task])
        yield row


def _result(outputs: pd.DataFrame) -> dict[str, Any]:
    """What a task's outputs say of it."""
    row: dict[str, Any] = {"outputs": len(outputs), "votes_share": outputs["votes_share"].min(skipna=False)}
    if outputs["solved"].isna().any():
        return row
    solved = int(outputs["solved"].sum())
    better = float(outputs[["cells", "second_cells"]].max(axis=1).mean())
    state = "solved" if solved == len(outputs) else "nearly" if solved or better > NEARLY else "wrong"
    cells = float(outputs["cells"].mean())
    return row | {"solved_outputs": solved, "cell_accuracy": cells, "best_cell_accuracy": better, "state": state}


def _features(task: Task) -> dict[str, Any]:
    colours = len(np.unique(np.concatenate([grid.ravel() for grid in task.grids()])))
    return {"demonstrations": len(task.train), "side": task.largest_side, "colours": colours, "size_change": size_change(task.train)}


def _trained(trainings: list[Training]) -> dict[str, Any]:
    if not trainings:
        return {"trainings": 0}
    planned = [t.planned for t in trainings if t.planned is not None]
    points = [point for t in trainings for point in t.points]
    return {
        "trainings": len(trainings),
        "seconds": round(sum(t.seconds for t in trainings), 3),  # events tell milliseconds: no more is known
        "planned_seconds": sum(planned) if planned else None,
        "segments": sum(t.segments for t in trainings),
        "loss": points[-1].loss if points else None,
        "demo_exact": points[-1].demo_exact if points else None,
        "ended": trainings[-1].outcome,
    }


def _candidates(data: RunData, task: str) -> Iterator[dict[str, Any]]:
    for k in range(len(data.answers[task])):
        candidates = data.candidates.get((task, k), ())
        total = sum(c.votes for c in candidates)
        truth = truth_of(data, task, k)
        for rank, c in enumerate(candidates, 1):
            row = {"task": task, "output": k, "rank": rank, "votes": c.votes, "votes_share": c.votes / total if total else None}
            row |= {"score": c.score, "grid": grid_text(c.grid)}
            if truth is not None:
                result = task_results([(c.grid, c.grid)], [truth])[0]
                row |= {"right": result.first, "cells": result.cells}
            yield row


def _history(data: RunData) -> Iterator[dict[str, Any]]:
    known = frozenset(data.scope)
    for s in data.snapshots:
        if s.task not in known:
            continue
        truth = truth_of(data, s.task, s.output)
        row = {k: getattr(s, k) for k in HISTORY if k not in ("right", "grid")} | {"grid": grid_text(s.grid)}
        yield row if truth is None else row | {"right": same_grid(s.grid, truth)}


def _training(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for training in timeline.trainings:
        for p in training.points:
            row = {"task": training.task, "training": training.number, "turn": training.turn, "t": p.t}
            yield row | {"segments": p.segments, "loss": p.loss, "demo_exact": p.demo_exact}
