"""Simulate a whole run in seconds: the real supervisor on a clock that jumps from event to event, and workers that only pretend.

A pretended worker follows a recording: how long its start, a segment and a view take, and after how many segments votes agree. Faults are
drawn: workers that die, hang, or fail.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hrm_submit.arc.sizes import answering_side, canvas_side
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import cpu_count
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunRecord, RunWriter, read_run
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.cost import task_work, training_bytes, view_work, workers_that_fit
from hrm_submit.run.placement import MOST_ON_A_GPU
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.supervisor import Supervisor
from hrm_submit.run.worker_pool import Gone, Member, Pool
from hrm_submit.solver.messages import Answer, Progress
from hrm_submit.solver.session import OVERRUN, VOTE_GROWTH
from lab.budget_recording import Recording

Timeline = list[tuple[float, Any]]
MID_RUN = "mid-run vote"
"""The reason that a mid-run vote gives."""


@dataclass(frozen=True)
class Faults:
    """Chances, for each training of a task, that its worker dies, hangs, or fails at some moment of it."""

    die: float = 0.0
    hang: float = 0.0
    fail: float = 0.0


def planned_devices(recording: Recording, preset: Preset, tasks: Sequence[Task], profile: str | None) -> list[str]:
    """List the device of each worker: as recorded, or those of a profile's machine."""
    if profile is None:
        recorded = read_run(recording.folders[0]).run.get("devices")
        return [str(d) for d in recorded] if recorded else ["cpu"] * cpu_count()
    device = load_preset(profile, preset).device
    if not device.count:
        return ["cpu"] * (device.workers or max(1, cpu_count() // device.threads))
    tokens = max(canvas_side(t) for t in tasks) ** 2
    need = training_bytes(preset.model, tokens, preset.ttt.batch_size, element=2, fused_attention=True)
    each = device.workers_per_gpu or workers_that_fit(int(device.memory_gib * 2**30), need, MOST_ON_A_GPU)
    return [f"cuda:{number}" for _ in range(each) for number in range(device.count)]


def replay(
    recording: Recording,
    preset: Preset,
    tasks: Sequence[Task],
    devices: Sequence[str],
    budget: float,
    folder: Path,
    faults: Faults = Faults(),
    seed: int = 0,
) -> RunRecord:
    """Simulate a run of `tasks` by a worker on each of `devices` in `budget` seconds into the run folder `folder`, and read it back."""
    by_id = {t.id: t for t in tasks}
    pool = PretendedPool(recording, preset, faults, seed)
    clock = Clock(budget, source=lambda: pool.now)
    answers = AnswerStore(by_id, {}, folder / "submission.json")
    run = RunWriter(folder, clock.elapsed)
    answers.create()
    run.describe({"command": "replay", "config": preset.to_dict(), "budget": budget, "seed": seed, "devices": list(devices)})
    run.event(RunStart(budget, len(tasks), [], 0))
    run.event(Plan(list(by_id), len(devices), list(devices)))
    specs = [WorkerSpec(number, device, preset, None, seed) for number, device in enumerate(devices)]
    bars = ProgressBars(len(tasks))
    try:
        Supervisor(tasks, None, specs, preset, answers, run, clock, bars, pool).run()
    finally:
        bars.close()
    run.event(RunEnd(len(answers.answered), round(clock.elapsed(), 3), None))
    return read_run(folder)


class PretendedPool(Pool[Member]):
    """A pool without processes."""

    def __init__(self, recording: Recording, preset: Preset, faults: Faults, seed: int) -> None:
        self.members: dict[int, Member] = {}
        self.now = 0.0
        self._recording, self._preset, self._faults = recording, preset, faults
        self._rng = np.random.default_rng(seed)
        self._coming: list[tuple[float, int, Member, Any]] = []
        self._order = count()
        self._hung: set[int] = set()

    def start(self, spec: WorkerSpec, now: float) -> None:
        member = Member(spec, heard=now)
        self.members[spec.number] = member
        self._schedule(member, [(median(self._recording.start_ups or [0.0]), Ready({"device": spec.device}))])

    def give(self, member: Member, work: Assignment, now: float) -> bool:
        member.begin(work, now)
        messages = self._session(work)
        kind = self._rng.random()
        until = self._rng.random() * messages[-1][0]
        chances = np.cumsum([self._faults.die, self._faults.hang, self._faults.fail])
        if kind < chances[-1]:
            messages = [(t, m) for t, m in messages if t < until]
            if kind < chances[0]:
                messages.append((until, Gone()))
            elif kind < chances[1]:
                self._hung.add(member.spec.number)
            else:
                messages.append((until, Failed(work.task.id, "RuntimeError: drawn")))
        self._schedule(member, messages)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[Member, Any]]:
        until = self.now + max(0.0, seconds)
        if self._coming and not self._hung:
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
        self._hung.discard(member.spec.number)
        return -9

    def dismiss(self) -> None:
        self.members.clear()

    def _jump(self, now: float) -> None:
        self.now = now
        for number, member in self.members.items():
            if number not in self._hung:
                member.heard = now

    def _schedule(self, member: Member, timeline: Timeline) -> None:
        for delay, message in timeline:
            heapq.heappush(self._coming, (self.now + delay, next(self._order), member, message))

    def _session(self, assignment: Assignment) -> Timeline:
        """The messages of a session that uses its share, and when they come: see `hrm_submit.solver.session`."""
        task, ttt, vote = assignment.task, self._preset.ttt, self._preset.vote
        cells, tests = answering_side(task) ** 2, len(task.test)
        segment = self._recording.segment.seconds(task_work(self._preset.model, ttt, task))
        view = tests * (self._recording.view.seconds(view_work(self._preset.model, cells, vote.act_steps)) if vote.views else 0.0)
        share = assignment.seconds if assignment.seconds is not None else float("inf")
        end = share - min(share / 3, 1.5 * (vote.views * view + segment))
        # Its votes agree after as many segments as those of one of the recorded tasks, drawn anew.
        known = self._recording.settled_after
        settles = known[int(self._rng.integers(len(known)))] if known else None
        messages: Timeline = []
        now, trained, segments, next_vote, reason = median(self._recording.set_ups or [0.0]), 0.0, 0, ttt.first_vote, "time used"
        while True:
            needed = max(1, int(np.ceil(max(0.0, min(next_vote * end, end) - now) / segment)))
            steps = min(needed, ttt.max_segments - segments)
            segments, trained, now = segments + steps, trained + steps * segment, now + steps * segment
            messages.append((now, Progress(task.id, segments, 0.1, 1.0, trained)))
            if now >= end or segments >= ttt.max_segments:
                break
            views = max(1, vote.views // 4)
            now += views * view
            messages.append((now, _answer(task, segments, MID_RUN, views, views * view)))
            next_vote = VOTE_GROWTH * max(next_vote, now / end)
            if settles is not None and segments >= settles:
                reason = "votes agree"
                break
        views = max(1, min(vote.views, int(((1 + OVERRUN) * share - now) / view))) if view > 0 else vote.views
        now += views * view
        messages.append((now, _answer(task, segments, reason, views, views * view)))
        return messages


def _answer(task: Task, segments: int, reason: str, views: int, seconds: float) -> Answer:
    """An answer whose votes agree if that is the `reason` for the end, and else are split between two grids."""
    settled = reason == "votes agree"
    split = [views] if settled or views < 2 else [views - views // 2, views // 2]
    outputs = (tuple(Candidate(make_grid([[k]]), n, -0.1) for k, n in enumerate(split)),) * len(task.test)
    return Answer(task.id, outputs, reason != MID_RUN, segments, reason, settled, views, seconds)
