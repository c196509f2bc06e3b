"""Dozens of runs on a fake clock in which anything may go wrong, by a seed: what a run promises holds in every one of them.

After every event the submission on disk is complete and valid and shows, for each output, the best two of all that was
answered, unless the disk is full just then; the run ends in time; every attempt that was begun has one end.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.submission import faults
from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.config.schema import BudgetConfig
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.vote import Candidate
from hrm_submit.run import answers, supervisor
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.worker_pool import PooledWorker
from hrm_submit.solver.messages import Alive, Answer, Progress, Restarted
from tests.events import told
from tests.run.fake_pool import FIXED_SECONDS, FakeCrew, Script, Time, Timeline, gone
from tests.run.lab import recolour
from tests.run.stage import PRESET, Played, play

BLOCKS = 6
"""Of ten trials in a time budget each, besides two of fixed work."""
ENDS = ("share used", "early", "late", "failed", "memory", "fatal", "dies", "hangs", "begins anew")


class Fate:
    """What a trial is like: its tasks, devices and budget, how likely each fault is, when the disk is full and when time jumps."""

    def __init__(self, seed: int, fixed: bool = False) -> None:
        self.rng = rng = np.random.default_rng([seed, fixed])
        self.budget = None if fixed else float(np.exp(rng.uniform(np.log(30), np.log(43200))))
        self.hang_seconds = float(rng.choice([15.0, 60.0, 300.0]))
        n = int(rng.integers(1, 15))
        self.tasks = [recolour(f"t{k}", k, side=int(rng.integers(2, 9)), outputs=int(rng.integers(1, 3))) for k in range(n)]
        device_sets = [
            ("cpu",) * int(rng.integers(1, 5)),
            ("cuda:0",),
            ("cuda:0", "cuda:0"),
            ("cuda:0", "cuda:1", "cuda:1"),
            ("cuda:0", "cpu"),
        ]
        self.devices = device_sets[rng.integers(len(device_sets))]
        trouble = float(rng.choice([0.0, 0.1, 0.4, 0.8]))
        weights = np.array([1.0, 1.0, *rng.exponential(trouble, len(ENDS) - 2)])
        self.ends = weights / weights.sum()
        self.false_start, self.deaf = rng.uniform(0, trouble, 2) / 2
        self.segment = {kind: (rng.uniform(0, 0.1), rng.uniform(0, 0.01)) for kind in ("cpu", "cuda")}
        span = 60.0 if self.budget is None else self.budget
        self.full = [(a, a + rng.exponential(0.05) * span) for a in rng.uniform(0, span, rng.integers(0, 3))]
        jumps = rng.uniform(0, span, rng.integers(1, 3) if rng.random() < 0.3 else 0)
        self.jumps = [(float(at), float(rng.exponential(0.1) * span), bool(rng.random() < 0.5)) for at in sorted(jumps)]

    def disk_is_full(self, now: float) -> bool:
        return any(a <= now < b for a, b in self.full)


class Fateful(Script):
    """Workers that do what fate has in store."""

    def __init__(self, fate: Fate) -> None:
        self.fate, self.rng = fate, fate.rng

    def on_start(self, spec: WorkerSpec) -> Timeline:
        wait = float(self.rng.exponential(5.0))
        if self.rng.random() < self.fate.false_start:
            return [(wait, gone())] if self.rng.random() < 0.7 else []
        return [(wait, Ready({"device": spec.device}))]

    def takes(self, spec: WorkerSpec) -> bool:
        return bool(self.rng.random() >= self.fate.deaf / 4)

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        rng, task = self.rng, assignment.task.id
        seconds = FIXED_SECONDS if assignment.seconds is None else assignment.seconds
        end = str(rng.choice(ENDS, p=self.fate.ends))
        at = seconds * float({"share used": rng.uniform(0.97, 1.0), "late": rng.uniform(1.0, 1.4)}.get(end, rng.uniform(0.05, 0.9)))
        overhead, rate = self.fate.segment[spec.device.split(":")[0]]
        each = overhead + rate * len(assignment.task.test[0]) + 1e-4
        said: Timeline = [(t, Alive(task)) for t in np.arange(7.0, at, 7.0 if self.fate.hang_seconds < 20 else 18.0).tolist()[:3000]]
        for part in (0.2, 0.5, 0.8):
            segments = max(1, int(part * at / each))
            said.append((part * at, Progress(task, segments, 1.0, float(rng.random()), segments * each)))
            said.append((part * at, self.answer(assignment, final=False)))
        last: Timeline = {
            "failed": [(at, Failed(task, "ValueError: no"))],
            "memory": [(at, Failed(task, "OutOfMemoryError", memory=True))],
            "fatal": [(at, Failed(task, "CUDA error", fatal=True))],
            "dies": [(at, gone())],
            "hangs": [],
        }.get(end, [(at, self.answer(assignment, final=True))])
        anew: Timeline = [(0.3 * at, Restarted(task, "out of memory"))] if end == "begins anew" else []
        return [*said, *anew, *last]

    def answer(self, assignment: Assignment, final: bool) -> Answer:
        """Up to four grids with any votes for each output; now and then a whole answer is empty."""
        rng = self.rng
        empty = rng.random() < 0.05
        outputs = tuple(() if empty else self.candidates() for _ in assignment.task.test)
        return Answer(assignment.task.id, outputs, final, 10, "share used", bool(rng.random() < 0.5))

    def candidates(self) -> tuple[Candidate, ...]:
        grids = [make_grid([[int(c)]]) for c in self.rng.permutation(5)[: self.rng.integers(1, 5)]]
        found = [Candidate(g, int(self.rng.integers(1, 9)), -float(self.rng.integers(0, 40)) / 8) for g in grids]
        return tuple(sorted(found, key=lambda c: (-c.votes, -c.score, c.key)))


class Best:
    """The best two of all that was answered, found anew and in another way: exact fractions, no help from the package."""

    def __init__(self, n_outputs: dict[str, int]) -> None:
        self.shown: dict[str, list[list[Grid]]] = {task: [[] for _ in range(n)] for task, n in n_outputs.items()}
        self.final: dict[str, list[dict[bytes, list[tuple[Grid, int, Fraction]]]]] = {}
        self.latest: dict[str, tuple[tuple[Candidate, ...], ...]] = {}

    def add(self, assignment: Assignment, answer: Answer) -> None:
        task, outputs = answer.task, answer.outputs
        if not answer.final:
            if assignment.restart == 0:
                self.latest[task] = outputs
                self._show(task, [[(c.grid, c.votes, Fraction(c.score)) for c in output] for output in outputs])
            return
        if not any(outputs) and not assignment.restart:
            outputs = self.latest.get(task, outputs)
        ballots = self.final.setdefault(task, [{} for _ in outputs])
        for ballot, output in zip(ballots, outputs, strict=True):
            for c in output:
                ballot.setdefault(c.grid.tobytes(), []).append((c.grid, c.votes, Fraction(c.score)))
        pooled = []
        for ballot in ballots:
            votes = {key: sum(n for _, n, _ in cast) for key, cast in ballot.items()}
            pooled.append([(cast[0][0], votes[k], sum(n * s for _, n, s in cast) / votes[k]) for k, cast in ballot.items()])
        self._show(task, pooled)

    def _show(self, task: str, outputs: list[list[tuple[Grid, int, Fraction]]]) -> None:
        for k, candidates in enumerate(outputs):
            if candidates:  # an output without any keeps what it has
                ranked = sorted(candidates, key=lambda c: (-c[1], -c[2], c[0].tolist()))
                self.shown[task][k] = [grid for grid, _, _ in ranked[:2]]

    def differences(self, submission: dict[str, Any]) -> list[str]:
        """Outputs that do not show it."""
        found = []
        for task, outputs in self.shown.items():
            for k, grids in enumerate(outputs):
                attempts = [submission[task][k][key] for key in ("attempt_1", "attempt_2")]
                if attempts[: len(grids)] != [g.tolist() for g in grids] or (grids and attempts[0] == attempts[1]):
                    found.append(f"{task} output {k} shows {attempts}, not {[g.tolist() for g in grids]}")
        return found


class Watched(FakeCrew):
    """A pool that checks the submission before anything happens, keeps what was answered, and lets the clock jump."""

    def __init__(self, time: Time, script: Script, fate: Fate, submission: Path) -> None:
        super().__init__(time, script)
        self.fate, self.path = fate, submission
        self.best = Best({t.id: len(t.test) for t in fate.tasks})
        self.expected = {t.id: t for t in fate.tasks}
        self.jumps, self.latest_jump, self._known = list(fate.jumps), 0.0, b""
        self.ran_out: set[str] = set()

    def check_file(self) -> None:
        content = self.path.read_bytes()
        if content != self._known:
            assert faults(json.loads(content), self.expected) == []
            self._known = content
        if not self.fate.disk_is_full(self.time.now):
            assert self.best.differences(json.loads(content)) == []

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        assert work.task.id not in self.ran_out or member.spec.device == "cpu", "no GPU has memory for it"
        return super().give(member, work, now)

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        self.check_file()
        if self.jumps and self.time.now >= self.jumps[0][0]:
            _, length, workers_too = self.jumps.pop(0)
            self.time.now = self.latest_jump = self.time.now + length
            if workers_too:
                self._coming = [(at + length, *rest) for at, *rest in self._coming]
            return
        for member, message in super().listen(seconds):
            held = member.assignment
            if isinstance(message, Answer) and held is not None:
                self.best.add(held, message)
            if isinstance(message, Failed) and message.memory and held is not None and member.spec.device != "cpu" and not held.restart:
                self.ran_out.add(held.task.id)
            yield member, message


def trial(fate: Fate, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Played, Watched]:
    time = Time()
    crews: list[Watched] = []

    def make_crew(time: Time, script: Script) -> FakeCrew:
        crews.append(Watched(time, script, fate, folder / "submission.json"))
        return crews[0]

    def write(path: Any, data: Any) -> None:
        if fate.disk_is_full(time.now):
            raise OSError(28, "No space left on device")
        write_atomic(path, data)

    tick = 0.5 if fate.budget is None else max(0.5, fate.budget / 1000)
    patch.setattr(supervisor, "TICK_SECONDS", tick)
    patch.setattr(supervisor, "ASLEEP", max(10.0, 3 * tick))
    patch.setattr(os, "fsync", lambda handle: None)  # no machine crashes here
    preset = replace(PRESET, budget=BudgetConfig(hang_seconds=fate.hang_seconds))
    fixed = None if fate.budget else 7
    with patch.context() as disk:
        disk.setattr(answers, "write_atomic", write)
        run = play(folder, Fateful(fate), fate.tasks, tuple(fate.devices), fate.budget, fixed, preset, make_crew, time)
    return run, crews[0]


def check(run: Played, pool: Watched, fate: Fate) -> None:
    """What every run promises, from what it wrote down."""
    if fate.budget is not None:
        assert run.seconds <= max(fate.budget, pool.latest_jump), "late"
    assert pool.dismissed_at == run.seconds and not pool.members, "a worker is left behind"
    if not fate.disk_is_full(run.seconds):
        assert pool.best.differences(run.submission) == []
    store = AnswerStore(pool.expected, {}, pool.path)
    store.restore(run.record)
    store.create()
    assert pool.best.differences(json.loads(pool.path.read_text())) == [], "whoever goes on from the run folder has it all"
    assert run.record.damaged == [] or run.record.damaged[0].startswith("run.json")
    starts: Counter[tuple[str, bool]] = Counter()
    ends: Counter[tuple[str, bool]] = Counter()
    left = Counter()
    for event in told(run.record):
        key = event["task"], bool(event.get("restart"))
        starts[key] += event["event"] == "task_start"
        if event["event"] == "task_final" or (event["event"] == "task_failed" and event["worker"] is not None):
            ends[key] += 1
        elif event["event"] == "task_failed":
            left[event["task"]] += 1
    finals = Counter(e["task"] for e in run.events("task_final") if not e.get("restart"))
    for task in (t.id for t in fate.tasks):
        assert 0 <= starts[task, False] <= 2 and finals[task] <= 1 and left[task] <= 1
        unfinished = starts[task, False] - ends[task, False]
        assert unfinished in (0, 1) and (not unfinished or left[task]), "an attempt without an end"
        given_up = ends[task, False] - finals[task] == 2
        assert finals[task] + left[task] + given_up == 1, "every task has its answer, or is named as one that has none"
        assert not starts[task, True] or (finals[task] and fate.budget is not None), "only what has an answer is trained anew"
        assert starts[task, True] - ends[task, True] <= len(pool.started)


@pytest.mark.parametrize(("block", "fixed"), [*((block, False) for block in range(BLOCKS)), (0, True), (1, True)])
def test_whatever_happens(block: int, fixed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed work has no deadline, so that it must end by itself."""
    for seed in range(10 * block, 10 * block + 10):
        fate = Fate(seed, fixed)
        try:
            run, pool = trial(fate, tmp_path / str(seed), monkeypatch)
            check(run, pool, fate)
        except Exception as error:
            raise AssertionError(f"trial {seed}") from error
