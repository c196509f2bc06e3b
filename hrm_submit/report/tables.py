"""A run as tables: pandas data frames that the page, `--json` and `--csv` show, and that a notebook can use.

Columns that say whether something is right are empty (`<NA>`) where the solution is not known. Grids are text: a digit a cell, rows
apart by `/`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from hrm_submit.arc.task import same_grid
from hrm_submit.corpora.scoring import task_results
from hrm_submit.record.state import TaskState
from hrm_submit.report.data import RunData, load_run
from hrm_submit.report.grids import grid_text

NEARLY = 0.95
"""Above this share of right cells a task that is not solved was nearly."""

COLUMNS = {
    "tasks": "task state answered outputs solved_outputs cell_accuracy best_cell_accuracy demonstrations side "
    "votes_share seconds planned_seconds segments trainings failures loss demo_exact ended",
    "outputs": "task output solved first second cells second_cells rank candidates votes votes_of votes_share score attempt_1 attempt_2",
}
"""The columns of each table, in order."""
TYPES = {
    "string": "task state ended attempt_1 attempt_2",
    "boolean": "answered solved first second",
    "Float64": "cell_accuracy best_cell_accuracy votes_share seconds planned_seconds loss demo_exact cells second_cells score",
}
"""Types of columns; all others are Int64."""


@dataclass(frozen=True)
class Tables:
    """The tables of a run; a row stands for a task or a test output.

    `tasks`: every task that the run was to solve. `state`: `solved` (every output), `nearly` (some outputs, or `best_cell_accuracy` above
    95 %), `wrong`, or `unknown` without a solution. `answered`: the model gave a candidate; all others have fallback answers.
    `cell_accuracy`: share of cells that attempt_1 has right, mean over outputs; `best_cell_accuracy`: the same of the better attempt at
    each output. `side`: largest number of rows or columns of its grids. `votes_share`: least over the outputs. `seconds`, `segments`,
    `trainings`: of all its trainings; `planned_seconds`: what they were to take; `loss`, `demo_exact`: at the last progress; `ended`: why
    the last training did.

    `outputs`: `first`, `second`: whether an attempt is right; `rank`: of the truth among attempt_1, attempt_2 and the candidates after
    them, from 1; `votes` of `votes_of` were for the first candidate, whose mean log-probability a cell is
    `score`.
    """

    tasks: pd.DataFrame
    outputs: pd.DataFrame


def read_tables(run_dir: Path | str, *, solutions: Path | str | None = None, challenges: Path | str | None = None) -> Tables:
    """Read the tables of a run folder; give `challenges` if the file is no longer where the run found it. Raises UserError."""
    return make_tables(load_run(Path(run_dir), challenges, solutions))


def make_tables(data: RunData) -> Tables:
    """Make the tables of a run."""
    tasks, outputs = list[dict[str, Any]](), list[dict[str, Any]]()
    for task in data.scope:
        rows = list(_outputs(data, task))
        outputs += rows
        tasks.append({"task": task, "answered": task in data.answered} | _trained(data.state.tasks.get(task, TaskState())) | _result(rows))
        if task in data.tasks:
            tasks[-1] |= {"demonstrations": len(data.tasks[task].train), "side": data.tasks[task].largest_side}
    return Tables(_frame("tasks", tasks), _frame("outputs", outputs))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Make a dict of each row, None where nothing is known."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[return-value]


def _frame(name: str, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    columns = COLUMNS[name].split()
    types = {column: kind for kind, names in TYPES.items() for column in names.split()}
    return pd.DataFrame(rows, columns=columns).astype({column: types.get(column, "Int64") for column in columns})


def _outputs(data: RunData, task: str) -> Iterator[dict[str, Any]]:
    for k, output in enumerate(data.outputs(task)):
        candidates, total = output.candidates, output.votes
        row: dict[str, Any] = {"task": task, "output": k, "candidates": len(candidates)}
        for best in candidates[:1]:
            share = best.votes / total if best.votes and total else None  # a composite has no votes of its own
            row |= {"votes": best.votes, "votes_of": total, "votes_share": share, "score": best.score}
        row |= {f"attempt_{n}": grid_text(grid) or None for n, grid in enumerate(output.attempts, 1)}
        if output.truth is not None:
            ranked = [*output.attempts, *(c.grid for c in candidates[2:])]
            (result,) = task_results(data.answers[task][k : k + 1], [output.truth])
            row |= asdict(result) | {"solved": result.solved}
            row["rank"] = next((rank for rank, grid in enumerate(ranked, 1) if same_grid(grid, output.truth)), None)
        yield row


def _result(outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum up a task's outputs."""
    shares = [row["votes_share"] for row in outputs if row.get("votes_share") is not None]
    least = min(shares) if shares and len(shares) == len(outputs) else None
    row = {"outputs": len(outputs), "votes_share": least, "state": "unknown"}
    if not outputs or not all("solved" in output for output in outputs):
        return row
    solved = sum(output["solved"] for output in outputs)
    better = fmean(max(output["cells"], output["second_cells"]) for output in outputs)
    state = "solved" if solved == len(outputs) else "nearly" if solved or better > NEARLY else "wrong"
    cells = fmean(output["cells"] for output in outputs)
    return row | {"solved_outputs": solved, "cell_accuracy": cells, "best_cell_accuracy": better, "state": state}


def _trained(task: TaskState) -> dict[str, Any]:
    row: dict[str, Any] = {"failures": task.failures, "trainings": len(task.trainings)}
    if not task.trainings:
        return row
    planned = [t.planned for t in task.trainings if t.planned is not None]
    return row | {
        "seconds": round(task.seconds, 3),  # events tell milliseconds: no more is known
        "planned_seconds": sum(planned) if planned else None,
        "segments": task.segments,
        "loss": task.last.loss if task.last else None,
        "demo_exact": task.last.demo_exact if task.last else None,
        "ended": task.trainings[-1].outcome,
    }
