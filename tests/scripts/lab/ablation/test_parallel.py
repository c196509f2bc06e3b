"""Runs in parallel, and what is kept of them when some fail, die or are stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ablate
import psutil
import pytest
from lab.ablation.parallel import run_all, run_folder
from lab.ablation.results import append, read
from lab.ablation.table import parse_losses, parse_marks

from tests.scripts.lab.ablation.lab import ROOT, runs_of, variants, write_plan

FAILS = "model = { hidden_size = 983040, num_heads = 61440, puzzle_emb_ndim = 16 }"


@pytest.mark.slow
def test_starting_again_does_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(tmp_path / "records")]
    path = write_plan(tmp_path, tail=variants("a", "b") + variants("too large", more=FAILS))
    results = path.with_suffix(".csv")
    assert ablate.main([str(path), *options, "--parallel", "2"]) == 1, "one run fails, the others are done"
    said = capsys.readouterr()
    failed = [line for line in said.err.splitlines() if "failed" in line]
    assert len(failed) == 1 and "too large, seed 0: failed: RuntimeError" in failed[0]
    first = results.read_text()
    assert [line.split(",")[0] for line in first.splitlines()] == ["variant", "a"], "a and b come to the same: one run serves both"
    assert said.out.count("a      1") == 1 and said.out.count("b      1") == 1

    path = write_plan(tmp_path, tail=variants("a", "b") + variants("c", more="train.lr = 1e-3"))
    assert ablate.main([str(path), *options, "--show"]) == 0 and results.read_text() == first
    assert ablate.main([str(path), *options, "--only", "a"]) == 0 and results.read_text() == first
    assert ablate.main([str(path), *options]) == 0
    assert results.read_text().startswith(first) and [x.split(",")[0] for x in results.read_text().splitlines()[2:]] == ["c"]
    capsys.readouterr()
    assert ablate.main([str(path), *options, "--plot"]) == 0
    table = path.with_suffix(".md").read_text()
    assert "3 tasks, 320 examples a run" in table and table.count("\n| ") == 5 and "missing" not in table
    assert path.with_suffix(".svg").read_text().startswith("<?xml")
    records = [p.name for p in (tmp_path / "records").iterdir() if (p / "result.json").exists()]
    assert len(records) == 2


def test_a_torn_line_is_done_again_and_a_changed_variant_is_not_mixed_in(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]"))
    path = tmp_path / "plan.csv"
    names = ("view_exact", "exact", "loss", "segments", "examples", "examples_per_second", "flops", "seconds", "parameters")
    figures: dict[str, Any] = dict.fromkeys(names, 1.0)
    figures |= {"machine": "a, small one", "results": {"t:1": "01", "u": "2"}, "test_losses": {"t:1": 0.25}}
    for run in runs:
        line = append(path, run, figures)
        assert (line["pass@1"], line["pass@2"]) == (pytest.approx(1 / 3, abs=1e-5), pytest.approx(2 / 3, abs=1e-5))
    assert list(read(path, runs)["seed"]) == [0, 1]
    path.write_text(path.read_text()[:-5])
    assert list(read(path, runs)["seed"]) == [0]
    append(path, runs[1], figures)
    rows = read(path, runs)
    assert list(rows["seed"]) == [0, 1] and parse_marks(rows["results"][1]) == figures["results"]
    assert rows["machine"][0] == "a, small one" and parse_losses(rows["test_losses"][0]) == {"t:1": 0.25}
    changed = runs_of(tmp_path, tail=variants("a", more="seeds = [0, 1]\ntrain.lr = 0.7"))
    assert read(path, changed).empty


def test_a_process_that_dies_costs_its_run_alone(tmp_path: Path) -> None:
    first, second = runs_of(tmp_path, "seconds = 1000", tail=variants("a", more="seeds = [0, 1]"))
    done: list[Any] = []
    failed: list[Any] = []

    def kill() -> None:
        while not (run_folder(tmp_path, first) / "run.json").exists():
            time.sleep(0.02)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    short = replace(second, unit="examples", amount=32.0)
    run_all([first, short], 1, tmp_path, lambda run, _: done.append(run.seed), lambda run, fault: failed.append((run.seed, fault)))
    killer.join()
    assert failed == [(0, "its process ended with status -9")] and done == [1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_goes_on_when_it_is_stopped(tmp_path: Path, number: int, status: int) -> None:
    path = write_plan(tmp_path, "seconds = 1000")
    command = [sys.executable, str(ROOT / "scripts" / "ablate.py"), str(path), "--runs", str(tmp_path / "records"), "--parallel", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 240
        while not list((tmp_path / "records").glob("*/run.json")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        said = process.communicate(timeout=240)[1]
        assert process.returncode == status
        assert "Traceback" not in said and ("what was finished is kept" in said) == (status == 130)
        _, alive = psutil.wait_procs(children, timeout=240)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
