"""The optimizers, and which of them updates which weights: matrices, all other weights, the task embedding's looked-up rows."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import AdamW as _AdamW
from torch.optim import Optimizer

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.train.ranks import Ranks

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Muon's quintic iteration (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024)."""
EPS = 1e-7
LOSS_SCALE = 2.0**10
"""Of losses in float16, whose gradients underflow otherwise."""


class UncompiledOptimizer(Optimizer):
    """Base of the optimizers here. `torch.optim` marks its methods as not to be compiled, and their first call loads the compiler, two
    seconds of a core in every process; these are called without the mark."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def _with_moments(self, group: dict[str, Any], *names: str) -> list[list[Tensor]]:
        """List the parameters that have a gradient, their gradients, and their moments of each name, which begin at zero."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p].update({name: torch.zeros_like(p) for name in names})
        return [params, [p.grad for p in params], *([self.state[p][name] for p in params] for name in names)]


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
            params, grads, m, v = self._with_moments(group, "m", "v")
            if not params:
                continue
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for p, first, second in zip(params, m, v, strict=True):
                step = self.state[p]["step"] = self.state[p].get("step", 0) + 1
                p.add_(torch.atan2(first / (1 - beta1**step), (second / (1 - beta2**step)).sqrt()), alpha=-group["lr"])


class Muon(UncompiledOptimizer):
    """Nesterov momentum with nearly orthogonal updates of matrices, computed in `dtype`; decoupled weight decay.

    In bfloat16, bit for bit `torch.optim.Muon` (torch 2.9 and later), but with all matrices of one shape in one batch: a quarter of the
    operations.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params, grads, momenta = self._with_moments(group, "momentum_buffer")
            if not params:
                continue
            torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
            updates = torch._foreach_lerp(grads, momenta, MOMENTUM)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            by_shape: dict[torch.Size, list[int]] = {}
            for k, p in enumerate(params):
                by_shape.setdefault(p.shape, []).append(k)
            stacks = [torch.stack([updates[k] for k in numbers]) for numbers in by_shape.values()]
            for numbers, found in zip(by_shape.values(), orthogonal(stacks, self._dtype), strict=True):
                rate = group["lr"] * math.sqrt(max(1, found.shape[1] / found.shape[2]))
                torch._foreach_add_([params[k] for k in numbers], found.unbind(), alpha=-rate)


def orthogonal(stacks: Sequence[Tensor], dtype: torch.dtype = torch.bfloat16) -> Iterator[Tensor]:
    """Bring the singular values of each matrix of `stacks` (n, rows, columns) near 1 by `STEPS` Newton-Schulz iterations in `dtype`; yields
    the stacks in float32."""
    a, b, c = COEFFICIENTS
    wide = [stack.mT if stack.shape[1] > stack.shape[2] else stack for stack in stacks]
    if dtype != torch.float16:  # whose range is too small for what has no norm of 1 yet
        wide = [x.to(dtype) for x in wide]
    # Norms one by one: summed over a batch they would differ in the last bit.
    norms = torch.stack(torch._foreach_norm([matrix for x in wide for matrix in x])).clamp(min=EPS)
    for stack, x, norm in zip(stacks, wide, norms.split([len(x) for x in wide]), strict=True):
        x = (x / norm[:, None, None]).to(dtype)
        for _ in range(STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        yield (x.mT if stack.shape[1] > stack.shape[2] else x).float()


@torch.no_grad()
def sign_sgd(embedding: TaskEmbedding, looked_up: LookedUp, lr: float, weight_decay: float, ranks: Ranks) -> None:
    """Set each row that any of `ranks` looked up to row (1 - lr weight_decay) - lr sign(summed gradient), after a backward pass: sign SGD
    with decoupled weight decay (published HRM)."""
    assert looked_up.rows.grad is not None
    grad = ranks.gather(looked_up.rows.grad)
    _update(embedding.rows, ranks.gather(looked_up.ids), grad, lr, weight_decay)
    if embedding.dihedral_rows is not None:
        _update(embedding.dihedral_rows, ranks.gather(looked_up.dihedral), grad, lr, weight_decay)


def _update(table: Tensor, ids: Tensor, grad: Tensor, lr: float, weight_decay: float) -> None:
    same = ids[:, None] == ids[None, :]  # neither sorts nor waits for the accelerator
    # Every copy of an id takes the sum made for its first: rounding could otherwise give copies different signs.
    first = same.int().argmax(dim=1)
    summed = (same.to(grad.dtype) @ grad)[first]
    rows = table.index_select(0, ids)
    table[ids] = rows.mul_(1.0 - lr * weight_decay).sub_(summed.sign() * lr)


class Optimizers:
    """The optimizers of one model and its task embedding: `backward`, then `update`."""

    def __init__(self, model: HRM, embedding: TaskEmbedding, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self._embedding, self._ranks = config, embedding, ranks
        blocks = {id(p) for level in model.levels for p in level.parameters() if p.ndim == 2}
        matrices = [p for p in model.parameters() if id(p) in blocks]
        rest = [p for p in model.parameters() if id(p) not in blocks]
        self._params = [*matrices, *rest]
        lr, betas, decay = config.lr, (config.beta1, config.beta2), config.weight_decay
        self._dense: list[tuple[UncompiledOptimizer, float]] = []
        if config.optimizer == "muon":
            # What a device computes the model in it has instructions for.
            self._dense.append((Muon(matrices, config.muon_lr, decay, model.dtype), config.muon_lr))
        others = rest if config.optimizer == "muon" else self._params
        if config.optimizer == "adam_atan2":
            self._dense.append((AdamAtan2(others, lr, betas, decay), lr))
        else:
            self._dense.append((AdamW(others, lr, betas, weight_decay=decay, fused=True), lr))
        self._scale = LOSS_SCALE if model.dtype == torch.float16 else 1.0

    def backward(self, loss: Tensor) -> None:
        """Back-propagate `loss`, a scalar; nothing else, so that it may be abandoned and repeated."""
        (loss if self._scale == 1.0 else loss * self._scale).backward()

    def update(self, factor: float, looked_up: LookedUp | None) -> None:
        """Join the gradients of all ranks, update all weights at `factor` times the configured rates, clear the gradients."""
        updated = [p for p in self._params if p.grad is not None]
        grads = [cast(Tensor, p.grad) for p in updated]
        self._ranks.average(grads)
        if self._scale != 1.0:
            # All in one tensor, since nan_to_num has no form for lists. What overflowed becomes 0.
            flat = torch.cat([g.reshape(-1) for g in grads]).div_(self._scale).nan_to_num_(0.0, 0.0, 0.0)
            for p, part in zip(updated, flat.split([g.numel() for g in grads]), strict=True):
                p.grad = part.view_as(p)
        for optimizer, rate in self._dense:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if looked_up is not None and looked_up.rows.grad is not None:
            if self._scale != 1.0:
                # Only the sign counts, so a scaled gradient needs no unscaling; an overflowed one has no sign to trust.
                looked_up.rows.grad.nan_to_num_(0.0, 0.0, 0.0)
            lr = self.config.embedding_lr * factor
            sign_sgd(self._embedding, looked_up, lr, self.config.embedding_weight_decay, self._ranks)

    def state_dict(self) -> dict[str, Any]:
        """Moments, for a run that resumes later."""
        return {"dense": [optimizer.state_dict() for optimizer, _ in self._dense]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned for the same model and configuration."""
        for (optimizer, _), saved in zip(self._dense, state["dense"], strict=True):
            optimizer.load_state_dict(saved)
