"""The command line of `solve`: wrong input is one line and exit 2 before any work; one bad task costs only itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.reader import write_challenges
from hrm_submit.cli import main
from hrm_submit.model import packaged
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from tests.run.lab import challenges, command, events, recolour, recoloured, tiny, tiny_preset
from tests.shared import write

Faults = Callable[..., str]


class Started(BaseException):
    """Work was begun."""


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise Started

    monkeypatch.setattr("hrm_submit.run.worker_pool.WorkerPool.start", refuse)


def solve(folder: Path, **options: str | None) -> list[str]:
    """The words of a `solve` of four tasks that would start but for these options; `None` leaves one out."""
    asked: dict[str, str | None] = {
        "challenges": str(challenges(folder, 4)),
        "output": str(folder / "submission.json"),
        "segments_per_task": "3",
        "preset": tiny(folder),
        "devices": "cpu",
        **options,
    }
    return ["solve", *(word for k, v in asked.items() if v is not None for word in (f"--{k.replace('_', '-')}", v))]


@pytest.fixture
def fault(tmp_path: Path, refused: Any, no_work: None) -> Faults:
    """Runs a `solve` that must be refused; returns its one line."""

    def run(**options: str | None) -> str:
        line: str = refused(main, solve(tmp_path, **options))
        assert line.startswith("hrm-submit")
        return line

    return run


@pytest.mark.parametrize("options", [{}, {"segments_per_task": None, "time_budget": "20s"}])
def test_the_good_case_would_start(tmp_path: Path, no_work: None, options: dict[str, str | None]) -> None:
    """So the faults below are refused for what is wrong with them."""
    with pytest.raises(Started):
        main(solve(tmp_path, **options))


def test_only_chosen_tasks_are_planned_and_the_run_folder_names_them(tmp_path: Path, no_work: None) -> None:
    with pytest.raises(Started):
        main(solve(tmp_path, tasks="task03,task01,task02", first="2"))
    folder = tmp_path / "submission.json.run"
    assert events(folder, "plan")[0]["todo"] == json.loads((folder / "run.json").read_text())["tasks"] == ["task01", "task02"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        *((f, "cannot be written") for f in ("file/submission.json", "/dev/null/x", "/proc/submission.json", "..")),
        *((f, "names no file") for f in ("", ".", "/")),
    ],
)
def test_outputs_that_cannot_be_written(fault: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    line = fault(output=place)
    assert said in line and place in line


def test_the_challenges_are_not_overwritten(fault: Faults, tmp_path: Path) -> None:
    before = challenges(tmp_path, 4).read_bytes()
    (tmp_path / "link.json").symlink_to(tmp_path / "challenges.json")
    for place in (tmp_path / "challenges.json", tmp_path / "link.json"):
        assert "cannot be both" in fault(output=str(place))
    assert (tmp_path / "challenges.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "nanno"}, "unknown preset 'nanno'"),
        ({"preset": "none/mine.toml"}, "no such file"),
        ({"tasks": "task00,nope"}, "has no task nope"),
        ({"tasks": ","}, "--tasks"),
        ({"devices": "cuda:77"}, "no cuda:77 here"),
        ({"devices": ""}, "--devices"),
        ({"checkpoint": "none/weights.safetensors"}, "weights.safetensors"),
        ({"run_dir": "/dev/null/run"}, "run folder cannot be written"),
        ({"challenges": "/dev/null/challenges.json"}, "no such file"),
        ({"challenges": str(Path(__file__))}, "not JSON: line 1"),
        ({"segments_per_task": "0"}, "--segments-per-task must be at least 1"),
        ({"segments_per_task": "many"}, "many"),
        ({"seed": "x"}, "x"),
        ({"seed": "99999999999999999999999"}, "--seed"),
        ({"seed": "-1"}, "--seed"),
        ({"segments_per_task": None}, "--time-budget"),
        ({"time_budget": "5m"}, "--time-budget"),
        ({"segments_per_task": None, "time_budget": "soon"}, "not a duration: 'soon'"),
        ({"segments_per_task": None, "time_budget": "-5m"}, "--time-budget"),
        ({"challenges": None}, "--challenges"),
        ({"frobnicate": "1"}, "--frobnicate"),
    ],
)
def test_options_that_make_no_sense(fault: Faults, options: dict[str, str | None], said: str) -> None:
    assert said in fault(**options)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model, embedding = build(tiny_preset(tmp_path).model, seed=1)
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, snapshot(model, embedding, CheckpointMeta()))
    return path


def test_a_checkpoint_that_is_not_what_it_says(fault: Faults, weights: Path, tmp_path: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:99])
    assert "weights.safetensors" in fault(checkpoint=str(weights))
    model, embedding = build(tiny_preset(tmp_path).model)
    lying = replace(snapshot(model, embedding, CheckpointMeta()), config=replace(model.cfg, hidden_size=64, puzzle_emb_ndim=64))
    save_checkpoint(tmp_path / "lie.safetensors", lying)
    line = fault(checkpoint=str(tmp_path / "lie.safetensors"))
    assert "lie.safetensors" in line and "shape" in line


def test_a_preset_that_asks_for_another_model_than_the_checkpoint_has(fault: Faults, weights: Path, tmp_path: Path) -> None:
    line = fault(checkpoint=str(weights), preset=tiny(tmp_path, "[model]\nhidden_size = 64\n"))
    assert "hidden_size = 64" in line and "weights.safetensors was trained with 32" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [("[model]\nseq_len = 100\n", "seq_len"), ("[model]\nvocab_size = 7\n", "vocab_size"), ("model = 3\n", "[model] is not a table")],
)
def test_a_model_that_cannot_hold_every_grid_or_is_no_table(fault: Faults, tmp_path: Path, more: str, said: str) -> None:
    assert said in fault(preset=tiny(tmp_path, more))


def test_a_checkpoint_fixes_the_model_and_layers_change_the_rest(weights: Path, tmp_path: Path) -> None:
    plain = packaged.resolve_preset("", weights)
    assert plain.model == tiny_preset(tmp_path).model
    default = packaged.resolve_preset("", None).ttt
    assert default.max_side == 20 and plain.ttt == replace(default, max_side=30), "the default preset, without the sides of its own weights"
    layered = packaged.resolve_preset(tiny(tmp_path, "[vote]\nviews = 3\n"), weights)
    assert layered.model == plain.model and layered.vote.views == 3


def test_a_run_folder_of_another_file_is_refused(fault: Faults, tmp_path: Path) -> None:
    folder = write(tmp_path / "run" / "run.json", {"v": 1, "challenges": "other.json", "challenges_sha256": "0" * 64}).parent
    line = fault(run_dir=str(folder))
    assert "run folder of another challenges file" in line and "other.json" in line


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "17"])
def test_a_damaged_description_of_a_run_is_no_reason_to_stop(tmp_path: Path, no_work: None, content: str) -> None:
    folder = write(tmp_path / "run" / "run.json", content).parent
    with pytest.raises(Started):
        main(solve(tmp_path, run_dir=str(folder)))


# In processes of their own, as a person sees them.


def test_one_bad_task_among_good_ones_costs_only_itself(tmp_path: Path) -> None:
    tasks = {f"good{k}": recolour(f"good{k}", k) for k in range(2)}
    path = tmp_path / "challenges.json"
    write_challenges(path, tasks)
    content = json.loads(path.read_text())
    content["ragged"] = {"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [{"input": [[4, 5]]}, {"input": [[6]]}]}
    path.write_text(json.dumps(content))
    output = tmp_path / "submission.json"
    done = subprocess.run(
        command(path, output, "--segments-per-task", "60", "--preset", tiny(tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    summary = done.stdout.splitlines()
    assert summary[0].startswith("2 of 3 tasks answered by the model, 1 by fallback")
    assert "task ragged" in summary[1] and "challenges.json" in summary[1] and "row 1" in summary[1]
    assert main(["validate", "--submission", str(output), "--challenges", str(path)]) == 0
    submission = json.loads(output.read_text())
    assert [a["attempt_1"] for a in submission["ragged"]] == [[[4, 5]], [[6]]], "its own test inputs are the fallback"
    for task_id, task in tasks.items():
        assert submission[task_id][0]["attempt_1"] == recoloured(task.test[0]).tolist()
    run_dir = tmp_path / "submission.json.run"
    assert {e["task"] for e in events(run_dir, "task_start")} == set(tasks)
    assert events(run_dir, "run_start")[0]["broken"] == ["ragged"]


def test_a_file_of_nothing_but_bad_tasks_leaves_a_valid_file(tmp_path: Path, no_work: None, refused: Any) -> None:
    path = tmp_path / "challenges.json"
    path.write_text('{"a": 17, "b": {"train": [], "test": [{"input": [[1]]}]}}')
    argv = ["--challenges", str(path), "--devices", "cpu", "--segments-per-task", "1"]
    line = refused(main, ["solve", "--output", str(tmp_path / "s.json"), *argv])
    assert "has no task that can be used" in line and "task a: should be an object, not 17" in line
    (tmp_path / "old.json").write_text("better answers")
    for output in (tmp_path / "old.json", path):
        before = output.read_text()
        assert main(["solve", "--output", str(output), *argv]) == 2 and output.read_text() == before, "nothing is written over"
    assert main(["validate", "--submission", str(tmp_path / "s.json"), "--challenges", str(path)]) == 0
