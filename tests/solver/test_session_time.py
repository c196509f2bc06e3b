"""Test-time training of one task on a clock that a test moves: when it votes and ends, and the seconds in its messages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Answer, Progress
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.predict.lab import answering
from tests.run.fake_pool import Time
from tests.run.lab import recolour
from tests.solver.sessions import session, with_ttt


class SlowModel:
    """Training segments and votes that take time on a clock that a test holds, and change nothing after the first of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, time: Time, segment: float, view: float) -> None:
        self.votes: list[tuple[float, int, float]] = []

        class SlowTrainer(Trainer):
            def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
                first = next(super().run(batches, progress))
                for number in count(1):
                    time.now += segment
                    yield replace(first, segment=number)

        def say(requests: Sequence[Any]) -> list[None]:
            start = time.now
            time.now += view * len(requests)
            self.votes.append((start, len(requests), time.now))
            return [None] * len(requests)

        monkeypatch.setattr(session_module, "Trainer", SlowTrainer)
        answering(monkeypatch, say)


def timed(preset: Preset, share: float, time: Time) -> list[Any]:
    return list(session(preset, recolour("t", 0), None, clock=Clock(share, source=time)).run())


@pytest.mark.parametrize(("segment", "view"), [(0.5, 0.01), (0.5, 0.5), (1.0, 1.0), (0.2, 1e-6)])
def test_a_share_is_used_and_hardly_overrun(monkeypatch: pytest.MonkeyPatch, preset: Preset, segment: float, view: float) -> None:
    """Messages tell the seconds of training and of each vote apart."""
    time = Time()
    patient = with_ttt(preset, patience=1000, first_vote=0.25)
    slow = SlowModel(monkeypatch, time, segment, view)
    messages = timed(patient, 40.0, time)
    answers, progress = ([m for m in messages if isinstance(m, kind)] for kind in (Answer, Progress))
    assert messages[-1] is answers[-1] and answers[-1].final
    assert time.now <= 40.0 + segment, "a segment that has begun is finished"
    # training stops where the last vote, with a quarter of room for noise, must start
    assert time.now >= 40.0 - 8 * view * 0.25 - 2 * segment - 2 * view - 0.1
    assert slow.votes[-1][1] >= min(8, int((40.0 - slow.votes[-1][0]) / (1.1 * view)))
    assert [a.views for a in answers] == [*[2] * (len(answers) - 1), slow.votes[-1][1]]
    assert [a.seconds for a in answers] == pytest.approx([a.views * view for a in answers])
    assert len(progress) > 5 and [m.seconds for m in progress] == pytest.approx([segment * m.segments for m in progress])
    assert not any(a.settled for a in answers), "no view gave a grid"


def test_where_the_share_is_gone_before_the_first_vote_the_last_one_is_small(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    """A device so slow that one segment takes the whole share: eight views of 10 seconds each would take 80 more."""
    time = Time()
    SlowModel(monkeypatch, time, 12.0, 10.0)
    messages = timed(preset, 12.0, time)
    final = messages[-1]
    assert isinstance(final, Answer) and final.final and final.segments == 1
    assert time.now <= 12.0 + 2 * 10.0
