"""What the workers did when: the events of a run as stretches of time, each of one worker in one phase.

Notable: a worker tells what it has done, not what it begins, so a stretch gets its phase from the event that ends it:
`progress` ends training, `candidates` and `task_final` end a vote, a failure ends what is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hrm_submit.record.events import Candidates, Event, Progress, RunStart, TaskFailed, TaskStart, WorkerExit, WorkerStart

PHASES = ("loading", "training", "vote", "lost")
"""`loading`: from a worker's start until it is ready; `lost`: from the last sign of a training that failed or was cut short."""

_STEPS = (Progress, Candidates, TaskFailed, WorkerExit)
"""What ends a stretch: `TaskFinal` is one of `Candidates`."""


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end` (seconds since the start of `turn`) a worker was in one phase.

    `training` counts the trainings of the task from 1 (0 where the phase has no task); `planned` are the seconds that the
    whole training was to take, None in fixed-work mode.
    """

    turn: int
    worker: int
    task: str | None
    training: int
    phase: str
    start: float
    end: float
    planned: float | None
    detail: str = ""


@dataclass(frozen=True)
class Point:
    """A progress event: training segments so far, mean loss and share of right demonstrations since the one before."""

    t: float
    segments: int
    loss: float | None
    demo_exact: float | None


@dataclass
class Training:
    """One worker's work on one task, from its start to its last answer or its failure. `seconds` are those that it took."""

    turn: int
    task: str
    worker: int
    number: int
    start: float
    planned: float | None
    end: float = 0.0
    segments: int = 0
    outcome: str = "cut short"
    points: list[Point] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Until the last event that belongs to it."""
        return max(0.0, self.end - self.start)


@dataclass(frozen=True)
class Timeline:
    """`ends`: seconds that each turn lasted, as far as its events tell; `budgets`: seconds that it was given, None in fixed-work mode
    or where that was not recorded; `failures`: events of each task that lost a training; `nodes`: the machine of each worker of a
    cluster."""

    stretches: tuple[Stretch, ...]
    trainings: tuple[Training, ...]
    failures: Counter[str]
    ends: tuple[float, ...]
    budgets: tuple[float | None, ...]
    nodes: Mapping[int, str] = field(default_factory=dict)


def turns(events: Iterable[Event]) -> list[list[Event]]:
    """The events by the start of the run that they follow: a killed run that resumes starts its clock again. Never empty."""
    found: list[list[Event]] = [[]]
    for event in events:
        if isinstance(event, RunStart) and found[-1]:
            found.append([])
        found[-1].append(event)
    return found


class _Book:
    """Trainings and loading workers that are open while the events of one turn go by."""

    def __init__(self) -> None:
        self.turn = 0
        self.stretches: list[Stretch] = []
        self.trainings: list[Training] = []
        self.numbers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.open: dict[int, Training] = {}
        self.loading: dict[int, float] = {}
        self.nodes: dict[int, str] = {}

    def take(self, event: Event) -> None:
        """One event more, of the same turn as those before."""
        if isinstance(event, WorkerStart) and event.worker is not None:
            if not event.ready:
                self.loading[event.worker] = event.t
                node, named, _ = (event.device or "").rpartition("/")
                if named:
                    self.nodes[event.worker] = node
            else:
                self._loaded(event.worker, event.t, "")
        elif isinstance(event, TaskStart) and event.task is not None and event.worker is not None:
            self._begin(event, event.task, event.worker)
        elif isinstance(event, _STEPS):
            if isinstance(event, TaskFailed) and event.task is not None:
                self.failures[event.task] += 1
            self._step(event)

    def close(self, end: float) -> None:
        """What is open when a turn ends was cut short."""
        for training in self.open.values():
            self._stretch(training, "lost", end, "the run ended")
        for worker in list(self.loading):
            self._loaded(worker, end, "the run ended")
        self.open, self.turn = {}, self.turn + 1

    def _loaded(self, worker: int, end: float, detail: str) -> None:
        if worker in self.loading:
            since = self.loading.pop(worker)
            self.stretches.append(Stretch(self.turn, worker, None, 0, "loading", since, end, None, detail))

    def _begin(self, event: TaskStart, task: str, worker: int) -> None:
        if worker in self.open:
            self._stretch(self.open.pop(worker), "lost", event.t, "no end was recorded")
        self.numbers[task] += 1
        training = Training(self.turn, task, worker, self.numbers[task], event.t, event.seconds, end=event.t)
        self.open[worker] = training
        self.trainings.append(training)

    def _step(self, event: Progress | Candidates | TaskFailed | WorkerExit) -> None:
        worker = event.worker
        if worker is None:  # the end of the run, which takes tasks from whoever has them
            worker = next((w for w, held in self.open.items() if held.task == event.task), None)
        if worker is None:
            return
        reason = "" if isinstance(event, Progress) else getattr(event, "reason", None) or ""
        if isinstance(event, WorkerExit):
            self._loaded(worker, event.t, reason)
        training = self.open.get(worker)
        if training is None or (event.task != training.task and not isinstance(event, WorkerExit)):
            return
        if isinstance(event, Progress | Candidates) and event.segments is not None:
            training.segments = event.segments
        if isinstance(event, Progress):
            training.points.append(Point(event.t, training.segments, event.loss, event.demo_exact))
        phase = "training" if isinstance(event, Progress) else "vote" if isinstance(event, Candidates) else "lost"
        self._stretch(training, phase, event.t, reason)
        if not isinstance(event, Progress) and type(event) is not Candidates:
            training.outcome = reason or event.kind
            del self.open[worker]

    def _stretch(self, training: Training, phase: str, end: float, detail: str) -> None:
        t = training
        self.stretches.append(Stretch(t.turn, t.worker, t.task, t.number, phase, t.end, max(end, t.end), t.planned, detail))
        training.end = max(end, training.end)


def read_timeline(turns: Sequence[Sequence[Event]]) -> Timeline:
    """The stretches and trainings of all turns, in the order in which they ended or began."""
    book = _Book()
    ends = [max((event.t for event in turn), default=0.0) for turn in turns]
    for turn, end in zip(turns, ends, strict=True):
        for event in turn:
            book.take(event)
        book.close(end)
    budgets = tuple(next((event.budget for event in turn if isinstance(event, RunStart)), None) for turn in turns)
    return Timeline(tuple(book.stretches), tuple(book.trainings), book.failures, tuple(ends), budgets, book.nodes)
