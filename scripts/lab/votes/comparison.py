"""Rules of voting on the same saved predictions: who would have been right, how sure that is, and what a rule gains and loses.

Notable: raw predictions are read, judged and dropped task by task. A sample is one test output in one run; runs of other seeds are
further samples of the same tasks, so that intervals, which resample tasks, know that they belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.task import Grid, same_grid
from hrm_submit.core.errors import DataError
from hrm_submit.predict.raw import RAW, RawVote, load_raw
from hrm_submit.predict.scores import ViewScores
from hrm_submit.report.run.statistics import Interval, draws
from lab.votes.ballot import Ballot
from lab.votes.rules import RULES, Rule, steps_taken


@dataclass(frozen=True)
class Setting:
    """A rule on the first `views` views of each training (None: all) until ACT step `steps` (None: the run's own)."""

    rule: str
    views: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Sample:
    """One test output in one run: under each setting whether the first and whether one of two attempts is right, and whether any
    candidate of those views and steps is; `taken` are the ACT steps of a view, on average."""

    run: str
    task: str
    output: int
    right: Mapping[Setting, tuple[bool, bool, bool]]
    taken: Mapping[Setting, float]

    def named(self, with_run: bool) -> str:
        """For a person."""
        return f"{self.run}:{self.task}#{self.output}" if with_run else f"{self.task}#{self.output}"


@dataclass(frozen=True)
class Row:
    """How a setting did; `difference` is its pass@2 minus the baseline's, `gained` and `lost` what only one of them solves."""

    setting: Setting
    pass_1: Interval
    pass_2: Interval
    difference: Interval
    oracle: float
    steps: float
    """ACT steps of a view, on average."""
    gained: tuple[str, ...]
    lost: tuple[str, ...]


def raw_files(run: Path) -> list[Path]:
    """The files of raw predictions of a run folder. Raises DataError where there are none."""
    if not run.is_dir():
        raise DataError(f"{run}: no such run folder")
    files = sorted((run / RAW).glob("*.npz"))
    if not files:
        raise DataError(f"{run}: has no raw predictions: solve with the preset key save_raw = true in [vote]")
    return files


def read_tasks(files: Sequence[Path], skipped: list[str]) -> Iterator[tuple[str, list[RawVote]]]:
    """Task by task its trainings' votes, of one run. Damaged files are named in `skipped`, and trainings that do not go together."""
    by_task: dict[str, list[Path]] = {}
    for path in files:
        by_task.setdefault(path.name.split(".", 1)[0], []).append(path)
    for paths in by_task.values():
        votes: list[RawVote] = []
        for path in paths:
            try:
                votes.append(load_raw(path))
            except DataError as error:
                skipped.append(str(error))
        votes.sort(key=lambda v: v.restart)
        for vote in votes[1:]:
            if (vote.task, vote.scores.side, vote.scores.steps) != (votes[0].task, votes[0].scores.side, votes[0].scores.steps):
                skipped.append(f"{paths[0].parent}: {vote.task}: restart {vote.restart} does not go with the others")
        if votes:
            first = votes[0]
            yield (
                first.task,
                [v for v in votes if (v.task, v.scores.side, v.scores.steps) == (first.task, first.scores.side, first.scores.steps)],
            )


def judge(
    run: str,
    trainings: Sequence[RawVote],
    wanted: Sequence[Grid],
    settings: Sequence[Setting],
    rules: Mapping[str, Rule] = MappingProxyType(RULES),
) -> Iterator[Sample]:
    """Samples of one task in one run. Raises DataError where a setting asks for more ACT steps than were saved."""
    task, saved = trainings[0].task, trainings[0].scores.steps
    for k, answer in enumerate(wanted):
        right: dict[Setting, tuple[bool, bool, bool]] = {}
        taken: dict[Setting, float] = {}
        ballots: dict[tuple[int | None, int | None], Ballot] = {}
        for setting in settings:
            if setting.steps is not None and setting.steps > saved:
                raise DataError(f"{run}: {task}: {saved} ACT steps were saved, not {setting.steps}: [vote] act_steps says how many")
            at = (setting.views, setting.steps)
            if at not in ballots:
                parts = [_part(t, k, *at) for t in trainings]
                ballots[at] = Ballot([p for p in parts if len(p)])
            ballot = ballots[at]
            attempts = [same_grid(g, answer) for g in rules[setting.rule](ballot)[:2]]
            right[setting] = (attempts[:1] == [True], any(attempts), any(same_grid(g, answer) for g in ballot.grids))
            taken[setting] = steps_taken(setting.rule, ballot)
        yield Sample(run, task, k, right, taken)


def compare(samples: Sequence[Sample], settings: Sequence[Setting], baseline: Setting, seed: int) -> list[Row]:
    """A row for each setting. Every setting, the baseline too, is resampled with the same tasks."""
    several = len({s.run for s in samples}) > 1
    resampled = Resampling(samples, seed)
    rows = []
    for setting in settings:
        found = np.array([s.right[setting] for s in samples])
        base = np.array([s.right[baseline][1] for s in samples])
        gained = tuple(s.named(several) for s, mine, its in zip(samples, found[:, 1], base, strict=True) if mine and not its)
        lost = tuple(s.named(several) for s, mine, its in zip(samples, found[:, 1], base, strict=True) if its and not mine)
        first, second = resampled.mean(found[:, 0]), resampled.mean(found[:, 1])
        difference = resampled.mean(found[:, 1].astype(float) - base)
        taken = sum(s.taken[setting] for s in samples) / len(samples)
        rows.append(Row(setting, first, second, difference, float(found[:, 2].mean()), taken, gained, lost))
    return rows


class Resampling:
    """Bootstrap over tasks, whose samples stay together: the same draws for everything that is measured on the same samples."""

    def __init__(self, samples: Sequence[Sample], seed: int) -> None:
        names = sorted({s.task for s in samples})
        self._of_task = np.array([names.index(s.task) for s in samples])
        self._times = draws(np.random.default_rng(seed), len(names))

    def mean(self, values: npt.NDArray[np.generic]) -> Interval:
        """The mean of one value a sample."""
        sums = np.bincount(self._of_task, weights=values.astype(float), minlength=self._times.shape[1])
        sizes = np.bincount(self._of_task, minlength=self._times.shape[1])
        return Interval.of(sums.sum() / sizes.sum(), (self._times @ sums) / (self._times @ sizes))


def _part(training: RawVote, output: int, views: int | None, steps: int | None) -> ViewScores:
    scores = training.of_output(output).until(steps or training.answer_step)
    return scores if views is None else scores.only(slice(0, views))
