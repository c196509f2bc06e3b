"""The figures of a report and how sure they are: bootstrap intervals, shares by group, two runs compared by the sign test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Solutions
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import Score, score, task_results
from hrm_submit.report.tables import Tables

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A share, or a difference of shares, and its 95 % percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(value: float, resampled: npt.NDArray[np.float64]) -> Interval:
        """Make the interval of `value` from its value in each resample."""
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(resampled, [tail, 100 - tail])
        return Interval(float(value), float(low), float(high))

    def text(self, sign: str = "") -> str:
        """Write it in percent, as `23.3 [15.0, 31.7]`; `sign` is "+" for differences."""
        return f"{100 * self.value:{sign}.1f} [{100 * self.low:{sign}.1f}, {100 * self.high:{sign}.1f}]"


def draws(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Draw `n` of `n` with replacement; returns how often each was drawn, (RESAMPLES, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def mean_interval(tasks: Sequence[str], values: npt.NDArray[np.float64], seed: int = 0) -> Interval:
    """The mean of one value a sample, with its bootstrap interval over whole tasks; one seed gives the same draws of the same tasks."""
    _, number = np.unique(tasks, return_inverse=True)
    sums, sizes = np.bincount(number, weights=values), np.bincount(number)
    drawn = draws(np.random.default_rng(seed), len(sums))
    return Interval.of(values.mean(), (drawn @ sums) / (drawn @ sizes))


@dataclass(frozen=True)
class Scores:
    """What `score` gives for a submission, and an interval of each figure that is a share."""

    score: Score
    figures: Mapping[str, Interval]


def scores(answers: Mapping[str, Sequence[Attempts]], solutions: Solutions, *, seed: int = 0) -> Scores:
    """Score over every task of `solutions`, with intervals. Raises DataError.

    Whole tasks are drawn, because the outputs of one task are solved or missed together; `seed` makes the draws.
    """
    result = score(answers, solutions)
    per_task = []
    for task_id, outputs in solutions.items():
        results = task_results(answers.get(task_id, ()), outputs)
        n, first, solved = len(results), sum(r.first for r in results), sum(r.solved for r in results)
        per_task.append((n, first, solved, solved == n, solved / n, sum(r.cells for r in results)))
    table = np.array(per_task, dtype=np.float64)
    n = len(table)
    drawn = draws(np.random.default_rng(seed), n) @ table
    outputs_drawn = drawn[:, 0]
    resampled = {
        "pass@1": drawn[:, 1] / outputs_drawn,
        "pass@2": drawn[:, 2] / outputs_drawn,
        "task_pass@2": drawn[:, 3] / n,
        "mean_task_pass@2": drawn[:, 4] / n,
        "cell_accuracy": drawn[:, 5] / outputs_drawn,
    }
    values = cast(Mapping[str, float], result)
    return Scores(result, {name: Interval.of(values[name], found) for name, found in resampled.items()})


def sign_test(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value that gains and losses are equally likely (Dixon and Mood 1946; on pairs, McNemar's exact test):
    twice the binomial tail of the rarer one, at most 1."""
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


Groups: TypeAlias = list[tuple[str, int, int]]
"""Name, number of tasks or outputs, and how many of them are right."""


def by_bands(values: pd.Series, right: pd.Series, edges: Mapping[str, float]) -> Groups:
    """Group by the first of the ascending `edges` that is not below each value, and count what is `right`; missing values are left out."""
    bands = pd.cut(values.astype(float), [-math.inf, *edges.values()], labels=list(edges))
    counts = right.astype(float).fillna(0).groupby(bands, observed=True).agg(["size", "sum"])
    return [(str(name), int(n), int(solved)) for name, n, solved in counts.itertuples()]


def solved_by_side(tasks: pd.DataFrame) -> Groups:
    """Group the tasks whose truth is known by their largest side."""
    judged = tasks[tasks["state"] != "unknown"]
    return by_bands(judged["side"], judged["state"] == "solved", {f"{side - 4}-{side}": float(side) for side in range(5, 31, 5)})


def right_by_votes(outputs: pd.DataFrame) -> Groups:
    """Group the outputs whose truth is known by the share of votes of their first candidate, in fifths; count right first attempts."""
    judged = outputs[outputs["solved"].notna()]
    edges = {f"{20 * k}-{20 * k + 20} %": round(0.2 * k + 0.2, 1) for k in range(5)}
    return by_bands(judged["votes_share"], judged["first"], edges)


@dataclass(frozen=True)
class Pairing:
    """Names of what this run solved and the other did not (`gained`), the reverse (`lost`), `both` or `neither` solved."""

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    both: tuple[str, ...]
    neither: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """Of the sign test."""
        return sign_test(len(self.gained), len(self.lost))

    @property
    def verdict(self) -> str:
        """Say whether the difference can be chance."""
        if not self.gained and not self.lost:
            return "Both runs solved the same."
        words = "can well be chance" if self.p_value > 0.05 else "is hardly chance"
        counts = f"{len(self.gained)} gained, {len(self.lost)} lost: that {words}"
        return f"{counts} (two-sided exact sign test, p = {self.p_value:.3g})."


@dataclass(frozen=True)
class Comparison:
    """This run against `other`, by tasks (every output right) and by test outputs (named `TASK test K`, from 1); `difference` of pass@2."""

    other: str
    tasks: Pairing
    outputs: Pairing
    difference: Interval


def compare(mine: Tables, theirs: Tables, other: str) -> Comparison:
    """Pair the tasks and outputs that both runs had to solve and whose truth is known. Raises DataError if there are none."""
    both = mine.outputs.merge(theirs.outputs, on=["task", "output"]).dropna(subset=["solved_x", "solved_y"])
    if both.empty:
        raise DataError(f"{other}: has no task with a known solution in common with this run")
    tasks = both.groupby("task", sort=False)[["solved_x", "solved_y"]].all().reset_index()
    names = [f"{task} test {k + 1}" for task, k in zip(both["task"], both["output"], strict=True)]
    change = both["solved_x"].to_numpy(dtype=np.float64) - both["solved_y"].to_numpy(dtype=np.float64)
    return Comparison(other, _pair(tasks["task"], tasks), _pair(names, both), mean_interval(list(both["task"]), change))


def _pair(names: Iterable[str], solved: pd.DataFrame) -> Pairing:
    found: dict[tuple[bool, bool], list[str]] = {}
    for name, here, there in zip(names, solved["solved_x"], solved["solved_y"], strict=True):
        found.setdefault((bool(here), bool(there)), []).append(str(name))
    gained, lost, both, neither = (tuple(found.get(key, ())) for key in ((True, False), (False, True), (True, True), (False, False)))
    return Pairing(gained, lost, both, neither)
