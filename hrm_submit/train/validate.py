"""How well weights predict without being changed: pass@1 and pass@2 by augmentation voting on tasks with known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hrm_submit.arc.augment import Augmentation, sample_augmentations
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Solutions, Task, make_grid
from hrm_submit.config.schema import Preset, VoteConfig
from hrm_submit.core.device import out_of_memory
from hrm_submit.corpora.scoring import Score, score
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.answer import answer
from hrm_submit.predict.vote import Outputs, two_attempts
from hrm_submit.train.ranks import Ranks


def validate(
    model: HRM,
    embedding: TaskEmbedding,
    tasks: Mapping[str, Task],
    solutions: Solutions,
    preset: Preset,
    row_of: Callable[[str], int],
    *,
    seed: int = 0,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Score | None:
    """Score of the votes over `[vote] views` augmented views of each test input, ranked by `[vote] rule`; `row_of(task id)` is the
    embedding row to use.

    `ranks` share the tasks out. Where `stop` comes true on a rank, it leaves the rest of its tasks out, and the score is of
    those done; None if there are none.
    """
    ranks = ranks or Ranks()
    blank = (make_grid([[0]]), make_grid([[1]]))
    answers: dict[str, list[Attempts]] = {}
    for number, (task_id, task) in enumerate(tasks.items()):
        if task_id not in solutions or number % ranks.world != ranks.rank:
            continue
        if stop():
            break
        rng = np.random.default_rng([seed, number])
        train = preset.train
        views = sample_augmentations(task, preset.vote.views, rng, colours=train.colours)
        # In the published scheme each augmentation has a row of its own; only the plain one is known by number here.
        outputs = _answer(model, embedding, task, views, [row_of(task_id)] * len(views), preset.vote, canvas_side(task))
        answers[task_id] = [two_attempts(candidates, blank) for candidates in outputs]
    done = {task_id: attempts for part in ranks.collect(answers) for task_id, attempts in part.items()}
    return score(done, {task_id: solutions[task_id] for task_id in tasks if task_id in done}) if done else None


def _answer(
    model: HRM, embedding: TaskEmbedding, task: Task, views: Sequence[Augmentation], rows: Sequence[int], config: VoteConfig, side: int
) -> Outputs:
    """`answer`, with smaller batches where memory, most of which training holds, runs out."""
    while True:
        try:
            return answer(model, embedding, task, views, rows, config, side=side).outputs
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or config.batch_size == 1:
                raise
        config = replace(config, batch_size=config.batch_size // 2)
