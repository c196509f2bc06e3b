"""The results of a plan: one line of CSV a finished run, and the table made of them.

Notable: a line is appended in one write, and its key comes last, so that a line which a kill has torn matches no run. Lines of variants
that have changed since stay and are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.core.errors import DataError
from hrm_submit.core.files import append_whole
from hrm_submit.report.statistics import Interval, draws
from lab.ablation_runs import Run

FIGURES = ("view_exact", "exact", "loss", "segments", "examples", "examples_per_second", "flops", "seconds", "parameters")
COLUMNS = ("variant", "seed", "pass@1", "pass@2", *FIGURES, "machine", "results", "test_losses", "key")
"""`view_exact`: share of single views that are right; `exact`: of training grids, in the last tenth; `results`: `task:marks`, a mark for
each test output, 1 or 2 for the attempt that was right, else 0; `test_losses`: `task:nats`, where `[vote] save_raw` keeps what that
needs. Of kind "ttt" `segments` and `seconds` are means of a task."""

Floats = npt.NDArray[np.float64]


def append(path: Path, run: Run, figures: dict[str, Any]) -> dict[str, Any]:
    """Add a finished run; returns its line."""
    marks = "".join(figures["results"].values())
    line = {
        "variant": run.variant,
        "seed": run.seed,
        "pass@1": round(marks.count("1") / len(marks), 5),
        "pass@2": round(1 - marks.count("0") / len(marks), 5),
        **{name: float(f"{x:.6g}") if isinstance(x := figures[name], float) else x for name in FIGURES},
        "machine": figures["machine"],
        "results": " ".join(f"{task_id}:{outputs}" for task_id, outputs in figures["results"].items()),
        "test_losses": " ".join(f"{task_id}:{loss:.5f}" for task_id, loss in figures["test_losses"].items()),
        "key": run.key,
    }
    old = path.read_bytes() if path.exists() else b""
    end = "\n" if old and not old.endswith(b"\n") else ""
    text = pd.DataFrame([line], columns=list(COLUMNS)).to_csv(index=False, header=not old, lineterminator="\n")
    append_whole(path, (end + text).encode())
    return line


def read(path: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Read the lines of those `runs` that are done, in their order; of one run done twice the last. Raises DataError."""
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


class VariantRuns:
    """The runs of one variant, which differ in their seed, as arrays over the same tasks. ValueError where their tasks differ."""

    def __init__(self, rows: pd.DataFrame) -> None:
        marks = [_pairs(text) for text in rows["results"]]
        self.outputs = {task: len(text) for task, text in sorted(marks[0].items())}
        if any({task: len(text) for task, text in run.items()} != self.outputs for run in marks):
            raise ValueError("not of the same tasks")
        self._right = {k: np.array([[sum(m in "12"[:k] for m in run[t]) for t in self.outputs] for run in marks], float) for k in (1, 2)}
        self.losses = [{task: float(loss) for task, loss in _pairs(text).items()} for text in rows["test_losses"]]

    def passed(self, k: int, other: VariantRuns | None = None) -> Interval:
        """pass@k, right outputs of all outputs, mean over the runs; or how much higher it is than that of `other` on the same tasks."""
        if other is not None and self.outputs != other.outputs:
            raise ValueError("not of the same tasks")
        return bootstrap(self._right[k], [*self.outputs.values()], None if other is None else other._right[k])

    def loss_gain(self, other: VariantRuns) -> Interval | None:
        """How much higher the mean test loss is than that of `other`, in nats, over the tasks that all runs have; None without any."""
        tasks = sorted(set.intersection(*(set(run) for run in (*self.losses, *other.losses))))
        mine, theirs = (np.array([[run[t] for t in tasks] for run in runs.losses]) for runs in (self, other))
        return bootstrap(mine, [1] * len(tasks), theirs) if tasks else None


def bootstrap(mine: Floats, outputs: Sequence[int], theirs: Floats | None = None) -> Interval:
    """The mean of `mine` (runs, tasks) over `outputs` (tasks,), or how much higher it is than that of `theirs`, with its interval.

    Whole tasks are drawn, as the outputs of one task are solved or missed together, the same for both; and runs, separately.
    """
    rng, sizes = np.random.default_rng(0), np.array(outputs, dtype=np.float64)
    tasks = draws(rng, len(sizes))

    def means(values: Floats) -> Floats:
        """The mean, then that of each resample."""
        resampled = ((draws(rng, len(values)) @ values) * tasks).sum(1) / (len(values) * (tasks @ sizes))
        return np.append(values.sum() / len(values) / sizes.sum(), resampled)

    found = means(mine) if theirs is None else means(mine) - means(theirs)
    return Interval.of(found[0], found[1:])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Make a line a variant, as text, in the order in which they come. The last columns compare with the first variant: pass@2, and the
    test loss where any run has one."""
    groups = {str(variant): VariantRuns(group) for variant, group in rows.groupby("variant", sort=False)}
    means = rows.astype(dict.fromkeys(FIGURES, float)).groupby("variant")[list(FIGURES)].mean()
    first = next(iter(groups.values()))
    lines = []
    for variant, runs in groups.items():
        mean = means.loc[variant]
        gap = None if runs is first else runs.loss_gain(first)
        lines.append(
            {
                "variant": variant,
                "seeds": len(runs.losses),
                "pass@1 %": runs.passed(1).text(),
                "pass@2 %": runs.passed(2).text(),
                "views %": f"{100 * mean['view_exact']:.1f}",
                "training grids %": f"{100 * mean['exact']:.1f}",
                "examples/s": f"{mean['examples_per_second']:.0f}",
                "FLOPs": f"{mean['flops']:.2e}",
                "segments": f"{mean['segments']:.0f}",
                "seconds": f"{mean['seconds']:.0f}" if mean["seconds"] >= 10 else f"{mean['seconds']:.1f}",
                "parameters": f"{mean['parameters'] / 1e6:.2f}M",
                "pass@2 against the first": "" if runs is first else runs.passed(2, first).text("+"),
                "test loss": f"{np.mean([np.mean(list(run.values())) for run in runs.losses]):.3f}" if all(runs.losses) else "",
                "test loss against the first": f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else "",
            }
        )
    table = pd.DataFrame(lines)
    return table if any(table["test loss"]) else table.iloc[:, :-2]


def _pairs(text: object) -> dict[str, str]:
    """Parse `task:value task:value ...`; empty where there is no text."""
    return dict(part.rsplit(":", 1) for part in text.split()) if isinstance(text, str) else {}
