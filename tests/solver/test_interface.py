"""`hrm_submit.Solver`: the answers of the command `solve`, from Python, and nothing of the caller's process changed."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import hrm_submit
from hrm_submit.arc.submission import read_submission
from hrm_submit.arc.task import make_grid, same_grid
from hrm_submit.core.errors import CheckpointError, ConfigError, DataError
from hrm_submit.corpora.sources import load
from hrm_submit.predict.vote import Candidate
from hrm_submit.solver import interface
from hrm_submit.solver.interface import Solver
from hrm_submit.solver.messages import Alive, Answer, Outcome, Progress, Restarted
from tests.run.lab import challenges, command, recolour, tiny, tiny_preset
from tests.shared import write_weights
from tests.terminal import screen

FIXED: dict[str, Any] = {
    "train": [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3, 4]], "output": [[4, 3]]}],
    "test": [{"input": [[5, 6]]}],
}


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("presets"))


@pytest.fixture(scope="module")
def solver(presets: str) -> Solver:
    return Solver("none", presets, "cpu", seed=3)


def test_fixed_work_gives_the_submission_of_the_command(solver: Solver, presets: str, tmp_path: Path) -> None:
    file, written = challenges(tmp_path, 2, outputs=2), tmp_path / "submission.json"
    subprocess.run(command(file, written, "--preset", presets, "--segments-per-task", "12", "--seed", "3"), check=True)
    expected = read_submission(written)[0]
    for task in reversed(load(file).values()):  # in another order: each starts from the same weights
        answer = solver.solve(task, segments=12, progress=False)
        for ours, theirs in zip(answer.attempts, expected[task.id], strict=True):
            assert all(same_grid(a, b) for a, b in zip(ours, theirs, strict=True))
        assert (answer.segments, answer.reason) == (12, "segments done") and 8 <= answer.views <= 16, "four mid-run votes of two views each"


def test_several_tasks_are_solved_as_each_alone_and_scored(solver: Solver, tmp_path: Path) -> None:
    tasks = load(challenges(tmp_path, 3))
    answers = solver.solve_all(tasks, segments=5, progress=False)
    assert list(answers) == list(tasks)
    one = list(tasks)[1]
    alone = solver.solve(tasks[one], segments=5, progress=False)
    assert all(same_grid(a, b) for a, b in zip(answers[one].attempts[0], alone.attempts[0], strict=True))
    timed = solver.solve_all(tasks.values(), seconds=1.5, progress=False)
    assert list(timed) == list(tasks) and all(answer.segments for answer in timed.values())

    truth = {key: tuple(attempts[1] for attempts in answer.attempts) for key, answer in answers.items()}
    for several in (tasks, list(tasks.values())):
        whole = hrm_submit.score(several, answers, truth)
        assert (whole["pass@2"], whole["counts"]["tasks"]) == (1.0, 3)
    assert list(solver.solve_all([FIXED, FIXED], segments=1, progress=False)) == ["handwritten-1", "handwritten-2"]
    with pytest.raises(DataError, match=f"task {one}: appears twice"):
        solver.solve_all([tasks[one]] * 2, segments=1)
    assert hrm_submit.score(tasks[one], answers[one], truth[one])["pass@2"] == 1.0
    assert hrm_submit.score(FIXED, alone, [alone.attempts[0][0]])["pass@1"] == 1.0, "a dict of lists, too"
    with pytest.raises(DataError, match="solutions of several tasks by id"):
        hrm_submit.score(tasks, answers, truth[one])
    with pytest.raises(DataError, match="score takes a task and what"):
        hrm_submit.score(tasks[one], answers)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"{one}: no public set holds this task"):
        hrm_submit.score(tasks[one], answers[one])
    public, solutions = hrm_submit.load("arc-agi-1-evaluation", solutions=True)
    given = replace(alone, task=public["00576224"], attempts=((solutions["00576224"][0], make_grid([[0]])),))
    assert hrm_submit.score(public["00576224"], given)["pass@1"] == 1.0


def test_a_checkpoint_is_started_from(solver: Solver, presets: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, task = write_weights(tmp_path / "weights.safetensors", tiny_preset(tmp_path).model, seed=9), recolour("t", 1)
    named, random = (Solver(source, presets, "cpu", seed=3).solve(task, segments=1).candidates[0] for source in (path, "none"))
    assert [c.score for c in named] != [c.score for c in random] and not caplog.records
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        Solver(tmp_path / "none.safetensors")
    Solver(None, presets, "cpu")
    assert "starts from random weights" in caplog.text, "where nobody asked for them"


def test_a_dict_is_a_task_and_its_test_outputs_change_nothing(solver: Solver) -> None:
    told = json.loads(json.dumps(FIXED))
    told["test"][0]["output"] = [["what", "ever"]]
    plain, with_answer = (solver.solve(task, segments=6).candidates[0] for task in (FIXED, told))
    assert [(c.key, c.votes, c.score) for c in plain] == [(c.key, c.votes, c.score) for c in with_answer]


WRONG: list[dict[str, Any]] = [{"seconds": 0}, {"segments": -1}, {"seconds": float("nan")}, {"seconds": "10"}, {"segments": 2.5}]


@pytest.mark.parametrize("limits", [{}, {"seconds": 1, "segments": 1}, *WRONG])
def test_one_limit_is_needed(solver: Solver, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="solve needs either seconds or segments, a number above zero"):
        solver.solve(FIXED, **limits)
    with pytest.raises(ConfigError, match="solve needs either"):
        solver.solve_all([], **limits)


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ({"train": FIXED["train"]}, r"^task handwritten: has no test inputs$"),
        ({**FIXED, "test": [{"input": [[1, 12]]}]}, "row 0, column 1 is 12, not a whole number"),
        ("00576224", r'"00576224": is no task, which hrm_submit.load gives'),
    ],
)
def test_what_is_no_task_is_refused_in_one_line(solver: Solver, task: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        solver.solve(task, segments=1)
    with pytest.raises(DataError, match=fault.replace("handwritten", "handwritten(-1)?")):
        solver.solve_all(task, segments=1)


def test_threads_are_the_callers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(interface, "cpu_count", lambda: 3)
    solver = Solver("none", tiny(tmp_path, "[device]\nthreads = 2\n"), "cpu")
    solve = solver._solver.solve

    def watched(*args: Any, **options: Any) -> Any:
        for message in solve(*args, **options):
            threads.append(torch.get_num_threads())
            yield message

    monkeypatch.setattr(solver._solver, "solve", watched)
    before = torch.get_num_threads()
    solver.solve(FIXED, segments=2)
    solver.solve(FIXED, seconds=0.2)
    assert threads[0] == 2 and threads[-1] == 3
    assert torch.get_num_threads() == before


def test_the_bar_ends_full_and_tells_how_training_goes(
    solver: Solver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(interface, "place", lambda: "terminal")
    solver.solve(FIXED, segments=8)
    line = screen(capsys.readouterr().err)[0]
    assert line.startswith("handwritten: 100%|") and "8/8 segments, loss " in line and "of demonstrations exact" in line
    solver.solve(FIXED, segments=8, progress=False)
    assert capsys.readouterr().err == ""


def test_a_gpu_is_the_current_one_before_the_model_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(device: str) -> None:
        raise LookupError(device)

    monkeypatch.setattr(interface, "list_devices", lambda device: [device])
    monkeypatch.setattr(torch.cuda, "set_device", chosen)
    with pytest.raises(LookupError, match="cuda:1"):
        Solver("none", "nano", "cuda:1")


FIRST, SECOND = (((Candidate(make_grid([[colour]]), 4, -0.1),),) for colour in (1, 2))


def test_an_outcome_is_the_last_answer_with_candidates_and_all_that_was_spent() -> None:
    found = Outcome()
    for message in (
        Alive("t"),
        Progress("t", 10, 2.0, 0.1, 1.0),
        Answer("t", FIRST, False, 10, "mid-run vote", views=8, voters=8),
        Restarted("t", "the loss rose from 1 to 9"),
        Answer("t", ((),), False, 0, "the loss is not finite"),
    ):
        found.add(message)
    assert found.outputs == FIRST and (found.views, found.reason) == (8, "the loss is not finite")
    for message in (
        Progress("t", 5, 2.0, 0.3, 0.5),
        Progress("t", 20, 1.0, 0.9, 2.5),
        Answer("t", SECOND, True, 20, "votes agree", views=32, voters=48),
    ):
        found.add(message)
    assert found.outputs == SECOND and (found.views, found.reason) == (48, "votes agree")
    assert (found.segments, found.seconds, found.demo_exact) == (30, 3.5, 0.9), "of both trainings; the last one's share"
