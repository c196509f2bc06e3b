"""Runs in parallel, and what is kept of them when some fail, die or are stopped."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import ablate
import psutil
import pytest
from kaggle_kit.paths import ROOT
from lab.ablation_command import run_all, run_folder

from tests.run.lab import wait_for
from tests.scripts.lab.ablation_lab import runs_of, variants, write_plan


@pytest.mark.slow
def test_starting_again_does_only_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(tmp_path / "records")]
    too_large = variants("too large", more="model = { hidden_size = 983040, num_heads = 61440, puzzle_emb_ndim = 16 }")
    path = write_plan(tmp_path, tail=variants("a", "b") + too_large)
    results = path.with_suffix(".csv")
    assert ablate.main([str(path), *options, "--parallel", "2"]) == 1, "one run fails, the others are done"
    said = capsys.readouterr()
    failed = [line for line in said.err.splitlines() if "failed" in line]
    assert len(failed) == 1 and "too large, seed 0: failed: RuntimeError" in failed[0]
    first = results.read_text()
    assert [line.split(",")[0] for line in first.splitlines()] == ["variant", "a"], "a and b come to the same: one run serves both"
    assert said.out.count("a      1") == 1 and said.out.count("b      1") == 1

    path = write_plan(tmp_path, tail=variants("a", "b") + variants("c", more="train.lr = 1e-3"))
    assert ablate.main([str(path), *options, "--only", "a"]) == 0 and results.read_text() == first
    assert ablate.main([str(path), *options]) == 0
    assert results.read_text().startswith(first) and [x.split(",")[0] for x in results.read_text().splitlines()[2:]] == ["c"]
    table = path.with_suffix(".md").read_text()
    assert "3 tasks, 320 examples a run" in table and table.count("\n| ") == 5 and "missing" not in table
    records = [p.name for p in (tmp_path / "records").iterdir() if (p / "weights.safetensors").exists()]
    assert len(records) == 2


def test_a_process_that_dies_costs_its_run_alone(tmp_path: Path) -> None:
    first, second = runs_of(tmp_path, "seconds = 1000", tail=variants("a", more="seeds = [0, 1]"))

    def kill() -> None:
        while not (run_folder(tmp_path, first) / "run.json").exists():
            time.sleep(0.02)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    short = replace(second, plan=replace(second.plan, seconds=0.0, examples=32.0), amount=32.0)
    ended = [(run.seed, bool(figures), fault) for run, figures, fault in run_all([first, short], 1, tmp_path)]
    killer.join()
    assert ended == [(0, False, "its process died"), (1, True, "")]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_goes_on_when_it_is_stopped(tmp_path: Path, number: int, status: int) -> None:
    path = write_plan(tmp_path, "seconds = 1000", variants("a", more="seeds = [0, 1]"))
    command = [sys.executable, str(ROOT / "scripts" / "ablate.py"), str(path), "--runs", str(tmp_path / "records"), "--parallel", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for(lambda: list((tmp_path / "records").glob("*/run.json")), process, 240)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.kill()
        said = process.communicate(timeout=240)[1]
        assert process.returncode == status
        assert "Traceback" not in said and ("finished runs are kept" in said) == (status == 130)
        _, alive = psutil.wait_procs(children, timeout=240)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
        assert len(list((tmp_path / "records").glob("*/run.json"))) == 1, "the run that waited was not begun"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
