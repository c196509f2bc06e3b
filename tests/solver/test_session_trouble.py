"""Training that diverges, and restarts: when a session gives up, and what is different the second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.config.schema import Preset
from hrm_submit.model.losses import Metrics
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Progress
from hrm_submit.solver.session import DivergedError, DivergenceCheck
from hrm_submit.train.loop import CanvasBatch, SegmentReport, Trainer
from tests.run.lab import recolour, tiny_preset
from tests.solver.sessions import scripted_votes, session, set_pace

TASK = recolour("t", 3)


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preset:
    set_pace(monkeypatch, report_every=0.125, vote_growth=1.6)
    return tiny_preset(tmp_path, '[ttt]\nfirst_vote = 1.0\npatience = 1000\ncolours = "permute"\n')


@pytest.mark.parametrize(
    ("losses", "fails_at", "fault"),
    [
        ([1.0, 0.5, 1.6, 1.4, 1.6, 1.7], 6, "the loss rose from 1 to 1.7"),  # neither once, nor twice with a better one between
        ([1.0, 1.4, 1.4, 1.45, 1.49, 1.3, 1.2], None, ""),  # less than half more
        ([1.0, 0.9, float("nan")], 3, "the loss is not finite"),
        ([1.0, float("inf")], 2, "the loss is not finite"),
    ],
)
def test_a_loss_that_rises_by_half_twice_in_a_row_or_is_no_number_has_diverged(
    losses: list[float], fails_at: int | None, fault: str
) -> None:
    check, raises = DivergenceCheck(), pytest.raises(DivergedError, match=f"^{fault}$")
    for n, loss in enumerate(losses, 1):
        with raises if n == fails_at else nullcontext():
            check.check(loss, loss)


class Scripted(Trainer):
    """Segments whose last loss is not finite."""

    def run(self, batches: Iterator[CanvasBatch], progress: Callable[[], float]) -> Iterator[SegmentReport]:
        none = torch.tensor(0.0)
        for number in range(1, 17):
            loss = torch.tensor(1.0 if number < 16 else float("nan"))
            yield SegmentReport(number, 4, 9, loss, Metrics(torch.tensor(4), none, none, none, none, 4 * loss, none, None))


def test_the_last_look_before_the_vote_counts_too(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    monkeypatch.setattr(session_module, "Trainer", Scripted)
    told = list[int]()
    with pytest.raises(DivergedError, match="the loss is not finite"):
        told.extend(message.segments for message in session(preset, TASK, 16).run() if isinstance(message, Progress))
    assert told == list(range(2, 17, 2))


def test_learning_fast_is_not_diverging(tmp_path: Path) -> None:
    """A fresh model believes that no answer is ever right: its halt value's loss rises with every one that is."""
    told = [m for m in session(tiny_preset(tmp_path), recolour("task01", 1), 24).run() if isinstance(m, Progress)]
    assert max(m.demo_exact for m in told) > 0.9
    assert max(m.loss for m in told) > 1.5 * told[0].loss, "the example must show it"


def drawn(monkeypatch: pytest.MonkeyPatch, preset: Preset, **how: int) -> tuple[list[Any], list[Any]]:
    """Views of the last vote, and inputs of the first three batches."""
    inputs: list[Any] = []
    real = session_module.task_batches

    def kept(*args: Any) -> Iterator[CanvasBatch]:
        for batch in real(*args):
            inputs.append(batch.batch.inputs.tolist())
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "task_batches", kept)
        asked = scripted_votes(patch, [[1]])
        list(session(preset, TASK, 4, **how).run())
    return asked[-1], inputs[:3]


def test_a_restart_has_other_views_and_other_batches(monkeypatch: pytest.MonkeyPatch, preset: Preset) -> None:
    first, second, third = (drawn(monkeypatch, preset, restart=restart) for restart in (0, 1, 2))
    for one, other in ((first, second), (first, third), (second, third)):
        assert one[0][0] == other[0][0], "the plain view is always among them"
        assert one[0][1:] != other[0][1:] and one[1] != other[1]
    assert drawn(monkeypatch, preset, restart=1) == second, "but the same ones whenever it is done"
