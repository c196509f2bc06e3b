"""One run: how much it trains and on what, what it notes of it, and what its tasks' votes come to."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import ablation_training
from lab.ablation_command import run_folder
from lab.ablation_training import LEAST, execute, mark, mean_test_loss
from lab.votes import RULES, judge, read_tasks

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import Grid, Pair, Task, make_grid
from hrm_submit.predict import answer as answer_module
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.scores import ViewScores
from hrm_submit.predict.vote import Candidate
from hrm_submit.run.cost import segment_work
from hrm_submit.train.loop import CanvasBatch, Trainer
from hrm_submit.train.optimizers import Optimizers
from tests.run.lab import recoloured
from tests.scripts.lab.ablation_lab import runs_of, variants


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[CanvasBatch]:
    """Every batch that is trained on, as it is taken."""
    seen: list[CanvasBatch] = []
    real = Trainer.run

    def noted(item: CanvasBatch) -> CanvasBatch:
        seen.append(item)
        return item

    monkeypatch.setattr(Trainer, "run", lambda self, batches, progress: real(self, map(noted, batches), progress))
    return seen


def shown(item: CanvasBatch) -> Iterator[tuple[Any, Any]]:
    """The pairs of grids in a batch: colours are tokens from 2, and nothing is moved on the canvas."""
    side = math.isqrt(item.positions.shape[0])
    for tokens in zip(item.batch.inputs.numpy(), item.batch.labels.numpy(), strict=True):
        grids = []
        for cells in (t.reshape(side, side).astype(int) for t in tokens):
            rows, columns = (int((cells >= 2).any(axis=axis).sum()) for axis in (1, 0))
            grids.append(cells[:rows, :columns] - 2)
        yield grids[0], grids[1]


def forms(*pair: Grid) -> set[Any]:
    """A pair in all eight orientations, its colours named in the order of their appearance."""
    found = set()
    for k, mirrored in ((k, mirrored) for k in range(4) for mirrored in (0, 1)):
        names: dict[int, int] = {}
        turned = [np.rot90(np.fliplr(g) if mirrored else g, k) for g in pair]
        found.add(tuple((g.shape, tuple(names.setdefault(int(c), len(names)) for c in g.ravel())) for g in turned))
    return found


def test_training_learns_from_demonstrations_alone_and_its_figures_are_counts(tmp_path: Path, recorded: list[CanvasBatch]) -> None:
    (run,) = runs_of(tmp_path, "examples = 3200")
    figures = execute(run, tmp_path)
    assert figures["results"] == {"task0": "1", "task1": "1", "task2": "11"}
    assert figures["view_exact"] > 0.8 and figures["exact"] > 0.8
    assert figures["examples"] == 3200 and figures["segments"] == 200
    assert figures["flops"] == pytest.approx(200 * segment_work(run.preset.model, run.preset.train, 9))
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["examples"] for line in curve] == [160 * k for k in range(1, 21)]
    assert curve[0]["exact"] < 0.2 and figures["exact"] == pytest.approx((curve[-1]["exact"] + curve[-2]["exact"]) / 2)
    tasks = run.chosen.tasks.values()
    tests = set().union(*(forms(g, recoloured(g)) for task in tasks for g in task.test))
    demonstrations = set().union(*(forms(p.input, p.output) for task in tasks for p in task.train))
    pairs = set().union(*(forms(*pair) for item in recorded for pair in shown(item)))
    assert len(pairs) > 20 and pairs <= demonstrations - tests


def test_operations_are_counted_of_batches_as_they_are_and_end_a_run(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 320")
    each = segment_work(run.preset.model, run.preset.train, 9)
    preset = replace(run.preset, train=replace(run.preset.train, batch_tokens=45))
    figures = execute(replace(run, preset=preset), tmp_path)
    assert (figures["examples"], figures["segments"], figures["flops"]) == (320, 64, pytest.approx(20 * each)), "of batches of five"
    (run,) = runs_of(tmp_path, "flops = 1")
    assert execute(replace(run, amount=10.5 * each), tmp_path)["segments"] == 11


def test_a_run_ends_with_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]) -> None:
    """On a processor's clock that stands still but for a second a segment, while the other one runs."""
    monkeypatch.setattr(ablation_training, "_warm_up", lambda *given: None)
    monkeypatch.setattr(ablation_training.time, "process_time", lambda: float(len(recorded)))
    (run,) = runs_of(tmp_path, "seconds = 12")
    rates: list[float] = []
    real = Optimizers.update
    monkeypatch.setattr(Optimizers, "update", lambda self, factor, rows: (rates.append(factor), real(self, factor, rows))[1])
    figures = execute(run, tmp_path)
    assert figures["segments"] == len(recorded) == 12 and figures["seconds"] == 12.0
    # Warm-up is 5 segments; from half of the seconds on the rate falls towards 0.05, which it would have after the last.
    assert rates[4:6] == [1.0, 1.0] and rates[-1] == pytest.approx(0.05 + 0.95 * (1 - 11 / 12) / 0.5, abs=0.17)
    assert all(a > b for a, b in pairwise(rates[7:]))


def test_a_view_is_shown_under_the_row_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[CanvasBatch]
) -> None:
    asked: list[Any] = []
    real = answer_module.score_views
    monkeypatch.setattr(
        answer_module, "score_views", lambda m, e, requests, *a, **o: (asked.extend(requests), real(m, e, requests, *a, **o))[1]
    )
    more = 'model.embedding = "augmented"\ntrain.colours = "permute"\ntrain.augmentations = 9'
    (run,) = runs_of(tmp_path, "examples = 1600", variants("rows", more=more))
    execute(run, tmp_path)
    trained: dict[int, set[Any]] = {}
    for item in recorded:
        for row, (given, _) in zip(item.batch.ids.tolist(), shown(item), strict=True):
            trained.setdefault(row, set()).add((given.shape, given.astype(np.uint8).tobytes()))
    by_test = {grid.tobytes(): task for task in run.chosen.tasks.values() for grid in task.test}
    assert len({view.row for view in asked}) == 3 * 8, "eight of nine views of three tasks"
    for view in asked:
        task = by_test[view.grid.tobytes()]
        views = {(p.input.shape, view.view.apply(p.input).tobytes()) for p in task.train}
        assert trained[view.row] <= views, "all that this row was trained on are this task's demonstrations in this view"


def test_marks_say_which_attempt_was_right() -> None:
    a, b, c = (make_grid([[k]]) for k in (3, 4, 5))
    candidates = [[Candidate(a, 5, -0.1), Candidate(b, 2, -0.1), Candidate(c, 1, -0.1)]] * 3 + [[]]
    found = mark(candidates, 8, [a, b, c, a])
    assert found.outputs == "1200" and found.views == (5 + 2 + 1 + 0) / 32


def test_a_task_alone_is_solved_in_its_session(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "examples = 1280", variants("kept", more="ttt.patience = 99\nvote.save_raw = true"), kind="ttt")
    figures = execute(run, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert figures["results"] == {line["task"]: line["outputs"] for line in lines} == {"task0": "1", "task1": "1", "task2": "11"}
    assert [line["segments"] for line in lines] == [80] * 3 and figures["segments"] == 80 and figures["examples"] == 3 * 1280
    assert figures["exact"] == sum(line["exact"] for line in lines) / 3 > 0.8
    assert json.loads((tmp_path / "run.json").read_text())["key"] == run.key
    tasks = [(task, len(trainings)) for task, trainings in read_tasks([tmp_path], [])]
    assert sorted(tasks) == [("task0", 1), ("task1", 1), ("task2", 1)] and list(figures["test_losses"]) == ["task0", "task1", "task2"]

    stopped = json.dumps({**lines[0], "segments": 20}) + "\n" + json.dumps(lines[1])[:50]
    (tmp_path / "tasks.jsonl").write_text(stopped)
    resumed = execute(run, tmp_path)
    assert resumed["results"] == figures["results"] and resumed["segments"] == (20 + 80 + 80) / 3, "the first is not solved again"


def test_raw_predictions_that_are_kept_change_no_figure_of_a_training(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "examples = 1600", variants("plain") + variants("kept", more="vote.save_raw = true"))
    plain, more = (execute(run, run_folder(tmp_path, run)) for run in runs)
    assert plain["results"] == more["results"] and plain["view_exact"] == more["view_exact"] > 0.5
    assert plain["test_losses"] == {} and all(0 < loss < 0.5 for loss in more["test_losses"].values()), "they are solved"
    assert not (run_folder(tmp_path, runs[0]) / "raw").exists()
    found: dict[str, str] = {}
    for task, trainings in read_tasks([run_folder(tmp_path, runs[1])], []):
        for sample in judge("kept", trainings, runs[1].chosen.solutions[task], [RULES["counts"]]):
            found[task] = found.get(task, "") + ("1" if sample.right[0][0] else "2" if sample.right[0][1] else "0")
    assert found == more["results"], "the same answers as the run's own, from what it kept"


def test_each_task_gets_its_seconds_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by a hundredth whenever it is read, so that the machine's speed does not matter."""
    now = iter(range(10**9))
    monkeypatch.setattr(ablation_training.time, "process_time", lambda: next(now) / 100)
    (run,) = runs_of(tmp_path, "seconds = 2", variants("all of it", more="ttt.patience = 99"), kind="ttt")
    figures = execute(run, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert all(1.6 < line["seconds"] < 2.2 and line["reason"] == "time used" for line in lines), lines
    assert figures["seconds"] == pytest.approx(sum(line["seconds"] for line in lines) / 3)


SIDE = 4
SWAP = (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)
VIEWS = (Augmentation(0), Augmentation(1, SWAP), Augmentation(0, SWAP), Augmentation(6))
OUTPUTS = [make_grid([[1, 2, 3]]), make_grid([[4], [5]])]
TASK = Task("t", (Pair(OUTPUTS[0], OUTPUTS[0]),), (make_grid([[1, 1, 1]]), make_grid([[2], [2]])))


def vote_of(output: list[int]) -> RawVote:
    """Made-up probabilities for a view of each of the outputs of those numbers."""
    scores = np.random.default_rng(0).normal(size=(len(output), SIDE * SIDE, 12))
    log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return RawVote("t", 0, np.array(output), ViewScores(VIEWS[: len(output)], SIDE, log_probs))


def loss_by_hand(vote: RawVote, view: int, output: Grid) -> float:
    """The loss of one view: its colours where they lie, an EOS below each column and to the right of each row."""
    drawn = VIEWS[view].apply(output)
    rows, columns = drawn.shape
    tokens = {(r, c): int(drawn[r, c]) + 2 for r in range(rows) for c in range(columns)}
    tokens |= {(rows, c): 1 for c in range(columns)} | {(r, columns): 1 for r in range(rows)}
    inside = {(r, c): token for (r, c), token in tokens.items() if r < SIDE and c < SIDE}
    log_probs = vote.scores.log_probs[view]
    return -sum(log_probs[r * SIDE + c, token] for (r, c), token in inside.items()) / len(inside)


def test_a_test_loss_is_the_mean_over_tokens_then_views_then_outputs_that_fit_and_no_token_counts_without_end() -> None:
    large, vote = make_grid(np.ones((5, 2), dtype=np.uint8)), vote_of([0, 0, 1, 0])
    first, second = sum(loss_by_hand(vote, view, OUTPUTS[0]) for view in (0, 1, 3)) / 3, loss_by_hand(vote, 2, OUTPUTS[1])
    assert mean_test_loss(vote, TASK, OUTPUTS) == pytest.approx((first + second) / 2, rel=1e-12)
    assert mean_test_loss(vote, TASK, [OUTPUTS[0], large]) == pytest.approx(first)
    assert mean_test_loss(vote_of([0, 0]), TASK, [large, OUTPUTS[1]]) is None, "too large, and of no view"
    vote.scores.log_probs[:] = -np.inf
    assert mean_test_loss(vote, TASK, OUTPUTS) == -LEAST
