"""Whole runs with real workers: fixed work, kills, a full disk, and a time budget, each on tiny tasks and a tiny model."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.challenges import load_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.core.clock import Clock
from hrm_submit.core.runfolder import read_run
from hrm_submit.solve.run import SolveRequest, SolveSummary, solve
from tests.solve.lab import challenges, command, events, tiny, wait_for

TASKS, SEGMENTS = 4, 24
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")


def request(folder: Path, name: str, seed: int = 0, more: str = "", **changes: Any) -> SolveRequest:
    """Fixed work on the tasks of `folder`, into its subfolder `name`."""
    place = folder / name
    place.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "challenges": folder / "challenges.json",
        "output": place / "submission.json",
        "run_dir": place / "run",
        "checkpoint": None,
        "presets": tiny(place, more),
        "budget": None,
        "segments": SEGMENTS,
        "devices": "cpu",
        "tasks": None,
        "seed": seed,
    }
    return SolveRequest(**(values | changes))


def words(asked: SolveRequest) -> list[str]:
    """The same request as a command line."""
    options = ["--run-dir", str(asked.run_dir), "--preset", asked.presets, "--seed", str(asked.seed)]
    limit = ["--segments-per-task", str(asked.segments)] if asked.segments else ["--time-budget", f"{asked.budget}s"]
    return command(asked.challenges, asked.output, *options, *limit)


def valid(asked: SolveRequest) -> bool:
    return file_faults(asked.output, load_challenges(asked.challenges)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    challenges(place, TASKS)
    return place


@pytest.fixture(scope="module")
def reference(folder: Path) -> tuple[SolveRequest, SolveSummary]:
    """One worker, undisturbed."""
    asked = request(folder, "reference")
    return asked, solve(asked, Clock())


def losses(asked: SolveRequest) -> dict[tuple[str, int], float]:
    return {(e["task"], e["segments"]): e["loss"] for e in events(asked.run_dir, "progress")}


def test_a_run_answers_every_task_and_tells_of_it(reference: tuple[SolveRequest, SolveSummary]) -> None:
    asked, summary = reference
    assert (summary.tasks, summary.answered, summary.resumed, summary.faults) == (TASKS, TASKS, 0, ())
    assert valid(asked)
    record = read_run(asked.run_dir)
    assert record.damaged == []
    assert {"seed", "versions", "devices", "budget", "config"} <= set(record.run)
    assert record.run["devices"] == ["cpu"] and record.run["versions"]["torch"]
    kinds = [e["event"] for e in record.events]
    assert kinds[0] == "run_start" and kinds[1] == "plan" and kinds[-1] == "run_end"
    assert kinds.count("task_start") == kinds.count("task_final") == TASKS
    submission = json.loads(asked.output.read_text())
    for line in record.predictions:
        if line["final"]:
            assert line["candidates"][0]["grid"] == submission[line["task"]][line["output"]]["attempt_1"]


def test_two_workers_give_the_same_file_as_one(folder: Path, reference: tuple[SolveRequest, SolveSummary]) -> None:
    asked = request(folder, "two", more="[device]\nworkers = 2\n")
    solve(asked, Clock())
    assert len({e["worker"] for e in events(asked.run_dir, "task_start")}) == 2
    assert asked.output.read_bytes() == reference[0].output.read_bytes()
    assert losses(asked) == losses(reference[0])


def test_another_seed_gives_another_run(folder: Path, reference: tuple[SolveRequest, SolveSummary]) -> None:
    asked = request(folder, "seed", seed=1, tasks=("task00",))
    solve(asked, Clock())
    ours, theirs = losses(asked), losses(reference[0])
    shared = set(ours) & set(theirs)
    assert shared and all(ours[k] != theirs[k] for k in shared)


def test_tasks_that_are_not_asked_for_keep_their_fallback(folder: Path) -> None:
    asked = request(folder, "seed", seed=1, tasks=("task00",))  # the run of the test above, or a new one
    summary = solve(asked, Clock())
    assert (summary.tasks, summary.answered) == (TASKS, 1)
    assert valid(asked)
    assert {e["task"] for e in events(asked.run_dir, "task_start")} == {"task00"}


def children(pid: int) -> list[int]:
    """Worker processes of a supervisor, by the system's process table."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            line = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in line:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_a_killed_run_goes_on_where_it_was(folder: Path, reference: tuple[SolveRequest, SolveSummary]) -> None:
    asked = request(folder, "killed")
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: events(asked.run_dir, "task_final"), process)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert valid(asked), "complete and valid, whenever it was killed"
    before = {e["task"] for e in events(asked.run_dir, "task_final")}
    first = len(events(asked.run_dir))
    assert 0 < len(before) < TASKS, "killed in the middle"
    again = subprocess.run(words(asked), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    started = [e["task"] for e in events(asked.run_dir)[first:] if e["event"] == "task_start"]
    assert len(started) == TASKS - len(before) and not before & set(started), "no task with a final answer is done again"
    assert asked.output.read_bytes() == reference[0].output.read_bytes(), "as if it had never been killed"
    assert workers and not any(Path(f"/proc/{w}").exists() for w in workers), "without their supervisor they have ended by now"
    assert f"{len(before)} had their final answer from before" in again.stdout
    third = solve(asked, Clock())
    assert (third.resumed, third.answered) == (TASKS, TASKS)
    assert len(events(asked.run_dir, "task_start")) == TASKS + bool(interrupted(asked, first)), "nothing is left to do"


def interrupted(asked: SolveRequest, until: int) -> set[str]:
    """Tasks begun and not ended within the first `until` events."""
    early = events(asked.run_dir)[:until]
    return {e["task"] for e in early if e["event"] == "task_start"} - {e["task"] for e in early if e["event"] == "task_final"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_a_killed_worker_costs_one_attempt_of_its_task_and_no_answer(folder: Path, reference: tuple[SolveRequest, SolveSummary]) -> None:
    asked = request(folder, "worker")
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: events(asked.run_dir, "candidates"), process)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    (lost,) = events(asked.run_dir, "worker_exit")
    assert lost["code"] == -signal.SIGKILL and lost["reason"] == "worker died"
    attempts = Counter(e["task"] for e in events(asked.run_dir, "task_start"))
    assert attempts.pop(lost["task"]) == 2 and set(attempts.values()) == {1}
    assert len(events(asked.run_dir, "retry")) == 1
    assert out.startswith(f"{TASKS} of {TASKS} tasks answered by the model")
    assert asked.output.read_bytes() == reference[0].output.read_bytes()


class Looker(threading.Thread):
    """Looks at a submission file again and again until its run ends, and keeps the faults that it finds."""

    def __init__(self, asked: SolveRequest, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.looks, self.faults = 0, []
        self._asked, self._process, self._tasks = asked, process, load_challenges(asked.challenges)

    def run(self) -> None:
        while self._process.poll() is None:
            self.faults.extend(file_faults(self._asked.output, self._tasks))
            self.looks += 1
            time.sleep(0.01)


def test_a_time_budget_is_kept_with_every_task_answered_and_the_file_valid_at_every_moment(tmp_path: Path) -> None:
    challenges(tmp_path, 20)
    early = "[device]\nworkers = 2\n[ttt]\npatience = 1\nagreement = 0.5\nfit = 0.5\n"
    asked = request(tmp_path, "timed", more=early, budget=60, segments=None)
    began = time.monotonic()
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(asked.output.exists, process)
    looker = Looker(asked, process)
    looker.start()
    out, err = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    looker.join()
    assert process.returncode == 0 and "Traceback" not in err, err
    assert seconds <= 60, "from the start of the interpreter to its end"
    assert looker.looks > 50 and looker.faults == []
    assert out.startswith("20 of 20 tasks answered by the model")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_a_frozen_worker_does_not_hold_up_the_end(tmp_path: Path) -> None:
    challenges(tmp_path, 2)
    asked = request(tmp_path, "frozen", budget=20, segments=None)
    began = time.monotonic()
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: events(asked.run_dir, "candidates"), process)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGSTOP)
    process.communicate(timeout=120)
    assert process.returncode == 0 and time.monotonic() - began <= 20
    assert valid(asked) and events(asked.run_dir, "run_end")[0]["answered"] == 1
    assert not Path(f"/proc/{worker}").exists(), "no process is left behind"


def test_a_full_disk_costs_no_answer_that_fits(tmp_path: Path) -> None:
    """The run's files may grow to some hundred bytes only: its events overflow, its submission does not."""
    challenges(tmp_path, 1)
    asked = request(tmp_path, "full")

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    done = subprocess.run(words(asked), capture_output=True, text=True, check=False, preexec_fn=fill)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith("1 of 1 tasks answered by the model")
    assert valid(asked)
    record = read_run(asked.run_dir)
    assert not [e for e in record.events if e["event"] == "run_end"], "the example must overflow"
    assert [d for d in record.damaged if not d.startswith("run.json")] == [], "what was written is whole"
