"""One run of kind "ttt": test-time training of every task for the same amount, from the same weights, and its last votes.

Notable: it is the session that `solve` runs, on a clock that may count CPU seconds; a training that diverges begins anew at a third of
its rates in what is left of its time, as it does there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_submit.arc.canvas import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.weights import Checkpoint, build, load_checkpoint
from hrm_submit.plan.cost import segment_work
from hrm_submit.predict.raw import RAW, RawVote, save_raw
from hrm_submit.solve.joint_training import train_together
from hrm_submit.solve.messages import Answer, Joint, Progress
from hrm_submit.solve.session import DivergedError, TaskSession, n_rows, with_rate
from hrm_submit.solve.worker import MOST_SLOWDOWNS
from lab.ablation.measure import Marks, mark
from lab.ablation.runs import Run

NOTHING = Answer("", (), final=True, segments=0, reason="no vote")


class Solver:
    """The model of a run, set back to the weights that tasks start from before each."""

    def __init__(self, run: Run, source: Checkpoint | None, runtime: Runtime, raw: Path) -> None:
        self.run, self._source, self._raw = run, source, raw
        self.model, self.embedding = build(
            source or run.preset.model,
            n_rows=n_rows(run.preset),
            dtype=getattr(torch, runtime.dtype),
            attention=runtime.attention,  # type: ignore[arg-type]
            seed=run.seed,
            device=run.device,
        )
        if runtime.compile:
            compile_blocks(self.model)
        self._start: list[Mapping[str, Tensor]] = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self.model, self.embedding)]
        self._now = clock_of(run)

    def solve(self, task: Task, seconds: float | None, segments: int | None) -> dict[str, Any]:
        """Train on one task in `seconds` or `segments`. Returns its last answer, segments, exact demonstrations at the end, seconds in all
        and seconds of training."""
        clock, preset = Clock(seconds, source=self._now), self.run.preset
        answer, done, exact, trained = NOTHING, 0, 0.0, 0.0
        for _ in range(MOST_SLOWDOWNS + 1):
            before, this, took = done, 0, 0.0
            try:
                for message in self._session(task, preset, clock, segments).run():
                    if isinstance(message, Progress):
                        this, exact, took = message.segments, message.demo_exact, message.seconds
                    elif isinstance(message, Answer):
                        answer = message
                    elif isinstance(message, RawVote) and message.task in self.run.material.measured.tasks:
                        save_raw(self._raw, message)
                done, trained = before + this, trained + took
                break
            except DivergedError:
                done, trained = before + this, trained + took
                preset = with_rate(preset, 1 / 3)
                if clock.remaining() <= 0:
                    break
        return {"answer": answer, "segments": done, "exact": exact, "seconds": clock.elapsed(), "training_seconds": trained}

    def _session(self, task: Task, preset: Preset, clock: Clock, segments: int | None) -> TaskSession:
        for module, state in zip((self.model, self.embedding), self._start, strict=True):
            module.load_state_dict(state)
        source = self._source
        if source and source.tables.rows is not None and task.id in source.meta.row_ids:
            own = source.tables.rows[source.meta.row_ids.index(task.id)]
            self.embedding.reset_rows(torch.arange(len(self.embedding.rows), device=own.device), own)
        left = Clock(source=self._now) if clock.budget is None else Clock(clock.remaining(), source=self._now)
        return TaskSession(self.model, self.embedding, task, preset, self.run.seed, left, segments)

    def warm_up(self) -> None:
        """What libraries load at first use comes out of no task's time."""
        cell = make_grid([[0]])
        self.solve(Task("warm-up", (Pair(cell, cell),), (cell,)), None, 1)


def ttt_run(run: Run, folder: Path) -> dict[str, Any]:
    """Solve every task and compare with its solutions; returns the row's figures. A line a task goes into `folder`."""
    runtime = runtime_for(run.device, run.preset.device)
    source = load_checkpoint(run.checkpoint, rows=True) if run.checkpoint else None
    each, tasks = run.amount, run.material.measured.tasks
    if run.preset.ttt.joint:
        source = _together(run, source, runtime, folder)
        each *= 1 - run.preset.ttt.joint
    solver = Solver(run, source, runtime, folder / RAW)
    solver.warm_up()
    lines: list[dict[str, Any]] = []
    marks: dict[str, Marks] = {}
    with (folder / "tasks.jsonl").open("w", encoding="utf-8") as file:
        for task_id, task in tasks.items():
            flops = segment_work(run.preset.model, run.preset.ttt, canvas_side(task) ** 2)
            done = solver.solve(task, each if run.unit == "seconds" else None, _segments(run, each, flops))
            answer: Answer = done.pop("answer")
            marks[task_id] = mark(answer.outputs or ((),) * len(task.test), answer.views, run.material.measured.solutions[task_id])
            line = {"task": task_id, "outputs": marks[task_id].outputs, "reason": answer.reason, **done}
            lines.append({**line, "flops": flops * done["segments"]})
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    segments, examples = sum(x["segments"] for x in lines), sum(x["segments"] for x in lines) * run.preset.ttt.batch_size
    return {
        "view_exact": sum(m.views for m in marks.values()) / len(marks),
        "exact": sum(x["exact"] for x in lines) / len(lines),
        "loss": None,
        "segments": segments / len(lines),
        "examples": examples,
        "examples_per_second": examples / max(1e-9, sum(x["training_seconds"] for x in lines)),
        "flops": sum(x["flops"] for x in lines),
        "seconds": sum(x["seconds"] for x in lines) / len(lines),
        "parameters": sum(p.numel() for p in solver.model.parameters()),
        "results": {task_id: m.outputs for task_id, m in marks.items()},
    }


def clock_of(run: Run) -> Callable[[], float]:
    """What the run's seconds are counted by."""
    return time.process_time if run.clock == "cpu" else time.monotonic


def _segments(run: Run, amount: float, flops: float) -> int | None:
    """Segments that `amount` buys, each of `flops` operations; None where seconds decide."""
    if run.unit == "seconds":
        return None
    return max(1, round(amount / (flops if run.unit == "flops" else run.preset.ttt.batch_size)))


def _together(run: Run, source: Checkpoint | None, runtime: Runtime, folder: Path) -> Checkpoint:
    """The weights that joint training leaves after its part of all tasks' seconds."""
    tasks, path = tuple(run.material.measured.tasks.values()), folder / "joint.safetensors"
    preset = replace(run.preset, train=replace(run.preset.train, max_side=30))
    joint = Joint(tasks, run.preset.ttt.joint * run.amount * len(tasks), None, path)
    for _ in train_together(source, joint, preset, runtime, run.seed, clock_of(run)):
        pass
    return load_checkpoint(path, rows=True)
