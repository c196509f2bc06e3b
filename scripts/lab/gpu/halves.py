"""Checkpoints in half their bytes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hrm_submit.model.weights import Checkpoint, EmbeddingTables


def in_bfloat16(checkpoint: Checkpoint) -> Checkpoint:
    """The same weights and tables rounded to bfloat16: training goes on from them, and inference differs by rounding."""

    def half(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(torch.bfloat16)

    tables = checkpoint.tables
    small = EmbeddingTables(tables.mean_row.to(torch.bfloat16), half(tables.dihedral_rows), half(tables.rows))
    return replace(checkpoint, state={name: tensor.to(torch.bfloat16) for name, tensor in checkpoint.state.items()}, tables=small)
