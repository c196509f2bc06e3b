"""Every fast path against the plain one: the same loss and gradients, and with trained weights the same decoded grids.

Plain is float32, torch's own attention, uncompiled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.canvas import position_ids
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import ModelConfig
from hrm_submit.corpora.sources import load
from hrm_submit.model import layers
from hrm_submit.model.act import ActOutput, act_step, initial_act_carry
from hrm_submit.model.compiled import compile_blocks, engine_of
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.weights import PLAIN, Checkpoint, build, load_checkpoint, snapshot
from hrm_submit.predict.answer import ViewRequest, score_views
from hrm_submit.predict.vote import vote
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import CanvasBatch, Trainer

ROUNDING = 2e-4
"""Largest relative difference of a loss or (in norm) of a gradient between two orders of the same float32 sums."""
BFLOAT16_LOSS, BFLOAT16_GRADIENT = 0.005, 0.2
"""The same between float32 and bfloat16, whose numbers have 8 bits: measured at most 0.001 and 0.11."""
BFLOAT16_GRIDS = 0.9
"""Least share of views that decode to the same grid in both; their votes must agree."""

PRESET = load_preset("nano")
PUBLISHED = ModelConfig(hidden_size=32, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=32, halt_max_steps=4)
SIDE = 6


@dataclass(frozen=True)
class Segment:
    """Of a first segment: its loss, every gradient, what the model put out."""

    loss: Tensor
    gradients: dict[str, Tensor]
    output: ActOutput

    def differs(self, other: Segment) -> tuple[float, float]:
        """Relative difference of the losses, and the largest of the gradients'."""
        assert self.gradients.keys() == other.gradients.keys()
        gradients = [float((g - other.gradients[n]).norm() / g.norm()) for n, g in self.gradients.items() if g.norm() > 0]
        assert len(gradients) > 10
        return abs(float(self.loss - other.loss)) / float(self.loss), max(gradients)


@pytest.fixture(scope="module")
def task() -> Task:
    """A small task of ARC-AGI-1 evaluation, whose demonstrations are soon fit."""
    found = load("arc-agi-1-evaluation", solutions=True)[0]["00576224"]
    assert canvas_side(found) == SIDE
    return found


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    """The package's own checkpoint."""
    return load_checkpoint(Path(str(resources.files("hrm_submit") / "checkpoints" / "nano.safetensors")))


@pytest.fixture(scope="module")
def trained(task: Task, shipped: Checkpoint) -> Checkpoint:
    """The same after test-time training on `task`, until it gives most demonstrations back right."""
    model, embedding = build(shipped, on(attention="math"))
    trainer = Trainer(model, embedding, PRESET.ttt, torch.Generator())
    reports = list(islice(trainer.run(batches(task), lambda: trainer.segment / 80), 80))
    exact = sum(r.metrics.exact_accuracy.item() for r in reports[-10:])
    assert exact > 0.5 * sum(r.metrics.count.item() for r in reports[-10:]), "decoded grids of confident weights are compared"
    return snapshot(model, embedding, shipped.meta)


def on(**options: object) -> Runtime:
    return replace(PLAIN, **options)  # type: ignore[arg-type]


def batches(task: Task, side: int = SIDE):
    rng = np.random.default_rng(0)
    views = sample_augmentations(task, 50, rng, colours="permute_input")
    return task_batches(task.train, views, [0] * len(views), [side] * len(task.train), PRESET.ttt, rng)


def segment(source: Checkpoint | ModelConfig, item: CanvasBatch, max_steps: int = 1, compiled: bool = False, **options: object) -> Segment:
    model, embedding = build(source, on(**options))
    if compiled:
        compile_blocks(model)
    carry = initial_act_carry(model, item.batch)
    carry, output = act_step(model, embedding, carry, item.batch, item.positions, training=True, max_steps=max_steps)
    loss, _ = segment_loss(output, carry, model.cfg.loss_type, torch.float32)
    loss.backward()  # type: ignore[no-untyped-call]
    assert (engine_of(model) == "compile") == compiled, "the compiler has not failed"
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert output.looked_up is not None and output.looked_up.rows.grad is not None
    return Segment(loss.detach(), found | {"task rows": output.looked_up.rows.grad}, output)


def decoded(source: Checkpoint, task: Task, **options: object) -> tuple[list[object], list[object]]:
    """What each of 32 views of each input, tests and demonstrations, decodes to, and the first answers of their votes."""
    model, embedding = build(source, on(**options))
    views = sample_augmentations(task, 32, np.random.default_rng(1), colours="permute_input")
    inputs = [*task.test, *(pair.input for pair in task.train)]
    parts = [score_views(model, embedding, [ViewRequest(g, v, 0) for v in views], SIDE, PRESET.vote).predictions() for g in inputs]
    grids: list[object] = [(p.grid.shape, p.grid.tobytes()) if p else None for part in parts for p in part]
    return grids, [vote(p for p in part if p)[0].key for part in parts]


@pytest.mark.parametrize("attention", ["sdpa", "math"])
def test_bfloat16(task: Task, trained: Checkpoint, shipped: Checkpoint, attention: str) -> None:
    item = next(batches(task))
    for source in (trained, shipped):
        plain, fast = segment(source, item), segment(source, item, dtype="bfloat16", attention=attention)
        loss, gradient = plain.differs(fast)
        assert loss < BFLOAT16_LOSS and gradient < BFLOAT16_GRADIENT
    plain_grids, plain_votes = decoded(trained, task)
    grids, votes = decoded(trained, task, dtype="bfloat16", attention=attention)
    same = [a == b for a, b in zip(plain_grids, grids, strict=True)]
    assert np.mean(same) >= BFLOAT16_GRIDS and votes == plain_votes


def test_compiled_blocks(task: Task, trained: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    # The back end that writes C++ takes a minute; this one captures, differentiates and guards as that does.
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **options: compiler(*args, **{**options, "backend": "aot_eager"}))
    item = next(batches(task))
    loss, gradient = segment(trained, item, attention="math").differs(segment(trained, item, attention="math", compiled=True))
    assert loss < ROUNDING and gradient < ROUNDING


@pytest.mark.parametrize("encoding", ["rope", "rope_2d"])
def test_a_cropped_canvas_is_the_full_one_with_what_was_cut_off_masked(
    task: Task, monkeypatch: pytest.MonkeyPatch, encoding: Literal["rope", "rope_2d"]
) -> None:
    config = replace(PUBLISHED, pos_encodings=encoding)
    # One more than the grids, or the border that marks their end would be cut off too.
    crop, full = next(batches(task, SIDE + 1)), next(batches(task, 12))
    kept = torch.isin(torch.from_numpy(position_ids(12)), crop.positions)
    assert torch.equal(full.batch.inputs[:, kept], crop.batch.inputs), "the same examples"
    cropped = segment(config, crop, attention="math")

    def masked(q: Tensor, k: Tensor, v: Tensor, kind: str) -> Tensor:
        seen = torch.cat((torch.ones(1, dtype=torch.bool), kept))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen.expand(q.shape[-2], -1))

    monkeypatch.setattr(layers, "attend", masked)
    whole = segment(config, full)
    loss, gradient = cropped.differs(whole)
    assert loss < ROUNDING and gradient < ROUNDING
    torch.testing.assert_close(whole.output.logits[:, kept], cropped.output.logits, rtol=ROUNDING, atol=1e-4)
    torch.testing.assert_close(whole.output.q_halt, cropped.output.q_halt)
