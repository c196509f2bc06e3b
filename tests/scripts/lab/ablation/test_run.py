"""One run: how much it trains, at which rates, and what it notes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab.ablation import train_run as train_module
from lab.ablation import ttt_run as ttt_module
from lab.ablation.measure import mark
from lab.ablation.parallel import execute, run_folder
from lab.votes.comparison import Setting, judge, raw_files, read_tasks

from hrm_submit.arc.task import make_grid
from hrm_submit.predict import answer as answer_module
from hrm_submit.predict.vote import Candidate
from hrm_submit.run.cost import segment_work
from hrm_submit.train.loop import CanvasBatch
from hrm_submit.train.optimizers import Optimizers
from tests.scripts.lab.ablation.lab import folder, runs_of, shown, variants


def test_training_learns_and_its_figures_are_counts(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 3200")
    figures = train_module.train_run(run, folder(tmp_path))
    assert figures["results"] == {"task0": "1", "task1": "1", "task2": "11"}
    assert figures["view_exact"] > 0.8 and figures["exact"] > 0.8
    assert figures["examples"] == 3200 and figures["segments"] == 200
    assert figures["flops"] == pytest.approx(200 * segment_work(run.preset.model, run.preset.train, 9))
    curve = [json.loads(line) for line in (folder(tmp_path) / "curve.jsonl").read_text().splitlines()]
    assert [line["examples"] for line in curve] == [160 * k for k in range(1, 21)]
    assert curve[0]["exact"] < 0.2 and figures["exact"] == pytest.approx((curve[-1]["exact"] + curve[-2]["exact"]) / 2)


def test_smaller_batches_of_large_canvases_are_counted_as_they_are(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 320")
    preset = replace(run.preset, train=replace(run.preset.train, batch_tokens=45))
    figures = train_module.train_run(replace(run, preset=preset), folder(tmp_path))
    assert (figures["examples"], figures["segments"]) == (320, 64)
    assert figures["flops"] == pytest.approx(20 * segment_work(run.preset.model, run.preset.train, 9))


def test_a_run_ends_with_its_operations(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "flops = 1")
    each = segment_work(run.preset.model, run.preset.train, 9)
    figures = train_module.train_run(replace(run, amount=10.5 * each), folder(tmp_path))
    assert figures["segments"] == 11


def test_a_run_ends_with_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]) -> None:
    """On a processor's clock that stands still but for a second a segment, while the other one runs."""
    monkeypatch.setattr(train_module, "_warm_up", lambda *given: None)
    monkeypatch.setattr(train_module.time, "process_time", lambda: float(len(recorded)))
    (run,) = runs_of(tmp_path, "seconds = 12")
    rates: list[float] = []
    real = Optimizers.update
    monkeypatch.setattr(Optimizers, "update", lambda self, factor, rows: (rates.append(factor), real(self, factor, rows))[1])
    figures = train_module.train_run(run, folder(tmp_path))
    assert figures["segments"] == len(recorded) == 12 and figures["seconds"] == 12.0
    # Warm-up is 5 segments; from half of the seconds on the rate falls towards 0.05, which it would have after the last.
    assert rates[4:6] == [1.0, 1.0] and rates[-1] == pytest.approx(0.05 + 0.95 * (1 - 11 / 12) / 0.5, abs=0.17)
    assert all(a > b for a, b in pairwise(rates[7:]))


def test_a_view_is_shown_under_the_row_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]
) -> None:
    asked: list[Any] = []
    real = answer_module.score_views
    monkeypatch.setattr(answer_module, "score_views", lambda *given, **more: (asked.extend(given[2]), real(*given, **more))[1])
    more = 'model.embedding = "augmented"\ntrain.colours = "permute"\ntrain.augmentations = 9'
    (run,) = runs_of(tmp_path, "examples = 1600", variants("rows", more=more))
    train_module.train_run(run, folder(tmp_path))
    trained: dict[int, set[Any]] = {}
    for item in recorded:
        for row, (given, _) in zip(item.batch.ids.tolist(), shown(item), strict=True):
            trained.setdefault(row, set()).add((given.shape, given.astype(np.uint8).tobytes()))
    by_test = {grid.tobytes(): task for task in run.material.measured.tasks.values() for grid in task.test}
    assert len({request.row for request in asked}) == 3 * 8, "eight of nine views of three tasks"
    for request in asked:
        task = by_test[request.grid.tobytes()]
        views = {(p.input.shape, request.view.apply(p.input).tobytes()) for p in task.train}
        assert trained[request.row] <= views, "all that this row was trained on are this task's demonstrations in this view"


def test_marks_say_which_attempt_was_right() -> None:
    a, b, c = (make_grid([[k]]) for k in (3, 4, 5))
    candidates = [[Candidate(a, 5, -0.1), Candidate(b, 2, -0.1), Candidate(c, 1, -0.1)]] * 3 + [[]]
    found = mark(candidates, 8, [a, b, c, a])
    assert found.outputs == "1200" and found.views == (5 + 2 + 1 + 0) / 32


def test_a_task_alone_is_solved_in_its_session(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 1280", variants("all of it", more="ttt.patience = 99"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    lines = [json.loads(line) for line in (folder(tmp_path) / "tasks.jsonl").read_text().splitlines()]
    assert figures["results"] == {line["task"]: line["outputs"] for line in lines} == {"task0": "1", "task1": "1", "task2": "11"}
    assert [line["segments"] for line in lines] == [80] * 3 and figures["segments"] == 80 and figures["examples"] == 3 * 1280
    assert figures["exact"] == sum(line["exact"] for line in lines) / 3 > 0.8
    assert json.loads((folder(tmp_path) / "run.json").read_text())["key"] == run.key


def test_what_votes_were_made_of_is_kept_on_request(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "examples = 160", variants("plain") + variants("kept", more="vote.save_raw = true"), kind="ttt")
    figures = [execute(run, run_folder(tmp_path, run)) for run in runs]
    assert figures[0]["test_losses"] == {} and list(figures[1]["test_losses"]) == ["task0", "task1", "task2"]
    plain, kept = (run_folder(tmp_path, run) for run in runs)
    assert not (plain / "raw").exists()
    tasks = read_tasks(raw_files(kept), [])
    assert sorted((task, len(trainings)) for task, trainings in tasks) == [("task0", 1), ("task1", 1), ("task2", 1)]


def test_more_steps_than_a_training_asks_for_are_kept_and_change_none_of_its_figures(tmp_path: Path) -> None:
    kept = "vote.save_raw = true\nvote.act_steps = 3"
    runs = runs_of(tmp_path, "examples = 1600", variants("plain") + variants("kept", more=kept))
    plain, more = (execute(run, run_folder(tmp_path, run)) for run in runs)
    assert plain["results"] == more["results"] and plain["view_exact"] == more["view_exact"] > 0.5
    assert plain["test_losses"] == {} and all(0 < loss < 0.5 for loss in more["test_losses"].values()), "they are solved"
    assert not (run_folder(tmp_path, runs[0]) / "raw").exists()
    own, third = Setting("counts"), Setting("counts", steps=3)
    found: dict[str, str] = {}
    for task, trainings in read_tasks(raw_files(run_folder(tmp_path, runs[1])), []):
        assert [t.scores.steps for t in trainings] == [3] and trainings[0].scores.log_probs.dtype == np.float16
        for sample in judge("kept", trainings, runs[1].material.measured.solutions[task], [own, third]):
            found[task] = found.get(task, "") + ("1" if sample.right[own][0] else "2" if sample.right[own][1] else "0")
    assert found == more["results"], "the same answers as the run's own, from what it kept"


def test_each_task_gets_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by a hundredth whenever it is read, so that the machine's speed does not matter."""
    now = iter(range(10**9))
    monkeypatch.setattr(ttt_module.time, "process_time", lambda: next(now) / 100)
    (run,) = runs_of(tmp_path, "seconds = 2", variants("all of it", more="ttt.patience = 99"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    lines = [json.loads(line) for line in (folder(tmp_path) / "tasks.jsonl").read_text().splitlines()]
    assert all(1.6 < line["seconds"] < 2.2 and line["reason"] == "share used" for line in lines), lines
    assert figures["seconds"] == pytest.approx(sum(line["seconds"] for line in lines) / 3)


def test_a_training_that_diverges_begins_anew_slower(tmp_path: Path) -> None:
    """As in a real run: at these rates the loss is not finite before long; at a third of a third it may be."""
    (run,) = runs_of(tmp_path, "examples = 960", variants("fast", more="ttt = { lr = 1e30, muon_lr = 1e30 }"), kind="ttt")
    figures = execute(run, folder(tmp_path))
    assert figures["results"] == {"task0": "0", "task1": "0", "task2": "00"} and figures["segments"] > 0
