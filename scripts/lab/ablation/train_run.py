"""One run of kind "train": from random weights (or a checkpoint) over the whole amount, then votes without weight update.

Notable: it is the package's own loop on one process; what is added is the account of what was spent, which drives the learning rate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.config.schema import ModelConfig, TrainConfig
from hrm_submit.core.clock import Clock
from hrm_submit.model.compiled import compile_blocks
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import CheckpointMeta, build_on, save_checkpoint, snapshot
from hrm_submit.run.cost import segment_work
from hrm_submit.train.exports import load_start, place_rows
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.ranks import Ranks
from lab.ablation.measure import measure
from lab.ablation.runs import Run

SLICES = 20
"""Points of a learning curve; the exactness that is reported is of the last two, the last tenth of the run."""


class Account:
    """What a run has spent, and how far through its amount that is. Seconds are those of `now`, from the account's opening."""

    def __init__(self, run: Run, now: Callable[[], float]) -> None:
        self._clock, self._unit, self._amount = Clock(source=now), run.unit, run.amount
        self.segments = self.examples = 0
        self.flops = 0.0

    @property
    def seconds(self) -> float:
        """Spent by now."""
        return self._clock.elapsed()

    def add(self, examples: int, flops: float) -> None:
        """One segment more."""
        self.segments += 1
        self.examples += examples
        self.flops += flops

    def progress(self) -> float:
        """0..1 of the amount, or a little more when it is used up."""
        return float(getattr(self, self._unit)) / self._amount


class Curve:
    """Loss and exact-grid accuracy by slices of a run, written to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path, self._reports = path, list[SegmentReport]()
        self._slices: list[tuple[float, float, float, int]] = []
        path.write_text("", encoding="utf-8")

    def add(self, report: SegmentReport, account: Account) -> None:
        """Note a segment; reading the tensors waits for the device, so that is done once a slice."""
        self._reports.append(report)
        if account.progress() >= (len(self._slices) + 1) / SLICES:
            self._close(account)

    def _close(self, account: Account) -> None:
        loss, exact, count = (sum(float(x) for x in column) for column in zip(*map(_figures, self._reports), strict=True))
        self._slices.append((loss, exact, count, len(self._reports)))
        line = {"progress": account.progress(), "seconds": account.seconds, "examples": account.examples, "flops": account.flops}
        line |= {"loss": loss / len(self._reports), "exact": exact / max(1.0, count)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._reports = []

    def end(self) -> tuple[float, float]:
        """Mean loss and exact share over the last tenth, or over the last slice where slices are longer than that."""
        loss, exact, count, n = (sum(column) for column in zip(*self._slices[-2:], strict=True))
        return loss / n, exact / max(1.0, count)


def train_run(run: Run, folder: Path) -> dict[str, Any]:
    """Train and measure; returns the row's figures. The learning curve and the weights go into `folder`."""
    preset, train = run.preset, run.preset.train
    runtime = runtime_for(run.device, preset.device)
    mixture = Mixture(run.material.sources, preset.model, train, run.seed)
    start = load_start(run.checkpoint, preset.model) if run.checkpoint else None
    model, embedding = build_on(runtime, start or preset.model, n_rows=mixture.n_rows, seed=run.seed)
    if start:
        place_rows(embedding, start, mixture.row_ids)
    if runtime.compile:
        compile_blocks(model)
    _warm_up(run, mixture, runtime)
    account = Account(run, time.process_time if run.clock == "cpu" else time.monotonic)
    curve = Curve(folder / "curve.jsonl")
    averaged = _train(model, embedding, train, mixture, run, account, curve)
    seconds = account.seconds
    loss, exact = curve.end()
    trained = snapshot(averaged, embedding, CheckpointMeta(), keep_rows=embedding.scheme == "shared")
    save_checkpoint(folder / "weights.safetensors", trained)
    _, fresh = build_on(runtime, trained)
    marks = measure(averaged, embedding, fresh, mixture, run.material, preset, run.seed, folder)
    return {
        "view_exact": sum(m.views for m in marks.values()) / len(marks),
        "exact": exact,
        "loss": loss,
        "segments": account.segments,
        "examples": account.examples,
        "examples_per_second": account.examples / max(1e-9, seconds),
        "flops": account.flops,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "results": {task_id: m.outputs for task_id, m in marks.items()},
        "test_losses": {task_id: m.loss for task_id, m in marks.items() if m.loss is not None},
    }


def _train(model: HRM, embedding: TaskEmbedding, train: TrainConfig, mixture: Mixture, run: Run, account: Account, curve: Curve) -> HRM:
    """Train until the amount is used up; returns the model that predicts, the running average where `[train] ema` asks for one."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema)) if train.ema else None
    trainer = Trainer(model, embedding, train, torch.Generator().manual_seed(run.seed))
    batches = ahead(mixture, 0, Ranks(), train.batch_size, run.device)
    work = _Work(model.cfg, train)
    try:
        for report in trainer.run(work.watch(batches), account.progress):
            if average is not None:
                average.update_parameters(model)
            account.add(report.size, work.last)
            curve.add(report, account)
            if account.progress() >= 1.0:
                break
    finally:
        batches.close()  # type: ignore[attr-defined]
    return model if average is None else average.module  # type: ignore[return-value]


def _warm_up(run: Run, mixture: Mixture, runtime: Runtime) -> None:
    """A segment of a model that is thrown away: what libraries load at first use, seconds in all, comes out of no run's amount."""
    model, embedding = build_on(runtime, run.preset.model, n_rows=mixture.n_rows)
    batches = iter([mixture.batch(0, batch_size=1)])
    for _ in Trainer(model, embedding, run.preset.train, torch.Generator().manual_seed(0)).run(batches, lambda: 0.0):
        pass


class _Work:
    """Floating-point operations of the segment of each batch that goes by."""

    def __init__(self, model: ModelConfig, train: TrainConfig) -> None:
        self._model, self._train, self.last = model, train, 0.0

    def watch(self, batches: Iterable[CanvasBatch]) -> Iterator[CanvasBatch]:
        for item in batches:
            train = replace(self._train, batch_size=item.batch.inputs.shape[0])
            self.last = segment_work(self._model, train, item.positions.shape[0])
            yield item


def _figures(report: SegmentReport) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return report.loss, report.metrics.exact_accuracy, report.metrics.count
