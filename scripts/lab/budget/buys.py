"""What more time is best spent on: longer training, a second training whose votes are pooled, more views, or another preset.

Notable: each is told by what was recorded of the same outputs, as points of pass@2 with a 95 % interval (bootstrap over tasks): longer
training by the fitted curve; a second training by two runs of other seeds, their votes pooled as `solve` pools them; twice the views by
what half of them, drawn without replacement, would have solved less (the next doubling adds no more than the last); another preset by
its own runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.arc.task import Solutions
from hrm_submit.predict.vote import Candidate, pool, ranked
from hrm_submit.report.run.statistics import Interval, draws
from lab.budget.answers import Answers, Output, solved
from lab.budget.curve import SolvedCurve
from lab.budget.recording import Recording

DRAWS = 32
"""Draws of half of the views."""


def worth_buying(recordings: Sequence[Recording], segments: float, solutions: Solutions) -> pd.DataFrame:
    """A line for each thing to buy for the first of `recordings`: by how many points of 100 it raises pass@2, the interval, and how often
    the time it takes. `segments`: how many a task is planned to have in the mean. Nothing that was not recorded has a line."""
    first, rows = recordings[0], []
    runs = first.answers
    if first.curve and segments > 0:
        rows.append(_row("twice the training", 2.0, _longer(first, segments)))
    pairs = [(a, b) for a, b in combinations(runs, 2) if a.seed != b.seed and a.budget == b.budget]
    if pairs:
        rows.append(_row("a second training, pooled", 2.0, _estimate([_second(a, b, solutions) for a, b in pairs])))
    rows.append(_row("twice the views, at most", 1.0, _estimate([_views(run, solutions) for run in runs])))
    for other in recordings[1:]:
        changed = _instead(runs, other.answers, solutions)
        if changed:
            times = fmean(r.budget for r in other.answers) / max(1e-9, fmean(r.budget for r in runs))
            rows.append(_row(f"the preset of {other.folders[0].name}", times, _estimate([changed])))
    return pd.DataFrame(rows)


def _row(buy: str, time: float, gain: Interval) -> dict[str, object]:
    return {"buy": buy, "time": time, "points": 100 * gain.value, "low": 100 * gain.low, "high": 100 * gain.high}


def _longer(recording: Recording, segments: float) -> Interval:
    cells = np.array([o.cells for o in recording.outcomes], dtype=np.float64)

    def gain(curve: SolvedCurve) -> float:
        return float(np.mean([curve(2 * segments, c) - curve(segments, c) for c in cells]))

    assert recording.curve is not None
    return Interval.of(gain(recording.curve), np.array([gain(curve) for curve in recording.curves]))


def _second(a: Answers, b: Answers, solutions: Solutions) -> dict[Output, float]:
    """By how much pooling two trainings solves more of each output than one of them."""
    here, there = a.known(solutions), b.known(solutions)
    found = {}
    for key in here.keys() & there.keys():
        (one, truth), (two, _) = here[key], there[key]
        found[key] = solved(pool([one, two]), truth) - (solved(one, truth) + solved(two, truth)) / 2
    return found


def _views(run: Answers, solutions: Solutions) -> dict[Output, float]:
    """By how much all views solve more of each output than half of them."""
    found = {}
    for number, (key, (candidates, truth)) in enumerate(sorted(run.known(solutions).items(), key=lambda item: item[0])):
        votes = np.array([c.votes for c in candidates], dtype=np.int64)
        if votes.sum() < 2:
            found[key] = 0.0
            continue
        drawn = np.random.default_rng(number).multivariate_hypergeometric(votes, int(votes.sum()) // 2, size=DRAWS)
        halves = [solved(_with_votes(candidates, votes, row), truth) for row in drawn]
        found[key] = solved(candidates, truth) - float(np.mean(halves))
    return found


def _with_votes(candidates: Sequence[Candidate], before: npt.NDArray[np.int64], votes: npt.NDArray[np.int64]) -> list[Candidate]:
    """The candidates under fewer votes, each with half of what its weight has beside them, best first."""
    beside = [(c.weight - n) / 2 for c, n in zip(candidates, before.tolist(), strict=True)]
    kept = zip(candidates, votes.tolist(), beside, strict=True)
    return ranked(replace(c, votes=n, weight=n + more) for c, n, more in kept if n or more > 0)


def _instead(runs: Sequence[Answers], theirs: Sequence[Answers], solutions: Solutions) -> dict[Output, float]:
    """By how much `theirs` solve more of each output that both answered."""
    here, there = _mean_solved(runs, solutions), _mean_solved(theirs, solutions)
    return {key: there[key] - here[key] for key in here.keys() & there.keys()}


def _mean_solved(runs: Sequence[Answers], solutions: Solutions) -> dict[Output, float]:
    found: dict[Output, list[bool]] = {}
    for run in runs:
        for key, (candidates, truth) in run.known(solutions).items():
            found.setdefault(key, []).append(solved(candidates, truth))
    return {key: float(np.mean(each)) for key, each in found.items()}


def _estimate(each: Sequence[Mapping[Output, float]]) -> Interval:
    """The mean over outputs of the mean over `each`, and its interval over tasks."""
    by_task: dict[str, list[float]] = {}
    for key in sorted({key for found in each for key in found}):
        by_task.setdefault(key[0], []).append(float(np.mean([found[key] for found in each if key in found])))
    if not by_task:
        return Interval(0.0, 0.0, 0.0)
    sums, sizes = np.array([sum(v) for v in by_task.values()]), np.array([len(v) for v in by_task.values()])
    drawn = draws(np.random.default_rng(0), len(sums))
    return Interval.of(sums.sum() / sizes.sum(), (drawn @ sums) / (drawn @ sizes))
