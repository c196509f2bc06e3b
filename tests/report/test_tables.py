"""The tables and figures of a report against `score`, the submission that a run wrote, brute force, and a count of our own."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hrm_submit.arc.submission import read_submission
from hrm_submit.arc.task import make_grid
from hrm_submit.corpora.scoring import score
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.report.build import run_scores
from hrm_submit.report.data import load_run
from hrm_submit.report.statistics import right_by_votes, scores, solved_by_side
from hrm_submit.report.tables import read_tables
from tests.report.lab import Run, Written, small_run


def test_the_tables_of_a_real_run_say_what_its_files_say_and_score_as_its_submission_does(solved_run: Run) -> None:
    tables = read_tables(solved_run.directory, solutions=solved_run.solutions)
    outputs, tasks = tables.outputs, tables.tasks
    scored = score(read_submission(solved_run.submission)[0], load_solutions(solved_run.solutions))
    assert 0 < scored["task_pass@2"] < 1
    figures = [outputs["first"].mean(), outputs["solved"].mean(), (tasks["state"] == "solved").mean()]
    figures += [(tasks["solved_outputs"] / tasks["outputs"]).mean(), outputs["cells"].mean()]
    assert figures == pytest.approx([value for name, value in scored.items() if name != "counts"])
    found = run_scores(load_run(solved_run.directory, None, solved_run.solutions))
    assert found is not None and found.score == scored
    submission = json.loads(solved_run.submission.read_text())
    pairs = [(task, k, pair.values()) for task, answers in submission.items() for k, pair in enumerate(answers)]
    submitted = [(task, k, *("/".join("".join(map(str, row)) for row in grid) for grid in pair)) for task, k, pair in pairs]
    assert [tuple(row) for row in outputs[["task", "output", "attempt_1", "attempt_2"]].to_numpy()] == submitted

    events = [json.loads(line) for line in (solved_run.directory / "events.jsonl").read_text().splitlines()]
    finals = {e["task"]: e for e in events if e["event"] == "task_final"}
    starts = {e["task"]: e for e in reversed(events) if e["event"] == "task_start"}
    challenges = json.loads(solved_run.challenges.read_text())
    for row in tasks.to_dict("records"):
        task = challenges[row["task"]]
        grids = [g for pair in task["train"] for g in pair.values()] + [t["input"] for t in task["test"]]
        assert row["demonstrations"] == len(task["train"])
        assert row["side"] == max(max(len(g), len(g[0])) for g in grids)
        assert row["segments"] == finals[row["task"]]["segments"] and row["ended"] == finals[row["task"]]["reason"]
        assert row["seconds"] == pytest.approx(finals[row["task"]]["t"] - starts[row["task"]]["t"], abs=0.002)


A, B, C, D = [[1, 1]], [[2, 2]], [[3, 3]], [[4, 4], [4, 4]]


@pytest.fixture
def hand(tmp_path: Path) -> Run:
    """Four tasks by hand: right at second; one of two outputs right; the truth at rank 4; no candidate at all."""
    truths = {"second": [A], "half": [A, B], "fourth": [C], "none": [[[1, 2], [3, 4]]]}
    answers = {
        "second": [[(B, 6), (A, 2)]],
        "half": [[(A, 5)], [(A, 4), ([[2, 1]], 3)]],
        "fourth": [[(D, 4), (A, 3), (B, 2), (C, 1)]],
    }
    return small_run(tmp_path, truths, answers)


def test_a_run_by_hand(hand: Run) -> None:
    tables = read_tables(hand.directory, solutions=hand.solutions)
    rows = tables.outputs.set_index(["task", "output"])
    assert list(rows["first"]) == [False, True, False, False, True]
    assert list(rows["second"])[:4] == [True, False, False, False]
    assert [None if pd.isna(r) else r for r in rows["rank"]] == [2, 1, None, 4, 1]
    assert list(rows["cells"]) == [0, 1, 0, 0, 1]
    assert list(rows["second_cells"])[:4] == [1, 0, 0.5, 0]
    assert list(rows["votes_share"])[:4] == pytest.approx([6 / 8, 1, 4 / 7, 0.4])
    tasks = tables.tasks.set_index("task")
    assert dict(tasks["state"]) == {"second": "solved", "half": "nearly", "fourth": "wrong", "none": "solved"}
    assert dict(tasks["answered"]) == {"second": True, "half": True, "fourth": True, "none": False}
    assert tasks.loc["half", "best_cell_accuracy"] == pytest.approx(0.75) and tasks.loc["half", "cell_accuracy"] == 0.5
    assert tasks.loc["half", "seconds"] == 15 and tasks.loc["half", "planned_seconds"] == 20
    assert tasks.loc["none", "trainings"] == 0 and pd.isna(tasks.loc["none", "seconds"])
    assert tables.outputs.loc[4, "attempt_1"] == "12/34", "the fallback, which is the test input here, happens to be right"
    assert list(tables.outputs["candidates"]) == [2, 1, 2, 4, 0]


def test_what_is_not_known_is_not_judged(hand: Run, tmp_path: Path) -> None:
    tables = read_tables(hand.directory)
    assert set(tables.tasks["state"]) == {"unknown"}
    assert tables.outputs[["solved", "first", "rank", "cells"]].isna().all().all()
    assert list(tables.outputs["votes"].dropna()) == [6, 5, 4, 4]
    some = tmp_path / "some.json"
    some.write_text(json.dumps({"half": [A, B], "elsewhere": [A]}))
    data = load_run(hand.directory, None, some)
    assert list(read_tables(hand.directory, solutions=some).tasks["state"]) == ["unknown", "nearly", "unknown", "unknown"]
    scored = run_scores(data)
    assert scored is not None and scored.score == score(data.answers, {"half": load_solutions(some)["half"]})
    for name in ("events.jsonl", "predictions.jsonl"):
        (hand.directory / name).unlink()
    tables = read_tables(hand.directory, solutions=hand.solutions)
    assert list(tables.tasks["answered"]) == [False] * 4


def test_tasks_that_were_not_to_be_solved_stay_out_of_the_tables_and_the_score(hand: Run) -> None:
    events = hand.directory / "events.jsonl"
    lines = [line for line in events.read_text().splitlines() if '"none"' not in line or '"plan"' in line]
    events.write_text("\n".join(lines).replace('"fourth","none"]', '"fourth"]') + "\n")
    data = load_run(hand.directory, None, hand.solutions)
    assert data.scope == ("second", "half", "fourth") and tuple(data.answers) == ("second", "half", "fourth", "none")
    scored = run_scores(data)
    assert scored is not None and (scored.score["counts"]["tasks"], scored.score["counts"]["solved_tasks"]) == (3, 1)


def test_challenges_that_are_gone_or_changed_are_not_used(hand: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    hand.challenges.rename(elsewhere)
    data = load_run(hand.directory, None, hand.solutions)
    assert not data.tasks and any("--challenges" in note for note in data.notes)
    tables = read_tables(hand.directory, solutions=hand.solutions)
    rows = tables.tasks.set_index("task")
    assert dict(rows["state"]) == {"second": "solved", "half": "nearly", "fourth": "wrong", "none": "wrong"}
    assert tables.tasks["demonstrations"].isna().all()
    found = read_tables(hand.directory, solutions=hand.solutions, challenges=elsewhere)
    assert list(found.tasks["demonstrations"]) == [3] * 4
    hand.challenges.write_text(elsewhere.read_text().replace("[1,2]", "[1,5]"))
    data = load_run(hand.directory)
    assert not data.tasks and any("changed" in note for note in data.notes)


def test_broken_tasks_have_their_fallback_and_their_fault(tmp_path: Path) -> None:
    run = small_run(tmp_path, {"good": [A]}, {"good": [[(A, 1)]]})
    content = json.loads(run.challenges.read_text())
    content["bad"] = {"train": [{"input": [[1], [2, 3]], "output": [[1]]}], "test": [{"input": [[6]]}]}
    run.challenges.write_text(json.dumps(content))
    Written(run).begin(["good", "bad"])
    data = load_run(run.directory)
    assert data.scope == ("good", "bad") and "row 1" in data.faults["bad"]
    assert any("task bad" in note for note in data.notes)
    tables = read_tables(run.directory)
    assert list(tables.outputs["attempt_1"]) == ["12/34", "6"]


def test_a_task_trained_again_counts_all_its_trainings(tmp_path: Path) -> None:
    run = small_run(tmp_path, {"a": [A]}, {"a": [[(B, 3)]]})
    written = Written(run)
    written.begin(["a"])
    for start, segments, loss, best in ((10, 30, 0.5, B), (40, 70, 0.25, A)):
        written.tell(start, "task_start", "a", 0, seconds=25.0, restart=start > 10)
        written.tell(start + 10, "progress", "a", 0, segments=segments, loss=loss, demo_exact=1 - loss)
        written.tell(start + 20, "task_final", "a", 0, segments=segments, reason=f"end {start}")
        written.answer("a", 0, [(best, 3)])
    tables = read_tables(run.directory, solutions=run.solutions)
    row = tables.tasks.iloc[0]
    assert (row["trainings"], row["seconds"], row["planned_seconds"], row["segments"]) == (2, 40, 50, 100)
    assert (row["loss"], row["demo_exact"], row["ended"], row["state"]) == (0.25, 0.75, "end 40", "solved")


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
