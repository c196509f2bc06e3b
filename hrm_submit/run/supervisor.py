"""The supervisor: hands out tasks, keeps every answer at once in the run folder and the submission file, ends on time.

It never waits for a worker longer than its deadline allows. A worker that dies, hangs or fails costs at most one attempt of
the task it held, which is tried once more; a device on which no worker starts is no longer used, and the run falls back to the CPU.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.record import events
from hrm_submit.record.folder import RunWriter
from hrm_submit.run.answers import AnswerBook
from hrm_submit.run.keeper import CANDIDATES_KEPT, Keeper
from hrm_submit.run.placement import on_cpu, worker_specs
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.scheduler import Scheduler, Standing
from hrm_submit.run.shares import usable_seconds
from hrm_submit.run.worker_pool import Gone, Member, Pool, WorkerPool
from hrm_submit.solver.messages import Answer, Progress, Restarted

log = logging.getLogger(__name__)

MOST_FALSE_STARTS = 2
"""Workers in a row that may end before they are ready until their device is given up."""
TICK_SECONDS = 0.5
LEAST_PATIENCE = 20.0
STARTING_PATIENCE = 60.0
FEW = 16
"""Workers of whom all are looked at whenever anything happens; of more, only now and then."""
SLEPT = 10.0
"""Seconds between two looks for hung workers after which it is taken that the supervisor itself did not run."""
OVERDUE = 0.25
"""Part of its share, and at least five seconds, after which nobody counts on a worker that is late."""
PLANS = 8
"""Times that the plan is written down while the first pass goes on."""


@dataclass(frozen=True)
class Work:
    """What a run has to do: `tasks` in `budget` seconds or in `segments` segments each."""

    tasks: tuple[Task, ...]
    budget: float | None
    segments: int | None


class Supervisor:
    """One run, from the first worker to the last answer."""

    def __init__(
        self,
        work: Work,
        specs: list[WorkerSpec],
        preset: Preset,
        book: AnswerBook,
        run: RunWriter,
        clock: Clock,
        bars: ProgressBars,
        pool: Pool[Any] | None = None,
    ) -> None:
        """`pool` are the workers: by default processes of this machine; those of a cluster, or a play without any."""
        self._preset, self._run, self._clock, self._bars = preset, run, clock, bars
        self._keeper = Keeper(book, run, clock)
        self._pool: Pool[Any] = pool or WorkerPool()
        self._specs = specs
        self._false_starts: Counter[str] = Counter()
        self._known: dict[str, int] = {}
        self._next_number = len(specs)
        self._checked = self._looked = self._shown = 0.0
        self._freed: set[int] = set()
        self._budget = work.budget or float("inf")
        self._least_patience = min(preset.budget.hang_seconds, LEAST_PATIENCE)
        self._end = usable_seconds(work.budget, preset.budget) if work.budget is not None else float("inf")
        # Between the end of the last share and the budget's end: half for answers that come late, half for the last write.
        self._hard_end = (self._end + work.budget) / 2 if work.budget is not None else float("inf")
        self._scheduler = Scheduler(work.tasks, preset, self._end, work.segments)
        self._plan_at = [len(work.tasks) - k * len(work.tasks) // PLANS for k in range(PLANS)]

    def run(self) -> None:
        """Until every task has its final answer or time is up. Nothing that a worker does can raise here."""
        scheduler = self._scheduler
        try:
            for spec in self._specs if scheduler.queue else []:
                self._start(spec)
            while self._pool.members and self._clock.elapsed() < self._hard_end:
                self._hand_out()
                if self._nothing_follows():
                    break
                for spec in self._pool.newcomers():
                    self._start(replace(spec, number=self._number()))
                for member, message in self._pool.listen(min(TICK_SECONDS, self._hard_end - self._clock.elapsed())):
                    self._take(member, message)
                self._check_hangs()
                self._keeper.save()
                self._show()
        finally:
            held = [m.assignment.task.id for m in self._busy() if m.assignment and not m.assignment.restart]
            self._pool.dismiss()
            for task in [*held, *(t.id for t in scheduler.queue)]:
                reason = "time is up" if self._clock.elapsed() >= self._end else "no worker left"
                self._run.event(events.TaskFailed(reason, task=task))
            self._keeper.save(last=True)

    def _show(self) -> None:
        now = self._clock.elapsed()
        if now - self._shown >= TICK_SECONDS or len(self._pool.members) <= FEW:
            self._shown = now
            self._bars.tick(self._clock)

    def _busy(self) -> Iterator[Member]:
        return (m for m in self._pool.members.values() if m.assignment is not None)

    def _nothing_follows(self) -> bool:
        """Whether everybody is idle though work was offered just now, or only starts up for work that nobody has."""
        if all(m.idle for m in self._pool.members.values()):
            return True
        return not self._scheduler.queue and not any(True for _ in self._busy()) and not self._scheduler.open

    def _start(self, spec: WorkerSpec) -> None:
        try:
            self._pool.start(spec, self._clock.elapsed())
        except OSError as error:
            log.warning("worker %d cannot be started: %s", spec.number, error)
            return
        self._run.event(events.WorkerStart(spec.place, worker=spec.number))

    def _standing(self, m: Member, now: float) -> Standing:
        return Standing(m.spec.number, m.spec.device, self._free_at(m, now), m.spec.node)

    def _standings(self, now: float, but: Member | None = None) -> list[Standing]:
        return [self._standing(m, now) for m in self._pool.members.values() if m is not but]

    def _free_at(self, member: Member, now: float) -> float:
        if member.assignment is None or member.assignment.seconds is None:
            return now
        late = now - member.due
        return self._end if late > max(5.0, OVERDUE * member.assignment.seconds) else max(now, member.due)

    def _hand_out(self) -> None:
        """Give work to who is free: whom a message has made so, and now and then all, as somebody may have had to wait."""
        now, members = self._clock.elapsed(), self._pool.members
        if now - self._looked >= TICK_SECONDS or len(members) <= FEW:
            self._looked, self._freed = now, set(members)
        asked, self._freed = self._freed, set()
        for member in [members[number] for number in sorted(asked) if number in members and members[number].idle]:
            now = self._clock.elapsed()
            if len(self._scheduler.queue) in self._plan_at[:1]:
                self._write_plan(now)
            number = member.spec.number
            assignment = self._scheduler.next(self._standing(member, now), self._standings(now, member), now)
            if assignment is None:
                continue
            task, restart = assignment.task.id, assignment.restart or None
            attempt = None if restart else self._scheduler.attempts[task]
            self._run.event(events.TaskStart(assignment.seconds, assignment.segments, attempt, restart, task=task, worker=number))
            self._bars.started(number, task, assignment.seconds, member.spec.node)
            if not self._pool.give(member, assignment, now):
                member.assignment = assignment
                self._lost(member, "worker could not take it")

    def _write_plan(self, now: float) -> None:
        """Note who would get how long by what is known now."""
        self._plan_at = [n for n in self._plan_at[1:] if n < len(self._scheduler.queue)]
        shares = self._scheduler.shares(self._standings(now), now)
        if shares:
            rounded = {task: round(seconds, 2) for task, seconds in shares.items()}
            self._run.event(events.Plan(shares=rounded, end=round(self._end, 2), given_back=round(self._scheduler.bank, 2)))

    def _take(self, member: Member, message: Any) -> None:
        self._freed.add(member.spec.number)
        member.heard, number = self._clock.elapsed(), member.spec.number
        if isinstance(message, Ready):
            member.ready = True
            self._run.event(events.WorkerStart(worker=number, ready=True, runtime=message.runtime))
            self._keeper.worker(number, message.runtime)
        elif isinstance(message, Progress):
            loss = message.loss if math.isfinite(message.loss) else None  # JSON has no NaN
            told = message.segments, loss, message.demo_exact, round(message.seconds, 3)
            self._run.event(events.Progress(*told, task=message.task, worker=number))
            self._scheduler.progress(number, message)
            self._bars.progress(message, number)
        elif isinstance(message, Answer):
            self._answer(member, message)
        elif isinstance(message, Restarted):
            self._run.event(events.Retry(message.reason, task=message.task, worker=number))
        elif isinstance(message, Failed) and message.fatal:
            self._lost(member, message.fault)
        elif isinstance(message, Failed) and member.assignment:
            held, member.assignment = member.assignment, None
            self._failed(held, number, message.fault, memory=message.memory)
        elif isinstance(message, Gone):
            self._lost(member, "worker died")

    def _answer(self, member: Member, answer: Answer) -> None:
        assignment, number = member.assignment, member.spec.number
        if assignment is None or assignment.task.id != answer.task:
            return
        if not any(answer.outputs) and answer.final and not assignment.restart:
            # A last vote without a single grid keeps the candidates that an earlier one may have had.
            answer = replace(answer, outputs=self._keeper.latest.get(answer.task, answer.outputs))
        votes = [[c.votes for c in candidates[:CANDIDATES_KEPT]] for candidates in answer.outputs]
        told = answer.segments, votes, answer.views, round(answer.seconds, 4)
        if not answer.final:
            self._run.event(events.Candidates(*told, task=answer.task, worker=number))
            # What a training anew thinks on its way is less than what the one before it knew when it had come further.
            if not assignment.restart and answer.segments >= self._known.get(answer.task, 0):
                self._known[answer.task] = answer.segments
                self._keeper.put(answer.task, answer.outputs, final=False)
            return
        member.assignment = None
        seconds = self._clock.elapsed() - (member.due - (assignment.seconds or 0.0))
        outputs = self._scheduler.finished(number, answer, seconds)
        self._keeper.put(answer.task, outputs, final=True)
        ended = round(seconds, 3), answer.reason, answer.settled, assignment.restart or None
        self._run.event(events.TaskFinal(*told, *ended, task=answer.task, worker=number))
        if assignment.restart:
            self._bars.ended(number)
        else:
            self._bars.final(answer, seconds, number)

    def _failed(self, held: Assignment, worker: int, reason: str, *, memory: bool = False) -> None:
        """A task lost its attempt: once more later, elsewhere if possible, or its best answers so far are its answers."""
        task = held.task.id
        self._bars.ended(worker)
        again = self._scheduler.failed(worker, memory=memory)
        attempt = self._scheduler.attempts[task]
        self._run.event(events.TaskFailed(reason, attempt, held.restart, task=task, worker=worker))
        if again:
            self._run.event(events.Retry(reason, task=task, worker=worker))
            log.warning("task %s: %s; it is tried again later", task, reason)
            if self._scheduler.needs_cpu and not any(m.spec.device == "cpu" for m in self._pool.members.values()):
                first = self._specs[0]
                self._start(replace(first, number=self._number(), device="cpu", preset=on_cpu(first.preset), sharing=1))
            return
        log.warning("task %s: %s; it keeps its best answer so far", task, reason)
        if not held.restart:
            self._bars.given_up(task)

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _lost(self, member: Member, reason: str) -> None:
        """A worker is gone or must go: count what it held, and put another in its place."""
        spec, held = member.spec, member.assignment
        code = self._pool.remove(member)
        self._run.event(events.WorkerExit(code, reason, task=held.task.id if held else None, worker=spec.number))
        if held:
            self._failed(held, spec.number, reason if code is None else f"{reason} (exit code {code})")
        place = spec.place
        self._false_starts[place] = 0 if member.ready else self._false_starts[place] + 1
        if self._false_starts[place] >= MOST_FALSE_STARTS:
            log.warning("%s: no worker starts there, the device is no longer used", place)
            if spec.device == "cpu" or self._pool.members:
                return
            fixed = self._end == float("inf")
            specs, _ = worker_specs(["cpu"], on_cpu(spec.preset), spec.checkpoint, spec.seed, self._scheduler.queue, fixed)
        else:
            specs = [spec]
        for new in specs:
            self._start(replace(new, number=self._number(), raw=spec.raw))

    def _check_hangs(self) -> None:
        now = self._clock.elapsed()
        if now - self._checked < TICK_SECONDS and len(self._pool.members) > FEW:
            return
        if now - self._checked > SLEPT:
            # It was this process that stood still, and perhaps the whole machine: what workers said meanwhile comes only now.
            for member in self._pool.members.values():
                member.heard = min(now, member.heard + now - self._checked)
        self._checked = now
        for member in list(self._pool.members.values()):
            silent = now - member.heard
            if silent > self._least_patience and not member.idle and silent > self._patience(member):
                self._lost(member, "worker hangs")

    def _patience(self, member: Member) -> float:
        """Seconds of silence after which a worker is taken for hung; starting up may take long whatever the budget."""
        most = self._preset.budget.hang_seconds
        if not member.ready:
            return max(most, STARTING_PATIENCE)
        segment = (
            self._scheduler.segment_seconds(member.assignment.task.id, member.spec.device, member.spec.node) if member.assignment else 0.0
        )
        return min(most, max(LEAST_PATIENCE, self._budget / 10, 5 * segment))
