"""Losses and metrics against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch

from hrm_submit.model.act import ActCarry, ActOutput, Batch
from hrm_submit.model.hrm import InnerCarry
from hrm_submit.model.losses import IGNORED, labels_from_tokens, log_stablemax_scores, segment_loss, token_loss


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


def test_ignored_cells_cost_nothing_and_pull_nothing() -> None:
    logits = torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for loss_type in ("stablemax_cross_entropy", "softmax_cross_entropy"):
        loss = token_loss(logits, torch.tensor([[4, IGNORED, 5]]), loss_type)  # type: ignore[arg-type]
        assert loss[0, 1] == 0 and loss[0, 0] > 0
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient[0, 1].abs().max() == 0 and gradient[0, 2].abs().max() > 0


def segment(target: torch.Tensor | None) -> tuple[ActOutput, ActCarry]:
    """Four sequences of two cells, two classes: exact and halted; half right and halted; exact, not halted; unlabelled, halted."""
    labels = torch.tensor([[0, IGNORED], [0, 1], [1, 1], [IGNORED, IGNORED]])
    best = torch.tensor([[0, 1], [0, 0], [1, 1], [0, 0]])
    # the chosen class has s(1) = 2, the other s(0) = 1
    logits = torch.nn.functional.one_hot(best, 2).float()
    data = Batch(labels, labels, torch.zeros(4), torch.zeros(4))
    carry = ActCarry(InnerCarry(torch.zeros(0), torch.zeros(0)), torch.tensor([3, 5, 1, 2]), torch.tensor([True, True, False, True]), data)
    return ActOutput(logits, torch.tensor([0.0, 1.0, -1.0, 2.0]), torch.tensor([0.0, 0.0, 0.0, 3.0]), target, None), carry


def test_metrics_of_a_hand_worked_segment() -> None:
    output, carry = segment(None)
    loss, m = segment_loss(output, carry, "stablemax_cross_entropy")
    assert [int(x) for x in (m.count, m.exact_accuracy, m.steps)] == [2, 1, 8]
    assert float(m.accuracy) == pytest.approx(1.5)
    # sequence 0: 0 >= 0 and exact, right; sequence 1: 1 >= 0 but not exact, wrong
    assert int(m.q_halt_accuracy) == 1
    right, wrong = math.log(3 / 2), math.log(3)
    assert float(m.lm_loss) == pytest.approx(right + (right + wrong) / 2 + right)
    # targets 1, 0, 1, 1 (a sequence without labels has no wrong cell)
    softplus = [math.log1p(math.exp(-q)) for q in (0.0, -1.0, -1.0, 2.0)]
    assert float(m.q_halt_loss) == pytest.approx(sum(softplus))
    assert m.q_continue_loss is None
    assert float(loss) == pytest.approx(float(m.lm_loss) + 0.5 * sum(softplus))


def test_the_continue_value_is_pulled_to_its_target() -> None:
    output, carry = segment(torch.tensor([0.5, 1.0, 0.0, 0.25]))
    loss, m = segment_loss(output, carry, "stablemax_cross_entropy")
    p = 1 / (1 + math.exp(-3.0))
    expected = 3 * math.log(2.0) - 0.25 * math.log(p) - 0.75 * math.log(1 - p)
    assert m.q_continue_loss is not None
    assert float(m.q_continue_loss) == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(float(m.lm_loss) + 0.5 * (float(m.q_halt_loss) + expected), rel=1e-6)
