"""What the lines of a growing run tell, kept up to date line by line and put in words: of a `solve`, and of a pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hrm_submit.config.schema import TTTConfig
from hrm_submit.core.clock import format_duration
from hrm_submit.record import events
from hrm_submit.record.events import Event, number, parse_event

QUIET = 600.0
"""Seconds without a new line after which a run may have been killed."""


@dataclass
class _Worker:
    """A worker as its events tell of it; `since` and `share` in seconds of the run."""

    device: str = ""
    phase: str = "starting"
    task: str = ""
    since: float = 0.0
    share: float | None = None
    segments: int | None = None
    loss: float | None = None
    exact: float | None = None


@dataclass
class SolveView:
    """The events of a `solve`, from one start on; `fit` is the preset's `[ttt] fit`."""

    fit: float = TTTConfig().fit
    ended: bool = False
    _t: float = 0.0
    _budget: float | None = None
    _tasks: int = 0
    _resumed: int = 0
    _final: set[str] = field(default_factory=set)
    _fit: int = 0
    _retries: int = 0
    _given_up: set[str] = field(default_factory=set)
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _trouble: str = ""

    def take(self, line: Mapping[str, Any]) -> None:
        """Take one more line; one that is no event is skipped."""
        try:
            event = parse_event(line)
        except ValueError:
            return
        self._t, name = event.t, event.task or ""
        if isinstance(event, events.RunStart):
            self._budget, self._tasks, self._resumed = event.budget, event.tasks or 0, event.resumed or 0
        elif isinstance(event, events.Plan) and event.todo is not None:
            self._tasks = self._resumed + len(event.todo)
        elif isinstance(event, events.TaskFailed):
            self._given_up.add(name)
            self._trouble = f"{name}: {event.reason}"
        elif isinstance(event, events.Retry):
            self._retries += 1
            self._given_up.discard(name)
        elif isinstance(event, events.Flush):
            self._trouble = f"{event.failed} cannot be written: {event.reason}"
        elif isinstance(event, events.RunEnd):
            self.ended = True
            self._workers.clear()
        if event.worker is not None:
            self._worker(event, event.worker, name)

    def lines(self, age: float) -> list[str]:
        """Counts and time, then a table of the workers."""
        now = self._t if self.ended else self._t + age
        given_up = self._given_up - self._final  # one whose training anew fails has its answer from before
        done = self._resumed + len(self._final) + len(given_up)
        counts = [f"{done} of {self._tasks} tasks done", f"{self._fit} fit their demonstrations"]
        counts += [f"{self._retries} tried again"] if self._retries else []
        counts += [f"{len(given_up)} given up"] if given_up else []
        past = [f"{format_duration(now)} gone"]
        if self.ended:
            past = [f"ended after {format_duration(now)}"]
        elif self._budget is not None:
            past.append(f"{format_duration(max(0.0, self._budget - now))} left")
        lines = [f"{', '.join(counts)}; {', '.join(past)}"]
        lines += [f"latest trouble: {self._trouble}"] if self._trouble else []
        return [*lines, *self._table(now), *_quiet(age, self.ended)]

    def _table(self, now: float) -> list[str]:
        if not self._workers:
            return []
        from pandas import DataFrame

        rows = [
            {
                "worker": number,
                "device": w.device,
                "task": w.task,
                "phase": w.phase,
                "for": format_duration(max(0.0, now - w.since)),
                "of": "" if w.share is None else format_duration(w.share),
                "segments": "" if w.segments is None else w.segments,
                "loss": "" if w.loss is None else f"{w.loss:.3f}",
                "demonstrations": "" if w.exact is None else f"{w.exact:.0%}",
            }
            for number, w in sorted(self._workers.items())
        ]
        return DataFrame(rows).to_string(index=False).split("\n")

    def _worker(self, event: Event, number: int, task: str) -> None:
        """What an event says of the worker it names. Training is over for a look, and then a vote goes on, from each progress
        to the candidates that follow it."""
        worker = self._workers.setdefault(number, _Worker(since=self._t))
        if isinstance(event, events.WorkerStart):
            worker.device = event.device or worker.device
            worker.phase, worker.since = ("waiting" if event.ready else "starting"), self._t
        elif isinstance(event, events.WorkerExit):
            del self._workers[number]
        elif isinstance(event, events.TaskStart):
            self._given_up.discard(task)
            self._workers[number] = _Worker(worker.device, "training", task, self._t, event.seconds)
        elif isinstance(event, events.Progress):
            worker.segments, worker.loss, worker.exact, worker.phase = event.segments, event.loss, event.demo_exact, "voting"
        elif isinstance(event, events.TaskFinal | events.TaskFailed):
            if worker.task == task:
                if isinstance(event, events.TaskFinal) and task not in self._final:  # with time left some are trained anew
                    self._final.add(task)
                    self._fit += worker.exact is not None and worker.exact >= self.fit
                self._workers[number] = _Worker(worker.device, "waiting", since=self._t)
        elif isinstance(event, events.Candidates):
            worker.phase = "training"


@dataclass
class PretrainView:
    """The lines of a pre-training's metrics. It has ended when its picture, which it draws last, is newer than they."""

    ended: bool = False
    _last: Mapping[str, Any] = field(default_factory=dict)
    _validation: Mapping[str, Any] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        """One line more: of training, or of a validation."""
        if "validation_pass@2" in line:
            self._validation = line
        else:
            self._last = line

    def lines(self, age: float) -> list[str]:
        """The last line of training, and the last validation."""
        value = {key: number(x) for key, x in self._last.items()}
        loss, progress = value.get("loss"), value.get("progress")
        seconds = value.get("seconds") or 0.0
        told = [
            f"segment {value.get('segment') or 0:.0f}: loss {'not finite' if loss is None else f'{loss:.3f}'}",
            f"exact {value.get('exact') or 0:.1%}",
            f"{value.get('examples_per_second') or 0:.0f} examples/s",
            f"{progress or 0:.0%} done",
        ]
        if self.ended:
            told.append(f"ended after {format_duration(seconds)}")
        elif progress:
            told.append(f"{format_duration(max(0.0, seconds * (1 - progress) / progress - age))} left")
        lines = [", ".join(told)]
        score = number(self._validation.get("validation_pass@2"))
        if score is not None:
            lines.append(f"validation at segment {number(self._validation.get('segment')) or 0:.0f}: pass@2 {score:.1%}")
        return [*lines, *_quiet(age, self.ended)]


def _quiet(age: float, ended: bool) -> list[str]:
    if ended:
        return []
    return [f"last line {format_duration(age)} ago" + ("; the run may have been killed" if age > QUIET else "")]
