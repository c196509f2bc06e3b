"""What recorded runs saw of a task on its way, and whether it was solved in the end: a line for each vote of each test output."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Solutions, Task, same_grid
from hrm_submit.record.events import Candidates, Progress, TaskFailed, TaskFinal, TaskStart, WorkerExit
from hrm_submit.record.folder import RunRecord, read_run


@dataclass(frozen=True)
class Look:
    """A vote on one output of a task's first training. `seconds`: since that began; `segments` and `part`: those so far, and of all that it
    had; `exact`: share of the demonstrations that were right since the look before; `share`: of the votes kept those for the best;
    `kept`: whether that is the best one of the look before; `right`: whether the answer is one of the best two grids now, `solved`: in the
    training's last vote."""

    run: str
    task: str
    output: int
    cells: int
    seconds: float
    segments: int
    part: float
    exact: float
    share: float
    kept: bool
    right: bool
    solved: bool


def read_looks(folders: Iterable[Path], tasks: Mapping[str, Task], solutions: Solutions) -> list[Look]:
    """All looks of `folders`. A training whose votes and predictions do not match, as a torn file leaves them, is left out."""
    found: list[Look] = []
    for folder in folders:
        run = read_run(folder)
        predictions = _predictions(run)
        for task_id, seen in _votes(run).items():
            if task_id in tasks and task_id in solutions:
                found += _of_task(str(folder), tasks[task_id], seen, predictions, solutions[task_id])
    return found


@dataclass(frozen=True)
class _Vote:
    """What a vote's event and the progress before it say."""

    seconds: float
    segments: int
    exact: float
    shares: tuple[float, ...]


def _votes(run: RunRecord) -> dict[str, list[_Vote]]:
    """The votes of each first training that came to its end, the last one included."""
    held: dict[int | None, list[_Vote]] = {}
    exact: dict[int | None, float] = {}
    began: dict[int | None, float] = {}
    ended: dict[str, list[_Vote]] = {}
    for event in run.events:
        worker = event.worker
        if isinstance(event, TaskStart):
            held.pop(worker, None)
            if not event.restart and event.phase is None:
                held[worker], exact[worker], began[worker] = [], 0.0, event.t
        elif isinstance(event, Progress):
            exact[worker] = event.demo_exact or 0.0
        elif isinstance(event, Candidates) and worker in held and event.views:
            shares = tuple(max(votes, default=0) / max(1, sum(votes)) for votes in event.votes or ())
            held[worker].append(_Vote(event.t - began[worker], event.segments or 0, exact[worker], shares))
            if isinstance(event, TaskFinal) and event.task is not None:
                ended.setdefault(event.task, held.pop(worker))
        elif isinstance(event, TaskFailed | WorkerExit):
            held.pop(worker, None)
    return ended


def _predictions(run: RunRecord) -> dict[tuple[str, int], list[list[Any]]]:
    """The two best grids at each vote of each output, until its first final one."""
    found: dict[tuple[str, int], list[list[Any]]] = defaultdict(list)
    closed: set[tuple[str, int]] = set()
    for line in run.predictions:
        key = (line.task, line.output)
        if key not in closed:
            found[key].append([c.grid for c in line.candidates[:2]])
            if line.final:
                closed.add(key)
    return found


def _of_task(
    run: str, task: Task, votes: Sequence[_Vote], predictions: Mapping[tuple[str, int], list[list[Any]]], truth: Sequence[Any]
) -> list[Look]:
    found, size = [], canvas_side(task) ** 2
    for output, wanted in enumerate(truth):
        grids = predictions.get((task.id, output), [])
        if not votes or len(grids) != len(votes) or any(output >= len(v.shares) for v in votes):
            continue
        right = [any(same_grid(grid, wanted) for grid in two) for two in grids]
        for k, vote in enumerate(votes):
            kept = k > 0 and bool(grids[k]) and bool(grids[k - 1]) and same_grid(grids[k][0], grids[k - 1][0])
            part, share = vote.segments / max(1, votes[-1].segments), vote.shares[output]
            found.append(Look(run, task.id, output, size, vote.seconds, vote.segments, part, vote.exact, share, kept, right[k], right[-1]))
    return found
