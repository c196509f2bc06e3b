"""Who gets how long and when a run ends: the supervisor on a clock that a test moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.run.protocol import Assignment, WorkerSpec
from hrm_submit.solver.messages import Progress
from tests.run.fake_pool import Script, Timeline, alive, answer, candidate
from tests.run.stage import BUDGET, HARD_END, SHARES_END


@pytest.mark.parametrize(("tasks", "workers"), [(4, 1), (5, 2), (7, 3), (2, 4), (20, 4), (3, 2)])
def test_every_task_has_a_share_and_an_answer_and_workers_end_together(play: Any, tasks: int, workers: int) -> None:
    run = play(Script(), tasks=tasks, devices=("cpu",) * workers)
    last = {event["worker"]: event["t"] for event in run.events("task_final")}
    assert len(last) == min(tasks, workers)
    assert list(last.values()) == pytest.approx([SHARES_END] * len(last), abs=0.01)
    assert [e["task"] for e in run.events("task_final")] == [task for task, _ in run.shares()] or workers > 1
    assert all(run.first(f"t{k}") == [[2]] for k in range(tasks)) and len(run.events("task_final")) == tasks
    assert run.seconds == pytest.approx(SHARES_END), "with everything answered the run ends at once"
    if workers == 1:
        assert [seconds for _, seconds in run.shares()] == pytest.approx([(SHARES_END - 1) / tasks] * tasks)


class Disagreeing(Script):
    """A task named in `open` never settles; every other is done after a second. Restarts say colour 3, and still disagree."""

    def __init__(self, *open_tasks: str) -> None:
        self.open = open_tasks

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        if assignment.task.id not in self.open:
            return [(1.0, answer(assignment, 2, reason="votes agree"))]
        assert assignment.seconds is not None
        final = answer(assignment, 3 if assignment.restart else 2, settled=False)
        votes = tuple((*output, candidate(7, votes=2)) for output in final.outputs)
        return [*alive(assignment, assignment.seconds), (assignment.seconds, replace(final, outputs=votes))]


def test_a_run_uses_its_time_while_any_votes_disagree_and_no_longer(play: Any) -> None:
    alone = play(Disagreeing("t2"), tasks=5)
    assert [s for _, s in alone.shares()[:5]] == pytest.approx([97 / 5] * 5), "what was given back is not handed to whoever comes next"
    again = alone.shares()[5:]
    assert {task for task, _ in again} == {"t2"} and sum(s for _, s in again) == pytest.approx(97 - 4 * 1.0 - 97 / 5)
    assert [e.get("restart") for e in alone.events("task_start", "t2")] == [None, *range(1, len(again) + 1)]
    busy = play(Disagreeing("t0", "t5", "t6"), tasks=12, devices=("cpu", "cpu"))
    assert busy.seconds >= 0.93 * BUDGET
    spent = sum(e["seconds"] for e in busy.events("task_final"))
    assert spent >= 0.93 * 2 * SHARES_END, "of both workers' time"
    assert play(Disagreeing(), tasks=12, devices=("cpu", "cpu")).seconds == pytest.approx(1 + 6 * 1.0)


def test_late_answers_count_until_the_hard_end(play: Any) -> None:
    class Late(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            assert assignment.seconds is not None
            delay = 0.9 if spec.number == 0 else 1.1
            half = (assignment.seconds / 2, answer(assignment, 1, final=False))
            return [*alive(assignment, assignment.seconds), half, (assignment.seconds + delay, answer(assignment, 2))]

    run = play(Late(), tasks=2, devices=("cpu", "cpu"))
    tasks = {number: a.task.id for _, number, a in run.pool.assigned}
    assert run.first(tasks[0]) == [[2]], "0.9 seconds late: kept"
    assert run.first(tasks[1]) == [[1]], "1.1 seconds late: too late, and the answer on the way stays"
    assert [e["task"] for e in run.events("task_failed")] == [tasks[1]]


def test_nobody_waits_for_the_share_of_a_worker_that_is_long_overdue(play: Any) -> None:
    """A worker that goes on past its share: the other one's tasks get what is left for it alone."""

    class Overdue(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return alive(assignment, 1000) if spec.number == 1 else super().on_task(spec, assignment)

    run = play(Overdue(), tasks=6, devices=("cpu", "cpu"))
    ours = [e["t"] for e in run.events("task_final")]
    assert len(ours) == 5 and max(ours) == pytest.approx(SHARES_END)
    third = (SHARES_END - 1) / 3
    given = [a.seconds for _, number, a in run.pool.assigned if number == 0]
    assert given == pytest.approx([third, third, *[third / 3] * 3]), "from a quarter of its share after its end on"
    assert run.seconds == pytest.approx(HARD_END)


def test_nothing_to_do_ends_at_once(play: Any) -> None:
    run = play(Script(), tasks=0)
    assert run.seconds == 0.0 and not run.pool.started


def test_a_loss_that_is_no_number_is_written_as_none(play: Any) -> None:
    class Lost(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, Progress(assignment.task.id, 3, float("nan"), 0.0)), *super().on_task(spec, assignment)]

    run = play(Lost(), tasks=1)
    assert run.events("progress")[0]["loss"] is None and run.record.damaged == []


def test_how_each_worker_runs_stands_in_the_description(play: Any) -> None:
    run = play(Script(), tasks=2, devices=("cuda:0", "cpu"))
    assert run.record.run["workers"] == {"0": {"device": "cuda:0"}, "1": {"device": "cpu"}}
