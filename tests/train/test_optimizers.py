"""Optimizers against torch's own, hand-worked values and dense updates; each weight is updated by exactly one of them."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import PLAIN, build
from hrm_submit.train import optimizers as optimizers_module
from hrm_submit.train.optimizers import AdamAtan2, Optimizers, orthogonal, sign_sgd
from hrm_submit.train.ranks import Ranks
from tests.model.tiny import TINY

UPDATES = """
import sys
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.weights import build
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import Ranks

for name in ("adam_atan2", "muon", "adamw"):
    model, embedding = build(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16), n_rows=1)
    optimizers = Optimizers(model, embedding, TrainConfig(optimizer=name), Ranks())
    optimizers.backward(sum((p * p).sum() for p in model.parameters()))
    optimizers.update(1.0, None)
    optimizers.load_state_dict(optimizers.state_dict())
print(sorted(name for name in sys.modules if name in ("torch._dynamo", "torch._inductor", "sympy")))
"""


def test_no_update_loads_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", UPDATES], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def step(optimizer: torch.optim.Optimizer, gradients: Mapping[nn.Parameter, torch.Tensor | None]) -> None:
    for parameter, gradient in gradients.items():
        parameter.grad = None if gradient is None else gradient.clone()
    optimizer.step()


def muon(module: Any) -> Any:
    if not hasattr(module, "Muon"):
        pytest.skip("this torch has no Muon to compare with")
    return partial(module.Muon, lr=5e-3, weight_decay=0.1)


@pytest.mark.parametrize(
    "named", [muon, lambda module: partial(module.AdamW, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, fused=True)], ids=["muon", "adamw"]
)
def test_it_updates_as_torch_does_to_the_bit(named: Callable[[Any], Any]) -> None:
    shapes = [(24, 8), (8, 8), (8, 16), (24, 8), (8, 16), (3, 5), (24, 8)]
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    known = named(torch.optim)(theirs)
    mine = named(optimizers_module)(ours)
    for number in range(4):
        gradients = [None if (number, k) == (1, 3) else torch.randn(p.shape, generator=generator) for k, p in enumerate(ours)]
        step(mine, dict(zip(ours, gradients, strict=True)))
        step(known, dict(zip(theirs, gradients, strict=True)))
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q) and mine.state[p].keys() == known.state[q].keys()
        assert all(torch.equal(mine.state[p][name], known.state[q][name]) for name in mine.state[p])


def test_adam_atan2_by_hand() -> None:
    p, late = nn.Parameter(torch.tensor([1.0, -2.0, 3.0])), nn.Parameter(torch.ones(1))
    optimizer = AdamAtan2([p, late], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    step(optimizer, {p: torch.tensor([4.0, -0.001, 0.0])})
    # At the first step both corrected moments are the gradient's own: atan2(g, |g|) is a quarter of pi, whatever its size.
    turn = math.pi / 4
    assert p.tolist() == pytest.approx([0.95 - 0.1 * turn, -1.9 + 0.1 * turn, 2.85])
    assert late.item() == 1.0, "a weight without a gradient stays"
    step(optimizer, {p: torch.tensor([-2.0, -0.001, 1.0]), late: torch.full((1,), 3.0)})
    m = (0.9 * 0.1 * 4.0 - 0.1 * 2.0) / (1 - 0.9**2)
    v = (0.95 * 0.05 * 16.0 + 0.05 * 4.0) / (1 - 0.95**2)
    assert p[0].item() == pytest.approx((0.95 - 0.1 * turn) * 0.95 - 0.1 * math.atan2(m, math.sqrt(v)))
    third = math.atan2(0.1 / (1 - 0.9**2), math.sqrt(0.05 / (1 - 0.95**2)))
    assert p[2].item() == pytest.approx(2.85 * 0.95 - 0.1 * third)
    assert late.item() == pytest.approx(0.95 - 0.1 * turn), "its first step, though the other's second"


def test_singular_values_come_near_1_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(3, 12, 30, generator=generator)
    (exact,) = orthogonal([matrices], torch.float32)
    for dtype, off in ((torch.bfloat16, 0.05), (torch.float16, 0.005)):
        for size in (1e-6, 1.0, 1e6):  # of gradients, which float16 could not hold
            torch.testing.assert_close(next(orthogonal([size * matrices], dtype)), exact, rtol=0, atol=off)
    for matrix, found in zip(matrices, exact, strict=True):
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.5 and values.max() < 1.5
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(found.flatten(), (u @ vh).flatten(), dim=0) > 0.95
    assert not next(orthogonal([torch.zeros(1, 3, 4)])).any()


SPARSE = ModelConfig(hidden_size=4, num_heads=1, puzzle_emb_ndim=3)


def looked_up(embedding: TaskEmbedding, ids: list[int], dihedral: list[int], grad: list[list[float]]) -> LookedUp:
    rows = embedding.lookup(torch.tensor(ids), torch.tensor(dihedral))
    rows.grad = torch.tensor(grad)
    return LookedUp(torch.tensor(ids), torch.tensor(dihedral), rows)


def test_both_tables_of_the_shared_scheme_by_hand() -> None:
    embedding = TaskEmbedding(replace(SPARSE, embedding="shared"), 4)
    assert embedding.dihedral_rows is not None
    embedding.reset_rows(torch.arange(4), torch.tensor([1.0, 1, 1]))
    # task 2 twice: gradients sum to (-2, 0, 1); transform 0 twice: to (1.1, -3, -8.5)
    batch = looked_up(embedding, [2, 0, 2], [0, 0, 4], [[1.0, -3, 0.5], [0.1, 0, -9], [-3.0, 3, 0.5]])
    sign_sgd(embedding, batch, 0.1, 0.5, Ranks())
    kept = 1 - 0.1 * 0.5
    expected = [[kept - 0.1, kept, kept + 0.1], [1, 1, 1], [kept + 0.1, kept, kept - 0.1], [1, 1, 1]]
    torch.testing.assert_close(embedding.rows, torch.tensor(expected))
    turned = torch.zeros(8, 3)
    turned[0], turned[4] = torch.tensor([-0.1, 0.1, 0.1]), torch.tensor([0.1, -0.1, -0.1])
    torch.testing.assert_close(embedding.dihedral_rows, turned)


@settings(max_examples=30)
@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_it_is_a_dense_update_of_the_touched_rows(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embedding, start = TaskEmbedding(SPARSE, 5), torch.randn(5, 3, generator=generator)
    embedding.rows.copy_(start)
    grad = torch.randint(-3, 4, (len(ids), 3), generator=generator).float()
    sign_sgd(embedding, looked_up(embedding, ids, [0] * len(ids), grad.tolist()), 0.5, 0.1, Ranks())
    expected = start.clone()
    for row in set(ids):
        total = sum(grad[i] for i, other in enumerate(ids) if other == row)
        expected[row] = start[row] * 0.95 - 0.5 * torch.sign(torch.as_tensor(total))
    torch.testing.assert_close(embedding.rows, expected)


CFG = replace(TINY, pos_encodings="learned", embedding="shared")
CONFIG = TrainConfig(lr=0.01, muon_lr=0.02, weight_decay=0.0, embedding_lr=0.1, embedding_weight_decay=0.0)

every_optimizer = pytest.mark.parametrize("name", ["muon", "adamw", "adam_atan2"])


def made(name: str, n_rows: int = 2, dtype: str = "float32") -> tuple[HRM, TaskEmbedding, Optimizers]:
    model, embedding = build(CFG, replace(PLAIN, dtype=dtype), n_rows=n_rows)
    return model, embedding, Optimizers(model, embedding, replace(CONFIG, optimizer=name), Ranks())  # type: ignore[arg-type]


def trained(model: HRM, embedding: TaskEmbedding, optimizers: Optimizers, factor: float = 1.0) -> dict[str, torch.Tensor]:
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
def test_every_weight_belongs_to_exactly_one_optimizer_whose_rate_the_factor_scales(name: str) -> None:
    moves = []
    for factor in (0.0, 0.25, 1.0):
        model, embedding, optimizers = made(name, n_rows=3)
        with torch.no_grad():
            model.q_weight.normal_(generator=torch.Generator().manual_seed(0))
        moves.append(trained(model, embedding, optimizers, factor) | {"rows": embedding.rows.clone()})
    none, quarter, full = moves
    for n in full:
        torch.testing.assert_close(quarter[n], 0.25 * full[n], rtol=1e-3, atol=1e-6)
        assert not none[n].any()
    assert full["rows"][:2].abs().unique().tolist() == pytest.approx([0.1]) and not full.pop("rows")[2].any()
    for parameter, moved in full.items():
        distance = moved.abs().max().item()
        assert distance > 0, f"{parameter} is updated by none"
        if name == "adamw" or (name == "muon" and not parameter.split(".")[0].endswith("_level")):
            assert distance <= 0.01 * 1.001, f"{parameter} moved farther than a first step of Adam does"
        if name == "adam_atan2":
            assert distance <= 0.01 * math.pi / 4 * 1.001, f"{parameter} moved farther than a first step of Adam-atan2 does"
    assert all(p.grad is None for p in model.parameters())
    groups = [group for dense in optimizers.state_dict()["dense"] for group in dense["param_groups"]]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


@every_optimizer
def test_half_precision_learns_from_the_first_step_and_skips_what_overflows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = {}
    for dtype in ("float32", "float16"):
        model, embedding, optimizers = made(name, dtype=dtype)
        moves[dtype] = torch.cat([moved.flatten() for moved in trained(model, embedding, optimizers).values()])
    assert torch.nn.functional.cosine_similarity(moves["float32"], moves["float16"], dim=0) > 0.95
    monkeypatch.setattr(optimizers_module, "LOSS_SCALE", 2.0**40)  # every gradient of a matrix overflows
    model, embedding, optimizers = made(name, dtype="float16")
    moved = trained(model, embedding, optimizers)
    assert not moved["lm_head"].any() and all(p.isfinite().all() for p in model.parameters()) and embedding.rows.isfinite().all()
