"""Read run folders: seconds of segments and votes, early ends, and which share of outputs was solved after how much training.

Notable: the share is a logistic regression on the logarithms of segments and cells, so that the odds grow with a power of the training; by
Newton's method, with a weak prior on both powers, as runs of one budget tell little about longer ones. Scores are predicted up to twice the
recorded training and no further.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hrm_submit.arc.sizes import answering_side, canvas_side
from hrm_submit.arc.task import Solutions, Task, same_grid
from hrm_submit.config.preset_files import layer
from hrm_submit.config.schema import Preset
from hrm_submit.core.errors import ConfigError, SolveError
from hrm_submit.record.events import TaskFinal
from hrm_submit.record.folder import RunRecord, read_run
from hrm_submit.record.predictions import Prediction
from hrm_submit.report.statistics import mean_interval
from hrm_submit.run.cost import Speed, task_work, view_work
from hrm_submit.solver.messages import VOTES_AGREE

FARTHEST = 2.0
"""Scores are predicted for at most so many times the recorded training."""
DRAWS = 200
"""Curves drawn for an interval."""
PRIOR = np.array([0.0, 0.5, -0.5])
"""Mean of bias and powers: twice the training makes the odds 1.4 times as large, and twice the cells 0.7 times."""
PRECISION = np.array([1e-3, 4.0, 4.0])
"""Of the normal prior: a standard deviation of a half for each power, and of 30 for the bias."""
STEPS = 30

TERAFLOPS: Mapping[str, float] = {"T4": 65.0, "L4": 121.0, "RTX PRO 6000": 504.0, "H100": 989.0}
"""Peak rate of a card in half precision without sparsity, from NVIDIA's data sheets, in 10^12 operations a second."""
USED = 0.1
"""Assumed part of that rate that a small model's matrices reach."""
LAUNCHES, LAUNCH_SECONDS = 1010, 7e-6
"""Launches of one uncompiled training segment of `gpu-small`, counted, and what PyTorch takes for one, assumed; a forward has a third."""
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Parts of its seconds after which a recorded task is judged by its votes on the way."""
FEWEST = 50
"""With fewer recorded outputs a predicted score is told as an interval only."""

Floats = npt.NDArray[np.float64]


class Outcome(NamedTuple):
    """One output of a task of `cells` canvas cells after `segments` segments of training, and whether it was solved."""

    task: str
    segments: int
    cells: int
    solved: bool


@dataclass(frozen=True)
class SolvedCurve:
    """The chance of an output, 1 / (1 + exp(-`beta` @ (1, log segments, log cells))), and the covariance of `beta` given the record."""

    beta: Floats
    covariance: Floats

    def chances(self, segments: npt.ArrayLike, cells: npt.ArrayLike, beta: Floats | None = None) -> Floats:
        """Chances (n,) after `segments` (n,) on canvases of `cells` (n,), within 0..1; 0 without a segment."""
        trained = np.asarray(segments, dtype=np.float64)
        x = np.stack([np.ones(len(trained)), np.log(np.maximum(trained, 1e-300)), np.log(np.asarray(cells, dtype=np.float64))], axis=1)
        return np.where(trained > 0, _logistic(x @ (self.beta if beta is None else beta)), 0.0)

    def predict(self, segments: npt.ArrayLike, cells: npt.ArrayLike, seed: int = 0) -> tuple[float, float, float]:
        """Predict the share of outputs solved and a 95 % interval of what a run would show: of the curve's doubt and of chance."""
        rng = np.random.default_rng(seed)
        betas = rng.multivariate_normal(self.beta, self.covariance, size=DRAWS)
        shown = [float((rng.random(np.shape(segments)) < self.chances(segments, cells, beta)).mean()) for beta in betas]
        low, high = np.percentile(shown, [2.5, 97.5])
        return float(self.chances(segments, cells).mean()), float(low), float(high)


def fit_curve(outcomes: Sequence[Outcome]) -> SolvedCurve | None:
    """Fit the likeliest curve, given the prior; None without an output that was trained for at all."""
    trained = [o for o in outcomes if o.segments > 0]
    if not trained:
        return None
    x = np.array([[1.0, np.log(o.segments), np.log(o.cells)] for o in trained])
    y = np.array([o.solved for o in trained], dtype=np.float64)
    beta, curvature = PRIOR, np.diag(PRECISION)
    for _ in range(STEPS):
        p = _logistic(x @ beta)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(PRECISION)
        step = np.linalg.solve(curvature, x.T @ (y - p) - PRECISION * (beta - PRIOR))
        beta = beta + step * min(1.0, 3.0 / max(1e-12, float(np.abs(step).max())))
    return SolvedCurve(beta, np.linalg.inv(curvature))


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


@dataclass
class ModelRecord:
    """One of the models that train a task, as runs showed it: seconds of a segment and of a view. `settled_after`: segments after which
    the votes of each first training had agreed, None where they never did."""

    preset: Preset
    segment: Speed = field(default_factory=Speed)
    view: Speed = field(default_factory=Speed)
    settled_after: list[int | None] = field(default_factory=list)


@dataclass
class Recording:
    """One setting as one or more runs showed it, in seconds. `models`: by name, the run's own first, in the order in which they train.
    `start_ups`: from a worker's start until it is ready; `set_ups`: of a task besides its segments and votes; `outcomes`: what came of
    each output of a first training."""

    preset: Preset
    models: dict[str, ModelRecord]
    start_ups: list[float] = field(default_factory=list)
    set_ups: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    runs: dict[Path, RunRecord] = field(default_factory=dict)

    @property
    def farthest(self) -> float:
        """Most mean segments a task for which `score` predicts."""
        return FARTHEST * fmean({o.task: o.segments for o in self.outcomes}.values()) if self.outcomes else 0.0

    def score(self, tasks: Sequence[Task], segments: Mapping[str, float]) -> tuple[float, float, float] | None:
        """Predict the share solved of the outputs of `tasks`, each trained for its `segments`, with its interval; None without solutions
        and beyond `farthest`."""
        curve, outputs = fit_curve(self.outcomes), [t for t in tasks for _ in t.test]
        if curve is None or fmean(segments.get(t.id, 0.0) for t in tasks) > self.farthest:
            return None
        return curve.predict([segments.get(t.id, 0.0) for t in outputs], [canvas_side(t) ** 2 for t in outputs])


def estimate(recording: Recording, card: str) -> str:
    """Put the estimated speeds of a `card` into a recording made elsewhere; returns how. Raises ConfigError for an unknown card."""
    if card not in TERAFLOPS:
        raise ConfigError(f"no run was recorded on this card ({card}), and its rate is not known: plan with --runs of a rehearsal there")
    rate, vote = USED * TERAFLOPS[card] * 1e12, recording.preset.vote
    for model in recording.models.values():
        model.segment, model.view = Speed(), Speed()
        for work in (1e6, 1e13):  # two points of a line fix it
            model.segment.observe(work, LAUNCHES * LAUNCH_SECONDS + work / rate, 1)
            model.view.observe(work, LAUNCHES / 3 * LAUNCH_SECONDS / vote.batch_size + work / rate, 1)
    return (
        f"an estimate: no run was recorded on this card ({card}). Assumed are {USED:.0%} of its data sheet's {TERAFLOPS[card]:g} TFLOP/s "
        f"and {LAUNCHES} launches of {LAUNCH_SECONDS * 1e6:g} microseconds a segment; --runs with a rehearsal there gives its real speed"
    )


def record(folders: Sequence[Path], tasks: Mapping[str, Task], solutions: Solutions | None = None) -> list[Recording]:
    """Read the recordings of `folders`, runs of `tasks`; runs of one configuration make one recording.

    Raises SolveError for a folder that recorded no training of any of these tasks.
    """
    found: dict[str, Recording] = {}
    for folder in folders:
        run = read_run(folder)
        presets = _presets(run.run, str(folder / "run.json"))
        preset = next(iter(presets.values()))
        setting = [preset.budget, *((name, p.model, p.ttt, p.vote) for name, p in presets.items())]
        models = {name: ModelRecord(own) for name, own in presets.items()}
        recording = found.setdefault(repr(setting), Recording(preset, models))
        recording.runs[folder] = run
        segments = _learn(run, recording, tasks)
        if not segments or not any(model.segment.measured and model.view.measured for model in recording.models.values()):
            raise SolveError(f"{folder}: recorded no finished task of these challenges")
        recording.outcomes += _outcomes(run, segments, tasks, solutions or {})
    for recording in found.values():
        first = next(model for model in recording.models.values() if model.segment.measured and model.view.measured)
        for model in recording.models.values():
            if not (model.segment.measured and model.view.measured):  # none of its canvases was recorded: as fast as the first
                model.segment, model.view = deepcopy(first.segment), deepcopy(first.view)
    return list(found.values())


def _presets(run: Mapping[str, Any], where: str) -> dict[str, Preset]:
    """Return the presets of the models of a run (`run.json`) by name, the run's own first. Raises SolveError, ConfigError."""
    config, members = run.get("config"), run.get("members") or []
    if not isinstance(config, dict) or not all(isinstance(m, dict) and isinstance(m.get("config"), dict) for m in members):
        raise SolveError(f"{where} holds no configuration")
    preset = layer(Preset(), config, source=where)
    others = {str(m.get("name")): layer(preset, m["config"], where) for m in members}
    return {Path(run.get("checkpoint") or "random").stem: preset, **others}


def _learn(run: RunRecord, recording: Recording, tasks: Mapping[str, Task]) -> dict[str, int]:
    """Add what the run's trainings took; returns the segments of each task's first training."""
    own, steps = next(iter(recording.models)), recording.preset.vote.act_steps
    recording.start_ups += [s.end - s.start for s in run.state.stretches if s.phase == "loading" and not s.detail]
    segments: dict[str, int] = {}
    for training in run.state.trainings:
        task = tasks.get(training.task)
        if task is None:
            continue
        done, trained, voted, began = 0, 0.0, 0.0, dict[str, int]()
        for point in training.points:
            model = recording.models.get(point.member or own)
            if model and point.seconds is not None and point.segments is not None:
                began.setdefault(point.member or own, done)
                model.segment.observe(task_work(model.preset.model, model.preset.ttt, task), point.seconds - trained, point.segments - done)
                done, trained = point.segments, point.seconds
        for vote in training.votes:
            model = recording.models.get(vote.member or own)
            if model and vote.views and vote.vote_seconds is not None:
                view = view_work(model.preset.model, answering_side(task, translate=model.preset.ttt.translate) ** 2, steps)
                model.view.observe(view, vote.vote_seconds, vote.views * len(task.test))
                voted += vote.vote_seconds
        final = training.votes[-1] if training.votes else None
        if isinstance(final, TaskFinal):
            recording.set_ups.append(max(0.0, (final.seconds or 0.0) - trained - voted))
            if not training.retrain:
                for name, before in began.items():
                    agreed = final.reason == VOTES_AGREE and name == (final.member or own)
                    recording.models[name].settled_after.append(training.segments - before if agreed else None)
                segments.setdefault(task.id, training.segments)
    return segments


def _outcomes(run: RunRecord, segments: Mapping[str, int], tasks: Mapping[str, Task], solutions: Solutions) -> list[Outcome]:
    """Judge the first final answer to each output whose solution is known."""
    found: dict[tuple[str, int], Outcome] = {}
    for p in run.predictions:
        if p.final and p.task in segments and p.output < len(solutions.get(p.task, ())):
            solved = any(same_grid(c.grid, solutions[p.task][p.output]) for c in p.candidates[:2])
            found.setdefault((p.task, p.output), Outcome(p.task, segments[p.task], canvas_side(tasks[p.task]) ** 2, solved))
    return list(found.values())


def on_the_way(runs: Iterable[RunRecord], solutions: Solutions) -> pd.DataFrame:
    """Tell which share of the recorded outputs was solved after how many seconds of a task, by the votes on the way."""
    judged = pd.DataFrame(
        [line for run in runs for line in _votes_on_the_way(run, solutions)], columns=["part", "task", "seconds", "solved"]
    )
    rows = []
    for _, found in judged.groupby("part"):
        solved = mean_interval(list(found["task"]), found["solved"].to_numpy(dtype=np.float64))
        rows.append({"seconds a task": round(float(found["seconds"].mean()), 1), "solved %": solved.text()})
    return pd.DataFrame(rows)


def _votes_on_the_way(run: RunRecord, solutions: Solutions) -> Iterator[tuple[float, str, float, bool]]:
    """Judge each output of the first trainings that ended, by its newest votes after each of `SHARES` of the planned seconds."""
    by_task: dict[str, list[Prediction]] = {}
    for p in run.predictions:
        by_task.setdefault(p.task, []).append(p)
    for training, part in product(run.state.trainings, SHARES):
        if training.retrain or training.planned is None or not training.votes or not isinstance(training.votes[-1], TaskFinal):
            continue
        seconds = training.seconds if part == 1.0 else min(training.seconds, part * training.planned)
        until = training.start + seconds + (0.5 if seconds == training.seconds else 0.0)  # the last votes are written after its end
        newest = {p.output: p for p in by_task.get(training.task, ()) if p.attempt == training.attempt and p.candidates and p.t <= until}
        for output, truth in enumerate(solutions.get(training.task, ())):
            found = newest[output].candidates[:2] if output in newest else ()
            yield part, training.task, seconds, any(same_grid(c.grid, truth) for c in found)
