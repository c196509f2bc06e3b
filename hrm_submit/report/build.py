"""`report`: from a run folder to the page and to tables as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hrm_submit.core.errors import DataError
from hrm_submit.core.files import write_output
from hrm_submit.report.board import write_board
from hrm_submit.report.cards import count
from hrm_submit.report.data import RunData, load_run
from hrm_submit.report.options import ReportOptions
from hrm_submit.report.page import page
from hrm_submit.report.statistics import Scores, scores
from hrm_submit.report.tables import Tables, make_tables


def write_report(options: ReportOptions) -> tuple[str, Sequence[str]]:
    """Write the page, and the tables where they are asked for; returns a line for a person, and what was left out. Raises UserError."""
    data = load_run(options.run_dir, options.challenges, options.solutions)
    tables = make_tables(data)
    found = run_scores(data)
    text = page(data, tables, found).encode("utf-8", "replace")
    write_output(options.output, text)
    if options.json is not None:
        write_output(options.json, json.dumps(_as_json(data, tables, found), indent=1).encode("utf-8", "replace") + b"\n")
    if options.tensorboard is not None:
        write_board(data.state, options.tensorboard)
    if options.csv is not None:
        try:
            options.csv.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{options.csv}: cannot be made: {error.strerror or error}") from None
        for name, frame in tables.named().items():
            write_output(options.csv / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace"))
    return f"{options.output}: {count(len(tables.tasks), 'task')}, {len(text) / 1e6:.1f} MB", data.notes


def run_scores(data: RunData) -> list[tuple[str, Scores]]:
    """Score the tasks that the run was to solve and, if these are not all of the solutions, the whole file as `score` counts it."""
    if data.solutions is None:
        return []
    wanted = {task: data.solutions[task] for task in data.scope if task in data.solutions}
    whole = ("The whole file, as the command score counts it", scores(data.answers, data.solutions))
    if not wanted or len(wanted) == len(data.solutions):
        return [whole]
    return [(f"The {len(wanted)} tasks to solve", scores(data.answers, wanted)), whole]


def _as_json(data: RunData, tables: Tables, found: list[tuple[str, Scores]]) -> dict[str, Any]:
    content: dict[str, Any] = {"v": 1, "run": data.run, "notes": data.notes}
    content["scores"] = [
        {"over": name, "score": s.score, "intervals": [{"name": figure, **asdict(f)} for figure, f in s.figures.items()]}
        for name, s in found
    ]
    for name, frame in tables.named().items():
        content[name] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return content
