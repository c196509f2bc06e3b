"""A supervisor on a clock that a test moves, with workers that do what a script says, and what such a run leaves behind."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrm_submit.arc.submission import faults
from hrm_submit.arc.task import Task
from hrm_submit.config.schema import BudgetConfig, Preset
from hrm_submit.core.clock import Clock
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.record.events import RunStart
from hrm_submit.record.folder import RunRecord, RunWriter, read_run
from hrm_submit.run.answers import AnswerStore
from hrm_submit.run.progress_bars import ProgressBars
from hrm_submit.run.protocol import WorkerSpec
from hrm_submit.run.supervisor import Supervisor
from tests.events import told
from tests.run.fake_pool import Script, StubPool, Time
from tests.run.lab import recolour

PRESET = Preset(budget=BudgetConfig(reserve=0.02, reserve_min_seconds=2.0, hang_seconds=60.0))
BUDGET, SHARES_END, HARD_END = 100.0, 98.0, 99.0
"""Seconds of a run unless it says otherwise, and when by `PRESET` its shares and the run itself end."""


@dataclass
class Played:
    """What a run left behind."""

    pool: StubPool
    record: RunRecord
    submission: dict[str, Any]
    seconds: float
    saved: bool
    """The submission file has all answers."""
    recorded: bool
    """The run folder has everything."""
    abandoned: int
    """Tasks without a final answer though time was left."""

    def events(self, event: str, task: str | None = None) -> list[dict[str, Any]]:
        return [e for e in told(self.record, event) if task in (None, e["task"])]

    def first(self, task: str) -> list[list[int]]:
        """The first attempt at the first output."""
        grid: list[list[int]] = self.submission[task][0]["attempt_1"]
        return grid

    def shares(self) -> list[tuple[str, float]]:
        """Tasks in the order in which they were begun, with the seconds they were given."""
        return [(a.task.id, -1.0 if a.seconds is None else round(a.seconds, 6)) for _, _, a in self.pool.assigned]


def play(
    folder: Path,
    script: Script,
    tasks: int | list[Task] = 4,
    devices: tuple[str, ...] = ("cpu",),
    budget: float | None = BUDGET,
    segments: int | None = None,
    preset: Preset = PRESET,
    make_crew: Callable[[Time, Script], StubPool] = StubPool,
    time: Time | None = None,
    other_settings: bool = False,
) -> Played:
    """Run a supervisor in `folder`, or resume the run that was killed there, perhaps one of `other_settings`; fails where the submission is
    not valid in the end."""
    folder.mkdir(exist_ok=True)
    time = time or Time()
    pool = make_crew(time, script)
    clock = Clock(budget, source=time)
    todo = [recolour(f"t{k}", k) for k in range(tasks)] if isinstance(tasks, int) else tasks
    by_id = {t.id: t for t in todo}
    store = AnswerStore(by_id, {}, folder / "submission.json")
    earlier = read_run(folder / "run") if (folder / "run").is_dir() else None
    done = store.restore(earlier) if earlier else set()
    store.create()
    specs = [WorkerSpec(k, device, (EnsembleMember("one", preset, None),), 0) for k, device in enumerate(devices)]
    writer = RunWriter(folder / "run", clock.elapsed)
    writer.event(RunStart(budget=budget, tasks=len(todo), broken=[], resumed=len(done)))
    todo = [task for task in todo if task.id not in done]
    supervisor = Supervisor(todo, segments, specs, store, writer, clock, ProgressBars(len(todo)), pool, None if other_settings else earlier)
    with suppress(KeyboardInterrupt):
        supervisor.run()
    saved, recorded = not store.save(last=True), writer.flush()
    submission = json.loads((folder / "submission.json").read_text())
    assert not faults(submission, by_id)
    return Played(pool, read_run(folder / "run"), submission, time.now, saved, recorded, supervisor.abandoned)
