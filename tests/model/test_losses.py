"""Losses against hand-worked numbers; the recordings of the published model hold the rest (test_parity.py)."""

from __future__ import annotations

import pytest
import torch

from hrm_submit.model.losses import labels_from_tokens, log_stablemax_scores, token_loss


def test_stablemax_of_a_hand_worked_example() -> None:
    # s(1) = 2, s(0) = 1, s(-1) = 1/2, s(-3) = 1/4: sum 3.75
    logits = torch.tensor([[[1.0, 0.0, -1.0, -3.0]] * 4])
    expected = -torch.tensor([[2, 1, 0.5, 0.25]], dtype=torch.float64).div(3.75).log()
    for dtype, as_computed in ((None, torch.float64), (torch.float32, torch.float32)):
        loss = token_loss(logits, torch.tensor([[0, 1, 2, 3]]), "stablemax_cross_entropy", dtype)
        torch.testing.assert_close(loss, expected.to(as_computed))


def test_labels_ignore_padding() -> None:
    tokens = torch.tensor([[0, 1, 2], [11, 0, 0]], dtype=torch.uint8)
    assert labels_from_tokens(tokens).tolist() == [[-100, 1, 2], [11, -100, -100]] and tokens[0, 0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stablemax_has_slope_1_over_1_plus_x_and_stays_finite(dtype: torch.dtype) -> None:
    # 0 is where the branches meet, 1 where the formula of the branch not taken divides by zero
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, 1e30, -1e30], dtype=dtype, requires_grad=True)
    log_stablemax_scores(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1 / (1 + abs(v)) for v in x.tolist()])
