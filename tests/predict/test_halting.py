"""Views that end when they are at rest: which step that is, who leaves the batch, and that what is said is what the step said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hrm_submit.arc.augment import IDENTITY
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import InnerCarry
from hrm_submit.model.weights import build
from hrm_submit.predict import halting
from hrm_submit.predict.answer import ViewRequest, score_views
from hrm_submit.predict.halting import entropy, first_rest
from tests.predict.test_score_views import CFG, Copier

CONFIG = VoteConfig(act_steps=6, batch_size=8, halt="rest")
DEEP = replace(CFG, halt_max_steps=6)


def test_the_first_step_that_moves_little_or_the_last() -> None:
    """Four views of one cell, which is this sure of its colour after each of four steps."""
    sure = torch.tensor([[0.6, 0.9, 0.9, 0.6], [0.6, 0.9, 0.6, 0.9], [0.7, 0.7, 0.9, 0.9], [0.6, 0.7, 0.8, 0.8]])
    log_probs = torch.stack((sure, 1 - sure), dim=-1).log()[:, :, None]
    assert first_rest(log_probs).tolist() == [2, 3, 1, 3]
    assert first_rest(log_probs[:, :1]).tolist() == [0] * 4, "one step leaves no choice"
    assert entropy(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).clamp_min(1e-30).log()).tolist() == pytest.approx([np.log(2) / 2])


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
    requests = [ViewRequest(make_grid([[k]]), IDENTITY, 0) for k in range(4)]
    scores = score_views(model, TaskEmbedding(DEEP, 1), requests, 2, CONFIG)  # type: ignore[arg-type]
    left = [4, 4, 4, 2, 1]  # 0 and 1 rest after the second step, 2 after the third, 3 after the fourth; each leaves a step later
    assert [calls[0] for calls in model.calls] == left
    assert scores.q_halt[:, 0].tolist() == [0, 1, 2, 3], "each says what it said last"
    assert [int(rows.shape[0]) for rows in model.rows if rows is not None] == left
    assert scores.steps == 1


@pytest.mark.parametrize("least", [0.0, 1e-3, 1e9])
def test_a_view_says_what_the_step_at_which_it_rests_says(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halting, "REST", least)
    model, embedding = build(DEEP, seed=1)
    rng = np.random.default_rng(0)
    requests = [ViewRequest(make_grid(rng.integers(0, 10, (3, 3))), IDENTITY, 0) for _ in range(8)]
    every = score_views(model, embedding, requests, 3, CONFIG, every_step=True)
    stops = first_rest(torch.from_numpy(every.log_probs))
    assert stops.tolist() == [5] * 8 if least == 0 else stops.tolist() == [1] * 8 if least > 1 else len(set(stops.tolist())) > 1
    said, expected = score_views(model, embedding, requests, 3, CONFIG), every.at(stops.numpy())
    np.testing.assert_allclose(said.log_probs, expected.log_probs, atol=1e-5)
    np.testing.assert_allclose(said.q_halt, expected.q_halt, atol=1e-5)
