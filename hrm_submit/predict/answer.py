"""One task answered by a model as it is: each test input in many views, what the model says of each, the candidates they vote for.

Whoever asks a model for answers does it here: test-time training between its segments, validation, ablations, the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hrm_submit.arc.augment import Augmentation
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import VoteConfig
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.halting import first_rest
from hrm_submit.predict.infer import ViewRequest, answer_step, score_views
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
        """All that the vote was made of, to be kept; its answer was taken after ACT step `step`."""
        output = np.repeat(np.arange(len(self.outputs), dtype=np.uint16), self.views)
        return RawVote(task, restart, step, output, self.scores)


def answer(
    model: HRM,
    embedding: TaskEmbedding,
    task: Task,
    views: Sequence[Augmentation],
    rows: Sequence[int],
    config: VoteConfig,
    *,
    side: int | None = None,
    every_step: bool = False,
) -> Vote:
    """The vote of `[vote] views` of the `views` (`spread_views` chooses), each under its row of `embedding`.

    `side` is the canvas (default: the task's own). With `every_step` all of `[vote] act_steps` are run and kept, but candidates are
    those of the step that the model answers with.
    """
    *_, vote = answer_in_batches(model, embedding, task, views, rows, config, side=side, every_step=every_step)
    assert vote is not None
    return vote


def answer_in_batches(
    model: HRM,
    embedding: TaskEmbedding,
    task: Task,
    views: Sequence[Augmentation],
    rows: Sequence[int],
    config: VoteConfig,
    *,
    side: int | None = None,
    every_step: bool = False,
) -> Iterator[Vote | None]:
    """As `answer`, for who has to do something between batches: yields None before each batch, and the vote at the end."""
    chosen = spread_views(views, config.views)
    requests = [ViewRequest(grid, views[v], rows[v]) for grid in task.test for v in chosen]
    parts = []
    for start in range(0, len(requests), config.batch_size):
        yield None
        part = requests[start : start + config.batch_size]
        here = side or canvas_side(task)
        parts.append(score_views(model, embedding, part, here, config, every_step=every_step))
    scores, n = join(parts), len(chosen)
    last = _answering(scores.until(answer_step(model.cfg, config)), config) if every_step else scores
    yield Vote(tuple(tuple(rank(last.only(slice(k * n, (k + 1) * n)), config.rule)) for k in range(len(task.test))), n, scores)


def _answering(scores: ViewScores, config: VoteConfig) -> ViewScores:
    """Of every step until the last that answers may be taken from the one that each view answers with."""
    return scores.at(first_rest(torch.from_numpy(scores.log_probs)).numpy()) if config.halt == "rest" else scores


def spread_views(views: Sequence[Augmentation], n: int) -> list[int]:
    """Indices of `n` of the `views` (or all), dihedral transforms in turn, each transform's in the order given."""
    queues: dict[int, list[int]] = {}
    for index, view in enumerate(views):
        queues.setdefault(view.dihedral, []).append(index)
    order = [q[k] for k in range(max(map(len, queues.values()))) for _, q in sorted(queues.items()) if k < len(q)]
    return order[:n]
