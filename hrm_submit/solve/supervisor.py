"""The supervisor: hands out tasks, keeps every answer at once in the run folder and the submission file, ends on time.

It never waits for a worker longer than its deadline allows. A worker that dies, hangs or fails costs at most one attempt of
the task it held, which is tried once more; a device on which no worker gets ready is given up, and the CPU takes over.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.core.clock import Clock
from hrm_submit.core.config import Preset
from hrm_submit.core.device import cpu_count
from hrm_submit.core.runfolder import RunWriter
from hrm_submit.plan.shares import next_share, usable_seconds
from hrm_submit.predict.vote import Candidate
from hrm_submit.solve.answers import AnswerBook
from hrm_submit.solve.crew import Crew, Gone, Member
from hrm_submit.solve.messages import Answer, Assignment, Failed, Progress, Ready, WorkerSpec
from hrm_submit.solve.watch import Watcher

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 2
"""Attempts that a task gets when workers fail under it."""
MOST_FALSE_STARTS = 2
"""Workers in a row that may end before they are ready until their device is given up."""
TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What a run has to do: `tasks` in order, each in an equal share of `budget` seconds or in `segments` segments."""

    tasks: tuple[Task, ...]
    budget: float | None
    segments: int | None


class Supervisor:
    """One run, from the first worker to the last answer."""

    def __init__(
        self, plan: Plan, specs: list[WorkerSpec], preset: Preset, book: AnswerBook, run: RunWriter, clock: Clock, watcher: Watcher
    ) -> None:
        self._queue = sorted(plan.tasks, key=_cost, reverse=plan.segments is not None)
        self._plan, self._preset = plan, preset
        self._book, self._run, self._clock, self._watcher = book, run, clock, watcher
        self._crew = Crew()
        self._specs = specs
        self._attempts: Counter[str] = Counter()
        self._false_starts: Counter[str] = Counter()
        self._latest: dict[str, tuple[tuple[Candidate, ...], ...]] = {}
        self._started: dict[str, float] = {}
        self._fault: str | None = None
        self._next_number = len(specs)
        usable = usable_seconds(plan.budget, preset.budget) if plan.budget is not None else float("inf")
        self._end_of_shares = usable
        # Between the end of the last share and the budget's end: half for answers that come late, half for the last write.
        self._hard_end = (usable + plan.budget) / 2 if plan.budget is not None else float("inf")

    def run(self) -> None:
        """Until every task has its final answer or time is up. Nothing that a worker does can raise here."""
        try:
            for spec in self._specs if self._queue else []:
                self._start(spec)
            while (self._queue or self._busy()) and self._crew.members and self._clock.elapsed() < self._hard_end:
                self._hand_out()
                for member, message in self._crew.listen(min(TICK_SECONDS, self._hard_end - self._clock.elapsed())):
                    self._take(member, message)
                self._check_hangs()
                self._save()
                self._watcher.tick(self._clock)
        finally:
            unfinished = [m.assignment.task.id for m in self._busy() if m.assignment] + [t.id for t in self._queue]
            self._crew.dismiss()
            for task in unfinished:
                self._run.event("task_failed", task, reason="time is up" if self._clock.elapsed() >= self._hard_end else "no worker left")
            self._save()

    def _busy(self) -> list[Member]:
        return [m for m in self._crew.members.values() if m.assignment is not None]

    def _start(self, spec: WorkerSpec) -> None:
        try:
            self._crew.start(spec, self._clock.elapsed())
        except OSError as error:
            log.warning("worker %d cannot be started: %s", spec.number, error)
            return
        self._run.event("worker_start", worker=spec.number, device=spec.device)

    def _hand_out(self) -> None:
        for member in [m for m in self._crew.members.values() if m.idle]:
            if not self._queue:
                return
            seconds = None
            if self._plan.segments is None:
                seconds = next_share(self._end_of_shares - self._clock.elapsed(), len(self._queue), len(self._crew.members))
                if seconds <= 0:
                    return
            task = self._queue.pop(0)
            self._attempts[task.id] += 1
            self._started[task.id] = self._clock.elapsed()
            self._run.event(
                "task_start", task.id, member.spec.number, seconds=seconds, segments=self._plan.segments, attempt=self._attempts[task.id]
            )
            if not self._crew.assign(member, Assignment(task, seconds, self._plan.segments), self._clock.elapsed()):
                member.assignment = Assignment(task, seconds, self._plan.segments)
                self._lost(member, "worker could not take it")

    def _take(self, member: Member, message: Any) -> None:
        member.heard = self._clock.elapsed()
        if isinstance(message, Ready):
            member.ready = True
            self._run.event("worker_start", worker=member.spec.number, ready=True, **message.runtime)
        elif isinstance(message, Progress):
            self._run.event(
                "progress",
                message.task,
                member.spec.number,
                segments=message.segments,
                loss=message.loss if math.isfinite(message.loss) else None,  # JSON has no NaN
                demo_exact=message.demo_exact,
            )
            self._watcher.progress(message)
        elif isinstance(message, Answer):
            self._answer(member, message)
        elif isinstance(message, Failed) and message.fatal:
            self._lost(member, message.fault)
        elif isinstance(message, Failed):
            member.assignment, task = None, member.assignment
            if task:
                self._failed(task.task, member.spec.number, message.fault)
        elif isinstance(message, Gone):
            self._lost(member, "worker died")

    def _answer(self, member: Member, answer: Answer) -> None:
        worker = member.spec.number
        if not any(answer.outputs) and answer.final:
            # A last vote without a single grid keeps the candidates that an earlier one may have had.
            answer = replace(answer, outputs=self._latest.get(answer.task, answer.outputs))
        self._latest[answer.task] = answer.outputs
        self._book.put(answer.task, answer.outputs)
        self._record(answer.task, answer.outputs, answer.final)
        votes = [[c.votes for c in candidates[: self._preset.vote.keep]] for candidates in answer.outputs]
        if not answer.final:
            self._run.event("candidates", answer.task, worker, segments=answer.segments, votes=votes)
            return
        member.assignment = None
        seconds = self._clock.elapsed() - self._started[answer.task]
        self._run.event(
            "task_final", answer.task, worker, segments=answer.segments, votes=votes, seconds=round(seconds, 3), reason=answer.reason
        )
        self._watcher.final(answer, seconds)

    def _record(self, task: str, outputs: tuple[tuple[Candidate, ...], ...], final: bool) -> None:
        for k, candidates in enumerate(outputs):
            kept = [{"grid": c.grid.tolist(), "votes": c.votes, "score": round(c.score, 6)} for c in candidates[: self._preset.vote.keep]]
            self._run.prediction(task, k, final, kept)

    def _failed(self, task: Task, worker: int, reason: str) -> None:
        """A task lost its attempt: once more later, or its best answers so far are its answers."""
        self._run.event("task_failed", task.id, worker, reason=reason, attempt=self._attempts[task.id])
        if self._attempts[task.id] < MOST_ATTEMPTS:
            self._queue.append(task)
            self._run.event("retry", task.id, worker)
            log.warning("task %s: %s; it is tried again later", task.id, reason)
            return
        log.warning("task %s: %s; its best answer so far stays", task.id, reason)
        self._watcher.given_up(task.id)

    def _lost(self, member: Member, reason: str) -> None:
        """A worker is gone or must go: count what it held, and put another in its place."""
        spec, held = member.spec, member.assignment
        code = self._crew.remove(member)
        self._run.event("worker_exit", held.task.id if held else None, spec.number, code=code, reason=reason)
        if held:
            self._failed(held.task, spec.number, f"{reason} (exit code {code})")
        device = spec.device
        self._false_starts[device] = 0 if member.ready else self._false_starts[device] + 1
        if self._false_starts[device] >= MOST_FALSE_STARTS:
            log.warning("%s: no worker gets ready, the device is given up", device)
            if device == "cpu" or self._crew.members:
                return
            specs, _ = worker_specs(["cpu"], spec.preset, spec.checkpoint, spec.seed, len(self._queue), self._plan.segments is not None)
        else:
            specs = [spec]
        for new in specs:
            self._start(replace(new, number=self._next_number))
            self._next_number += 1

    def _check_hangs(self) -> None:
        now = self._clock.elapsed()
        for member in list(self._crew.members.values()):
            if (member.assignment or not member.ready) and now - member.heard > self._preset.budget.hang_seconds:
                self._lost(member, "worker hangs")

    def _save(self) -> None:
        fault = self._book.save()
        self._run.flush()
        if fault and fault != self._fault:  # told once, though it is tried again at every tick
            self._run.event("flush", failed="submission", reason=fault)
        self._fault = fault


def worker_specs(
    devices: list[str], preset: Preset, checkpoint: Any, seed: int, tasks: int, fixed_work: bool
) -> tuple[list[WorkerSpec], Preset]:
    """A worker for each GPU; on a CPU as many as `[device] workers` says, or one for each core, but no more than tasks.

    With fewer tasks than cores the spare cores become threads of the workers, except in fixed-work mode, where the number
    of threads must not depend on the machine.
    """
    places = [d for d in devices if d != "cpu"]
    if "cpu" in devices:
        cores = max(1, (preset.device.workers or cpu_count() // preset.device.threads))
        workers = max(1, min(cores, tasks))
        if not fixed_work and not preset.device.workers and tasks and workers < cores:
            preset = replace(preset, device=replace(preset.device, threads=max(1, cpu_count() // workers)))
        places += ["cpu"] * workers
    return [WorkerSpec(number, device, preset, checkpoint, seed) for number, device in enumerate(places)], preset


def _cost(task: Task) -> tuple[int, str]:
    return canvas_side(task), task.id
