"""Sessions of one task, in this process, and their messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.arc.task import Grid, Task, make_grid
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.weights import build
from hrm_submit.solver import session as session_module
from hrm_submit.solver.messages import Answer, Message, Progress
from hrm_submit.solver.session import TaskSession, n_rows
from tests.predict.lab import answering


def session(
    preset: Preset, task: Task, segments: int | None, *, seed: int = 0, restart: int = 0, clock: Clock | None = None
) -> TaskSession:
    """A session on a new model of its own."""
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    return TaskSession(model, embedding, task, preset, seed, clock or Clock(), segments, restart)


def told(messages: Iterator[Message]) -> list[Progress | Answer]:
    """Progress and answers alone."""
    return [m for m in messages if isinstance(m, Progress | Answer)]


def answers_of(messages: Iterator[Message]) -> list[Answer]:
    """Answers alone; the last one is final."""
    found = [m for m in messages if isinstance(m, Answer)]
    assert [a.final for a in found] == [False] * (len(found) - 1) + [True]
    return found


def with_vote(preset: Preset, **changed: Any) -> Preset:
    """The preset with other values in its `[vote]`."""
    return replace(preset, vote=replace(preset.vote, **changed))


def with_ttt(preset: Preset, **changed: Any) -> Preset:
    """The preset with other values in its `[ttt]`."""
    return replace(preset, ttt=replace(preset.ttt, **changed))


def set_pace(monkeypatch: pytest.MonkeyPatch, *, report_every: float, vote_growth: float) -> None:
    """Let sessions report and vote at other times."""
    monkeypatch.setattr(session_module, "REPORT_EVERY", report_every)
    monkeypatch.setattr(session_module, "VOTE_GROWTH", vote_growth)


def scripted_votes(monkeypatch: pytest.MonkeyPatch, votes: Sequence[Sequence[int]]) -> list[list[Any]]:
    """Let the views of the k-th vote say the colours `votes[k]` in turn, the last of these again and again; returns the views asked."""
    asked: list[list[Any]] = []

    def say(requests: Sequence[Any]) -> list[Grid]:
        colours = votes[min(len(asked), len(votes) - 1)]
        asked.append([r.view for r in requests])
        return [make_grid([[colours[k % len(colours)]]]) for k in range(len(requests))]

    answering(monkeypatch, say)
    return asked
