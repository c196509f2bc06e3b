"""What is to be done next: every task once, and with the time that is left over those tasks again whose votes disagree.

- First pass: shares by weight (size and demonstrations), planned again whenever a worker is free, from measured speeds; where tasks are
  many, a plan serves for some of them.
- Time that tasks give back by stopping early is kept for the second part, not handed to the tasks that come later.
- Second part: a task whose votes disagree is retrained from another seed, twice as long each time, and all its votes count.

Knows no process and no clock: who calls says what time it is and who is free when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.predict.vote import Outputs, pooled
from hrm_submit.run.cost import Speed
from hrm_submit.run.protocol import Assignment
from hrm_submit.run.retrains import Result, Undecided
from hrm_submit.run.shares import level, pack
from hrm_submit.run.task_weights import UNKNOWN, Weights
from hrm_submit.solver.messages import Answer, Progress

MOST_ATTEMPTS = 2
"""Attempts that a task gets when workers fail under it."""
LEAST_FIRST = 0.1
"""Least part of the time left that the first pass keeps, however much was given back."""
PLANNED = 64
"""Of a queue longer than this every such part is given out by one plan, as planning looks at every task."""
MANY = 16
"""Tasks a worker from which on a plan only divides all time by all weights."""
WAIT = 0.25
"""Part of the time left that a lost task waits for another worker than the one that lost it."""


@dataclass(frozen=True)
class Standing:
    """A worker in the plan: its number, its device, when it is free (seconds since the run began; the end if nobody knows), and its
    node in a cluster."""

    number: int
    device: str
    free_at: float
    node: str = ""

    @property
    def kind(self) -> str:
        """What is as fast as it: devices of one kind on one node."""
        return _kind(self.device, self.node)


@dataclass
class _Seen:
    """Of the attempt that runs: segments and training seconds at its last progress, and that progress's exact share."""

    segments: int = 0
    seconds: float = 0.0
    demo_exact: float = 0.0


@dataclass
class _Held:
    """An assignment that a worker has."""

    assignment: Assignment
    device: str
    kind: str
    seen: _Seen = field(default_factory=_Seen)


class Scheduler:
    """The tasks of a run. `end` is when the last share ends, in seconds since the run began; in fixed-work mode `segments` is given."""

    def __init__(self, tasks: Sequence[Task], preset: Preset, end: float, segments: int | None) -> None:
        self._preset, self._end, self._segments = preset, end, segments
        self._weights = Weights(tasks, preset)
        self._work = self._weights.work
        self._tasks = {t.id: t for t in tasks}
        self._typical = median(self._work.values()) if self._work else 1.0
        self._speeds: dict[str, Speed] = {}
        self.queue = self._ordered(tasks)
        self.results: dict[str, Result] = {}
        self.attempts: Counter[str] = Counter()
        self._held: dict[int, _Held] = {}
        self._lost_by: dict[str, int] = {}
        self._on_cpu: set[str] = set()
        self._fit, self._scale, self._served = UNKNOWN, 0.0, 0
        self._undecided = Undecided(self.results, preset.budget.restart_least)
        self._stretch, self._stretch_served = 1.0, 0
        self.bank = 0.0
        """Seconds of workers that first attempts gave back."""

    def next(self, me: Standing, others: Callable[[], Sequence[Standing]], now: float) -> Assignment | None:
        """What the worker `me`, who is free, does next; None where there is nothing for it (now). `others` tells of all workers but it,
        and is only asked where a plan is made."""
        task = self._eligible(me, others, now)
        if task is not None:
            assignment = self._first(task, me, others, now)
        elif self._segments is None:
            assignment = self._again(me, others, now)
        else:
            assignment = None
        if assignment is not None:
            self._held[me.number] = _Held(assignment, me.device, me.kind)
        return assignment

    def shares(self, standings: Sequence[Standing], now: float) -> dict[str, float]:
        """Seconds that each task of the queue would get by the plan of this moment."""
        if self._segments is not None or not self.queue or not standings:
            return {}
        free_at = [max(now, s.free_at) for s in standings]
        if min(free_at) >= self._end:
            return {}
        end, fit = self._first_end(len(standings), now), self._fitted(standings[0].kind)
        slots = pack(self._weights.of(self.queue, fit), free_at, end)
        return {t.id: slot.seconds for t, slot in zip(self.queue, slots, strict=True)}

    def progress(self, number: int, progress: Progress) -> None:
        """Learn how fast the worker's device is."""
        held = self._held.get(number)
        if held is None or held.assignment.task.id != progress.task:
            return
        seen = held.seen
        speed = self._speeds.setdefault(held.kind, Speed())
        speed.observe(self._work[progress.task], progress.seconds - seen.seconds, progress.segments - seen.segments)
        held.seen = _Seen(progress.segments, progress.seconds, progress.demo_exact)

    def finished(self, number: int, answer: Answer, seconds: float) -> Outputs:
        """A task's attempt has its last answer after `seconds`; returns its candidates, those of earlier attempts among them."""
        held = self._held.pop(number)
        share = held.assignment.seconds or 0.0
        old = self.results.get(answer.task)
        if old is None:
            self.results[answer.task] = Result(answer.outputs, answer.settled, share, held.seen.demo_exact)
            self.bank = max(0.0, self.bank + share - seconds)
        else:
            old.outputs = pooled(old.outputs, answer.outputs)
            # Its votes agree now if the newest do, and on what all of them rank first.
            old.settled = answer.settled and _first(old.outputs) == _first(answer.outputs)
            old.demo_exact, old.restarts = max(old.demo_exact, held.seen.demo_exact), old.restarts + 1
            old.judge()
        self._undecided.note(answer.task)
        return self.results[answer.task].outputs

    def failed(self, number: int, *, memory: bool = False) -> bool:
        """The worker lost the task that it held; True if that will be tried once more (on a CPU if it was for want of `memory`)."""
        held = self._held.pop(number)
        task = held.assignment.task
        if held.assignment.restart:
            self._undecided.spoil(task.id)  # it has its answer: what fails anew is not tried for ever
            return False
        self._lost_by[task.id] = number
        if memory and held.device != "cpu":
            self._on_cpu.add(task.id)
        if self.attempts[task.id] >= MOST_ATTEMPTS:
            return False
        self.queue.append(task)
        return True

    @property
    def needs_cpu(self) -> bool:
        """Whether a task waits that no other device has memory for."""
        return bool(self._on_cpu) and any(t.id in self._on_cpu for t in self.queue)

    @property
    def open(self) -> bool:
        """Whether another training of some task, whose votes disagree, could follow."""
        return self._segments is None and any(map(self._undecided.may_improve, self.results))

    def segment_seconds(self, task: str, device: str, node: str = "") -> float:
        """Predicted seconds of a training segment; 0 before anything was measured."""
        speed = self._speeds.get(_kind(device, node))
        return speed.seconds(self._work[task]) if speed and speed.measured else 0.0

    def _ordered(self, tasks: Sequence[Task]) -> list[Task]:
        """Largest first, as those pack worst; in time mode some of every size before, from which speeds are learnt."""
        queue = sorted(tasks, key=lambda t: (-self._work[t.id], t.id))
        if self._segments is not None or len(queue) < 12:
            return queue
        probes = [queue[round(k * (len(queue) - 1) / 3)] for k in (3, 0, 2, 1)]
        return probes + [t for t in queue if t not in probes]

    def _eligible(self, me: Standing, others: Callable[[], Sequence[Standing]], now: float) -> Task | None:
        """On a CPU first what nothing else has memory for; what this worker lost itself only if all others are busy for long."""
        mine: Iterable[Task] = self.queue
        if self._on_cpu:
            theirs = (t for t in self.queue if t.id not in self._on_cpu)
            mine = chain((t for t in self.queue if t.id in self._on_cpu), theirs) if me.device == "cpu" else theirs
        lost = None
        for task in mine:
            if self._lost_by.get(task.id) != me.number:
                return task
            lost = lost or task
        soon = now + WAIT * (self._end - now)
        return None if lost is None or any(s.free_at <= soon for s in others()) else lost

    def _first(self, task: Task, me: Standing, others: Callable[[], Sequence[Standing]], now: float) -> Assignment | None:
        if self._segments is not None:
            seconds = None
        else:
            if now >= self._end:
                return None
            if self._served <= 0:
                self._plan(task, me, others(), now)
            self._served -= 1
            (own,) = self._weights.of([task], self._fit)
            seconds = min(own * self._scale / self._relative(me.kind), self._end - now)
        self.queue.remove(task)
        self.attempts[task.id] += 1
        return Assignment(task, seconds, self._segments)

    def _plan(self, task: Task, me: Standing, others: Sequence[Standing], now: float) -> None:
        """Seconds for a weight of 1, for as many decisions as may go by before the next plan."""
        rest = [task, *(t for t in self.queue if t is not task)]
        self._fit = self._fitted(me.kind)
        end = self._first_end(len(others) + 1, now)
        free_at = [_stretched(max(now, s.free_at), end, self._relative(s.kind)) for s in others]
        free_at.insert(0, _stretched(now, end, self._relative(me.kind)))
        weights = self._weights.of(rest, self._fit)
        many = len(rest) > max(PLANNED, MANY * len(free_at))
        self._scale = level(weights, free_at, end) if many else pack(weights, free_at, end)[0].seconds / weights[0]
        self._served = max(1, max(len(rest), len(free_at)) // PLANNED)

    def _relative(self, kind: str) -> float:
        """How many times as fast workers of `kind` are as the mean of the nodes with such devices; 1 as long as nobody knows."""
        device = kind.rpartition("/")[2]
        measured = {k: 1 / s.seconds(self._typical) for k, s in self._speeds.items() if s.measured and k.rpartition("/")[2] == device}
        return measured[kind] * len(measured) / sum(measured.values()) if kind in measured and len(measured) > 1 else 1.0

    def _first_end(self, workers: int, now: float) -> float:
        """When the first pass would end if what was given back stayed unused."""
        # Workers that were lost may have had a part of it: some of what is left always goes to the tasks that had no time yet.
        return max(self._end - self.bank / workers, now + LEAST_FIRST * (self._end - now))

    def _again(self, me: Standing, others: Callable[[], Sequence[Standing]], now: float) -> Assignment | None:
        """Another training of a task whose votes disagree, if there is time for one that is worth it."""

        def takes(task: str) -> bool:
            return task not in self._on_cpu or me.device == "cpu"

        left = self._end - now
        first = self._undecided.choose(takes, left)
        if not first:
            return None
        if self._stretch_served > 0:
            self._stretch_served -= 1
        else:
            self._plan_again(takes, [now, *(max(now, s.free_at) for s in others())], left)
        task, wish = first[0]
        return Assignment(self._tasks[task], min(wish * self._stretch, left), None, self._undecided.begin(task))

    def _plan_again(self, takes: Callable[[str], bool], free_at: Sequence[float], left: float) -> None:
        """By how much trainings anew are stretched so that all end together, for as many as may be given out before the next plan."""
        most = 2 * len(free_at) + PLANNED
        wishes = [wish for _, wish in self._undecided.choose(takes, left, sum(max(0.0, self._end - at) for at in free_at), most)]
        self._stretch = 1.0 if len(wishes) >= most else pack(wishes, free_at, self._end)[0].seconds / wishes[0]
        self._stretch_served = max(len(wishes) // 32, len(free_at) // PLANNED)

    def _fitted(self, kind: str) -> tuple[float, float]:
        """Overhead and slope of a segment's cost: in seconds, or as long as nothing was measured in operations."""
        speed = self._speeds.get(kind)
        return speed.fitted() if speed and speed.measured else UNKNOWN


def _stretched(free_at: float, end: float, faster: float) -> float:
    """When a worker of the mean speed would have to be free to do as much until `end` as one that is `faster` and free at `free_at`."""
    return free_at if faster == 1.0 else end - (end - free_at) * faster


def _first(outputs: Outputs) -> list[object]:
    return [c.key for candidates in outputs for c in candidates[:1]]


def _kind(device: str, node: str) -> str:
    kind = device.split(":", 1)[0]
    return f"{node}/{kind}" if node else kind
