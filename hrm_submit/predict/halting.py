"""End a view before its last ACT step once the entropy of its prediction rests (after LoopViT); it then leaves the batch.

The rule learns nothing, so it suits weights whose halt value was never trained. Compared in `scripts/ablations/halting-rules.md`.
"""

import numpy as np
import torch
from torch import Tensor

from hrm_submit.core.device import Fetched, to_device
from hrm_submit.model.hrm import HRM, InnerCarry
from hrm_submit.model.losses import log_probabilities

REST = 0.01
"""Nats by which a canvas's mean entropy may differ from that of the step before, for the view to be at rest."""


def entropy(log_probs: Tensor) -> Tensor:
    """Mean entropy of the cells' tokens, in nats: (...) float32 of log-probabilities (..., N, vocabulary)."""
    log_probs = log_probs.float()
    return -(log_probs.exp() * log_probs).sum(-1).mean(-1)


def until_rest(model: HRM, most: int, positions: Tensor, inputs: Tensor, rows: Tensor | None) -> Tensor:
    """Run each view until it rests, at most `most` steps.

    Who rests after a step leaves the batch after the next one, during which a GPU tells who that is: nothing waits for it.
    Returns log-probabilities (B, N, vocabulary), float32.
    """
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    going = torch.arange(inputs.shape[0], device=inputs.device)
    moves = torch.ones_like(going, dtype=torch.bool)
    before: Tensor | None = None
    told: Fetched | None = None
    for step in range(1, most + 1):
        carry, logits, *_ = model(carry, inputs, rows, positions)
        current = log_probabilities(logits, model.cfg.loss_type)
        if step == 1:
            log_probs = current.clone()
        else:
            log_probs[going] = torch.where(moves[:, None, None], current, log_probs[going])
        if step == most:
            break
        now = entropy(current)
        if before is not None:
            moves = moves & ((now - before).abs() >= REST)
        if told:
            stay = torch.from_numpy(np.flatnonzero(told.get().numpy()))
            if not len(stay):
                break
            if len(stay) < len(going):
                stay = to_device(stay, inputs.device)
                going, moves, now, inputs = going[stay], moves[stay], now[stay], inputs[stay]
                rows = None if rows is None else rows[stay]
                carry = InnerCarry(carry.z_H[stay], carry.z_L[stay])
        told = None if before is None else Fetched(moves)
        before = now
    return log_probs
