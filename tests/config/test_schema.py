"""Configurations: fixed once made, and what follows from their fields."""

from dataclasses import FrozenInstanceError

import pytest

from hrm_submit.config.schema import ModelConfig, TrainConfig


def test_configurations_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("ndim", "width", "tokens"), [(0, 64, 0), (64, 64, 1), (65, 64, 2), (32, 64, 1), (128, 64, 2)])
def test_tokens_that_the_task_embedding_fills(ndim: int, width: int, tokens: int) -> None:
    assert ModelConfig(hidden_size=width, num_heads=2, puzzle_emb_ndim=ndim).puzzle_emb_len == tokens
