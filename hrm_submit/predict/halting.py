"""When a view may end before its last ACT step: once the entropy of what the model says of its canvas is at rest.

- The rule has nothing that is learnt, so that weights whose halt value was never trained, or is wrong, lose nothing by it. After LoopViT.
- A view at rest leaves the batch: the others are computed without it.
- On recorded steps of a model trained for eight, views ended after 3.7 of 8 steps and as many answers were right; by the halt value after
  5.3. The comparison: `scripts/ablations/halting-rules.md`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hrm_submit.model.hrm import HRM, InnerCarry

REST = 0.01
"""Nats by which a canvas's mean entropy may differ from that of the step before, for the view to be at rest."""


def entropy(log_probs: Tensor) -> Tensor:
    """Mean over the cells of the entropy of their token, in nats: (...) float32 of log-probabilities (..., N, vocabulary)."""
    said = log_probs.float()
    return -(said.exp() * said).sum(-1).mean(-1)


def first_rest(log_probs: Tensor) -> Tensor:
    """The step, from 0, after which each view is at rest, or its last: (n,) int64 of log-probabilities (n, T, N, vocabulary)."""
    rests = entropy(log_probs).diff(dim=1).abs() < REST
    first = rests.long().argmax(dim=1) + 1 if rests.shape[1] else torch.zeros(len(rests), dtype=torch.int64)
    return torch.where(rests.any(dim=1), first, rests.shape[1])


def until_rest(
    model: HRM,
    most: int,
    log_probs_of: Callable[[Tensor], Tensor],
    positions: Tensor,
    inputs: Tensor,
    rows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, 1, N, vocabulary) and Q values of halting (B, 1), float32, of each view after the step at which it rests, at
    most the step `most`; `log_probs_of` makes the former of logits."""
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    going = torch.arange(inputs.shape[0], device=inputs.device)
    before: Tensor | None = None
    for step in range(1, most + 1):
        carry, logits, q_halt, _ = model(carry, inputs, rows, positions)
        said = log_probs_of(logits)
        if step == 1:
            log_probs, halt = said.clone(), q_halt.float().clone()
        else:
            log_probs[going], halt[going] = said, q_halt.float()
        if step == most:
            break
        now = entropy(said)
        if before is not None:
            stay = ((now - before).abs() >= REST).nonzero().squeeze(1)
            if not len(stay):
                break
            if len(stay) < len(going):
                going, now, inputs = going[stay], now[stay], inputs[stay]
                rows = None if rows is None else rows[stay]
                carry = InnerCarry(carry.z_H[stay], carry.z_L[stay])
        before = now
    return log_probs[:, None], halt[:, None]
