"""AdamW and Adam-atan2 against torch's own and hand-worked values; and no optimizer loads the compiler."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from hrm_submit.train.adam import AdamAtan2, AdamW

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


def step(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, gradient: torch.Tensor) -> None:
    parameter.grad = gradient.clone()
    optimizer.step()


def test_no_update_loads_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", UPDATES], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_adamw_updates_as_torch_does_to_the_bit() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(7, 5)) for _ in range(2))
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}
    a, b = AdamW([ours], **options), torch.optim.AdamW([theirs], **options)
    for _ in range(20):
        gradient = torch.randn(7, 5)
        step(a, ours, gradient)
        step(b, theirs, gradient)
    assert torch.equal(ours, theirs) and a.state_dict().keys() == b.state_dict().keys()


def test_adam_atan2_by_hand() -> None:
    p = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = AdamAtan2([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    step(optimizer, p, torch.tensor([4.0, -0.001, 0.0]))
    # At the first step both corrected moments are the gradient's own: atan2(g, |g|) is a quarter of pi, whatever its size.
    turn = math.pi / 4
    assert p.tolist() == pytest.approx([0.95 - 0.1 * turn, -1.9 + 0.1 * turn, 2.85])
    step(optimizer, p, torch.tensor([-2.0, -0.001, 1.0]))
    m = (0.9 * 0.1 * 4.0 - 0.1 * 2.0) / (1 - 0.9**2)
    v = (0.95 * 0.05 * 16.0 + 0.05 * 4.0) / (1 - 0.95**2)
    assert p[0].item() == pytest.approx((0.95 - 0.1 * turn) * 0.95 - 0.1 * math.atan2(m, math.sqrt(v)))
    third = math.atan2(0.1 / (1 - 0.9**2), math.sqrt(0.05 / (1 - 0.95**2)))
    assert p[2].item() == pytest.approx(2.85 * 0.95 - 0.1 * third)


def test_a_weight_without_gradient_stays_and_is_no_step_older() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = AdamAtan2([a, b], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    step(optimizer, a, torch.ones(1))
    assert b.item() == 1.0
    step(optimizer, b, torch.full((1,), 3.0))
    assert b.item() == pytest.approx(0.95 - 0.1 * math.pi / 4), "its first step, though the other's second"
