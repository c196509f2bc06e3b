"""What a run leaves: predictions, plans and the submission tell the same, and a full disk delays them but loses nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.run.protocol import Assignment, WorkerSpec
from hrm_submit.solver.messages import Progress
from tests.run.fake_pool import Script, Timeline, answer


def test_predictions_and_submission_tell_the_same(play: Any) -> None:
    run = play(Script(), tasks=2)
    for task in ("t0", "t1"):
        lines = [p for p in run.record.predictions if p.task == task]
        assert [p.final for p in lines] == [False, True]
        assert lines[-1].candidates[0].grid.tolist() == run.first(task)


def test_a_last_vote_without_a_grid_keeps_what_was_there(play: Any) -> None:
    class Lost(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            empty = replace(answer(assignment, 0), outputs=((),))
            return [(1.0, answer(assignment, 6, final=False)), (2.0, empty)]

    run = play(Lost(), tasks=1)
    assert run.first("t0") == [[6]]
    last = run.record.predictions[-1]
    assert last.final and last.candidates[0].grid.tolist() == [[6]]


def test_a_loss_that_is_no_number_is_written_as_none(play: Any) -> None:
    class Lost(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, Progress(assignment.task.id, 3, float("nan"), 0.0)), *super().on_task(spec, assignment)]

    run = play(Lost(), tasks=1)
    assert run.events("progress")[0]["loss"] is None and run.record.damaged == []


def test_how_each_worker_runs_stands_in_the_description(play: Any) -> None:
    run = play(Script(), tasks=2, devices=("cuda:0", "cpu"))
    assert run.record.run["workers"] == {"0": {"device": "cuda:0"}, "1": {"device": "cpu"}}


Refuses = Callable[[int], bool]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Refuses], list[int]]:
    """Make a disk refuse the k-th writing of a submission where a rule says so; returns the numbers of those that it refused."""
    real = os.replace

    def install(refuses: Refuses) -> list[int]:
        writes, refused = [0], []

        def replace_file(source: Any, target: Any) -> None:
            if "submission" in str(target):
                writes[0] += 1
                if refuses(writes[0]):
                    refused.append(writes[0])
                    raise OSError(28, "No space left on device")
            real(source, target)

        monkeypatch.setattr(os, "replace", replace_file)
        return refused

    return install


def test_a_full_disk_under_the_submission_does_not_stop_the_run(play: Any, disk: Any) -> None:
    refused = disk(lambda k: 3 <= k < 7)
    run = play(Script(), tasks=4)
    assert refused == [3, 4, 5, 6]
    assert all(run.first(f"t{k}") == [[2]] for k in range(4)), "what was refused is written later"
    notes = run.events("flush")
    assert notes and notes[0]["failed"] == "submission" and "No space left" in notes[0]["reason"]


def test_a_disk_that_stays_full_is_not_told_at_every_tick(play: Any, disk: Any) -> None:
    refused = disk(lambda k: k > 1)
    run = play(Script(), tasks=2)
    assert len(refused) > 10 and len(run.events("flush")) == 1
