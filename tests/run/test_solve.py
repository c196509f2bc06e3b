"""What `solve` chooses, restores and says before and after the work, which a stand-in does at once."""

import json
import logging
import os
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.submission import file_faults, read_submission
from hrm_submit.cli import main
from hrm_submit.core.device import Card
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.record.folder import read_run
from hrm_submit.report.data import load_run
from hrm_submit.run import solve as solve_module
from tests.run.fake_pool import candidate
from tests.run.lab import challenges, tiny, tiny_preset
from tests.shared import RECORDED, write_weights


class Answering:
    """Stands in for the supervisor: one final candidate for each output. `solved` names the tasks."""

    solved: list[str]
    abandoned = 0

    def __init__(self, tasks: Any, segments: Any, specs: Any, answers: Any, run: Any, *others: Any) -> None:
        self.tasks, self.answers = tasks, answers
        answers.record_in(run, lambda: 0.0)

    def run(self) -> None:
        for task in self.tasks:
            Answering.solved.append(task.id)
            self.answers.put(task.id, tuple((candidate(2),) for _ in task.test), final=True)


@pytest.fixture(autouse=True)
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    Answering.solved = []
    monkeypatch.setattr(solve_module, "Supervisor", Answering)


def words(file: Path, output: Path, *options: str) -> list[str]:
    return ["solve", "--challenges", str(file), "--output", str(output), "--devices", "cpu", *options]


def solved(folder: Path, file: Path, *options: str, name: str = "s") -> tuple[Path, dict[str, Any]]:
    """Run the command; returns the submission and `run.json`."""
    output = folder / f"{name}.json"
    assert main(words(file, output, "--segments-per-task", "1", *options)) == 0
    return output, json.loads(Path(f"{output}.run", "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("known", [True, False])
def test_run_score_and_report_tell_of_weights_that_know_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str], known: bool) -> None:
    file = challenges(tmp_path, 2)
    tasks = load(file)
    pair = tasks["task01"].train[0]
    hashes = (pair_hash(pair.output, pair.output), *([pair_hash(pair.input, pair.output)] if known else []))
    weights = write_weights(tmp_path / "w.safetensors", tiny_preset(tmp_path).model, hashes=hashes)
    options = ["--preset", tiny(tmp_path), "--checkpoint", str(weights)]
    output, run = solved(tmp_path, file, *options)
    assert run["trained_on"] == (["task01"] if known else []) and bool(run["warning"]) == known
    assert "random weights" in solved(tmp_path, file, *options[:2], "--checkpoint", "none", name="random")[1]["warning"]
    assert solved(tmp_path, file, *options, "--tasks", "task00", name="other")[1]["trained_on"] == [], "of tasks that are asked for"
    write_solutions(tmp_path / "solutions.json", {name: tuple(task.test) for name, task in tasks.items()})
    capsys.readouterr()
    assert main(["score", "--submission", str(output), "--solutions", str(tmp_path / "solutions.json")]) == 0
    told = f"{weights} was trained on 1 of these tasks, the first is task01: a score of them says nothing"
    assert (told in capsys.readouterr().err) == known
    assert (told in load_run(Path(f"{output}.run")).notes) == known


def test_the_preset_of_the_cards_is_taken_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(solve_module, "cards", lambda devices: [Card("Tesla T4", 7.5, 14.6)] * 2)
    file = challenges(tmp_path, 1)

    def config(name: str, *options: str) -> tuple[str, int, int]:
        _, run = solved(tmp_path, file, *options, name=name)
        return run["presets"], run["config"]["ttt"]["batch_size"], run["config"]["device"]["count"]

    with caplog.at_level(logging.INFO):
        assert config("unasked") == ("t4x2", 16, 2)
    assert "the preset t4x2 suits" in caplog.text
    assert config("asked", "--preset", "nano") == ("nano", 8, 0)


def test_a_resumed_run_says_which_settings_differ_and_leaves_the_folder_as_it_is_with_nothing_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, common = challenges(tmp_path, 2), ["--checkpoint", "none", "--preset"]
    solved(tmp_path, file, *common, tiny(tmp_path), "--tasks", "task00")
    assert "other settings" not in caplog.text, "nothing was there before"
    output, _ = solved(tmp_path, file, *common, tiny(tmp_path))
    assert "other settings" not in caplog.text, "the same settings"
    assert Answering.solved == ["task00", "task01"], "each task once"
    before = {path: path.read_bytes() for path in (output, *Path(f"{output}.run").iterdir())}
    changed = tiny(tmp_path, "[vote]\nviews = 4\n[budget]\nhang_seconds = 99.0\n")
    assert main(words(file, output, "--time-budget", "9s", "--seed", "3", *common, changed)) == 0
    others = "--seed 0; --segments-per-task 1; [vote] views = 8"
    assert caplog.messages[-2:] == [
        f"{output}.run: nothing is left to solve; final answers kept: 2 (another --output or --run-dir solves these tasks again)",
        f"{output}.run: these answers were made with other settings than this run's: {others}",
    ]
    assert {path: path.read_bytes() for path in (output, *Path(f"{output}.run").iterdir())} == before


def test_members_are_the_same_wherever_their_files_lie() -> None:
    member = {"name": "a", "checkpoint": "/here/a", "checkpoint_sha256": "1"}
    changes: list[dict[str, Any]] = [{}, {"checkpoint": "/there/a"}, {"checkpoint_sha256": "2"}, {"config": {"ttt": {"lr": 1}}}]
    now, *_ = runs = [{"members": [member | change]} for change in changes]
    told = [solve_module._other_settings(earlier, now) for earlier in runs]
    assert told[:3] == [{}, {}, {"[solve] members with SHA-256": ["2"]}]
    assert told[3] == {"[solve] members with settings": [{"ttt": {"lr": 1}}]}


@pytest.mark.parametrize(
    ("more", "options", "taken"),
    [
        ("", [], True),
        ("[budget]\nhang_seconds = 99.0\n", ["--seed", "3", "--segments-per-task", "2"], True),
        ("[vote]\nviews = 4\n", [], False),
        ("[model]\nH_cycles = 3\n", [], False),
    ],
    ids=["the same", "another seed and limit", "other votes", "another model"],
)
def test_how_far_a_killed_run_came_counts_where_its_segments_are_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, options: list[str], taken: bool
) -> None:
    given: list[Any] = []

    class Given(Answering):
        def __init__(self, *passed: Any) -> None:
            super().__init__(*passed)
            given.append(passed[-1])

    monkeypatch.setattr(solve_module, "Supervisor", Given)
    file = challenges(tmp_path, 2)
    solved(tmp_path, file, "--preset", tiny(tmp_path), "--checkpoint", "none", "--tasks", "task00")
    solved(tmp_path, file, "--preset", tiny(tmp_path, more), "--checkpoint", "none", *options)
    assert (given[-1] is not None) == taken


@pytest.mark.parametrize("wrong", [["--preset", "nanno"], ["--checkpoint", "none.safetensors"]])
def test_wrong_input_leaves_a_whole_submission_as_it_is(tmp_path: Path, refused: Any, wrong: list[str]) -> None:
    file, output = challenges(tmp_path, 2), tmp_path / "corrected.json"
    by_hand = {task: [{"attempt_1": [[7]], "attempt_2": [[8]]}] * len(found.test) for task, found in load(file).items()}
    output.write_text(json.dumps(by_hand))
    assert refused(main, words(file, output, "--segments-per-task", "1", *wrong))
    assert json.loads(output.read_text()) == by_hand
    solved(tmp_path, file, "--preset", tiny(tmp_path), "--checkpoint", "none", name="corrected")
    assert json.loads(output.read_text()) != by_hand


@pytest.mark.parametrize(("in_its_place", "status"), [(None, 0), ("a file", 1)])
def test_an_output_folder_that_went_is_made_again_or_the_status_says_that_answers_are_unsaved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_its_place: str | None, status: int
) -> None:
    folder, run = tmp_path / "out", Answering.run

    def remove(self: Answering) -> None:
        shutil.rmtree(folder)
        if in_its_place:
            folder.write_text(in_its_place)
        run(self)

    monkeypatch.setattr(Answering, "run", remove)
    file = challenges(tmp_path, 1)
    options = ["--segments-per-task", "1", "--preset", tiny(tmp_path), "--checkpoint", "none"]
    assert main(words(file, folder / "s.json", *options)) == status
    assert (f"the last answers could not be written: {folder / 's.json'}: " in caplog.text) == bool(status)
    assert status or read_submission(folder / "s.json")[0]["task00"][0][0].tolist() == [[2]]


def test_a_run_that_ends_early_because_no_worker_is_left_says_so_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Answering, "abandoned", 2)
    options = ["--segments-per-task", "1", "--preset", tiny(tmp_path), "--checkpoint", "none"]
    assert main(words(challenges(tmp_path, 3), tmp_path / "s.json", *options)) == 1, "though tasks are answered"
    assert "2 tasks have no final answer though time was left; the same command resumes" in capsys.readouterr().out


def test_a_package_whose_version_is_not_known_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve_module, "version", Mock(side_effect=PackageNotFoundError("torch")))
    _, described = solved(tmp_path, challenges(tmp_path, 1), "--preset", tiny(tmp_path), "--checkpoint", "none")
    assert described["versions"]["torch"] is None


@pytest.mark.parametrize("kind", ["folder", "fifo", "holes"])
def test_predictions_that_cannot_be_read_cost_only_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    file, run = RECORDED / "challenges.json", shutil.copytree(RECORDED / "run", tmp_path / "s.json.run")
    path = run / "predictions.jsonl"
    if kind == "holes":
        os.truncate(path, 40 * 2**30)
    else:
        path.unlink()
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    output, _ = solved(tmp_path, file, "--preset", tiny(tmp_path), "--checkpoint", "none")
    assert [r.getMessage().split(":")[1] for r in caplog.records if "predictions.jsonl" in r.getMessage()] == [" cannot be read"]
    assert file_faults(output, load(file)) == [] and len(Answering.solved) == 4
    assert {p.task for p in read_run(run).predictions if p.final} == set(Answering.solved), "this run's are recorded"


@pytest.mark.parametrize("described", [True, False])
def test_a_killed_run_of_an_earlier_version_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str], described: bool) -> None:
    run = tmp_path / "s.json.run"
    shutil.copytree(RECORDED / "run", run, ignore=None if described else shutil.ignore_patterns("run.json"))
    file = RECORDED / "challenges.json"
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    final = {line["task"]: line["candidates"][0]["grid"] for line in lines if line["final"]}
    assert sorted(final) == ["137f0df0", "2072aba6"] and lines[-1]["task"] == "12eac192", "as it was recorded"
    output, _ = solved(tmp_path, file, "--preset", tiny(tmp_path), "--checkpoint", "none")
    assert "2 had their final answer from before" in capsys.readouterr().out
    assert sorted(Answering.solved) == ["00576224", "12eac192"]
    assert file_faults(output, load(file)) == []
    answers = read_submission(output)[0]
    assert {task: answers[task][0][0].tolist() for task in final} == final
    whole = load_run(run)
    assert len(whole.state.attempts) == 2 and len(whole.answered) == 4
    assert [note for note in whole.notes if "random weights" not in note] == []
    attempts = [p.attempt for p in read_run(run).predictions]
    assert attempts == [1] * len(lines) + [2] * (len(attempts) - len(lines))
