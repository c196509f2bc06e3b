"""What other shares of the time would have solved, against every division tried in turn."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tune_budget
from lab.budget.divisions import Course, divisions, table
from lab.budget.divisions import _oracle as oracle
from lab.budget.looks import Look


def look(task: str, seconds: float, right: bool, *, output: int = 0, run: str = "r", cells: int = 100) -> Look:
    return Look(run, task, output, cells, seconds, round(10 * seconds), 0.5, 0.0, 0.5, False, right, right)


def many(run: str, seconds: float) -> list[Look]:
    """Forty tasks of which the small ones are solved soon and the large ones never; each is looked at eight times."""
    found = []
    for k in range(40):
        small = k % 2 == 0
        for at in np.linspace(seconds / 8, seconds, 8):
            found.append(look(f"t{k}", float(at), small and at >= seconds * (k + 2) / 42, run=run, cells=36 if small else 900))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_oracle_solves_as_much_as_the_best_of_all_divisions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tasks = []
    for k in range(5):
        at = np.sort(rng.choice(np.arange(1, 12), size=3, replace=False)).astype(np.float64)
        tasks.append(Course(f"t{k}", 100, at, rng.integers(0, 3, size=3), 0.1))
    total = float(rng.integers(3, 30))
    options = [[(0.0, 0), *zip(t.at, t.right, strict=True)] for t in tasks]
    best = max(sum(right for _, right in choice) for choice in product(*options) if sum(at for at, _ in choice) <= total)
    seconds = oracle(tasks, total)
    assert seconds.sum() <= total + 1e-9
    # Each vote's seconds are rounded up to a 4,000th of the total: only a choice that uses it to the last bit can be missed.
    assert best - 2 <= sum(t.solved(s) for t, s in zip(tasks, seconds, strict=True)) <= best
    roomy = oracle(tasks, total * 1.01)
    assert sum(t.solved(s) for t, s in zip(tasks, roomy, strict=True)) >= best


def test_equal_shares_solve_what_votes_say_and_between_them_what_lies_between() -> None:
    looks = [look(f"t{k}", at, at == 4.0) for k in range(40) for at in (2.0, 4.0, 8.0)]
    assert divisions(looks, 40 * 1.9)["equal"]["r"].sum() == 0
    assert divisions(looks, 40 * 2 * 2**0.25)["equal"]["r"].sum() == pytest.approx(10)
    assert divisions(looks, 40 * 4.0)["equal"]["r"].sum() == pytest.approx(40)
    assert divisions(looks, 40 * 8.1)["equal"]["r"].sum() == 0
    assert divisions(looks, 40 * 8.1)["oracle"]["r"].sum() == 40


def test_outputs_of_a_task_are_counted_together() -> None:
    looks = [look(f"t{k}", 1.0, output == 0, output=output) for k in range(40) for output in (0, 1)]
    assert divisions(looks, 80.0)["equal"]["r"].tolist() == [1.0] * 40


def test_shares_by_worth_find_what_size_tells() -> None:
    looks = many("a", 16.0) + many("b", 16.0)
    found = divisions(looks, 40 * 8.0)
    told = {row["division"]: row for row in table(found, 40).to_dict("records")}
    assert told["equal"]["solved"] < told["by worth"]["solved"] <= told["oracle"]["solved"] == 20
    assert told["equal"]["more"] == 0
    worth = told["by worth"]
    assert worth["low"] <= worth["more"] <= worth["high"] and worth["more"] == pytest.approx(worth["solved"] - told["equal"]["solved"])


def test_few_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        divisions([look("a", 1.0, True)], 9.0)


def test_divisions_without_solutions_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tune_budget.main(["--time-budget", "8m", "--runs", str(tmp_path), "--divisions"]) == 2
    assert "--solutions" in capsys.readouterr().err
