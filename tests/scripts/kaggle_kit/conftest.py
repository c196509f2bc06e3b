"""The kit to ship."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.kaggle_kit.kit import Kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as server:
        yield server
