"""What is written to a run folder is read back, and a full disk or a kill costs as little as it can."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.task import make_grid
from hrm_submit.core.errors import SolveError
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Progress, RunStart
from hrm_submit.record.folder import RunWriter, read_run, run_of, training_warning
from hrm_submit.record.predictions import parse_prediction
from tests.events import event


def writer(folder: Path) -> RunWriter:
    ticks = iter(range(1000))
    return RunWriter(folder, lambda: float(next(ticks)))


CANDIDATES = [Candidate(make_grid([[1, 2]]), 3, -0.5, 3.25)]


def test_round_trip(tmp_path: Path) -> None:
    run = writer(tmp_path / "a" / "run")
    run.describe({"seed": 5, "budget": 9.0})
    run.describe({"seed": 7})
    run.event(RunStart(12.5, 3, ["t2"], 0))
    run.event(Progress(40, None, 0.25, task="t1", worker=3))
    run.prediction("t1", 0, True, CANDIDATES)
    record = read_run(tmp_path / "a" / "run")
    assert record.run == {"v": 1, "seed": 7, "budget": 9.0}, "what is described later is added"
    assert record.events == [RunStart(12.5, 3, ["t2"], 0, t=0.0), Progress(40, None, 0.25, t=1.0, task="t1", worker=3)]
    (line,) = (tmp_path / "a" / "run" / "predictions.jsonl").read_text().splitlines()
    candidates = '[{"grid":[[1,2]],"votes":3,"score":-0.5,"weight":3.25}]'
    assert line == f'{{"v":1,"t":2.0,"attempt":1,"task":"t1","output":0,"final":true,"votes":3,"candidates":{candidates}}}'
    (read,) = record.predictions
    assert read.to_json() == json.loads(line)
    old = {key: value for key, value in json.loads(line).items() if key != "votes"}
    assert parse_prediction(old).votes == 3, "earlier versions did not tell the votes of all candidates"
    run.prediction("t1", 1, True, [Candidate(make_grid([[k]]), 9 - k, -0.5) for k in range(10)] + CANDIDATES * 2)
    whole = read_run(tmp_path / "a" / "run").predictions[1]
    assert (whole.votes, len(whole.candidates)) == (51, 10)
    assert record.damaged == []


HALF = b'{"v":1,"t":3,"eve'
"""A line as a killed run leaves it, which must not spoil the next one."""
CORRUPT = [HALF, b"[1, 2]\n", b'{"v": 2, "t": 1, "event": "run_end"}\n', b"\0\0\0\n", b'{"a": ' + b"[" * 100_000 + b"\n", b'"\xff"\n']


@pytest.mark.parametrize(
    ("file", "content", "where"),
    [("events.jsonl", b'{"v":1,"t":0,"event":"run_start"}\n' + c, "events.jsonl:2: ") for c in CORRUPT]
    + [("run.json", c, "run.json: ") for c in (b"", b"{", b"[1]", b"null", b"\xff\xfe")],
)
def test_what_is_corrupt_is_named_and_everything_else_is_read(tmp_path: Path, file: str, content: bytes, where: str) -> None:
    run = writer(tmp_path)
    run.describe({})
    (tmp_path / file).write_bytes(content)
    writer(tmp_path).event(event("run_end"))
    record = read_run(tmp_path)
    assert [e.kind for e in record.events] == ["run_start", "run_end"][file == "run.json" :]
    assert record.run == ({} if file == "run.json" else {"v": 1})
    (fault,) = record.damaged
    assert fault.startswith(where)


def test_lines_that_a_full_disk_refused_are_written_later_whole_and_once(tmp_path: Path) -> None:
    run = writer(tmp_path)
    run.event(event("run_start"))
    room = (tmp_path / "events.jsonl").stat().st_size + 100  # the next line fits, and a part of the one after it
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        for task in ("t1", "t2", "t3"):
            run.event(event("progress", task, 0))
        run.prediction("t1", 0, False, CANDIDATES)
        assert run.flush() is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert run.flush() is True
    run.event(event("run_end"))
    record = read_run(tmp_path)
    assert [e.task for e in record.events] == [None, "t1", "t2", "t3", None]
    assert [p.task for p in record.predictions] == ["t1"]
    assert all(fault.startswith("run.json") for fault in record.damaged)
    assert (tmp_path / "events.jsonl").read_text().count('"t2"') == 1


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = writer(folder)
    run.event(event("run_start"))
    (folder / "events.jsonl").unlink()
    folder.rmdir()
    run.prediction("t1", 0, True, CANDIDATES)
    run.describe({"seed": 1})
    record = read_run(folder)
    assert record.run["seed"] == 1 and [p.final for p in record.predictions] == [True]


def test_an_event_waits_for_the_predictions_before_it(tmp_path: Path) -> None:
    run = writer(tmp_path)
    (tmp_path / "predictions.jsonl").mkdir()
    run.prediction("t1", 0, True, CANDIDATES)
    run.event(event("task_final", "t1"))
    assert run.flush() is False and (tmp_path / "events.jsonl").read_bytes() == b""
    (tmp_path / "predictions.jsonl").rmdir()
    run.event(event("run_end"))
    record = read_run(tmp_path)
    assert [e.kind for e in record.events] == ["task_final", "run_end"] and len(record.predictions) == 1


def test_a_place_that_cannot_be_a_run_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd" / "events.jsonl").mkdir(parents=True)
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/run"), tmp_path / "odd"):
        with pytest.raises(SolveError, match="run folder cannot be written") as caught:
            writer(place)
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)


def test_reading_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(SolveError, match="no such run folder"):
        read_run(tmp_path / "none")
    record = read_run(tmp_path)
    assert (record.run, record.events, record.predictions) == ({}, [], [])


def test_weights_that_know_tasks_of_the_run_are_told() -> None:
    told = training_warning({"trained_on": ["t1", "t2"], "checkpoint": "w.safetensors"})
    assert told == "w.safetensors was trained on 2 of these tasks, the first is t1: a score of them says nothing"
    assert "gpu-small starts from random weights" in str(training_warning({"presets": "gpu-small", "checkpoint": None}))
    assert training_warning({"trained_on": []}) is None and training_warning({}) is None and training_warning({"trained_on": 5}) is None


@pytest.mark.parametrize("folder", ["submission.json.run", "run"])
def test_the_run_of_a_submission_is_found_in_its_default_folder_and_in_the_notebooks(tmp_path: Path, folder: str) -> None:
    writer(tmp_path / folder).describe({"output": "/kaggle/working/submission.json"})
    assert run_of(tmp_path / "submission.json") != {}
    assert (run_of(tmp_path / "other.json") != {}) is False


def test_predictions_have_the_number_of_the_attempt_that_made_them(tmp_path: Path) -> None:
    for _ in range(2):
        run = writer(tmp_path)
        run.event(event("run_start"))
        run.prediction("t1", 0, False, CANDIDATES)
    assert [p.attempt for p in read_run(tmp_path).predictions] == [1, 2]
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text().replace('"attempt":1', '"attempt":7'))
    assert [p.attempt for p in read_run(tmp_path).predictions] == [2, 2], "there are only two"
    lines = [{"v": 1, "t": t, "task": "a", "output": 0, "final": False, "candidates": []} for t in (10, 28, 24, 25)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [p.attempt for p in read_run(tmp_path).predictions] == [1, 1, 2, 2], "earlier versions did not tell: time runs backwards"


def test_a_damaged_start_costs_no_attempt_its_number(tmp_path: Path) -> None:
    for _ in range(2):
        run = writer(tmp_path)
        run.event(event("run_start"))
        run.event(Progress(40, None, 0.25, task="t1", worker=3))
        run.prediction("t1", 0, False, CANDIDATES)
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\0\n" + path.read_bytes().partition(b"\n")[2])
    record = read_run(tmp_path)
    assert [p.attempt for p in record.predictions] == [1, 2] and len(record.state.attempts) == 2


@pytest.mark.parametrize("field", [{"votes": -1}, {"votes": 10**400}, {"score": float("nan")}, {"weight": 1e300}, {"grid": [[99]]}])
def test_a_prediction_with_a_candidate_that_is_none_is_left_out_and_named(tmp_path: Path, field: dict[str, Any]) -> None:
    candidate = {"grid": [[1]], "votes": 1, "score": 0.0, **field}
    lines = [{"v": 1, "t": 1, "task": "a", "output": 0, "final": True, "candidates": [c]} for c in (candidate, CANDIDATES[0].to_json())]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = read_run(tmp_path)
    assert len(record.predictions) == 1 and record.damaged[1].startswith("predictions.jsonl:1: a prediction of task 'a': ")
