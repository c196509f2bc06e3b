"""The soak test itself: what it does to a run, and that it sees what it is there to see."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soak as script
from lab import soak
from lab.killing import Kill, Looker, final_answers

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.submission import to_json
from hrm_submit.arc.task import make_grid
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter
from tests.events import event
from tests.run.lab import recolour, tiny

TASKS = {f"t{k}": recolour(f"t{k}", k, outputs=1 + k) for k in range(2)}
RIGHT = [[1, 2]]


def submission(folder: Path, **changes: Any) -> Path:
    """A valid one, in which every attempt is the same, with some tasks' answers replaced or, if None, left out."""
    path, attempts = folder / "submission.json", (make_grid(RIGHT), make_grid([[0]]))
    content = json.loads(to_json({name: [attempts] * len(task.test) for name, task in TASKS.items()})) | changes
    path.write_text(json.dumps({name: answers for name, answers in content.items() if answers is not None}))
    return path


def test_kills_are_the_same_for_the_same_seed_and_of_every_kind() -> None:
    plans = [soak.plan_kills(0, trial, 20.0) for trial in range(60)]
    assert plans == [soak.plan_kills(0, trial, 20.0) for trial in range(60)] != [soak.plan_kills(1, trial, 20.0) for trial in range(60)]
    kinds = Counter(frozenset(k.who for k in plan) for plan in plans)
    assert kinds == {frozenset({"worker"}): 20, frozenset({"supervisor"}): 20, frozenset({"worker", "supervisor"}): 20}
    kills = [k for plan in plans for k in plan]
    assert all(0 < k.at < 18 and 0 <= k.frozen <= 3 for k in kills)
    assert 0.2 < sum(k.frozen > 0 for k in kills) / len(kills) < 0.5
    for plan in plans:
        assert [k.at for k in plan] == sorted(k.at for k in plan)
        assert all(k.who == "worker" for k in plan[:-1]), "after the supervisor nothing is left to be killed"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"t1": None}, "task t1: is missing"),
        ({"t1": [{"attempt_1": RIGHT, "attempt_2": RIGHT}]}, "not 2"),
        ({"t0": [{"attempt_1": [[11]], "attempt_2": RIGHT}]}, "attempt_1"),
    ],
)
def test_a_look_finds_what_is_wrong_with_a_submission(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    looker = Looker(submission(tmp_path, **changes), TASKS)
    for _ in range(3):
        looker.look()
    assert looker.looks == 3 and len(looker.faults) == bool(fault)
    assert not fault or fault in looker.faults[0]


def test_a_look_finds_a_final_answer_that_has_changed(tmp_path: Path) -> None:
    other = [{"attempt_1": [[5]], "attempt_2": RIGHT}]
    looker = Looker(submission(tmp_path, t0=other), TASKS)
    looker.must_show = {("t0", 0): [[[5]], RIGHT], ("t1", 1): [RIGHT]}
    looker.look()
    assert looker.faults == []
    looker.must_show = {("t0", 0): [RIGHT]}
    looker.look()
    assert looker.faults == ["task t0: output 0 no longer shows its final answer"]


def test_a_submission_is_looked_at_from_its_first_moment_and_must_stay(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    looker = Looker(path, TASKS)
    looker.start()
    submission(tmp_path)
    wait(lambda: looker.looks > 2)
    assert looker.faults == [], "before it was there nothing was missing"
    path.unlink()
    wait(lambda: looker.faults)
    looker.stop()
    assert "submission.json" in looker.faults[0]


def wait(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never")


def test_final_answers_are_read_from_the_run_folder(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, lambda: 0.0)

    def says(task: str, output: int, final: bool, *colours: int) -> None:
        writer.prediction(task, output, final, [Candidate(make_grid([[c]]), 1, 0.0) for c in colours])

    says("t0", 0, True, 4)
    says("t1", 0, True, 7)
    assert final_answers(tmp_path, TASKS) == {("t0", 0): [[[4]]]}, "t1 has two outputs"
    says("t0", 0, False, 9)
    says("t0", 0, True, 5, 6, 7)
    says("t1", 1, True, 8)
    (tmp_path / "predictions.jsonl").open("a").write('{"v":1,"ta')
    assert final_answers(tmp_path, TASKS) == {("t0", 0): [[[5]], [[6]]], ("t1", 0): [[[7]]], ("t1", 1): [[[8]]]}


def test_tasks_begun_again_are_named(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", lambda: 0.0)
    for task in ("t0", "t1", "t0", "t2"):
        writer.event(event("task_start", task))
    assert soak.repeated(tmp_path, 2, {"t0", "t1"}) == ["task t0 was solved again"]
    assert soak.repeated(tmp_path, 3, {"t0", "t1"}) == []


@pytest.mark.slow
def test_a_trial_that_kills_worker_and_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker dies, then the supervisor; the same command goes on, and all holds."""
    tasks = {f"t{k}": recolour(f"t{k}", k) for k in range(4)}
    write_challenges(tmp_path / "challenges.json", tasks)
    kills = [Kill("worker", 6.0, 0.0), Kill("supervisor", 9.0, 0.3)]
    monkeypatch.setattr(soak, "plan_kills", lambda *_: kills)
    outcome = soak.run_trial(0, 0, tmp_path / "challenges.json", tasks, 16.0, tiny(tmp_path), tmp_path / "trial")
    assert outcome.faults == () and outcome.looks > 100
    assert "worker" in outcome.story and "supervisor killed at 9.0 s after 0.3 s frozen, went on from" in outcome.story


@pytest.mark.parametrize(
    ("words", "fault"),
    [(["--budget", "soon"], "not a duration"), (["--trials", "0"], "--trials must be at least 1"), (["--output-dir", "."], "is not empty")],
)
def test_bad_input_is_one_line(words: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("soak: ") and error.count("\n") == 1 and fault in error


def test_the_smallest_tasks_are_chosen() -> None:
    tasks = soak.choose_tasks("arc-agi-1-evaluation", 7)
    assert len(tasks) == 7 and next(iter(tasks)) == "6ea4a07e" and max(t.largest_side for t in tasks.values()) == 6


def test_what_failed_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [soak.Outcome("quiet", 7, ()), soak.Outcome("wild", 9, ("worker 5 was left behind", "took 30.0 s of 20"))]
    monkeypatch.setattr(soak, "run_trial", lambda seed, trial, *_: outcomes[trial % 2])
    assert script.main(["--trials", "3", "--output-dir", str(tmp_path / "kept")]) == 1
    first, second, third, summary, kept = capsys.readouterr().out.splitlines()
    assert first == "trial 0: quiet: held at 7 looks" and third == "trial 2: quiet: held at 7 looks"
    assert second == "trial 1: wild: FAILED: worker 5 was left behind; took 30.0 s of 20"
    assert summary == "2 of 3" and str(tmp_path / "kept") in kept
    monkeypatch.setattr(soak, "run_trial", lambda *_: outcomes[0])
    assert script.main(["--trials", "2"]) == 0 and capsys.readouterr().out.splitlines()[-1] == "2 of 2"
