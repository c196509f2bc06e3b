"""Stretches and trainings from events written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrm_submit.report.draw.charts import gantt
from hrm_submit.report.run.findings import usage
from hrm_submit.report.run.load import load_run
from hrm_submit.report.run.timeline import Timeline, read_timeline
from tests.report.lab import Lines, Run, small_run

NOTHING = {"a": [[[1]]], "b": [[[1]]]}


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A run of tasks a and b that has not begun."""
    return Lines(small_run(tmp_path, NOTHING, {}))


def timeline_of(run: Run) -> Timeline:
    return read_timeline(load_run(run.directory).turns)


def told(timeline: Timeline) -> list[tuple[int, int, str | None, int, str, float, float]]:
    return [(s.turn, s.worker, s.task, s.training, s.phase, s.start, s.end) for s in timeline.stretches]


def test_a_stretch_is_named_by_what_ends_it(lines: Lines) -> None:
    lines.begin(["a"])
    lines.event(11, "task_start", "a", 0, seconds=40.0, segments=None, attempt=1)
    lines.event(20, "progress", "a", 0, segments=5, loss=2.0, demo_exact=0.25)
    lines.event(22, "candidates", "a", 0, segments=5)
    lines.event(30, "progress", "a", 0, segments=9, loss=1.0, demo_exact=0.5)
    lines.event(35, "task_final", "a", 0, segments=9, seconds=24.0, reason="votes agree")
    lines.event(36, "run_end")
    lines.write()
    timeline = timeline_of(lines.run)
    assert told(timeline) == [
        (0, 0, None, 0, "loading", 0, 10),
        (0, 0, "a", 1, "training", 11, 20),
        (0, 0, "a", 1, "vote", 20, 22),
        (0, 0, "a", 1, "training", 22, 30),
        (0, 0, "a", 1, "vote", 30, 35),
    ]
    (training,) = timeline.trainings
    assert (training.seconds, training.planned, training.segments, training.outcome) == (24, 40, 9, "votes agree")
    assert [(p.t, p.segments, p.loss, p.demo_exact) for p in training.points] == [(20, 5, 2.0, 0.25), (30, 9, 1.0, 0.5)]
    used = usage(timeline)
    assert used.phases == {"loading": 10, "training": 17, "vote": 7, "lost": 0}
    assert used.total == 36 and used.idle == pytest.approx(2)


def test_workers_of_a_cluster_stand_with_their_nodes(lines: Lines) -> None:
    lines.event(0, "run_start", budget=60.0, tasks=1)
    for number, place in enumerate(("10.0.0.2/cpu", "10.0.0.1/cuda:0", "10.0.0.2/cpu", "cpu")):
        lines.event(1, "worker_start", worker=number, device=place)
        lines.event(2 + number, "worker_start", worker=number, ready=True, device="cuda:0", dtype="float32")
    lines.write()
    timeline = timeline_of(lines.run)
    assert timeline.nodes == {0: "10.0.0.2", 1: "10.0.0.1", 2: "10.0.0.2"}
    drawn = gantt(timeline)
    places = [drawn.find(f">{label}<") for label in ("worker 3", "10.0.0.1, worker 1", "10.0.0.2, worker 0", "10.0.0.2, worker 2")]
    assert places == sorted(places) and places[0] > 0


def test_a_worker_that_dies_loses_its_task_to_another(lines: Lines) -> None:
    lines.begin(["a"], workers=1)
    lines.event(10, "task_start", "a", 0, seconds=50.0, attempt=1)
    lines.event(15, "progress", "a", 0, segments=3, loss=None, demo_exact=0.0)
    lines.event(18, "worker_exit", "a", 0, code=-9, reason="worker died")
    lines.event(18, "task_failed", "a", 0, reason="worker died (exit code -9)", attempt=1)
    lines.event(18, "retry", "a", 0)
    lines.event(18, "worker_start", worker=1, device="cpu")
    lines.event(25, "worker_start", worker=1, ready=True)
    lines.event(25, "task_start", "a", 1, seconds=30.0, attempt=2)
    lines.event(40, "task_final", "a", 1, segments=7, seconds=15.0, reason="share used")
    lines.write()
    timeline = timeline_of(lines.run)
    assert [(s.worker, s.training, s.phase, s.start, s.end, s.detail) for s in timeline.stretches] == [
        (0, 0, "loading", 0, 10, ""),
        (0, 1, "training", 10, 15, ""),
        (0, 1, "lost", 15, 18, "worker died"),
        (1, 0, "loading", 18, 25, ""),
        (1, 2, "vote", 25, 40, "share used"),
    ]
    assert timeline.failures["a"] == 1
    assert [(t.worker, t.number, t.outcome) for t in timeline.trainings] == [(0, 1, "worker died"), (1, 2, "share used")]


def test_what_runs_when_time_is_up_or_the_run_is_killed_is_lost(lines: Lines) -> None:
    lines.begin(["a", "b"], workers=3)
    lines.events = lines.events[:-1]  # the last worker never gets ready
    lines.event(10, "task_start", "a", 0, seconds=50.0)
    lines.event(10, "task_start", "b", 1, seconds=50.0)
    lines.event(20, "task_failed", "a", reason="time is up")
    lines.event(21, "flush")
    lines.write()
    timeline = timeline_of(lines.run)
    assert told(timeline)[2:] == [(0, 0, "a", 1, "lost", 10, 20), (0, 1, "b", 1, "lost", 10, 21), (0, 2, None, 0, "loading", 0, 21)]
    assert [t.outcome for t in timeline.trainings] == ["time is up", "cut short"]


def test_a_run_that_goes_on_has_turns_each_with_its_own_clock(lines: Lines) -> None:
    lines.begin(["a", "b"])
    lines.event(10, "task_start", "a", 0, seconds=50.0)
    lines.event(30, "progress", "a", 0, segments=3, loss=1.0, demo_exact=0.0)
    lines.begin(["a", "b"], t=1)
    lines.event(12, "task_start", "a", 0, seconds=20.0)
    lines.event(25, "task_final", "a", 0, segments=8, reason="share used")
    for t, output in ((28, [[3]]), (24, [[1]])):
        lines.prediction(t, "a", 0, False, [{"grid": output, "votes": 1, "score": -1}])
    lines.write()
    data = load_run(lines.run.directory)
    timeline = read_timeline(data.turns)
    assert timeline.ends == (30, 25)
    assert [(t.turn, t.number, t.start, t.end) for t in timeline.trainings] == [(0, 1, 10, 30), (1, 2, 12, 25)]
    assert [(s.turn, s.t) for s in data.snapshots] == [(0, 28), (1, 24)], "time that runs backwards is another turn"
    assert usage(timeline).total == 30 + 24


def test_events_out_of_the_ordinary_do_no_harm(lines: Lines) -> None:
    lines.begin(["a"])
    lines.event(11, "progress", "a", 0, segments=1, loss=1.0, demo_exact=0.0)
    lines.event(11, "task_final", "b", 5)
    lines.event(12, "task_start", "a", 0, seconds="soon")
    lines.event(13, "progress", "a", 0, segments="many", loss="low", demo_exact=None)
    lines.event(14, "task_start", "b", 0, seconds=3)
    lines.event(15, "something_new", "b", 0, field=[1, 2])
    lines.write()
    timeline = timeline_of(lines.run)
    assert [(s.task, s.phase, s.start, s.end, s.planned) for s in timeline.stretches[1:]] == [
        ("a", "training", 12, 13, None),
        ("a", "lost", 13, 14, None),
        ("b", "lost", 14, 15, 3),
    ]


def test_a_folder_without_events(lines: Lines) -> None:
    lines.write()
    timeline = timeline_of(lines.run)
    assert timeline.ends == (0.0,) and usage(timeline).total == 0
