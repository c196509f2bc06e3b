"""ACT inference over augmented views: tokens in, grids with their confidence out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import decode, encode_inputs, position_ids
from hrm_submit.arc.task import Grid
from hrm_submit.core.config import VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import log_stablemax_scores
from hrm_submit.predict.vote import Prediction


@dataclass(frozen=True)
class ViewRequest:
    """One forward to make: a grid, the view to show it in, and the task embedding row to use."""

    grid: Grid
    view: Augmentation
    row: int


@torch.no_grad()
def predict_views(
    model: HRM, embedding: TaskEmbedding, requests: Sequence[ViewRequest], side: int, config: VoteConfig
) -> list[Prediction | None]:
    """The un-augmented prediction of each request on a canvas of `side`; None where no grid could be decoded.

    Runs `act_steps` segments (at most the model's halt_max_steps) on batches of `batch_size`.
    """
    model.eval()
    device = model.tokens.device
    positions = torch.from_numpy(position_ids(side)).to(device)
    predictions: list[Prediction | None] = []
    for start in range(0, len(requests), config.batch_size):
        part = requests[start : start + config.batch_size]
        views = [r.view for r in part]
        inputs = torch.from_numpy(encode_inputs([r.grid for r in part], views, side)).to(device)
        rows = None
        if model.cfg.puzzle_emb_len:
            ids = torch.tensor([r.row for r in part], device=device)
            rows = embedding.lookup(ids, torch.tensor([v.dihedral for v in views], device=device))
        tokens, confidence = _answer(model, inputs, rows, positions, config.act_steps)
        offsets = np.array([v.offset for v in views], dtype=np.int64)
        for grid, view, sure in zip(decode(tokens, offsets, side), views, confidence, strict=True):
            predictions.append(None if grid is None else _prediction(grid, view, sure.reshape(side, side)))
    return predictions


def _answer(model: HRM, inputs: Tensor, rows: Tensor | None, positions: Tensor, act_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Most likely tokens (B, N) uint8 and their log-probabilities (B, N) float32 after the last ACT step."""
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    for _ in range(min(act_steps, model.cfg.halt_max_steps)):
        carry, logits, _, _ = model(carry, inputs, rows, positions)
    scores = logits.float()
    if model.cfg.loss_type == "stablemax_cross_entropy":
        scores = log_stablemax_scores(scores)
    best, tokens = scores.log_softmax(-1).max(-1)
    return tokens.to(torch.uint8).cpu().numpy(), best.cpu().numpy()


def _prediction(grid: Grid, view: Augmentation, confidence: np.ndarray) -> Prediction:
    row, column = view.offset
    cells = confidence[row : row + grid.shape[0], column : column + grid.shape[1]]
    return Prediction(view.invert(grid), float(cells.mean()))
