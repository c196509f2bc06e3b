"""A whole run played in seconds: the real supervisor on a clock that jumps from event to event, and workers that only pretend.

What a pretended worker does follows a recording: how long its start, a segment and a view take, and after how many segments
votes agree. Faults are drawn: workers that die, hang, or fail.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task, make_grid
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.events import Plan, RunEnd, RunStart
from hrm_submit.record.folder import RunRecord, RunWriter, read_run
from hrm_submit.run.answers import AnswerBook
from hrm_submit.run.cost import segment_work, view_work
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.supervisor import Supervisor, Work
from hrm_submit.run.worker_pool import Gone, PooledWorker, WorkerPool
from hrm_submit.solver.messages import Answer, Progress
from hrm_submit.solver.session import OVERRUN
from lab.budget.recording import Recording

Timeline = list[tuple[float, Any]]


SIGNS_SECONDS = 1.0
"""Between two signs of life of the pretended workers."""


@dataclass(frozen=True)
class Faults:
    """Chances, for each training of a task, that its worker dies, hangs, or fails at some moment of it."""

    die: float = 0.0
    hang: float = 0.0
    fail: float = 0.0


class Pretended(WorkerPool):
    """A pool without processes."""

    def __init__(self, recording: Recording, preset: Preset, faults: Faults, seed: int) -> None:
        self.members: dict[int, PooledWorker] = {}
        self.now = self._signs = 0.0
        self._recording, self._preset, self._faults = recording, preset, faults
        self._rng = np.random.default_rng(seed)
        self._coming: list[tuple[float, int, PooledWorker, Any]] = []
        self._order = count()
        self._hung: set[int] = set()

    def start(self, spec: WorkerSpec, now: float) -> None:
        member = PooledWorker(spec, None, None, heard=now)  # type: ignore[arg-type]
        self.members[spec.number] = member
        self._say(member, [(self._recording.start_up, Ready({"device": spec.device}))])

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        member.takes(work, now)
        says = self._session(work)
        kind = self._rng.random()
        until = self._rng.random() * says[-1][0]
        chances = np.cumsum([self._faults.die, self._faults.hang, self._faults.fail])
        if kind < chances[-1]:
            says = [(t, m) for t, m in says if t < until]
            if kind < chances[0]:
                says.append((until, Gone()))
            elif kind < chances[1]:
                self._hung.add(member.spec.number)
            else:
                says.append((until, Failed(work.task.id, "RuntimeError: drawn")))
        self._say(member, says)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        until = self.now + max(0.0, seconds)
        if self._coming and not self._hung:
            until = max(until, self._coming[0][0])  # nothing happens before: the clock may pass over those ticks
        while self._coming and self._coming[0][0] <= until:
            at, _, member, message = heapq.heappop(self._coming)
            if self.members.get(member.spec.number) is not member:
                continue
            self.now = max(self.now, at)
            self._signs_of_life()
            yield member, message
            return
        self.now = until
        self._signs_of_life()

    def remove(self, member: PooledWorker) -> int:
        self.members.pop(member.spec.number, None)
        self._hung.discard(member.spec.number)
        return -9

    def dismiss(self) -> None:
        self.members.clear()

    def _signs_of_life(self) -> None:
        if self.now - self._signs < SIGNS_SECONDS:
            return
        self._signs = self.now
        for number, member in self.members.items():
            if number not in self._hung:
                member.heard = self.now

    def _say(self, member: PooledWorker, timeline: Timeline) -> None:
        for delay, message in timeline:
            heapq.heappush(self._coming, (self.now + delay, next(self._order), member, message))

    def _session(self, assignment: Assignment) -> Timeline:
        """What a session says while it uses its share, and when: see `hrm_submit.solver.session`."""
        task, ttt, vote = assignment.task, self._preset.ttt, self._preset.vote
        tokens, tests = canvas_side(task) ** 2, len(task.test)
        segment = self._recording.segment.seconds(segment_work(self._preset.model, ttt, tokens))
        view = tests * (self._recording.view.seconds(view_work(self._preset.model, tokens, vote.act_steps)) if vote.views else 0.0)
        share = assignment.seconds if assignment.seconds is not None else float("inf")
        last = min(share / 3, 1.5 * (vote.views * view + segment))
        settles = self._settles()
        says: Timeline = []
        now, trained, segments, next_look, reason = self._recording.set_up, 0.0, 0, ttt.first_vote, "share used"
        while True:
            look = next_look * (share - last)
            wanted = max(1, int(np.ceil(max(0.0, min(look, share - last) - now) / segment)))
            steps = min(wanted, ttt.max_segments - segments)
            segments, trained, now = segments + steps, trained + steps * segment, now + steps * segment
            says.append((now, Progress(task.id, segments, 0.1, 1.0, trained)))
            if now >= share - last or segments >= ttt.max_segments:
                break
            views = max(1, vote.views // 4)
            now += views * view
            says.append((now, self._answer(task, False, segments, "on the way", False, views, views * view)))
            next_look = ttt.vote_growth * max(next_look, now / (share - last))
            if settles is not None and segments >= settles:
                reason = "votes agree"
                break
        views = max(1, min(vote.views, int(((1 + OVERRUN) * share - now) / view))) if view > 0 else vote.views
        now += views * view
        says.append((now, self._answer(task, True, segments, reason, reason == "votes agree", views, views * view)))
        return says

    def _settles(self) -> int | None:
        """After how many segments this task's votes will agree: as for one of the recorded tasks, drawn anew."""
        known = self._recording.settled_after
        return known[int(self._rng.integers(len(known)))] if known else None

    def _answer(self, task: Task, final: bool, segments: int, reason: str, settled: bool, views: int, seconds: float) -> Answer:
        split = [views] if settled or views < 2 else [views - views // 2, views // 2]
        candidates = tuple(Candidate(make_grid([[k]]), n, -0.1) for k, n in enumerate(split))
        return Answer(task.id, tuple(candidates for _ in task.test), final, segments, reason, settled, views, seconds)


def replay(
    recording: Recording,
    preset: Preset,
    tasks: Sequence[Task],
    workers: Sequence[str],
    budget: float,
    folder: Path,
    *,
    faults: Faults = Faults(),
    seed: int = 0,
    pool: Pretended | None = None,
    supervisor: type[Supervisor] = Supervisor,
) -> RunRecord:
    """Play a run of `tasks` on `workers` (their devices) in `budget` seconds into the run folder `folder`, and read it back. Another `pool`
    and another `supervisor` are for who watches them."""
    by_id: Mapping[str, Task] = {t.id: t for t in tasks}
    pool = pool or Pretended(recording, preset, faults, seed)
    clock = Clock(budget, source=lambda: pool.now)
    book = AnswerBook(by_id, {}, folder / "submission.json")
    run = RunWriter(folder, clock.elapsed)
    book.create()
    run.describe({"command": "replay", "config": preset.to_dict(), "budget": budget, "seed": seed, "devices": list(workers)})
    run.event(RunStart(budget, len(tasks), [], 0))
    run.event(Plan(list(by_id), len(workers), list(workers)))
    specs = [WorkerSpec(n, place.rpartition("/")[2], preset, None, seed, node=place.rpartition("/")[0]) for n, place in enumerate(workers)]
    bars = ProgressBars(len(tasks))
    try:
        supervisor(Work(tuple(tasks), budget, None), specs, preset, book, run, clock, bars, pool).run()
    finally:
        bars.close()
    run.event(RunEnd(len(book.answered), round(clock.elapsed(), 3), None))
    return read_run(folder)
