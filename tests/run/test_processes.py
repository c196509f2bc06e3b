"""Whole runs with real workers: fixed work, kills, a full disk, and a time budget, each on tiny tasks and a tiny model."""

from __future__ import annotations

import json
import os
import pickle
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
from hrm_submit.record.folder import read_run
from hrm_submit.run.options import RANDOM_WEIGHTS, SolveOptions
from hrm_submit.run.solve import SolveSummary, solve
from tests.run.lab import challenges, command, events, tiny, wait_for
from tests.shared import made_once

TASKS, SEGMENTS = 4, 30
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")


def request(folder: Path, name: str, seed: int = 0, more: str = "", **changes: Any) -> SolveOptions:
    """Fixed work on the tasks of `folder`, into its subfolder `name`."""
    place = folder / name
    place.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "challenges": folder / "challenges.json",
        "output": place / "submission.json",
        "run_dir": place / "run",
        "checkpoint": RANDOM_WEIGHTS,
        "presets": tiny(place, more),
        "segments": SEGMENTS,
        "devices": "cpu",
        "seed": seed,
    }
    return SolveOptions(**(values | changes))


def words(asked: SolveOptions) -> list[str]:
    """The same request as a command line."""
    options = ["--run-dir", str(asked.run_dir), "--preset", asked.presets, "--seed", str(asked.seed)]
    limit = ["--segments-per-task", str(asked.segments)] if asked.segments else ["--time-budget", f"{asked.budget}s"]
    return command(asked.challenges, asked.output, *options, *limit)


def valid(asked: SolveOptions) -> bool:
    return file_faults(asked.output, load_challenges(asked.challenges)) == []


def undisturbed(place: Path) -> None:
    """Write the tasks, and what one worker makes of them."""
    challenges(place, TASKS)
    (place / "summary").write_bytes(pickle.dumps(solve(request(place, "reference"), Clock())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "runs", undisturbed)


@pytest.fixture(scope="module")
def reference(folder: Path) -> tuple[SolveOptions, SolveSummary]:
    """One worker, undisturbed."""
    summary: SolveSummary = pickle.loads((folder / "summary").read_bytes())
    return request(folder, "reference"), summary


def losses(asked: SolveOptions) -> dict[tuple[str, int], float]:
    return {(e["task"], e["segments"]): e["loss"] for e in events(asked.run_dir, "progress")}


def test_a_run_answers_every_task_and_tells_of_it(reference: tuple[SolveOptions, SolveSummary]) -> None:
    asked, summary = reference
    assert (summary.tasks, summary.answered, summary.resumed, summary.faults) == (TASKS, TASKS, 0, ())
    assert valid(asked)
    record = read_run(asked.run_dir)
    assert record.damaged == []
    assert {"seed", "versions", "devices", "budget", "config"} <= set(record.run)
    assert record.run["devices"] == ["cpu"] and record.run["versions"]["torch"]
    kinds = [e.kind for e in record.events]
    assert kinds[0] == "run_start" and kinds[1] == "plan" and kinds[-1] == "run_end"
    assert kinds.count("task_start") == kinds.count("task_final") == TASKS
    submission = json.loads(asked.output.read_text())
    for line in record.predictions:
        if line.final:
            assert line.candidates[0].grid.tolist() == submission[line.task][line.output]["attempt_1"]


def test_two_workers_give_the_same_file_as_one(folder: Path, reference: tuple[SolveOptions, SolveSummary]) -> None:
    asked = request(folder, "two", more="[device]\nworkers = 2\n")
    solve(asked, Clock())
    assert len({e["worker"] for e in events(asked.run_dir, "task_start")}) == 2
    assert asked.output.read_bytes() == reference[0].output.read_bytes()
    assert losses(asked) == losses(reference[0])


def children(pid: int) -> list[int]:
    """Worker processes of a supervisor, by the system's process table, in the order in which they were started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            line = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in line:
            found.append(int(stat.parent.name))
    return sorted(found)


@needs_proc
def test_a_killed_run_goes_on_where_it_was(folder: Path, reference: tuple[SolveOptions, SolveSummary]) -> None:
    asked = request(folder, "killed")
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: final(asked), process)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert valid(asked), "complete and valid, whenever it was killed"
    before = final(asked)
    first = len(events(asked.run_dir))
    assert 0 < len(before) < TASKS, "killed in the middle"
    again = subprocess.run(words(asked), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    started = [e["task"] for e in events(asked.run_dir)[first:] if e["event"] == "task_start"]
    assert len(started) == TASKS - len(before) and not before & set(started), "no task with a final answer is done again"
    assert asked.output.read_bytes() == reference[0].output.read_bytes(), "as if it had never been killed"
    assert workers and not any(Path(f"/proc/{w}").exists() for w in workers), "without their supervisor they have ended by now"
    assert f"{len(before)} had their final answer from before" in again.stdout
    starts = events(asked.run_dir, "task_start")
    third = solve(asked, Clock())
    assert (third.resumed, third.answered) == (TASKS, TASKS)
    assert events(asked.run_dir, "task_start") == starts, "nothing is left to do"


def final(asked: SolveOptions) -> set[str]:
    """Tasks whose final answer is in the run folder. That waits for the submission file, so that `task_final` may come before it."""
    return {p.task for p in read_run(asked.run_dir).predictions if p.final} if asked.run_dir.is_dir() else set()


@needs_proc
def test_a_killed_and_a_frozen_worker_cost_an_attempt_each_and_no_answer(
    folder: Path, reference: tuple[SolveOptions, SolveSummary]
) -> None:
    """Of two workers one gets SIGKILL, which is noticed at once, the other SIGSTOP, which is noticed by its silence."""
    asked = request(folder, "worker", more="[device]\nworkers = 2\n[budget]\nhang_seconds = 5.0\n")
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: events(asked.run_dir, "candidates"), process)
    number = events(asked.run_dir, "candidates")[0]["worker"]
    pids = children(process.pid)
    killed, frozen = pids[number], pids[1 - number]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: [e for e in events(asked.run_dir, "candidates") if e["worker"] == 1 - number], process)
    os.kill(frozen, signal.SIGSTOP)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    first, second = events(asked.run_dir, "worker_exit")
    assert (first["reason"], first["code"], first["worker"]) == ("worker died", -signal.SIGKILL, number)
    assert (second["reason"], second["worker"]) == ("worker hangs", 1 - number)
    attempts = Counter(e["task"] for e in events(asked.run_dir, "task_start"))
    lost = {first["task"], second["task"]}
    assert len(lost) == 2 and attempts == {f"task{k:02d}": 1 + (f"task{k:02d}" in lost) for k in range(TASKS)}
    assert [e["task"] for e in events(asked.run_dir, "retry")] == [first["task"], second["task"]]
    assert out.startswith(f"{TASKS} of {TASKS} tasks answered by the model")
    assert asked.output.read_bytes() == reference[0].output.read_bytes()
    assert not any(Path(f"/proc/{worker}").exists() for worker in (killed, frozen)), "no process is left behind"


class Looker(threading.Thread):
    """Looks at a submission file again and again until its run ends, and keeps the faults that it finds."""

    def __init__(self, asked: SolveOptions, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.looks, self.faults = 0, []
        self._asked, self._process, self._tasks = asked, process, load_challenges(asked.challenges)

    def run(self) -> None:
        while self._process.poll() is None:
            self.faults.extend(file_faults(self._asked.output, self._tasks))
            self.looks += 1
            time.sleep(0.01)


def test_a_time_budget_is_kept_with_every_task_answered_and_the_file_valid_at_every_moment(tmp_path: Path) -> None:
    challenges(tmp_path, 16)
    early = "[device]\nworkers = 2\n[ttt]\npatience = 1\nagreement = 0.5\nfit = 0.5\n"
    asked = request(tmp_path, "timed", more=early, budget=45, segments=None)
    began = time.monotonic()
    process = subprocess.Popen(words(asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(asked.output.exists, process)
    looker = Looker(asked, process)
    looker.start()
    out, err = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    looker.join()
    assert process.returncode == 0 and "Traceback" not in err, err
    assert seconds <= 45, "from the start of the interpreter to its end"
    assert looker.looks > 50 and looker.faults == []
    assert out.startswith("16 of 16 tasks answered by the model")


def test_a_full_disk_costs_no_answer_that_fits(folder: Path, reference: tuple[SolveOptions, SolveSummary]) -> None:
    """The run's files may grow to some hundred bytes only: its events overflow, its submission does not.

    One task of the file is asked for, with another seed: the others keep their fallback, and nothing is as it was.
    """
    asked = request(folder, "full", seed=1, tasks=("task00",))

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))

    done = subprocess.run([*words(asked), "--tasks", "task00"], capture_output=True, text=True, check=False, preexec_fn=fill)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith(f"1 of {TASKS} tasks answered by the model, {TASKS - 1} by fallback")
    assert valid(asked)
    record = read_run(asked.run_dir)
    assert not [e for e in record.events if e.kind == "run_end"], "the example must overflow"
    assert [d for d in record.damaged if not d.startswith("run.json")] == [], "what was written is whole"
    assert {e["task"] for e in events(asked.run_dir, "task_start")} == {"task00"}
    ours, theirs = losses(asked), losses(reference[0])
    assert ours and all(value != theirs[key] for key, value in ours.items()), "another seed"
