"""Choose what a free worker does next: every task once, then those tasks again whose votes disagree.

- First pass: shares by weight (cost of a segment, demonstrations), planned anew at each decision from the speeds measured so far.
- Time that tasks give back by stopping early is kept for retrains, not handed to the tasks that come later.
- Retrains: a task whose votes disagree is trained from another seed, twice as long each time, and all its votes count.

Knows no process and no clock: the caller says what time it is and who is free when.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.predict.vote import Outputs, first_attempts, pooled
from hrm_submit.run.cost import Speed, task_work
from hrm_submit.run.protocol import Assignment
from hrm_submit.run.shares import first_share, weights
from hrm_submit.solver.messages import Answer, Progress

MOST_ATTEMPTS = 2
"""Attempts that a task gets when workers fail under it."""
LEAST_FIRST = 0.1
"""Least part of the time left that the first pass keeps, however much was given back."""
WAIT = 0.25
"""Part of the time left that a lost task waits for another device than the one that lost it."""
SCARCE = 64
"""Retrains a worker below which their lengths are scaled to fill the time."""
LEAST_SECONDS = 1e-6
"""Nothing is begun in less; rounding makes nothing of it."""
MOST_DOUBLINGS = 32
"""A share doubled so often is longer than any run; retrains that end at their most segments may be begun more often."""


@dataclass(frozen=True)
class Standing:
    """A worker as the plan sees it: its number, its device (with its node in a cluster: `"10.0.0.3/cuda:0"`), when it is free, in
    seconds since the run began, and whether it only takes what no other device has memory for."""

    number: int
    location: str
    free_at: float
    helps: bool = False

    @property
    def on_cpu(self) -> bool:
        """Return whether its device is a CPU."""
        return _kind(self.location).endswith("cpu")


def _kind(location: str) -> str:
    """Return what has the same speed, devices of one kind on one node: `"cuda"`, `"10.0.0.3/cpu"`."""
    node, slash, device = location.rpartition("/")
    return node + slash + device.split(":", 1)[0]


@dataclass
class _Held:
    """What a worker has been given, and its last progress: segments, training seconds, share of exact demonstrations."""

    assignment: Assignment
    worker: Standing
    segments: int = 0
    seconds: float = 0.0
    demo_exact: float = 0.0


@dataclass
class Result:
    """What a task has so far: pooled candidates, whether it stays as it is, its share in the first pass, what it fitted, its retrains."""

    outputs: Outputs
    settled: bool
    share: float
    demo_exact: float
    retrains: int = 0
    failed: bool = False
    """A retrain failed, so that no other follows, whatever one that runs at the same time finds."""

    @property
    def promise(self) -> float:
        """Estimate how many outputs a retrain may change: most where half of the votes agree and the demonstrations are fit."""
        agreeing = [max(x.votes for x in c) / sum(x.votes for x in c) if c else 0.0 for c in self.outputs]
        return sum(p * (1 - p) for p in agreeing) * (0.25 + self.demo_exact)


class Scheduler:
    """The tasks of a run. `end` is when the last share ends, in seconds since the run began; in fixed-work mode `segments` is given."""

    def __init__(self, tasks: Sequence[Task], preset: Preset, end: float, segments: int | None) -> None:
        self._budget, self._end, self._segments = preset.budget, end, segments
        self._work = {t.id: task_work(preset.model, preset.ttt, t) for t in tasks}
        self._tasks = {t.id: t for t in tasks}
        self._typical_work = median(self._work.values()) if tasks else 1.0
        self._speeds = defaultdict[str, Speed](Speed)
        self.queue = self._ordered(tasks)
        self.results: dict[str, Result] = {}
        self.attempts: Counter[str] = Counter()
        self._held: dict[int, _Held] = {}
        self._lost_on: dict[str, str] = {}
        self._on_cpu: set[str] = set()
        self._fitting = 0.0
        """Operations of a segment of the largest task that had memory on a GPU."""
        self.bank = 0.0
        """Worker-seconds that first attempts gave back."""

    def next(self, me: Standing, others: Sequence[Standing], now: float) -> Assignment | None:
        """Choose what the free worker `me` does next, besides all `others`; None where there is nothing for it now."""
        if self._end - now < LEAST_SECONDS:
            return None
        task = self._eligible(me, others, now)
        assignment = self._first(task, me, others, now) if task else self._retrain(me, others, now)
        if assignment is not None:
            self._held[me.number] = _Held(assignment, me)
        return assignment

    def progress(self, number: int, progress: Progress) -> None:
        """Learn how fast the worker's device is."""
        held = self._held.get(number)
        if held is None or held.assignment.task.id != progress.task:
            return
        if not held.worker.on_cpu:
            self._fitting = max(self._fitting, self._work[progress.task])
        speed = self._speeds[_kind(held.worker.location)]
        speed.observe(self._work[progress.task], progress.seconds - held.seconds, progress.segments - held.segments)
        held.segments, held.seconds, held.demo_exact = progress.segments, progress.seconds, progress.demo_exact

    def finished(self, number: int, answer: Answer, seconds: float) -> Outputs:
        """Take the last answer of a worker's task after `seconds`; return its candidates, pooled with those of earlier attempts."""
        held = self._held.pop(number)
        share, result = held.assignment.seconds or 0.0, self.results.get(answer.task)
        if result is None:
            self.results[answer.task] = Result(answer.outputs, answer.settled, share, held.demo_exact)
            self.bank = max(0.0, self.bank + share - seconds)
            return answer.outputs
        result.outputs = pooled(result.outputs, answer.outputs)
        # Its votes agree now if the newest do, and on what all of them rank first.
        agrees = answer.settled and first_attempts(result.outputs) == first_attempts(answer.outputs)
        result.settled = result.failed or agrees
        result.demo_exact = max(result.demo_exact, held.demo_exact)
        return result.outputs

    def failed(self, number: int, *, memory: bool = False) -> bool:
        """Note that the worker lost its task; return whether it is tried once more (on a CPU where it lacked `memory`)."""
        held = self._held.pop(number)
        task = held.assignment.task
        if held.assignment.restart:
            result = self.results[task.id]
            result.settled = result.failed = True
            return False
        self._lost_on[task.id] = held.worker.location
        if memory and not held.worker.on_cpu:
            self._on_cpu.add(task.id)
        if self.attempts[task.id] >= MOST_ATTEMPTS:
            return False
        self.queue.append(task)
        return True

    @property
    def needs_cpu(self) -> bool:
        """Return whether a task waits that no other device has memory for."""
        return any(t.id in self._on_cpu for t in self.queue)

    def fits(self, task: Task) -> bool:
        """Return whether a task at least as large had memory on a GPU."""
        return self._work[task.id] <= self._fitting

    @property
    def unanswered(self) -> int:
        """Return how many tasks have no final answer."""
        return len(self._tasks) - len(self.results)

    @property
    def open(self) -> bool:
        """Return whether a retrain of some task could follow."""
        return self._segments is None and not all(r.settled for r in self.results.values())

    def segment_seconds(self, task: str, location: str) -> float:
        """Predict the seconds of a training segment; 0 before anything was measured."""
        speed = self._speeds[_kind(location)]
        return speed.seconds(self._work[task]) if speed.measured else 0.0

    def _ordered(self, tasks: Sequence[Task]) -> list[Task]:
        """Sort largest first, as those pack worst; in time mode four of every size come before, from which speeds are learnt."""
        queue = sorted(tasks, key=lambda t: (-self._work[t.id], t.id))
        if self._segments is not None or len(queue) < 12:
            return queue
        probes = [queue[round(k * (len(queue) - 1) / 3)] for k in (3, 0, 2, 1)]
        return probes + [t for t in queue if t not in probes]

    def _eligible(self, me: Standing, others: Sequence[Standing], now: float) -> Task | None:
        """Return the next task of the queue for `me`: on a CPU first what no GPU has memory for; what was lost on its device only if all
        other devices are busy for long."""
        mine = [t for t in self.queue if self._suits(me, t.id)]
        if self._on_cpu:
            mine.sort(key=lambda t: t.id not in self._on_cpu)
        task = next((t for t in mine if self._lost_on.get(t.id) != me.location), None)
        soon = now + WAIT * (self._end - now)
        if task is None and mine and not any(s.free_at <= soon for s in others if s.location != me.location):
            return mine[0]
        return task

    def _first(self, task: Task, me: Standing, others: Sequence[Standing], now: float) -> Assignment:
        """Begin the first training of `task`, or its second attempt."""
        seconds = None
        if self._segments is None:
            queue = [task, *(t for t in self.queue if t is not task)]
            seconds = self._share(queue, me, others, now)
            if me.helps:  # who alone does what it may do, in no longer shares than others have
                seconds = min(seconds, self._share([t for t in queue if self._suits(me, t.id)], me, (), now))
        self.queue.remove(task)
        self.attempts[task.id] += 1
        return Assignment(task, seconds, self._segments)

    def _share(self, tasks: Sequence[Task], me: Standing, others: Sequence[Standing], now: float) -> float:
        """Plan `tasks` on `me` and `others`; return the seconds of the first of them on `me`."""
        # What was given back stays unused. Lost workers may have had a part of it: some time is always left to tasks that had none yet.
        end = max(self._end - self.bank / (len(others) + 1), now + LEAST_FIRST * (self._end - now))
        # A worker of twice the mean speed counts as one with twice the time.
        free_at = [end - (end - max(now, s.free_at)) * self._relative_speed(s.location) for s in (me, *others)]
        # A segment costs its operations while nothing was measured.
        costs = [self.segment_seconds(t.id, me.location) or self._work[t.id] for t in tasks]
        share = first_share(weights(costs, [len(t.train) for t in tasks], self._budget), free_at, end)
        return min(share / self._relative_speed(me.location), self._end - now)

    def _retrain(self, me: Standing, others: Sequence[Standing], now: float) -> Assignment | None:
        """Begin the most promising retrain that there is time for, scaled so that all retrains that fit until the end fill the time."""
        if self._segments is not None:
            return None
        left, least = self._end - now, self._budget.restart_least
        order = sorted(
            (result.retrains, -result.promise, task)
            for task, result in self.results.items()
            if not result.settled and least * result.share <= left and self._suits(me, task)
        )
        if not order:
            return None
        task, free_at = order[0][2], [now, *(max(now, s.free_at) for s in others)]
        capacity, most = sum(max(0.0, self._end - at) for at in free_at), SCARCE * len(free_at)
        wishes = list[float]()
        while len(wishes) < most:  # `order` is a heap: each task comes back with twice the seconds
            retrains, promise, following = order[0]
            wish = self.results[following].share * 2.0 ** min(retrains, MOST_DOUBLINGS)
            if wishes and wish > capacity:
                break
            wishes.append(wish)
            capacity -= wish
            heapq.heapreplace(order, (retrains + 1, promise, following))
        self.results[task].retrains += 1
        # Where a worker has time for many retrains, none of them needs another length to fill it.
        seconds = first_share(wishes, free_at, self._end) if len(wishes) < most else wishes[0]
        return Assignment(self._tasks[task], min(seconds, left), None, self.results[task].retrains)

    def _suits(self, me: Standing, task: str) -> bool:
        return task in self._on_cpu if me.helps else me.on_cpu or task not in self._on_cpu

    def _relative_speed(self, location: str) -> float:
        """Return the speed of a device relative to the mean of all nodes with such devices; 1 while unknown."""
        kind = _kind(location)
        device = kind.rpartition("/")[2]
        measured = {k: 1 / s.seconds(self._typical_work) for k, s in self._speeds.items() if s.measured and k.rpartition("/")[2] == device}
        return measured[kind] * len(measured) / sum(measured.values()) if kind in measured else 1.0
