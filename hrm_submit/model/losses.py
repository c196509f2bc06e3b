"""What a segment is trained on: the tokens' cross entropy and the two Q values, and what is worth watching of it.

- Stablemax (arXiv:2501.04697) replaces softmax's exponential by s(x) = x + 1 for x >= 0, 1 / (1 - x) below. Here it is a
  plain cross entropy over log s(x): finite in every number format, where a ratio of s loses small probabilities.
- Each sequence weighs the same however many cells it has; sums run over the batch, so the caller divides by its size.
- Metrics stay tensors on the device: reading them is what waits for it, and that is the caller's decision.

Formulae: arXiv:2506.21734 and its published code.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hrm_submit.arc.canvas import PAD
from hrm_submit.model.act import ActCarry, ActOutput

IGNORED = -100
"""Label of a cell that no loss or metric looks at."""

LossType = Literal["stablemax_cross_entropy", "softmax_cross_entropy"]


@dataclass(frozen=True)
class Metrics:
    """Scalars on the device, summed over a segment's batch.

    Over the sequences that halted and have labels: `count`, `accuracy` (each one's share of right cells), `exact_accuracy`,
    `q_halt_accuracy` (sign of the halt value agrees with exactness), `steps`. Over all sequences: the three losses;
    `q_continue_loss` is None where there was no target.
    """

    count: Tensor
    accuracy: Tensor
    exact_accuracy: Tensor
    q_halt_accuracy: Tensor
    steps: Tensor
    lm_loss: Tensor
    q_halt_loss: Tensor
    q_continue_loss: Tensor | None


def labels_from_tokens(tokens: Tensor) -> Tensor:
    """Labels (..., int64) from a canvas of tokens: PAD becomes IGNORED."""
    return tokens.long().masked_fill(tokens == PAD, IGNORED)


def log_stablemax_scores(x: Tensor) -> Tensor:
    """log s(x), elementwise; its softmax is the stablemax of `x`. Slope 1 at 0, from both sides."""
    positive = x >= 0
    magnitude = torch.log1p(torch.where(positive, x, -x))
    return torch.where(positive, magnitude, -magnitude)


def log_probabilities(logits: Tensor, loss_type: LossType) -> Tensor:
    """Log-probabilities (..., V), float32, under the loss that trains the model."""
    scores = logits.float()
    return (log_stablemax_scores(scores) if loss_type == "stablemax_cross_entropy" else scores).log_softmax(-1)


def token_loss(logits: Tensor, labels: Tensor, loss_type: LossType, dtype: torch.dtype | None = None) -> Tensor:
    """Cross entropy of each cell, (B, N), 0 where ignored; `logits` (B, N, V), `labels` (B, N).

    Computed in `dtype`; None is the published choice, float64 for stablemax and float32 for softmax.
    """
    stablemax = loss_type == "stablemax_cross_entropy"
    scores = logits.to(dtype or (torch.float64 if stablemax else torch.float32))
    if stablemax:
        scores = log_stablemax_scores(scores)
    flat = F.cross_entropy(scores.flatten(0, 1), labels.flatten().long(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape)


def segment_loss(
    output: ActOutput, carry: ActCarry, loss_type: LossType, dtype: torch.dtype | None = None, *, halts: bool = True
) -> tuple[Tensor, Metrics]:
    """Loss of a segment, summed over its batch, and its metrics; `carry` is the one that `act_step` returned with `output`.

    loss = token loss (mean over each sequence's labelled cells) + 1/2 (binary cross entropy of the halt value against
    exactness + of the continue value against its target). `dtype` as in `token_loss`. Without `halts` it is the token loss alone: a
    model of one ACT step never reads the halt value, whose gradient outweighs the tokens' once some grids are exact.
    """
    labels = carry.data.labels
    with torch.no_grad():
        valid = labels != IGNORED
        cells = valid.sum(-1)
        divisor = cells.clamp_min(1)
        correct = (valid & (output.logits.argmax(-1) == labels)).sum(-1)
        exact = correct == cells
        counted = carry.halted & (cells > 0)
    lm_loss = (token_loss(output.logits, labels, loss_type, dtype).sum(-1) / divisor).sum()
    q_halt_loss = F.binary_cross_entropy_with_logits(output.q_halt, exact.to(output.q_halt.dtype), reduction="sum")
    q_loss, q_continue_loss = q_halt_loss, None
    if output.target_q_continue is not None:
        q_continue_loss = F.binary_cross_entropy_with_logits(output.q_continue, output.target_q_continue, reduction="sum")
        q_loss = q_loss + q_continue_loss
    metrics = Metrics(
        count=counted.sum(),
        accuracy=(counted * (correct.float() / divisor)).sum(),
        exact_accuracy=(counted & exact).sum(),
        q_halt_accuracy=(counted & ((output.q_halt >= 0) == exact)).sum(),
        steps=(counted * carry.steps).sum(),
        lm_loss=lm_loss.detach(),
        q_halt_loss=q_halt_loss.detach(),
        q_continue_loss=None if q_continue_loss is None else q_continue_loss.detach(),
    )
    return lm_loss + 0.5 * q_loss if halts else lm_loss, metrics
