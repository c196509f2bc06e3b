"""A turn of a GPU from end to end, on a CPU with a tiny model; and a turn that was killed."""

from __future__ import annotations

import json
from pathlib import Path

import gpu_turn
import pytest
import torch
from lab.gpu import turn
from lab.gpu.turn import Turn, sample_of

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.model.weights import load_checkpoint
from tests.run.lab import recolour, recoloured, tiny


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve tasks of several sizes, with their answers beside."""
    tasks = {f"t{k:02d}": recolour(f"t{k:02d}", k, side=2 + k % 4) for k in range(12)}
    write_challenges(tmp_path / "some_challenges.json", tasks)
    write_solutions(tmp_path / "some_solutions.json", {i: tuple(map(recoloured, t.test)) for i, t in tasks.items()})
    return tmp_path / "some_challenges.json"


def options(data: Path, out: Path, *more: str) -> list[str]:
    preset = tiny(out.parent, '[train]\noptimizer = "muon"\nbatch_size = 16\nsegments = 1\n')
    given = ["--out", str(out), "--preset", preset, "--data", str(data), "--sets", f"{data}:4", "--devices", "cpu", *more]
    return given if "--minutes" in more else ["--minutes", "1.1", *given]


@pytest.mark.slow
def test_a_turn_trains_solves_scores_and_leaves_what_is_to_be_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "AFTERWARDS", 4.0)
    out = data.parent / "turn"
    assert gpu_turn.main(options(data, out, "--train-share", "0.4")) == 0
    notes = json.loads((out / "back" / "turn.json").read_text())
    assert {name: stage["ok"] for name, stage in notes["stages"].items()} == {
        "pretrain": True,
        "solve-some_challenges": True,
        "report-some_challenges": True,
    }
    assert notes["score-some_challenges"]["counts"]["tasks"] == 3 and notes["seconds"] < 3 * 66
    kept = {str(p.relative_to(out / "back")) for p in (out / "back").rglob("*") if p.is_file()}
    assert kept == {"turn.json", "turn.md", "some_challenges.html", "final/part-001.safetensors", "undecayed/part-001.safetensors"}
    weights = load_checkpoint(out / "back" / "undecayed", rows=True)
    assert weights.state["lm_head"].dtype == torch.bfloat16 and weights.tables.rows is not None and weights.meta.steps > 0
    # Once more: nothing is left to do, and the same is told.
    assert gpu_turn.main(options(data, out, "--train-share", "0.4")) == 0
    assert json.loads((out / "back" / "turn.json").read_text())["stages"] == notes["stages"]
    assert gpu_turn.main(options(data, out, "--train-share", "0.3")) == 2, "another turn than the one that the folder holds"


def test_every_nth_task_by_size(data: Path) -> None:
    sample = sample_of(f"{data}:4")
    assert [canvas_side(t) for t in sample.tasks.values()] == sorted(canvas_side(t) for t in sample.tasks.values())
    assert len(sample.tasks) == 3 and sample.tasks.keys() == sample.solutions.keys() and sample.name == "some_challenges"


def test_a_stage_that_was_killed_is_done_anew_in_what_is_left(tmp_path: Path) -> None:
    first = Turn(tmp_path, 100.0)
    first._began -= 30.0  # half a minute passes
    first.note()
    second = Turn(tmp_path, 100.0)
    assert 65 < second.left <= 70
    assert second.stage("version", 10.0, "--version") and second.notes["stages"]["version"]["ok"]
    assert not second.stage("wrong", 10.0, "nonsense") and "invalid choice" in second.notes["stages"]["wrong"]["fault"]
    assert not Turn(tmp_path, 100.0).stage("wrong", 10.0, "--version"), "it was done already"


def test_a_stage_that_goes_on_after_its_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "LATE", 0.5)
    waits = "watch", "--run-dir", str(tmp_path / "never")
    assert not Turn(tmp_path, 100.0).stage("endless", 1.0, *waits)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--train-share", "1"], "--train-share at least 0 and below 1"),
        (["--preset", "nonsense"], "nonsense"),
        (["--sets", "nowhere.json:3"], "nowhere.json"),
        (["--sets", "arc-agi-1-training:0.5"], "whole number from 1 on"),
        (["--from", "nowhere.safetensors"], "nowhere.safetensors: no such checkpoint"),
    ],
)
def test_wrong_input_is_one_line_before_anything_is_done(
    more: list[str], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data.parent / "turn"
    assert gpu_turn.main(options(data, out, *more)) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1 and not out.exists()
