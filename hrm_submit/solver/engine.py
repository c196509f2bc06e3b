"""Choose how a device computes: train and predict a real task in each number format, then with each engine in the best format, and take the
fastest that agrees with the first, uncompiled in float32."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import TOLERANCES, Engine
from hrm_submit.core.clock import Clock
from hrm_submit.core.errors import one_line
from hrm_submit.model.compiled import engine_of
from hrm_submit.predict.answer import ViewRequest, score_views
from hrm_submit.record.events import EngineChosen
from hrm_submit.solver.solver import TaskSolver

SEGMENTS = 12
"""Segments whose losses are compared, and after them as many that are timed."""
SLOW_SECONDS, LEAST_SEGMENTS = 10.0, 3
"""A device that takes longer for the segments after the first, which may compile, runs no more of them than that."""
COMPILING_SECONDS = 30.0
"""What compiling is expected to take where none has been tried yet."""
GAIN = 1.05
"""What is compared is taken from this many times the rate of the best before it on."""


@dataclass(frozen=True)
class Measured:
    """Examples a second of training, the loss of each segment, and the probabilities (views, cells, vocabulary) before training."""

    rate: float
    losses: Sequence[float]
    predictions: npt.NDArray[np.floating]


@dataclass(frozen=True)
class Trial:
    """One way to compute: examples a second, how its losses (relative) and probabilities differ from the first way's, and why it cannot be
    taken."""

    engine: Engine
    dtype: str
    rate: float = 0.0
    losses: float = 0.0
    predictions: float = 0.0
    fault: str = ""

    def __str__(self) -> str:
        differs = f"{self.rate:.4g} examples/s, losses differ by {self.losses:.2%}, predictions by {self.predictions:.2%}"
        parts = [differs if self.rate else "", self.fault]
        return f"{self.engine} in {self.dtype}: {', '.join(filter(None, parts))}"


def measure(solver: TaskSolver, task: Task, now: Callable[[], float] = time.monotonic) -> Measured:
    """Predict and train `task`. Raises RuntimeError where the engine was given up, and whatever training raises."""
    solver.warm_up()
    preset, side, rng = solver.preset, canvas_side(task), np.random.default_rng(0)
    solver.session(task, preset, Clock(), SEGMENTS)  # sets the first weights, of which the predictions are compared
    views = sample_augmentations(task, min(preset.vote.batch_size, preset.ttt.augmentations), rng, colours=preset.ttt.colours)
    requests = [ViewRequest(task.test[0], view, 0) for view in views]
    scores = score_views(solver.model, solver.embedding, requests, side, preset.vote)
    done = list[tuple[list[float], float]]()
    for _ in ("compared", "timed"):
        since = began = now()
        losses = list[torch.Tensor]()
        for report in solver.session(task, preset, Clock(), SEGMENTS).train():
            losses.append(report.loss)
            since = now() if len(losses) == 1 else since
            if len(losses) == SEGMENTS or (len(losses) >= LEAST_SEGMENTS and now() - since > SLOW_SECONDS):
                break
        done.append((torch.stack(losses).tolist(), now() - began))  # reading the losses waits for the device
    if engine_of(solver.model) != solver.runtime.engine:
        raise RuntimeError("it failed, see the log")
    (compared, _), (timed, seconds) = done
    return Measured(len(timed) * preset.ttt.batch_size / max(seconds, 1e-9), compared, np.exp(scores.log_probs))


def trials(run: Callable[[Engine, str], Measured], dtypes: Sequence[str], clock: Clock) -> Iterator[Trial]:
    """Try what `run` computes with an engine in a number format: plain in all of `dtypes`, then each engine in the best one.

    The first that runs is what the others are compared with. None begins that might end after the clock's budget, by the longest before.
    """
    first: Measured | None = None
    best: Trial | None = None
    longest = 0.0
    for engine, dtype in [*(("plain", d) for d in dtypes), *((e, "") for e in get_args(Engine)[1:])]:
        trial = Trial(engine, dtype or (best.dtype if best else dtypes[0]))
        expected, before = max(longest, 0.0 if engine == "plain" else COMPILING_SECONDS), clock.elapsed()
        if first and expected > clock.remaining():
            yield replace(trial, fault="no time to try it")
            continue
        try:
            found = run(engine, trial.dtype)
            first = first or found
            trial = compared(trial, found, first, best)
        except Exception as error:
            trial = replace(trial, fault=one_line(error))
        longest = max(longest, clock.elapsed() - before)
        best = best if trial.fault else trial
        yield trial


def compared(trial: Trial, found: Measured, first: Measured, best: Trial | None = None) -> Trial:
    """Fill in `trial` by what was `found` and how that differs from `first`; its fault where that is too much or no faster than `best`."""
    pairs = zip(found.losses, first.losses, strict=False)  # a device that has become slow may have done fewer segments
    losses = max(abs(ours - theirs) / max(abs(theirs), 0.1) for ours, theirs in pairs)
    predictions = float(np.abs(found.predictions - first.predictions).sum(-1).mean() / 2)
    trial = replace(trial, rate=found.rate, losses=losses, predictions=predictions)
    most = TOLERANCES[trial.dtype]
    if not (losses <= most[0] and predictions <= most[1]):  # also where one is no number
        return replace(trial, fault="more than rounding")
    return replace(trial, fault="no faster") if best and trial.rate < GAIN * best.rate else trial


def chosen(card: str, tried: Sequence[Trial], otherwise: str, seconds: float) -> EngineChosen:
    """Sum up: the last trial without a fault, each of which was faster than those before; `otherwise` is the format where none is."""
    best = next((trial for trial in reversed(tried) if not trial.fault), Trial("plain", otherwise, fault="nothing else ran"))
    reason = "; ".join(map(str, [best, *(trial for trial in tried if trial is not best)]))
    return EngineChosen(
        card=card, engine=best.engine, dtype=best.dtype, reason=reason, seconds=round(seconds, 1), trials=[asdict(trial) for trial in tried]
    )
