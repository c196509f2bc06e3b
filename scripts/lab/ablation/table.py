"""Runs as a table: a line a variant, means over its seeds, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.report.run.statistics import Interval, draws

Marks = Mapping[str, str]
"""Of one run: task -> a mark for each test output, 1 or 2 for the attempt that was right, else 0."""

Losses = Mapping[str, float]
"""Of one run: task -> its test loss, in nats a token."""


def parse_marks(text: str) -> dict[str, str]:
    """What `results` holds: `task:marks task:marks ...`."""
    return dict(part.rsplit(":", 1) for part in text.split())


def parse_losses(text: object) -> dict[str, float]:
    """What `test_losses` holds, `task:nats task:nats ...`; nothing where it is empty."""
    return {task: float(loss) for task, loss in (part.rsplit(":", 1) for part in text.split())} if isinstance(text, str) else {}


def interval(runs: Sequence[Marks], k: Literal[1, 2], seed: int = 0) -> Interval:
    """pass@k of `runs`, which differ in their seed: right outputs of all outputs, mean over the runs.

    Percentile bootstrap: whole tasks are drawn, as the outputs of one task are solved or missed together, and runs are. All
    runs are of the same tasks; ValueError otherwise.
    """
    right, outputs = _counts(runs, k)
    rng = np.random.default_rng(seed)
    resampled = _share(right, outputs, draws(rng, right.shape[1]), draws(rng, len(right)))
    return Interval.of(right.sum() / len(right) / outputs.sum(), resampled)


def difference(runs: Sequence[Marks], others: Sequence[Marks], k: Literal[1, 2], seed: int = 0) -> Interval:
    """How much higher pass@k of `runs` is than that of `others`, on the same tasks: those are drawn for both together."""
    (right, outputs), (against, same) = _counts(runs, k), _counts(others, k)
    if set(runs[0]) != set(others[0]) or not (outputs == same).all():
        raise ValueError("not of the same tasks")
    return _gap(right, against, outputs, seed)


def loss_difference(runs: Sequence[Losses], others: Sequence[Losses], seed: int = 0) -> Interval | None:
    """How much higher the mean test loss of `runs` is than that of `others`, in nats, over the tasks that all of them have, drawn as in
    `difference`. None where there are none."""
    tasks = sorted(set.intersection(*(set(run) for run in (*runs, *others))))
    if not tasks:
        return None
    mine, against = (np.array([[run[t] for t in tasks] for run in them]) for them in (runs, others))
    return _gap(mine, against, np.ones(len(tasks)), seed)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a variant, as text, in the order in which they come. The last columns compare with the first variant: pass@2, and the test
    loss where any run has one."""
    lines = []
    first: list[dict[str, str]] = []
    first_losses: list[dict[str, float]] = []
    measured = rows["test_losses"].map(lambda text: bool(parse_losses(text))).any()
    for variant, group in rows.groupby("variant", sort=False):
        runs = [parse_marks(text) for text in group["results"]]
        losses = [parse_losses(text) for text in group["test_losses"]]
        first, first_losses = first or runs, first_losses or losses
        mean = group[["view_exact", "exact", "examples_per_second", "flops", "segments", "seconds", "parameters"]].astype(float).mean()
        line = {
            "variant": variant,
            "seeds": len(group),
            "pass@1 %": interval(runs, 1).text(),
            "pass@2 %": interval(runs, 2).text(),
            "views %": f"{100 * mean['view_exact']:.1f}",
            "training grids %": f"{100 * mean['exact']:.1f}",
            "examples/s": f"{mean['examples_per_second']:.0f}",
            "FLOPs": f"{mean['flops']:.2e}",
            "segments": f"{mean['segments']:.0f}",
            "seconds": f"{mean['seconds']:.0f}" if mean["seconds"] >= 10 else f"{mean['seconds']:.1f}",
            "parameters": f"{mean['parameters'] / 1e6:.2f}M",
            "pass@2 against the first": "" if runs is first else difference(runs, first, 2).text("+"),
        }
        if measured:
            line |= _loss_columns(losses, first_losses)
        lines.append(line)
    return pd.DataFrame(lines)


def _counts(runs: Sequence[Marks], k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Right outputs (runs, tasks) and outputs (tasks,), tasks by id."""
    tasks = sorted(runs[0])
    if any(sorted(run) != tasks or any(len(run[t]) != len(runs[0][t]) for t in tasks) for run in runs):
        raise ValueError("not of the same tasks")
    right = [[sum(m in "12"[:k] for m in run[t]) for t in tasks] for run in runs]
    return np.array(right, dtype=np.float64), np.array([len(runs[0][t]) for t in tasks], dtype=np.float64)


def _loss_columns(losses: Sequence[Losses], first: Sequence[Losses]) -> dict[str, str]:
    """The mean test loss over seeds and tasks, and how it compares with that of the first variant."""
    mean = np.mean([np.mean(list(run.values())) for run in losses]) if all(losses) else None
    against = None if losses is first else loss_difference(losses, first)
    return {
        "test loss": "" if mean is None else f"{mean:.3f}",
        "test loss against the first": "" if against is None else f"{against.value:+.3f} [{against.low:+.3f}, {against.high:+.3f}]",
    }


def _gap(mine: npt.NDArray[np.float64], against: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64], seed: int) -> Interval:
    """How much higher the mean of `mine` (runs, tasks), of so many `outputs` (tasks,), is than that of `against` on the same tasks."""
    rng = np.random.default_rng(seed)
    tasks = draws(rng, len(outputs))
    gained = _share(mine, outputs, tasks, draws(rng, len(mine))) - _share(against, outputs, tasks, draws(rng, len(against)))
    return Interval.of((mine.sum() / len(mine) - against.sum() / len(against)) / outputs.sum(), gained)


def _share(
    right: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64], tasks: npt.NDArray[np.float64], runs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The mean of each resample: what the drawn tasks have of `right` over their outputs, mean over the drawn runs."""
    return ((runs @ right) * tasks).sum(1) / (len(right) * (tasks @ outputs))
