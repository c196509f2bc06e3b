"""Bytes of a training segment against those that autograd really keeps, and what follows from them, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.weights import build
from hrm_submit.run.cost import CONTEXT_BYTES, batch_that_fits, parameters, training_bytes, workers_that_fit
from tests.run.segment import SEVERAL_CYCLES, SMALL, run_segment

LOOSE = 2.0
"""An estimate may be this many times what is kept: more would leave half of a GPU's memory empty."""


def kept_bytes(model: ModelConfig, side: int, batch: int, dtype: torch.dtype, attention: str) -> int:
    """Bytes of the distinct storages that autograd keeps between forward and backward, weights and their copies left out."""
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.detach())
        return tensor

    run = run_segment(model, side, batch, dtype, attention, saved_tensors_hooks(keep, lambda tensor: tensor))
    weights = {p.shape for p in run.parameters()} | {p.t().shape for p in run.parameters() if p.ndim == 2}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept if t.shape not in weights}
    return sum(storages.values())


@pytest.mark.parametrize("attention", ["math", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("model", "side", "batch"),
    [
        (SMALL, 8, 4),
        (SMALL, 20, 2),
        (replace(SMALL, hidden_size=128, num_heads=4, H_layers=2, L_layers=2, expansion=3.0, puzzle_emb_ndim=128, gradient="all"), 12, 8),
        (replace(SMALL, num_heads=16), 25, 1),  # where attention's square tables are most of it
        (SEVERAL_CYCLES, 10, 4),
        (replace(SEVERAL_CYCLES, gradient="all"), 10, 4),
        (replace(SEVERAL_CYCLES, H_cycles=4, gradient="all", L_layers=2), 10, 4),
        (replace(SEVERAL_CYCLES, continue_target=True), 10, 4),
        (replace(SMALL, H_layers=2, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", gradient="all"), 12, 8),
        (replace(SMALL, hidden_size=256, num_heads=8, H_layers=2, L_layers=2, puzzle_emb_ndim=256), 15, 4),
    ],
)
def test_the_estimate_is_above_what_is_kept_and_not_far_above(
    model: ModelConfig, side: int, batch: int, dtype: torch.dtype, attention: str
) -> None:
    def estimate(sequences: int) -> int:
        return training_bytes(model, side * side, sequences, element=dtype.itemsize, fused_attention=attention == "sdpa")

    kept = kept_bytes(model, side, batch, dtype, attention)
    assert kept <= estimate(batch) - estimate(0) <= LOOSE * kept


@pytest.mark.parametrize("model", [SMALL, SEVERAL_CYCLES, ModelConfig(), ModelConfig(L_mixer="none")])
def test_parameters_are_those_of_the_blocks(model: ModelConfig) -> None:
    built, _ = build(model, n_rows=1, seed=0)
    assert parameters(model) == sum(p.numel() for level in built.levels for p in level.parameters())


def test_weights_take_a_gradient_and_two_moments_each() -> None:
    assert training_bytes(SMALL, 100, 0, element=2, fused_attention=True) == parameters(SMALL) * (4 + 4 + 8 + 2)


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "each", "most", "workers"),
    [
        (10 * GIB, GIB, 8, 5),  # nine tenths of 10 GiB, 1 GiB + 600 MiB each
        (10 * GIB, GIB, 4, 4),
        (GIB, 10 * GIB, 4, 1),  # one is tried however little there is
        (0, GIB, 4, 1),
        (24 * GIB, 0, 1000, int(0.9 * 24 * 1024) // 600),
    ],
)
def test_workers_by_hand(free: int, each: int, most: int, workers: int) -> None:
    assert CONTEXT_BYTES == 600 * 2**20
    assert workers_that_fit(free, each, most) == workers


def test_a_batch_is_halved_until_it_fits() -> None:
    def need(batch: int) -> int:
        return training_bytes(SMALL, 400, batch, element=4, fused_attention=False)

    def fitting(free: float) -> int:
        return batch_that_fits(int(free), SMALL, 400, 32, element=4, fused_attention=False)

    assert fitting(need(32) / 0.9 + 1024) == 32
    assert fitting(need(32) / 0.9 - 1024) == 16
    assert fitting(need(8) / 0.9 + 1024) == 8
    assert fitting(0) == 1
