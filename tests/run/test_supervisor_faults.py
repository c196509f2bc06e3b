"""What a fault costs: workers that die, hang or fail, on a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.config.schema import BudgetConfig
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.worker_pool import PooledWorker
from hrm_submit.solver.messages import Progress, Restarted
from tests.run import stage
from tests.run.fake_pool import Script, StubPool, Timeline, answer
from tests.run.stage import BUDGET, PRESET


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


def test_signs_of_life_keep_a_slow_worker(play: Any) -> None:
    class Slow(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            signs: Timeline = [(float(t), Progress(assignment.task.id, t, 1.0, 0.0)) for t in range(19, 96, 19)]
            return [*signs, (96.0, answer(assignment, 2))]

    run = play(Slow(), tasks=1)
    assert len(run.pool.started) == 1 and run.first("t0") == [[2]]


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


def test_an_idle_worker_is_not_taken_for_hung(play: Any) -> None:
    run = play(Script(), tasks=1, devices=("cpu", "cpu"))
    assert len(run.pool.started) == 2 and not run.events("worker_exit")


def test_a_training_that_begins_anew_on_its_worker_is_told(play: Any) -> None:
    class Anew(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(0.5, Restarted(assignment.task.id, "out of memory")), *super().on_task(spec, assignment)]

    run = play(Anew(), tasks=1)
    assert [(e["task"], e["reason"]) for e in run.events("retry")] == [("t0", "out of memory")]
    assert len(run.events("task_start")) == 1 and run.first("t0") == [[2]]
