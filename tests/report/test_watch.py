"""A run followed while a test writes it: what is said at each look, and that nothing on disk can stop the looking."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.record.folder import read_run
from hrm_submit.report.watch import follow, look
from tests.report.lab import Written, run_in


def table(lines: list[str]) -> list[dict[str, str]]:
    """The rows of the workers' table, by the names of its columns, which end where the columns of text end."""
    at = next(k for k, line in enumerate(lines) if line.strip().startswith("worker"))
    ends = [m.end() for m in re.finditer(r"\S+", lines[at])]
    names = lines[at].split()
    rows = []
    for line in lines[at + 1 :]:
        if line.startswith("last line"):
            break
        rows.append({name: line[a:b].strip() for name, a, b in zip(names, [0, *ends], ends, strict=False)})
    return rows


def looked(folder: Path, age: float = 0.0) -> list[str]:
    """A look `age` seconds after the events were last written."""
    return look(folder, (folder / "events.jsonl").stat().st_mtime + age)[0]


def solve(run: Written, t: float, task: str) -> None:
    """Solve a task in the ten seconds from `t`."""
    run.tell(t, "task_start", task, 0, seconds=10.0)
    run.tell(t, "progress", task, 0, segments=40, loss=0.25, demo_exact=1.0)
    run.tell(t + 10, "task_final", task, 0, segments=40, reason="share used")


def test_what_each_worker_is_at_follows_from_the_events(tmp_path: Path) -> None:
    run = Written(run_in(tmp_path))
    run.tell(0, "run_start", budget=600.0, tasks=9, broken=[], resumed=2)
    run.tell(0, "plan", todo=["a", "b", "c"], workers=2, devices=["cpu", "cuda:0"])
    run.tell(0, "worker_start", worker=0, device="cpu")
    run.tell(0, "worker_start", worker=1, device="cuda:0")
    run.tell(5, "worker_start", worker=1, ready=True, device="cuda:0")
    _, counts, *rest = looked(run.directory)
    assert counts == "2 of 5 tasks done, 0 fit their demonstrations; 5.0s gone, 9m55s left"
    assert [(row["worker"], row["device"], row["phase"]) for row in table(rest)] == [("0", "cpu", "starting"), ("1", "cuda:0", "waiting")]

    run.tell(5, "task_start", "a", 1, seconds=90.0, segments=None, attempt=1)
    run.tell(20, "progress", "a", 1, segments=33, loss=0.5, demo_exact=0.25)
    (_, row) = table(looked(run.directory))
    told = {"worker": "1", "device": "cuda:0", "task": "a", "phase": "voting", "for": "15.0s", "of": "1m30s"}
    assert row == told | {"segments": "33", "loss": "0.500", "demonstrations": "25%"}
    run.tell(20, "candidates", "a", 1, segments=33, votes=[[3]])
    assert table(looked(run.directory))[1]["phase"] == "training"
    run.tell(20, "progress", "a", 1, segments=99, loss=None, demo_exact=1.0)
    run.tell(20, "task_final", "a", 1, segments=99, votes=[[5]], seconds=15.0, reason="votes agree")
    _, counts, *rest = looked(run.directory)
    assert counts.startswith("3 of 5 tasks done, 1 fit their demonstrations;")
    assert {table(rest)[1][name] for name in ("task", "segments", "loss", "of")} == {""}

    run.tell(20, "worker_exit", None, 0, code=-9, reason="worker died")
    assert [row["worker"] for row in table(looked(run.directory))] == ["1"]


def test_tasks_that_fail_are_counted_when_they_are_given_up(tmp_path: Path) -> None:
    run = Written(run_in(tmp_path))
    run.tell(0, "run_start", budget=None, tasks=3, broken=[], resumed=0)
    for attempt in (1, 2):
        run.tell(0, "task_start", "a", 0, seconds=None, segments=5, attempt=attempt)
        run.tell(0, "task_failed", "a", 0, reason="RuntimeError: no", attempt=attempt)
        if attempt == 1:
            run.tell(0, "retry", "a", 0)
            assert "0 of 3 tasks done, 0 fit their demonstrations, 1 tried again; 0.0s gone" in looked(run.directory)
    _, counts, trouble, *_ = looked(run.directory)
    assert counts == "1 of 3 tasks done, 0 fit their demonstrations, 1 tried again, 1 given up; 0.0s gone"
    assert trouble == "latest trouble: a: RuntimeError: no"


def test_a_run_that_was_stopped_has_neither_failed_nor_given_up(tmp_path: Path) -> None:
    run = Written(run_in(tmp_path))
    run.begin(["a", "b", "c"])
    solve(run, 10, "a")
    run.tell(20, "task_start", "b", 0, seconds=9.0)
    run.tell(22, "progress", "b", 0, segments=9, loss=0.5, demo_exact=0.5)
    for task in ("b", "c"):
        run.tell(25, "task_failed", task, reason="interrupted")
    run.tell(25, "run_end")
    left = "2 left when the run was stopped (the same command resumes)"
    assert looked(run.directory)[1:] == [f"1 of 3 tasks done, 1 fit their demonstrations, {left}; ended after 25.0s"]
    state = read_run(run.directory).state
    assert [task.failures for task in state.tasks.values()] == [0, 0, 0] and state.trainings[1].outcome == "interrupted"
    assert [s.phase for s in state.stretches[-2:]] == ["training", "training"]


def test_a_retrained_task_counts_once_and_a_resumed_run_keeps_what_was_done(tmp_path: Path) -> None:
    run = Written(run_in(tmp_path))
    run.begin(["a", "b", "c"])
    solve(run, 10, "a")
    solve(run, 20, "a")
    run.tell(30, "task_start", "a", 0, seconds=9.0, segments=None, restart=2)
    run.tell(30, "task_failed", "a", 0, reason="worker died", restart=2)
    assert looked(run.directory)[1].startswith("1 of 3 tasks done, 1 fit their demonstrations; 30.0s gone")
    run.tell(0, "run_start", budget=50.0, tasks=3, broken=[], resumed=1)
    run.tell(0, "plan", todo=["b", "c"], workers=1, devices=["cpu"])
    assert looked(run.directory)[1] == "1 of 3 tasks done, 0 fit their demonstrations; 0.0s gone, 50.0s left"


def test_time_goes_on_between_lines_and_long_silence_is_pointed_out(tmp_path: Path) -> None:
    run = Written(run_in(tmp_path))
    run.begin(["a"])
    lines = looked(run.directory, 700.0)
    assert "11m50s gone, 4m50s left" in lines[1]
    assert lines[-1].startswith("last line 11m40s ago; the run may have been killed")
    assert table(lines)[0]["for"] == "11m40s"


def test_following_waits_for_the_folder_and_ends_with_the_run(tmp_path: Path) -> None:
    folder, shown, runs = tmp_path / "run", list[list[str]](), list[Written]()

    def write(text: str) -> None:
        with (folder / "events.jsonl").open("a") as file:
            file.write(text)

    def begin() -> None:
        runs.append(Written(run_in(tmp_path)))
        runs[0].begin(["a"])

    def half_a_line() -> None:
        solve(runs[0], 10, "a")
        write('{"v":1,"t":20.5,"event":"run_e')

    steps = iter([lambda: folder.mkdir(), begin, half_a_line, lambda: write('nd","task":null,"worker":null}\n')])

    def sleep(seconds: float) -> None:
        assert seconds == 3.0
        next(steps)()

    follow(folder, 3.0, shown.append, sleep)
    assert next(steps, None) is None
    waiting = [f"waiting for a run in {folder}"]
    assert shown[:2] == [waiting, waiting]
    assert [lines[1].split(",")[0] for lines in shown[2:]] == ["0 of 1 tasks done", "1 of 1 tasks done", "1 of 1 tasks done"]
    assert shown[-1][1:] == ["1 of 1 tasks done, 1 fit their demonstrations; ended after 20.5s"]


def metrics(folder: Path, **line: Any) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_pre_training_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.svg").write_text("<svg/>")
    os.utime(tmp_path / "metrics.svg", (0, 0))
    whole = {"segment": 40, "seconds": 30.0, "loss": 1.25, "exact": 0.125, "cells": 0.5, "examples_per_second": 812.4, "progress": 0.25}
    metrics(tmp_path, **whole)
    assert look(tmp_path, 0.0)[0][1] == "segment 40: loss 1.250, exact 12.5%, 812 examples/s, 25% done, 1m30s left"
    metrics(tmp_path, **{"segment": 40, "seconds": 33.0, "validation_pass@1": 0.1, "validation_pass@2": 0.2, "validation_tasks": 9})
    metrics(tmp_path, **whole | {"segment": 80, "seconds": 120.0, "loss": None, "progress": 1.0})
    lines, ended = look(tmp_path, 0.0)
    assert lines[1:3] == [
        "segment 80: loss not finite, exact 12.5%, 812 examples/s, 100% done, 0.0s left",
        "validation at segment 40: pass@2 20.0%",
    ]
    assert not ended, "the picture is that of an attempt before; the last exports are still to come"
    (tmp_path / "metrics.svg").write_text("<svg/>")
    lines, ended = look(tmp_path, 0.0)
    assert lines[1].endswith("100% done, ended after 2m00s") and ended


def test_the_command_says_how_a_run_stands_and_follows_it_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--run-dir", str(tmp_path), "--once"]) == 2
    assert capsys.readouterr().err == f"hrm-submit: {tmp_path}: there is no run here, neither of solve nor of pretrain\n"
    run = Written(run_in(tmp_path))
    run.begin(["a"])
    run.tell(10, "run_end")
    expected = f"{run.directory}:\n0 of 1 tasks done, 0 fit their demonstrations; ended after 10.0s\n"
    for more in (["--once"], ["--every", "5m"]):
        assert main(["watch", "--run-dir", str(run.directory), *more]) == 0
        assert capsys.readouterr().out == expected
    assert main(["watch", "--run-dir", str(tmp_path), "--every", "soon"]) == 2


@pytest.mark.parametrize(("fit", "counted"), [(0.5, 1), (0.7, 0), (None, 0)])
def test_what_counts_as_fit_is_what_the_runs_preset_says(tmp_path: Path, fit: float | None, counted: int) -> None:
    """Of a run that does not say, it is the default, 0.9."""
    run = Written(run_in(tmp_path), **({} if fit is None else {"config": {"ttt": {"fit": fit}}}))
    run.begin(["a"])
    run.tell(10, "task_start", "a", 0, segments=5)
    run.tell(10, "progress", "a", 0, segments=5, loss=0.5, demo_exact=0.6)
    run.tell(10, "task_final", "a", 0, segments=5, votes=[[5]], reason="share used")
    assert f"{counted} fit their demonstrations" in looked(run.directory)[1]
