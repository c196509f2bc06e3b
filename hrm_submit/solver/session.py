"""Test-time training of one task: train, with mid-run votes, then vote for good.

Mid-run votes count with the last one if the demonstrations were fit well enough by then: a model that does not yet know them by heart
sometimes answers better. Time comes from the session's clock, whose budget is the task's share; fixed work looks at no clock.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch

from hrm_submit.arc.augment import sample_augmentations
from hrm_submit.arc.sizes import answering_side, training_sides
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import Preset, TTTConfig
from hrm_submit.core.clock import Clock
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from hrm_submit.predict.answer import answer_in_batches
from hrm_submit.predict.raw import RawVote
from hrm_submit.predict.vote import Outputs, pooled
from hrm_submit.solver.messages import VOTES_AGREE, Alive, Answer, Progress
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
LEAST_LOSS = 0.1
"""Nats a token: a loss below it may rise to it, as that of a task which the weights know well does at first."""


class DivergedError(Exception):
    """Training made the loss rise, or not finite: these weights have nothing to vote with."""


def n_rows(preset: Preset) -> int:
    """Return the task embedding rows a session needs: one, or one for each augmentation (published scheme)."""
    return preset.ttt.augmentations if preset.model.embedding == "augmented" else 1


def settled_answer(outputs: Outputs, exact: float, config: TTTConfig) -> tuple[object, ...]:
    """Return the best candidate's key of each output, or () unless each holds the share `agreement` of its output's votes and the
    demonstrations are fit: `exact` is the share of augmented ones that came out exactly right."""
    for candidates in outputs:
        votes = sum(c.votes for c in candidates)
        if exact < config.fit or not votes or candidates[0].votes < config.agreement * votes:
            return ()
    return tuple(candidates[0].key for candidates in outputs)


class DivergenceCheck:
    """Watches the loss of a training for a rise that makes its weights useless."""

    _first: float | None = None
    _risen = 0

    def check(self, loss: float, token_loss: float) -> None:
        """Raise DivergedError if the mean `loss` is not finite, or the tokens' part of it rose. The halt value's part may: it begins at
        "never", and grows as more answers are right."""
        if not np.isfinite(loss):
            raise DivergedError("the loss is not finite")
        self._first = token_loss if self._first is None else self._first
        self._risen = self._risen + 1 if token_loss > RISEN * max(self._first, LEAST_LOSS) else 0
        if self._risen >= 2:
            raise DivergedError(f"the loss rose from {self._first:.3g} to {token_loss:.3g}")


class TaskSession:
    """One task on one model, whose weights, and `n_rows(preset)` rows of `embedding`, are already those to start from.

    Exactly one of the clock's budget and `segments` limits the work. `restart` numbers the trainings of one task, whose draws differ.
    """

    def __init__(
        self, model: HRM, embedding: TaskEmbedding, task: Task, preset: Preset, seed: int, clock: Clock, segments: int | None, restart: int
    ) -> None:
        self._model, self._embedding, self._task, self._preset = model, embedding, task, preset
        self._seed, self._clock, self._segments, self._restart = seed, clock, segments, restart
        ttt, rng = preset.ttt, np.random.default_rng(self._seed_for("augmentations"))
        self._views = sample_augmentations(task, ttt.augmentations, rng, colours=ttt.colours)
        self._rows = list(range(len(self._views))) if model.cfg.embedding == "augmented" else [0] * len(self._views)
        self._divergence = DivergenceCheck()
        # Segments done and share of exact demonstrations, as last reported; the pooled votes so far, and how many views gave them.
        self._done, self._exact, self._outputs, self._voters = 0, 0.0, Outputs(), 0
        self._began = self._view_seconds = self._vote_seconds = 0.0

    def run(self) -> Iterator[Alive | Progress | Answer | RawVote]:
        """Yield signs of life, progress and answers; the last item is a final Answer, after its raw vote if that is kept. Raises
        DivergedError."""
        ttt, views = self._preset.ttt, self._preset.vote.views
        self._began = self._clock.elapsed()
        reports: list[SegmentReport] = []
        settled = deque[tuple[object, ...]](maxlen=ttt.patience)
        next_report, next_vote = REPORT_EVERY, ttt.first_vote
        reason = "time used"
        for report in self.train():
            reports.append(report)
            progress = self._progress(report.segment)
            if progress >= 1.0:
                ended = self._segments is not None or report.segment >= ttt.max_segments
                reason = "segments done" if ended else "time used"
                break
            if progress < min(next_report, next_vote):
                yield Alive(self._task.id)
                continue
            yield from self._report(reports)
            if progress >= next_report:
                next_report = progress + REPORT_EVERY
            if progress >= next_vote:
                settled.append((yield from self._vote(max(1, views // 4), "mid-run vote")))
                next_vote = VOTE_GROWTH * max(next_vote, self._progress(self._done))
                if len(settled) == ttt.patience and settled[0] and len(set(settled)) == 1:
                    reason = VOTES_AGREE
                    break
        if reports:
            yield from self._report(reports)
        if self._segments is None and not self._view_seconds:
            # The share went before any vote: one view is an answer already, and tells how many more there is time for.
            yield from self._vote(1, "mid-run vote")
        yield from self._vote(self._affordable_views(), reason, final=True)

    def _seed_for(self, purpose: str) -> int:
        """Return a seed of 63 bits that depends on the run's seed, the task, the purpose and the restart alone."""
        text = f"{self._seed}/{self._task.id}/{purpose}" + (f"/{self._restart}" if self._restart else "")
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def train(self) -> Iterator[SegmentReport]:
        """Yield after each segment of the training."""
        ttt, rng = self._preset.ttt, np.random.default_rng(self._seed_for("batches"))
        generator = torch.Generator().manual_seed(self._seed_for("exploration"))
        device = str(self._model.tokens.device)
        sides = training_sides(self._task, translate=ttt.translate)
        batches = task_batches(self._task.train, self._views, self._rows, sides, ttt, rng, device, self._model.cfg.codes)
        trainer = Trainer(self._model, self._embedding, ttt, generator)
        yield from trainer.run(batches, lambda: self._progress(trainer.segment))

    def _progress(self, done: int) -> float:
        """Return 0..1: of the segments in fixed work, else of the seconds that the last vote leaves for training, or of the most segments
        where those are nearer."""
        most = self._preset.ttt.max_segments
        if self._segments is not None:
            return done / min(self._segments, most)
        seconds = max(1e-9, (self._clock.budget or 0.0) - self._final_vote_seconds())
        return min(1.0, max(self._clock.elapsed() / seconds, done / most))

    def _final_vote_seconds(self) -> float:
        """Return the seconds to keep for the last vote: a tenth of the share until a vote was measured, then its time with room for
        noise, at most a third."""
        n, share = min(self._preset.vote.views, len(self._views)) * len(self._task.test), self._clock.budget or 0.0
        return min(share / 3, 1.5 * n * self._view_seconds if self._view_seconds else share / 10)

    def _affordable_views(self) -> int:
        """Return how many views of each test input the last vote has time for."""
        if self._segments is not None or not self._view_seconds:
            return self._preset.vote.views
        # A little over the share is made good by the next plan; a vote cut short is lost for this task.
        left = self._clock.remaining() + OVERRUN * (self._clock.budget or 0.0)
        return max(1, min(self._preset.vote.views, int(left / (self._view_seconds * len(self._task.test)))))

    def _vote(self, views: int, reason: str, *, final: bool = False) -> Generator[Alive | RawVote | Answer, None, tuple[object, ...]]:
        """Vote with `views` views, the plain one first and the dihedral ones in turn; yields the Answer, which pools earlier votes, and
        returns what this vote alone settled."""
        before, config = self._clock.elapsed(), replace(self._preset.vote, views=views)
        asked = self._model, self._embedding, self._task, self._views, self._rows, config
        side, vote = answering_side(self._task, translate=self._preset.ttt.translate), None
        for vote in answer_in_batches(*asked, side=side):
            if vote is None:
                yield Alive(self._task.id)
        assert vote is not None
        self._model.train()
        seconds = self._clock.elapsed() - before
        self._view_seconds, self._vote_seconds = seconds / len(vote.scores), self._vote_seconds + seconds
        if final and config.save_raw:
            yield vote.raw(self._task.id, self._restart)
        together, voters = pooled(self._outputs, vote.outputs), self._voters + vote.views
        if self._exact >= self._preset.ttt.pool_exact:
            self._outputs, self._voters = together, voters
        settled = settled_answer(vote.outputs, self._exact, self._preset.ttt)
        yield Answer(
            self._task.id,
            together,
            final=final,
            segments=self._done,
            reason=reason,
            settled=bool(settled),
            views=vote.views,
            seconds=seconds,
            voters=voters,
        )
        return settled

    def _report(self, reports: list[SegmentReport]) -> Iterator[Progress]:
        """Yield the means since the last report, then check for divergence; empties `reports`. Only this waits for the device."""
        self._done = reports[-1].segment
        loss = torch.stack([r.loss.float() for r in reports]).mean().item()
        token_loss = torch.stack([r.metrics.lm_loss.float() / r.size for r in reports]).mean().item()
        count = torch.stack([r.metrics.count for r in reports]).sum().item()
        exact = torch.stack([r.metrics.exact_accuracy for r in reports]).sum().item()
        reports.clear()
        self._exact = exact / count if count else self._exact  # where no sequence has ended since, nothing is known anew
        seconds = self._clock.elapsed() - self._began - self._vote_seconds
        yield Progress(self._task.id, segments=self._done, loss=loss, demo_exact=self._exact, seconds=seconds)
        self._divergence.check(loss, token_loss)
