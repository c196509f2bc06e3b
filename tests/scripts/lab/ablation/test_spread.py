"""Runs of a plan on a cluster against the same on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ablate
import pandas as pd
import pytest
from lab.ablation import spread
from lab.ablation.spread import joined, parts_of

from tests.scripts.lab.ablation.lab import runs_of, variants, write_plan
from tests.scripts.lab.ablation.test_parallel import FAILS


@pytest.mark.slow
def test_fixed_work_comes_to_the_same_wherever_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(spread, "TASKS_OF_A_PIECE", 2)
    tables = {}
    for where, options in (("here", ["--parallel", "2"]), ("cluster", ["--cluster", "local"])):
        (tmp_path / where).mkdir()
        path = write_plan(tmp_path / where, kind="ttt", tail=variants("a") + variants("too large", more=FAILS))
        assert ablate.main([str(path), "--runs", str(tmp_path / where / "records"), *options]) == 1
        said = capsys.readouterr().err
        failed = [line for line in said.splitlines() if "failed" in line]
        assert len(failed) == 1 and "too large, seed 0: failed: RuntimeError" in failed[0], said
        tables[where] = pd.read_csv(path.with_suffix(".csv")).drop(columns=["seconds", "examples_per_second", "machine"])
    pd.testing.assert_frame_equal(tables["cluster"], tables["here"])
    left = sorted(p.relative_to(tmp_path / "cluster" / "records").parts[1:] for p in tmp_path.glob("cluster/records/**/tasks.jsonl"))
    assert left == [("part-1", "tasks.jsonl"), ("part-2", "tasks.jsonl")]


def test_a_run_is_cut_by_tasks_only_where_these_do_not_need_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "TASKS_OF_A_PIECE", 2)
    (run,) = runs_of(tmp_path, kind="ttt")
    assert [list(part.material.measured.tasks) for part in parts_of(run)] == [["task0", "task1"], ["task2"]]
    assert all(part.material.measured.tasks.keys() == part.material.measured.solutions.keys() for part in parts_of(run))
    training = replace(run, kind="train")
    assert parts_of(training) == [training]


def test_figures_of_parts_are_those_of_the_whole(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, kind="ttt")
    numbers = {"views": 0.5, "test_loss": 0.25, "segments": 4, "exact": 1.0, "seconds": 2.0, "training_seconds": 1.0, "flops": 10.0}
    parts = [
        {"lines": [{"task": "a", "outputs": "1", **numbers}], "parameters": 7, "machine": "x"},
        {"lines": [{"task": "b", "outputs": "02", **numbers, "segments": 8, "test_loss": None}], "parameters": 7, "machine": "y"},
    ]
    whole = joined(run, parts)
    assert whole["results"] == {"a": "1", "b": "02"} and whole["segments"] == 6 and whole["machine"] == "x; y"
    assert whole["test_losses"] == {"a": 0.25}
    assert whole["examples"] == 12 * run.preset.ttt.batch_size and whole["seconds"] == 2.0 and whole["flops"] == 20.0
