"""Simulate a whole run in seconds: the real supervisor on a clock that jumps from event to event, and workers that only pretend.

A pretended worker follows a recording: how long its start, a segment and a view take, and after how many segments votes agree.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hrm_submit.arc.sizes import answering_side
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import cpu_count
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunRecord, RunWriter, read_run
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.cost import task_work, view_work
from hrm_submit.run.placement import that_fit, worker_specs
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import Assignment, Ready, WorkerSpec
from hrm_submit.run.supervisor import Supervisor
from hrm_submit.run.worker_pool import Member, Pool
from hrm_submit.solver.messages import VOTES_AGREE, Answer, Message, Progress
from hrm_submit.solver.session import OVERRUN, VOTE_GROWTH
from hrm_submit.solver.solver import Ensemble
from lab.budget_recording import ModelRecord, Recording

MID_RUN = "mid-run vote"
"""The reason that a mid-run vote gives."""


def planned_devices(recording: Recording, preset: Preset, tasks: Sequence[Task], profile: str | None, measured: bool) -> list[str]:
    """List the device of each worker: those of a profile's machine, those that a run here would have where the recording was `measured`
    here, or as recorded."""
    if profile is None:
        recorded = [str(d) for d in next(iter(recording.runs.values())).run.get("devices") or ["cpu"] * cpu_count()]
        first, *others = [EnsembleMember(name, model.preset, None) for name, model in recording.models.items()]
        members = [replace(first, preset=preset), *others]
        specs = worker_specs(sorted(set(recorded)), members, 0, tasks, False) if measured else []
        return [spec.device for spec in specs] or recorded
    device = load_preset(profile, preset).device
    if not device.count:
        return ["cpu"] * (device.workers or max(1, cpu_count() // device.threads))
    memory, models = int(device.memory_gib * 2**30), [model.preset for model in recording.models.values()]
    each = device.workers_per_gpu or that_fit(models, tasks, lambda: memory)
    return [f"cuda:{number}" for _ in range(each) for number in range(device.count)][: max(device.count, len(tasks))]


def replay(
    recording: Recording, preset: Preset, tasks: Sequence[Task], devices: Sequence[str], budget: float, folder: Path, seed: int = 0
) -> RunRecord:
    """Simulate a run of `tasks` by a worker on each of `devices` in `budget` seconds into the run folder `folder`, and read it back."""
    by_id = {t.id: t for t in tasks}
    pool = PretendedPool(recording, preset, seed)
    clock = Clock(budget, source=lambda: pool.now)
    answers = AnswerStore(by_id, {}, folder / "submission.json")
    run = RunWriter(folder, clock.elapsed)
    answers.create()
    run.describe({"command": "replay", "config": preset.to_dict(), "budget": budget, "seed": seed, "devices": list(devices)})
    run.event(RunStart(budget, len(tasks), [], 0))
    run.event(Plan(list(by_id), len(devices), list(devices)))
    members = (EnsembleMember("replayed", preset, None),)
    specs = [WorkerSpec(number, device, members, seed) for number, device in enumerate(devices)]
    bars = ProgressBars(len(tasks))
    try:
        Supervisor(tasks, None, specs, answers, run, clock, bars, pool).run()
    finally:
        bars.close()
    run.event(RunEnd(len(answers.answered), round(clock.elapsed(), 3), None))
    return read_run(folder)


class PretendedPool(Pool[Member]):
    """A pool without processes. `now`: the supervisor's clock; `spent`: seconds since the worker that trains now was given its task."""

    def __init__(self, recording: Recording, preset: Preset, seed: int) -> None:
        self.members: dict[int, Member] = {}
        self.now = self.spent = 0.0
        self._recording, rng = recording, np.random.default_rng(seed)
        solvers: dict[str, Any] = {name: PretendedSolver(model, preset, self, rng) for name, model in recording.models.items()}
        self._ensemble = Ensemble(solvers, lambda: self.spent)
        self._coming: list[tuple[float, int, Member, Any]] = []
        self._order = count()

    def start(self, spec: WorkerSpec, now: float) -> None:
        member = Member(spec, heard=now)
        self.members[spec.number] = member
        self._schedule(member, median(self._recording.start_ups or [0.0]), Ready({"device": spec.device}))

    def give(self, member: Member, work: Assignment, now: float) -> bool:
        self.spent = median(self._recording.set_ups or [0.0])
        seconds = None if work.seconds is None else work.seconds - self.spent
        for message in self._ensemble.solve(work.task, seconds=seconds, segments=work.segments, restart=work.restart):
            self._schedule(member, self.spent, message)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[Member, Any]]:
        until = self.now + max(0.0, seconds)
        if self._coming:
            until = max(until, self._coming[0][0])  # nothing happens before: the clock may jump over those ticks
        while self._coming and self._coming[0][0] <= until:
            at, _, member, message = heapq.heappop(self._coming)
            if self.members.get(member.spec.number) is member:
                self._jump(max(self.now, at))
                yield member, message
                return
        self._jump(until)

    def remove(self, member: Member) -> int:
        self.members.pop(member.spec.number, None)
        return -9

    def dismiss(self) -> None:
        self.members.clear()

    def _jump(self, now: float) -> None:
        self.now = now
        for member in self.members.values():
            member.heard = now

    def _schedule(self, member: Member, delay: float, message: Any) -> None:
        heapq.heappush(self._coming, (self.now + delay, next(self._order), member, message))


class PretendedSolver:
    """Stands in for a TaskSolver whose model is that of `record`, with the votes of `preset`: it moves `pool.spent` on, and trains nothing.
    Its votes agree after as many segments as those of one of the recorded tasks, drawn anew."""

    def __init__(self, record: ModelRecord, preset: Preset, pool: PretendedPool, rng: np.random.Generator) -> None:
        self.preset, self._record, self._pool, self._rng = replace(record.preset, vote=preset.vote), record, pool, rng

    def solve(self, task: Task, *, seconds: float | None, segments: int | None, restart: int) -> Iterator[Message]:
        """Yield the messages of a session, as `hrm_submit.solver.session` does."""
        model, ttt, vote, known = self.preset.model, self.preset.ttt, self.preset.vote, self._record.settled_after
        work = task_work(model, ttt, task), view_work(model, answering_side(task, translate=ttt.translate) ** 2, vote.act_steps)
        segment, view = self._record.segment.seconds(work[0]), len(task.test) * self._record.view.seconds(work[1])
        share, began = float("inf") if seconds is None else seconds, self._pool.spent
        most = min(segments or ttt.max_segments, ttt.max_segments)
        end = min(share - min(share / 3, 1.5 * (vote.views * view + segment)), most * segment)
        settles = known[int(self._rng.integers(len(known)))] if known else None
        done, trained, next_vote, reason = 0, 0.0, ttt.first_vote, "time used"
        while True:
            now = self._pool.spent - began
            steps = min(max(1, int(np.ceil(max(0.0, min(next_vote * end, end) - now) / segment))), most - done)
            done, trained = done + steps, trained + steps * segment
            self._pool.spent += steps * segment
            yield Progress(task.id, done, 0.1, 1.0, trained)
            if self._pool.spent - began >= end or done >= most:
                break
            views = max(1, vote.views // 4)
            self._pool.spent += views * view
            yield _answer(task, done, MID_RUN, views, views * view)
            next_vote = VOTE_GROWTH * max(next_vote, (self._pool.spent - began) / end)
            if settles is not None and done >= settles:
                reason = VOTES_AGREE
                break
        views = max(1, min(vote.views, int(((1 + OVERRUN) * share - (self._pool.spent - began)) / view))) if view > 0 else vote.views
        self._pool.spent += views * view
        yield _answer(task, done, reason, views, views * view)


def _answer(task: Task, segments: int, reason: str, views: int, seconds: float) -> Answer:
    """An answer whose votes agree if that is the `reason` for the end, and else are split between two grids."""
    settled = reason == VOTES_AGREE
    split = [views] if settled or views < 2 else [views - views // 2, views // 2]
    outputs = (tuple(Candidate(make_grid([[k]]), n, -0.1) for k, n in enumerate(split)),) * len(task.test)
    return Answer(task.id, outputs, reason != MID_RUN, segments, reason, settled, views, seconds)
