"""The chance that a task's training ends with a right answer, given what was seen of it: fitted to recorded looks, and judged on others.

Notable: a logistic regression of six plain features, the same by which a person would judge. Judged by cross-validation in which all looks
of a task are in one fold, as those of one task say the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lab.budget.curve import newton
from lab.budget.looks import Look

Floats = npt.NDArray[np.float64]
FEATURES = ("bias", "demonstrations exact", "votes for the best", "best one kept", "log cells / 100", "log part of the share")
FOLDS = 10
PRECISION = np.array([1e-3, 0.25, 0.25, 0.25, 0.25, 0.25])
"""Of the normal prior around 0: a standard deviation of 2 for each coefficient, next to nothing said of the bias."""


@dataclass(frozen=True)
class Chance:
    """The chance at a look: 1 / (1 + exp(-features @ `beta`)), in the order of `FEATURES`."""

    beta: Floats

    def __call__(self, looks: Sequence[Look]) -> Floats:
        """(n,), within 0..1."""
        chances: Floats = 1.0 / (1.0 + np.exp(-np.clip(features(looks) @ self.beta, -30.0, 30.0)))
        return chances


def features(looks: Sequence[Look]) -> Floats:
    """(n, 6): `FEATURES` of each look."""
    rows = [[1.0, k.exact, k.share, float(k.kept), np.log(k.cells / 100.0), np.log(max(k.part, 1e-3))] for k in looks]
    return np.array(rows, dtype=np.float64).reshape(len(looks), len(FEATURES))


def fit_chance(looks: Sequence[Look]) -> Chance:
    """The likeliest chance, given the prior. Each task counts the same, however many looks there were."""
    _, member, counts = np.unique([k.task for k in looks], return_inverse=True, return_counts=True)
    solved = np.array([k.solved for k in looks], dtype=np.float64)
    return Chance(newton(features(looks), solved, len(looks) / len(counts) / counts[member], np.zeros(len(FEATURES)), PRECISION))


def held_out(looks: Sequence[Look]) -> Floats:
    """The chance of each look by the looks of other tasks. Raises ValueError where there are fewer tasks than folds."""
    folds = folds_of(looks)
    chances = np.zeros(len(looks))
    for fold in range(FOLDS):
        here = folds == fold
        others = [k for k, mine in zip(looks, here, strict=True) if not mine]
        chances[here] = fit_chance(others)([k for k, mine in zip(looks, here, strict=True) if mine])
    return chances


def fold_of(task: str) -> int:
    """The fold of all looks of a task, 0 to FOLDS - 1."""
    return int(hashlib.sha256(task.encode()).hexdigest(), 16) % FOLDS


def folds_of(looks: Sequence[Look]) -> npt.NDArray[np.int64]:
    """The fold of each look, (n,). Raises ValueError where there are fewer tasks than folds."""
    folds = np.array([fold_of(k.task) for k in looks], dtype=np.int64)
    if len(set(folds.tolist())) < FOLDS:
        raise ValueError(f"{len({k.task for k in looks})} tasks are too few to be judged in {FOLDS} parts")
    return folds


def reliability(looks: Sequence[Look], chances: Floats) -> pd.DataFrame:
    """By tenths of the chance: looks, tasks, mean chance and share that was solved in the end."""
    seen = pd.DataFrame({"task": [k.task for k in looks], "predicted": chances, "solved": [float(k.solved) for k in looks]})
    tenths = seen.groupby(np.minimum((chances * 10).astype(int), 9))
    table = tenths[["predicted", "solved"]].mean()
    table.insert(0, "tasks", tenths["task"].nunique())
    table.insert(0, "looks", tenths.size())
    return table.rename_axis("tenth").reset_index()


def draw_reliability(table: pd.DataFrame, path: Path) -> None:
    """Predicted against solved, a point a tenth, as large as it has tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.scatter(table["predicted"], table["solved"], s=20 + 4 * table["tasks"])
    axes.set(xlabel="predicted chance", ylabel="share solved", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.savefig(path)
