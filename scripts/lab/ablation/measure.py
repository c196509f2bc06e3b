"""How well weights answer without being changed: votes over views, each under the row that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrm_submit.arc.augment import Augmentation, sample_augmentations
from hrm_submit.arc.task import Grid, make_grid, same_grid
from hrm_submit.config.schema import Preset
from hrm_submit.corpora.scoring import task_results
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.answer import answer
from hrm_submit.predict.infer import answer_step
from hrm_submit.predict.raw import RAW, save_raw
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.train.mixture import Mixture
from lab.ablation.losses import mean_test_loss
from lab.ablation.tasks import Material

BLANKS = (make_grid([[0]]), make_grid([[1]]))
"""Stand for an attempt that no view gave."""


@dataclass(frozen=True)
class Marks:
    """Of one task: for each test output `1` (first attempt right), `2` (second) or `0`, and the share of single views that were right."""

    outputs: str
    views: float
    loss: float | None = None
    """`losses.mean_test_loss`, where raw predictions are kept."""


def mark(candidates: Sequence[Sequence[Candidate]], views: int, outputs: Sequence[Grid]) -> Marks:
    """Marks of the ranked `candidates` of each test output, of `views` views each."""
    results = task_results([two_attempts(c, BLANKS) for c in candidates], outputs)
    right = sum(c.votes for found, wanted in zip(candidates, outputs, strict=True) for c in found if same_grid(c.grid, wanted))
    return Marks("".join("1" if r.first else "2" if r.second else "0" for r in results), right / max(1, views * len(outputs)))


def measure(
    model: HRM,
    embedding: TaskEmbedding,
    fresh: TaskEmbedding,
    mixture: Mixture,
    material: Material,
    preset: Preset,
    seed: int,
    folder: Path,
) -> dict[str, Marks]:
    """Marks of every measured task by `[vote] views` views, dihedral transforms in turn.

    A task that was trained on is shown in views that training used, each under its own row of `embedding`; another one in views drawn
    from `seed`, under the only row of `fresh`. With `[vote] save_raw` the raw predictions, of all `act_steps`, go into `folder`.
    """
    found = {}
    step, keep = answer_step(model.cfg, preset.vote), preset.vote.save_raw
    numbers = {source.id: n for n, source in enumerate(mixture.sources)}
    for number, (task_id, task) in enumerate(material.measured.tasks.items()):
        trained = numbers.get(material.trained_as.get(task_id, ""))
        if trained is None:
            train, rng = preset.train, np.random.default_rng([seed, number])
            views = sample_augmentations(task, preset.vote.views, rng, colours=train.colours, dihedral=train.dihedral)
            table, rows = fresh, [0] * len(views)
        else:
            views, table = trained_views(mixture, trained), embedding
            rows = _rows(mixture, trained, len(views))
        vote = answer(model, table, task, views, rows, preset.vote, every_step=keep)
        outputs, loss = material.measured.solutions[task_id], None
        if keep:
            raw = vote.raw(task_id, 0, step)
            save_raw(folder / RAW, raw)
            loss = mean_test_loss(raw, task, outputs)
        found[task_id] = replace(mark(vote.outputs, vote.views, outputs), loss=loss)
    return found


def trained_views(mixture: Mixture, number: int) -> list[Augmentation]:
    """The augmentations of source `number` that training drew from, in the order of their rows."""
    turns, tables = mixture.views_of(number)
    return [Augmentation(int(turn), tuple(table.tolist())) for turn, table in zip(turns, tables, strict=True)]


def _rows(mixture: Mixture, number: int, views: int) -> list[int]:
    first = mixture.row_of(mixture.sources[number].id)
    assert first is not None
    return [first] * views if mixture.row_ids else list(range(first, first + views))
