"""Muon against torch's own, and its iteration against singular values."""

from __future__ import annotations

import pytest
import torch

from hrm_submit.train.muon import Muon, orthogonal


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_it_updates_as_torch_does_to_the_bit() -> None:
    shapes = [(24, 8), (8, 8), (8, 16), (24, 8), (8, 16), (3, 5), (24, 8)]
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    mine, known = Muon(ours, 5e-3, 0.1), torch.optim.Muon(theirs, lr=5e-3, weight_decay=0.1)
    for step in range(4):
        for k, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            grad = None if (step, k) == (1, 3) else torch.randn(p.shape, generator=generator)
            p.grad, q.grad = grad, None if grad is None else grad.clone()
        mine.step()
        known.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q) and torch.equal(mine.state[p]["momentum_buffer"], known.state[q]["momentum_buffer"])


def test_singular_values_come_near_1_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(1)
    matrices = [torch.randn(12, 30, generator=generator) for _ in range(3)]
    exact, rounded = orthogonal(matrices, torch.float32), orthogonal(matrices)
    assert exact.dtype == torch.float32 and rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05)
    for matrix, found in zip(matrices, exact, strict=True):
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.5 and values.max() < 1.5
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(found.flatten(), (u @ vh).flatten(), dim=0) > 0.95
    assert not orthogonal([torch.zeros(3, 4)]).any()
