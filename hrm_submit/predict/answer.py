"""Answer one task with a model as it is: score many views of each test input, vote. The only place that asks a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.canvas import encode_inputs, position_ids
from hrm_submit.arc.codes import with_codes
from hrm_submit.arc.task import Grid, Task
from hrm_submit.config.schema import ModelConfig, VoteConfig
from hrm_submit.core.device import Fetched, to_device
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import log_probabilities
from hrm_submit.predict.halting import first_rest, until_rest
from hrm_submit.predict.rank import rank
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.scores import ViewScores, join
from hrm_submit.predict.vote import Outputs


@dataclass(frozen=True, eq=False)
class Vote:
    """Candidates of each test output, made by `views` views of each test input; `scores` are those of all views, output by output."""

    outputs: Outputs
    views: int
    scores: ViewScores

    def raw(self, task: str, restart: int, step: int) -> RawVote:
        """Make the record of the vote, whose candidates were taken after ACT step `step`."""
        output = np.repeat(np.arange(len(self.outputs), dtype=np.uint16), self.views)
        return RawVote(task, restart, step, output, self.scores)


@dataclass(frozen=True)
class ViewRequest:
    """One forward to make: a grid, the view to show it in, and the task embedding row to use."""

    grid: Grid
    view: Augmentation
    row: int


def answer_in_batches(
    model: HRM,
    embedding: TaskEmbedding,
    task: Task,
    views: Sequence[Augmentation],
    rows: Sequence[int],
    config: VoteConfig,
    *,
    side: int,
    every_step: bool = False,
) -> Iterator[Vote | None]:
    """Vote with `[vote] views` of the `views` (`spread_views` chooses), each under its row of `embedding`.

    Yields None before each batch of `[vote] batch_size`, and the vote at the end. `side` is that of the canvas. With
    `every_step` all of `[vote] act_steps` are run and kept, but candidates are those of the step that the model answers with.
    """
    chosen = spread_views(views, config.views)
    requests = [ViewRequest(grid, views[v], rows[v]) for grid in task.test for v in chosen]
    parts = []
    for start in range(0, len(requests), config.batch_size):
        yield None
        part = requests[start : start + config.batch_size]
        parts.append(score_views(model, embedding, part, side, config, every_step=every_step))
    scores, n = join(parts), len(chosen)
    last = scores
    if every_step:
        last = scores.until(answer_step(model.cfg, config))
        if config.halt == "rest":
            last = last.at(first_rest(torch.from_numpy(last.log_probs)).numpy())
    yield Vote(tuple(tuple(rank(last.some(slice(k * n, (k + 1) * n)), config.rule)) for k in range(len(task.test))), n, scores)


def answer(*args: Any, **options: Any) -> Vote:
    """Vote as `answer_in_batches` does; returns the vote."""
    *_, vote = answer_in_batches(*args, **options)
    assert vote is not None
    return vote


def answer_step(model: ModelConfig, vote: VoteConfig) -> int:
    """Return the ACT step that answers are taken from: a model is not run longer than it was trained."""
    return min(vote.act_steps, model.halt_max_steps)


@torch.no_grad()
def score_views(
    model: HRM, embedding: TaskEmbedding, requests: Sequence[ViewRequest], side: int, config: VoteConfig, *, every_step: bool = False
) -> ViewScores:
    """Run the model on one batch of views to `answer_step`, and keep that step or, by `[vote] halt`, the one at which a view rests.

    With `every_step` run all of `act_steps`, further than the model was trained if they are more, and keep each.
    """
    model.eval()
    device, views = model.tokens.device, [request.view for request in requests]
    positions = to_device(torch.from_numpy(position_ids(side)), device)
    encoded = with_codes(encode_inputs([request.grid for request in requests], views, side), model.cfg.codes)
    inputs = to_device(torch.from_numpy(encoded), device)
    rows = None
    if model.cfg.puzzle_emb_len:
        ids, transforms = torch.tensor([request.row for request in requests]), torch.tensor([view.dihedral for view in views])
        rows = embedding.lookup(to_device(ids, device), to_device(transforms, device))
    steps = config.act_steps if every_step else answer_step(model.cfg, config)
    if config.halt == "rest" and not every_step:
        scored = until_rest(model, steps, positions, inputs, rows)
    else:
        scored = _steps(model, range(1 if every_step else steps, steps + 1), positions, inputs, rows)
    return ViewScores(tuple(views), side, Fetched(scored).get().numpy())


def spread_views(views: Sequence[Augmentation], n: int) -> list[int]:
    """Choose the indices of `n` of the `views` (or all), dihedral transforms in turn, each transform's in the order given."""
    queues: dict[int, list[int]] = {}
    for index, view in enumerate(views):
        queues.setdefault(view.dihedral, []).append(index)
    order = [q[k] for k in range(max(map(len, queues.values()))) for _, q in sorted(queues.items()) if k < len(q)]
    return order[:n]


def _steps(model: HRM, kept: range, positions: Tensor, inputs: Tensor, rows: Tensor | None) -> Tensor:
    """Log-probabilities (B, S, N, vocabulary) after the ACT steps `kept`, in float32."""
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    log_probs = []
    for step in range(1, kept.stop):
        carry, logits, *_ = model(carry, inputs, rows, positions)
        if step in kept:
            log_probs.append(log_probabilities(logits, model.cfg.loss_type))
    return torch.stack(log_probs, dim=1)
