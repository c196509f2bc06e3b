"""Optimizer steps against hand-worked values, and each weight updated by exactly one of them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import build
from hrm_submit.train.optimizers import AdamAtan2, Optimizers
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


def test_adam_atan2_by_hand() -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = AdamAtan2([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    p.grad = torch.tensor([4.0, -0.001, 0.0])
    optimizer.step()
    # At the first step both corrected moments are the gradient's own: atan2(g, |g|) is a quarter of pi, whatever its size.
    turn = math.pi / 4
    assert p.tolist() == pytest.approx([0.95 - 0.1 * turn, -1.9 + 0.1 * turn, 2.85])
    p.grad = torch.tensor([-2.0, -0.001, 1.0])
    optimizer.step()
    m = (0.9 * 0.1 * 4.0 - 0.1 * 2.0) / (1 - 0.9**2)
    v = (0.95 * 0.05 * 16.0 + 0.05 * 4.0) / (1 - 0.95**2)
    assert p[0].item() == pytest.approx((0.95 - 0.1 * turn) * 0.95 - 0.1 * math.atan2(m, math.sqrt(v)))
    third = math.atan2(0.1 / (1 - 0.9**2), math.sqrt(0.05 / (1 - 0.95**2)))
    assert p[2].item() == pytest.approx(2.85 * 0.95 - 0.1 * third)


def test_adam_atan2_moves_as_adam_does_where_steps_are_small() -> None:
    """atan2(m, s) is close to m / s where m is small against s, as it is once gradients are mostly noise."""
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.zeros(50)), nn.Parameter(torch.zeros(50))
    a = AdamAtan2([ours], lr=1e-3, betas=(0.99, 0.999), weight_decay=0.0)
    b = torch.optim.Adam([theirs], lr=1e-3, betas=(0.99, 0.999), eps=0.0)
    for _ in range(400):
        noise = torch.randn(50)
        for p, optimizer in ((ours, a), (theirs, b)):
            p.grad = noise.clone()
            optimizer.step()
    before = ours.detach().clone(), theirs.detach().clone()
    for p, optimizer in ((ours, a), (theirs, b)):
        p.grad = torch.zeros(50)
        optimizer.step()
    step_a, step_b = ours.detach() - before[0], theirs.detach() - before[1]
    torch.testing.assert_close(step_a, step_b, rtol=0.03, atol=1e-8)
    assert (step_a.sign() == step_b.sign()).all()


def test_a_weight_without_gradient_stays_and_is_no_step_older() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = AdamAtan2([a, b], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    a.grad = torch.ones(1)
    optimizer.step()
    assert b.item() == 1.0
    b.grad = torch.full((1,), 3.0)
    optimizer.step()
    assert b.item() == pytest.approx(0.95 - 0.1 * math.pi / 4), "its first step, though the other's second"


def loss_of(model: HRM, rows: torch.Tensor) -> torch.Tensor:
    """A loss that every weight has a part in."""
    tokens = torch.arange(2 * 4).view(2, 4) % 12
    _, logits, q_halt, q_continue = model(model.initial_carry(2, 4), tokens, rows, torch.arange(4))
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return (weights * logits).sum() + q_halt.sum() - 0.5 * q_continue.sum()


def looked_up(embedding: TaskEmbedding) -> LookedUp:
    ids = torch.tensor([0, 1])
    return LookedUp(ids, ids, embedding.lookup(ids, ids))


@pytest.mark.parametrize("name", ["muon", "adamw", "adam_atan2"])
def test_every_weight_belongs_to_exactly_one_optimizer(name: str) -> None:
    model, embedding = build(CFG, n_rows=3, seed=0)
    with torch.no_grad():
        model.q_weight.normal_(generator=torch.Generator().manual_seed(0))
    optimizers = Optimizers(model, embedding, replace(CONFIG, optimizer=name), Ranks())  # type: ignore[arg-type]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    found = looked_up(embedding)
    optimizers.step(loss_of(model, found.rows), 1.0, found)
    for parameter, weight in model.named_parameters():
        moved = (weight.detach() - before[parameter]).abs().max().item()
        assert moved > 0, f"{parameter} is updated by none"
        assert weight.grad is None, f"{parameter} keeps its gradient"
        if name == "adamw" or (name == "muon" and not parameter.split(".")[0].endswith("_level")):
            assert moved <= 0.01 * 1.001, f"{parameter} moved farther than a first step of Adam does"
        if name == "adam_atan2":
            assert moved <= 0.01 * math.pi / 4 * 1.001, f"{parameter} moved farther than a first step of Adam-atan2 does"
    groups = [group for dense in optimizers.state_dict()["dense"] for group in dense["param_groups"]]
    assert sum(len(g["params"]) for g in groups) == len(before)
    assert embedding.rows[:2].abs().unique().tolist() == pytest.approx([0.1]) and not embedding.rows[2].any()


@pytest.mark.parametrize("name", ["muon", "adamw", "adam_atan2"])
def test_the_factor_scales_every_rate(name: str) -> None:
    moves = []
    for factor in (1.0, 0.25, 0.0):
        model, embedding = build(CFG, n_rows=2, seed=0)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizers = Optimizers(model, embedding, replace(CONFIG, optimizer=name), Ranks())  # type: ignore[arg-type]
        found = looked_up(embedding)
        optimizers.step(loss_of(model, found.rows), factor, found)
        moves.append({n: p.detach() - before[n] for n, p in model.named_parameters()} | {"rows": embedding.rows.clone()})
    full, quarter, none = moves
    for n in full:
        torch.testing.assert_close(quarter[n], 0.25 * full[n], rtol=1e-3, atol=1e-6)
        assert not none[n].any()


def test_a_saved_state_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    runs = []
    for stop in (False, True):
        model, embedding = build(CFG, n_rows=2, seed=0)
        optimizers = Optimizers(model, embedding, replace(CONFIG, optimizer="muon"), Ranks())
        for _ in range(2):
            found = looked_up(embedding)
            optimizers.step(loss_of(model, found.rows), 1.0, found)
        if stop:
            saved, optimizers = optimizers.state_dict(), Optimizers(model, embedding, replace(CONFIG, optimizer="muon"), Ranks())
            optimizers.load_state_dict(saved)
        found = looked_up(embedding)
        optimizers.step(loss_of(model, found.rows), 1.0, found)
        runs.append({n: p.detach().clone() for n, p in model.named_parameters()})
    assert all(torch.equal(runs[0][n], runs[1][n]) for n in runs[0])


@pytest.mark.parametrize("name", ["muon", "adamw", "adam_atan2"])
def test_half_precision_skips_what_overflows_and_goes_on(name: str) -> None:
    model, embedding = build(CFG, n_rows=2, seed=0, dtype=torch.float16)
    optimizers = Optimizers(model, embedding, replace(CONFIG, optimizer=name), Ranks())  # type: ignore[arg-type]
    start = model.lm_head.detach().clone()
    moved = []
    for _ in range(8):
        before, found = model.lm_head.detach().clone(), looked_up(embedding)
        optimizers.step(loss_of(model, found.rows), 1.0, found)
        moved.append(not torch.equal(before, model.lm_head))
    assert not moved[0] and torch.isfinite(start).all(), "a first scale of 65536 overflows here: that step is left out"
    assert any(moved[1:]) and all(p.isfinite().all() for p in model.parameters()) and embedding.rows.isfinite().all()
