"""Figures against brute force, textbook values and counts by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.corpora.scoring import score
from hrm_submit.report.statistics import right_by_votes, scores, solved_by_side


def some_answers(seed: int, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tasks with 1 to 3 outputs, right at the first attempt, at the second, or not, all of a task alike."""
    rng = np.random.default_rng(seed)
    right, wrong = make_grid([[1, 2], [3, 4]]), make_grid([[1, 2], [0, 0]])
    attempts = [(right, wrong), (wrong, right), (wrong, wrong)]
    answers, solutions = {}, {}
    for k in range(n):
        outputs = int(rng.integers(1, 4))
        answers[str(k)] = [attempts[int(rng.integers(0, 3))]] * outputs
        solutions[str(k)] = (right,) * outputs
    return answers, solutions


def test_the_intervals_are_those_of_a_bootstrap_over_tasks() -> None:
    """Drawn again here, task by task, scored by `score`, with other draws: quantiles agree within their noise."""
    answers, solutions = some_answers(1, 60)
    found = scores(answers, solutions)
    rng, names = np.random.default_rng(99), list(solutions)
    drawn: dict[str, list[float]] = {name: [] for name in found.figures}
    for _ in range(1500):
        chosen = [names[i] for i in rng.integers(0, len(names), len(names))]
        again = score({str(i): answers[t] for i, t in enumerate(chosen)}, {str(i): solutions[t] for i, t in enumerate(chosen)})
        for name, values in drawn.items():
            values.append(again[name])  # type: ignore[literal-required]
    plain = score(answers, solutions)
    for name, figure in found.figures.items():
        assert figure.value == plain[name]  # type: ignore[literal-required]
        assert (figure.low, figure.high) == pytest.approx(tuple(np.percentile(drawn[name], [2.5, 97.5])), abs=0.015)
    by_output = 1.96 * math.sqrt(plain["pass@2"] * (1 - plain["pass@2"]) / plain["counts"]["outputs"])
    kaggle = found.figures["pass@2"]
    assert kaggle.high - kaggle.low > 2.2 * by_output, "outputs of one task are not counted as if they were independent"


def test_the_intervals_are_the_same_every_time_and_shrink_to_what_is_certain() -> None:
    answers, solutions = some_answers(2, 20)
    assert scores(answers, solutions) == scores(answers, solutions)
    right = {task: [(outputs[0], outputs[0])] * len(outputs) for task, outputs in solutions.items()}
    assert all((f.low, f.value, f.high) == (1.0, 1.0, 1.0) for f in scores(right, solutions).figures.values())
    one = {task: solutions[task] for task in list(solutions)[:1]}
    assert all(f.low == f.value == f.high for f in scores(answers, one).figures.values())


def test_what_goes_with_success_is_counted_where_the_truth_is_known() -> None:
    states = ["solved", "wrong", "nearly", "solved", "unknown", "solved"]
    tasks = pd.DataFrame({"state": states, "side": pd.array([5, 6, 10, 30, 3, None], dtype="Int64")})
    assert solved_by_side(tasks) == [("1-5", 1, "1 (100.0 %)"), ("6-10", 2, "0 (0.0 %)"), ("26-30", 1, "1 (100.0 %)")]
    rows = [(0.1, True), (0.2, False), (0.21, True), (0.8, False), (0.81, True), (1.0, True), (0.9, None), (None, False)]
    frame = pd.DataFrame([(share, right, right) for share, right in rows], columns=["votes_share", "solved", "first"])
    typed = frame.astype({"votes_share": "Float64", "solved": "boolean", "first": "boolean"})
    counted = [("0-20 %", 2, "1 (50.0 %)"), ("20-40 %", 1, "1 (100.0 %)"), ("60-80 %", 1, "0 (0.0 %)"), ("80-100 %", 2, "2 (100.0 %)")]
    assert right_by_votes(typed) == counted
