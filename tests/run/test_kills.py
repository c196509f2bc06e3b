"""Real runs that lose workers, their supervisor or both at random moments, some after a while of SIGSTOP: each keeps its promises.

A supervisor gets SIGKILL, or SIGTERM, which it answers by saving.

    python -m pytest tests/run/test_kills.py -m slow --trials 30

The submission is read dozens of times a second and is complete and valid each time; a run ends within its budget; a final answer that an
event tells stays, and its task is not solved again; no worker is left behind. The run folder is read without the package's reader.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.run.lab import Reader, challenges, changed, command, events, tiny, workers

BUDGET = 20.0
TASKS = 6
GONE_WITHIN = 30.0
"""Seconds in which workers must notice that their supervisor is gone."""
LAYER = "[budget]\nhang_seconds = 5.0\n[device]\nworkers = 2\n[ttt]\npatience = 1000\n"
"""Silence is noticed soon, two workers are there to be killed, and no task ends early, so that a kill meets the run at work."""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("trial", range(metafunc.config.getoption("trials")))


def final_answers(run_dir: Path) -> dict[tuple[str, int], list[Any]]:
    """Return the best two grids of each output's newest final answer."""
    path, found = run_dir / "predictions.jsonl", {}
    for text in path.read_bytes().split(b"\n") if path.exists() else []:
        with suppress(ValueError):  # a line that a kill has cut
            line = json.loads(text)
            if line["final"]:
                found[line["task"], line["output"]] = [c["grid"] for c in line["candidates"][:2]]
    return found


def kill(victim: psutil.Process, frozen: float) -> None:
    """Kill a process, after `frozen` seconds of SIGSTOP."""
    with suppress(psutil.Error):
        victim.suspend()
        time.sleep(frozen)
        victim.kill()


def test_a_run_that_is_killed_keeps_its_promises(trial: int, tmp_path: Path) -> None:
    rng, kind = np.random.default_rng(trial), ("worker", "supervisor", "both")[trial % 3]
    file, submission, run_dir = challenges(tmp_path, TASKS), tmp_path / "submission.json", tmp_path / "run"
    options = ["--run-dir", str(run_dir), "--preset", tiny(tmp_path, LAYER), "--time-budget", f"{BUDGET}s", "--seed", str(trial)]
    reader, started, all_workers = Reader(submission, file), list[subprocess.Popen[bytes]](), list[psutil.Process]()

    def solve() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(command(file, submission, *options), stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    try:
        reader.start()
        began, run = time.monotonic(), solve()
        n = {"worker": int(rng.integers(1, 4)), "supervisor": 0, "both": int(rng.integers(1, 3))}[kind]
        # Workers are there when libraries are loaded, a supervisor is from the first moment on.
        times = sorted(rng.uniform(0.2 if n else 0.03, 0.9, n + (kind != "worker")) * BUDGET)
        killed = False
        for number, at in enumerate(times):
            while time.monotonic() - began < at and run.poll() is None:
                time.sleep(0.02)
            if run.poll() is not None:
                break  # it has ended before the next kill
            alive = workers(run.pid)
            all_workers += alive
            frozen = float(rng.uniform(0.2, 3.0)) if rng.random() < 1 / 3 else 0.0
            if number == n:  # the last one is the supervisor
                killed = True
                if rng.random() < 1 / 3:
                    run.terminate()
                    assert run.wait(BUDGET) in (-signal.SIGTERM, 130, 0)
                    assert not changed(submission, final_answers(run_dir)), "saved before it ended"
                else:
                    kill(psutil.Process(run.pid), frozen)
                    run.wait()
            elif alive:
                kill(alive[rng.integers(len(alive))], frozen)
        final, before = final_answers(run_dir), len(events(run_dir))
        done = {task for task, _ in final} if killed else set()
        assert not killed or {e["task"] for e in events(run_dir, "task_final")} <= done, "told, but lost"
        if killed:
            began, run = time.monotonic(), solve()
        while run.poll() is None and time.monotonic() - began < 3 * BUDGET:
            if killed and len(events(run_dir)) > before:
                reader.final = final  # the resumed run has written its first file
            all_workers += workers(run.pid)
            time.sleep(0.1)
        seconds = time.monotonic() - began
        assert run.poll() in (0, 1) and seconds <= BUDGET, (run.poll(), seconds, (tmp_path / "log").read_text())
        assert run.poll() == 0 or not final_answers(run_dir), "status 1 says that no task has an answer of the model"
        again = {e["task"] for e in events(run_dir)[before:] if e["event"] == "task_start"}
        assert not again & done, "solved again"
        _, left = psutil.wait_procs(set(all_workers), GONE_WITHIN)
        assert not left, f"left behind: {left}"
        reader.over.set()
        reader.join()
        assert reader.reads > 50 and not reader.faults and not changed(submission, final_answers(run_dir))
    finally:
        reader.over.set()
        for process in started:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
