"""One real training segment of a small model, for whoever counts what it takes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from hrm_submit.arc.canvas import position_ids
from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.act import Batch, act_step, initial_act_carry
from hrm_submit.model.hrm import HRM
from hrm_submit.model.losses import segment_loss
from hrm_submit.model.weights import build

SMALL = ModelConfig(
    hidden_size=64,
    num_heads=2,
    H_layers=1,
    L_layers=1,
    H_cycles=1,
    L_cycles=1,
    puzzle_emb_ndim=64,
    halt_max_steps=4,
    continue_target=False,
    embedding="shared",
)
SEVERAL_CYCLES = ModelConfig(
    hidden_size=64,
    num_heads=2,
    H_layers=2,
    L_layers=1,
    H_cycles=2,
    L_cycles=3,
    puzzle_emb_ndim=64,
    halt_max_steps=4,
    continue_target=False,
    embedding="shared",
)
"""Published-like: states are updated many times, and the last update alone is back-propagated."""


def run_segment(
    config: ModelConfig,
    side: int,
    batch: int,
    dtype: torch.dtype = torch.float32,
    attention: str = "math",
    forward: AbstractContextManager[object] | None = None,
) -> HRM:
    """Forward (inside `forward`), loss and backward of `batch` canvases of `side`; returns the model."""
    model, embedding = build(config, n_rows=1, seed=0, dtype=dtype, attention=attention)  # type: ignore[arg-type]
    tokens = torch.randint(0, 12, (batch, side * side), generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(batch, dtype=torch.long)
    given = Batch(tokens, tokens, ids, ids)
    carry = initial_act_carry(model, given)
    with forward or nullcontext():
        carry, output = act_step(
            model, embedding, carry, given, torch.from_numpy(position_ids(side)), training=True, max_steps=config.halt_max_steps
        )
        loss, _ = segment_loss(output, carry, config.loss_type, None if dtype == torch.float32 else torch.float32)
    loss.backward()
    return model
