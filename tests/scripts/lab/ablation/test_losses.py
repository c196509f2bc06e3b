"""The test loss of a vote, against the same sum done cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from lab.ablation.losses import LEAST, mean_test_loss

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.task import Grid, Pair, Task, make_grid
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.scores import ViewScores

SIDE = 4
SWAP = (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)
VIEWS = (Augmentation(0), Augmentation(1, SWAP), Augmentation(0, SWAP, (1, 1)), Augmentation(6))
OUTPUTS = [make_grid([[1, 2, 3]]), make_grid([[4], [5]])]


def vote_of(output: list[int], answer_step: int = 2) -> RawVote:
    """Two steps of made-up probabilities for a view of each of the outputs of those numbers."""
    scores = np.random.default_rng(0).normal(size=(len(output), 2, SIDE * SIDE, 12))
    log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return RawVote("t", 0, answer_step, np.array(output), ViewScores(VIEWS[: len(output)], SIDE, log_probs, np.zeros((len(output), 2))))


def by_hand(vote: RawVote, view: int, output: Grid) -> float:
    """The loss of one view: its colours where they lie, an EOS below each column and to the right of each row."""
    shown, (top, left) = VIEWS[view].apply(output), VIEWS[view].offset
    rows, columns = shown.shape
    tokens = {(top + r, left + c): int(shown[r, c]) + 2 for r in range(rows) for c in range(columns)}
    tokens |= {(top + rows, left + c): 1 for c in range(columns)} | {(top + r, left + columns): 1 for r in range(rows)}
    inside = {(r, c): token for (r, c), token in tokens.items() if r < SIDE and c < SIDE}
    log_probs = vote.scores.log_probs[view, vote.answer_step - 1]
    return -sum(log_probs[r * SIDE + c, token] for (r, c), token in inside.items()) / len(inside)


TASK = Task("t", (Pair(OUTPUTS[0], OUTPUTS[0]),), (make_grid([[1, 1, 1]]), make_grid([[2], [2]])))


@pytest.mark.parametrize("step", [1, 2])
def test_it_is_the_mean_over_tokens_then_views_then_outputs(step: int) -> None:
    vote = vote_of([0, 0, 1, 0], step)
    first = [by_hand(vote, view, OUTPUTS[0]) for view in (0, 1, 3)]
    expected = (sum(first) / 3 + by_hand(vote, 2, OUTPUTS[1])) / 2
    assert mean_test_loss(vote, TASK, OUTPUTS) == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_compared_is_left_out_and_no_token_counts_without_end() -> None:
    large = make_grid(np.ones((5, 2), dtype=np.uint8))
    vote = vote_of([0, 0, 1, 0])
    alone = mean_test_loss(vote, TASK, [OUTPUTS[0], large])
    assert alone == pytest.approx(sum(by_hand(vote, view, OUTPUTS[0]) for view in (0, 1, 3)) / 3)
    assert mean_test_loss(vote_of([0, 0]), TASK, [large, OUTPUTS[1]]) is None, "too large, and of no view"
    vote.scores.log_probs[:] = -np.inf
    assert mean_test_loss(vote, TASK, OUTPUTS) == -LEAST
