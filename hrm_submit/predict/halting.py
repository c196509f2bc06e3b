"""End a view before its last ACT step once the entropy of its prediction rests (after LoopViT); it then leaves the batch.

The rule learns nothing, so it suits weights whose halt value was never trained. Compared in `scripts/ablations/halting-rules.md`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hrm_submit.model.hrm import HRM, InnerCarry

REST = 0.01
"""Nats by which a canvas's mean entropy may differ from that of the step before, for the view to be at rest."""


def entropy(log_probs: Tensor) -> Tensor:
    """Mean entropy of the cells' tokens, in nats: (...) float32 of log-probabilities (..., N, vocabulary)."""
    log_probs = log_probs.float()
    return -(log_probs.exp() * log_probs).sum(-1).mean(-1)


def first_rest(log_probs: Tensor) -> Tensor:
    """Find the step, from 0, after which each view is at rest, or its last: (n,) int64 of log-probabilities (n, T, N, vocabulary)."""
    rests = entropy(log_probs).diff(dim=1).abs() < REST
    first = rests.long().argmax(dim=1) + 1 if rests.shape[1] else torch.zeros(len(rests), dtype=torch.int64)
    return torch.where(rests.any(dim=1), first, rests.shape[1])


def until_rest(
    model: HRM, most: int, log_probs_of: Callable[[Tensor], Tensor], positions: Tensor, inputs: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run each view until it rests, at most `most` steps.

    Returns log-probabilities (B, 1, N, vocabulary), which `log_probs_of` makes of logits, and Q values of halting (B, 1), float32.
    """
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    going = torch.arange(inputs.shape[0], device=inputs.device)
    before: Tensor | None = None
    for step in range(1, most + 1):
        carry, logits, q_halt, _ = model(carry, inputs, rows, positions)
        current = log_probs_of(logits)
        if step == 1:
            log_probs, halt = current.clone(), q_halt.float().clone()
        else:
            log_probs[going], halt[going] = current, q_halt.float()
        if step == most:
            break
        now = entropy(current)
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
