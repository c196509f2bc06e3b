"""Sign SGD on the rows that a batch looked up: by hand, against a dense update, ranks joined."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.embedding import LookedUp, TaskEmbedding
from hrm_submit.train.optimizers import SparseSignSGD

CFG = ModelConfig(hidden_size=4, num_heads=1, puzzle_emb_ndim=3)
SHARED = replace(CFG, embedding="shared")


def looked_up(embedding: TaskEmbedding, ids: list[int], dihedral: list[int], grad: list[list[float]]) -> LookedUp:
    rows = embedding.lookup(torch.tensor(ids), torch.tensor(dihedral))
    rows.grad = torch.tensor(grad)
    return LookedUp(torch.tensor(ids), torch.tensor(dihedral), rows)


def test_sign_sgd_of_a_hand_worked_example() -> None:
    embedding = TaskEmbedding(CFG, 4)
    embedding.reset_rows(torch.arange(4), torch.tensor([1.0, 1, 1]))
    # task 2 twice: gradients sum to (-2, 0, 1)
    batch = looked_up(embedding, [2, 0, 2], [0, 0, 0], [[1.0, -3, 0.5], [0.1, 0, -9], [-3.0, 3, 0.5]])
    SparseSignSGD(embedding).step(batch, lr=0.1, weight_decay=0.5)
    kept = 1 - 0.1 * 0.5
    expected = [[kept - 0.1, kept, kept + 0.1], [1, 1, 1], [kept + 0.1, kept, kept - 0.1], [1, 1, 1]]
    torch.testing.assert_close(embedding.rows, torch.tensor(expected))


def test_the_shared_scheme_updates_both_tables() -> None:
    embedding = TaskEmbedding(SHARED, 3)
    assert embedding.dihedral_rows is not None
    batch = looked_up(embedding, [1, 1], [0, 4], [[1.0, 2, -5], [3.0, -7, 5]])
    SparseSignSGD(embedding).step(batch, lr=0.25, weight_decay=0.0)
    assert embedding.rows.tolist() == [[0, 0, 0], [-0.25, 0.25, 0], [0, 0, 0]]
    expected = torch.zeros(8, 3)
    expected[0], expected[4] = torch.tensor([-0.25, -0.25, 0.25]), torch.tensor([-0.25, 0.25, -0.25])
    assert torch.equal(embedding.dihedral_rows, expected)


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_sign_sgd_is_a_dense_update_of_the_touched_rows(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embedding = TaskEmbedding(CFG, 5)
    start = torch.randn(5, 3, generator=generator)
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
        optimizer = SparseSignSGD(embedding, gather=lambda t, theirs=theirs: torch.cat((t, theirs[t.dtype])))  # type: ignore[misc]
        optimizer.step(mine, 0.1, 0.1)
        torch.testing.assert_close(embedding.rows, joined.rows)


def test_a_step_before_the_backward_pass_is_refused() -> None:
    embedding = TaskEmbedding(CFG, 1)
    zero = torch.tensor([0])
    with pytest.raises(ValueError, match="backward"):
        SparseSignSGD(embedding).step(LookedUp(zero, zero, embedding.lookup(zero, zero)), 0.1, 0.0)
