"""What run folders tell of a device and of learning: seconds of segments and votes, early ends, and what was solved after how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.config.preset_files import layer
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import SolveError
from hrm_submit.record.events import Candidates, Progress, TaskFinal, TaskStart, WorkerStart
from hrm_submit.record.folder import RunRecord, read_run
from hrm_submit.run.cost import Speed, segment_work, view_work
from lab.budget.answers import Answers, answers, solved
from lab.budget.curve import Outcome, SolvedCurve, fit_curve, resampled

CURVES = 200
"""Bootstrap samples."""


@dataclass
class Recording:
    """One setting, as one or more runs showed it. Seconds throughout; `settled_after` has the segments of each first attempt after
    which its votes had agreed, or None where they never did; `outcomes` what came of each output of a first attempt."""

    preset: Preset
    segment: Speed = field(default_factory=Speed)
    view: Speed = field(default_factory=Speed)
    start_ups: list[float] = field(default_factory=list)
    set_ups: list[float] = field(default_factory=list)
    settled_after: list[int | None] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    """Of each of `folders`."""

    @property
    def start_up(self) -> float:
        """From the run's start until a worker is ready."""
        return median(self.start_ups) if self.start_ups else 0.0

    @property
    def set_up(self) -> float:
        """What a task takes besides its segments and votes."""
        return median(self.set_ups) if self.set_ups else 0.0

    @cached_property
    def curve(self) -> SolvedCurve | None:
        """The chance of an output after so many segments; None where no solutions were given."""
        return fit_curve(self.outcomes)

    @cached_property
    def curves(self) -> list[SolvedCurve]:
        """The same of bootstrap samples."""
        return resampled(self.outcomes, CURVES)


def record(folders: Sequence[Path], tasks: Mapping[str, Task], solutions: Solutions | None = None) -> list[Recording]:
    """The recordings of `folders`, those of one configuration together. `tasks` are the tasks that the runs were of.

    Raises SolveError for a folder that recorded no training of any of them.
    """
    found: dict[str, Recording] = {}
    for folder in folders:
        run = read_run(folder)
        config = run.run.get("config")
        if not isinstance(config, dict):
            raise SolveError(f"{folder}: run.json holds no configuration")
        preset = layer(Preset(), config, source=str(folder / "run.json"))
        recording = found.setdefault(repr((preset.model, preset.ttt, preset.vote, preset.budget)), Recording(preset))
        recording.folders.append(folder)
        recording.answers.append(answers(run))
        before = len(recording.settled_after)
        _read(run, recording, tasks)
        if len(recording.settled_after) == before or not recording.segment.measured:
            raise SolveError(f"{folder}: recorded no finished task of these challenges")
        if solutions:
            recording.outcomes += _outcomes(run, recording.answers[-1], tasks, solutions)
    return list(found.values())


@dataclass
class _Spent:
    """Seconds and segments of the training that a worker is at."""

    training: float = 0.0
    votes: float = 0.0
    segments: int = 0


def _read(run: RunRecord, recording: Recording, tasks: Mapping[str, Task]) -> None:
    model, ttt, steps = recording.preset.model, recording.preset.ttt, recording.preset.vote.act_steps
    spent: dict[int, _Spent] = {}
    for event in run.events:
        task, worker = tasks.get(str(event.task)), event.worker or 0
        if isinstance(event, WorkerStart) and event.ready:
            recording.start_ups.append(event.t)
        if task is None:
            continue
        tokens = canvas_side(task) ** 2
        if isinstance(event, TaskStart):
            spent[worker] = _Spent()
        elif worker not in spent:
            continue
        so_far = spent[worker]
        if isinstance(event, Progress) and event.seconds is not None and event.segments is not None:
            work = segment_work(model, ttt, tokens)
            recording.segment.observe(work, event.seconds - so_far.training, event.segments - so_far.segments)
            so_far.training, so_far.segments = event.seconds, event.segments
        elif isinstance(event, Candidates) and event.views and event.vote_seconds is not None:
            recording.view.observe(view_work(model, tokens, steps), event.vote_seconds, event.views * len(task.test))
            so_far.votes += event.vote_seconds
        if isinstance(event, TaskFinal):
            recording.set_ups.append(max(0.0, (event.seconds or 0.0) - so_far.training - so_far.votes))
            if not event.restart:
                recording.settled_after.append(event.segments if event.reason == "votes agree" else None)
            del spent[worker]


def _outcomes(run: RunRecord, given: Answers, tasks: Mapping[str, Task], solutions: Solutions) -> list[Outcome]:
    """What came of each output in the final answer of its task's first attempt."""
    segments = {e.task: e.segments or 0 for e in reversed(run.events) if isinstance(e, TaskFinal) and not e.restart}
    return [
        Outcome(task, segments[task], canvas_side(tasks[task]) ** 2, solved(candidates, truth))
        for (task, _), (candidates, truth) in given.known(solutions).items()
        if task in segments and task in tasks
    ]
