"""The figures of a report and how sure they are: bootstrap and Wilson intervals, the sign test, pass@k, shares by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Solutions
from hrm_submit.corpora.scoring import Score, score, task_results

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
        """The interval of `value`, from what it is in each resample."""
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(resampled, [tail, 100 - tail])
        return Interval(float(value), float(low), float(high))

    def text(self, sign: str = "") -> str:
        """In percent, as `23.3 [15.0, 31.7]`; `sign` is "+" for differences."""
        return f"{100 * self.value:{sign}.1f} [{100 * self.low:{sign}.1f}, {100 * self.high:{sign}.1f}]"


def draws(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """How often each of `n` is drawn when `n` are, with replacement, (RESAMPLES, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


@dataclass(frozen=True)
class Scores:
    """What `score` gives for a submission, and those of its figures that are shares with their intervals."""

    score: Score
    figures: Mapping[str, Interval]


def scores(answers: Mapping[str, Sequence[Attempts]], solutions: Solutions, *, seed: int = 0) -> Scores:
    """Scores over every task of `solutions`, with their intervals.

    Whole tasks are drawn, as the outputs of one task are solved or missed together; `seed` makes the draws. Raises DataError.
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


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); holds for small `n` and shares of 0 and 1 too. `(0, 1)` where `n` is 0."""
    if not n:
        return 0.0, 1.0
    z, p = 1.959964, successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided exact p-value that gains and losses are equally likely (Dixon and Mood 1946; on pairs, McNemar's exact test).

    Twice the binomial tail of the rarer one, at most 1; what both solve or neither does carries no sign and does not count.
    """
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def pass_at_k(outputs: pd.DataFrame, most: int = 10) -> list[float]:
    """Share of the outputs with a known truth that one of the first k answers equals, for k = 1..`most`; empty without any."""
    judged = outputs[outputs["solved"].notna()]
    if judged.empty:
        return []
    rank = judged["rank"].fillna(most + 1)
    return [float((rank <= k).mean()) for k in range(1, most + 1)]


@dataclass(frozen=True)
class Group:
    """`n` tasks or outputs that have something in common, `right` of them solved."""

    name: str
    n: int
    right: int

    @property
    def share(self) -> float:
        """Solved ones of all; 0 of none."""
        return self.right / self.n if self.n else 0.0


ACCURACY_BANDS = (
    ("perfect", 1.0),
    ("> 95 %", 0.95),
    ("> 80 %", 0.80),
    ("> 60 %", 0.60),
    ("> 40 %", 0.40),
    ("> 20 %", 0.20),
    ("at most 20 %", -1.0),
)


def accuracy_bands(tasks: pd.DataFrame) -> list[Group]:
    """How many tasks have how large a share of cells right (`best_cell_accuracy`); `perfect` are the solved ones."""
    counts = dict.fromkeys((name for name, _ in ACCURACY_BANDS), 0)
    judged = tasks[tasks["best_cell_accuracy"].notna()]
    for accuracy in judged["best_cell_accuracy"]:
        name = next(name for name, above in ACCURACY_BANDS if accuracy > above or (accuracy == above == 1.0))
        counts[name] += 1
    return [Group(name, n, n if name == "perfect" else 0) for name, n in counts.items()]


def banded(values: Iterable[float], edges: Sequence[float]) -> list[int | None]:
    """For each value the index of the first of the ascending `edges` that is not below it; None for one that is missing."""
    return [None if pd.isna(v) else int(np.searchsorted(edges, v)) for v in values]


def solved_by(tasks: pd.DataFrame, column: str) -> list[Group]:
    """Solved tasks by one of `side`, `colours`, `size_change`, `demonstrations`, in the natural order; only groups that occur."""
    judged = tasks[(tasks["state"] != "unknown") & tasks[column].notna()]
    names: Sequence[str]
    if column == "side":
        names = ("1-5", "6-10", "11-15", "16-20", "21-25", "26-30")
        keys = [names[i or 0] for i in banded(judged[column], (5, 10, 15, 20, 25))]
    elif column == "size_change":
        names = ("same", "smaller", "larger", "mixed")
        keys = [str(v) for v in judged[column]]
    else:
        most = 6 if column == "demonstrations" else 10
        names = [*(str(k) for k in range(1, most)), f"{most}+" if column == "demonstrations" else str(most)]
        keys = [names[min(int(v), most) - 1] for v in judged[column]]
    solved = list(judged["state"] == "solved")
    return [
        Group(name, keys.count(name), sum(s for key, s in zip(keys, solved, strict=True) if key == name)) for name in names if name in keys
    ]


def confidence_groups(outputs: pd.DataFrame) -> list[Group]:
    """Outputs by the share of votes that the first candidate has, in fifths; `right` counts right first attempts (0 if unknown)."""
    names = ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %")
    voted = outputs[outputs["votes_share"].notna()]
    if voted["solved"].notna().any():
        voted = voted[voted["solved"].notna()]
    keys = banded(voted["votes_share"], (0.2, 0.4, 0.6, 0.8))
    first = [bool(v) for v in voted["first"].fillna(False)]
    return [Group(name, keys.count(i), sum(f for key, f in zip(keys, first, strict=True) if key == i)) for i, name in enumerate(names)]
