"""How sure a table is: intervals and differences against those of every possible draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from lab.ablation.results import append, read
from lab.ablation.table import difference, interval, loss_difference, summary
from lab.markdown import to_markdown

from tests.scripts.lab.ablation.lab import runs_of, variants


def percentiles(chances: Counter[float]) -> tuple[float, float]:
    """2.5 and 97.5 % points of a distribution of values with weights."""
    total, below, found = sum(chances.values()), 0, []
    for tail in (0.025, 0.975):
        below = 0
        for value in sorted(chances):
            below += chances[value]
            if below > tail * total:
                found.append(value)
                break
    return found[0], found[1]


RUNS = [{"a": "102", "b": "0", "c": "1", "d": "22"}, {"a": "100", "b": "2", "c": "1", "d": "00"}]
OTHERS = [{"a": "000", "b": "0", "c": "1", "d": "20"}]
LOSSES = [{"a": 0.5, "b": 1.5, "c": 0.25, "d": 0.75}, {"a": 0.75, "b": 2.0, "c": 0.25, "d": 0.5}, {"a": 1.0, "b": 1.5, "c": 1.0, "d": 2.0}]


def passed(run: dict[str, str], tasks: Sequence[str], k: int) -> float:
    marks = "".join(run[t] for t in tasks)
    return sum(m in "12"[:k] for m in marks) / len(marks)


@pytest.mark.parametrize("k", [1, 2])
def test_intervals_are_those_of_every_possible_draw(k: Any) -> None:
    """All 256 draws of four tasks with all 4 draws of two runs, instead of some thousands at random."""
    chances: Counter[float] = Counter()
    for tasks in product("abcd", repeat=4):
        for i, j in product((0, 1), repeat=2):
            chances[round((passed(RUNS[i], tasks, k) + passed(RUNS[j], tasks, k)) / 2, 9)] += 1
    low, high = percentiles(chances)
    found = interval(RUNS, k)
    assert found.value == pytest.approx({1: 2 / 7, 2: 4 / 7}[k] if k == 1 else (5 / 7 + 3 / 7) / 2)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert interval(RUNS, k) == found


def test_differences_are_of_the_same_draw_of_tasks() -> None:
    chances: Counter[float] = Counter()
    for tasks in product("abcd", repeat=4):
        for i, j in product((0, 1), repeat=2):
            mine = (passed(RUNS[i], tasks, 2) + passed(RUNS[j], tasks, 2)) / 2
            chances[round(mine - passed(OTHERS[0], tasks, 2), 9)] += 1
    low, high = percentiles(chances)
    found = difference(RUNS, OTHERS, 2)
    assert found.value == pytest.approx(4 / 7 - 2 / 7)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert difference(OTHERS, OTHERS, 2).text("+") == "+0.0 [+0.0, +0.0]"
    with pytest.raises(ValueError, match="same tasks"):
        difference(RUNS, [{"a": "1"}], 2)


def test_losses_are_compared_on_the_same_draw_of_tasks() -> None:
    chances: Counter[float] = Counter()
    for tasks in product("abcd", repeat=4):
        for i, j in product((0, 1), repeat=2):
            gaps = [(LOSSES[i][t] + LOSSES[j][t]) / 2 - LOSSES[2][t] for t in tasks]
            chances[round(sum(gaps) / 4, 9)] += 1
    low, high = percentiles(chances)
    found = loss_difference(LOSSES[:2], LOSSES[2:])
    assert found is not None and found.value == pytest.approx(3.25 / 4 - 5.5 / 4)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    fewer = loss_difference([{"a": 0.5, "e": 9.0}], LOSSES[2:])
    assert fewer is not None and fewer.value == -0.5, "over the tasks that both have"
    assert loss_difference([{}], LOSSES) is None


def test_a_table_has_a_line_a_variant_with_means_over_its_seeds(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, tail=variants("mine|", more="seeds = [0, 1]") + variants("other", more="train.lr = 0.7"))
    path = tmp_path / "plan.csv"
    for n, (run, marks) in enumerate(zip(runs, [*RUNS, *OTHERS], strict=True)):
        figures = {
            "view_exact": 0.25 * n,
            "exact": 0.5,
            "loss": None,
            "segments": 10,
            "examples": 20,
            "examples_per_second": 100.0 + 50 * n,
        }
        append(
            path,
            run,
            {**figures, "flops": 1e12, "seconds": 2.0, "parameters": 1500000, "machine": "m", "results": marks, "test_losses": LOSSES[n]},
        )
    table = summary(read(path, runs))
    assert list(table["variant"]) == ["mine|", "other"] and list(table["seeds"]) == [2, 1]
    assert list(table["examples/s"]) == ["125", "200"] and list(table["views %"]) == ["12.5", "50.0"]
    assert table["pass@2 %"][0] == interval(RUNS, 2).text() and table["pass@2 %"][0].startswith("57.1 [")
    assert table["pass@2 against the first"][0] == "" and table["pass@2 against the first"][1].startswith("-28.6 [")
    assert list(table["test loss"]) == ["0.812", "1.375"] and table["test loss against the first"][1].startswith("+0.562 [")
    bare = summary(read(path, runs).assign(test_losses=""))
    assert list(bare.columns) == list(table.columns)[:-2], "without losses no columns for them"
    lines = to_markdown(table).splitlines()
    assert len(lines) == 4 and "| mine\\| |" in lines[2] and lines[1].count("---") == len(table.columns)
