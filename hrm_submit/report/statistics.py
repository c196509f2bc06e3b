"""The figures of a report and how sure they are: bootstrap intervals, and shares by group."""

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
from hrm_submit.corpora.scoring import Score, by_task, score, shares
from hrm_submit.report.grids import percent

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
        low, high = np.percentile(resampled, [2.5, 97.5])
        return Interval(float(value), float(low), float(high))

    def text(self, sign: str = "") -> str:
        """Write it in percent, as `23.3 [15.0, 31.7]`; `sign` is "+" for differences."""
        return f"{100 * self.value:{sign}.1f} [{100 * self.low:{sign}.1f}, {100 * self.high:{sign}.1f}]"


def draws(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Draw `n` of `n` with replacement; returns how often each was drawn, (RESAMPLES, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def mean_interval(tasks: Sequence[str], values: npt.NDArray[np.float64]) -> Interval:
    """The mean of one value a sample, with its bootstrap interval over whole tasks; the draws of the same tasks are always the same."""
    _, number = np.unique(tasks, return_inverse=True)
    sums, sizes = np.bincount(number, weights=values), np.bincount(number)
    drawn = draws(np.random.default_rng(0), len(sums))
    return Interval.of(values.mean(), (drawn @ sums) / (drawn @ sizes))


@dataclass(frozen=True)
class Scores:
    """What `score` gives for a submission, and an interval of each figure that is a share."""

    score: Score
    figures: Mapping[str, Interval]


def scores(answers: Mapping[str, Sequence[Attempts]], solutions: Solutions) -> Scores:
    """Score over every task of `solutions`, with intervals. Raises DataError.

    Whole tasks are drawn, because the outputs of one task are solved or missed together.
    """
    rows, result = by_task(answers, solutions), score(answers, solutions)
    resampled = shares(draws(np.random.default_rng(0), len(rows)) @ rows)
    values = cast(Mapping[str, float], result)
    return Scores(result, {name: Interval.of(values[name], found) for name, found in resampled.items()})


Shares: TypeAlias = list[tuple[str, int, str]]
"""Name, number of tasks or outputs, and how many of them are right."""


def by_bands(values: pd.Series, right: pd.Series, edges: Mapping[str, float]) -> Shares:
    """Group by the first of the ascending `edges` that is not below each value, and count what is `right`; missing values are left out."""
    bands = pd.cut(values.astype(float), [-math.inf, *edges.values()], labels=list(edges))
    counts = right.astype(float).fillna(0).groupby(bands, observed=True).agg(["size", "sum"])
    return [(str(name), int(n), f"{solved:.0f} ({percent(solved / n)})") for name, n, solved in counts.itertuples()]


def solved_by_side(tasks: pd.DataFrame) -> Shares:
    """Group the tasks whose truth is known by their largest side."""
    judged = tasks[tasks["state"] != "unknown"]
    return by_bands(judged["side"], judged["state"] == "solved", {f"{side - 4}-{side}": float(side) for side in range(5, 31, 5)})


def right_by_votes(outputs: pd.DataFrame) -> Shares:
    """Group the outputs whose truth is known by the share of votes of their first candidate, in fifths; count right first attempts."""
    judged = outputs[outputs["solved"].notna()]
    edges = {f"{20 * k}-{20 * k + 20} %": round(0.2 * k + 0.2, 1) for k in range(5)}
    return by_bands(judged["votes_share"], judged["first"], edges)
