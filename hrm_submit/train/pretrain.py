"""Pre-training from end to end: goes on from where it was, ends on time and decayed, and leaves two checkpoints.

- `undecayed`: the weights as they were when the learning rate began to fall: to go on from, with fresh optimizers.
- `final`: the decayed weights (their running average where `[train] ema` asks for one): to solve with.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hrm_submit.arc.corpora import TrainingTask
from hrm_submit.arc.task import Solutions, Task
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.config import Preset
from hrm_submit.core.device import out_of_memory, runtime_for
from hrm_submit.core.errors import TrainError
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, build, load_checkpoint, save_checkpoint, save_parts, snapshot
from hrm_submit.train.loop import SegmentReport, Trainer
from hrm_submit.train.metrics import MetricsLog
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.ranks import Ranks
from hrm_submit.train.resume import read_state, restore, save_state
from hrm_submit.train.schedule import rate_factor
from hrm_submit.train.validate import validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """A set to measure on, never to train on: pass@2 by voting every `every` seconds."""

    name: str
    tasks: Mapping[str, Task]
    solutions: Solutions
    every: float


@dataclass(frozen=True)
class PretrainRequest:
    """What `pretrain` is asked. Exactly one of `budget` (seconds in all, earlier turns included) and `segments` is given."""

    sources: tuple[TrainingTask, ...]
    preset: Preset
    meta: CheckpointMeta
    out: Path
    budget: float | None
    segments: int | None
    device: str
    seed: int = 0
    resume: bool = False
    start_from: Path | None = None
    export_parts: int | None = None
    """Largest part of an export in bytes; None: a single file."""
    save_every: float = 120.0
    """Seconds between two saves of the state."""
    log_every: int = 20
    held: Held | None = None


class Pretraining:
    """One run on one rank."""

    def __init__(self, request: PretrainRequest, ranks: Ranks, clock: Clock) -> None:
        self.request, self.ranks, self._clock = request, ranks, clock
        train = request.preset.train
        if train.batch_size % ranks.world:
            raise TrainError(f"[train] batch_size {train.batch_size} cannot be shared by {ranks.world} ranks")
        self.mixture = Mixture(request.sources, request.preset.model, train, request.seed)
        self.runtime = runtime_for(request.device, request.preset.device)
        source = load_checkpoint(request.start_from) if request.start_from else request.preset.model
        model, embedding = build(
            source,
            n_rows=self.mixture.n_rows,
            dtype=getattr(torch, self.runtime.dtype),
            attention=self.runtime.attention,  # type: ignore[arg-type]
            seed=request.seed,
            device=request.device,
        )
        if self.runtime.compile:
            model.compile_blocks()
        generator = torch.Generator().manual_seed(request.seed + 7919 * ranks.rank)
        self.trainer = Trainer(model, embedding, train, generator, ranks)
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema)) if train.ema else None
        self._before = 0.0
        self._batch_size = train.batch_size
        self._stop = threading.Event()
        self._exported_undecayed = False
        self._progress, self._ends = 0.0, False
        if request.resume:
            self._restore(read_state(request.out, request.device))

    def run(self) -> str:
        """Train to the end, or until SIGTERM or Ctrl-C; returns how it ended, for a person."""
        request = self.request
        metrics = MetricsLog(request.out, request.log_every, self.ranks.world) if self.ranks.leads else None
        log.info(
            "%d tasks (%d left out for their size), %s on %s, %s",
            len(self.mixture.sources),
            len(self.mixture.left_out),
            self.runtime.dtype,
            self.runtime.device,
            f"{sum(p.numel() for p in self.trainer.model.parameters()):,} parameters",
        )
        next_save, next_check = self._seconds() + request.save_every, self._seconds() + (request.held.every if request.held else 0.0)
        with self._signals():
            for report, progress in self._segments():
                if self._average is not None:
                    self._average.update_parameters(self.trainer.model)
                if not self.ranks.leads:
                    continue
                seconds = self._seconds()
                assert metrics is not None
                metrics.add(report, seconds, progress, rate_factor(report.segment - 1, progress, request.preset.train))
                if not self._exported_undecayed and progress >= 1.0 - request.preset.train.decay_fraction:
                    self._export("undecayed", self.trainer.model)
                    self._exported_undecayed = True
                if request.held and seconds >= next_check:
                    next_check = seconds + request.held.every
                    self._validate(request.held, metrics)
                if seconds >= next_save:
                    next_save = seconds + request.save_every
                    self._save()
        ended = not self._stop.is_set()
        if self.ranks.leads:
            self._save()
            if ended:
                self._export("final", self._averaged())
            if ended and request.held and metrics:
                self._validate(request.held, metrics)
            if metrics:
                metrics.close()
        how = "decayed" if ended else "stopped early, go on with --resume"
        return f"{self.trainer.segment} segments in {format_duration(self._seconds())}, {how}: {request.out}"

    def _segments(self) -> Iterator[tuple[SegmentReport, float]]:
        """Segments with the progress after each, to the end; memory that runs out halves the batch and goes on."""
        trainer = self.trainer
        while self._progress_now() < 1.0:
            batches = ahead(self.mixture, trainer.segment, self.ranks, self._batch_size, self.request.device)
            try:
                for report in trainer.run(batches, self._shared_progress):
                    progress = self._progress
                    yield report, progress
                    if self._ends:
                        return
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self._batch_size // 2 < self.ranks.world or self.ranks.world > 1:
                    raise
                self._batch_size //= 2
                log.warning("out of memory: the batch is now %d", self._batch_size)
                trainer.model.zero_grad(set_to_none=True)
                trainer.carries.clear()
                gc.collect()
            finally:
                batches.close()  # type: ignore[attr-defined]

    def _progress_now(self) -> float:
        """0..1, before the next segment; the last segment of a run by segments has progress (n - 1) / n."""
        if self.request.segments is not None:
            return self.trainer.segment / self.request.segments
        return self._seconds() / (self.request.budget or 1e-9)

    def _shared_progress(self) -> float:
        """The same for all ranks: the furthest one's; and whether this segment is the last."""
        segments = self.request.segments
        last = self._stop.is_set() or (segments is not None and self.trainer.segment + 1 >= segments)
        self._progress = min(1.0, self.ranks.most(self._progress_now()))
        self._ends = self.ranks.most(float(last)) > 0 or self._progress >= 1.0
        return self._progress

    def _seconds(self) -> float:
        return self._before + self._clock.elapsed()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the segment in hand."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {s: signal.signal(s, lambda *_: self._stop.set()) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _averaged(self) -> HRM:
        return self.trainer.model if self._average is None else self._average.module  # type: ignore[return-value]

    def _save(self) -> None:
        extra: dict[str, Any] = {
            "seconds": self._seconds(),
            "batch_size": self._batch_size,
            "exported_undecayed": self._exported_undecayed,
            "preset": self.request.preset.to_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }
        try:
            save_state(self.request.out, self.trainer, extra)
        except OSError as error:
            log.warning("%s: the state could not be saved (%s); the one before stays", self.request.out, error.strerror or error)

    def _restore(self, state: dict[str, Any]) -> None:
        ours = self.request.preset.to_dict()
        for table in ("model", "train"):
            for key, value in state["preset"][table].items():
                if ours[table].get(key) != value:
                    raise TrainError(f"{self.request.out}: was trained with [{table}] {key} = {value!r}, not {ours[table].get(key)!r}")
        restore(self.trainer, state)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._before, self._batch_size = state["seconds"], state["batch_size"]
        self._exported_undecayed = state["exported_undecayed"]

    def _export(self, name: str, model: HRM) -> None:
        checkpoint = self._checkpoint(model)
        try:
            if self.request.export_parts:
                save_parts(self.request.out / name, checkpoint, self.request.export_parts)
            else:
                save_checkpoint(self.request.out / f"{name}.safetensors", checkpoint)
        except Exception as error:
            log.warning("%s: not exported: %s", name, error)

    def _checkpoint(self, model: HRM) -> Checkpoint:
        meta = replace(self.request.meta, steps=self.trainer.segment, seconds=round(self._seconds(), 1))
        return snapshot(model, self.trainer.embedding, meta)

    def _validate(self, held: Held, metrics: MetricsLog) -> None:
        checkpoint = self._checkpoint(self._averaged())
        model, embedding = build(
            checkpoint,
            n_rows=1,
            dtype=self.trainer.model.dtype,
            attention=self.runtime.attention,  # type: ignore[arg-type]
            device=self.request.device,
        )
        result = validate(model, embedding, held.tasks, held.solutions, self.request.preset, lambda _: 0)
        log.info("segment %d: %s pass@2 %.1f %% without weight updates", self.trainer.segment, held.name, 100 * result["pass@2"])
        metrics.write(
            {
                "segment": self.trainer.segment,
                "seconds": round(self._seconds(), 2),
                "validation_pass@1": result["pass@1"],
                "validation_pass@2": result["pass@2"],
            }
        )


def pretrain(request: PretrainRequest, ranks: Ranks, clock: Clock) -> str:
    """Run `request`; returns how it ended. Raises UserError before the first segment for what cannot work."""
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        probe = request.out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainError(f"{request.out}: cannot be written: {error.strerror or error}") from None
    if not request.resume and (request.out / "state.pt").exists() and ranks.leads:
        raise TrainError(f"{request.out}: holds a run already; go on with --resume, or choose another folder")
    return Pretraining(request, ranks, clock).run()
