"""What more time is best spent on, from run folders that are written by hand."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tune_budget
from lab.budget.answers import answers
from lab.budget.buys import worth_buying
from lab.budget.recording import Recording

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter, read_run
from tests.events import event
from tests.run.lab import recolour, recoloured

TASKS = {f"t{k}": recolour(f"t{k}", k, side=3) for k in range(8)}
TRUTH = {name: (recoloured(task.test[0]),) for name, task in TASKS.items()}
OTHER = [[[9]], [[8]], [[7]]]


def grid(name: str, kind: int) -> Any:
    """The right grid for 0, else one of three wrong ones."""
    return TRUTH[name][0].tolist() if kind == 0 else OTHER[kind - 1]


def run_folder(path: Path, seed: int, answers: dict[str, list[tuple[int, int]]], budget: float = 100.0, width: int = 128) -> Path:
    """`answers`: of each task (kind of grid, votes), best first."""
    run = RunWriter(path, lambda: 1.0)
    preset = load_preset("nano").to_dict()
    preset["model"] = {**preset["model"], "hidden_size": width}
    run.describe({"config": preset, "devices": ["cpu"], "seed": seed})
    run.event(event("run_start", budget=budget, tasks=len(answers), broken=[], resumed=0))
    for name, found in answers.items():
        votes = [n for _, n in found]
        run.event(event("task_start", name, 0, seconds=9.0))
        run.event(event("progress", name, 0, segments=100, loss=1.0, demo_exact=1.0, seconds=5.0))
        last = {"segments": 100, "votes": [votes], "views": sum(votes), "vote_seconds": 0.1, "seconds": 6.0, "settled": False}
        run.event(event("task_final", name, 0, reason="share used", **last))
        run.prediction(name, 0, True, [Candidate(make_grid(grid(name, k)), n, -0.1 * k) for k, n in found])
    return path


def recording(*folders: Path) -> Recording:
    return Recording(load_preset("nano"), folders=list(folders), answers=[answers(read_run(folder)) for folder in folders])


def lines(*recordings: Recording) -> dict[str, dict[Any, Any]]:
    return {row["buy"]: row for row in worth_buying(recordings, 100.0, TRUTH).to_dict("records")}


def test_a_second_training_counts_what_pooled_votes_solve_more(tmp_path: Path) -> None:
    # The right grid is third in the one run and second in the other; together it is first in four tasks, and everywhere else unknown.
    one = {name: [(1, 4), (2, 3), (0, 2)] if k < 4 else [(1, 5), (2, 4)] for k, name in enumerate(TASKS)}
    two = {name: [(3, 4), (0, 3), (2, 1)] if k < 4 else [(3, 5), (2, 4)] for k, name in enumerate(TASKS)}
    found = lines(recording(run_folder(tmp_path / "a", 0, one), run_folder(tmp_path / "b", 1, two)))
    bought = found["a second training, pooled"]
    assert bought["points"] == pytest.approx(100 * (0.5 - 0.25)) and bought["time"] == 2.0
    assert bought["low"] <= bought["points"] <= bought["high"] and bought["low"] < bought["high"]


def test_runs_of_one_seed_or_other_budgets_are_not_pooled(tmp_path: Path) -> None:
    votes = {name: [(1, 4), (0, 3)] for name in TASKS}
    same = recording(run_folder(tmp_path / "a", 0, votes), run_folder(tmp_path / "b", 0, votes), run_folder(tmp_path / "c", 1, votes, 50.0))
    assert "a second training, pooled" not in lines(same)


def test_half_of_the_views_are_every_half_alike(tmp_path: Path) -> None:
    votes = {name: [(1, 3), (2, 3), (0, 2)] for name in TASKS}
    # Of eight views, three for each of two wrong grids and two for the right one: over all halves of four, how often is it among two?
    views = [1, 1, 1, 2, 2, 2, 0, 0]
    solved = []
    for half in combinations(views, 4):
        ranked = sorted((1, 2, 0), key=lambda kind: (-half.count(kind), kind))  # the score falls with the kind, so 0 comes before 1 and 2
        solved.append(0 in [kind for kind in ranked if half.count(kind)][:2])
    bought = lines(recording(run_folder(tmp_path / "a", 0, votes)))["twice the views, at most"]
    assert bought["points"] == pytest.approx(-100 * np.mean(solved), abs=6.0) and bought["time"] == 1.0


def test_another_preset_is_compared_on_what_both_answered(tmp_path: Path) -> None:
    here = run_folder(tmp_path / "a", 0, {name: [(1, 4)] for name in TASKS})
    there = run_folder(tmp_path / "large", 0, {name: [(0, 4)] for name in list(TASKS)[:3]}, budget=300.0)
    bought = lines(recording(here), recording(there))["the preset of large"]
    assert bought["points"] == 100 and bought["time"] == pytest.approx(3.0)


def test_torn_answers_are_left_out(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "a", 3, {"t0": [(0, 4)]})
    with (folder / "predictions.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"v": 1, "t": 1, "task": "t1", "output": 0, "final": true, "candidates": [{"grid": [[12]], "votes": 1, "score": 0}]}\n')
    found = answers(read_run(folder))
    assert (found.seed, found.budget, set(found.candidates)) == (3, 100.0, {("t0", 0)})


def test_the_command_names_the_best_buy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    write_solutions(tmp_path / "s.json", TRUTH)
    one = run_folder(tmp_path / "a", 0, {name: [(1, 4), (2, 3), (0, 2)] for name in TASKS})
    two = run_folder(tmp_path / "b", 1, {name: [(0, 4), (2, 3)] for name in TASKS})
    wide = run_folder(tmp_path / "wide", 0, {name: [(1, 4)] for name in TASKS}, width=256)
    files = ["--challenges", str(tmp_path / "c.json"), "--solutions", str(tmp_path / "s.json")]
    assert tune_budget.main(["--runs", str(one), str(two), str(wide), *files, "--profile", "l4x4", "--time-budget", "1h"]) == 0
    told = capsys.readouterr().out
    assert "best buy: a second training, pooled" in told
    assert all(buy in told for buy in ("twice the training", "twice the views, at most", "the preset of wide"))
