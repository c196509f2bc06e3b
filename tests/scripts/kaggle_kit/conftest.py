"""The kit to ship, with each Kaggle client that is supported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.kit import CLIENTS, Kit


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (path is not None)) for name, path in CLIENTS.items()])
def kit(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kit]:
    client = CLIENTS[request.param]
    if client and not client.is_dir():
        pytest.skip(f"no {client}: make setup")
    with Kit(tmp_path, client) as server:
        yield server
