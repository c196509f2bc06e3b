"""Validation: score weights as they are by augmentation voting on tasks with known answers."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import answering_side
from hrm_submit.arc.submission import Attempts
from hrm_submit.arc.task import Solutions, Task, make_grid
from hrm_submit.config.schema import Preset
from hrm_submit.core.device import out_of_memory
from hrm_submit.corpora.scoring import Score, score
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.answer import answer
from hrm_submit.predict.vote import two_attempts
from hrm_submit.train.ranks import ALONE, Ranks


def validate(
    model: HRM,
    embedding: TaskEmbedding,
    tasks: Mapping[str, Task],
    solutions: Solutions,
    preset: Preset,
    *,
    ranks: Ranks = ALONE,
    stop: Callable[[], bool] = lambda: False,
) -> Score | None:
    """Score the votes of `[vote] views` augmented views of each test input, under row 0 of `embedding`, ranked by `[vote] rule`.

    `ranks` share the tasks out. If `stop` becomes true on a rank, it skips the rest of its tasks, and the score is of those done; None if
    there are none. Batches shrink if memory, most of which training holds, runs out.
    """
    vote = preset.vote
    blank = (make_grid([[0]]), make_grid([[1]]))
    answers: dict[str, list[Attempts]] = {}
    for number, (task_id, task) in enumerate(tasks.items()):
        if task_id not in solutions or number % ranks.world != ranks.rank:
            continue
        if stop():
            break
        side = answering_side(task, translate=preset.train.translate)
        views = sample_augmentations(task, vote.views, np.random.default_rng([0, number]), colours=preset.train.colours)
        while task_id not in answers:
            try:
                outputs = answer(model, embedding, task, views, [0] * len(views), vote, side=side).outputs
                answers[task_id] = [two_attempts(candidates, blank) for candidates in outputs]
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or vote.batch_size == 1:
                    raise
                vote = replace(vote, batch_size=vote.batch_size // 2)
    done = {task_id: attempts for part in ranks.collect(answers) for task_id, attempts in part.items()}
    return score(done, {task_id: solutions[task_id] for task_id in tasks if task_id in done}) if done else None
