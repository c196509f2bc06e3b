"""What is kept of runs, and how sure the table made of it is: intervals against those of every possible draw."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lab.ablation_results import FIGURES, VariantRuns, append, read, summary
from lab.markdown import to_markdown

from hrm_submit.report.statistics import Interval
from tests.scripts.lab.ablation_lab import runs_of, variants

RUNS = [{"a": "102", "b": "0", "c": "1", "d": "22"}, {"a": "100", "b": "2", "c": "1", "d": "00"}]
OTHERS = [{"a": "000", "b": "0", "c": "1", "d": "20"}]
LOSSES = [{"a": 0.5, "b": 1.5, "c": 0.25, "d": 0.75}, {"a": 0.75, "b": 2.0, "c": 0.25, "d": 0.5}, {"a": 1.0, "b": 1.5, "c": 1.0, "d": 2.0}]


def variant(marks: Sequence[dict[str, str]], losses: Sequence[dict[str, float]] = ()) -> VariantRuns:
    texts = [" ".join(f"{task}:{value}" for task, value in run.items()) for run in (*marks, *losses)]
    return VariantRuns(pd.DataFrame({"results": texts[: len(marks)], "test_losses": texts[len(marks) :] or [""] * len(marks)}))


def passed(run: dict[str, str], tasks: Sequence[str], k: int) -> float:
    marks = "".join(run[t] for t in tasks)
    return sum(m in "12"[:k] for m in marks) / len(marks)


def check(found: Interval, value: float, figure: Callable[[Sequence[str], int, int], float]) -> None:
    """Compare with all 256 draws of four tasks and all 4 draws of two runs, instead of some thousands at random."""
    chances = sorted(round(figure(tasks, i, j), 9) for tasks in product("abcd", repeat=4) for i, j in product((0, 1), repeat=2))
    below, total = Counter(chances), 0
    ends = []
    for tail in (0.025, 0.975):
        total = 0
        ends.append(next(x for x in sorted(below) if (total := total + below[x]) > tail * len(chances)))
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == (pytest.approx(ends[0], abs=0.02), pytest.approx(ends[1], abs=0.02))


@pytest.mark.parametrize(("k", "value"), [(1, 2 / 7), (2, 4 / 7)])
def test_intervals_are_those_of_every_possible_draw_and_differences_of_the_same_draw(k: int, value: float) -> None:
    def mean(tasks: Sequence[str], i: int, j: int) -> float:
        return (passed(RUNS[i], tasks, k) + passed(RUNS[j], tasks, k)) / 2

    check(variant(RUNS).passed(k), value, mean)
    assert variant(RUNS).passed(k) == variant(RUNS).passed(k)
    other = passed(OTHERS[0], "abcd", k)
    check(variant(RUNS).passed(k, variant(OTHERS)), value - other, lambda *drawn: mean(*drawn) - passed(OTHERS[0], drawn[0], k))
    assert variant(OTHERS).passed(k, variant(OTHERS)).text("+") == "+0.0 [+0.0, +0.0]"
    with pytest.raises(ValueError, match="same tasks"):
        variant(RUNS).passed(k, variant([{"a": "1"}]))


def test_losses_are_compared_over_the_tasks_that_both_have() -> None:
    others = variant(OTHERS, LOSSES[2:])
    found, fewer = variant(RUNS, LOSSES[:2]).loss_gain(others), variant(OTHERS, [{"a": 0.5, "e": 9.0}]).loss_gain(others)
    assert found is not None and found.value == pytest.approx(3.25 / 4 - 5.5 / 4)
    assert fewer is not None and fewer.value == -0.5
    assert variant(OTHERS, [{}]).loss_gain(others) is None


def figures_of(n: int, marks: dict[str, str], losses: dict[str, float]) -> dict[str, Any]:
    known: dict[str, Any] = {"view_exact": 0.25 * n, "exact": 0.5, "loss": None, "segments": 10, "examples": 20}
    known |= {"examples_per_second": 100.0 + 50 * n, "flops": 1e12, "seconds": 2.0, "parameters": 1500000}
    assert set(known) == set(FIGURES)
    return known | {"machine": "a, small one", "results": marks, "test_losses": losses}


def test_a_table_has_a_line_a_variant_with_means_over_its_seeds(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, tail=variants("mine|", more="seeds = [0, 1]") + variants("other", more="train.lr = 0.7"))
    path = tmp_path / "plan.csv"
    for n, (run, marks) in enumerate(zip(runs, [*RUNS, *OTHERS], strict=True)):
        append(path, run, figures_of(n, marks, LOSSES[n]))
    table = summary(read(path, runs))
    assert list(table["variant"]) == ["mine|", "other"] and list(table["seeds"]) == [2, 1]
    assert list(table["examples/s"]) == ["125", "200"] and list(table["views %"]) == ["12.5", "50.0"]
    assert table["pass@2 %"][0] == variant(RUNS).passed(2).text() and table["pass@2 %"][0].startswith("57.1 [")
    assert table["pass@2 against the first"][0] == "" and table["pass@2 against the first"][1].startswith("-28.6 [")
    assert list(table["test loss"]) == ["0.812", "1.375"] and table["test loss against the first"][1].startswith("+0.562 [")
    bare = summary(read(path, runs).assign(test_losses=""))
    assert list(bare.columns) == list(table.columns)[:-2], "without losses no columns for them"
    lines = to_markdown(table).splitlines()
    assert len(lines) == 4 and "| mine\\| |" in lines[2] and lines[1].count("---") == len(table.columns)


def test_a_torn_line_is_done_again_and_a_changed_variant_is_not_mixed_in(tmp_path: Path) -> None:
    runs, path = runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]")), tmp_path / "plan.csv"
    figures = figures_of(1, {"t:1": "01", "u": "2"}, {"t:1": 0.25})
    for run in runs:
        line = append(path, run, figures)
        assert (line["pass@1"], line["pass@2"]) == (pytest.approx(1 / 3, abs=1e-5), pytest.approx(2 / 3, abs=1e-5))
    assert list(read(path, runs)["seed"]) == [0, 1]
    path.write_text(path.read_text()[:-5])
    assert list(read(path, runs)["seed"]) == [0]
    append(path, runs[1], figures)
    rows = read(path, runs)
    assert list(rows["seed"]) == [0, 1] and rows["results"][1] == "t:1:01 u:2"
    assert rows["machine"][0] == "a, small one" and VariantRuns(rows).losses[0] == {"t:1": 0.25}
    assert read(path, runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]\ntrain.lr = 0.7"))).empty
