"""Segments on memory that stays, as a CUDA graph replays them, against the plain loop; what only a GPU can show is in `make gpu-check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.augment import IDENTITY, Augmentation
from hrm_submit.arc.task import Pair, make_grid
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.weights import build
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer

CFG = ModelConfig(
    hidden_size=16,
    num_heads=2,
    H_layers=1,
    L_layers=1,
    H_cycles=1,
    L_cycles=1,
    puzzle_emb_ndim=16,
    halt_max_steps=1,
    gradient="all",
    embedding="shared",
    conv_size=3,
)
CONFIG = TrainConfig(optimizer="muon", lr=3e-3, batch_size=4, segments=1, warmup_steps=3, translate=False, decay_fraction=0.5)
RNG = np.random.default_rng(1)
PAIRS = [Pair(make_grid(RNG.integers(0, 10, (2, 2))), make_grid(RNG.integers(0, 10, (2, 2)))) for _ in range(3)]


def batches(n: int) -> Iterator[CanvasBatch]:
    """`n` batches, in turn on a canvas of 3 and of 4."""
    views = [IDENTITY, Augmentation(1), Augmentation(6)]
    streams = [task_batches(PAIRS, views, [0, 1, 2], side, CONFIG, np.random.default_rng(side)) for side in (3, 4)]
    return islice(chain.from_iterable(zip(*streams, strict=True)), n)


def trainer(config: TrainConfig = CONFIG, dtype: torch.dtype = torch.float32, cfg: ModelConfig = CFG, *, recorded: bool) -> Trainer:
    model, embedding = build(cfg, n_rows=3, dtype=dtype, seed=5)
    return Trainer(model, embedding, config, torch.Generator().manual_seed(0), recorded=recorded)


def train(trained: Trainer, n: int = 10) -> list[SegmentReport]:
    return list(trained.run(batches(n), lambda: trained.segment / n))


def weights(trained: Trainer) -> list[torch.Tensor]:
    return [t.clone() for m in (trained.model, trained.embedding) for t in m.state_dict().values()]


@pytest.mark.parametrize("change", [{}, {"optimizer": "adamw"}, {"grad_clip": 0.5}])
def test_it_trains_as_the_plain_loop_does(change: dict[str, object]) -> None:
    config = replace(CONFIG, **change)  # type: ignore[arg-type]
    plain, recorded = trainer(config, recorded=False), trainer(config, recorded=True)
    for a, b in zip(train(plain), train(recorded), strict=True):
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-4, atol=1e-5, check_dtype=False)
        assert (a.segment, a.size) == (b.segment, b.size) and b.metrics.count.item() == a.metrics.count.item()
        torch.testing.assert_close(b.metrics.lm_loss, a.metrics.lm_loss, rtol=1e-4, atol=1e-5, check_dtype=False)
    for p, q in zip(weights(plain), weights(recorded), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", [{}, {"halt_exploration_prob": 0.0}, {"continue_target": True}])
@pytest.mark.parametrize("single", [0.0, 0.5])
def test_segments_that_carry_states_on_train_as_the_plain_loop_does(single: float, change: dict[str, Any]) -> None:
    cfg = replace(CFG, **{"halt_max_steps": 3, "halt_exploration_prob": 0.5, "continue_target": False, **change})
    config = replace(CONFIG, segments=3, single_segment_fraction=single)
    plain, recorded = (trainer(config, cfg=cfg, recorded=how) for how in (False, True))
    told = list(zip(train(plain, 20), train(recorded, 20), strict=True))
    for a, b in told:
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-4, atol=1e-5, check_dtype=False)
        assert (b.metrics.count.item(), b.metrics.steps.item()) == (a.metrics.count.item(), a.metrics.steps.item())
    assert 0 < sum(a.metrics.count.item() for a, _ in told[10:]) < 40, "some sequences halted, others were carried on"
    for p, q in zip(weights(plain), weights(recorded), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-3, atol=1e-4)
    for length, carry in plain.carries.items():
        torch.testing.assert_close(recorded.carries[length].inner.z_H, carry.inner.z_H, rtol=1e-3, atol=1e-4)


def test_float16_has_a_fixed_scale_and_an_overflow_moves_nothing() -> None:
    plain, recorded = trainer(dtype=torch.bfloat16, recorded=False), trainer(dtype=torch.float16, recorded=True)
    losses = [torch.stack([r.loss for r in train(t)]) for t in (plain, recorded)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.05)
    before = weights(recorded)
    for p in recorded.model.parameters():
        p.grad = torch.full_like(p, torch.inf)
    recorded.optimizers.update(torch.tensor(0.0), None)
    assert all(torch.equal(p, q) for p, q in zip(before, weights(recorded), strict=True))


def test_reports_are_not_written_over() -> None:
    recorded = trainer(recorded=True)
    told = [(report, report.loss.item(), report.metrics.lm_loss.item()) for report in recorded.run(batches(8), lambda: 0.5)]
    assert [(r.loss.item(), r.metrics.lm_loss.item()) for r, *_ in told] == [(loss, lm) for _, loss, lm in told]
    assert len({loss for _, loss, _ in told}) == 8


def test_a_trainer_that_begins_anew_is_as_a_new_one() -> None:
    recorded = trainer(recorded=True)
    start = [{k: v.clone() for k, v in m.state_dict().items()} for m in (recorded.model, recorded.embedding)]
    first = [r.loss for r in train(recorded)]
    for module, state in zip((recorded.model, recorded.embedding), start, strict=True):
        module.load_state_dict(state)
    recorded.begin_anew(torch.Generator().manual_seed(0))
    assert [r.loss for r in train(recorded)] == first


def test_an_optimizer_that_counts_in_python_is_not_recorded() -> None:
    config = replace(CONFIG, optimizer="adam_atan2")
    results = [[r.loss.item() for r in train(trainer(config, recorded=recorded))] for recorded in (False, True)]
    assert results[0] == results[1], "the plain loop, to the bit"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("segments", [1, 3])
def test_a_graph_trains_as_the_plain_loop_does(segments: int) -> None:
    ends, config = [], replace(CONFIG, segments=segments)
    for recorded in (False, True):
        made = trainer(config, cfg=replace(CFG, halt_max_steps=segments), recorded=False)
        model, embedding = made.model.cuda(), made.embedding.cuda()
        trained = Trainer(model, embedding, config, torch.Generator().manual_seed(0), recorded=recorded)
        views = [IDENTITY, Augmentation(1), Augmentation(6)]
        stream = task_batches(PAIRS, views, [0, 1, 2], 3, config, np.random.default_rng(0), "cuda")
        ends.append([r.loss.item() for r in islice(trained.run(stream, lambda: 0.5), 12)])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-3)
