"""Pre-training from end to end: resumes where it was, ends on time and decayed, and leaves two checkpoints.

Notable: before each segment all ranks agree, in one message, on how far the run is, whether it ends, and what follows the
segment (a save, a validation), since each of these needs all of them.
"""

from __future__ import annotations

import gc
import logging
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import ModelConfig
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.device import out_of_memory
from hrm_submit.core.errors import TrainError
from hrm_submit.model.compiled import compile_blocks, give_up_compiling, is_compiled
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import Checkpoint, build_on, snapshot
from hrm_submit.train.exports import FINAL, UNDECAYED, Exports, inherited, load_start, origin, place_rows, with_origin
from hrm_submit.train.loop import SegmentReport, Trainer
from hrm_submit.train.metrics import MetricsLog
from hrm_submit.train.mixture import Mixture, ahead
from hrm_submit.train.pace import Pace
from hrm_submit.train.ranks import Ranks, SharedMemoryError
from hrm_submit.train.request import PretrainRequest
from hrm_submit.train.resume import STATE_FILE, check_identity, identity, read_state, restore, trainer_state, write_state
from hrm_submit.train.schedule import rate_factor
from hrm_submit.train.validate import validate

log = logging.getLogger(__name__)

MOST_SAVING = 0.05
"""Largest share of the time that may go into saving the state."""


@dataclass(frozen=True)
class _Agreed:
    """What all ranks agreed on before a segment: the progress, whether it is the last, and what follows it."""

    progress: float = 0.0
    last: bool = False
    save: bool = False
    check: bool = False


class Pretraining:
    """One run on one rank."""

    def __init__(self, request: PretrainRequest, ranks: Ranks, clock: Clock) -> None:
        self.request, self.ranks, train = request, ranks, request.preset.train
        if train.batch_size % ranks.world:
            raise TrainError(f"[train] batch_size {train.batch_size} cannot be shared by {ranks.world} ranks")
        self.pace = Pace(clock, request.budget, request.segments)
        self.mixture = Mixture(request.sources, request.preset.model, train, request.seed)
        self.runtime = runtime_for(request.device, request.preset.device)
        state = read_state(request.out) if request.resume else None
        start = load_start(request.start_from, request.preset.model) if request.start_from and not state else None
        model, embedding = self._build(start or request.preset.model, self.mixture.n_rows)
        known = place_rows(embedding, start, self.mixture.row_ids) if start else 0
        if self.runtime.compile:
            compile_blocks(model)
        self.trainer = Trainer(model, embedding, train, torch.Generator().manual_seed(request.seed), ranks)
        self._batch_size = train.batch_size
        self._stop = threading.Event()
        self._agreed = _Agreed()
        self._exported_undecayed = self._ended = False
        self._meta = request.meta
        if start and request.start_from:
            self._meta = inherited(request.meta, start, request.start_from)
            log.info("from %s, which knows %d of %d tasks", request.start_from, known, len(self.mixture.sources))
        if state:
            self._restore(state)
        self._exports = Exports(request.out, self._meta, self.mixture.row_ids)
        self._save_at = self.pace.seconds() + request.save_every
        self._check_at = self.pace.seconds() + request.held.every if request.held else float("inf")

    def run(self) -> str:
        """Train to the end, or until SIGTERM or Ctrl-C; returns how it ended, for a person."""
        request, pace, trainer, first = self.request, self.pace, self.trainer, self.trainer.segment
        metrics = MetricsLog(request.out, request.log_every, self.ranks, first, pace.seconds())
        log.info(
            "%d tasks (%d left out for their size), %s on %s, %s",
            len(self.mixture.sources),
            len(self.mixture.left_out),
            self.runtime.dtype,
            " ".join([self.runtime.device, *([f"of {self.ranks.world} ranks"] if self.ranks.world > 1 else [])]),
            f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters",
        )
        self._expect()
        with self._signals():
            for report in self._segments():
                progress = self._agreed.progress
                metrics.add(report, pace.seconds(), progress, rate_factor(report.segment - 1, progress, request.preset.train))
                if self._agreed.save:
                    self._save()
                if self._agreed.check:
                    self._validate(metrics)
            self._finish(metrics)
        how = "decayed" if self._ended else "stopped early, go on with --resume"
        if self._ended and trainer.segment == first:
            how = "nothing was left to do, as earlier turns count"
        return f"{trainer.segment} segments in {format_duration(pace.seconds())}, {how}: {request.out}"

    def _segments(self) -> Iterator[SegmentReport]:
        """Segments to the end; memory that runs out halves the batch, a compiler that fails is left out."""
        trainer = self.trainer
        while self.ranks.most(self.pace.progress(trainer.segment))[0] < 1.0:
            batches = ahead(self.mixture, trainer.segment, self.ranks, self._batch_size, self.request.device)
            try:
                for report in trainer.run(batches, self._agree):
                    yield report
                    if self._agreed.last:
                        return
            except (MemoryError, RuntimeError) as error:
                self._mend(error)
            finally:
                batches.close()  # type: ignore[attr-defined]
            # Not before the error and the frames that it holds are gone.
            trainer.model.zero_grad(set_to_none=True)
            trainer.carries.clear()
            gc.collect()
            if self.request.device != "cpu":
                torch.cuda.empty_cache()

    def _mend(self, error: Exception) -> None:
        """Change what a failed segment can be done anew with, or raise."""
        model, world = self.trainer.model, self.ranks.world
        if out_of_memory(error):
            half = self._batch_size // 2 // world * world
            if world > 1 and not isinstance(error, SharedMemoryError):
                raise error
            if not half:
                raise TrainError(f"out of memory with a batch of {self._batch_size}: {str(error).splitlines()[0]}")
            self._batch_size = half
            log.warning("out of memory: the batch is now %d", half)
        elif world == 1 and is_compiled(model):
            give_up_compiling(model, error)
        else:
            raise error

    def _agree(self) -> float:
        """What all ranks do next: called before each segment, returns the run's progress, the furthest one's."""
        request, leads, now = self.request, self.ranks.leads, self.pace.seconds()
        progress, stop, save, check = self.ranks.most(
            self.pace.progress(self.trainer.segment), self._stop.is_set(), leads and now >= self._save_at, leads and now >= self._check_at
        )
        last = stop > 0 or progress >= 1.0 or self.trainer.segment + 1 == request.segments
        self._agreed = _Agreed(progress, last, save > 0, check > 0)
        if progress > 1.0 - request.preset.train.decay_fraction and not self._exported_undecayed:
            self._export(UNDECAYED, self.trainer.model)
        return progress

    def _finish(self, metrics: MetricsLog) -> None:
        """The last save, both exports and the last validation; an early stop leaves the state and undecayed weights."""
        done = self.trainer.segment
        self._ended = self.ranks.most(self.pace.progress(done) if self.request.segments else self._agreed.progress)[0] >= 1.0
        self._save()
        if not self._exported_undecayed:
            self._export(UNDECAYED, self.trainer.model)
        if self._ended:
            self._export(FINAL, self.trainer.model)
            figures = self._validate(metrics)
            if figures:
                self._export(FINAL, self.trainer.model, {"validation": figures})
        metrics.close(self.pace.seconds())

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

    def _build(self, source: Checkpoint | ModelConfig, n_rows: int) -> tuple[HRM, TaskEmbedding]:
        return build_on(self.runtime, source, n_rows=n_rows, seed=self.request.seed)

    def _expect(self) -> None:
        """Guesses, in time mode, of how long the end of the run takes; each is replaced when it has been timed."""
        self.pace.expect("save", 0.02, 5.0)
        self.pace.expect("export", 0.02, 5.0)
        if self.request.held:
            self.pace.expect("validation", 0.1, 600.0)

    def _save(self) -> None:
        with self.pace.timed("save"):
            state = trainer_state(self.trainer) | {
                "identity": identity(self.mixture.sources, self.request.preset, self.request.seed),
                "seconds": self.pace.seconds(),
                "batch_size": self._batch_size,
                "ended": self._ended,
                "exported_undecayed": self._exported_undecayed,
                "origin": origin(self._meta),
            }
            try:
                if self.ranks.leads:
                    write_state(self.request.out, state)
            except OSError as error:
                log.warning("%s: the state could not be saved (%s); the earlier one stays", self.request.out, error.strerror or error)
        self._save_at = self.pace.seconds() + max(self.request.save_every, self.pace.last("save") / MOST_SAVING)

    def _restore(self, state: dict[str, Any]) -> None:
        request, path = self.request, self.request.out / STATE_FILE
        try:
            check_identity(request.out, state["identity"], identity(self.mixture.sources, request.preset, request.seed))
            restore(self.trainer, state)
            self.pace.before, self._batch_size = state["seconds"], state["batch_size"]
            ended, self._exported_undecayed = state["ended"], state["exported_undecayed"]
            self._meta = with_origin(request.meta, state["origin"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainError(f"{path}: does not fit this run: {str(error).splitlines()[0]}") from None
        progress, decays = self.pace.progress(self.trainer.segment), request.preset.train.decay_fraction
        if progress >= 1.0 and not ended:
            done = f"{self.trainer.segment} segments in {format_duration(self.pace.before)}"
            raise TrainError(f"{request.out}: has done {done} already: ask for more than that in total")
        if self._exported_undecayed and progress < 1.0 - decays:
            log.warning("the run is longer now: the learning rate had begun to fall and rises again")
            self._exported_undecayed = False
        self._agreed = _Agreed(progress)
        if self._batch_size % self.ranks.world:
            raise TrainError(f"{path}: its batch of {self._batch_size} cannot be shared by {self.ranks.world} ranks")

    def _export(self, name: str, model: HRM, card: dict[str, Any] | None = None) -> None:
        with self.pace.timed("export"):
            if self.ranks.leads:
                self._exports.write(name, model, self.trainer.embedding, self.trainer.segment, self.pace.seconds(), card)
        self._exported_undecayed |= name == UNDECAYED

    def _validate(self, metrics: MetricsLog) -> dict[str, Any] | None:
        """Measure on the held-out set, as far as time allows, and write a line; returns it for the card."""
        held, pace = self.request.held, self.pace
        if held is None:
            return None
        with pace.timed("validation"):
            model, embedding = self._build(snapshot(self.trainer.model, self.trainer.embedding, self._meta), 1)
            stop = lambda: self._stop.is_set() or pace.late()  # noqa: E731
            score = validate(model, embedding, held.tasks, held.solutions, self.request.preset, lambda _: 0, ranks=self.ranks, stop=stop)
        self._check_at = pace.seconds() + held.every
        if score is None:
            log.warning("no time was left to validate on %s", held.name)
            return None
        tasks = score["counts"]["tasks"]
        log.info("segment %d: %s pass@2 %.1f %% of %d tasks", self.trainer.segment, held.name, 100 * score["pass@2"], tasks)
        figures = {"pass@1": score["pass@1"], "pass@2": score["pass@2"], "tasks": tasks}
        line = {"segment": self.trainer.segment, "seconds": round(pace.seconds(), 2)}
        metrics.write(line | {f"validation_{key}": value for key, value in figures.items()})
        return {"data": held.name, "weight_updates": 0, "views": self.request.preset.vote.views, **figures}


def pretrain(request: PretrainRequest, ranks: Ranks, clock: Clock) -> str:
    """Run `request`; returns how it ended. Raises UserError before the first segment for what cannot work."""
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=request.out):
            pass
    except OSError as error:
        raise TrainError(f"{request.out}: cannot be written: {error.strerror or error}") from None
    if not request.resume and (request.out / STATE_FILE).exists():
        raise TrainError(f"{request.out}: holds a run already; continue it with --resume, or choose another folder")
    return Pretraining(request, ranks, clock).run()
