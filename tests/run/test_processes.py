"""Whole runs with real workers: fixed work, kills, a full disk, and a time budget, each on tiny tasks and a tiny model."""

import hashlib
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from hrm_submit.arc.submission import file_faults
from hrm_submit.core.clock import Clock
from hrm_submit.corpora.sources import load
from hrm_submit.model.packaged import CHECKPOINTS
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.predict.rank import rank
from hrm_submit.predict.raw import load_raw
from hrm_submit.record.folder import read_run, weights_of
from hrm_submit.report.data import load_run
from hrm_submit.report.page import cards
from hrm_submit.report.tables import make_tables
from hrm_submit.run.options import RANDOM_WEIGHTS, SolveOptions
from hrm_submit.run.solve import solve
from tests.run.lab import Reader, challenges, command, events, tiny, tiny_preset, wait_for, workers
from tests.shared import made_once, write_weights

TASKS, SEGMENTS = 4, 30
WITHOUT_TORCH = (
    "import sys; from hrm_submit.cli import main; status = main(sys.argv[1:]); sys.exit(9 if 'torch' in sys.modules else status)"
)
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")


def options_in(folder: Path, name: str, more: str = "", **changes: Any) -> SolveOptions:
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
    }
    return SolveOptions(**(values | changes))


def arguments(options: SolveOptions) -> list[str]:
    """The same options as a command line."""
    given = ["--run-dir", str(options.run_dir), "--preset", options.presets, "--checkpoint", str(options.checkpoint)]
    given += ["--seed", str(options.seed)]
    limit = ["--segments-per-task", str(options.segments)] if options.segments else ["--time-budget", f"{options.budget}s"]
    return command(options.challenges, options.output, *given, *limit)


def begun(options: SolveOptions) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments(options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def valid(options: SolveOptions) -> bool:
    return file_faults(options.output, load(options.challenges)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks, and in `reference` what one worker makes of them undisturbed."""

    def make(place: Path) -> None:
        challenges(place, TASKS)
        solve(options_in(place, "reference"), Clock())

    return made_once(tmp_path_factory, "runs", make)


@pytest.fixture
def reference(folder: Path) -> SolveOptions:
    return options_in(folder, "reference")


def losses(options: SolveOptions) -> dict[tuple[str, int], float]:
    return {(e["task"], e["segments"]): e["loss"] for e in events(options.run_dir, "progress")}


def test_two_workers_make_the_same_file_as_one_and_record_all_that_it_was_made_of(folder: Path, reference: SolveOptions) -> None:
    options = options_in(folder, "two", more="[device]\nworkers = 2\n[vote]\nsave_raw = true\n")
    summary = solve(options, Clock())
    assert (summary.tasks, summary.answered, summary.resumed, summary.faults) == (TASKS, TASKS, 0, ())
    assert valid(options) and options.output.read_bytes() == reference.output.read_bytes()
    assert losses(options) == losses(reference)
    record = read_run(options.run_dir)
    assert record.damaged == []
    assert {"seed", "versions", "devices", "budget", "config"} <= set(record.run)
    assert record.run["devices"] == ["cpu"] * 2 and record.run["versions"]["torch"]
    kinds = [e.kind for e in record.events]
    assert kinds[0] == "run_start" and kinds[1] == "plan" and kinds[-1] == "run_end"
    assert kinds.count("task_start") == kinds.count("task_final") == TASKS
    assert {e.worker for e in record.events if e.kind == "task_start"} == {0, 1}
    submission = json.loads(options.output.read_text())
    for line in record.predictions:
        if line.final:
            assert line.candidates[0].grid.tolist() == submission[line.task][line.output]["attempt_1"]
            raw = load_raw(options.run_dir / "raw" / f"{line.task}.npz")
            pooled = {c.key: c.votes for c in line.candidates}
            assert all(c.votes <= pooled[c.key] for c in rank(raw.of_output(0), "composite")), "mid-run votes count too"


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["nano", "arc-agi-2"])
def test_fixed_work_gives_the_same_bytes_again_by_two_workers_and_after_a_kill(tmp_path: Path, weights: str) -> None:
    challenges(tmp_path, 3)
    files: dict[str, bytes] = {}
    reported: dict[str, dict[tuple[str, int], float]] = {}
    for name, n in (("first", 1), ("again", 1), ("two workers", 2), ("killed", 1)):
        layer = tmp_path / f"{n}.toml"
        layer.write_text(f"[device]\nworkers = {n}\n")
        options = options_in(tmp_path, name, checkpoint=str(CHECKPOINTS / f"{weights}.safetensors"), presets=str(layer), segments=4)
        if name == "killed":
            process = begun(options)
            wait_for(partial(final, options), process)
            process.kill()
            process.wait()
            assert 0 < len(final(options)) < 3, "killed in the middle"
        solve(options, Clock())
        files[name], reported[name] = options.output.read_bytes(), losses(options)
    assert all(content == files["first"] for content in files.values()), "byte for byte"
    assert all(found == reported["first"] != {} for found in reported.values())


def final(options: SolveOptions) -> set[str]:
    """Tasks whose final answer is in the run folder."""
    return {p.task for p in read_run(options.run_dir).predictions if p.final} if options.run_dir.is_dir() else set()


def test_kills_of_workers_and_of_the_supervisor_cost_an_attempt_each_and_no_answer(folder: Path, reference: SolveOptions) -> None:
    """Of two workers one gets SIGKILL, which is noticed at once, the other SIGSTOP, which is noticed by its silence; then the supervisor
    is killed, and the run resumes."""
    options = options_in(folder, "killed", more="[device]\nworkers = 2\n[budget]\nhang_seconds = 5.0\n")
    process = begun(options)
    wait_for(lambda: events(options.run_dir, "candidates"), process)
    number = events(options.run_dir, "candidates")[0]["worker"]
    pids = workers(process.pid)
    killed, frozen = pids[number], pids[1 - number]
    killed.kill()
    wait_for(lambda: [e for e in events(options.run_dir, "candidates") if e["worker"] == 1 - number], process)
    frozen.suspend()
    wait_for(lambda: len(events(options.run_dir, "worker_exit")) == 2 and final(options), process)
    left = workers(process.pid)
    left[0].suspend()  # it is still there when the run resumes, and must not keep the folder locked
    process.kill()
    process.wait()
    assert valid(options), "complete and valid, whenever it was killed"
    first, second = events(options.run_dir, "worker_exit")
    assert (first["reason"], first["code"], first["worker"]) == ("worker died", -signal.SIGKILL, number)
    assert (second["reason"], second["worker"]) == ("worker hangs", 1 - number)
    assert [e["task"] for e in events(options.run_dir, "retry")] == [first["task"], second["task"]]
    attempts = Counter(e["task"] for e in events(options.run_dir, "task_start"))
    assert first["task"] != second["task"] and all(n == 1 or task in (first["task"], second["task"]) for task, n in attempts.items())

    before, n_events = final(options), len(events(options.run_dir))
    assert 0 < len(before) < TASKS, "killed in the middle"
    again = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments(options)[3:]], capture_output=True, text=True, check=False)
    left[0].resume()
    assert again.returncode == 0 and "Traceback" not in again.stderr, again.stderr
    assert f"{len(before)} had their final answer from before" in again.stdout
    started = [e["task"] for e in events(options.run_dir)[n_events:] if e["event"] == "task_start"]
    assert len(started) == TASKS - len(before) and not before & set(started), "no task with a final answer is done again"
    assert options.output.read_bytes() == reference.output.read_bytes(), "as if nothing had been killed"
    assert not psutil.wait_procs([killed, frozen, *left], timeout=30.0)[1], "no process is left behind"
    third = solve(options, Clock())
    assert (third.resumed, third.answered) == (TASKS, TASKS)
    assert len(events(options.run_dir, "task_start")) == sum(attempts.values()) + len(started), "nothing is left to do"


def test_a_time_budget_is_kept_with_every_task_answered_and_the_file_valid_at_every_moment(tmp_path: Path) -> None:
    challenges(tmp_path, 8)
    early = "[device]\nworkers = 2\n[ttt]\npatience = 1\nagreement = 0.5\nfit = 0.5\n"
    options = options_in(tmp_path, "timed", more=early, budget=30.0, segments=None)
    reader = Reader(options.output, options.challenges)
    reader.start()
    began, process = time.monotonic(), begun(options)
    out, err = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    reader.over.set()
    reader.join()
    assert process.returncode == 0 and "Traceback" not in err, err
    assert seconds <= 30, "from the start of the interpreter to its end"
    assert reader.reads > 50 and not reader.faults
    assert out.startswith("8 of 8 tasks answered by the model")


def test_members_train_each_task_in_turn_and_the_record_tells_who(folder: Path) -> None:
    model = tiny_preset(folder).model
    first, second = (write_weights(folder / f"{name}.safetensors", model, seed) for seed, name in enumerate(("first", "second")))
    options = options_in(folder, "members", more=f'[solve]\nmembers = ["{second}"]\n', checkpoint=first)
    subprocess.run(arguments(options), capture_output=True, check=True)
    described = json.loads((options.run_dir / "run.json").read_text())
    assert weights_of(described) == [str(first), str(second)]
    assert described["members"][0]["checkpoint_sha256"] == hashlib.sha256(second.read_bytes()).hexdigest()
    for task in load(options.challenges):
        story = [e for e in events(options.run_dir, "progress") if e["task"] == task]
        assert [e["member"] for e in story] == sorted(e["member"] for e in story) and {e["member"] for e in story} == {"first", "second"}
        assert story[-1]["segments"] == SEGMENTS
    assert {e["member"] for e in events(options.run_dir, "task_final")} == {"second"} and valid(options)
    data = load_run(options.run_dir)
    for card in cards(data, make_tables(data)):
        assert re.fullmatch(r"first [\d.]+ ?%, second [\d.]+ ?%", str(card["training"]["of each member"]))


def test_weights_that_are_not_finite_end_the_run_at_once_in_one_line_that_names_them(folder: Path) -> None:
    options = options_in(folder, "nan", more="[device]\nworkers = 2\n", checkpoint=folder / "nan.safetensors")
    weights = snapshot(*build(tiny_preset(folder).model), CheckpointMeta())
    weights.state["q_bias"].fill_(math.nan)
    save_checkpoint(options.checkpoint, weights)
    done = subprocess.run(arguments(options), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.startswith(f"0 of {TASKS} tasks answered by the model")
    assert done.stderr.splitlines() == [f"{options.checkpoint}: tensor 'model.q_bias' has values that are not finite"]
    assert valid(options) and len(events(options.run_dir, "worker_start")) == 2, "each worker is started once"
