"""Muon, with all matrices of one shape in one batch.

Bit for bit the update of `torch.optim.Muon` (torch 2.9 and later), in a quarter of its operations: Muon is more than a third of a small
model's training segment, and on a GPU each operation is a launch. Its state has the same form. torch always computes in bfloat16, which
is many times slower than float32 without bfloat16 instructions, so here the caller chooses the format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hrm_submit.train.adam import UncompiledOptimizer

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024)."""
EPS = 1e-7


class Muon(UncompiledOptimizer):
    """Nesterov momentum with nearly orthogonal updates, computed in `dtype`; decoupled weight decay. All parameters are matrices."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            grads, momenta = [p.grad for p in params], [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
            updates = torch._foreach_lerp(grads, momenta, MOMENTUM)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            by_shape: dict[tuple[int, int], list[int]] = {}
            for k, p in enumerate(params):
                by_shape.setdefault((p.shape[0], p.shape[1]), []).append(k)
            for (rows, columns), numbers in by_shape.items():
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                for k, update in zip(numbers, orthogonal([updates[k] for k in numbers], self._dtype), strict=True):
                    params[k].add_(update, alpha=-rate)


def orthogonal(matrices: list[Tensor], dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Bring the singular values of `matrices`, n of one shape, near 1 by `STEPS` Newton-Schulz iterations; returns (n, rows, columns)."""
    a, b, c = COEFFICIENTS
    x = torch.stack(matrices).to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    # Norms one by one: summed over a batch they would differ in the last bit.
    norms = torch.stack([matrix.norm() for matrix in x])
    x = x / norms.clamp(min=EPS)[:, None, None]
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
