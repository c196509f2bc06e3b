"""Answer one task with a model as it is: score many views of each test input, vote. The only place that asks a model."""

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
from hrm_submit.config.schema import VoteConfig
from hrm_submit.core.device import Fetched, to_device
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import log_probabilities
from hrm_submit.predict.halting import until_rest
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

    def raw(self, task: str, restart: int) -> RawVote:
        """Make the record of the vote."""
        output = np.repeat(np.arange(len(self.outputs), dtype=np.uint16), self.views)
        return RawVote(task, restart, output, self.scores)


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
) -> Iterator[Vote | None]:
    """Vote with `[vote] views` of the `views` (`spread_views` chooses), each under its row of `embedding`.

    Yields None before each batch of `[vote] batch_size`, and the vote at the end. `side` is that of the canvas.
    """
    chosen = spread_views(views, config.views)
    requests = [ViewRequest(grid, views[v], rows[v]) for grid in task.test for v in chosen]
    parts = []
    for start in range(0, len(requests), config.batch_size):
        yield None
        part = requests[start : start + config.batch_size]
        parts.append(score_views(model, embedding, part, side, config))
    scores, n = join(parts), len(chosen)
    yield Vote(tuple(tuple(rank(scores.some(slice(k * n, (k + 1) * n)), config.rule)) for k in range(len(task.test))), n, scores)


def answer(*args: Any, **options: Any) -> Vote:
    """Vote as `answer_in_batches` does; returns the vote."""
    *_, vote = answer_in_batches(*args, **options)
    assert vote is not None
    return vote


@torch.no_grad()
def score_views(model: HRM, embedding: TaskEmbedding, requests: Sequence[ViewRequest], side: int, config: VoteConfig) -> ViewScores:
    """Run the model on one batch of views for `[vote] act_steps`, no longer than it was trained; by `[vote] halt` until a view rests."""
    model.eval()
    device, views = model.tokens.device, [request.view for request in requests]
    positions = to_device(torch.from_numpy(position_ids(side)), device)
    encoded = with_codes(encode_inputs([request.grid for request in requests], views, side), model.cfg.codes)
    inputs = to_device(torch.from_numpy(encoded), device)
    rows = None
    if model.cfg.puzzle_emb_len:
        ids, transforms = torch.tensor([request.row for request in requests]), torch.tensor([view.dihedral for view in views])
        rows = embedding.lookup(to_device(ids, device), to_device(transforms, device))
    run = until_rest if config.halt == "rest" else _all_steps
    log_probs = run(model, min(config.act_steps, model.cfg.halt_max_steps), positions, inputs, rows)
    return ViewScores(tuple(views), side, Fetched(log_probs).get().numpy())


def spread_views(views: Sequence[Augmentation], n: int) -> list[int]:
    """Choose the indices of `n` of the `views` (or all), dihedral transforms in turn, each transform's in the order given."""
    queues: dict[int, list[int]] = {}
    for index, view in enumerate(views):
        queues.setdefault(view.dihedral, []).append(index)
    order = [q[k] for k in range(max(map(len, queues.values()))) for _, q in sorted(queues.items()) if k < len(q)]
    return order[:n]


def _all_steps(model: HRM, steps: int, positions: Tensor, inputs: Tensor, rows: Tensor | None) -> Tensor:
    """Run all ACT steps; returns log-probabilities (B, N, vocabulary), float32."""
    carry = model.initial_carry(inputs.shape[0], inputs.shape[1], inputs.device)
    for _ in range(steps):
        carry, logits, *_ = model(carry, inputs, rows, positions)
    return log_probabilities(logits, model.cfg.loss_type)
