"""What the tests of comparing variants share."""

from __future__ import annotations

import pytest
from lab.ablation import train_run as train_module

from hrm_submit.train.loop import CanvasBatch
from tests.scripts.lab.ablation.lab import Recorder


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[CanvasBatch]:
    Recorder.seen = []
    monkeypatch.setattr(train_module, "Trainer", Recorder)
    return Recorder.seen
