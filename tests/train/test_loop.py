"""The training loop against a loop written out by hand, and that it learns."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.act import act_step, draw_least, initial_act_carry
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.weights import build
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import Ranks
from tests.model.tiny import TINY

CFG = replace(TINY, halt_max_steps=4, halt_exploration_prob=0.5, embedding="augmented")
CONFIG = TrainConfig(optimizer="adam_atan2", lr=3e-3, batch_size=4, segments=3, warmup_steps=4, translate=False, decay_fraction=0.5)
RNG = np.random.default_rng(1)
PAIRS = [Pair(make_grid(RNG.integers(0, 10, (2, 2))), make_grid(RNG.integers(0, 10, (2, 2)))) for _ in range(3)]
VIEWS = [IDENTITY, Augmentation(1), Augmentation(6)]


def stream(config: TrainConfig = CONFIG, side: int = 3, seed: int = 0) -> Iterator[CanvasBatch]:
    return task_batches(PAIRS, VIEWS, [0, 1, 2], side, config, np.random.default_rng(seed))


def by_hand(segments: int, cfg: ModelConfig, config: TrainConfig) -> tuple[dict[str, torch.Tensor], list[float], list[int]]:
    model, embedding = build(cfg, n_rows=3, seed=7)
    optimizers, generator = Optimizers(model, embedding, config, Ranks()), torch.Generator().manual_seed(9)
    carry, losses, steps = None, [], []
    for k, item in enumerate(islice(stream(config), segments)):
        most = min(config.segments if k >= config.single_segment_fraction * segments else 1, cfg.halt_max_steps)
        carry = carry or initial_act_carry(model, item.batch)
        carry, output = act_step(
            model,
            embedding,
            carry,
            item.batch,
            item.positions,
            training=True,
            max_steps=most,
            least=draw_least(len(item.batch.ids), most, cfg.halt_exploration_prob, generator),
        )
        loss, _ = segment_loss(output, carry, cfg.loss_type)
        loss = loss / config.batch_size
        warm, late = min(1.0, (k + 1) / 4), min(1.0, 2 * (1 - k / segments))
        optimizers.backward(loss)
        optimizers.update(warm * late, output.looked_up)
        losses.append(loss.item())
        steps += carry.steps.tolist()
        carry = None if most == 1 else carry
    weights = {n: p.detach() for n, p in model.named_parameters()} | {"rows": embedding.rows}
    return weights, losses, steps


@pytest.mark.parametrize(("segments", "single", "most"), [(3, 0.0, 3), (16, 0.0, 4), (1, 0.0, 1), (3, 0.5, 3), (3, 1.0, 1)])
def test_as_written_out_by_hand(segments: int, single: float, most: int) -> None:
    config = replace(CONFIG, segments=segments, single_segment_fraction=single, lr_min_ratio=0.0)
    weights, losses, steps = by_hand(10, CFG, config)
    assert max(steps) == most, "the example must reach the last step that a sequence may get"
    model, embedding = build(CFG, n_rows=3, seed=7)
    reports: list[SegmentReport] = []
    generator = torch.Generator().manual_seed(9)
    for report in Trainer(model, embedding, config, generator).run(islice(stream(config), 10), lambda: len(reports) / 10):
        reports.append(report)
    assert [r.segment for r in reports] == list(range(1, 11))
    assert [r.loss.item() for r in reports] == pytest.approx(losses, rel=1e-6)
    assert all((r.size, r.cells) == (4, 9) for r in reports)
    for name, weight in (*model.named_parameters(), ("rows", embedding.rows)):
        torch.testing.assert_close(weight.detach(), weights[name], rtol=1e-6, atol=1e-7)


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
