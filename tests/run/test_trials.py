"""Random schedules of faults on a fake clock, with the real supervisor and stub workers: a run keeps its promises in every one.

    python -m pytest tests/run/test_trials.py --schedules 1000

Workers fail, die, hang, come late, or freeze at any byte of a message; the disk is full, slow, or refuses a write and may keep a piece
of it; the clock jumps; the supervisor gets SIGTERM, or is killed at any write and resumes. The submission is complete and valid at every
moment. Each answer that an event tells is in the run folder at every kill, and in the submission at the end. No run is late.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.submission import faults
from hrm_submit.arc.task import Grid, Task, make_grid
from hrm_submit.config.schema import BudgetConfig
from hrm_submit.core.files import append_whole, write_atomic
from hrm_submit.predict.vote import Candidate
from hrm_submit.record import folder as record_folder
from hrm_submit.record.folder import read_run
from hrm_submit.run import answers, supervisor
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec
from hrm_submit.run.worker_pool import Gone, PooledWorker
from hrm_submit.solver.messages import Alive, Answer, Progress, Restarted
from tests.events import told
from tests.run.fake_pool import FIXED_SECONDS, Freeze, Script, StubPool, Time, Timeline
from tests.run.lab import recolour
from tests.run.stage import PRESET, Played, play

LIVES = 3
"""Runs of a schedule: all but the last may be killed."""
ENDS = ("share used", "early", "late", "failed", "memory", "fatal", "dies", "hangs", "freezes", "begins anew")
MANY_PAIRS = tuple(pair for seed in range(60) for pair in recolour("", seed, side=30).train)
"""Demonstrations of half a megabyte, an assignment that no socket takes at once."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "block" in metafunc.fixturenames:
        blocks = np.array_split(np.arange(metafunc.config.getoption("schedules")), 10)
        metafunc.parametrize("block", [b.tolist() for b in blocks], ids=[f"{b[0]}-{b[-1]}" for b in blocks])


class Killed(BaseException):
    """The supervisor is killed: nothing that it does from now on reaches the disk."""


class Fate:
    """What a run is like: its tasks, devices and budget, how likely each fault is, when the disk fails and when time jumps."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.budget = None if rng.random() < 0.2 else float(np.exp(rng.uniform(np.log(30), np.log(43200))))
        self.hang_seconds = max(float(rng.choice([15.0, 60.0, 300.0])), (self.budget or 0.0) / 100)
        self.patience = min(self.hang_seconds, max(20.0, (self.budget or 0.0) / 10))
        self.tasks = [
            recolour(f"t{k}", k, side=int(rng.integers(2, 9)), outputs=int(rng.integers(1, 3))) for k in range(int(rng.integers(1, 15)))
        ]
        device_sets = [("cpu",) * int(rng.integers(1, 5)), ("cuda:0",), ("cuda:0", "cuda:1", "cuda:1"), ("cuda:0", "cpu")]
        self.devices = device_sets[rng.integers(len(device_sets))]
        trouble = float(rng.choice([0.0, 0.1, 0.4, 0.8]))
        weights = np.array([1.0, 1.0, *rng.exponential(trouble, len(ENDS) - 2)])
        self.ends = weights / weights.sum()
        self.false_start, self.deaf = rng.uniform(0, trouble, 2) / 2
        if rng.random() < 0.1:
            self.tasks = [replace(task, train=MANY_PAIRS) for task in self.tasks]
            self.false_start = 0.5
        self.segment = {kind: (rng.uniform(0, 0.1), rng.uniform(0, 0.01)) for kind in ("cpu", "cuda")}
        self.slow_disk = float(rng.choice([0.0, 0.0, 0.01, 0.5]))
        self.refused = float(rng.choice([0.0, 0.0, 0.02, 0.3]))

    def begin(self, last: bool) -> None:
        """Draw what happens in the next run."""
        rng, span = self.rng, self.budget or 60.0
        self.full = [(a, a + rng.exponential(0.05) * span) for a in rng.uniform(0, span, rng.integers(0, 3))]
        jumps = rng.uniform(0, span, rng.integers(1, 3) if rng.random() < 0.3 else 0)
        self.jumps = [(float(at), float(rng.exponential(0.1) * span), bool(rng.random() < 0.5)) for at in sorted(jumps)]
        self.signal_at = float(rng.uniform(0, span)) if rng.random() < 0.1 else np.inf
        self.killed_at = None if last or rng.random() < 0.3 else int(rng.integers(1, 30 * len(self.tasks)))


class Disk:
    """Files that fail as fate has it, from the moment when the first worker starts."""

    def __init__(self, fate: Fate, time: Time, patch: pytest.MonkeyPatch) -> None:
        self.fate, self.time, self.writes, self.begun, self.dead = fate, time, 0, False, False
        patch.setattr(answers, "write_atomic", self._replace)
        patch.setattr(record_folder, "append_whole", self._append)

    def _replace(self, path: Path, text: str) -> None:
        self.time.now += self.fate.slow_disk if self.begun else 0.0
        self._write(lambda part: part == 1 and write_atomic(path, text))

    def _append(self, path: Path, data: bytes) -> None:
        self._write(lambda part: append_whole(path, data[: int(part * len(data))]))

    def _write(self, write: Callable[[float], Any]) -> None:
        """`write` a part: all of it, what was on the disk when the process was killed, or a piece that could not be taken back."""
        fate, part = self.fate, float(self.fate.rng.random())
        self.writes += self.begun
        if self.dead or (self.begun and self.writes == fate.killed_at):
            if not self.dead:
                write(round(2 * part) / 2)
            self.dead = True
            raise Killed
        if self.begun and (any(a <= self.time.now < b for a, b in fate.full) or fate.rng.random() < fate.refused):
            if part > 0.9:
                write(part / 1000)
            raise OSError(28, "No space left on device")
        write(1)


class Fateful(Script):
    """Workers that do what fate has in store."""

    def __init__(self, fate: Fate) -> None:
        self.fate, self.rng = fate, fate.rng

    def on_start(self, spec: WorkerSpec) -> Timeline:
        wait, ready = float(self.rng.exponential(5.0)), Ready({"device": spec.device})
        if self.rng.random() >= self.fate.false_start:
            return [(wait, ready)]
        half = Freeze(ready, self.rng.random())
        stops: list[Timeline] = [[(wait, Gone())], [], [(wait, half)], [(wait, ready), (wait, Freeze(ready, 0))]]
        return stops[self.rng.integers(4)]

    def takes(self, spec: WorkerSpec) -> bool:
        return bool(self.rng.random() >= self.fate.deaf / 4)

    def on_task(self, spec: WorkerSpec, assignment: Assignment) -> Timeline:
        rng, task = self.rng, assignment.task.id
        seconds = FIXED_SECONDS if assignment.seconds is None else assignment.seconds
        end = str(rng.choice(ENDS, p=self.fate.ends))
        at = seconds * float({"share used": rng.uniform(0.97, 1.0), "late": rng.uniform(1.0, 1.4)}.get(end, rng.uniform(0.05, 0.9)))
        overhead, rate = self.fate.segment[spec.device.split(":")[0]]
        each = overhead + rate * len(assignment.task.test[0]) + 1e-4
        said: Timeline = [(t, Alive(task)) for t in np.arange(7.0, at, 0.45 * self.fate.patience).tolist()]
        for part in (0.2, 0.5, 0.8):
            segments = max(1, int(part * at / each))
            said.append((part * at, Progress(task, segments, 1.0, float(rng.random()), segments * each)))
            said.append((part * at, self.answer(assignment, final=False)))
        last: Timeline = {
            "failed": [(at, Failed(task, "ValueError: no"))],
            "memory": [(at, Failed(task, "OutOfMemoryError", memory=True))],
            "fatal": [(at, Failed(task, "CUDA error", fatal=True))],
            "dies": [(at, Gone())],
            "freezes": [(at, Freeze(self.answer(assignment, final=True), rng.random()))],
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


Shown = dict[tuple[str, int], list[Any]]
"""The first attempts at each output, as far as the model answered."""


class Best:
    """The best two of all that was answered, found anew and in another way: exact fractions, no help from the package.

    `history`: what a submission shows before the first answer and after each one.
    """

    def __init__(self, shown: Shown) -> None:
        self.history = [shown]
        self.final: dict[str, list[dict[bytes, list[tuple[Grid, int, Fraction]]]]] = {}
        self.latest: dict[str, tuple[tuple[Candidate, ...], ...]] = {}

    def add(self, assignment: Assignment, answer: Answer) -> None:
        task, outputs = answer.task, answer.outputs
        ranked: list[list[tuple[Grid, int, Fraction]]] = []
        if answer.final:
            if not any(outputs) and not assignment.restart:
                outputs = self.latest.get(task, outputs)
            if not any(outputs):  # it counts as failed
                return
            ballots = self.final.setdefault(task, [{} for _ in outputs])
            for ballot, output in zip(ballots, outputs, strict=True):
                for c in output:
                    ballot.setdefault(c.grid.tobytes(), []).append((c.grid, c.votes, Fraction(c.score)))
            for ballot in ballots:
                votes = {key: sum(n for _, n, _ in cast) for key, cast in ballot.items()}
                ranked.append([(cast[0][0], votes[k], sum(n * s for _, n, s in cast) / votes[k]) for k, cast in ballot.items()])
        elif assignment.restart == 0:
            self.latest[task] = outputs
            ranked = [[(c.grid, c.votes, Fraction(c.score)) for c in output] for output in outputs]
        shown = dict(self.history[-1])
        for k, candidates in enumerate(ranked):
            if candidates:  # an output without any keeps what it has
                best = sorted(candidates, key=lambda c: (-c[1], -c[2], c[0].tolist()))
                shown[task, k] = [grid.tolist() for grid, _, _ in best[:2]]
        self.history.append(shown)

    def missing(self, submission: dict[str, Any], told: int) -> list[str]:
        """Outputs that show neither what they should after `told` answers nor after any later one."""
        found = []
        for task, k in self.history[-1]:
            attempts = [submission[task][k][key] for key in ("attempt_1", "attempt_2")]
            may = [shown.get((task, k), []) for shown in self.history[told:]]
            if not any(attempts[: len(grids)] == grids for grids in may):
                found.append(f"{task} output {k} shows {attempts}, not one of {may}")
        return found


class Watched(StubPool):
    """A pool that checks the submission before anything happens, keeps what was answered, lets the clock jump and sends signals."""

    def __init__(self, time: Time, script: Script, fate: Fate, disk: Disk, submission: Path, best: Best) -> None:
        super().__init__(time, script)
        self.fate, self.disk, self.path, self.best = fate, disk, submission, best
        self.expected = {t.id: t for t in fate.tasks}
        self.jumps, self.latest_jump, self._known = list(fate.jumps), 0.0, b""

    def start(self, spec: WorkerSpec, now: float) -> None:
        self.disk.begun = True
        super().start(spec, now)

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        content = self.path.read_bytes()
        if content != self._known:
            assert faults(json.loads(content), self.expected) == []
            self._known = content
        if not self.fate.slow_disk and not self.fate.refused and not self.fate.full:
            assert self.best.missing(json.loads(content), len(self.best.history) - 1) == []
        if self.time.now >= self.fate.signal_at:
            self.fate.signal_at = np.inf
            signal.raise_signal(self.fate.rng.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGINT]))
        if self.jumps and self.time.now >= self.jumps[0][0]:
            _, length, workers_too = self.jumps.pop(0)
            self.time.now = self.latest_jump = self.time.now + length
            if workers_too:
                self._coming = [(at + length, *rest) for at, *rest in self._coming]
            return
        for member, message in super().listen(seconds):
            if isinstance(message, Answer) and member.assignment is not None:
                self.best.add(member.assignment, message)
            yield member, message


def restored(tasks: dict[str, Task], folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The submission that a run begins with that resumes the one in `folder`, and the tasks that it does not solve again."""
    store = AnswerStore(tasks, {}, folder / "restored.json")
    done = store.restore(read_run(folder / "run"))
    store.create()
    return json.loads((folder / "restored.json").read_text()), done


def live(fate: Fate, folder: Path, shown: Shown, last: bool) -> Shown | None:
    """One run of a schedule; returns what its run folder shows where it was killed."""
    fate.begin(last)
    time, tasks, tick = Time(), {t.id: t for t in fate.tasks}, max(0.5, (fate.budget or 0.0) / 400)
    done = restored(tasks, folder)[1] if shown else set()
    preset = replace(PRESET, budget=BudgetConfig(hang_seconds=fate.hang_seconds))
    pools, run = list[Watched](), None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "TICK_SECONDS", tick)
        patch.setattr(supervisor, "ASLEEP", max(10.0, 3 * tick))
        disk = Disk(fate, time, patch)

        def make_pool(time: Time, script: Script) -> StubPool:
            pools.append(Watched(time, script, fate, disk, folder / "submission.json", Best(shown)))
            return pools[0]

        with suppress(Killed):
            run = play(folder, Fateful(fate), fate.tasks, fate.devices, fate.budget, None if fate.budget else 7, preset, make_pool, time)
    (pool,) = pools
    record, (kept, _) = read_run(folder / "run"), restored(tasks, folder)
    events = told(record)
    events = events[max(k for k, e in enumerate(events) if e["event"] == "run_start") + 1 :]
    answered = sum(e["event"] in ("candidates", "task_final") for e in events)
    submission = json.loads((folder / "submission.json").read_text())
    assert faults(submission, tasks) == []
    assert fate.budget is None or time.now <= max(fate.budget, pool.latest_jump) + 1.0, "late"
    assert pool.dismissed_at is not None and not pool.members, "a worker is left behind"
    assert not done & {e["task"] for e in events}, "solved again"
    assert pool.best.missing(kept, answered) == [], "whoever resumes has all that was told"
    if run is None:
        return {(task, k): [*kept[task][k].values()][: len(grids)] for (task, k), grids in pool.best.history[-1].items()}
    if run.saved:
        assert pool.best.missing(submission, len(pool.best.history) - 1) == []
    if run.recorded:
        assert answered == len(pool.best.history) - 1 and pool.best.missing(kept, answered) == []
        check_events(events, [t for t in fate.tasks if t.id not in done], fate, run)
    return None


def check_events(events: list[dict[str, Any]], tasks: list[Task], fate: Fate, run: Played) -> None:
    """Every attempt that was begun has one end, and every task its answer or a reason why there is none."""
    starts, ends, left = Counter[tuple[str, bool]](), Counter[tuple[str, bool]](), Counter[str]()
    for event in events:
        key = event["task"], bool(event.get("restart"))
        starts[key] += event["event"] == "task_start"
        ends[key] += event["event"] == "task_final" or (event["event"] == "task_failed" and event["worker"] is not None)
        left[event["task"]] += event["event"] == "task_failed" and event["worker"] is None
    finals = Counter(e["task"] for e in events if e["event"] == "task_final" and not e.get("restart"))
    for task in (t.id for t in tasks):
        assert 0 <= starts[task, False] <= 2 and finals[task] <= 1 and left[task] <= 1
        unfinished = starts[task, False] - ends[task, False]
        assert unfinished in (0, 1) and (not unfinished or left[task]), "an attempt without an end"
        given_up = ends[task, False] - finals[task] == 2
        assert finals[task] + left[task] + given_up == 1, "every task has its answer, or is named as one that has none"
        assert not starts[task, True] or (finals[task] and fate.budget is not None), "only what has an answer is trained anew"
        assert starts[task, True] - ends[task, True] <= len(run.pool.started)


def test_whatever_happens(block: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no machine crashes here
    for seed in block:
        fate, shown = Fate(seed), dict[tuple[str, int], list[Any]]()
        try:
            for life in range(LIVES):
                left = live(fate, tmp_path / str(seed), shown, last=life == LIVES - 1)
                if left is None:
                    break
                shown = left
        except Exception as error:
            raise AssertionError(f"schedule {seed}, run {life}") from error
