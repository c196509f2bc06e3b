"""Devices that are too small, broken or not there: what the others and the CPU take over, on a clock that a test moves."""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.record.events import EngineChosen, RunStart
from hrm_submit.record.folder import RunWriter
from hrm_submit.run import placement
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.restarts import Restarts
from hrm_submit.run.worker_pool import Gone
from hrm_submit.solver.messages import Answer, Progress
from tests.run.fake_pool import Script, StubPool, Timeline, answer
from tests.run.lab import recolour
from tests.run.stage import BUDGET, PRESET, Played


class SmallGpu(Script):
    """A GPU that has no memory for t1."""

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        if assignment.task.id == "t1" and spec.device != "cpu":
            return [(2.0, answer(assignment, 4, final=False)), (3.0, Failed("t1", "OutOfMemoryError", memory=True))]
        return super().on_task(spec, assignment)


QUICK_TO_HANG = replace(PRESET, budget=replace(PRESET.budget, hang_seconds=14.0))
FOR_GPUS = replace(PRESET, device=replace(PRESET.device, engine="compile", dtype="float16", attention="sdpa"))
PLAIN = replace(PRESET.device, engine="plain")
"""What a CPU that takes over is left with."""


@pytest.mark.parametrize("second", ["cuda:1", "cpu"])
def test_what_no_gpu_has_memory_for_goes_to_a_cpu(play: Any, second: str) -> None:
    run = play(SmallGpu(), tasks=4, devices=("cuda:0", second), preset=FOR_GPUS)
    assert [spec.device for spec in run.pool.started] == ["cuda:0", second, *["cpu"] * (second != "cpu")], "only one is needed"
    device = {spec.number: spec.device for spec in run.pool.started}
    assert [device[number] for _, number, a in run.pool.assigned if a.task.id == "t1"][-1:] == ["cpu"]
    assert second == "cpu" or run.pool.started[2].preset.device == PLAIN
    assert all(run.first(f"t{k}") == [[2]] for k in range(4))


@pytest.mark.parametrize("budget", [BUDGET, None])
def test_without_a_cpu_worker_that_gets_ready_it_keeps_its_best_answer(play: Any, budget: float | None) -> None:
    """Fixed work has no deadline that could end a wait."""

    class NoCpu(SmallGpu):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, Gone())] if spec.device == "cpu" else super().on_start(spec)

    run = play(NoCpu(), tasks=2, devices=("cuda:0",), budget=budget, segments=None if budget else 5)
    assert run.first("t0") == [[2]] and run.first("t1") == [[4]]
    assert [e["reason"] for e in run.events("task_failed", "t1")] == ["OutOfMemoryError", "no worker left"]


class Broken(Script):
    """Workers on these devices end before they are ready."""

    def __init__(self, *devices: str) -> None:
        self.devices = devices

    def on_start(self, spec: WorkerSpec) -> Timeline:
        return [(0.5, Gone())] if spec.device in self.devices else super().on_start(spec)


@pytest.mark.parametrize(
    ("broken", "started"),
    [
        (("cuda:0",), {"cuda:0": 4, "cuda:1": 1}),
        (("cuda:0", "cuda:1"), {"cuda:0": 4, "cuda:1": 4, "cpu": 2}),
    ],
)
def test_a_device_on_which_no_worker_gets_ready_is_given_up_for_the_others_or_for_the_cpu(
    play: Any, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], started: dict[str, int]
) -> None:
    monkeypatch.setattr(placement, "cpu_count", lambda: 2)
    run = play(Broken(*broken), tasks=3, devices=("cuda:0", "cuda:1"), preset=FOR_GPUS)
    assert Counter(spec.device for spec in run.pool.started) == started
    assert len({spec.number for spec in run.pool.started}) == sum(started.values())
    assert {spec.preset.device for spec in run.pool.started if spec.device == "cpu"} <= {PLAIN}
    assert all(run.first(f"t{k}") == [[2]] for k in range(3))
    assert not run.events("task_failed"), "no task paid for it"


def test_a_broken_device_fault_replaces_the_worker_at_once(play: Any) -> None:
    class Fatal(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            fault = Failed(assignment.task.id, "RuntimeError: CUDA error", fatal=True)
            return [(1.0, fault)] if spec.number == 0 else super().on_task(spec, assignment)

    run = play(Fatal(), tasks=2, devices=("cuda:0",))
    assert [(s.number, s.device) for s in run.pool.started] == [(0, "cuda:0"), (1, "cuda:0")]
    assert run.first("t0") == run.first("t1") == [[2]]


class Refusing(StubPool):
    def launch(self, spec: WorkerSpec, theirs: socket.socket) -> Any:
        raise OSError(11, "Resource temporarily unavailable")


@pytest.mark.parametrize(("script", "pool"), [(Broken("cpu"), StubPool), (Script(), Refusing)])
def test_where_no_worker_ever_gets_ready_the_run_ends_with_its_fallbacks(play: Any, script: Script, pool: Any) -> None:
    run = play(script, tasks=2, devices=("cpu", "cpu"), make_crew=pool)
    assert run.seconds < 15 and run.abandoned == 2
    assert {(e["task"], e["reason"]) for e in run.events("task_failed")} == {(f"t{k}", "no worker left") for k in range(2)}


@pytest.mark.parametrize("devices", [("cuda:0",), ("cuda:0", "cuda:0")])
def test_a_device_that_comes_back_after_some_seconds_is_used_again(play: Any, devices: tuple[str, ...]) -> None:
    """The memory of a killed process may be freed late, and a process may not be started while the machine is short of memory."""

    class Late(Script):
        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, Gone())] if spec.number <= len(devices) else super().on_start(spec)

    class RefusingAtFirst(Refusing):
        def launch(self, spec: WorkerSpec, theirs: socket.socket) -> Any:
            return super().launch(spec, theirs) if spec.number <= len(devices) else StubPool.launch(self, spec, theirs)

    for script, pool in ((Late(), StubPool), (Script(), RefusingAtFirst)):
        run = play(script, tasks=4, devices=devices, make_crew=pool)
        assert {spec.device for spec in run.pool.started} == {"cuda:0"} and run.abandoned == 0
        assert all(run.first(f"t{k}") == [[2]] for k in range(4))


def test_restarts_wait_longer_each_time_and_workers_of_one_fault_count_once() -> None:
    restarts, spec, other = Restarts(10_000.0), WorkerSpec(0, "cuda:0", PRESET, None, 0), WorkerSpec(1, "cuda:1", PRESET, None, 0)
    assert restarts.add(spec, 10.0, was_ready=True) and restarts.due(10.0) == [spec] and not restarts
    assert restarts.add(spec, 20.0, was_ready=False) and restarts.due(20.0) == [spec]
    assert all(restarts.add(spec, 21.0, was_ready=False) for _ in range(3)), "one fault"
    assert restarts.due(25.9) == [] and restarts.due(26.0) == [spec] * 3
    assert restarts.add(spec, 27.0, was_ready=False) and restarts.due(86.9) == [] and restarts.due(87.0) == [spec]
    assert restarts.add(other, 87.0, was_ready=False)
    assert not restarts.add(spec, 88.0, was_ready=False) and restarts.due(1e9) == [other], "given up"
    short = Restarts(100.0)
    assert short.add(spec, 0.0, was_ready=False) and short.due(0.0) and short.add(spec, 0.0, was_ready=False)
    assert short.due(5.0) == [spec], "no more than a part of the budget"


class Comparing(Script):
    """Workers on one kind of GPU, of which the first to be asked finds an engine; that of task t3 dies."""

    def on_start(self, spec: WorkerSpec) -> Timeline:
        return [(1.0, Ready({"dtype": "bfloat16"}, card="L4"))]

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        found = EngineChosen(card="L4", engine="reduce-overhead", dtype="float16", reason="twice as fast", trials=[{"rate": 2.0}])
        said = super().on_task(spec, assignment)
        if assignment.task.id == "t3" and assignment.engine:
            return [(1.0, Gone())]
        return [(4.0, found), *said] if assignment.compare_seconds else said


def test_one_worker_compares_engines_and_the_others_take_over_what_it_found(play: Any) -> None:
    run = play(Comparing(), tasks=8, devices=("cuda:0", "cuda:1"), budget=2000.0)
    orders = [(a.task.id, a.compare_seconds, a.engine and a.engine.engine) for _, _, a in run.pool.assigned]
    assert orders[:3] == [("t0", 100.0, None), ("t1", 0.0, None), ("t2", 0.0, "reduce-overhead")]
    told = [(e["engine"], e["dtype"], e["worker"] is None) for e in run.events("engine_chosen")]
    assert told[:2] == [("reduce-overhead", "float16", False), ("compile", "float16", False)], "a worker that is lost takes one step"
    last = run.record.state.engines["L4"]
    assert last.engine in ("compile", "plain") and "lost" in str(last.reason)
    for limit in ({"budget": 1000.0}, {"budget": None, "segments": 5}):
        run = play(Comparing(), tasks=4, devices=("cuda:0",), **limit)
        assert all(a.compare_seconds == 0 and a.engine is None for _, _, a in run.pool.assigned), "short runs, fixed work"


@pytest.mark.parametrize(("dtype", "order"), [("auto", (0.0, ("compile", "float16"))), ("float32", (100.0, None))])
def test_a_resumed_run_takes_over_what_was_found_unless_it_names_another_number_format(
    play: Any, tmp_path: Path, dtype: Any, order: tuple[float, Any]
) -> None:
    found = EngineChosen(card="L4", engine="compile", dtype="float16", reason="twice as fast")
    before = RunWriter(tmp_path / "play0" / "run", lambda: 0.0)
    before.event(RunStart(budget=2000.0, tasks=8, broken=[], resumed=0))
    before.event(found)
    preset = replace(PRESET, device=replace(PRESET.device, dtype=dtype))
    run = play(Comparing(), tasks=2, devices=("cuda:0",), budget=2000.0, preset=preset)
    first = run.pool.assigned[0][2]
    assert (first.compare_seconds, first.engine and (first.engine.engine, first.engine.dtype)) == order


class Sick(Script):
    """One card of four, whose workers get ready and then fail each task; the others train."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        if spec.device != "cuda:2":
            return [
                (9.0, Progress(assignment.task.id, segments=9, loss=1.0, demo_exact=0.1, seconds=8.0)),
                *super().on_task(spec, assignment),
            ]
        if self.what == "hangs":
            return []
        if self.what == "computes nonsense":
            return [(2.0, Answer(assignment.task.id, tuple(() for _ in assignment.task.test), True, 0, "the loss is nan"))]
        return [(2.0, Gone() if self.what == "dies" else Failed(assignment.task.id, "OutOfMemoryError", memory=self.what == "memory"))]


FOUR = ("cuda:0", "cuda:1", "cuda:2", "cuda:3")


def answered_by(run: Played) -> Counter[str]:
    device = {spec.number: spec.device for spec in run.pool.started}
    return Counter(device[e["worker"]] for e in run.events("task_final"))


@pytest.mark.parametrize(
    ("what", "lost", "on_cpu"), [("dies", 5, 0), ("hangs", 5, 0), ("fails", 6, 0), ("computes nonsense", 6, 0), ("memory", 10, 10)]
)
def test_a_card_that_fails_each_task_is_given_up_while_others_answer(play: Any, what: str, lost: int, on_cpu: int) -> None:
    run = play(Sick(what), tasks=40, devices=FOUR, budget=1200.0, preset=QUICK_TO_HANG)
    by = answered_by(run)
    assert by.total() == 40 and by["cpu"] <= on_cpu and min(by[card] for card in ("cuda:0", "cuda:1", "cuda:3")) >= 10
    assert len(run.events("task_failed")) <= lost and by["cuda:2"] == run.abandoned == 0


def test_a_card_alone_is_kept_however_many_tasks_it_fails(play: Any) -> None:
    class Large(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            small = assignment.task.id in ("t6", "t7")
            return super().on_task(spec, assignment) if small else [(1.0, Gone())]

    run = play(Large(), tasks=8, devices=("cuda:0",))
    assert {spec.device for spec in run.pool.started} == {"cuda:0"}
    assert {e["task"] for e in run.events("task_final")} == {"t6", "t7"}
    assert run.abandoned == 6, "so that the command's exit status says that a resumed run could find more"


@pytest.mark.parametrize("what", ["dies", "hangs", "fails", "computes nonsense"])
@pytest.mark.parametrize("cards", [1, 2])
def test_where_no_card_ever_answers_the_cpu_takes_over_and_answers_all(
    play: Any, monkeypatch: pytest.MonkeyPatch, what: str, cards: int
) -> None:
    class AllSick(Sick):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            return super().on_task(replace(spec, device="cpu" if spec.device == "cpu" else "cuda:2"), assignment)

    monkeypatch.setattr(placement, "cpu_count", lambda: 2)
    run = play(AllSick(what), tasks=40, devices=FOUR[:cards], budget=4000.0, preset=QUICK_TO_HANG)
    assert answered_by(run) == {"cpu": 40} and run.abandoned == 0


def test_a_card_that_fails_now_and_then_is_kept(play: Any) -> None:
    class Now(Script):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            fails = spec.device == "cuda:2" and int(assignment.task.id[1:]) % 2
            return [(2.0, Failed(assignment.task.id, "wrong"))] if fails else super().on_task(spec, assignment)

    run = play(Now(), tasks=40, devices=FOUR, budget=1200.0)
    assert len(run.pool.started) == 4 and answered_by(run)["cuda:2"] >= 8


def test_the_cpu_beside_gpus_takes_only_what_they_have_no_memory_for_and_costs_them_nothing(play: Any) -> None:
    class Eight(Sick):
        """The first tasks are too large for any card."""

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            lacks = int(assignment.task.id[1:]) < 8 and spec.device != "cpu"
            return [(2.0, Failed(assignment.task.id, "OutOfMemoryError", memory=True))] if lacks else super().on_task(spec, assignment)

    tasks = [recolour(f"t{k}", k, side=12 if k < 8 else 3) for k in range(40)]
    run = play(Eight("works"), tasks=tasks, devices=(*FOUR[:2], FOUR[3]), budget=1200.0)
    by = answered_by(run)
    assert by["cpu"] == 8 and by.total() == 40 and len(run.pool.started) == 4, "no card is given up for it"
    seconds = [a.seconds for _, number, a in run.pool.assigned if number < 3 and int(a.task.id[1:]) >= 8]
    assert max(seconds[-8:]) > 0.8 * max(seconds)


def test_what_a_gpu_lost_is_tried_there_again_though_the_cpu_is_idle(play: Any) -> None:
    class Once(SmallGpu):
        failed = False

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            if assignment.task.id == "t2" and not self.failed:
                self.failed = True
                return [(1.0, Failed("t2", "wrong"))]
            return super().on_task(spec, assignment)

    run = play(Once(), tasks=3, devices=("cuda:0",), budget=None, segments=5)
    assert answered_by(run) == {"cuda:0": 2, "cpu": 1} and run.abandoned == 0


def test_a_card_is_not_measured_by_one_of_another_kind(play: Any) -> None:
    class Kinds(Script):
        lost = 0

        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(1.0, Ready({}, card=spec.device))]

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            self.lost += spec.device == "cuda:0"
            return [(1.0, Gone())] if spec.device == "cuda:0" and self.lost < 9 else super().on_task(spec, assignment)

    run = play(Kinds(), tasks=40, devices=("cuda:0", "cuda:1"), budget=1200.0)
    assert answered_by(run)["cuda:0"] >= 10


def test_a_sick_card_lowers_the_engine_of_the_others_once_at_most(play: Any) -> None:
    class One(Comparing):
        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            found = EngineChosen(card="L4", engine="reduce-overhead", dtype="float16", reason="twice as fast", trials=[{"rate": 2.0}])
            said = Script.on_task(self, spec, assignment)
            return [(2.0, Gone())] if spec.device == "cuda:2" else [(4.0, found), *said] if assignment.compare_seconds else said

    run = play(One(), tasks=20, devices=FOUR, budget=4000.0)
    assert len([e for e in run.events("task_failed") if e["reason"].startswith("worker died")]) > 2
    assert [e["engine"] for e in run.events("engine_chosen")] in (["reduce-overhead"], ["reduce-overhead", "compile"])


def test_cpus_that_join_a_cluster_of_gpus_take_any_task(play: Any) -> None:
    class Joined(StubPool):
        def newcomers(self) -> list[WorkerSpec]:
            first = self.started[0]
            return [replace(first, device="cpu", number=9)] if len(self.started) == 1 else []

    run = play(Script(), tasks=12, devices=("cuda:0",), budget=400.0, make_crew=Joined)
    assert answered_by(run)["cpu"] >= 3


def test_the_cpu_takes_no_ordinary_task_while_the_gpu_starts_again(play: Any) -> None:
    class Twice(SmallGpu):
        """Of its GPU's workers the first dies at t2, and the next two before they are ready, so that there is a pause."""

        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, Gone())] if spec.number in (2, 3) else super().on_start(spec)

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            dies = assignment.task.id == "t2" and spec.number == 0
            return [(3.0, Gone())] if dies else super().on_task(spec, assignment)

    run = play(Twice(), tasks=4, devices=("cuda:0",), budget=None, segments=5)
    assert answered_by(run) == {"cuda:0": 3, "cpu": 1}


def test_where_the_last_gpu_is_given_up_all_cores_go_on_not_one_helper_alone(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(SmallGpu):
        """A GPU that dies at t2 and never starts again."""

        def on_start(self, spec: WorkerSpec) -> Timeline:
            return [(0.5, Gone())] if spec.device == "cuda:0" and spec.number else super().on_start(spec)

        def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
            dies = assignment.task.id == "t2" and spec.device == "cuda:0"
            return [(3.0, Gone())] if dies else super().on_task(spec, assignment)

    monkeypatch.setattr(placement, "cpu_count", lambda: 3)
    run = play(Lost(), tasks=12, devices=("cuda:0",), budget=None, segments=5)
    on_cpu = [spec for spec in run.pool.started if spec.device == "cpu"]
    assert [spec.helper for spec in on_cpu] == [True, False, False, False] and run.abandoned == 0
    assert answered_by(run).total() == 12
