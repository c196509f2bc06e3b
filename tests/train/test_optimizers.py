"""Each weight is updated by exactly one optimizer, at the rate of its kind."""

import math
from dataclasses import replace

import pytest
import torch

from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import build
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import Ranks

CFG = ModelConfig(
    hidden_size=16,
    num_heads=2,
    H_layers=1,
    L_layers=1,
    H_cycles=1,
    L_cycles=1,
    puzzle_emb_ndim=16,
    pos_encodings="learned",
    embedding="shared",
)
CONFIG = TrainConfig(lr=0.01, muon_lr=0.02, weight_decay=0.0, embedding_lr=0.1, embedding_weight_decay=0.0)

every_optimizer = pytest.mark.parametrize("name", ["muon", "adamw", "adam_atan2"])


def made(name: str, n_rows: int = 2, dtype: torch.dtype = torch.float32) -> tuple[HRM, TaskEmbedding, Optimizers]:
    model, embedding = build(CFG, n_rows=n_rows, seed=0, dtype=dtype)
    return model, embedding, Optimizers(model, embedding, replace(CONFIG, optimizer=name), Ranks())  # type: ignore[arg-type]


def step(model: HRM, embedding: TaskEmbedding, optimizers: Optimizers, factor: float = 1.0) -> dict[str, torch.Tensor]:
    """Update by a loss that every weight and rows 0 and 1 have a part in; returns how far each weight moved."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ids, tokens = torch.tensor([0, 1]), torch.arange(2 * 4).view(2, 4) % 12
    found = LookedUp(ids, ids, embedding.lookup(ids, ids))
    _, logits, q_halt, q_continue = model(model.initial_carry(2, 4), tokens, found.rows, torch.arange(4))
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    optimizers.backward((weights * logits).sum() + q_halt.sum() - 0.5 * q_continue.sum())
    optimizers.update(factor, found)
    return {n: p.detach() - before[n] for n, p in model.named_parameters()}


@every_optimizer
def test_every_weight_belongs_to_exactly_one_optimizer(name: str) -> None:
    model, embedding, optimizers = made(name, n_rows=3)
    with torch.no_grad():
        model.q_weight.normal_(generator=torch.Generator().manual_seed(0))
    for parameter, moved in step(model, embedding, optimizers).items():
        distance = moved.abs().max().item()
        assert distance > 0, f"{parameter} is updated by none"
        if name == "adamw" or (name == "muon" and not parameter.split(".")[0].endswith("_level")):
            assert distance <= 0.01 * 1.001, f"{parameter} moved farther than a first step of Adam does"
        if name == "adam_atan2":
            assert distance <= 0.01 * math.pi / 4 * 1.001, f"{parameter} moved farther than a first step of Adam-atan2 does"
    assert all(p.grad is None for p in model.parameters())
    groups = [group for dense in optimizers.state_dict()["dense"] for group in dense["param_groups"]]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert embedding.rows[:2].abs().unique().tolist() == pytest.approx([0.1]) and not embedding.rows[2].any()


@every_optimizer
def test_the_factor_scales_every_rate(name: str) -> None:
    moves = []
    for factor in (1.0, 0.25, 0.0):
        model, embedding, optimizers = made(name)
        moves.append(step(model, embedding, optimizers, factor) | {"rows": embedding.rows.clone()})
    full, quarter, none = moves
    for n in full:
        torch.testing.assert_close(quarter[n], 0.25 * full[n], rtol=1e-3, atol=1e-6)
        assert not none[n].any()


def test_a_saved_state_resumes_where_it_was() -> None:
    runs = []
    for stop in (False, True):
        model, embedding, optimizers = made("muon")
        step(model, embedding, optimizers)
        if stop:
            saved, optimizers = optimizers.state_dict(), Optimizers(model, embedding, replace(CONFIG, optimizer="muon"), Ranks())
            optimizers.load_state_dict(saved)
        runs.append(step(model, embedding, optimizers))
    assert all(torch.equal(runs[0][n], runs[1][n]) for n in runs[0])


@every_optimizer
def test_half_precision_skips_what_overflows_and_goes_on(name: str) -> None:
    model, embedding, optimizers = made(name, dtype=torch.float16)
    moved = [bool(step(model, embedding, optimizers)["lm_head"].any()) for _ in range(8)]
    assert not moved[0], "a first scale of 65536 overflows here: that step is left out"
    assert any(moved[1:]) and all(p.isfinite().all() for p in model.parameters()) and embedding.rows.isfinite().all()
