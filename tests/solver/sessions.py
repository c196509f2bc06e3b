"""Sessions of one task, in this process, and their messages; and one that fails as it is told, in the place of a real one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from hrm_submit.arc.task import Grid, Task, make_grid
from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.weights import build
from hrm_submit.run.protocol import Assignment
from hrm_submit.solver import session as session_module
from hrm_submit.solver import solver as solver_module
from hrm_submit.solver.messages import Alive, Answer, Message
from hrm_submit.solver.session import DivergedError, TaskSession, n_rows
from tests.predict.lab import answering
from tests.run.fake_pool import answer


def session(preset: Preset, task: Task, segments: int | None, *, restart: int = 0, clock: Clock | None = None) -> TaskSession:
    """A session on a new model of its own."""
    model, embedding = build(preset.model, n_rows=n_rows(preset), seed=0)
    return TaskSession(model, embedding, task, preset, 0, clock or Clock(), segments, restart)


def answers_of(messages: Iterable[Message]) -> list[Answer]:
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


class Faulty:
    """Stands in for a session. `faults` says which task raises what, `most` the batch that fits, `fastest` the rate that does not
    diverge; `batches` and `rates` keep what it was asked for."""

    faults: dict[str, BaseException]
    most: int
    fastest: float
    batches: list[tuple[str, int, float | None]]
    rates: list[tuple[float, float, float]]

    def __init__(
        self, model: Any, embedding: Any, task: Any, preset: Preset, seed: int, clock: Clock, segments: int | None, restart: int
    ) -> None:
        self.assignment, self.ttt = Assignment(task, None, segments), preset.ttt
        if task.id != "warm-up":
            self.batches.append((task.id, self.ttt.batch_size, clock.budget))
            self.rates.append((self.ttt.lr, self.ttt.muon_lr, self.ttt.embedding_lr))

    def run(self) -> Iterator[Any]:
        task = self.assignment.task.id
        if task == "warm-up":
            return
        yield from [Alive(task)] * 3
        if self.ttt.batch_size > self.most:
            raise MemoryError
        if self.ttt.lr > self.fastest:
            yield answer(self.assignment, 1, final=False)
            raise DivergedError("the loss rose from 1 to 9")
        if task in self.faults:
            raise self.faults[task]
        yield answer(self.assignment, 2)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    """Put one that never fails where sessions are made; attributes set on the returned class change that."""

    class Fresh(Faulty):
        faults, most, fastest = {}, 10**6, 1.0
        batches, rates = [], []

    monkeypatch.setattr(solver_module, "TaskSession", Fresh)
    return Fresh
