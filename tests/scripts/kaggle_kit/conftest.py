"""The kit to ship, with each Kaggle client that is supported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.kit import Kit
from tests.scripts.kaggle_kit.loopback import CLIENTS, Loopback


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (path is not None)) for name, path in CLIENTS.items()])
def kit(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kit]:
    client = CLIENTS[request.param]
    if client and not client.is_dir():
        pytest.skip(f"no {client}: make setup")
    with Loopback(tmp_path, client=client) as server:
        yield Kit.laid_out(tmp_path / "kit", server)
