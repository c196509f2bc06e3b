"""The state of a run, folded from its events: of each task, each training and each worker.

Notable: a worker reports what it has done, not what it begins, so a stretch of time gets its phase from the event that ends it:
`progress` ends training, `candidates` and `task_final` end a vote, a failure ends what is lost. A run that resumes starts its clock
again: each start is an attempt, with a number from 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hrm_submit.record import events
from hrm_submit.record.events import Candidates, Event, Progress, TaskFinal

PHASES = ("loading", "training", "vote", "lost")
"""`loading`: from a worker's start until it is ready; `lost`: from the last report of a training that failed or was cut short, but not
by whoever stopped the run."""
CUT_SHORT = "cut short"


@dataclass(frozen=True)
class Stretch:
    """One worker in one phase from `start` to `end`, in seconds of `attempt`; `detail`: why it was cut short, if it was."""

    attempt: int
    worker: int
    phase: str
    start: float
    end: float
    detail: str = ""


@dataclass
class Training:
    """One worker's training of one task, in seconds of `attempt`. `number`: of the task's trainings, from 1; `retrain`: of its
    retrains, 0 for a first training."""

    attempt: int
    task: str
    worker: int
    number: int
    start: float
    planned: float | None
    retrain: int
    end: float
    segments: int = 0
    outcome: str = CUT_SHORT
    points: list[Progress] = field(default_factory=list)
    votes: list[Candidates] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Return the time until its last event."""
        return max(0.0, self.end - self.start)

    @property
    def last(self) -> Progress | None:
        """The newest progress."""
        return self.points[-1] if self.points else None


@dataclass
class TaskState:
    """What a run did for one task, in all attempts. `given_up`: the last training failed, and no other one was begun."""

    trainings: list[Training] = field(default_factory=list)
    failures: int = 0
    given_up: bool = False

    @property
    def seconds(self) -> float:
        """Sum up the seconds of all its trainings."""
        return sum(t.seconds for t in self.trainings)

    @property
    def segments(self) -> int:
        """Sum up the segments of all its trainings."""
        return sum(t.segments for t in self.trainings)

    @property
    def last(self) -> Progress | None:
        """The newest progress of any training."""
        return next((t.last for t in reversed(self.trainings) if t.last), None)


@dataclass
class Worker:
    """A worker as its events tell of it; `since`: seconds of the attempt."""

    place: str = ""
    phase: str = "waiting"
    since: float = 0.0
    training: Training | None = None


@dataclass
class Attempt:
    """One start of the run: its budget (None in fixed-work mode), tasks to do, the time of its last event, and how far it got.

    `finals`: share of exact demonstrations when each task got its first final vote. `interrupted`: tasks left when it was stopped.
    """

    budget: float | None = None
    tasks: int = 0
    resumed: int = 0
    end: float = 0.0
    ended: bool = False
    retries: int = 0
    interrupted: int = 0
    finals: dict[str, float | None] = field(default_factory=dict)


class RunState:
    """A run as far as its events were taken; never without an attempt.

    `tasks`: every task that the run was to do or did something for, in the order of first mention. `workers`: those of the current
    attempt that have not ended; `nodes`: the machine of each worker of a cluster; `runtime`: how the newest worker runs;
    `engines`: the newest choice for each kind of GPU. `trouble`: the newest failure.
    """

    def __init__(self, lines: Iterable[Event] = ()) -> None:
        self.attempts = [Attempt()]
        self.tasks: dict[str, TaskState] = {}
        self.workers: dict[int, Worker] = {}
        self.nodes: dict[int, str] = {}
        self.trainings: list[Training] = []
        self.stretches: list[Stretch] = []
        self.runtime: dict[str, object] = {}
        self.engines: dict[str, events.EngineChosen] = {}
        self.trouble = ""
        self._begun = False
        for event in lines:
            self.take(event)

    @property
    def attempt(self) -> Attempt:
        """The current attempt."""
        return self.attempts[-1]

    @property
    def given_up(self) -> set[str]:
        """Tasks that keep what they have; a task whose retrain fails has its answer from before and is not given up."""
        return {name for name, task in self.tasks.items() if task.given_up} - self.attempt.finals.keys()

    def take(self, event: Event) -> None:
        """Add one event."""
        if isinstance(event, events.RunStart) and self._begun:
            self.close()
            self.attempts.append(Attempt())
            self.trouble = ""
            for state in self.tasks.values():
                state.given_up = False
        self._begun, attempt = True, self.attempt
        attempt.end = max(attempt.end, event.t)
        if event.task is not None:
            self.tasks.setdefault(event.task, TaskState())
        match event:
            case events.RunStart():
                attempt.budget, attempt.tasks, attempt.resumed = event.budget, event.tasks or 0, event.resumed or 0
            case events.Plan(todo=list(todo)):
                self.tasks.update({name: TaskState() for name in todo if name not in self.tasks})
                attempt.tasks = attempt.resumed + len(todo)
            case events.EngineChosen(card=str(card)):
                self.engines[card] = event
            case events.Retry(task=str(task)):
                attempt.retries += 1
                self.tasks[task].given_up = False
            case events.Flush():
                self.trouble = f"{event.failed} cannot be written: {event.reason}"
            case events.RunEnd():
                attempt.ended = True
                self.close()
            case events.WorkerStart(worker=int(number)):
                self._start_worker(event, number)
            case events.TaskStart(task=str(task), worker=int(number)):
                self._start_training(event, task, number)
            case Progress() | Candidates() | events.TaskFailed() | events.WorkerExit():
                self._step(event)

    def close(self) -> None:
        """End the attempt: what its workers had not finished was cut short."""
        for number, worker in self.workers.items():
            self._leave(number, worker, self.attempt.end)
        self.workers.clear()

    def _start_worker(self, event: events.WorkerStart, number: int) -> None:
        worker = self.workers.setdefault(number, Worker())
        if event.ready:
            self.runtime = event.runtime or {}
            self._leave(number, worker, event.t, "")
            return
        worker.place, worker.phase, worker.since = event.device or "", "starting", event.t
        if "/" in worker.place:
            self.nodes[number] = worker.place.rpartition("/")[0]

    def _start_training(self, event: events.TaskStart, task: str, number: int) -> None:
        worker, state, t = self.workers.setdefault(number, Worker()), self.tasks[task], event.t
        self._leave(number, worker, t)
        attempt, nth, retrain = len(self.attempts), len(state.trainings) + 1, event.restart or 0
        worker.training = Training(attempt, task, number, number=nth, start=t, planned=event.seconds, retrain=retrain, end=t)
        worker.phase, state.given_up = "training", False
        state.trainings.append(worker.training)
        self.trainings.append(worker.training)

    def _step(self, event: Progress | Candidates | events.TaskFailed | events.WorkerExit) -> None:
        """Take an event that ends a stretch."""
        number = event.worker
        if number is None:  # the end of the run takes tasks from whoever has them
            number = next((n for n, w in self.workers.items() if w.training and w.training.task == event.task), -1)
        worker = self.workers.get(number, Worker())
        training = worker.training if worker.training and worker.training.task == event.task else None
        if isinstance(event, Progress | Candidates) and training:
            training.segments = training.segments if event.segments is None else event.segments
        match event:
            case events.TaskFailed(task=str(task)):
                if event.reason == events.INTERRUPTED:
                    self.attempt.interrupted += 1
                else:
                    state = self.tasks[task]
                    state.failures, state.given_up, self.trouble = state.failures + 1, True, f"{task}: {event.reason}"
                if training:
                    self._leave(number, worker, event.t, event.reason or event.kind)
            case events.WorkerExit():
                self._leave(number, worker, event.t, event.reason or event.kind)
                self.workers.pop(number, None)
            case Progress() if training:
                training.points.append(replace(event, segments=training.segments))
                self._stretch(training, "training", event.t)
            case Candidates() if training:
                training.votes.append(event)
                self._stretch(training, "vote", event.t)
        if isinstance(event, TaskFinal) and event.task is not None:
            self.attempt.finals.setdefault(event.task, training.last.demo_exact if training and training.last else None)
            if training:
                training.outcome = event.reason or event.kind
                worker.training, worker.phase, worker.since = None, "waiting", event.t

    def _leave(self, number: int, worker: Worker, t: float, why: str = CUT_SHORT) -> None:
        """End what a worker is at: it gets ready, or its training is lost."""
        if worker.phase == "starting":
            self.stretches.append(Stretch(len(self.attempts), number, "loading", worker.since, t, why))
        if worker.training:
            worker.training.outcome = why
            self._stretch(worker.training, "training" if why == events.INTERRUPTED else "lost", t, why)
        worker.training, worker.phase, worker.since = None, "waiting", t

    def _stretch(self, training: Training, phase: str, end: float, detail: str = "") -> None:
        end = max(end, training.end)
        self.stretches.append(Stretch(training.attempt, training.worker, phase, training.end, end, detail))
        training.end = end
