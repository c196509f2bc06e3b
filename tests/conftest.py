"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from several threads, and on a busy machine lose much by waiting for them."""
    torch.set_num_threads(1)
