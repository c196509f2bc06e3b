"""Task embeddings: lookups, means, rows that are reset."""

from __future__ import annotations

from dataclasses import replace

import torch

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.embedding import TaskEmbedding, chunked_mean

CFG = ModelConfig(hidden_size=4, num_heads=1, puzzle_emb_ndim=3)
SHARED = replace(CFG, embedding="shared")


def test_rows_start_at_zero_and_are_looked_up_as_leaves() -> None:
    embedding = TaskEmbedding(CFG, 5)
    embedding.reset_rows(torch.tensor([1, 3]), torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    rows = embedding.lookup(torch.tensor([3, 0, 1]), torch.tensor([7, 7, 7]))
    assert rows.tolist() == [[4, 5, 6], [0, 0, 0], [1, 2, 3]]
    assert rows.is_leaf and rows.requires_grad and not embedding.rows.requires_grad
    with torch.no_grad():
        assert not embedding.lookup(torch.tensor([0]), torch.tensor([0])).requires_grad


def test_the_mean_row_is_the_mean_in_any_chunks() -> None:
    table = torch.randn(1001, 3, generator=torch.Generator().manual_seed(0)) + 100
    for chunk in (1, 7, 1000, 5000):
        torch.testing.assert_close(chunked_mean(table, chunk), table.double().mean(0).float())
    assert TaskEmbedding(replace(CFG, puzzle_emb_ndim=0), 4).mean_row().shape == (0,)
