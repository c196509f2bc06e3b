"""Training that goes wrong, and training anew: when a session gives up, and what is different the second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.losses import Metrics
from hrm_submit.model.weights import build
from hrm_submit.predict import answer as answer_module
from hrm_submit.predict.scores import ViewScores
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Progress
from hrm_submit.solver.session import DivergedError, TaskSession, n_rows, task_seed
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.predict.lab import showing
from tests.run.lab import recolour, tiny_preset


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preset:
    monkeypatch.setattr(session_module, "REPORT_EVERY", 0.125)
    return tiny_preset(tmp_path, "[ttt]\nfirst_vote = 1.0\npatience = 1000\n")


def session(preset: Preset, segments: int = 16, restart: int = 0, seed: int = 0) -> TaskSession:
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    return TaskSession(model, embedding, recolour("t", 3), preset, seed, Clock(), segments, restart)


def scripted(monkeypatch: pytest.MonkeyPatch, tokens: Sequence[float], halt: Sequence[float] | None = None) -> None:
    """Training of two segments for each of `tokens`, the tokens' mean loss; `halt` is what the halt value's adds to it."""
    halts = [0.0] * len(tokens) if halt is None else halt

    class Scripted(Trainer):
        def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
            size = 4
            for number in range(2 * len(tokens)):
                token, extra = torch.tensor(tokens[number // 2]), torch.tensor(halts[number // 2])
                none = torch.tensor(0.0)
                metrics = Metrics(torch.tensor(size), none, none, none, none, token * size, extra * size, None)
                yield SegmentReport(number + 1, size, token + extra, metrics)

    monkeypatch.setattr(session_module, "Trainer", Scripted)


def reports(run: TaskSession) -> tuple[list[int], str]:
    """Segments at each progress that was told, and why training was given up, if it was."""
    told: list[int] = []
    try:
        for message in run.run():
            if isinstance(message, Progress):
                told.append(message.segments)
    except DivergedError as error:
        return told, str(error)
    return told, ""


def test_a_loss_that_rises_by_half_twice_in_a_row_has_diverged(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    scripted(monkeypatch, [1.0, 0.5, 1.6, 1.4, 1.6, 1.7, 0.1, 0.1])
    told, fault = reports(session(preset))
    assert told == [2, 4, 6, 8, 10, 12], "once is not enough, nor twice with a better one between"
    assert fault == "the loss rose from 1 to 1.7"


def test_a_loss_that_rises_by_less_goes_on(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    scripted(monkeypatch, [1.0, 1.4, 1.4, 1.45, 1.49, 1.3, 1.2, 1.1])
    assert reports(session(preset)) == (list(range(2, 17, 2)), "")


def test_the_halt_value_may_err_the_more_the_better_tokens_are(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """A fresh model believes that no answer is ever right: its halt value's loss rises with every one that is."""
    scripted(monkeypatch, [2.4, 1.5, 0.8, 0.4, 0.2, 0.1, 0.1, 0.1], [0.0, 0.5, 2.0, 3.5, *[4.0] * 4])
    assert reports(session(preset)) == (list(range(2, 17, 2)), "")


def test_learning_fast_is_not_diverging(tmp_path: Path) -> None:
    """The same with a real model, which fits this task within a few segments."""
    preset = tiny_preset(tmp_path)
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    told = [m for m in TaskSession(model, embedding, recolour("task01", 1), preset, 0, Clock(), 24).run() if isinstance(m, Progress)]
    assert max(m.demo_exact for m in told) > 0.9
    assert max(m.loss for m in told) > 1.5 * told[0].loss, "the example must show it"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_has_diverged_at_once(monkeypatch: pytest.MonkeyPatch, preset: Preset, value: float) -> None:
    scripted(monkeypatch, [1.0, 0.9, value, *[0.1] * 5])
    assert reports(session(preset)) == ([2, 4, 6], "the loss is not finite")
    scripted(monkeypatch, [*[1.0] * 7, value])
    assert reports(session(preset))[1] == "the loss is not finite", "at the last look too, before the vote"


def test_weights_that_overflow_have_diverged(preset: Preset) -> None:
    wild = replace(preset, ttt=replace(preset.ttt, optimizer="adamw", lr=1e38, muon_lr=1e38, warmup_steps=0))
    told, fault = reports(session(wild, 60))
    assert fault == "the loss is not finite" and told[-1] < 60


def drawn(monkeypatch: pytest.MonkeyPatch, run: TaskSession) -> tuple[list[Any], list[Any]]:
    """Views asked in the last vote, and inputs of the first three batches."""
    seen: list[CanvasBatch] = []
    views: list[list[Any]] = []

    class Keeping(Trainer):
        def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
            def kept() -> Iterator[CanvasBatch]:
                for batch in batches:
                    seen.append(batch)
                    yield batch

            return super().run(kept(), progress)

    def predict(model: Any, embedding: Any, requests: Any, side: int, *args: Any, **options: Any) -> ViewScores:
        views.append([r.view for r in requests])
        return showing([None] * len(requests), views[-1], side)

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "Trainer", Keeping)
        patch.setattr(answer_module, "score_views", predict)
        list(run.run())
    return views[-1], [b.batch.inputs.tolist() for b in seen[:3]]


def batch_draws(monkeypatch: pytest.MonkeyPatch, run: TaskSession) -> int:
    """What batches would be drawn by, as a number."""
    found: list[int] = []
    real = session_module.task_batches

    def task_batches(*args: Any) -> Iterator[CanvasBatch]:
        found.append(int(args[5].integers(0, 2**62)))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "task_batches", task_batches)
        list(run.run())
    return found[0]


def test_training_anew_draws_pairs_in_another_order(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """Whatever its views are: a task may have eight of them, which are the same each time."""
    draws = [batch_draws(monkeypatch, session(preset, 4, restart)) for restart in (0, 1, 2, 1)]
    assert len(set(draws)) == 3 and draws[1] == draws[3]


def test_training_anew_sees_other_views_and_other_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preset = tiny_preset(tmp_path, '[ttt]\ncolours = "permute"\n')
    first, again, third = (drawn(monkeypatch, session(preset, 4, restart)) for restart in (0, 1, 2))
    for one, other in ((first, again), (first, third), (again, third)):
        assert one[0][0] == other[0][0], "the plain view is always among them"
        assert one[0][1:] != other[0][1:] and one[1] != other[1]
    assert drawn(monkeypatch, session(preset, 4, 1)) == again, "but the same ones whenever it is done"


def test_the_first_training_draws_what_its_seed_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it always was: seeds of the run's seed, the task and the purpose alone."""
    preset = tiny_preset(tmp_path, '[ttt]\ncolours = "permute"\n')
    assert batch_draws(monkeypatch, session(preset, 4, seed=7)) == np.random.default_rng(task_seed(7, "t", "batches")).integers(0, 2**62)
    rng = np.random.default_rng(task_seed(7, "t", "augmentations"))
    expected = sample_augmentations(recolour("t", 3), preset.ttt.augmentations, rng, colours="permute")
    views, _ = drawn(monkeypatch, session(preset, 4, 0, seed=7))
    assert set(views) <= set(expected) and len(set(views)) == len(views) == preset.vote.views
    assert drawn(monkeypatch, session(preset, 4, 0, seed=7)) == drawn(monkeypatch, session(preset, 4, seed=7))
