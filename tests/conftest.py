"""What all tests share."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("many", max_examples=10_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trials", type=int, default=3, metavar="N", help="runs that tests/run/test_kills.py kills (slow)")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from several threads, and on a busy machine lose much by waiting for them."""
    torch.set_num_threads(1)
