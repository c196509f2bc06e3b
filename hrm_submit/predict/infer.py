"""ACT inference over augmented views: grids in, the log-probabilities of all tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import encode_inputs, position_ids
from hrm_submit.arc.task import Grid
from hrm_submit.config.schema import ModelConfig, VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import log_stablemax_scores
from hrm_submit.predict.scores import ViewScores, join


@dataclass(frozen=True)
class ViewRequest:
    """One forward to make: a grid, the view to show it in, and the task embedding row to use."""

    grid: Grid
    view: Augmentation
    row: int


def answer_step(model: ModelConfig, vote: VoteConfig) -> int:
    """The ACT step that answers are taken from: a model is not asked further than it was trained."""
    return min(vote.act_steps, model.halt_max_steps)


@torch.no_grad()
def score_views(
    model: HRM, embedding: TaskEmbedding, requests: Sequence[ViewRequest], side: int, config: VoteConfig, *, every_step: bool = False
) -> ViewScores:
    """What the model says of each of one or more requests, in batches of `batch_size`.

    Runs to `answer_step` and keeps that step; with `every_step` runs all of `act_steps`, further than the model was trained if they
    are more, and keeps each.
    """
    model.eval()
    device = model.tokens.device
    positions = torch.from_numpy(position_ids(side)).to(device)
    steps = config.act_steps if every_step else answer_step(model.cfg, config)
    parts = []
    for start in range(0, len(requests), config.batch_size):
        part = requests[start : start + config.batch_size]
        views = [r.view for r in part]
        inputs = torch.from_numpy(encode_inputs([r.grid for r in part], views, side)).to(device)
        rows = None
        if model.cfg.puzzle_emb_len:
            ids = torch.tensor([r.row for r in part], device=device)
            rows = embedding.lookup(ids, torch.tensor([v.dihedral for v in views], device=device))
        carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
        log_probs, halt = [], []
        for step in range(1, steps + 1):
            carry, logits, q_halt, _ = model(carry, inputs, rows, positions)
            if every_step or step == steps:
                log_probs.append(_log_probs(logits, model.cfg))
                halt.append(q_halt.float().cpu().numpy())
        parts.append(ViewScores(tuple(views), side, np.stack(log_probs, axis=1), np.stack(halt, axis=1)))
    return join(parts)


def _log_probs(logits: Tensor, cfg: ModelConfig) -> np.ndarray:
    """(B, N, vocabulary) float32, by the probability that the model is trained with."""
    scores = logits.float()
    if cfg.loss_type == "stablemax_cross_entropy":
        scores = log_stablemax_scores(scores)
    return scores.log_softmax(-1).cpu().numpy()
