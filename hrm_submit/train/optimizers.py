"""Which optimizer updates which weights: matrices of the blocks, all other weights, and the task embedding's looked-up rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hrm_submit.config.schema import TrainConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.train.adam import AdamAtan2, AdamW, UncompiledOptimizer
from hrm_submit.train.muon import Muon
from hrm_submit.train.ranks import Ranks


class SparseSignSGD:
    """Sign SGD with decoupled weight decay, on the looked-up rows alone (published HRM).

    The gradients of a row that occurs more than once are summed before the sign is taken. `gather` maps a rank's tensor (B, ...) to that
    of all ranks (ranks * B, ...). The update neither sorts nor waits for the accelerator: it compares all pairs of ids.
    """

    def __init__(self, embedding: TaskEmbedding, gather: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> None:
        self.embedding, self.gather = embedding, gather

    @torch.no_grad()
    def step(self, looked_up: LookedUp, lr: float, weight_decay: float) -> None:
        """Set row to row (1 - lr weight_decay) - lr sign(summed gradient), after a backward pass has filled `rows.grad`."""
        assert looked_up.rows.grad is not None
        grad = self.gather(looked_up.rows.grad)
        _update(self.embedding.rows, self.gather(looked_up.ids), grad, lr, weight_decay)
        if self.embedding.dihedral_rows is not None:
            _update(self.embedding.dihedral_rows, self.gather(looked_up.dihedral), grad, lr, weight_decay)


def _update(table: Tensor, ids: Tensor, grad: Tensor, lr: float, weight_decay: float) -> None:
    same = ids[:, None] == ids[None, :]
    # Every copy of an id takes the sum made for its first: rounding could otherwise give copies different signs.
    first = same.int().argmax(dim=1)
    summed = (same.to(grad.dtype) @ grad)[first]
    rows = table.index_select(0, ids)
    table[ids] = rows.mul_(1.0 - lr * weight_decay).sub_(summed.sign() * lr)


class Optimizers:
    """The optimizers of one model and its task embedding: `backward`, then `update`."""

    def __init__(self, model: HRM, embedding: TaskEmbedding, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self._ranks = config, ranks
        blocks = {id(p) for level in model.levels for p in level.parameters() if p.ndim == 2}
        matrices = [p for p in model.parameters() if id(p) in blocks]
        rest = [p for p in model.parameters() if id(p) not in blocks]
        self._params = [*matrices, *rest]
        lr, betas, decay = config.lr, (config.beta1, config.beta2), config.weight_decay
        self._dense: list[tuple[UncompiledOptimizer, float]]
        if config.optimizer == "adam_atan2":
            self._dense = [(AdamAtan2(self._params, lr, betas, decay), lr)]
        elif config.optimizer == "muon":
            # A device that computes the model in bfloat16 has instructions for it; on others float32 is several times faster.
            dtype = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32
            muon = Muon(matrices, config.muon_lr, decay, dtype)
            self._dense = [(muon, config.muon_lr), (AdamW(rest, lr, betas, weight_decay=decay, fused=True), lr)]
        else:
            self._dense = [(AdamW(self._params, lr, betas, weight_decay=decay, fused=True), lr)]
        self._sparse = SparseSignSGD(embedding, ranks.gather)
        # float16 gradients underflow without scaling; the scaler is a no-op for other formats.
        self._scaler = torch.amp.GradScaler(model.tokens.device.type, enabled=model.dtype == torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate `loss`, a scalar; nothing else, so that it may be abandoned and repeated."""
        self._scaler.scale(loss).backward()

    def update(self, factor: float, looked_up: LookedUp | None) -> None:
        """Join the gradients of all ranks, update all weights at `factor` times the configured rates, clear the gradients."""
        self._ranks.average([p.grad for p in self._params if p.grad is not None])
        for optimizer, rate in self._dense:
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
        return {"dense": [optimizer.state_dict() for optimizer, _ in self._dense], "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned for the same model and configuration."""
        for (optimizer, _), saved in zip(self._dense, state["dense"], strict=True):
            optimizer.load_state_dict(saved)
        if state["scaler"]:  # empty if the run was in another number format until now
            self._scaler.load_state_dict(state["scaler"])
