"""Task embeddings: a learned row for each task, updated by sign SGD on the few rows that a batch touches.

- Scheme "augmented" (published): a row per augmented task. Scheme "shared": a row per task plus one per dihedral transform.
- A lookup hands out a *leaf* of the looked-up rows, so that no gradient is ever as large as the table.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.checkpoint_header import DIHEDRAL_ROWS


@dataclass(frozen=True)
class LookedUp:
    """What a training segment looked up: ids (B,), dihedral (B,) int64, and the leaf `rows` (B, puzzle_emb_ndim) whose `.grad` fills."""

    ids: Tensor
    dihedral: Tensor
    rows: Tensor


class TaskEmbedding(nn.Module):
    """Tables of task embeddings; all rows start at zero (published)."""

    def __init__(self, cfg: ModelConfig, n_rows: int) -> None:
        super().__init__()
        self.scheme = cfg.embedding
        self.rows: Tensor
        self.dihedral_rows: Tensor | None
        self.register_buffer("rows", torch.zeros(n_rows, cfg.puzzle_emb_ndim))
        shared = torch.zeros(DIHEDRAL_ROWS, cfg.puzzle_emb_ndim) if self.scheme == "shared" else None
        self.register_buffer("dihedral_rows", shared)

    def lookup(self, ids: Tensor, dihedral: Tensor) -> Tensor:
        """Rows (B, puzzle_emb_ndim) float32 for `ids` and `dihedral`, (B,) int64 each.

        They are a leaf, which requires gradient where gradients are on.
        """
        with torch.no_grad():
            # index_select copies, so that a later update of the table never changes what a graph has saved
            rows = self.rows.index_select(0, ids)
            if self.dihedral_rows is not None:
                rows += self.dihedral_rows.index_select(0, dihedral)
        return rows.requires_grad_(torch.is_grad_enabled())

    def mean_row(self) -> Tensor:
        """Mean of the task rows that were drawn, (puzzle_emb_ndim,): where a task never seen before starts. All others are still zero."""
        drawn = int(self.rows.any(dim=1).sum())
        return chunked_mean(self.rows) * (len(self.rows) / max(1, drawn))

    @torch.no_grad()
    def reset_rows(self, ids: Tensor, value: Tensor) -> None:
        """Set the task rows `ids` (K,) to `value`, (puzzle_emb_ndim,) or (K, puzzle_emb_ndim)."""
        self.rows[ids] = value.to(self.rows)


def chunked_mean(table: Tensor, chunk: int = 65536) -> Tensor:
    """Mean row of `table` (R, D) as float32 (D,), summed in float64 by `chunk` rows, so that a mapped table is never copied whole."""
    total = torch.zeros(table.shape[1], dtype=torch.float64, device=table.device)
    for start in range(0, table.shape[0], chunk):
        total += table[start : start + chunk].sum(dim=0, dtype=torch.float64)
    return (total / max(table.shape[0], 1)).float()
