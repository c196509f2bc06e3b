"""The state of a run from events written by hand: stretches, trainings, tasks and workers."""

from typing import Any

from hrm_submit.record.state import RunState
from tests.events import event


def state_of(*lines: tuple[Any, ...]) -> RunState:
    """The state after lines (t, kind, task, worker, fields), when the run has ended."""
    state = RunState(event(kind, task, worker, t=t, **fields) for t, kind, task, worker, fields in lines)
    state.close()
    return state


def begin(*tasks: str, workers: int = 1, t: float = 0.0) -> list[tuple[Any, ...]]:
    """A run begins, and its workers get ready ten seconds later."""
    lines: list[tuple[Any, ...]] = [(t, "run_start", None, None, {"budget": 100.0, "tasks": len(tasks), "resumed": 0})]
    lines.append((t, "plan", None, None, {"todo": list(tasks)}))
    for worker in range(workers):
        lines += [(t, "worker_start", None, worker, {"device": "cpu"}), (t + 10, "worker_start", None, worker, {"ready": True})]
    return lines


def told(state: RunState) -> list[tuple[Any, ...]]:
    return [(s.attempt, s.worker, s.phase, s.start, s.end) for s in state.stretches]


def test_a_stretch_is_named_by_what_ends_it() -> None:
    state = state_of(
        *begin("a"),
        (11, "task_start", "a", 0, {"seconds": 40.0}),
        (20, "progress", "a", 0, {"segments": 5, "loss": 2.0, "demo_exact": 0.25}),
        (22, "candidates", "a", 0, {"segments": 5}),
        (30, "progress", "a", 0, {"segments": 9, "loss": 1.0, "demo_exact": 0.5}),
        (35, "task_final", "a", 0, {"segments": 9, "seconds": 24.0, "reason": "votes agree"}),
        (36, "run_end", None, None, {}),
    )
    assert told(state) == [
        (1, 0, "loading", 0, 10),
        (1, 0, "training", 11, 20),
        (1, 0, "vote", 20, 22),
        (1, 0, "training", 22, 30),
        (1, 0, "vote", 30, 35),
    ]
    (training,) = state.trainings
    assert (training.seconds, training.planned, training.segments, training.outcome) == (24, 40, 9, "votes agree")
    assert [(p.t, p.segments, p.loss, p.demo_exact) for p in training.points] == [(20, 5, 2.0, 0.25), (30, 9, 1.0, 0.5)]
    assert state.attempt.ended and state.attempt.end == 36 and state.attempt.finals == {"a": 0.5}


def test_a_worker_that_dies_loses_its_task_to_another() -> None:
    state = state_of(
        *begin("a"),
        (10, "task_start", "a", 0, {"seconds": 50.0, "attempt": 1}),
        (15, "progress", "a", 0, {"segments": 3, "loss": None, "demo_exact": 0.0}),
        (18, "worker_exit", "a", 0, {"code": -9, "reason": "worker died"}),
        (18, "task_failed", "a", 0, {"reason": "worker died (exit code -9)", "attempt": 1}),
        (18, "retry", "a", 0, {}),
        (18, "worker_start", None, 1, {"device": "cpu"}),
        (25, "worker_start", None, 1, {"ready": True}),
        (25, "task_start", "a", 1, {"seconds": 30.0, "attempt": 2}),
        (40, "task_final", "a", 1, {"segments": 7, "seconds": 15.0, "reason": "share used"}),
    )
    assert [(s.worker, s.phase, s.start, s.end, s.detail) for s in state.stretches] == [
        (0, "loading", 0, 10, ""),
        (0, "training", 10, 15, ""),
        (0, "lost", 15, 18, "worker died"),
        (1, "loading", 18, 25, ""),
        (1, "vote", 25, 40, ""),
    ]
    assert [(t.worker, t.number, t.outcome) for t in state.trainings] == [(0, 1, "worker died"), (1, 2, "share used")]
    task = state.tasks["a"]
    assert (task.failures, task.given_up, task.seconds, task.segments) == (1, False, 23, 10)


def test_what_runs_when_time_is_up_or_the_run_is_killed_is_lost() -> None:
    state = state_of(
        *begin("a", "b", workers=3)[:-1],  # the last worker never gets ready
        (10, "task_start", "a", 0, {"seconds": 50.0}),
        (10, "task_start", "b", 1, {"seconds": 50.0}),
        (20, "task_failed", "a", None, {"reason": "time is up"}),
        (21, "flush", None, None, {}),
    )
    assert told(state)[2:] == [(1, 0, "lost", 10, 20), (1, 1, "lost", 10, 21), (1, 2, "loading", 0, 21)]
    assert [t.outcome for t in state.trainings] == ["time is up", "cut short"]


def test_a_run_that_resumes_has_attempts_each_with_its_own_clock() -> None:
    state = state_of(
        *begin("a", "b"),
        (10, "task_start", "a", 0, {"seconds": 50.0}),
        (30, "task_failed", "b", None, {"reason": "no"}),
        *begin("a", "b", t=1),
        (12, "task_start", "a", 0, {"seconds": 20.0}),
        (25, "task_final", "a", 0, {"segments": 8}),
    )
    assert [(a.end, a.ended, sorted(a.finals)) for a in state.attempts] == [(30, False, []), (25, False, ["a"])]
    assert [(t.attempt, t.number, t.start, t.end) for t in state.trainings] == [(1, 1, 10, 30), (2, 2, 12, 25)]
    assert state.given_up == set() and state.trouble == "", "what failed before is tried again"


def test_odd_events_do_no_harm() -> None:
    state = state_of(
        *begin("a"),
        (11, "progress", "a", 0, {"segments": 1}),
        (11, "task_final", "b", 5, {}),
        (12, "task_start", "a", 0, {"seconds": "soon"}),
        (13, "progress", "a", 0, {"segments": "many", "loss": "low"}),
        (14, "task_start", "b", 0, {"seconds": 3}),
        (15, "something_new", "b", 0, {"field": [1, 2]}),
    )
    assert [(s.phase, s.start, s.end) for s in state.stretches[1:]] == [("training", 12, 13), ("lost", 13, 14), ("lost", 14, 15)]
    assert [(t.task, t.planned) for t in state.trainings] == [("a", None), ("b", 3)]
    assert RunState().attempt.end == 0
