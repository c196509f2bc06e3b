"""Planning ahead: what run folders tell, runs that are only played, and the command that does both."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hrm_submit.arc.challenges import load_challenges, write_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import make_grid
from hrm_submit.config.preset_files import load_preset
from hrm_submit.core.errors import SolveError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter, read_run
from hrm_submit.run.cost import segment_work, view_work
from tests.events import event, told
from tests.run.lab import recolour, recoloured

ROOT = Path(__file__).parents[4]
sys.path.insert(0, str(ROOT / "scripts"))

from lab.budget.recording import Recording, record  # noqa: E402
from lab.budget.replay import Faults, replay  # noqa: E402
from lab.budget.sizes import ENOUGH, PRESETS, sizes, suited  # noqa: E402

PRESET = load_preset("nano")
TASKS = {f"t{k}": recolour(f"t{k}", k, side=3 + k % 3) for k in range(6)}
SEGMENT, VIEW, OVERHEAD = 1e9, 2e9, 0.01
"""Operations a second, in segments and in views, and seconds that a segment takes besides, of the device that is recorded."""


def segment_seconds(task: str) -> float:
    side = max(g.shape[0] for g in TASKS[task].grids())
    return OVERHEAD + segment_work(PRESET.model, PRESET.ttt, side * side) / SEGMENT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder written by hand: six tasks one after the other on one worker, each for 100 segments and two votes."""
    now = [3.0]
    run = RunWriter(tmp_path / "run", lambda: now[0])
    run.describe({"config": PRESET.to_dict(), "devices": ["cpu"]})
    run.event(event("worker_start", worker=0, ready=True))
    for number, (task_id, task) in enumerate(TASKS.items()):
        side = max(g.shape[0] for g in task.grids())
        view = view_work(PRESET.model, side * side, PRESET.vote.act_steps) / VIEW
        run.event(event("task_start", task_id, 0, seconds=50.0))
        run.event(event("progress", task_id, 0, segments=40, loss=1.0, demo_exact=0.5, seconds=40 * segment_seconds(task_id)))
        run.event(event("candidates", task_id, 0, segments=40, votes=[[8]], views=8, vote_seconds=8 * view))
        run.event(event("progress", task_id, 0, segments=100, loss=0.5, demo_exact=1.0, seconds=100 * segment_seconds(task_id)))
        took = 0.25 + 100 * segment_seconds(task_id) + 40 * view
        now[0] += took
        reason = "votes agree" if number % 2 else "share used"
        final = {"segments": 100, "votes": [[32]], "views": 32, "vote_seconds": 32 * view, "seconds": took, "settled": bool(number % 2)}
        run.event(event("task_final", task_id, 0, reason=reason, **final))
        truth = recoloured(task.test[0]).tolist()
        run.prediction(task_id, 0, True, [Candidate.from_json({"grid": truth if number < 2 else [[0]], "votes": 32, "score": -0.1})])
    return tmp_path / "run"


def solutions() -> dict[str, Any]:
    return {task_id: (recoloured(task.test[0]),) for task_id, task in TASKS.items()}


def test_a_recording_gives_back_what_the_folder_was_written_from(folder: Path) -> None:
    (found,) = record([folder], TASKS, solutions())
    for task_id in TASKS:
        side = max(g.shape[0] for g in TASKS[task_id].grids())
        work = segment_work(PRESET.model, PRESET.ttt, side * side)
        assert found.segment.seconds(work) == pytest.approx(segment_seconds(task_id), rel=1e-6)
    work = view_work(PRESET.model, 25, PRESET.vote.act_steps)
    assert found.view.seconds(work) == pytest.approx(work / VIEW, rel=1e-6)
    assert (found.start_up, found.set_up) == (pytest.approx(3.0), pytest.approx(0.25, abs=0.01))
    assert sorted(found.settled_after, key=str) == [100, 100, 100, None, None, None]
    assert [(o.segments, o.solved) for o in found.outcomes] == [(100, True)] * 2 + [(100, False)] * 4
    cells = [o.cells for o in found.outcomes]
    assert cells == [max(g.shape[0] for g in TASKS[o.task].grids()) ** 2 for o in found.outcomes]
    assert found.curve is not None and np.mean([found.curve(100, c) for c in cells]) == pytest.approx(1 / 3, abs=0.02)


def test_a_folder_without_these_tasks_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(SolveError, match="recorded no finished task"):
        record([folder], {"other": TASKS["t0"]})


def test_a_faster_device_does_everything_faster(folder: Path) -> None:
    (found,) = record([folder], TASKS)
    for work in (1e6, 1e9):
        assert found.segment.scaled(4.0).seconds(work) == pytest.approx(found.segment.seconds(work) / 4)


@pytest.mark.parametrize("faults", [Faults(), Faults(0.1, 0.1, 0.1)])
def test_a_played_run_keeps_what_a_real_one_promises(folder: Path, tmp_path: Path, faults: Faults) -> None:
    (found,) = record([folder], TASKS)
    place = tmp_path / "played"
    place.mkdir()
    played = replay(found, found.preset, list(TASKS.values()), ["cpu", "cpu"], 300.0, place, faults=faults, seed=1)
    assert (0.5 if faults.die else 0.93) * 300 <= played.events[-1].t <= 300 and played.events[-1].kind == "run_end"
    write_challenges(tmp_path / "c.json", TASKS)
    assert not file_faults(place / "submission.json", load_challenges(tmp_path / "c.json"))
    final = {e["task"] for e in told(played, "task_final")}
    lost = told(played, "task_failed")
    assert final == set(TASKS) or lost
    assert bool(lost) == (faults != Faults())


def test_a_played_task_gets_the_segments_that_its_share_has_time_for(folder: Path, tmp_path: Path) -> None:
    (found,) = record([folder], {"t0": TASKS["t0"]} | TASKS)
    found.settled_after = [None]
    played = replay(found, found.preset, [TASKS["t0"]], ["cpu"], 103.0, tmp_path)
    (start,) = told(played, "task_start")
    (final,) = told(played, "task_final")
    trained = start["seconds"] - found.set_up - 9 * 8 * 1e-3
    assert final["segments"] == pytest.approx(trained / segment_seconds("t0"), rel=0.03)


def tune(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "tune_budget.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_command_compares_settings_and_writes_the_best_as_a_preset(folder: Path, tmp_path: Path) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    write_solutions(tmp_path / "s.json", solutions())
    files = ["--runs", str(folder), "--challenges", str(tmp_path / "c.json"), "--solutions", str(tmp_path / "s.json")]
    out, table, plot = tmp_path / "best.toml", tmp_path / "t.csv", tmp_path / "p.svg"
    done = tune(*files, "--time-budget", "4m", "--vary", "vote.views=8,64", "--output", str(out), "--csv", str(table), "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    assert "views=8" in done.stdout and "views=64" in done.stdout and "best by predicted score" in done.stdout
    assert len(table.read_text().splitlines()) == 1 + 2 * 3, "two settings at three budgets"
    assert plot.read_text().lstrip().startswith("<?xml")
    written = tomllib.loads(out.read_text())
    assert written["vote"]["views"] in (8, 64)
    assert load_preset(f"nano,{out}").vote.views == written["vote"]["views"]


def test_the_command_plays_a_run_into_a_folder(folder: Path, tmp_path: Path) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    place = tmp_path / "played"
    files = ["--runs", str(folder), "--challenges", str(tmp_path / "c.json"), "--tasks", "12", "--profile", "t4x2", "--faster", "5"]
    done = tune(*files, "--time-budget", "30m", "--replay", str(place), "--faults", "0.2,0,0.2")
    assert done.returncode == 0, done.stderr
    played = read_run(place)
    assert {e["device"] for e in told(played, "worker_start") if "device" in e} == {"cuda:0", "cuda:1"}
    assert told(played, "task_failed") and len(json.loads((place / "submission.json").read_text())) == 12


def test_each_size_gets_the_segments_that_its_work_leaves_time_for(folder: Path, tmp_path: Path) -> None:
    (found,) = record([folder], TASKS)
    found.segment = found.segment.scaled(50.0)
    table = sizes(found, list(TASKS.values()), None, 600.0, tmp_path, 0).set_index("preset")
    assert list(table.index) == list(PRESETS)
    assert list(table["parameters"]) == sorted(table["parameters"]) and table["views"].iloc[0] == 32
    share = 600.0 / len(TASKS)  # one worker
    for name in PRESETS:
        preset = load_preset(name)
        each = [found.segment.seconds(segment_work(preset.model, preset.ttt, side * side)) for side in (3, 4, 5)]
        most = min(preset.ttt.max_segments, share / min(each))
        assert 0.3 * share / max(each) <= table.loc[name, "segments"] <= most, "its votes take time too"
        assert table.loc[name, "slowest tenth"] <= table.loc[name, "segments"]
        assert table.loc[name, "examples"] == table.loc[name, "segments"] * preset.ttt.batch_size


def test_the_widest_model_that_trains_for_long_enough_suits() -> None:
    def choice(*examples: float) -> str:
        return str(suited(pd.DataFrame({"preset": list("abc"), "examples": examples}))["preset"])

    assert choice(9 * ENOUGH, 2 * ENOUGH, ENOUGH) == "c"
    assert choice(9 * ENOUGH, 2 * ENOUGH, ENOUGH - 1) == "b"
    assert choice(3, 2, 1) == "a"


@pytest.mark.parametrize(("faster", "preset"), [("0.1", "nano-2d"), ("100000", "gpu-base")])
def test_the_command_names_the_size_that_suits_a_machine(folder: Path, tmp_path: Path, faster: str, preset: str) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    files = ["--runs", str(folder), "--challenges", str(tmp_path / "c.json"), "--profile", "l4x4", "--faster", faster]
    done = tune(*files, "--time-budget", "10m", "--sizes")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"suits 10m00s for 6 tasks: {preset}, ") and ("fewer than" in last) == (faster == "0.1")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--vary", "ttt.lr=1"], "other tables need runs of their own"),
        (["--vary", "vote.views=x"], "is not a number"),
        (["--profile", "nonsense"], "nonsense"),
        (["--faster", "0"], "must be above 0"),
        (["--max-side", "1"], "no task fits"),
        (["--replay", ".", "--faults", "1"], "three chances"),
    ],
)
def test_bad_input_is_one_line(folder: Path, tmp_path: Path, options: list[str], fault: str) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    done = tune("--runs", str(folder), "--challenges", str(tmp_path / "c.json"), "--time-budget", "1m", *options)
    assert done.returncode == 2 and fault in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_recordings_of_one_configuration_belong_together(folder: Path) -> None:
    (found,) = record([folder, folder], TASKS)
    assert isinstance(found, Recording) and len(found.folders) == 2 and len(found.settled_after) == 12


def test_a_candidate_that_is_second_counts_as_solved(folder: Path) -> None:
    truth = recoloured(TASKS["t5"].test[0]).tolist()
    run = RunWriter(folder, lambda: 99.0)
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    (folder / "predictions.jsonl").write_text("\n".join(line for line in lines if '"t5"' not in line) + "\n")
    wrong = make_grid([[0]]).tolist()
    run.prediction("t5", 0, True, [Candidate(make_grid(g), 1, -1.0) for g in (wrong, truth, wrong)])
    (found,) = record([folder], TASKS, solutions())
    assert sum(o.solved for o in found.outcomes) == 3
