"""Runs on a fake clock as a fixture, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.solve import stage


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., stage.Played]:
    """`stage.play`, without its folder."""
    numbers = count()

    def run(*args: Any, **options: Any) -> stage.Played:
        return stage.play(tmp_path / f"play{next(numbers)}", *args, **options)

    return run
