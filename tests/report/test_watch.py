"""A run followed while a test writes it: what is said at each look, and that nothing on disk can stop the looking."""

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


Line = tuple[float, str, str | None, dict[str, Any]]
"""Time, kind, task and fields of an event; of worker 0."""


def solved(t: float, task: str, exact: float = 1.0) -> list[Line]:
    """A task solved in the ten seconds from `t`."""
    progress = (t, "progress", task, {"segments": 40, "loss": 0.25, "demo_exact": exact})
    return [(t, "task_start", task, {"seconds": 10.0}), progress, (t + 10, "task_final", task, {"segments": 40, "reason": "share used"})]


def written(folder: Path, lines: list[Line], **described: Any) -> Written:
    """A run of three tasks by one worker that is ready after ten seconds, with these lines."""
    run = Written(run_in(folder), **described)
    run.begin(["a", "b", "c"])
    for t, kind, task, fields in lines:
        run.tell(t, kind, task, 0, **fields)
    return run


def test_what_each_worker_is_at_follows_from_the_events_and_the_time_since(tmp_path: Path) -> None:
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
    told = {"worker": "1", "device": "cuda:0", "task": "a", "phase": "training", "for": "15.0s", "of": "1m30s"}
    assert row == told | {"segments": "33", "loss": "0.500", "demonstrations": "25%"}
    run.tell(20, "candidates", "a", 1, segments=33, votes=[[3]])
    assert table(looked(run.directory))[1]["phase"] == "training"
    run.tell(20, "progress", "a", 1, segments=99, loss=None, demo_exact=1.0)
    run.tell(20, "task_final", "a", 1, segments=99, votes=[[5]], seconds=15.0, reason="votes agree")
    _, counts, *rest = looked(run.directory)
    assert counts.startswith("3 of 5 tasks done, 1 fit their demonstrations;")
    assert {table(rest)[1][name] for name in ("task", "segments", "loss", "of")} == {""}

    run.tell(20, "worker_exit", None, 0, code=-9, reason="worker died")
    _, counts, *rest = looked(run.directory, 400.0)
    assert counts.endswith("7m00s gone, 3m00s left"), "time goes on between lines"
    assert [(row["worker"], row["for"]) for row in table(rest)] == [("1", "6m40s")] and rest[-1] == "last line 6m40s ago"
    assert looked(run.directory, 700.0)[-1] == "last line 11m40s ago; the run may have been killed"


FAILED: Line = (10, "task_failed", "a", {"reason": "RuntimeError: no"})
TWICE = [(10, "task_start", "a", {}), FAILED, (10, "retry", "a", {}), (10, "task_start", "a", {})]
AGAIN = [(30, "task_start", "a", {"restart": 2}), (30, "task_failed", "a", {"reason": "worker died", "restart": 2})]
RESUMED = [(0, "run_start", None, {"budget": 50.0, "tasks": 3, "resumed": 1}), (0, "plan", None, {"todo": ["b", "c"]})]


@pytest.mark.parametrize(
    ("lines", "fit", "said"),
    [
        (solved(10, "a", 0.6), 0.5, "1 of 3 tasks done, 1 fit their demonstrations; 20.0s gone, 16m20s left"),
        (solved(10, "a", 0.6), 0.7, "1 of 3 tasks done, 0 fit their demonstrations; 20.0s gone, 16m20s left"),
        ([*solved(10, "a", 0.8), *solved(20, "b", 0.9)], None, "2 of 3 tasks done, 1 fit their demonstrations; 30.0s gone, 16m10s left"),
        (TWICE, None, "0 of 3 tasks done, 0 fit their demonstrations, 1 tried again; 10.0s gone, 16m30s left"),
        ([*TWICE, FAILED], None, "1 of 3 tasks done, 0 fit their demonstrations, 1 tried again, 1 given up; 10.0s gone, 16m30s left"),
        ([*solved(10, "a"), *solved(20, "a"), *AGAIN], None, "1 of 3 tasks done, 1 fit their demonstrations; 30.0s gone, 16m10s left"),
        ([*solved(10, "a"), *RESUMED], None, "1 of 3 tasks done, 0 fit their demonstrations; 0.0s gone, 50.0s left"),
    ],
    ids=["fit", "not fit", "fit by default", "tried again", "given up", "retrained", "resumed"],
)
def test_tasks_are_counted_once(tmp_path: Path, lines: list[Line], fit: float | None, said: str) -> None:
    """Fit is what the run's preset says or, by default, 0.9."""
    run = written(tmp_path, lines, **({} if fit is None else {"config": {"ttt": {"fit": fit}}}))
    _, counts, following, *_ = looked(run.directory)
    assert counts == said
    assert (following == "latest trouble: a: RuntimeError: no") == (FAILED in lines)


def test_a_run_that_was_stopped_has_neither_failed_nor_given_up(tmp_path: Path) -> None:
    begun: list[Line] = [(20, "task_start", "b", {"seconds": 9.0}), (22, "progress", "b", {"segments": 9, "demo_exact": 0.5})]
    run = written(tmp_path, [*solved(10, "a"), *begun])
    for task in ("b", "c"):
        run.tell(25, "task_failed", task, reason="interrupted")
    run.tell(25, "run_end")
    left = "2 left when the run was stopped (the same command resumes)"
    assert looked(run.directory)[1:] == [f"1 of 3 tasks done, 1 fit their demonstrations, {left}; ended after 25.0s"]
    state = read_run(run.directory).state
    assert [task.failures for task in state.tasks.values()] == [0, 0, 0] and state.trainings[1].outcome == "interrupted"
    assert [s.phase for s in state.stretches[-2:]] == ["training", "training"]


def test_following_waits_for_the_folder_and_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, shown = tmp_path / "run", list[list[str]]()

    def append(text: str) -> None:
        with (folder / "events.jsonl").open("a") as file:
            file.write(text)

    def half_a_line() -> None:
        written(tmp_path, solved(10, "a"))
        append('{"v":1,"t":20.5,"event":"run_e')

    def begin() -> None:
        written(tmp_path, [])

    steps = iter([folder.mkdir, begin, half_a_line, lambda: append('nd","task":null,"worker":null}\n')])

    def sleep(seconds: float) -> None:
        assert seconds == 3.0
        next(steps)()

    monkeypatch.setattr("hrm_submit.report.watch.time.sleep", sleep)
    follow(folder, 3.0, shown.append)
    assert next(steps, None) is None
    waiting = [f"waiting for a run in {folder}"]
    assert shown[:2] == [waiting, waiting]
    assert [lines[1].split(",")[0] for lines in shown[2:]] == ["0 of 3 tasks done", "1 of 3 tasks done", "1 of 3 tasks done"]
    assert shown[-1][1:] == ["1 of 3 tasks done, 1 fit their demonstrations; ended after 20.5s"]


def test_a_pre_training_is_followed_too(tmp_path: Path) -> None:
    def metrics(**line: Any) -> None:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    (tmp_path / "metrics.svg").write_text("<svg/>")
    os.utime(tmp_path / "metrics.svg", (0, 0))
    whole = {"segment": 40, "seconds": 30.0, "loss": 1.25, "exact": 0.125, "examples_per_second": 812.4, "progress": 0.25}
    metrics(**whole)
    figures = "segment 40, seconds 30, loss 1.25, exact 0.125, examples_per_second 812.4, progress 0.25"
    assert look(tmp_path, 0.0)[0][1:3] == [figures, "1m30s left"]
    metrics(**{"segment": 40, "seconds": 33.0, "validation_pass@2": 0.2, "validation_tasks": 9})
    metrics(**whole | {"segment": 80, "seconds": 120.0, "loss": None, "progress": 1.0})
    lines, ended = look(tmp_path, 0.0)
    assert lines[1:4] == [
        "segment 80, seconds 120, loss not finite, exact 0.125, examples_per_second 812.4, progress 1",
        "segment 40, seconds 33, validation_pass@2 0.2, validation_tasks 9",
        "0.0s left",
    ]
    assert not ended, "the picture is that of an attempt before; the last exports are still to come"
    (tmp_path / "metrics.svg").write_text("<svg/>")
    lines, ended = look(tmp_path, 0.0)
    assert lines[3] == "ended after 2m00s" and ended


def test_the_command_says_how_a_run_stands_and_follows_it_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--run-dir", str(tmp_path), "--once"]) == 2
    assert capsys.readouterr().err == f"hrm-submit: {tmp_path}: there is no run here, neither of solve nor of pretrain\n"
    run = written(tmp_path, [(10, "run_end", None, {})])
    expected = f"{run.directory}:\n0 of 3 tasks done, 0 fit their demonstrations; ended after 10.0s\n"
    for more in (["--once"], ["--every", "5m"]):
        assert main(["watch", "--run-dir", str(run.directory), *more]) == 0
        assert capsys.readouterr().out == expected
    assert main(["watch", "--run-dir", str(tmp_path), "--every", "soon"]) == 2
