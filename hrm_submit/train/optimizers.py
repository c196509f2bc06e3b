"""Who updates what: matrices of the blocks, everything else, and the task embedding's looked-up rows.

AdamW is torch's own. Adam-atan2 (arXiv:2407.05872), which published HRM trains with and torch lacks, is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.train.eager import AdamW, EagerOptimizer
from hrm_submit.train.muon import Muon
from hrm_submit.train.ranks import Ranks


class AdamAtan2(EagerOptimizer):
    """Adam with atan2(m, sqrt(v)) for m / (sqrt(v) + eps): bounded, scale free, no epsilon (arXiv:2407.05872). Decoupled weight decay."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
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


class SparseSignSGD:
    """Sign SGD with decoupled weight decay on the rows that a batch looked up, and on no others (published).

    The gradients of a row that occurs more than once are summed before the sign is taken. `gather` maps a rank's tensor
    (B, ...) to that of all ranks (ranks * B, ...); it is the identity on one rank. The update needs neither a sort nor a wait for
    the accelerator: equal ids are found by comparing all pairs of a batch.
    """

    def __init__(self, embedding: TaskEmbedding, gather: Callable[[Tensor], Tensor] | None = None) -> None:
        self.embedding = embedding
        self.gather = gather or (lambda tensor: tensor)

    @torch.no_grad()
    def step(self, looked_up: LookedUp, lr: float, weight_decay: float) -> None:
        """row <- row (1 - lr weight_decay) - lr sign(summed gradient). Needs the backward pass to have filled `rows.grad`."""
        if looked_up.rows.grad is None:
            raise ValueError("the looked-up rows have no gradient: call backward() first")
        grad = self.gather(looked_up.rows.grad)
        _update(self.embedding.rows, self.gather(looked_up.ids), grad, lr, weight_decay)
        if self.embedding.dihedral_rows is not None:
            _update(self.embedding.dihedral_rows, self.gather(looked_up.dihedral), grad, lr, weight_decay)


class Optimizers:
    """The optimizers of one model and its task embedding, behind one `step`."""

    def __init__(self, model: HRM, embedding: TaskEmbedding, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self._ranks = config, ranks
        blocks = {id(p) for level in model.levels for p in level.parameters() if p.ndim == 2}
        matrices = [p for p in model.parameters() if id(p) in blocks]
        rest = [p for p in model.parameters() if id(p) not in blocks]
        self._params = [*matrices, *rest]
        self._dense: list[Optimizer] = []
        self._rates: list[float] = []
        betas = (config.beta1, config.beta2)
        if config.optimizer == "adam_atan2":
            self._add(AdamAtan2(self._params, config.lr, betas, config.weight_decay), config.lr)
        elif config.optimizer == "muon":
            # A device that computes the model in bfloat16 has instructions for it; on others float32 is several times faster.
            dtype = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32
            self._add(Muon(matrices, config.muon_lr, config.weight_decay, dtype), config.muon_lr)
            self._add(self._adamw(rest, betas), config.lr)
        else:
            self._add(self._adamw(self._params, betas), config.lr)
        self._sparse = SparseSignSGD(embedding, ranks.gather)
        # float16 gradients underflow without scaling; the scaler is a no-op for other formats.
        self._scaler = torch.amp.GradScaler(model.tokens.device.type, enabled=model.dtype == torch.float16)

    def _adamw(self, params: list[torch.nn.Parameter], betas: tuple[float, float]) -> Optimizer:
        return AdamW(params, self.config.lr, betas, weight_decay=self.config.weight_decay, fused=True)

    def _add(self, optimizer: Optimizer, rate: float) -> None:
        self._dense.append(optimizer)
        self._rates.append(rate)

    def step(self, loss: Tensor, factor: float, looked_up: LookedUp | None) -> None:
        """`backward`, then `update`."""
        self.backward(loss)
        self.update(factor, looked_up)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate `loss`, a scalar; nothing else, so that it may be abandoned and repeated."""
        self._scaler.scale(loss).backward()

    def update(self, factor: float, looked_up: LookedUp | None) -> None:
        """Join the gradients of all ranks, update all weights at `factor` times the configured rates, clear the gradients."""
        self._ranks.average([p.grad for p in self._params if p.grad is not None])
        for optimizer, rate in zip(self._dense, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            self._scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        if looked_up is not None and looked_up.rows.grad is not None:
            if self._scaler.is_enabled():
                # Only the sign counts, so a scaled gradient needs no unscaling; an overflowed one has no sign to trust.
                looked_up.rows.grad.nan_to_num_(0.0, 0.0, 0.0)
            self._sparse.step(looked_up, self.config.embedding_lr * factor, self.config.embedding_weight_decay)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Moments and loss scale, for a run that resumes later."""
        return {"dense": [optimizer.state_dict() for optimizer in self._dense], "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, of a model and configuration like this one."""
        for optimizer, saved in zip(self._dense, state["dense"], strict=True):
            optimizer.load_state_dict(saved)
        if state["scaler"]:  # empty where the run was in another number format until now
            self._scaler.load_state_dict(state["scaler"])


def _update(table: Tensor, ids: Tensor, grad: Tensor, lr: float, weight_decay: float) -> None:
    same = ids[:, None] == ids[None, :]
    # Every copy of an id takes the sum made for its first: rounding could otherwise give copies different signs.
    first = same.int().argmax(dim=1)
    summed = (same.to(grad.dtype) @ grad)[first]
    rows = table.index_select(0, ids)
    table[ids] = rows.mul_(1.0 - lr * weight_decay).sub_(summed.sign() * lr)
