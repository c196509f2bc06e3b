"""Joint training: all hidden tasks' demonstrations together, before each task is trained on alone from the weights that come of it.

Every worker does it for itself, with the same draws, so that no worker waits for another and fixed work gives the same weights
whatever the number of workers. The weights are saved, with a row for each task, for workers that come later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from hrm_submit.arc.task import MAX_SIDE, Task
from hrm_submit.arc.training_task import TrainingTask
from hrm_submit.config.runtime import Runtime
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import SolveError
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, build_on, save_checkpoint, snapshot
from hrm_submit.run.protocol import Joined, Joint
from hrm_submit.solver.messages import Alive
from hrm_submit.train.loop import SegmentReport, Trainer
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.ranks import Ranks


def train_together(
    source: Checkpoint | None, joint: Joint, preset: Preset, runtime: Runtime, seed: int, now: Callable[[], float] = time.monotonic
) -> Iterator[Alive | Joined]:
    """Train on the demonstrations of `joint.tasks` by the preset's `[train]`, for the seconds (of the clock `now`) or segments given, and
    save the weights to `joint.path`; the last item says how it went. Raises SolveError where the weights are of no use."""
    clock = Clock(joint.seconds, source=now)
    model, embedding = build_on(runtime, source or preset.model, seed=seed)
    config = replace(preset.train, max_side=MAX_SIDE)
    mixture = Mixture(_lessons(joint.tasks), preset.model, config, seed)
    first_row = embedding.rows[:1].clone()
    embedding.rows = first_row.expand(mixture.n_rows, -1).clone()
    trainer = Trainer(model, embedding, config, torch.Generator().manual_seed(seed))

    def progress() -> float:
        if joint.segments is not None:
            return trainer.segment / joint.segments
        return clock.elapsed() / max(1e-9, clock.budget or 0.0)

    last: list[SegmentReport] = []
    batches = ahead(mixture, 0, Ranks(), config.batch_size, runtime.device)
    try:
        for report in trainer.run(batches, progress):
            last = [*last[-49:], report]
            if progress() >= 1.0:
                break
            yield Alive("")
    finally:
        batches.close()  # type: ignore[attr-defined]
    loss = torch.stack([r.loss.float() for r in last]).mean().item()
    count = torch.stack([r.metrics.count for r in last]).sum().item()
    exact = torch.stack([r.metrics.exact_accuracy for r in last]).sum().item()
    if not loss < float("inf"):
        raise SolveError("the loss of joint training is not finite")
    rows, per_task = embedding.rows, mixture.n_rows // len(mixture.sources)
    # A task's own training starts from one row: the mean of those that its views had.
    embedding.rows = rows.view(len(mixture.sources), per_task, -1).mean(dim=1)
    meta = CheckpointMeta(steps=trainer.segment, seconds=round(clock.elapsed(), 1), row_ids=tuple(s.id for s in mixture.sources))
    save_checkpoint(joint.path, snapshot(model, embedding, meta, keep_rows=True))
    yield Joined(joint.path, trainer.segment, loss, exact / count if count else 0.0)


def _lessons(tasks: Sequence[Task]) -> list[TrainingTask]:
    return [TrainingTask(task, "demonstrations", task.id) for task in tasks]
