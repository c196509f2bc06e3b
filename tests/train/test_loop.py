"""The training loop: how many segments a sequence gets, and what it carries from one to the next."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.weights import build
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.model.tiny import TINY

CFG = replace(TINY, halt_max_steps=4, halt_exploration_prob=0.5, embedding="augmented")
CONFIG = TrainConfig(optimizer="adam_atan2", lr=3e-3, batch_size=4, segments=3, warmup_steps=4, translate=False, decay_fraction=0.5)
RNG = np.random.default_rng(1)
PAIRS = [Pair(make_grid(RNG.integers(0, 10, (2, 2))), make_grid(RNG.integers(0, 10, (2, 2)))) for _ in range(3)]
VIEWS = [IDENTITY, Augmentation(1), Augmentation(6)]


def stream(config: TrainConfig = CONFIG, side: int = 3, seed: int = 0) -> Iterator[CanvasBatch]:
    return task_batches(PAIRS, VIEWS, [0, 1, 2], [side] * 3, config, np.random.default_rng(seed))


@pytest.mark.parametrize(("segments", "single", "most"), [(3, 0.0, 3), (16, 0.0, 4), (1, 0.0, 1), (3, 0.5, 3), (3, 1.0, 1)])
def test_sequences_get_as_many_segments_as_configured_and_one_in_the_first_share(segments: int, single: float, most: int) -> None:
    model, embedding = build(CFG, n_rows=3, seed=7)
    trainer = Trainer(
        model, embedding, replace(CONFIG, segments=segments, single_segment_fraction=single), torch.Generator().manual_seed(9)
    )
    reports, steps = list[SegmentReport](), list[int]()
    for report in trainer.run(islice(stream(), 12), lambda: len(reports) / 12):
        reports.append(report)
        steps.append(max((int(c.steps.max()) for c in trainer.carries.values()), default=1))
    assert [(r.segment, r.size, r.cells) for r in reports] == [(k, 4, 9) for k in range(1, 13)]
    assert max(steps) == most and steps[: int(12 * single)] == [1] * int(12 * single)
    assert all(r.loss.isfinite() for r in reports)


def test_each_canvas_size_carries_its_own_states() -> None:
    """Two sizes in turn: a sequence of one never continues from the state of the other."""
    model, embedding = build(replace(CFG, halt_exploration_prob=1.0), n_rows=3, seed=7)
    trainer = Trainer(model, embedding, CONFIG, torch.Generator().manual_seed(0))
    small, large = stream(side=3), stream(side=4, seed=1)
    mixed = (item for two in zip(small, large, strict=True) for item in two)
    for _ in islice(trainer.run(mixed, lambda: 0.0), 6):
        pass
    assert {length: carry.inner.z_H.shape[1] for length, carry in trainer.carries.items()} == {9: 10, 16: 17}
    assert all(1 <= int(c.steps.max()) <= 3 for c in trainer.carries.values())
