"""`hrm_submit.Solver`: the answers of the command `solve`, from Python, and nothing of the caller's process changed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from hrm_submit.arc.challenges import load_challenges
from hrm_submit.arc.submission import load_submission
from hrm_submit.arc.task import same_grid
from hrm_submit.core.errors import CheckpointError, ConfigError, DataError
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.solver import interface
from hrm_submit.solver.interface import Solver
from tests.run.lab import challenges, command, recolour, recoloured, tiny, tiny_preset
from tests.terminal import screen

FIXED = {"train": [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3, 4]], "output": [[4, 3]]}], "test": [{"input": [[5, 6]]}]}


def test_fixed_work_gives_the_submission_of_the_command(tmp_path: Path) -> None:
    file, written, presets = challenges(tmp_path, 2, outputs=2), tmp_path / "submission.json", tiny(tmp_path)
    subprocess.run(command(file, written, "--preset", presets, "--segments-per-task", "12", "--seed", "3"), check=True)
    solver, expected = Solver("none", presets, "cpu", 3), load_submission(written)
    for task in reversed(load_challenges(file).values()):  # in another order: each starts from the same weights
        answer = solver.solve(task, segments=12, progress=False)
        for ours, theirs in zip(answer.attempts, expected[task.id], strict=True):
            assert all(same_grid(a, b) for a, b in zip(ours, theirs, strict=True))
        assert (answer.segments, answer.reason) == (12, "share used") and 8 <= answer.views <= 16, "four votes on the way of two views each"


def test_a_task_is_learnt(tmp_path: Path) -> None:
    task = recolour("t", 1)
    answer = Solver("none", tiny(tmp_path), "cpu").solve(task, segments=120)
    assert same_grid(answer.attempts[0][0], recoloured(task.test[0]))
    assert answer.candidates[0][0].votes > 4 and answer.demo_exact > 0.8
    assert f"of {answer.views} votes" in repr(answer)


def test_a_checkpoint_is_started_from(tmp_path: Path) -> None:
    preset = tiny_preset(tmp_path)
    model, embedding = build(preset.model, n_rows=1, seed=9)
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, snapshot(model, embedding, CheckpointMeta()))
    named, random = Solver(path, tiny(tmp_path), "cpu"), Solver("none", tiny(tmp_path), "cpu", seed=9)
    task = recolour("t", 1)
    assert [c.score for c in named.solve(task, segments=1).candidates[0]] != [c.score for c in random.solve(task, segments=1).candidates[0]]
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        Solver(tmp_path / "none.safetensors")


def test_a_dict_is_a_task_and_its_test_outputs_change_nothing(tmp_path: Path) -> None:
    solver = Solver("none", tiny(tmp_path), "cpu")
    told: dict[str, Any] = json.loads(json.dumps(FIXED))
    told["test"][0]["output"] = [["what", "ever"]]
    plain, with_answer = solver.solve(FIXED, segments=6), solver.solve(told, segments=6)
    assert [(c.key, c.votes, c.score) for c in plain.candidates[0]] == [(c.key, c.votes, c.score) for c in with_answer.candidates[0]]


@pytest.mark.parametrize("limits", [{}, {"seconds": 1, "segments": 1}, {"seconds": 0}, {"segments": -1}, {"seconds": float("nan")}])
def test_one_limit_is_needed(tmp_path: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="solve needs either seconds or segments, above zero"):
        Solver("none", tiny(tmp_path), "cpu").solve(FIXED, **limits)


def test_what_is_no_task_is_refused_in_one_line(tmp_path: Path) -> None:
    solver = Solver("none", tiny(tmp_path), "cpu")
    with pytest.raises(DataError, match=r"^task handwritten: has no test inputs$"):
        solver.solve({"train": FIXED["train"]}, segments=1)
    with pytest.raises(DataError, match="row 0, column 1 is 12, not a whole number"):
        solver.solve({**FIXED, "test": [{"input": [[1, 12]]}]}, segments=1)


def test_threads_are_the_callers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(interface, "cpu_count", lambda: 3)
    solver = Solver("none", tiny(tmp_path, "[device]\nthreads = 2\n"), "cpu")
    solve = solver._solver.solve

    def watched(*args: Any, **options: Any) -> Any:
        for message in solve(*args, **options):
            seen.append(torch.get_num_threads())
            yield message

    monkeypatch.setattr(solver._solver, "solve", watched)
    before = torch.get_num_threads()
    solver.solve(FIXED, segments=2)
    solver.solve(FIXED, seconds=0.2)
    assert seen[0] == 2 and seen[-1] == 3
    assert torch.get_num_threads() == before


def test_the_bar_ends_full_and_tells_how_training_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(interface, "place", lambda: "terminal")
    solver = Solver("none", tiny(tmp_path), "cpu")
    solver.solve(FIXED, segments=8)
    line = screen(capsys.readouterr().err)[0]
    assert line.startswith("handwritten: 100%|") and "8/8 segments, loss " in line and "of demonstrations exact" in line
    solver.solve(FIXED, segments=8, progress=False)
    assert capsys.readouterr().err == ""
