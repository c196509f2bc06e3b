"""ACT inference over augmented views: grids in, the log-probabilities of all tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import encode_inputs, position_ids
from hrm_submit.arc.task import Grid
from hrm_submit.config.schema import ModelConfig, VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import log_stablemax_scores
from hrm_submit.predict.halting import until_rest
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
    model: HRM,
    embedding: TaskEmbedding,
    requests: Sequence[ViewRequest],
    side: int,
    config: VoteConfig,
    *,
    every_step: bool = False,
) -> ViewScores:
    """What the model says of each of one or more requests, in batches of `batch_size`.

    Runs to `answer_step` and keeps that step, or by `[vote] halt` the one before at which a view rests; with `every_step` runs all of
    `act_steps`, further than the model was trained if they are more, and keeps each.
    """
    model.eval()
    device = model.tokens.device
    positions = torch.from_numpy(position_ids(side)).to(device)
    steps = config.act_steps if every_step else answer_step(model.cfg, config)
    kept = range(1, steps + 1) if every_step else range(steps, steps + 1)
    parts = []
    for start in range(0, len(requests), config.batch_size):
        part = requests[start : start + config.batch_size]
        views = [r.view for r in part]
        inputs = torch.from_numpy(encode_inputs([r.grid for r in part], views, side)).to(device)
        rows = []
        if model.cfg.puzzle_emb_len:
            ids = torch.tensor([r.row for r in part], device=device)
            rows.append(embedding.lookup(ids, torch.tensor([v.dihedral for v in views], device=device)))
        if config.halt == "rest" and not every_step:
            said = until_rest(model, steps, partial(_log_probs, cfg=model.cfg), positions, inputs, *rows)
        else:
            said = _steps(model, kept, positions, inputs, *rows)
        log_probs, halt = (values.cpu().numpy() for values in said)
        parts.append(ViewScores(tuple(views), side, log_probs, halt))
    return join(parts)


def _steps(model: HRM, kept: range, positions: Tensor, inputs: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, S, N, vocabulary) and Q values of halting (B, S) after the ACT steps `kept`, in float32."""
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    log_probs, halt = [], []
    for step in range(1, kept.stop):
        carry, logits, q_halt, _ = model(carry, inputs, rows, positions)
        if step in kept:
            log_probs.append(_log_probs(logits, model.cfg))
            halt.append(q_halt.float())
    return torch.stack(log_probs, dim=1), torch.stack(halt, dim=1)


def _log_probs(logits: Tensor, cfg: ModelConfig) -> Tensor:
    """(B, N, vocabulary) float32, by the probability that the model is trained with."""
    scores = logits.float()
    if cfg.loss_type == "stablemax_cross_entropy":
        scores = log_stablemax_scores(scores)
    return scores.log_softmax(-1)
