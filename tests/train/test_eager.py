"""Optimizers that load no compiler do what torch's do."""

import subprocess
import sys

import torch
from torch import nn

from hrm_submit.train.eager import AdamW

UPDATES = """
import sys
import torch
from torch import nn
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.model.weights import build
from hrm_submit.train.optimizers import Optimizers
from hrm_submit.train.ranks import Ranks

for name in ("adam_atan2", "muon", "adamw"):
    model, embedding = build(ModelConfig(hidden_size=16, num_heads=2, H_layers=1, L_layers=1, puzzle_emb_ndim=16), n_rows=1)
    optimizers = Optimizers(model, embedding, TrainConfig(optimizer=name), Ranks())
    before = [p.clone() for p in model.parameters()]
    optimizers.step(sum((p * p).sum() for p in model.parameters()), 1.0, None)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
    optimizers.load_state_dict(optimizers.state_dict())
    optimizers.reset()
print(sorted(name for name in sys.modules if name in ("torch._dynamo", "torch._inductor", "sympy")))
"""


def test_no_update_loads_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", UPDATES], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_adamw_updates_as_torch_does_to_the_bit() -> None:
    torch.manual_seed(0)
    start = torch.randn(7, 5)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}
    a, b = AdamW([ours], **options), torch.optim.AdamW([theirs], **options)
    for _ in range(20):
        gradient = torch.randn(7, 5)
        for p, optimizer in ((ours, a), (theirs, b)):
            p.grad = gradient.clone()
            optimizer.step()
            optimizer.zero_grad()
            assert p.grad is None
        assert torch.equal(ours, theirs)
    saved = a.state_dict()
    assert saved.keys() == b.state_dict().keys()
    b.load_state_dict(saved)
    assert torch.equal(b.state[theirs]["exp_avg"], a.state[ours]["exp_avg"])
