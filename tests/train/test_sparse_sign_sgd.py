"""Sign SGD on the rows that a batch looked up: by hand, against a dense update, ranks joined."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.train.optimizers import SparseSignSGD

CFG = ModelConfig(hidden_size=4, num_heads=1, puzzle_emb_ndim=3)


def looked_up(embedding: TaskEmbedding, ids: list[int], dihedral: list[int], grad: list[list[float]]) -> LookedUp:
    rows = embedding.lookup(torch.tensor(ids), torch.tensor(dihedral))
    rows.grad = torch.tensor(grad)
    return LookedUp(torch.tensor(ids), torch.tensor(dihedral), rows)


def test_both_tables_of_the_shared_scheme_by_hand() -> None:
    embedding = TaskEmbedding(replace(CFG, embedding="shared"), 4)
    assert embedding.dihedral_rows is not None
    embedding.reset_rows(torch.arange(4), torch.tensor([1.0, 1, 1]))
    # task 2 twice: gradients sum to (-2, 0, 1); transform 0 twice: to (1.1, -3, -8.5)
    batch = looked_up(embedding, [2, 0, 2], [0, 0, 4], [[1.0, -3, 0.5], [0.1, 0, -9], [-3.0, 3, 0.5]])
    SparseSignSGD(embedding).step(batch, lr=0.1, weight_decay=0.5)
    kept = 1 - 0.1 * 0.5
    expected = [[kept - 0.1, kept, kept + 0.1], [1, 1, 1], [kept + 0.1, kept, kept - 0.1], [1, 1, 1]]
    torch.testing.assert_close(embedding.rows, torch.tensor(expected))
    turned = torch.zeros(8, 3)
    turned[0], turned[4] = torch.tensor([-0.1, 0.1, 0.1]), torch.tensor([0.1, -0.1, -0.1])
    torch.testing.assert_close(embedding.dihedral_rows, turned)


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_it_is_a_dense_update_of_the_touched_rows(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embedding, start = TaskEmbedding(CFG, 5), torch.randn(5, 3, generator=generator)
    embedding.rows.copy_(start)
    grad = torch.randint(-3, 4, (len(ids), 3), generator=generator).float()
    SparseSignSGD(embedding).step(looked_up(embedding, ids, [0] * len(ids), grad.tolist()), lr=0.5, weight_decay=0.1)
    expected = start.clone()
    for row in set(ids):
        total = sum(grad[i] for i, other in enumerate(ids) if other == row)
        expected[row] = start[row] * 0.95 - 0.5 * torch.sign(torch.as_tensor(total))
    torch.testing.assert_close(embedding.rows, expected)


def test_ranks_that_gather_apply_the_update_of_the_joined_batch() -> None:
    ids, grads = [[0, 1], [1, 2]], [[[1.0, 1, 1], [-1.0, 2, 0]], [[3.0, -5, 0], [0.0, 1, -1]]]
    joined = TaskEmbedding(CFG, 3)
    SparseSignSGD(joined).step(looked_up(joined, ids[0] + ids[1], [0] * 4, grads[0] + grads[1]), 0.1, 0.1)
    for rank in range(2):
        other = 1 - rank
        embedding = TaskEmbedding(CFG, 3)
        mine = looked_up(embedding, ids[rank], [0, 0], grads[rank])
        theirs = {torch.int64: torch.tensor(ids[other]), torch.float32: torch.tensor(grads[other])}
        SparseSignSGD(embedding, lambda t, theirs=theirs: torch.cat((t, theirs[t.dtype]))).step(mine, 0.1, 0.1)  # type: ignore[misc]
        torch.testing.assert_close(embedding.rows, joined.rows)
