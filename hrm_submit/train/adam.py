"""AdamW and Adam-atan2, without torch's compiler.

`torch.optim` marks its methods as not to be compiled, and their first call loads the compiler: two seconds of a core in every process.
No optimizer is compiled here, so these call the methods without the mark.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import AdamW as _AdamW
from torch.optim import Optimizer


class UncompiledOptimizer(Optimizer):
    """Base of the optimizers here: loads no compiler."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class AdamW(UncompiledOptimizer, _AdamW):
    """`torch.optim.AdamW`, not differentiable."""

    step = torch.no_grad()(inspect.unwrap(_AdamW.step))


class AdamAtan2(UncompiledOptimizer):
    """Adam with atan2(m, sqrt(v)) for m / (sqrt(v) + eps): bounded, scale free, no epsilon (arXiv:2407.05872). Decoupled weight decay.

    Published HRM trains with it; torch has none.
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p].update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                self.state[p]["step"] += 1
            grads = [cast(Tensor, p.grad) for p in params]
            m, v = [self.state[p]["m"] for p in params], [self.state[p]["v"] for p in params]
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for p, first, second in zip(params, m, v, strict=True):
                step = self.state[p]["step"]
                p.add_(torch.atan2(first / (1 - beta1**step), (second / (1 - beta2**step)).sqrt()), alpha=-group["lr"])
