"""One run of a plan: training from random weights ("train") or test-time training of every task ("ttt"), then its votes.

Notable: the loops are the package's own. Added is the account of what was spent, in the plan's unit and by the plan's clock.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.arc.canvas import PAD, PackedPairs, encode
from hrm_submit.arc.sizes import answering_side
from hrm_submit.arc.task import Grid, Pair, Task, make_grid, same_grid
from hrm_submit.config.runtime import Runtime, runtime_for
from hrm_submit.core.clock import Clock
from hrm_submit.core.device import machine
from hrm_submit.core.files import write_atomic
from hrm_submit.corpora.scoring import task_results
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import CheckpointMeta, build, load_checkpoint, save_checkpoint, snapshot
from hrm_submit.predict.answer import answer
from hrm_submit.predict.raw import RAW, RawVote, save_raw
from hrm_submit.predict.vote import Candidate, two_attempts
from hrm_submit.record.folder import read_lines
from hrm_submit.run.cost import segment_work, task_work
from hrm_submit.solver.messages import Outcome
from hrm_submit.solver.solver import TaskSolver
from hrm_submit.train.checkpoints import load_start
from hrm_submit.train.loop import SegmentReport, Trainer
from hrm_submit.train.mix_training import MixTraining
from hrm_submit.train.mixture import Mixture
from lab.ablation_runs import Run

SLICES = 20
"""Points of a learning curve; the exactness that is reported is of the last two, the last tenth of the run."""
LEAST = -12.0
"""Smallest log-probability that a test loss counts: one cell taken for impossible would outweigh all others."""
BLANKS = (make_grid([[0]]), make_grid([[1]]))
"""Stand for an attempt that no view gave."""


@dataclass(frozen=True)
class Marks:
    """Result of one task: for each test output `1` (first attempt right), `2` (second) or `0`; the share of views that were right;
    `mean_test_loss` where raw predictions are kept."""

    outputs: str
    views: float
    test_loss: float | None = None


def execute(run: Run, folder: Path) -> dict[str, Any]:
    """Do `run` in this process, on one thread; returns its figures and leaves its records in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"variant": run.variant, "key": run.key, "tasks": list(run.chosen.tasks), **run.decides}
    (folder / "run.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    torch.set_num_threads(1)
    marks, spent = (train_run if run.plan.kind == "train" else ttt_run)(run, folder)
    seconds = spent.pop("training_seconds")
    return {
        **spent,
        "examples_per_second": spent["examples"] / max(1e-9, seconds),
        "view_exact": fmean(m.views for m in marks.values()),
        "results": {task_id: m.outputs for task_id, m in marks.items()},
        "test_losses": {task_id: m.test_loss for task_id, m in marks.items() if m.test_loss is not None},
        "machine": machine(),
    }


def clock_of(run: Run) -> Callable[[], float]:
    """The function that counts the run's seconds."""
    return time.process_time if run.plan.clock == "cpu" else time.monotonic


class Ledger:
    """What a training has spent and learnt, in seconds from its opening; writes its learning curve to a file of JSON lines."""

    def __init__(self, run: Run, path: Path) -> None:
        self._clock, self._run, self._path = Clock(source=clock_of(run)), run, path
        self.segments = self.examples = 0
        self.flops = 0.0
        self._reports: list[SegmentReport] = []
        self._slices: list[tuple[float, float, float, int]] = []
        path.unlink(missing_ok=True)  # the curve of a run that was killed: this one begins anew

    @property
    def seconds(self) -> float:
        """Seconds spent by now."""
        return self._clock.elapsed()

    def progress(self) -> float:
        """0..1 of the run's amount, or a little more when it is used up."""
        return float(getattr(self, self._run.plan.unit)) / self._run.amount

    def add(self, report: SegmentReport) -> None:
        """Count a finished segment. Reading its tensors waits for the device, so that is done once a slice."""
        preset = self._run.preset
        self.segments += 1
        self.examples += report.size
        self.flops += segment_work(preset.model, replace(preset.train, batch_size=report.size), report.cells)
        self._reports.append(report)
        if self.progress() < (len(self._slices) + 1) / SLICES:
            return
        figures = [(r.loss, r.metrics.exact_accuracy, r.metrics.count) for r in self._reports]
        loss, exact, count = (sum(map(float, column)) for column in zip(*figures, strict=True))
        self._slices.append((loss, exact, count, len(figures)))
        self._reports = []
        line = {"progress": self.progress(), "seconds": self.seconds, "examples": self.examples, "flops": self.flops}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "loss": loss / len(figures), "exact": exact / max(1.0, count)}) + "\n")

    def spent(self) -> dict[str, Any]:
        """The row's figures: totals, and loss and exact share over the last tenth, or over the last slice if slices are longer."""
        loss, exact, count, n = (sum(column) for column in zip(*self._slices[-2:], strict=True))
        learnt = {"loss": loss / n, "exact": exact / max(1.0, count), "training_seconds": self.seconds, "seconds": self.seconds}
        return {"segments": self.segments, "examples": self.examples, "flops": self.flops, **learnt}


def train_run(run: Run, folder: Path) -> tuple[dict[str, Marks], dict[str, Any]]:
    """Train and measure; returns the marks and what was spent. The learning curve and the weights go into `folder`."""
    preset = run.preset
    runtime = runtime_for(run.plan.device, preset.device)
    mixture = Mixture(run.chosen.sources(), preset.model, preset.train, run.seed)
    start = load_start(run.checkpoint, preset.model) if run.checkpoint else None
    training = MixTraining(mixture, preset, runtime, start, run.seed)
    model, embedding = training.trainer.model, training.trainer.embedding
    _warm_up(run, mixture, runtime)
    ledger = Ledger(run, folder / "curve.jsonl")
    for report in training.run(ledger.progress):
        ledger.add(report)
        if ledger.progress() >= 1.0:
            break
    spent = {**ledger.spent(), "parameters": sum(p.numel() for p in model.parameters())}
    save_checkpoint(folder / "weights.safetensors", snapshot(model, embedding, CheckpointMeta()))
    return measure(run, model, embedding, mixture, folder), spent


def _warm_up(run: Run, mixture: Mixture, runtime: Runtime) -> None:
    """Train a throw-away model for one segment, so that libraries which load at first use cost no run its seconds."""
    model, embedding = build(run.preset.model, runtime, n_rows=mixture.n_rows)
    batches = iter([mixture.batch(0, batch_size=1)])
    for _ in Trainer(model, embedding, run.preset.train, torch.Generator().manual_seed(0)).run(batches, lambda: 0.0):
        pass


def measure(run: Run, model: HRM, embedding: TaskEmbedding, mixture: Mixture, folder: Path) -> dict[str, Marks]:
    """Mark every task by `[vote] views` of the views that training used, each under its own row of `embedding`.

    With `[vote] save_raw` the raw predictions go into `folder`.
    """
    found, config = {}, run.preset.vote
    for number, (task_id, task) in enumerate(run.chosen.tasks.items()):
        turns, tables = mixture.views_of(number)
        views = [Augmentation(int(turn), tuple(colours.tolist())) for turn, colours in zip(turns, tables, strict=True)]
        first = number * mixture.rows_per_task
        rows = [first + k if mixture.rows_per_task > 1 else first for k in range(len(views))]
        side = answering_side(task, translate=run.preset.train.translate)
        vote = answer(model, embedding, task, views, rows, config, side=side)
        outputs, loss = run.chosen.solutions[task_id], None
        if config.save_raw:
            raw = vote.raw(task_id, 0)
            save_raw(folder / RAW, raw)
            loss = mean_test_loss(raw, task, outputs)
        found[task_id] = mark(vote.outputs, vote.views, outputs, loss)
    return found


def mark(candidates: Sequence[Sequence[Candidate]], views: int, outputs: Sequence[Grid], test_loss: float | None = None) -> Marks:
    """Mark the ranked `candidates` of each test output, made by `views` views each."""
    results = task_results([two_attempts(c, BLANKS) for c in candidates], outputs)
    right = sum(c.votes for found, truth in zip(candidates, outputs, strict=True) for c in found if same_grid(c.grid, truth))
    marks = "".join("1" if r.first else "2" if r.second else "0" for r in results)
    return Marks(marks, right / max(1, views * len(outputs)), test_loss)


def mean_test_loss(vote: RawVote, task: Task, outputs: Sequence[Grid]) -> float | None:
    """Mean negative log-probability of the right outputs, in nats a token: over the tokens that show the output
    (colours and the EOS that end them), then over the views of an output, then over the outputs.

    An output that does not fit the run's canvas is left out; None where none does, or no view is of a test input.
    """
    side, losses = vote.scores.side, []
    for number, (test_input, output) in enumerate(zip(task.test, outputs, strict=True)):
        of_output = vote.of_output(number)
        if not len(of_output) or max(output.shape) > side:
            continue
        transforms, colours = augmentation_arrays(of_output.views)
        packed = PackedPairs.from_pairs([Pair(test_input, output)])
        _, labels = encode(packed, np.zeros(len(of_output), dtype=np.int64), transforms, colours, side)
        log_probs = of_output.log_probs.astype(np.float64)
        right = np.take_along_axis(log_probs, labels[:, :, None].astype(np.int64), axis=2)[:, :, 0].clip(min=LEAST)
        shown = labels != PAD
        losses.append(float(-((right * shown).sum(1) / shown.sum(1)).mean()))
    return sum(losses) / len(losses) if losses else None


def ttt_run(run: Run, folder: Path) -> tuple[dict[str, Marks], dict[str, Any]]:
    """Solve every task with the package's solver and mark its answers; returns the marks and what was spent. A line a task goes into
    `folder`; a run that was stopped goes on after the tasks that have one."""
    source = load_checkpoint(run.checkpoint) if run.checkpoint else None
    now, ttt = clock_of(run), run.preset.ttt
    solver = TaskSolver(run.preset, runtime_for(run.plan.device, run.preset.device), source, run.seed, now)
    solver.warm_up()
    path = folder / "tasks.jsonl"
    lines: list[dict[str, Any]] = read_lines(path, lambda line: line)[0]
    marks = {x["task"]: Marks(x["outputs"], x["views"], x["test_loss"]) for x in lines}
    write_atomic(path, "".join(json.dumps(x) + "\n" for x in lines))  # without a line that a kill has torn
    with path.open("a", encoding="utf-8") as file:
        for task_id, task in run.chosen.tasks.items():
            if task_id in marks:
                continue
            flops, outputs = task_work(run.preset.model, ttt, task), run.chosen.solutions[task_id]
            each = {"seconds": None, "flops": flops, "examples": ttt.batch_size}[run.plan.unit]
            segments = max(1, round(run.amount / each)) if each else None
            clock, done, loss = Clock(source=now), Outcome(), None
            for message in solver.solve(task, seconds=run.amount if segments is None else None, segments=segments):
                done.add(message)
                if isinstance(message, RawVote):
                    save_raw(folder / RAW, message)
                    loss = mean_test_loss(message, task, outputs)
            marks[task_id] = mark(done.outputs or ((),) * len(task.test), done.views, outputs, loss)
            line = {"task": task_id, **asdict(marks[task_id]), "reason": done.reason, "segments": done.segments, "exact": done.demo_exact}
            lines.append({**line, "seconds": clock.elapsed(), "training_seconds": done.seconds, "flops": flops * done.segments})
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    spent: dict[str, Any] = {name: fmean(x[name] for x in lines) for name in ("exact", "segments", "seconds")}
    spent |= {name: sum(x[name] for x in lines) for name in ("flops", "training_seconds")}
    spent |= {"loss": None, "examples": sum(x["segments"] for x in lines) * ttt.batch_size}
    return marks, {**spent, "parameters": sum(p.numel() for p in solver.model.parameters())}
