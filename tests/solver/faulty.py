"""A session that fails as it is told, in the place of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hrm_submit.config.schema import Preset
from hrm_submit.core.clock import Clock
from hrm_submit.run.protocol import Assignment
from hrm_submit.solver import solver as solver_module
from hrm_submit.solver.messages import Alive
from hrm_submit.solver.session import DivergedError
from tests.run.fake_pool import answer


class Faulty:
    """Stands in for a session. `faults` says which task raises what, `most` the batch that fits, `fastest` the rate that does not
    diverge; `batches`, `rates` and `restarts` keep what it was asked for."""

    faults: dict[str, BaseException]
    most: int
    fastest: float
    batches: list[tuple[str, int, float | None]]
    rates: list[tuple[float, float, float]]
    restarts: list[int]

    def __init__(
        self, model: Any, embedding: Any, task: Any, preset: Preset, seed: int, clock: Clock, segments: int | None, restart: int
    ) -> None:
        self.assignment, self.ttt = Assignment(task, None, segments), preset.ttt
        if task.id != "warm-up":
            self.batches.append((task.id, self.ttt.batch_size, clock.budget))
            self.rates.append((self.ttt.lr, self.ttt.muon_lr, self.ttt.embedding_lr))
            self.restarts.append(restart)

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
        batches, rates, restarts = [], [], []

    monkeypatch.setattr(solver_module, "TaskSession", Fresh)
    return Fresh
