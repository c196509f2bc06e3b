"""One real run of `solve` that is watched, wounded and started again, and what must hold of it all the while.

- The submission is read again and again from its first moment on: complete and valid at every look.
- Only processes that this one started are touched: the supervisor is our child, workers are found as the supervisor's children.
- Final answers are read from the run folder itself, line by line, without the package's own reader.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hrm_submit.arc.submission import ATTEMPT_KEYS, file_faults
from hrm_submit.arc.task import Task

LOOK_EVERY = 0.02
GONE_WITHIN = 30.0
"""Seconds in which workers must notice that their supervisor is gone."""

Best = Mapping[tuple[str, int], Sequence[Any]]
"""Of each output with a final answer the best grids (one or two), as lists of rows."""


@dataclass(frozen=True)
class Kill:
    """Who is killed, `"worker"` or `"supervisor"`, `at` how many seconds, after being `frozen` for so many (0: at once)."""

    who: str
    at: float
    frozen: float


class Lines:
    """The whole lines of one file of a run folder, those of killed runs among them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        lines = []
        for line in self._path.read_bytes().split(b"\n") if self._path.exists() else []:
            with suppress(ValueError):
                lines.append(json.loads(line))
        return lines


def final_answers(run_dir: Path, tasks: Mapping[str, Task]) -> Best:
    """The newest final candidates of every task that has them for all of its outputs."""
    newest: dict[tuple[str, int], list[Any]] = {}
    for line in Lines(run_dir / "predictions.jsonl").read():
        if line["final"]:
            newest[line["task"], line["output"]] = [c["grid"] for c in line["candidates"][:2]]
    whole = {name for name, task in tasks.items() if all((name, k) in newest for k in range(len(task.test)))}
    return {key: grids for key, grids in newest.items() if key[0] in whole}


def not_shown(submission: Any, best: Best) -> list[str]:
    """Outputs whose attempts do not begin with their best grids."""
    faults = []
    for (task, k), grids in best.items():
        attempts = [submission[task][k][key] for key in ATTEMPT_KEYS]
        if attempts[: len(grids)] != list(grids):
            faults.append(f"task {task}: output {k} no longer shows its final answer")
    return faults


class Looker(threading.Thread):
    """Reads a submission until told to stop; `faults` keeps what was wrong at any look. A file once there must stay there."""

    def __init__(self, submission: Path, tasks: Mapping[str, Task]) -> None:
        super().__init__(daemon=True)
        self.looks, self.faults = 0, list[str]()
        self.must_show: Best = {}
        self._submission, self._tasks = submission, tasks
        self._over = threading.Event()

    def run(self) -> None:
        there = False
        while not self._over.wait(LOOK_EVERY):
            there = there or self._submission.exists()
            if there:
                self.look()

    def look(self) -> None:
        """Look once."""
        best = self.must_show  # what must be shown by now is shown by what is read afterwards
        self.looks += 1
        faults = file_faults(self._submission, self._tasks)
        if not faults and best:
            faults = not_shown(json.loads(self._submission.read_bytes()), best)
        self.faults += [f for f in faults if f not in self.faults]

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


class Run:
    """A `solve` process in a session of its own, and the workers of it that were seen."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.began = time.monotonic()
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        self._seen: dict[int, psutil.Process] = {}

    @property
    def seconds(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.began

    def workers(self) -> list[psutil.Process]:
        """Workers that live; what else the supervisor has started (multiprocessing keeps a tracker) is none."""
        found = []
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):
                    if any("spawn_main" in word for word in child.cmdline()):
                        found.append(child)
                        self._seen[child.pid] = child
        return found

    def wait_until(self, seconds: float) -> bool:
        """Let it run until so many seconds after its start; False where it ended before."""
        while self.seconds < seconds:
            if self.process.poll() is not None:
                return False
            self.workers()
            time.sleep(min(0.05, max(0.0, seconds - self.seconds)))
        return self.process.poll() is None

    def kill(self, victim: psutil.Process, frozen: float) -> None:
        """SIGKILL, after SIGSTOP and `frozen` seconds where those are asked for."""
        with suppress(psutil.Error):
            if frozen:
                victim.suspend()
                self.wait_until(self.seconds + frozen)
            victim.kill()

    def kill_supervisor(self, frozen: float) -> None:
        """The same to the supervisor itself, and wait until it has ended."""
        self.kill(psutil.Process(self.process.pid), frozen)
        self.process.wait()

    def left_behind(self) -> list[int]:
        """Workers that still live so long after their supervisor has ended that they cannot have noticed it."""
        until = time.monotonic() + GONE_WITHIN
        while True:
            alive = [p.pid for p in self._seen.values() if _lives(p)]
            if not alive or time.monotonic() > until:
                return alive
            time.sleep(0.1)

    def clear(self) -> None:
        """Kill whatever is left of it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def solve_command(challenges: Path, folder: Path, options: Sequence[str]) -> list[str]:
    """The command line of a run whose submission, run folder and log lie in `folder`."""
    base = [sys.executable, "-m", "hrm_submit", "solve", "--devices", "cpu", "--challenges", str(challenges)]
    return [*base, "--output", str(folder / "submission.json"), "--run-dir", str(folder / "run"), *options]
