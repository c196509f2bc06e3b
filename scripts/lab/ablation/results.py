"""Results as they are kept: one line of CSV a finished run, appended in one write, so that nothing finished is ever lost.

Notable: the key comes last, so that a line which a kill has torn matches no run. Lines of variants that have changed since stay and
are not looked at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hrm_submit.core.errors import DataError
from lab.ablation.runs import Run

COLUMNS = (
    "variant",
    "seed",
    "pass@1",
    "pass@2",
    "view_exact",
    "exact",
    "loss",
    "segments",
    "examples",
    "examples_per_second",
    "flops",
    "seconds",
    "parameters",
    "machine",
    "results",
    "test_losses",
    "key",
)
"""`view_exact`: share of single views that are right; `exact`: of training grids, in the last tenth; `results`: `task:marks`, a mark for
each test output, 1 or 2 for the attempt that was right, else 0; `test_losses`: `task:nats`, as `losses.mean_test_loss` has them, where
`[vote] save_raw` keeps what that needs. Of kind "ttt" `segments` and `seconds` are means of a task."""


def append(path: Path, run: Run, figures: dict[str, Any]) -> dict[str, Any]:
    """Add a finished run; returns its line."""
    marks = "".join(figures["results"].values())
    line = {
        "variant": run.variant,
        "seed": run.seed,
        "pass@1": round(marks.count("1") / len(marks), 5),
        "pass@2": round(1 - marks.count("0") / len(marks), 5),
        **{name: _short(figures[name]) for name in COLUMNS[4:13]},
        "machine": figures["machine"],
        "results": " ".join(f"{task_id}:{outputs}" for task_id, outputs in figures["results"].items()),
        "test_losses": " ".join(f"{task_id}:{loss:.5f}" for task_id, loss in figures["test_losses"].items()),
        "key": run.key,
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if not old:
        writer.writeheader()
    elif not old.endswith("\n"):
        text.write("\n")
    writer.writerow(line)
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())
    return line


def read(path: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """The lines of those `runs` that are there, in their order; of one run done twice the last. Raises DataError."""
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        table = pd.read_csv(path, dtype={"variant": str, "key": str, "results": str, "test_losses": str}, on_bad_lines="skip")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if tuple(table.columns) != COLUMNS:
        raise DataError(f"{path}: has other columns than results should have; move it away")
    last = table.drop_duplicates("key", keep="last").set_index("key", drop=False)
    # Two variants may come to the same: one run then serves both, each under its own name.
    found = [last.loc[run.key].to_dict() | {"variant": run.variant, "seed": run.seed} for run in runs if run.key in last.index]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
