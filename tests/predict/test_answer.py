"""Predictions over views, with models whose answers are known: one that copies its input, and real ones of random weights. And views that
end when they are at rest: which step that is, who leaves the batch, and that what is said is what the step said. And a model asked for a
task's answer: which views are asked, in what batches, and how their votes are ranked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hrm_submit.arc.augment import Augmentation, sample_augmentations
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.schema import ModelConfig, VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM, InnerCarry
from hrm_submit.model.weights import build
from hrm_submit.predict import halting
from hrm_submit.predict.answer import ViewRequest, answer, answer_in_batches, score_views, spread_views
from hrm_submit.predict.halting import entropy
from hrm_submit.predict.rank import rank
from tests.arc.strategies import augmentations
from tests.model.tiny import TINY

CFG = replace(TINY, halt_max_steps=3, embedding="shared")
DEEP = replace(CFG, halt_max_steps=6)
AT_REST = VoteConfig(act_steps=6, batch_size=8, halt="rest")


class Copier(torch.nn.Module):
    """Gives its input tokens back, each with softmax weight e^2 against e^0 for the eleven others; counts its segments."""

    def __init__(self, cfg: ModelConfig = CFG) -> None:
        super().__init__()
        self.cfg = replace(cfg, loss_type="softmax_cross_entropy")
        self.tokens = torch.nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[int, ...]] = []
        self.rows: list[Tensor | None] = []
        self.positions: list[Tensor] = []

    def initial_carry(self, batch: int, length: int, device: Any = None) -> InnerCarry:
        return InnerCarry(torch.zeros(batch, length, 1), torch.zeros(batch, length, 1))

    def forward(
        self, carry: InnerCarry, tokens: Tensor, rows: Tensor | None, positions: Tensor
    ) -> tuple[InnerCarry, Tensor, Tensor, Tensor]:
        self.calls.append(tuple(tokens.shape))
        self.rows.append(rows)
        self.positions.append(positions)
        logits = 2.0 * torch.nn.functional.one_hot(tokens.long(), 12).float()
        return carry, logits, torch.zeros(len(tokens)), torch.zeros(len(tokens))


SURENESS = float(np.log(np.exp(2) / (np.exp(2) + 11)))


@settings(max_examples=60)
@given(st.lists(augmentations, min_size=1, max_size=7), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_copy_of_the_input_comes_back_unaugmented_from_every_view(chosen: list[Augmentation], rows: int, columns: int, seed: int) -> None:
    grids = [make_grid(np.random.default_rng(seed + k).integers(0, 10, (rows, columns))) for k in range(len(chosen))]
    requests = [ViewRequest(grid, view, 0) for grid, view in zip(grids, chosen, strict=True)]
    predictions = score_views(Copier(), TaskEmbedding(CFG, 1), requests, 8, VoteConfig()).predictions()  # type: ignore[arg-type]
    assert len(predictions) == len(requests)
    for grid, prediction in zip(grids, predictions, strict=True):
        assert prediction is not None
        np.testing.assert_array_equal(prediction.grid, grid)
        assert prediction.score == pytest.approx(SURENESS, abs=1e-5)


def every_step(model: HRM, embedding: TaskEmbedding, requests: list[ViewRequest], side: int) -> np.ndarray:
    """Log-probabilities after each step that the model was trained for, (n, T, N, vocabulary); each comes from a run of its own."""
    steps = range(1, model.cfg.halt_max_steps + 1)
    return np.stack([score_views(model, embedding, requests, side, VoteConfig(act_steps=k)).log_probs for k in steps], axis=1)


def test_a_vote_answers_with_the_step_asked_for_but_with_none_beyond_those_trained() -> None:
    requests = [ViewRequest(make_grid([[k]]), Augmentation(), 0) for k in range(3)]
    real, embedding = build(CFG, seed=1)
    every = every_step(real, embedding, requests, 2)
    assert every.shape == (3, 3, 4, 12)
    np.testing.assert_allclose(np.exp(every).sum(-1), 1.0, rtol=1e-5)
    assert not np.allclose(every[:, 0], every[:, 1]) and not np.allclose(every[:, 1], every[:, 2]), "thinking on changes what it says"
    beyond = score_views(real, embedding, requests, 2, VoteConfig(act_steps=16))
    np.testing.assert_array_equal(beyond.log_probs, every[:, 2])


def test_each_view_is_shown_with_its_own_row_and_the_crop_keeps_its_position_ids() -> None:
    model, embedding = Copier(), TaskEmbedding(CFG, 3)
    embedding.rows[:] = torch.arange(3.0)[:, None]
    assert embedding.dihedral_rows is not None
    embedding.dihedral_rows[:] = 10 * torch.arange(8.0)[:, None]
    requests = [ViewRequest(make_grid([[1]]), Augmentation(d), row) for d, row in ((0, 2), (5, 0), (7, 1))]
    score_views(model, embedding, requests, 3, VoteConfig(act_steps=1))  # type: ignore[arg-type]
    (rows,) = model.rows
    assert rows is not None and rows[:, 0].tolist() == [2.0, 50.0, 71.0]
    assert model.positions[0].tolist() == [0, 1, 2, 30, 31, 32, 60, 61, 62]


def test_weights_that_are_no_numbers_give_no_prediction_and_a_task_embedding_is_not_needed() -> None:
    model, embedding = build(replace(CFG, puzzle_emb_ndim=0), seed=1)
    request = [ViewRequest(make_grid([[1]]), Augmentation(), 0)]
    assert np.isfinite(score_views(model, embedding, request, 2, VoteConfig()).log_probs).all()
    with torch.no_grad():
        model.lm_head.fill_(float("nan"))
    assert score_views(model, embedding, request, 2, VoteConfig()).predictions() == [None]


def first_rest(log_probs: np.ndarray) -> list[int]:
    """The step, from 0, after which each view is at rest, or its last, of log-probabilities (n, T, N, vocabulary)."""
    moves = np.abs(np.diff(entropy(torch.from_numpy(log_probs)).numpy(), axis=1))
    return [next((k + 1 for k, move in enumerate(own) if move < halting.REST), len(own)) for own in moves]


def test_the_entropy_is_a_mean_over_cells() -> None:
    certain = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).clamp_min(1e-30).log()
    assert entropy(certain).tolist() == pytest.approx([np.log(2) / 2])


class Moody(Copier):
    """Of its views the first is as sure after every step; the others are ever surer, until each has its fill at another step."""

    def forward(
        self, carry: InnerCarry, tokens: Tensor, rows: Tensor | None, positions: Tensor
    ) -> tuple[InnerCarry, Tensor, Tensor, Tensor]:
        carry, logits, halt, go_on = super().forward(carry, tokens, rows, positions)
        colour = tokens[:, 0].long() - 2  # of the first cell: who it is
        mood = torch.minimum(carry.z_H[:, 0, 0] + 1, colour.float())
        carry = InnerCarry(carry.z_H + 1, carry.z_L)
        return carry, logits * (1 + mood.view(-1, 1, 1)) / 2, halt + mood, go_on


def test_who_rests_leaves_the_batch() -> None:
    model = Moody(DEEP)
    requests = [ViewRequest(make_grid([[k]]), Augmentation(), 0) for k in range(4)]
    scores = score_views(model, TaskEmbedding(DEEP, 1), requests, 2, AT_REST)  # type: ignore[arg-type]
    left = [4, 4, 4, 2, 1]  # 0 and 1 rest after the second step, 2 after the third, 3 after the fourth; each leaves a step later
    assert [calls[0] for calls in model.calls] == left
    moods = np.arange(1.0, 5.0)
    sure = np.exp(scores.log_probs[:, 0].max(-1))
    np.testing.assert_allclose(sure, np.exp(moods) / (np.exp(moods) + 11), rtol=1e-5, err_msg="each says what it said last")
    assert [int(rows.shape[0]) for rows in model.rows if rows is not None] == left


@pytest.mark.parametrize("least", [0.0, 1e-3, 1e9])
def test_a_view_says_what_the_step_at_which_it_rests_says(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halting, "REST", least)
    model, embedding = build(DEEP, seed=1)
    rng = np.random.default_rng(0)
    requests = [ViewRequest(make_grid(rng.integers(0, 10, (3, 3))), Augmentation(), 0) for _ in range(8)]
    every = every_step(model, embedding, requests, 3)
    stops = first_rest(every)
    assert stops == [5] * 8 if least == 0 else stops == [1] * 8 if least > 1 else len(set(stops)) > 1
    said = score_views(model, embedding, requests, 3, AT_REST)
    np.testing.assert_allclose(said.log_probs, every[np.arange(8), stops], atol=1e-5)


RNG = np.random.default_rng(4)
GRIDS = [make_grid(RNG.integers(0, 5, (3, 3))) for _ in range(6)]
TASK = Task("t", (Pair(GRIDS[0], GRIDS[1]), Pair(GRIDS[2], GRIDS[3])), (GRIDS[4], GRIDS[5]))
VIEWS = sample_augmentations(TASK, 12, np.random.default_rng(0), colours="permute")
ROWS = [0] * len(VIEWS)


def facts(outputs: Any) -> list[list[tuple[Any, int, float, float]]]:
    return [[(c.key, c.votes, c.score, c.weight) for c in candidates] for candidates in outputs]


def model(seed: int = 3) -> Any:
    return build(replace(CFG, halt_max_steps=2), n_rows=1, seed=seed)


def test_views_are_spread_over_the_transforms() -> None:
    views = [Augmentation(d) for d in (0, 0, 0, 3, 3, 5)]
    assert spread_views(views, 4) == [0, 3, 5, 1]
    assert spread_views(views, 100) == [0, 3, 5, 1, 4, 2]
    assert spread_views(views, 1) == [0], "the plain view is always among them"


def test_none_before_each_batch_and_the_same_vote_whatever_their_size() -> None:
    found = {}
    for size, batches in ((5, 4), (16, 1)):
        config = VoteConfig(views=8, act_steps=1, batch_size=size)
        *before, last = answer_in_batches(*model(), TASK, VIEWS, ROWS, config, side=3)
        assert before == [None] * batches and last is not None
        found[size] = [[(c.key, c.votes) for c in output] for output in last.outputs]
        assert last.views == 8 and len(last.scores) == 16
    assert found[5] == found[16]


@pytest.mark.parametrize("rule", ["counts", "composite"])
def test_each_output_is_ranked_by_the_rule_from_its_own_views(rule: Any) -> None:
    made = answer(*model(), TASK, VIEWS, ROWS, VoteConfig(views=8, act_steps=1, rule=rule), side=3)
    ranked = [rank(made.raw("t", 0).of_output(k), rule) for k in range(2)]
    assert facts(made.outputs) == facts(ranked) and facts(ranked[:1]) != facts(ranked[1:])
    assert all((sum(c.weight - c.votes for c in output) > 0) == (rule == "composite") for output in made.outputs)
