"""Hand out tasks, keep every answer at once in the run folder and the submission file, and end on time.

The supervisor never waits for a worker longer than its deadline allows. A worker that dies, hangs or fails costs at most one attempt of
its task, which is tried once more. A device on which no worker starts is given up after some tries, and the run falls back to the CPU.
"""

import logging
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from hrm_submit.arc.task import Task
from hrm_submit.core.clock import Clock
from hrm_submit.core.process import set_by_signals
from hrm_submit.predict.vote import Outputs
from hrm_submit.record import events
from hrm_submit.record.folder import RunRecord, RunWriter
from hrm_submit.record.predictions import CANDIDATES_KEPT
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.engines import Engines
from hrm_submit.run.placement import on_cpu, worker_specs
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.restarts import MOST_FAILED, SLOW_START, Restarts, patience
from hrm_submit.run.scheduler import Scheduler, Standing
from hrm_submit.run.shares import usable_seconds
from hrm_submit.run.worker_pool import Gone, Member, Pool
from hrm_submit.solver.messages import Answer, Progress, Restarted

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
ASLEEP = 10.0
"""Seconds between two checks for hung workers after which the supervisor itself is taken to have stood still."""
OVERDUE = 0.25
"""Part of its share, and at least five seconds, after which no plan counts on a late worker."""
FURTHER = 2.0
"""A mid-run vote after this many times the segments of a later attempt's last vote is better than that."""


class Supervisor:
    """One run: `tasks`, until the clock's budget is spent or each has its `segments`. `earlier`: the record of the run that it resumes."""

    def __init__(
        self,
        tasks: Sequence[Task],
        segments: int | None,
        specs: Sequence[WorkerSpec],
        answers: AnswerStore,
        run: RunWriter,
        clock: Clock,
        bars: ProgressBars,
        pool: Pool[Any],
        earlier: RunRecord | None = None,
    ) -> None:
        self._specs, self._answers, self._run, self._clock, self._bars, self._pool = specs, answers, run, clock, bars, pool
        self._preset = preset = specs[0].preset
        self._budget = math.inf if clock.budget is None else clock.budget
        self._end = math.inf if clock.budget is None else usable_seconds(clock.budget, preset.budget)
        # Between the end of the last share and the budget's end: half for answers that come late, half for the last write.
        self._hard_end = (self._end + self._budget) / 2
        self._scheduler = Scheduler(tasks, preset, self._end, segments)
        self._engines = Engines(preset.device, clock.budget, earlier.state.engines.values() if earlier else ())
        self._reached = Counter(earlier.reached if earlier else {})
        """Segments of the attempt that each task's newest answer is of."""
        self._latest: dict[str, Outputs] = earlier.newest(tasks) if earlier else {}
        """Mid-run votes, and what an earlier run found."""
        self._kept = set() if earlier else set(answers.answered)
        """Tasks answered by a run with other settings: only a last vote replaces that."""
        self._restarts = Restarts(self._budget)
        self.abandoned = 0
        """Tasks without a final answer though time was left: no worker was, or they lost all their attempts."""
        self._unusable: set[str] = set()
        self._runtimes: dict[str, dict[str, Any]] = {}
        self._numbers = count()
        self._checked = self._drawn = 0.0
        self._stop = threading.Event()
        answers.record_in(run, clock.elapsed)

    def run(self) -> None:
        """Run until every task has its final answer or time is up. Nothing that a worker does can raise here.

        Raises KeyboardInterrupt after Ctrl-C, SIGTERM or SIGHUP, when all answers so far are saved.
        """
        with set_by_signals(self._stop):
            self._run_to_end()
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _run_to_end(self) -> None:
        try:
            for spec in self._specs if self._scheduler.queue else ():
                self._start(spec)
            while (self._pool.members or self._restarts) and self._clock.elapsed() < self._hard_end and not self._stop.is_set():
                for spec in self._restarts.due(self._clock.elapsed()):
                    self._start(spec)
                self._hand_out()
                if self._nothing_follows():
                    break
                for spec in self._pool.newcomers():
                    self._start(spec)
                for member, message in self._pool.listen(min(TICK_SECONDS, self._hard_end - self._clock.elapsed())):
                    self._take(member, message)
                self._replace_hung()
                self._answers.save()
                if self._clock.elapsed() - self._drawn >= TICK_SECONDS:
                    self._drawn = self._clock.elapsed()
                    self._bars.tick(self._clock)
            for member, message in self._pool.listen(0.0):  # what came while a slow disk held up the loop
                if isinstance(message, Answer):
                    self._take(member, message)
        finally:
            held = [m.assignment.task.id for m in self._pool.members.values() if m.assignment and not m.assignment.restart]
            self._pool.dismiss()
            late = self._clock.elapsed() >= self._end
            reason = events.INTERRUPTED if self._stop.is_set() else "time is up" if late else "no worker left"
            left = [*held, *(t.id for t in self._scheduler.queue)]
            self.abandoned = 0 if late or self._stop.is_set() else self._scheduler.unanswered
            for task in left:
                self._record(events.TaskFailed(reason=reason, task=task))
            self._answers.save(last=True)

    def _record(self, event: events.Event) -> None:
        """Write an event to the run folder, and show it."""
        event = replace(event, t=self._clock.elapsed())
        self._run.event(event)
        self._bars.take(event)

    def _nothing_follows(self) -> bool:
        """Return whether all workers are idle though work was offered just now, or only start up for work that nobody has."""
        members = self._pool.members.values()
        if self._restarts and (self._scheduler.queue or self._scheduler.open):
            return False
        if all(m.idle for m in members):
            return True
        return not self._scheduler.queue and all(m.assignment is None for m in members) and not self._scheduler.open

    def _start(self, spec: WorkerSpec) -> None:
        """Start a worker like `spec`, with a number of its own."""
        spec = replace(spec, number=next(self._numbers), raw=self._specs[0].raw)
        try:
            self._pool.start(spec, self._clock.elapsed())
        except OSError as error:
            log.warning("worker %d cannot be started: %s", spec.number, error)
            self._start_again(spec, was_ready=False)
            return
        self._record(events.WorkerStart(device=spec.location, worker=spec.number))

    def _standing(self, member: Member, now: float) -> Standing:
        free_at, assignment = now, member.assignment
        if assignment is not None and assignment.seconds is not None:
            overdue = now - member.due > max(5.0, OVERDUE * assignment.seconds)
            free_at = self._end if overdue else max(now, member.due)
        return Standing(member.spec.number, member.spec.location, free_at, self._helps(member))

    def _hand_out(self) -> None:
        """Give work to all who are free."""
        for member in [m for m in self._pool.members.values() if m.idle]:
            now, number = self._clock.elapsed(), member.spec.number
            others = [self._standing(m, now) for m in self._pool.members.values() if m is not member and not self._helps(m)]
            assignment = self._scheduler.next(self._standing(member, now), others, now)
            if assignment is None:
                continue
            engine, compare_seconds = self._engines.order(member.card, number)
            assignment = replace(assignment, engine=engine, compare_seconds=compare_seconds)
            task, seconds, restart = assignment.task.id, assignment.seconds, assignment.restart or None
            attempt = None if restart else self._scheduler.attempts[task]
            self._record(events.TaskStart(seconds, assignment.segments, attempt, restart, task=task, worker=number))
            member.assignment, member.heard, member.due = assignment, now, now + (seconds or 0.0)
            if not self._pool.give(member, assignment, now):
                self._lost(member, "worker could not take it")

    def _helps(self, member: Member) -> bool:
        """Return whether `member` only takes what GPUs have no memory for, as long as there is one."""
        return member.spec.helper and (bool(self._restarts) or any(m.spec.device != "cpu" for m in self._pool.members.values()))

    def _take(self, member: Member, message: Any) -> None:
        """Act on a worker's message."""
        member.heard, number = self._clock.elapsed(), member.spec.number
        match message:
            case Ready():
                member.ready, member.card = True, message.card
                self._record(events.WorkerStart(ready=True, runtime=message.runtime, worker=number))
                self._runtimes[str(number)] = message.runtime
                self._run.describe({"workers": self._runtimes})
            case events.EngineChosen():
                self._engine(replace(message, worker=number))
            case Progress():
                loss = message.loss if math.isfinite(message.loss) else None  # JSON has no NaN
                done = dict[str, Any](segments=message.segments, demo_exact=message.demo_exact, seconds=round(message.seconds, 3))
                self._record(events.Progress(**done, loss=loss, member=message.member, task=message.task, worker=number))
                self._scheduler.progress(number, message)
            case Answer() if member.assignment and member.assignment.task.id == message.task:
                self._answer(member, member.assignment, message)
            case Restarted():
                self._record(events.Retry(reason=message.reason, task=message.task, worker=number))
            case Failed(fatal=True) if not member.ready:
                if message.fault not in self._unusable:
                    log.error("%s", message.fault)
                self._unusable.add(message.fault)
                self._lost(member, message.fault, again=bool(self._runtimes))  # files that another worker could read are not damaged
            case Failed(fatal=True):
                self._lost(member, message.fault)
            case Failed() if member.assignment:
                held, member.assignment = member.assignment, None
                # A lack of memory tells nothing of a device before another one had enough for a task as large.
                self._restarts.lost_tasks[member.spec.location] += not message.memory or self._scheduler.fits(held.task)
                self._failed(held, number, message.fault, memory=message.memory)
                if self._restarts.sick(member.spec, self._ready(member.card), MOST_FAILED):
                    self._lost(member, "its tasks fail")
            case Gone():
                self._lost(member, "worker died")

    def _engine(self, told: events.EngineChosen) -> None:
        """Note what the workers on a kind of GPU compute with from now on."""
        if self._engines.take(told):
            log.info("%s computes by %s in %s: %s", told.card, told.engine, told.dtype, told.reason)
            self._record(told)

    def _answer(self, member: Member, assignment: Assignment, answer: Answer) -> None:
        """Keep a mid-run answer, or end the task with its last one."""
        number, task, retrain = member.spec.number, answer.task, assignment.restart
        if answer.final and not retrain and (not any(answer.outputs) or FURTHER * answer.segments < self._reached[task]):
            # A last vote without a single grid, or after far less training than an earlier attempt's vote, does not replace that.
            answer = replace(answer, outputs=self._latest.get(task, answer.outputs), settled=False)
        if any(answer.outputs):
            self._restarts.lost_tasks[member.spec.location], self._restarts.answered = 0, True
        elif answer.final:  # a device that computes nonsense ends its tasks early, and must not empty the queue
            self._take(member, Failed(task, answer.reason or "no view gave a grid"))
            return
        votes = [[c.votes for c in candidates[:CANDIDATES_KEPT]] for candidates in answer.outputs]
        told = dict[str, Any](segments=answer.segments, votes=votes, views=answer.views, vote_seconds=round(answer.seconds, 4))
        told |= {"member": answer.member, "task": task, "worker": number}
        if not answer.final:
            if not retrain:  # whose mid-run votes say nothing of what all trainings found
                self._latest.setdefault(task, answer.outputs)
                if answer.segments >= self._reached[task]:  # else an earlier attempt came further
                    self._reached[task], self._latest[task] = answer.segments, answer.outputs
                    if task not in self._kept:
                        self._answers.put(task, answer.outputs, final=False)
            self._record(events.Candidates(**told))
            return
        member.assignment = None
        seconds = self._clock.elapsed() - (member.due - (assignment.seconds or 0.0))
        self._answers.put(task, self._scheduler.finished(number, answer, seconds), final=True)
        ended = dict[str, Any](seconds=round(seconds, 3), reason=answer.reason, settled=answer.settled, restart=retrain or None)
        self._record(events.TaskFinal(**told, **ended))
        if not retrain:
            self._bars.final(answer, seconds)

    def _failed(self, held: Assignment, worker: int, reason: str, *, memory: bool = False) -> None:
        """A task lost its attempt: try it once more later, elsewhere if possible; else its best answer so far stays."""
        task = held.task.id
        again = self._scheduler.failed(worker, memory=memory)
        attempt = self._scheduler.attempts[task]
        self._record(events.TaskFailed(reason=reason, attempt=attempt, restart=held.restart, task=task, worker=worker))
        if not again:
            log.warning("task %s: %s; it keeps its best answer so far", task, reason)
            return
        self._record(events.Retry(reason=reason, task=task, worker=worker))
        log.warning("task %s: %s; it is tried again later", task, reason)
        if self._scheduler.needs_cpu and not any(m.spec.device == "cpu" for m in self._pool.members.values()):
            first = self._specs[0]
            self._start(replace(first, device="cpu", members=on_cpu(first.members), sharing=1, helper=True))

    def _lost(self, member: Member, reason: str, *, again: bool = True) -> None:
        """A worker is gone or must go: count what it held, and start another in its place unless that would meet the same fault."""
        spec, held = member.spec, member.assignment
        code = self._pool.remove(member)
        self._record(events.WorkerExit(code=code, reason=reason, task=held.task.id if held else None, worker=spec.number))
        dtype = str(self._runtimes.get(str(spec.number), {}).get("dtype"))
        self._restarts.lost_tasks[spec.location] += held is not None
        # A sick device tells nothing of the engine, which others have, too, and is as useless as one where no worker starts.
        sick = self._restarts.sick(spec, self._ready(member.card))
        if held and again and not sick and (fallen := self._engines.lost(member.card, spec.number, dtype, reason)):
            self._engine(fallen)
        if held:
            self._failed(held, spec.number, reason if code is None else f"{reason} (exit code {code})")
        if not again:
            return
        self._start_again(spec, was_ready=member.ready and not sick)

    def _ready(self, card: str) -> set[str]:
        """Return the devices of one kind on which a worker is ready."""
        return {m.spec.location for m in self._pool.members.values() if m.ready and m.card == card}

    def _start_again(self, spec: WorkerSpec, *, was_ready: bool) -> None:
        """Start a worker in the place of one that is gone; where its device is given up and no other works, go on on the CPU."""
        if self._restarts.add(spec, self._clock.elapsed(), was_ready=was_ready):
            return
        log.warning("%s: no worker starts or answers there, the device is no longer used", spec.location)
        if spec.device == "cpu" or self._restarts or any(not m.spec.helper for m in self._pool.members.values()):
            return
        fixed = self._end == math.inf
        for new in worker_specs(["cpu"], on_cpu(spec.members), spec.seed, self._scheduler.queue, fixed):
            self._start(new)

    def _replace_hung(self) -> None:
        """Replace each worker that has been silent for longer than its patience."""
        now, members = self._clock.elapsed(), list(self._pool.members.values())
        if now - self._checked > ASLEEP:
            # This process stood still, and perhaps the whole machine: what workers said meanwhile comes only now.
            for member in members:
                member.heard = min(now, member.heard + now - self._checked)
        self._checked = now
        for member in members:
            silent = now - member.heard
            if not member.idle and silent > self._patience(member):
                log.warning("worker %d: no sign of life for %.0f s: it counts as hung and is replaced", member.spec.number, silent)
                self._lost(member, "worker hangs" if member.ready else "worker hangs as it starts")
            elif not member.ready and not member.slow and silent > SLOW_START:
                member.slow, most = True, self._patience(member)
                log.warning("worker %d has been starting for %.0f s; after %.0f s it counts as hung", member.spec.number, silent, most)

    def _patience(self, member: Member) -> float:
        task = member.assignment and member.assignment.task.id
        segment = self._scheduler.segment_seconds(task, member.spec.location) if task else 0.0
        return patience(self._budget, self._preset.budget.hang_seconds, segment if member.ready else None)
