"""Predictions over views, with models whose answers are known: one that copies its input, and real ones of random weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import ModelConfig, VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import InnerCarry
from hrm_submit.model.weights import build
from hrm_submit.predict.answer import ViewRequest, score_views
from tests.arc.strategies import placed
from tests.model.tiny import TINY

CFG = replace(TINY, halt_max_steps=3, embedding="shared")


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
@given(st.lists(placed(3), min_size=1, max_size=7), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_copy_of_the_input_comes_back_unaugmented_from_every_view(chosen: list[Augmentation], rows: int, columns: int, seed: int) -> None:
    grids = [make_grid(np.random.default_rng(seed + k).integers(0, 10, (rows, columns))) for k in range(len(chosen))]
    requests = [ViewRequest(grid, view, 0) for grid, view in zip(grids, chosen, strict=True)]
    predictions = score_views(Copier(), TaskEmbedding(CFG, 1), requests, 8, VoteConfig()).predictions()  # type: ignore[arg-type]
    assert len(predictions) == len(requests)
    for grid, prediction in zip(grids, predictions, strict=True):
        assert prediction is not None
        np.testing.assert_array_equal(prediction.grid, grid)
        assert prediction.score == pytest.approx(SURENESS, abs=1e-5)


def test_every_act_step_is_kept_where_asked_even_beyond_those_trained() -> None:
    """A vote answers with the step asked for, but with none beyond those trained."""
    requests, config = [ViewRequest(make_grid([[k]]), IDENTITY, 0) for k in range(3)], VoteConfig(act_steps=5)
    real, embedding = build(CFG, seed=1)
    every = score_views(real, embedding, requests, 2, config, every_step=True)
    assert every.log_probs.shape == (3, 5, 4, 12) and every.q_halt.shape == (3, 5)
    np.testing.assert_allclose(np.exp(every.log_probs).sum(-1), 1.0, rtol=1e-5)
    assert not np.allclose(every.log_probs[:, 0], every.log_probs[:, 4]), "thinking on changes what it says"
    for asked, run in ((1, 1), (2, 2), (3, 3), (16, 3)):
        only = score_views(real, embedding, requests, 2, VoteConfig(act_steps=asked))
        assert only.steps == 1
        np.testing.assert_allclose(only.log_probs[:, 0], every.log_probs[:, run - 1], atol=1e-5)
        np.testing.assert_allclose(only.q_halt[:, 0], every.q_halt[:, run - 1], atol=1e-5)


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
    request = [ViewRequest(make_grid([[1]]), IDENTITY, 0)]
    assert np.isfinite(score_views(model, embedding, request, 2, VoteConfig()).log_probs).all()
    with torch.no_grad():
        model.lm_head.fill_(float("nan"))
    assert score_views(model, embedding, request, 2, VoteConfig()).predictions() == [None]
