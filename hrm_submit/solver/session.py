"""Test-time training of one task: train, vote, improve the answer on the way, vote for good.

Votes on the way count with the last one if the demonstrations were fit well enough by then: what a model says before it knows them by
heart is at times what it should have stayed with.

The session is a generator: it yields what the run should know, and its caller sends it on. Time comes from the clock it is
given, whose budget is the task's share; in fixed-work mode it looks at no clock, so that the same seed gives the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.answer import answer_in_batches, answer_step
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs, pooled
from hrm_submit.solver.messages import Alive, Answer, Progress
from hrm_submit.train.batches import task_batches
from hrm_submit.train.loop import SegmentReport, Trainer

REPORT_EVERY = 0.1
"""Share of a task's time (or segments) between two reports of its loss and exact demonstrations."""
VOTE_GROWTH = 1.6
"""Each mid-run vote comes this many times as late as the one before."""
OVERRUN = 0.02
"""Part of its share by which the last vote may end late."""
RISEN = 1.5
"""Training has diverged when the tokens' mean loss is this many times that of its beginning, twice in a row."""


class DivergedError(Exception):
    """Training made the loss rise, or not finite: these weights have nothing to vote with."""


def task_seed(seed: int, task: str, purpose: str) -> int:
    """A seed of 63 bits that depends on the run's seed, the task and the purpose, and on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{task}/{purpose}".encode()).digest()[:8], "big") >> 1


class TaskSession:
    """One task on one model, whose weights are already those to start from.

    `embedding` needs `n_rows(preset)` rows, set to where a fresh task starts. Exactly one of the clock's budget and
    `segments` limits the work. `restart` tells apart the trainings of one task, whose draws differ.
    """

    def __init__(
        self,
        model: HRM,
        embedding: TaskEmbedding,
        task: Task,
        preset: Preset,
        seed: int,
        clock: Clock,
        segments: int | None,
        restart: int = 0,
    ) -> None:
        self._model, self._embedding, self._task, self._preset = model, embedding, task, preset
        self._clock, self._segments = clock, segments
        self._seed, self._restart, self._again = seed, restart, f"/{restart}" if restart else ""
        self._side = canvas_side(task)
        rng = np.random.default_rng(task_seed(seed, task.id, "augmentations" + self._again))
        ttt = preset.ttt
        self._views = sample_augmentations(task, ttt.augmentations, rng, colours=ttt.colours)
        self._rows = list(range(len(self._views))) if model.cfg.embedding == "augmented" else [0] * len(self._views)
        self._view_seconds = self._vote_seconds = self._began = self._segment_seconds = 0.0
        self._token_loss = 0.0
        self._first_loss: float | None = None
        self._risen = 0
        self._voted = (0, 0.0)
        # Of the votes so far that count with those to come.
        self._outputs: Outputs = ()
        self._voters = 0
        self._answer_step = answer_step(model.cfg, preset.vote)
        # A vote that is kept runs further than those on the way, which its time is reckoned from.
        self._stretch = preset.vote.act_steps / self._answer_step if preset.vote.save_raw else 1.0

    def run(self) -> Iterator[Alive | Progress | Answer | RawVote]:
        """Yields signs of life, progress and answers; the last item is an Answer with `final` set, before which comes what its vote was
        made of where that is to be kept. The caller may stop at any yield.

        Raises DivergedError.
        """
        ttt, done, exact = self._preset.ttt, 0, 0.0
        self._began = self._clock.elapsed()
        agreed: list[tuple[object, ...]] = []
        reports: list[SegmentReport] = []
        next_report, next_vote = REPORT_EVERY, ttt.first_vote
        reason = "share used"
        for report in self._train():
            done = report.segment
            reports.append(report)
            if self._progress(done) >= 1.0 or done >= ttt.max_segments:
                break
            if self._progress(done) < min(next_report, next_vote):
                yield Alive(self._task.id)
                continue
            progress = self._summary(done, reports)
            yield progress
            self._check(progress.loss)
            exact = progress.demo_exact
            if self._progress(done) >= next_report:
                next_report = max(next_report, self._progress(done)) + REPORT_EVERY
            if self._progress(done) < next_vote:
                continue
            outputs = yield from self._vote(max(1, self._preset.vote.views // 4))
            next_vote = VOTE_GROWTH * max(next_vote, self._progress(done))
            yield self._answer(outputs, done, "on the way", exact)
            agreed = [*agreed, self._settled(outputs) if exact >= ttt.fit else ()][-ttt.patience :]
            if len(agreed) == ttt.patience and agreed[0] and all(a == agreed[0] for a in agreed):
                reason = "votes agree"
                break
        if reports:
            progress = self._summary(done, reports)
            yield progress
            self._check(progress.loss)
            exact = progress.demo_exact
        if self._segments is None and not self._view_seconds:
            # The share went before any vote: one view is an answer already, and tells how many more there is time for.
            outputs = yield from self._vote(1)
            yield self._answer(outputs, done, "on the way", exact)
        outputs = yield from self._vote(self._affordable_views(), keep=self._preset.vote.save_raw)
        yield self._answer(outputs, done, reason, exact, final=True)

    def _check(self, loss: float) -> None:
        """Raise DivergedError where training has made things worse."""
        if not np.isfinite(loss):
            raise DivergedError("the loss is not finite")
        # Not the whole loss: that of the halt value, which begins at "never", rises where more and more answers are right.
        tokens = self._token_loss
        self._first_loss = tokens if self._first_loss is None else self._first_loss
        self._risen = self._risen + 1 if tokens > RISEN * self._first_loss else 0
        if self._risen >= 2:
            raise DivergedError(f"the loss rose from {self._first_loss:.3g} to {tokens:.3g}")

    def _train(self) -> Iterator[SegmentReport]:
        ttt, task = self._preset.ttt, self._task
        rng = np.random.default_rng(task_seed(self._seed, task.id, "batches" + self._again))
        generator = torch.Generator().manual_seed(task_seed(self._seed, task.id, "exploration" + self._again))
        device = str(self._model.tokens.device)
        batches = task_batches(task.train, self._views, self._rows, self._side, ttt, rng, device)
        trainer = Trainer(self._model, self._embedding, ttt, generator)
        yield from trainer.run(batches, lambda: self._progress(trainer.segment))

    def _progress(self, done: int) -> float:
        """0..1: of the segments in fixed-work mode, else of the seconds that the last vote leaves for training."""
        if self._segments is not None:
            return done / self._segments
        share = self._clock.budget or 0.0
        return min(1.0, self._clock.elapsed() / max(1e-9, share - self._final_vote_seconds()))

    def _final_vote_seconds(self) -> float:
        """Seconds to keep for the last vote, from the speed of those before it with room for noise, and for the segment that runs
        when training's time is over."""
        n = min(self._preset.vote.views, len(self._views)) * len(self._task.test)
        share = self._clock.budget or 0.0
        # Before the first vote is measured a tenth of the share stands for it; it never takes more than a third.
        last = n * self._view_seconds * self._stretch
        return min(share / 3, 1.5 * (last + self._segment_seconds) if self._view_seconds else share / 10)

    def _affordable_views(self) -> int:
        if self._segments is not None or not self._view_seconds:
            return self._preset.vote.views
        # A little over the share is made good by the next plan; a vote cut short is lost for this task.
        left = self._clock.remaining() + OVERRUN * (self._clock.budget or 0.0)
        fit = left / (self._view_seconds * self._stretch * len(self._task.test))
        return max(1, min(self._preset.vote.views, int(fit)))

    def _vote(self, views: int, *, keep: bool = False) -> Generator[Alive | RawVote, None, Outputs]:
        """Candidates of each test output from `views` views, the plain one first and the dihedral ones in turn."""
        before, config = self._clock.elapsed(), replace(self._preset.vote, views=views)
        made = None
        for made in answer_in_batches(
            self._model,
            self._embedding,
            self._task,
            self._views,
            self._rows,
            config,
            side=self._side,
            every_step=keep,
        ):
            if made is None:
                yield Alive(self._task.id)
        assert made is not None
        self._model.train()
        seconds = self._clock.elapsed() - before
        self._view_seconds, self._vote_seconds = seconds / len(made.scores), self._vote_seconds + seconds
        self._voted = (made.views, seconds)
        if keep:
            yield made.raw(self._task.id, self._restart, self._answer_step)
        return made.outputs

    def _answer(self, outputs: Outputs, segments: int, reason: str, exact: float, *, final: bool = False) -> Answer:
        """The answer by `outputs`, the newest vote, and those before it that count; only the newest says whether the task is settled."""
        views, seconds = self._voted
        settled = exact >= self._preset.ttt.fit and bool(self._settled(outputs))
        together, voters = pooled(self._outputs, outputs), self._voters + views
        if exact >= self._preset.ttt.pool_exact:
            self._outputs, self._voters = together, voters
        return Answer(self._task.id, together, final, segments, reason, settled, views, seconds, voters)

    def _settled(self, outputs: Outputs) -> tuple[object, ...]:
        """The first attempt of every output if it holds the required share of votes everywhere; else nothing."""
        for candidates in outputs:
            votes = sum(c.votes for c in candidates)
            if not votes or candidates[0].votes < self._preset.ttt.agreement * votes:
                return ()
        return tuple(c.key for candidates in outputs for c in candidates[:1])

    def _summary(self, done: int, reports: list[SegmentReport]) -> Progress:
        """Means since the last summary; empties `reports`. Reading the tensors here is the loop's only wait for the device."""
        loss = torch.stack([r.loss.float() for r in reports]).mean().item()
        self._token_loss = torch.stack([r.metrics.lm_loss.float() / r.size for r in reports]).mean().item()
        count = torch.stack([r.metrics.count for r in reports]).sum().item()
        exact = torch.stack([r.metrics.exact_accuracy for r in reports]).sum().item()
        reports.clear()
        return Progress(
            self._task.id, done, loss, exact / count if count else 0.0, self._clock.elapsed() - self._began - self._vote_seconds
        )


def n_rows(preset: Preset) -> int:
    """Rows of the task embedding that a session needs: one, or one for each augmentation (published scheme)."""
    return preset.ttt.augmentations if preset.model.embedding == "augmented" else 1
