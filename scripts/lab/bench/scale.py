"""What the supervisor itself costs, by the number of workers and of tasks: whole runs played on a clock that jumps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.run.cost import segment_work
from hrm_submit.run.protocol import Assignment, WorkerSpec
from hrm_submit.run.supervisor import Supervisor
from hrm_submit.run.worker_pool import PooledWorker
from lab.bench.rows import Row
from lab.budget.recording import Recording
from lab.budget.replay import Faults, Pretended, replay

WORKERS = (10, 100, 1000)
TASKS = (400, 10_000)
"""Of more, as of 100,000 tasks, it is asked by hand: `python -m lab.bench.scale 1000 100000`, in this folder, takes half an hour."""
SECONDS_A_TASK = 60.0
"""Of a worker, on average: the budget of a run is that times its tasks over its workers, and a start."""
START = 10.0
SCRIPTS = Path(__file__).resolve().parents[2]


def rows() -> list[Row]:
    """A row for each number of workers and of tasks, each measured in a process of its own; each worker has several tasks."""
    found = []
    for workers in WORKERS:
        for tasks in TASKS:
            if tasks > 2 * workers:
                command = [sys.executable, "-m", "lab.bench.scale", str(workers), str(tasks)]
                said = subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True, text=True).stdout
                figures = json.loads(said.splitlines()[-1])
                value = figures.pop("milliseconds_a_decision")
                found.append(Row("growth", f"supervisor, {workers} workers, {tasks} tasks", value, "ms a decision", more=figures))
    return found


class Timed(Pretended):
    """A pool that counts the seconds that are its own, so that what remains is the supervisor's, and what it gave out."""

    own = 0.0
    given = 0

    def start(self, spec: WorkerSpec, now: float) -> None:
        began = time.process_time()
        super().start(spec, now)
        self.own += time.process_time() - began

    def give(self, member: PooledWorker, work: Assignment, now: float) -> bool:
        began = time.process_time()
        taken = super().give(member, work, now)
        self.own += time.process_time() - began
        self.given += 1
        return taken

    def listen(self, seconds: float) -> Iterator[tuple[PooledWorker, Any]]:
        began = time.process_time()
        messages = list(super().listen(seconds))
        self.own += time.process_time() - began
        return iter(messages)


class Watched(Supervisor):
    """The real one, and the CPU seconds from its first worker to its last answer."""

    seconds = 0.0

    def run(self) -> None:
        began = time.process_time()
        super().run()
        Watched.seconds = time.process_time() - began


def measure(workers: int, tasks: int) -> dict[str, float]:
    """Play a run, and say what its supervisor took."""
    preset = load_preset("nano")
    recording = Recording(preset, settled_after=[None, 40, None, 200], start_ups=[START], set_ups=[0.1])
    for side in (5, 20):
        recording.segment.observe(segment_work(preset.model, preset.ttt, side * side), side / 50, 10)
        recording.view.observe(segment_work(preset.model, preset.ttt, side * side), side / 500, 10)
    rng = np.random.default_rng(0)
    made = [_task(f"t{number:06d}", rng) for number in range(tasks)]
    budget = START + SECONDS_A_TASK * tasks / workers
    pool = Timed(recording, preset, Faults(), seed=0)
    with TemporaryDirectory() as folder:
        record = replay(recording, preset, made, ["cpu"] * workers, budget, Path(folder), pool=pool, supervisor=Watched)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    finals = [event for event in record.events if event.kind == "task_final"]
    used = sum(getattr(event, "seconds", 0.0) or 0.0 for event in finals)
    return {
        "milliseconds_a_decision": 1000 * (Watched.seconds - pool.own) / max(1, pool.given),
        "decisions": pool.given,
        "answered": len({event.task for event in finals}),
        "budget_used": used / (workers * budget),
        "megabytes_left": written / 1e6,
        "peak_megabytes": _peak_megabytes(),
    }


def _task(name: str, rng: np.random.Generator) -> Task:
    side = int(rng.integers(3, 21))
    grid = make_grid(rng.integers(0, 10, (side, side)))
    return Task(name, (Pair(grid, grid),) * int(rng.integers(2, 5)), (grid,))


def _peak_megabytes() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
