"""The supervisor on a clock that a test moves, with workers that do what a script says."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.submission import faults
from hrm_submit.arc.task import Task
from hrm_submit.core.clock import Clock
from hrm_submit.core.config import BudgetConfig, DeviceConfig, Preset
from hrm_submit.core.device import cpu_count
from hrm_submit.core.runfolder import RunRecord, RunWriter, read_run
from hrm_submit.solve import supervisor
from hrm_submit.solve.answers import AnswerBook
from hrm_submit.solve.messages import Assignment, Failed, Progress, WorkerSpec
from hrm_submit.solve.supervisor import Plan, Supervisor, worker_specs
from hrm_submit.solve.watch import Watcher
from tests.solve.fake_crew import FakeCrew, Script, Time, Timeline, answer, gone
from tests.solve.lab import recolour

PRESET = Preset(budget=BudgetConfig(reserve=0.02, reserve_min_seconds=2.0, hang_seconds=60.0))
# A budget of 100 seconds: shares end at 98, the run at 99.
BUDGET, SHARES_END, HARD_END = 100.0, 98.0, 99.0


@dataclass
class Played:
    """What a run left behind."""

    crew: FakeCrew
    record: RunRecord
    submission: dict[str, Any]
    seconds: float

    def events(self, event: str, task: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self.record.events if e["event"] == event and task in (None, e["task"])]

    def first(self, task: str) -> list[list[int]]:
        return self.submission[task][0]["attempt_1"]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Played]:
    numbers = iter(range(10**6))

    def run(
        script: Script,
        tasks: int | list[Task] = 4,
        devices: tuple[str, ...] = ("cpu",),
        budget: float | None = BUDGET,
        segments: int | None = None,
        preset: Preset = PRESET,
    ) -> Played:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        time = Time()
        crew = FakeCrew(time, script)
        monkeypatch.setattr(supervisor, "Crew", lambda: crew)
        clock = Clock(budget, source=time)
        todo = [recolour(f"t{k}", k) for k in range(tasks)] if isinstance(tasks, int) else tasks
        by_id = {t.id: t for t in todo}
        book = AnswerBook(list(by_id), by_id, {}, folder / "submission.json")
        book.create()
        specs = [WorkerSpec(k, device, preset, None, 0) for k, device in enumerate(devices)]
        watcher = Watcher(len(todo))
        writer = RunWriter(folder / "run", clock.elapsed)
        Supervisor(Plan(tuple(todo), budget, segments), specs, preset, book, writer, clock, watcher).run()
        submission = json.loads((folder / "submission.json").read_text())
        assert not faults(submission, by_id)
        return Played(crew, read_run(folder / "run"), submission, time.now)

    return run


def test_every_task_gets_an_equal_share_and_an_answer(play: Any) -> None:
    run = play(Script(), tasks=4)
    shares = [a.seconds for _, _, a in run.crew.assigned]
    assert shares == pytest.approx([(SHARES_END - 1) / 4] * 4)
    assert [e["task"] for e in run.events("task_final")] == [a.task.id for _, _, a in run.crew.assigned]
    assert all(run.first(f"t{k}") == [[2]] for k in range(4))
    assert run.seconds == pytest.approx(SHARES_END), "with everything answered the run ends at once"


@pytest.mark.parametrize(("tasks", "workers"), [(5, 2), (7, 3), (2, 4), (20, 4), (3, 2)])
def test_workers_end_together(play: Any, tasks: int, workers: int) -> None:
    run = play(Script(), tasks=tasks, devices=("cpu",) * workers)
    last = {}
    for event in run.events("task_final"):
        last[event["worker"]] = event["t"]
    assert len(last) == min(tasks, workers)
    assert list(last.values()) == pytest.approx([SHARES_END] * len(last), abs=0.01)
    assert len(run.events("task_final")) == tasks


def test_time_that_a_task_gives_back_goes_to_those_after_it(play: Any) -> None:
    class Early(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, answer(assignment, 2, reason="votes agree"))]

    shares = [a.seconds for _, _, a in play(Early(), tasks=3).crew.assigned]
    assert shares == pytest.approx([97 / 3, 96 / 2, 95.0])


def test_the_deadline_holds_whatever_workers_do(play: Any) -> None:
    class Silent(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(t, Progress(assignment.task.id, 1, 1.0, 0.0)) for t in range(1, 1000)]

    run = play(Silent(), tasks=3, devices=("cpu", "cpu"))
    assert run.seconds <= BUDGET
    assert run.crew.dismissed_at == pytest.approx(HARD_END)
    failed = {e["task"]: e["reason"] for e in run.events("task_failed")}
    assert failed == {"t0": "time is up", "t1": "time is up", "t2": "time is up"}


def test_late_answers_count_until_the_hard_end(play: Any) -> None:
    class Late(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            assert assignment.seconds is not None
            delay = 0.9 if spec.number == 0 else 1.1
            return [(assignment.seconds / 2, answer(assignment, 1, final=False)), (assignment.seconds + delay, answer(assignment, 2))]

    run = play(Late(), tasks=2, devices=("cpu", "cpu"))
    tasks = {number: a.task.id for _, number, a in run.crew.assigned}
    assert run.first(tasks[0]) == [[2]], "0.9 seconds late: kept"
    assert run.first(tasks[1]) == [[1]], "1.1 seconds late: too late, and the answer on the way stays"
    assert [e["task"] for e in run.events("task_failed")] == [tasks[1]]


def test_a_task_that_fails_is_tried_once_more_and_no_oftener(play: Any) -> None:
    class Failing(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            if assignment.task.id == "t1":
                return [(1.0, answer(assignment, 3, final=False)), (2.0, Failed("t1", "ValueError: no"))]
            return super().on_task(spec, assignment)

    run = play(Failing(), tasks=3)
    assert Counter(a.task.id for _, _, a in run.crew.assigned) == {"t0": 1, "t1": 2, "t2": 1}
    assert run.crew.assigned[-1][2].task.id == "t1", "the second attempt waits for the others"
    assert [e["attempt"] for e in run.events("task_failed", "t1")] == [1, 2]
    assert len(run.events("retry", "t1")) == 1
    assert run.first("t1") == [[3]] and run.first("t0") == run.first("t2") == [[2]]
    assert len(run.crew.started) == 1, "a worker that reports a fault lives on"


def test_a_second_attempt_may_succeed(play: Any) -> None:
    class Once(Script):
        tries = 0

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            self.tries += 1
            return [(2.0, Failed(assignment.task.id, "no"))] if self.tries == 1 else super().on_task(spec, assignment)

    run = play(Once(), tasks=2)
    assert run.first("t0") == run.first("t1") == [[2]]


def test_a_worker_that_dies_costs_one_attempt_of_its_task(play: Any) -> None:
    class Dying(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(3.0, gone())] if spec.number == 1 else super().on_task(spec, assignment)

    run = play(Dying(), tasks=4, devices=("cpu", "cpu"))
    assert [spec.number for spec in run.crew.started] == [0, 1, 2]
    (lost,) = run.events("worker_exit")
    assert lost["worker"] == 1
    starts = Counter(e["task"] for e in run.events("task_start"))
    assert starts[lost["task"]] == 2 and sum(starts.values()) == 5
    assert all(run.first(f"t{k}") == [[2]] for k in range(4))


def test_a_task_that_kills_every_worker_does_not_take_the_others_along(play: Any) -> None:
    class Poison(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, gone())] if assignment.task.id == "t0" else super().on_task(spec, assignment)

    run = play(Poison(), tasks=5, devices=("cpu", "cpu"))
    assert Counter(e["task"] for e in run.events("task_start")) == {"t0": 2, "t1": 1, "t2": 1, "t3": 1, "t4": 1}
    assert all(run.first(f"t{k}") == [[2]] for k in range(1, 5))


def test_a_worker_that_died_unnoticed_is_replaced(play: Any) -> None:
    class Deaf(Script):
        def takes(self, spec: WorkerSpec) -> bool:
            return spec.number != 0

    run = play(Deaf(), tasks=2)
    assert [spec.number for spec in run.crew.started] == [0, 1]
    assert run.first("t0") == run.first("t1") == [[2]]


def test_a_hanging_worker_is_replaced(play: Any) -> None:
    class Hanging(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return [(1.0, answer(assignment, 4, final=False))] if spec.number == 0 else super().on_task(spec, assignment)

    run = play(Hanging(), tasks=2)
    (lost,) = run.events("worker_exit")
    assert lost["reason"] == "worker hangs"
    assert 60.0 < lost["t"] - 2.0 < 61.5, "60 seconds after its last sign of life"
    assert run.first("t0") == run.first("t1") == [[2]]


def test_a_worker_that_hangs_before_it_is_ready_is_replaced(play: Any) -> None:
    class Stuck(Script):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [] if spec.number == 0 else super().on_start(spec)

    run = play(Stuck(), tasks=1)
    assert [spec.number for spec in run.crew.started] == [0, 1]
    assert run.first("t0") == [[2]]


def test_signs_of_life_keep_a_slow_worker(play: Any) -> None:
    class Slow(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            signs: Timeline = [(t, Progress(assignment.task.id, int(t), 1.0, 0.0)) for t in (25.0, 50.0, 75.0)]
            return [*signs, (96.0, answer(assignment, 2))]

    run = play(Slow(), tasks=1)
    assert len(run.crew.started) == 1 and run.first("t0") == [[2]]


def test_an_idle_worker_is_not_taken_for_hung(play: Any) -> None:
    run = play(Script(), tasks=1, devices=("cpu", "cpu"))
    assert len(run.crew.started) == 2 and not run.events("worker_exit")


class NoGpu(Script):
    """Workers on GPUs end before they are ready."""

    def on_start(self, spec: WorkerSpec) -> Timeline:
        return [(0.5, gone())] if spec.device.startswith("cuda") else super().on_start(spec)


def test_a_device_on_which_no_worker_gets_ready_is_given_up_for_the_cpu(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrm_submit.solve.supervisor.cpu_count", lambda: 2)
    run = play(NoGpu(), tasks=3, devices=("cuda:0",))
    assert [spec.device for spec in run.crew.started] == ["cuda:0", "cuda:0", "cpu", "cpu"]
    assert len({spec.number for spec in run.crew.started}) == 4
    assert all(run.first(f"t{k}") == [[2]] for k in range(3))
    assert not run.events("task_failed"), "no task paid for it"


def test_several_broken_devices_give_one_set_of_cpu_workers(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrm_submit.solve.supervisor.cpu_count", lambda: 2)
    run = play(NoGpu(), tasks=3, devices=("cuda:0", "cuda:1"))
    assert Counter(spec.device for spec in run.crew.started) == {"cuda:0": 2, "cuda:1": 2, "cpu": 2}
    assert all(run.first(f"t{k}") == [[2]] for k in range(3))


def test_one_broken_device_leaves_its_tasks_to_the_others(play: Any) -> None:
    class Half(Script):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, gone())] if spec.device == "cuda:1" else super().on_start(spec)

    run = play(Half(), tasks=4, devices=("cuda:0", "cuda:1"))
    assert all(run.first(f"t{k}") == [[2]] for k in range(4))
    assert Counter(spec.device for spec in run.crew.started)["cuda:1"] == 2


def test_where_no_worker_ever_gets_ready_the_run_ends_with_its_fallbacks(play: Any) -> None:
    class Broken(Script):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, gone())]

    run = play(Broken(), tasks=2, devices=("cpu", "cpu"))
    assert run.seconds < 10
    assert {e["task"] for e in run.events("task_failed")} == {"t0", "t1"}
    assert all(e["reason"] == "no worker left" for e in run.events("task_failed"))


def test_workers_that_cannot_be_started_at_all(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FakeCrew, spec: WorkerSpec, now: float) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(FakeCrew, "start", refuse)
    assert play(Script(), tasks=1).seconds == 0.0


def test_a_last_vote_without_a_grid_keeps_what_was_there(play: Any) -> None:
    class Lost(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            empty = replace(answer(assignment, 0), outputs=((),))
            return [(1.0, answer(assignment, 6, final=False)), (2.0, empty)]

    run = play(Lost(), tasks=1)
    assert run.first("t0") == [[6]]
    last = run.record.predictions[-1]
    assert last["final"] and last["candidates"][0]["grid"] == [[6]]


def test_fixed_work_starts_with_the_largest_and_looks_at_no_clock(play: Any) -> None:
    tasks = [recolour("small", 0, side=2), recolour("large", 1, side=5), recolour("middle", 2, side=3)]
    run = play(Script(), tasks=tasks, budget=None, segments=7)
    given = [(a.task.id, a.seconds, a.segments) for _, _, a in run.crew.assigned]
    assert given == [("large", None, 7), ("middle", None, 7), ("small", None, 7)]


def test_with_a_time_budget_the_smallest_come_first(play: Any) -> None:
    tasks = [recolour("middle", 2, side=3), recolour("large", 1, side=5), recolour("small", 0, side=2)]
    assert [a.task.id for _, _, a in play(Script(), tasks=tasks).crew.assigned] == ["small", "middle", "large"]


def test_nothing_to_do_ends_at_once(play: Any) -> None:
    run = play(Script(), tasks=0)
    assert run.seconds == 0.0 and not run.crew.started


def test_predictions_and_submission_tell_the_same(play: Any) -> None:
    run = play(Script(), tasks=2)
    for task in ("t0", "t1"):
        lines = [p for p in run.record.predictions if p["task"] == task]
        assert [p["final"] for p in lines] == [False, True]
        assert lines[-1]["candidates"][0]["grid"] == run.first(task)


def test_a_full_disk_under_the_submission_does_not_stop_the_run(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = os.replace, [0]

    def replace_file(source: Any, target: Any) -> None:
        if "submission" in str(target) and 2 <= len(calls) < 6:
            refused[0] += 1
            calls.append(1)
            raise OSError(28, "No space left on device")
        if "submission" in str(target):
            calls.append(1)
        real(source, target)

    calls: list[int] = []
    monkeypatch.setattr(os, "replace", replace_file)
    run = play(Script(), tasks=4)
    assert refused[0] == 4
    assert all(run.first(f"t{k}") == [[2]] for k in range(4)), "what was refused is written later"
    notes = run.events("flush")
    assert notes and notes[0]["failed"] == "submission" and "No space left" in notes[0]["reason"]


def test_a_disk_that_stays_full_is_not_told_at_every_tick(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, [0]

    def replace_file(source: Any, target: Any) -> None:
        calls[0] += 1
        if calls[0] > 1:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_file)
    assert 1 <= len(play(Script(), tasks=2).events("flush")) <= 2


class Chaos(Script):
    """Workers that do anything, by a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.finals: dict[str, int] = {}

    def on_start(self, spec: WorkerSpec) -> Timeline:
        wait = float(self.rng.exponential(3.0))
        return [(wait, gone())] if self.rng.random() < 0.2 else [(wait, super().on_start(spec)[0][1])]

    def takes(self, spec: WorkerSpec) -> bool:
        return bool(self.rng.random() > 0.05)

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        seconds = 8.0 if assignment.seconds is None else assignment.seconds
        at = seconds * float(self.rng.uniform(0.2, 1.3))
        what = self.rng.choice(["final", "final", "final", "failed", "gone", "silent"])
        said: Timeline = [(at / 2, answer(assignment, 1, final=False))]
        if what == "final":
            said.append((at, answer(assignment, 2)))
        elif what == "failed":
            said.append((at, Failed(assignment.task.id, "x")))
        elif what == "gone":
            said.append((at, gone()))
        return said


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tasks=st.integers(0, 9),
    devices=st.lists(st.sampled_from(["cpu", "cuda:0", "cuda:1"]), min_size=1, max_size=4),
    fixed=st.booleans(),
)
def test_whatever_happens(seed: int, tasks: int, devices: list[str], fixed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # The play fixture is one a test; this wants one an example.
        run = play.__wrapped__(tmp_path_factory.mktemp("play"), patch)(
            Chaos(seed), tasks, tuple(devices), None if fixed else BUDGET, 5 if fixed else None
        )
    if not fixed:
        assert run.seconds <= HARD_END + 1e-6
    finals = Counter(e["task"] for e in run.events("task_final"))
    starts = Counter(e["task"] for e in run.events("task_start"))
    ended = {e["task"] for e in run.events("task_failed")}
    for k in range(tasks):
        task = f"t{k}"
        assert starts[task] <= 2 and finals[task] <= 1
        assert finals[task] == (run.first(task) == [[2]])
        assert finals[task] or task in ended, "a task without a final answer is named"


def test_workers_of_a_machine() -> None:
    def places(devices: list[str], device: DeviceConfig, tasks: int = 100, fixed: bool = False) -> tuple[list[str], int]:
        specs, preset = worker_specs(devices, Preset(device=device), None, 5, tasks, fixed)
        assert [s.number for s in specs] == list(range(len(specs))) and all(s.seed == 5 and s.preset == preset for s in specs)
        return [s.device for s in specs], preset.device.threads

    cores = cpu_count()
    assert places(["cuda:0", "cuda:1"], DeviceConfig()) == (["cuda:0", "cuda:1"], 1)
    assert places(["cpu"], DeviceConfig()) == (["cpu"] * cores, 1)
    assert places(["cpu"], DeviceConfig(workers=3, threads=2)) == (["cpu"] * 3, 2)
    assert places(["cpu"], DeviceConfig(workers=3), tasks=2) == (["cpu"] * 2, 1)
    assert places(["cpu"], DeviceConfig(), tasks=1) == (["cpu"], cores), "spare cores become threads"
    assert places(["cpu"], DeviceConfig(), tasks=1, fixed=True) == (["cpu"], 1), "but never where results must not depend on the machine"
    assert places(["cuda:0", "cpu"], DeviceConfig(workers=1)) == (["cuda:0", "cpu"], 1)
    assert places(["cpu"], DeviceConfig(threads=10**6)) == (["cpu"], 10**6)
