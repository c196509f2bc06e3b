"""One run of kind "ttt": test-time training of every task for the same amount, from the same weights, and its last votes.

Notable: it is the solver that `solve` runs, on a clock that may count CPU seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.config.runtime import runtime_for
from hrm_submit.core.clock import Clock
from hrm_submit.model.weights import load_checkpoint
from hrm_submit.predict.raw import RAW, RawVote, save_raw
from hrm_submit.run.cost import segment_work
from hrm_submit.solver.messages import Outcome
from hrm_submit.solver.solver import TaskSolver
from lab.ablation.losses import mean_test_loss
from lab.ablation.measure import mark
from lab.ablation.runs import Run


def ttt_run(run: Run, folder: Path) -> dict[str, Any]:
    """Solve every task and compare with its solutions; returns the row's figures. A line a task goes into `folder`."""
    runtime = runtime_for(run.device, run.preset.device)
    source = load_checkpoint(run.checkpoint, rows=True) if run.checkpoint else None
    each, tasks = run.amount, run.material.measured.tasks
    now = clock_of(run)
    solver = TaskSolver(run.preset, runtime, source, run.seed, now)
    solver.warm_up()
    lines: list[dict[str, Any]] = []
    with (folder / "tasks.jsonl").open("w", encoding="utf-8") as file:
        for task_id, task in tasks.items():
            flops = segment_work(run.preset.model, run.preset.ttt, canvas_side(task) ** 2)
            clock, done, loss = Clock(source=now), Outcome(), None
            seconds = each if run.unit == "seconds" else None
            for message in solver.solve(task, seconds=seconds, segments=_segments(run, each, flops)):
                done.add(message)
                if isinstance(message, RawVote):
                    save_raw(folder / RAW, message)
                    loss = mean_test_loss(message, task, run.material.measured.solutions[task_id])
            marks = mark(done.outputs or ((),) * len(task.test), done.views, run.material.measured.solutions[task_id])
            line: dict[str, Any] = {"task": task_id, "outputs": marks.outputs, "views": marks.views}
            line |= {"test_loss": loss, "reason": done.reason, "segments": done.segments}
            line |= {"exact": done.demo_exact, "seconds": clock.elapsed(), "training_seconds": done.seconds}
            lines.append({**line, "flops": flops * done.segments})
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    return figures_of(lines, run.preset.ttt.batch_size, sum(p.numel() for p in solver.model.parameters()))


def figures_of(lines: Sequence[dict[str, Any]], batch_size: int, parameters: int) -> dict[str, Any]:
    """The row's figures, from the lines of all tasks."""
    segments = sum(x["segments"] for x in lines)
    examples = segments * batch_size
    return {
        "view_exact": sum(x["views"] for x in lines) / len(lines),
        "exact": sum(x["exact"] for x in lines) / len(lines),
        "loss": None,
        "segments": segments / len(lines),
        "examples": examples,
        "examples_per_second": examples / max(1e-9, sum(x["training_seconds"] for x in lines)),
        "flops": sum(x["flops"] for x in lines),
        "seconds": sum(x["seconds"] for x in lines) / len(lines),
        "parameters": parameters,
        "results": {x["task"]: x["outputs"] for x in lines},
        "test_losses": {x["task"]: x["test_loss"] for x in lines if x["test_loss"] is not None},
        "lines": list(lines),
    }


def clock_of(run: Run) -> Callable[[], float]:
    """What the run's seconds are counted by."""
    return time.process_time if run.clock == "cpu" else time.monotonic


def _segments(run: Run, amount: float, flops: float) -> int | None:
    """Segments that `amount` buys, each of `flops` operations; None where seconds decide."""
    if run.unit == "seconds":
        return None
    return max(1, round(amount / (flops if run.unit == "flops" else run.preset.ttt.batch_size)))
