"""Pre-training: resumes where it was, ends on time and decayed, and leaves two checkpoints.

Before each segment all ranks agree, in one message, on how far the run is, whether it ends, and what follows the segment (a save, a
validation), since each of these needs all of them.
"""

import logging
import math
import tempfile
import threading
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from hrm_submit.config.preset_files import load_preset
from hrm_submit.config.runtime import runtime_for
from hrm_submit.core.clock import Clock, format_duration
from hrm_submit.core.device import cpu_count, keep_freed_memory, list_devices, machine
from hrm_submit.core.errors import CheckpointError, TrainError, one_line
from hrm_submit.core.process import locked, set_by_signals
from hrm_submit.corpora.sources import load_source
from hrm_submit.model.act import ActCarry
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.train import checkpoints
from hrm_submit.train.checkpoints import FINAL, STATE_FILE, UNDECAYED
from hrm_submit.train.metrics import MetricsLog
from hrm_submit.train.mix_training import MixTraining
from hrm_submit.train.mixture import Mixture, training_tasks
from hrm_submit.train.options import PretrainOptions
from hrm_submit.train.progress import RunProgress
from hrm_submit.train.ranks import Ranks, joined, local_world, rank_device
from hrm_submit.train.schedule import rate_factor
from hrm_submit.train.validate import validate

log = logging.getLogger(__name__)

SAVE_EVERY = 120.0
"""Seconds between two saves of the state."""
MOST_SAVING = 0.05
"""Largest share of the time that may go into saving the state."""


def pretrain(options: PretrainOptions, clock: Clock) -> str:
    """Pre-train on this rank; the first one returns how it ended. Raises UserError before the first segment."""
    found = list_devices(options.devices)
    device = rank_device(found)
    if device != "cpu":
        torch.cuda.set_device(device)  # before the ranks join: each would talk on the first GPU
    with joined(device) as ranks:
        if not ranks.leads:
            logging.getLogger("hrm_submit").setLevel(logging.WARNING)  # once is enough
        elif ranks.world < len(found):
            log.info(
                "of %s only %d is used; start under torchrun --nproc-per-node %d to use all", ", ".join(found), ranks.world, len(found)
            )
        if device == "cpu":
            torch.set_num_threads(options.threads or max(1, cpu_count() // local_world()))
            keep_freed_memory()
        with locked(options.out / "lock", options.out) if ranks.leads else nullcontext():
            ended = Pretraining(options, device, ranks, clock).run()
        return ended if ranks.leads else ""


class Pretraining:
    """One run on one rank; `run` trains to the end. Raises UserError for what cannot work."""

    def __init__(self, options: PretrainOptions, device: str, ranks: Ranks, clock: Clock) -> None:
        self.options, self.ranks = options, ranks
        self.preset = preset = load_preset(options.presets)
        protect = tuple(dict.fromkeys([*options.protect, *([options.validate] if options.validate else [])]))
        self._held_out = load_source(options.validate)[1:] if options.validate else None
        if self._held_out and not self._held_out[1]:
            raise TrainError(f"--validate {options.validate}: has no solutions to measure by")
        tasks = training_tasks(options.data, protect)
        _check_folder(options)
        mixture = Mixture(tasks, preset.model, preset.train, options.seed)
        hashes = sorted({key for task in mixture.sources for key in task.hashes})
        card = {"machine": machine(), "command": options.command_line, "tasks": len(mixture.sources), "protected": list(options.protect)}
        self._meta = CheckpointMeta(data=tuple(options.data.split(",")), hashes=tuple(hashes), preset=options.presets, card=card)
        self._progress = RunProgress(clock, options.budget, options.segments)
        state = checkpoints.read_state(options.out) if options.resume else None
        start = checkpoints.load_start(options.start_from, preset.model) if options.start_from and not state else None
        self.training = MixTraining(mixture, preset, runtime_for(device, preset.device), start, options.seed, ranks)
        self._origin: dict[str, Any] = checkpoints.origin(start.meta, options.start_from) if start and options.start_from else {}
        self._identity = checkpoints.identity(mixture.sources, preset, options.seed)
        self._stop = threading.Event()
        # What all ranks agreed on before a segment: the progress, and where not 0, that a save or a validation follows it.
        self._reached = self._save_due = self._check_due = 0.0
        self._last = self._exported_undecayed = self._ended = False
        if state:
            self._restore(state)
        self._save_at = self._progress.seconds() + SAVE_EVERY
        self._check_at = self._progress.seconds() + options.every if self._held_out else math.inf

    def run(self) -> str:
        """Train to the end, or until Ctrl-C, SIGTERM or SIGHUP; returns how it ended, for a person."""
        options, progress, training, trainer = self.options, self._progress, self.training, self.training.trainer
        first, mixture, runtime = trainer.segment, training.mixture, training.runtime
        metrics = MetricsLog(options.out, options.log_every, self.ranks, first, progress.seconds())
        log.info("%d tasks (%d left out for their size)", len(mixture.sources), len(mixture.left_out))
        parameters = sum(p.numel() for p in trainer.model.parameters())
        log.info("%s parameters in %s on %d times %s", f"{parameters:,}", runtime.dtype, self.ranks.world, runtime.device)
        # In time mode, guesses of how long the end of the run takes; each is replaced when it has been timed.
        progress.expect("save", 0.02, 5.0)
        progress.expect("export", 0.02, 5.0)
        if self._held_out:
            progress.expect("validation", 0.1, 600.0)
        (self._reached,) = self.ranks.most(progress.after(first))
        whole = self._ended and (options.out / f"{FINAL}.safetensors").is_file()
        if self._reached >= 1.0 and (whole or not first):
            metrics.close()
            if not first:
                raise TrainError(f"{options.out}: the time was over before the first segment")
            return f"{first} segments, nothing was left to do: the limit counts what earlier starts did: {options.out}"
        self._ended = False
        if self._exported_undecayed and self._reached < 1.0 - self.preset.train.decay_fraction:
            log.warning("the run is longer now: the learning rate had begun to fall and rises again")
            self._exported_undecayed = False
        with set_by_signals(self._stop):
            if self._reached < 1.0:
                for report in training.run(self._agree):
                    factor = rate_factor(report.segment - 1, self._reached, self.preset.train)
                    metrics.add(report, progress.seconds(), self._reached, factor)
                    if self._save_due:
                        self._save()
                    if self._check_due:
                        self._validate(metrics)
                    if self._last:
                        break
            self._finish(metrics)
        how = "decayed" if self._ended else "stopped early, go on with --resume"
        return f"{trainer.segment} segments in {format_duration(progress.seconds())}, {how}: {options.out}"

    def _agree(self) -> float:
        """Agree with all ranks on what comes next; called before each segment, returns the furthest rank's progress."""
        leads, now, done = self.ranks.leads, self._progress.seconds(), self.training.trainer.segment
        self._reached, stop, self._save_due, self._check_due = self.ranks.most(
            self._progress.after(done), self._stop.is_set(), leads and now >= self._save_at, leads and now >= self._check_at
        )
        self._last = stop > 0 or self._reached >= 1.0 or done + 1 == self.options.segments
        if self._reached > 1.0 - self.preset.train.decay_fraction and not self._exported_undecayed:
            self._export_undecayed()
        return self._reached

    def _finish(self, metrics: MetricsLog) -> None:
        """Save, export and validate for the last time; an early stop leaves the state and undecayed weights."""
        done = self.training.trainer.segment
        self._ended = self.ranks.most(self._progress.after(done) if self.options.segments else self._reached)[0] >= 1.0
        self._save()
        if not self._exported_undecayed:
            self._export_undecayed()
        if self._ended:
            self._export(FINAL)
            if figures := self._validate(metrics):
                self._export(FINAL, validation=figures)
        metrics.close()

    def _save(self) -> None:
        """Save what `_restore` needs, between two segments; every rank must call it, as they exchange their parts of the carries."""
        trainer = self.training.trainer
        with self._progress.timed("save"):
            state = {
                "model": trainer.model.state_dict(),
                "embedding": trainer.embedding.state_dict(),
                "optimizers": trainer.optimizers.state_dict(),
                "generator": trainer.generator.get_state(),
                "segment": trainer.segment,
                "batch_size": self.training.batch_size,
                "carries": {
                    cells: {name: self.ranks.gather(tensor) for name, tensor in carry.tensors().items()}
                    for cells, carry in sorted(trainer.carries.items())
                },
                "identity": self._identity,
                "seconds": self._progress.seconds(),
                "ended": self._ended,
                "exported_undecayed": self._exported_undecayed,
                "origin": self._origin,
            }
            try:
                if self.ranks.leads:
                    checkpoints.write_state(self.options.out, state)
            except OSError as error:
                log.warning("%s: the state could not be saved (%s); the earlier one stays", self.options.out, error.strerror or error)
        self._save_at = self._progress.seconds() + max(SAVE_EVERY, self._progress.last("save") / MOST_SAVING)

    def _restore(self, state: dict[str, Any]) -> None:
        options, progress, training, path = self.options, self._progress, self.training, self.options.out / STATE_FILE
        trainer = training.trainer
        try:
            checkpoints.check_identity(options.out, state["identity"], self._identity)
            trainer.model.load_state_dict(state["model"])
            trainer.embedding.load_state_dict(state["embedding"])
            trainer.optimizers.load_state_dict(state["optimizers"])
            trainer.generator.set_state(state["generator"])
            trainer.segment, training.batch_size = state["segment"], state["batch_size"]
            for cells, carry in state["carries"].items():
                size = len(carry["steps"])
                if size % self.ranks.world == 0:  # else the ranks cannot share its sequences, which begin again
                    part = {name: tensor[self.ranks.slice(size)].to(trainer.model.tokens.device) for name, tensor in carry.items()}
                    inner = {name: part[name].to(trainer.model.dtype) for name in ("z_H", "z_L")}
                    trainer.carries[cells] = ActCarry.of(part | inner)
            progress.before, self._origin = state["seconds"], state["origin"]
            self._ended, self._exported_undecayed = state["ended"], state["exported_undecayed"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainError(f"{path}: does not fit this run: {str(error).splitlines()[0]}") from None
        if progress.after(trainer.segment) >= 1.0 and not self._ended:
            done = f"{trainer.segment} segments in {format_duration(progress.before)}"
            raise TrainError(f"{options.out}: has done {done} already: ask for more than that in total")
        if training.batch_size % self.ranks.world:
            raise TrainError(f"{path}: its batch of {training.batch_size} cannot be shared by {self.ranks.world} ranks")

    def _export_undecayed(self) -> None:
        """Export the weights with their task rows. In the published scheme, a row for each augmentation of each task, these would be
        gigabytes: there the mean row stands for all."""
        self._export(UNDECAYED, row_ids=tuple(self.training.mixture.row_ids))
        self._exported_undecayed = True

    def _export(self, name: str, row_ids: tuple[str, ...] = (), **card: Any) -> None:
        """Write a checkpoint. A fault, such as a full disk, is logged and the earlier file stays."""
        trainer, seconds = self.training.trainer, round(self._progress.seconds(), 1)
        meta = checkpoints.with_origin(self._meta, self._origin)
        meta = replace(meta, steps=trainer.segment, seconds=seconds, row_ids=row_ids, card={**meta.card, **card})
        with self._progress.timed("export"):
            try:
                if self.ranks.leads:
                    save_checkpoint(self.options.out / f"{name}.safetensors", snapshot(trainer.model, trainer.embedding, meta))
            except CheckpointError as error:
                log.warning("%s not exported, the earlier file stays: %s", name, error)

    def _validate(self, metrics: MetricsLog) -> dict[str, Any] | None:
        """Measure on the held-out set, as far as time allows, and write a line; returns the figures for the card."""
        name, progress, trainer = self.options.validate, self._progress, self.training.trainer
        if self._held_out is None:
            return None
        stop = lambda: self._stop.is_set() or progress.late()  # noqa: E731
        with progress.timed("validation"):
            try:
                model, embedding = build(snapshot(trainer.model, trainer.embedding, self._meta), self.training.runtime)
                score = validate(model, embedding, *self._held_out, self.preset, ranks=self.ranks, stop=stop)
            except (MemoryError, RuntimeError) as error:
                if self.ranks.world > 1:  # the others wait for this rank's part
                    raise
                log.warning("not validated on %s: %s", name, one_line(error))
                return None
            finally:
                self._check_at = progress.seconds() + self.options.every
        if score is None:
            log.warning("no time was left to validate on %s", name)
            return None
        figures = {"pass@1": score["pass@1"], "pass@2": score["pass@2"], "tasks": score["counts"]["tasks"]}
        log.info("segment %d: %s pass@2 %.1f %% of %d tasks", trainer.segment, name, 100 * figures["pass@2"], figures["tasks"])
        line = {"segment": trainer.segment, "seconds": round(progress.seconds(), 2)}
        metrics.write(line | {f"validation_{key}": value for key, value in figures.items()})
        return {"data": name, "weight_updates": 0, "views": self.preset.vote.views, **figures}


def _check_folder(options: PretrainOptions) -> None:
    """Raise TrainError unless the run can be written to its folder."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.out):
            pass
    except OSError as error:
        raise TrainError(f"{options.out}: cannot be written: {error.strerror or error}") from None
    if not options.resume and (options.out / STATE_FILE).exists():
        raise TrainError(f"{options.out}: holds a run already; continue it with --resume, or choose another folder")
