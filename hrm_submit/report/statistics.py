"""The figures of a report and how sure they are: bootstrap intervals, shares by group, two runs compared by the sign test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Solutions
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.scoring import Score, by_task, score, shares
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
    rows, result = by_task(answers, solutions), score(answers, solutions)
    resampled = shares(draws(np.random.default_rng(seed), len(rows)) @ rows)
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
class Comparison:
    """Two runs on the tasks that both had to solve and whose truth is known: how many there are, with how many test outputs, how many of
    these each run solved, the difference of pass@2, and the tasks that the first run solved whole and the second did not (`gained`), or the
    reverse (`lost`)."""

    tasks: int
    outputs: int
    solved: tuple[int, int]
    difference: Interval
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Say whether the difference can be chance."""
        if not self.gained and not self.lost:
            return "Both runs solved the same."
        p_value = sign_test(len(self.gained), len(self.lost))
        words = "can well be chance" if p_value > 0.05 else "is hardly chance"
        return f"{len(self.gained)} gained, {len(self.lost)} lost: that {words} (two-sided exact sign test, p = {p_value:.3g})."


def compare(mine: Tables, theirs: Tables, other: str) -> Comparison:
    """Compare two runs. Raises DataError, naming `other`, where they have no task with a known solution in common."""
    both = mine.outputs.merge(theirs.outputs, on=["task", "output"]).dropna(subset=["solved_x", "solved_y"])
    if both.empty:
        raise DataError(f"{other}: has no task with a known solution in common with this run")
    solved = both[["solved_x", "solved_y"]].astype(bool)
    here, there = (column for _, column in solved.groupby(both["task"], sort=False).all().items())
    gained, lost = (tuple(here.index[found]) for found in (here & ~there, there & ~here))
    change = solved["solved_x"].to_numpy(dtype=np.float64) - solved["solved_y"]
    counts = tuple(int(n) for n in solved.sum())
    return Comparison(len(here), len(both), (counts[0], counts[1]), mean_interval(list(both["task"]), change.to_numpy()), gained, lost)
