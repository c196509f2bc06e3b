"""How well weights predict without being changed: pass@1 and pass@2 by augmentation voting on tasks with known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.canvas import canvas_side
from hrm_submit.arc.scoring import Score, score
from hrm_submit.arc.task import Solutions, Task, make_grid
from hrm_submit.core.config import Preset
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.infer import ViewRequest, predict_views
from hrm_submit.predict.vote import two_attempts, vote


def validate(
    model: HRM,
    embedding: TaskEmbedding,
    tasks: Mapping[str, Task],
    solutions: Solutions,
    preset: Preset,
    row_of: Callable[[str], int],
    seed: int = 0,
) -> Score:
    """Score of the votes over `[vote] views` augmented views of each test input; `row_of(task id)` is the embedding row to use."""
    blank = (make_grid([[0]]), make_grid([[1]]))
    answers = {}
    for number, (task_id, task) in enumerate(tasks.items()):
        rng = np.random.default_rng([seed, number])
        train = preset.train
        views = sample_augmentations(task, preset.vote.views, rng, colours=train.colours, dihedral=train.dihedral)
        row = row_of(task_id)
        # In the published scheme each augmentation has a row of its own; only the plain one is known by number here.
        requests = [ViewRequest(grid, view, row) for grid in task.test for view in views]
        predictions = predict_views(model, embedding, requests, canvas_side(task), preset.vote)
        n = len(views)
        answers[task_id] = [
            two_attempts(vote(p for p in predictions[k * n : (k + 1) * n] if p is not None), blank) for k in range(len(task.test))
        ]
    return score(answers, {task_id: solutions[task_id] for task_id in tasks if task_id in solutions})
