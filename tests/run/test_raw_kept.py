"""Raw predictions of a run: who writes them, where, and what it costs when that fails."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.predict.rank import rank
from hrm_submit.predict.raw import load_raw
from hrm_submit.record.folder import read_run
from hrm_submit.run.protocol import Assignment
from hrm_submit.solver.messages import Answer
from tests.run.lab import challenges, converse, recolour, tiny, tiny_preset

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


@pytest.mark.parametrize("rule", ["counts", "composite"])
def test_a_run_keeps_what_its_answers_were_made_of(tmp_path: Path, rule: str) -> None:
    """From the command line; float16 rounds the scores, so what is compared is each candidate's votes."""
    run, preset = tmp_path / "run", tiny(tmp_path, KEPT + f'rule = "{rule}"\n')
    options = ["--preset", preset, "--checkpoint", "none", "--devices", "cpu", "--segments-per-task", "3", "--run-dir", str(run)]
    assert main(["solve", "--challenges", str(challenges(tmp_path, 1, outputs=2)), "--output", str(tmp_path / "s.json"), *options]) == 0
    raw = load_raw(run / "raw" / "task00.npz")
    assert (raw.scores.steps, raw.answer_step, sorted(set(raw.output.tolist()))) == (2, 1, [0, 1])
    final = {p.output: p.candidates for p in read_run(run).predictions if p.final}
    for k in (0, 1):
        again = rank(raw.of_output(k).until(1), rule)  # type: ignore[arg-type]
        told = [(c.grid, c.votes) for c in final[k]]
        assert {c.key: c.votes for c in again} == {(grid.shape, grid.tobytes()): votes for grid, votes in told}
        assert again[0].grid.tolist() == final[k][0].grid.tolist()
