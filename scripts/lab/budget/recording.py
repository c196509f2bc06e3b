"""What run folders tell of a device and of learning: seconds of segments and votes, early ends, and what was solved after how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Solutions, Task, make_grid, same_grid
from hrm_submit.config.layers import layer
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import SolveError
from hrm_submit.core.runfolder import RunRecord, read_run
from hrm_submit.plan.cost import Speed, segment_work, view_work
from lab.budget.curve import SolvedCurve, fit_curve


@dataclass
class Recording:
    """One setting, as one or more runs showed it. Seconds throughout; `settled_after` has the segments of each first attempt after
    which its votes had agreed, or None where they never did; `outcomes` the segments of each answer and whether it was right."""

    preset: Preset
    segment: Speed = field(default_factory=Speed)
    view: Speed = field(default_factory=Speed)
    start_ups: list[float] = field(default_factory=list)
    set_ups: list[float] = field(default_factory=list)
    settled_after: list[int | None] = field(default_factory=list)
    outcomes: list[tuple[int, bool]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    @property
    def start_up(self) -> float:
        """From the run's start until a worker is ready."""
        return median(self.start_ups) if self.start_ups else 0.0

    @property
    def set_up(self) -> float:
        """What a task takes besides its segments and votes."""
        return median(self.set_ups) if self.set_ups else 0.0

    @property
    def curve(self) -> SolvedCurve | None:
        """Share of outputs solved after so many segments; None where no solutions were given."""
        return fit_curve([s for s, _ in self.outcomes], [right for _, right in self.outcomes]) if self.outcomes else None


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
        before = len(recording.settled_after)
        _read(run, recording, tasks)
        if len(recording.settled_after) == before or not recording.segment.measured:
            raise SolveError(f"{folder}: recorded no finished task of these challenges")
        if solutions:
            recording.outcomes += _outcomes(run, solutions)
    return list(found.values())


def _read(run: RunRecord, recording: Recording, tasks: Mapping[str, Task]) -> None:
    model, ttt, steps = recording.preset.model, recording.preset.ttt, recording.preset.vote.act_steps
    began: dict[int, dict[str, Any]] = {}
    spent: dict[int, list[float]] = {}
    for event in run.events:
        kind, task, worker = event["event"], tasks.get(str(event.get("task"))), int(event.get("worker") or 0)
        if kind == "worker_start" and event.get("ready"):
            recording.start_ups.append(float(event["t"]))
        if task is None:
            continue
        tokens = canvas_side(task) ** 2
        if kind == "task_start":
            began[worker], spent[worker] = event, [0.0, 0.0, 0]
        elif kind == "progress" and worker in began and "seconds" in event:
            trained, _, segments = spent[worker]
            recording.segment.observe(segment_work(model, ttt, tokens), event["seconds"] - trained, int(event["segments"] - segments))
            spent[worker][0], spent[worker][2] = event["seconds"], event["segments"]
        elif kind in ("candidates", "task_final") and worker in began and event.get("views"):
            views = int(event["views"]) * len(task.test)
            recording.view.observe(view_work(model, tokens, steps), float(event["vote_seconds"]), views)
            spent[worker][1] += float(event["vote_seconds"])
        if kind == "task_final" and worker in began:
            recording.set_ups.append(max(0.0, float(event["seconds"]) - spent[worker][0] - spent[worker][1]))
            if not event.get("restart"):
                recording.settled_after.append(int(event["segments"]) if event.get("reason") == "votes agree" else None)
            del began[worker]


def _outcomes(run: RunRecord, solutions: Solutions) -> list[tuple[int, bool]]:
    """Segments and rightness (one of two attempts) of each final answer of a first attempt, an output a time."""
    segments = {e["task"]: int(e["segments"]) for e in reversed(run.events) if e["event"] == "task_final" and not e.get("restart")}
    seen: set[tuple[str, int]] = set()
    found = []
    for line in run.predictions:
        key = (line.get("task", ""), line.get("output", -1))
        if not line.get("final") or key in seen or key[0] not in segments or key[0] not in solutions:
            continue
        if 0 <= key[1] < len(solutions[key[0]]):
            seen.add(key)
            truth = solutions[key[0]][key[1]]
            found.append((segments[key[0]], any(same_grid(make_grid(c["grid"]), truth) for c in line["candidates"][:2])))
    return found
