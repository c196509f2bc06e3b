"""Who gets how long, when a run ends, and what a fault costs: the supervisor on a clock that a test moves."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.config.schema import BudgetConfig
from hrm_submit.core.files import write_atomic
from hrm_submit.run import answers
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.worker_pool import PooledWorker
from hrm_submit.solver.messages import Progress, Restarted
from tests.run import stage
from tests.run.fake_pool import Script, StubPool, Time, Timeline, alive, answer, candidate
from tests.run.stage import BUDGET, HARD_END, PRESET, SHARES_END


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


def test_what_workers_tell_is_recorded_and_an_idle_one_is_not_taken_for_hung(play: Any, tmp_path: Path) -> None:
    class Telling(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            told: Timeline = [(0.5, Restarted("t0", "out of memory")), (1.0, Progress("t0", 3, float("nan"), 0.0))]
            return [*told, *super().on_task(spec, assignment)]

    run = play(Telling(), tasks=1, devices=("cuda:0", "cpu"))
    assert [(e["task"], e["reason"]) for e in run.events("retry")] == [("t0", "out of memory")]
    assert run.events("progress")[0]["loss"] is None and "NaN" not in (tmp_path / "play0" / "run" / "events.jsonl").read_text()
    assert run.record.run["workers"] == {"0": {"device": "cuda:0"}, "1": {"device": "cpu"}}
    assert len(run.events("task_start")) == 1 and run.first("t0") == [[2]]
    assert len(run.pool.started) == 2 and not run.events("worker_exit")
    nothing = play(Script(), tasks=0)
    assert nothing.seconds == 0.0 and not nothing.pool.started


def test_the_answer_of_the_attempt_that_came_further_stays(play: Any, tmp_path: Path) -> None:
    """Of two attempts in a run, both of which are lost on their way, and of runs that resume another."""

    class Stopping(Script):
        def __init__(self, *said: tuple[int, int], then: Any) -> None:
            self.said, self.then = iter(said), then

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            colour, segments = next(self.said)
            return [(1.0, replace(answer(assignment, colour, final=False), segments=segments)), *self.then]

    assert play(Stopping((4, 90), (5, 50), then=[(3.0, Failed("t0", "no"))]), tasks=1).first("t0") == [[4]]
    lives = ((3, 90), (4, 50), (5, 60), (6, 95))
    shown = [stage.play(tmp_path / "x", Stopping(said, then=[]), 1, budget=10.0).first("t0") for said in lives]
    assert shown == [[[3]]] * 3 + [[[6]]]


def test_a_run_with_other_settings_replaces_an_earlier_answer_by_its_last_vote_alone(tmp_path: Path) -> None:
    class Says(Script):
        def __init__(self, then: Any) -> None:
            self.then = then

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, answer(assignment, 5, final=False)), *self.then(assignment)]

    stage.play(tmp_path / "x", Says(lambda a: [(2.0, answer(a, 4, final=False))]), 1, budget=10.0)
    for then, shown in ((lambda a: [], 4), (lambda a: [(2.0, answer(a, 6))], 6)):
        run = stage.play(tmp_path / "x", Says(then), 1, budget=10.0, other_settings=True)
        assert run.first("t0") == [[shown]]


def test_what_came_while_a_slow_disk_held_up_the_last_write_is_kept(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            assert assignment.seconds is not None
            return [*alive(assignment, assignment.seconds), (assignment.seconds + 0.2 + 0.2 * spec.number, answer(assignment, 2))]

    time = Time()

    def slow(path: Path, text: str) -> None:
        time.now += 1.2 if time.now > SHARES_END else 0.0
        write_atomic(path, text)

    monkeypatch.setattr(answers, "write_atomic", slow)
    run = play(Late(), tasks=2, devices=("cpu", "cpu"), time=time)
    assert run.first("t0") == run.first("t1") == [[2]] and not run.events("task_failed")


@pytest.mark.parametrize(("segments", "stays"), [(44, True), (46, False)])
def test_a_last_vote_after_far_less_training_does_not_replace_an_earlier_one(play: Any, tmp_path: Path, segments: int, stays: bool) -> None:
    """The attempt before had voted after 90 segments: in the same run, and in one that is resumed."""

    class Short(Script):
        def __init__(self, then: Any) -> None:
            self.said, self.then = 0, then

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            self.said += 1
            if self.said == 1:
                return [(1.0, replace(answer(assignment, 4, final=False), segments=90)), *self.then]
            if assignment.restart:
                return [(1.0, Failed("t0", "no"))]
            return [(1.0, replace(answer(assignment, 5), segments=segments))]

    kept = [[4]] if stays else [[5]]
    assert play(Short([(3.0, Failed("t0", "no"))]), tasks=1).first("t0") == kept
    script = Short([])
    assert [stage.play(tmp_path / "x", script, 1, budget=10.0).first("t0") for _ in range(2)] == [[[4]], kept]


def test_a_task_that_is_answered_and_then_fails_anew_is_left_alone(play: Any) -> None:
    class Breaking(Script):
        """Votes disagree, and every training anew breaks at once."""

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            if assignment.restart:
                return [(0.1, Failed(assignment.task.id, "no"))]
            return [(2.0, answer(assignment, 2, settled=False))]

    run = play(Breaking(), tasks=3)
    assert [a.restart for _, _, a in run.pool.assigned] == [0, 0, 0, 1, 1, 1]
    assert not run.events("retry") and all(run.first(f"t{k}") == [[2]] for k in range(3))
    assert run.seconds == pytest.approx(1 + 3 * 2.0 + 3 * 0.1), "nothing is left to be done"


@pytest.mark.parametrize(
    ("budget", "hang_seconds", "segment", "patience"),
    [
        (BUDGET, 60.0, None, 20.0),  # never less than twenty seconds, however short the run
        (BUDGET, 15.0, None, 15.0),  # unless it is told so
        (400.0, 60.0, None, 40.0),  # a tenth of the budget
        (4000.0, 60.0, None, 60.0),  # and never more than it is told
        (BUDGET, 60.0, 6.0, 30.0),  # five segments of the device as it was measured
    ],
)
def test_a_hanging_worker_is_replaced(play: Any, budget: float, hang_seconds: float, segment: float | None, patience: float) -> None:
    class Hanging(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            if spec.number:
                return super().on_task(spec, assignment)
            measured: Timeline = [(1.0, Progress(assignment.task.id, 2, 1.0, 0.0, 2 * segment))] if segment else []
            return [*measured, (1.5, answer(assignment, 4, final=False))]

    preset = replace(PRESET, budget=BudgetConfig(reserve=0.02, reserve_min_seconds=2.0, hang_seconds=hang_seconds))
    run = play(Hanging(), tasks=2, budget=budget, preset=preset)
    (lost,) = run.events("worker_exit")
    assert lost["reason"] == "worker hangs"
    assert 0.0 < lost["t"] - (2.5 + patience) <= 0.5, "so long after its last sign of life, and a tick"
    assert run.first("t0") == run.first("t1") == [[2]]


@pytest.mark.parametrize(("budget", "patience"), [(BUDGET, 60.0), (800.0, 400.0), (40_000.0, 900.0), (None, 900.0)])
@pytest.mark.parametrize("late", [False, True])
def test_a_start_has_patience_of_its_own(
    play: Any, caplog: pytest.LogCaptureFixture, budget: float | None, patience: float, late: bool
) -> None:
    """Libraries may load slowly on a busy machine, however soon a silence is to be noticed after that."""

    class Slow(Script):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(patience + (5.0 if late else -5.0), Ready({}))] if spec.number == 0 else super().on_start(spec)

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, answer(assignment, 2))]

    segments = 10 if budget is None else None
    run = play(Slow(), tasks=1, budget=budget, segments=segments)
    assert run.first("t0") == [[2]] and [spec.number for spec in run.pool.started] == ([0, 1] if late else [0])
    assert [e["reason"] for e in run.events("worker_exit")] == ["worker hangs as it starts"] * late
    assert all(0 < e["t"] - patience <= 0.5 for e in run.events("worker_exit"))
    told = f"worker 0 has been starting for 60 s; after {patience:.0f} s it counts as hung"
    assert (told in caplog.messages) == (patience > 60)


def test_a_machine_that_slept_has_no_hung_workers(play: Any) -> None:
    """The clock goes on by half a minute at once; all workers answer a little later than they would have."""

    class Sleepy(StubPool):
        slept = False

        def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
            if self.time.now > 10 and not self.slept:
                self.slept = True
                self.time.now += 30.0
                self._coming = [(at + 30.0, *rest) for at, *rest in self._coming]
                return iter(())
            return super().listen(seconds)

    run = play(Script(), tasks=4, devices=("cpu", "cpu"), make_crew=Sleepy)
    assert run.pool.slept and not run.events("worker_exit")
    assert len(run.events("task_final")) >= 2 and run.seconds <= BUDGET
