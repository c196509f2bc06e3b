"""What the workers did when: the events of a run as stretches of time, each of one worker in one phase.

Notable: a worker tells what it has done, not what it begins, so a stretch gets its phase from the event that ends it:
`progress` ends training, `candidates` and `task_final` end a vote, a failure ends what is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hrm_submit.report.run.load import Event

PHASES = ("loading", "training", "vote", "lost")
"""`loading`: from a worker's start until it is ready; `lost`: from the last sign of a training that failed or was cut short."""

_ENDED_BY = {"progress": "training", "candidates": "vote", "task_final": "vote", "task_failed": "lost", "worker_exit": "lost"}


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
    """`ends`: seconds that each turn lasted, as far as its events tell; `failures`: events of each task that lost a training."""

    stretches: tuple[Stretch, ...]
    trainings: tuple[Training, ...]
    failures: Counter[str]
    ends: tuple[float, ...]


class _Book:
    """Trainings and loading workers that are open while the events of one turn go by."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.trainings: list[Training] = []
        self.numbers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.open: dict[int, Training] = {}
        self.loading: dict[int, float] = {}

    def take(self, event: Event) -> None:
        """One event more, of the same turn as those before."""
        if event.event == "worker_start" and event.worker is not None:
            self._worker(event, event.worker)
        elif event.event == "task_start" and event.task is not None and event.worker is not None:
            self._begin(event, event.task, event.worker)
        elif event.event in _ENDED_BY:
            if event.event == "task_failed" and event.task is not None:
                self.failures[event.task] += 1
            self._step(event)

    def close(self, turn: int, end: float) -> None:
        """What is open when a turn ends was cut short."""
        for training in self.open.values():
            self._stretch(training, "lost", end, "the run ended")
        for worker, since in self.loading.items():
            self.stretches.append(Stretch(turn, worker, None, 0, "loading", since, end, None, "the run ended"))
        self.open, self.loading = {}, {}

    def _worker(self, event: Event, worker: int) -> None:
        if not event.fields.get("ready"):
            self.loading[worker] = event.t
        elif worker in self.loading:
            since = self.loading.pop(worker)
            self.stretches.append(Stretch(event.turn, worker, None, 0, "loading", since, event.t, None))

    def _begin(self, event: Event, task: str, worker: int) -> None:
        if worker in self.open:
            self._stretch(self.open.pop(worker), "lost", event.t, "no end was recorded")
        self.numbers[task] += 1
        training = Training(event.turn, task, worker, self.numbers[task], event.t, event.number("seconds"), end=event.t)
        self.open[worker] = training
        self.trainings.append(training)

    def _step(self, event: Event) -> None:
        worker = event.worker
        if worker is None:  # the end of the run, which takes tasks from whoever has them
            worker = next((w for w, held in self.open.items() if held.task == event.task), None)
        if event.event == "worker_exit" and worker in self.loading:
            since = self.loading.pop(worker)
            self.stretches.append(Stretch(event.turn, worker, None, 0, "loading", since, event.t, None, event.text("reason")))
        training = self.open.get(worker) if worker is not None else None
        if training is None or worker is None or (event.event != "worker_exit" and event.task != training.task):
            return
        if event.number("segments") is not None:
            training.segments = int(event.number("segments") or 0)
        if event.event == "progress":
            training.points.append(Point(event.t, training.segments, event.number("loss"), event.number("demo_exact")))
        phase = _ENDED_BY[event.event]
        self._stretch(training, phase, event.t, event.text("reason"))
        if event.event not in ("progress", "candidates"):
            training.outcome = event.text("reason") or event.event
            del self.open[worker]

    def _stretch(self, training: Training, phase: str, end: float, detail: str) -> None:
        t = training
        self.stretches.append(Stretch(t.turn, t.worker, t.task, t.number, phase, t.end, max(end, t.end), t.planned, detail))
        training.end = max(end, training.end)


def read_timeline(events: Iterable[Event]) -> Timeline:
    """The stretches and trainings of all turns, in the order in which they ended or began."""
    book = _Book()
    ends: list[float] = []
    turn = 0
    for event in events:
        if event.turn != turn:
            book.close(turn, ends[-1] if ends else 0.0)
            turn = event.turn
        ends += [0.0] * (event.turn + 1 - len(ends))
        ends[event.turn] = max(ends[event.turn], event.t)
        book.take(event)
    book.close(turn, ends[-1] if ends else 0.0)
    return Timeline(tuple(book.stretches), tuple(book.trainings), book.failures, tuple(ends or [0.0]))


def budgets(events: Iterable[Event], timeline: Timeline) -> list[float | None]:
    """The time budget of each turn, None in fixed-work mode or where it was not recorded."""
    found: list[float | None] = [None] * len(timeline.ends)
    for event in events:
        if event.event == "run_start":
            found[event.turn] = event.number("budget")
    return found
