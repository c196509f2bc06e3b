"""`report`: from a run folder to the page and to tables as JSON and CSV."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from hrm_submit.core.files import write_output
from hrm_submit.report.board import write_board
from hrm_submit.report.data import RunData, load_run
from hrm_submit.report.grids import count
from hrm_submit.report.options import ReportOptions
from hrm_submit.report.page import page
from hrm_submit.report.statistics import Scores, scores
from hrm_submit.report.tables import make_tables, records


def write_report(options: ReportOptions) -> tuple[str, Sequence[str]]:
    """Write the page, and the tables where they are asked for; returns a line for a person, and what was left out. Raises UserError."""
    data = load_run(options.run_dir, options.challenges, options.solutions)
    tables, scored = make_tables(data), run_scores(data)
    frames = vars(tables).items()
    text = page(data, tables, scored).encode("utf-8", "replace")
    write_output(options.output, text)
    if options.json is not None:
        content = {"v": 2, "run": data.run, "notes": data.notes, "score": asdict(scored) if scored else None}
        content |= {name: records(frame) for name, frame in frames}
        write_output(options.json, json.dumps(content, indent=1).encode("utf-8", "replace") + b"\n")
    if options.tensorboard is not None:
        write_board(data.state, options.tensorboard)
    if options.csv is not None:
        with suppress(OSError):  # which the first file then tells
            options.csv.mkdir(parents=True, exist_ok=True)
        for name, frame in frames:
            write_output(options.csv / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace"))
    return f"{options.output}: {count(len(tables.tasks), 'task')}, {len(text) / 1e6:.1f} MB", data.notes


def run_scores(data: RunData) -> Scores | None:
    """Score the tasks that the run was to solve, as far as their solutions are known; all solutions where none of these is."""
    if data.solutions is None:
        return None
    wanted = {task: data.solutions[task] for task in data.scope if task in data.solutions}
    return scores(data.answers, wanted or data.solutions)
