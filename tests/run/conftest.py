"""Runs on a fake clock as a fixture, each in a folder of its own; and Ctrl-C as it was, after each test."""

import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.run import stage


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., stage.Played]:
    """`stage.play`, without its folder."""
    numbers = count()

    def run(*args: Any, **options: Any) -> stage.Played:
        return stage.play(tmp_path / f"play{next(numbers)}", *args, **options)

    return run


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """A worker ignores Ctrl-C for good; the tests after it should not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
