"""Raw predictions of a run: who writes them, where, and what it costs when that fails."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.run.protocol import Assignment
from hrm_submit.solver.messages import Answer
from tests.run.lab import converse, recolour, tiny_preset

KEPT = "[vote]\nsave_raw = true\nact_steps = 2\n"


def trained_twice(tmp_path: Path, raw: Path | None) -> list[Any]:
    """What a worker says that is given one task, and then once more as if its first training had gone wrong."""
    once = Assignment(recolour("a"), None, 2)
    return converse(tiny_preset(tmp_path, KEPT), once, replace(once, restart=1), raw=raw)


def test_a_worker_writes_a_file_for_each_training_and_sends_none(tmp_path: Path) -> None:
    said = trained_twice(tmp_path, tmp_path / "raw")
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["a.npz", "a.restart1.npz"], "and none of warming up"
    assert {type(m).__name__ for m in said} == {"Ready", "Progress", "Answer"}


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    assert any(isinstance(m, Answer) and m.final for m in trained_twice(tmp_path, None))
    assert not list(tmp_path.rglob("*.npz"))


def test_a_disk_that_refuses_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "raw").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        said = trained_twice(tmp_path, tmp_path / "raw")
    assert sum(isinstance(m, Answer) and m.final for m in said) == 2
    assert [r.getMessage().split(":")[0] for r in caplog.records if "raw predictions are not kept" in r.getMessage()] == ["task a"] * 2
