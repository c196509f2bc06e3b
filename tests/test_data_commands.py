"""Commands that take data under any name: convert, score, solve of a folder, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.corpora.sources import load
from tests.shared import write

PAIR = {"input": [[1, 2]], "output": [[3]]}
TASK = {"train": [PAIR], "test": [{"input": [[4]], "output": [[5]]}]}


def test_convert_writes_kaggles_pair_of_files_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "Above" / "Above1.json", TASK)
    write(tmp_path / "Below" / "Below1.json", {"train": [PAIR], "test": [{"input": [[6]]}]})
    assert main(["convert", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert "2 tasks" in capsys.readouterr().out
    challenges, solutions = (tmp_path / "out" / f"{tmp_path.name}_{part}.json" for part in ("challenges", "solutions"))
    tasks, known = load(challenges, solutions=True)
    assert list(tasks) == ["Above1", "Below1"] and [g.tolist() for g in known["Above1"]] == [[[5]]]
    assert json.loads(solutions.read_text()) == {"Above1": [[[5]]]}
    assert "output" not in json.loads(challenges.read_text())["Above1"]["test"][0]


def test_convert_refuses_what_there_is_nothing_to_solve_of_and_score_answers_that_are_none(tmp_path: Path, refused: Any) -> None:
    write(tmp_path / "x.json", [PAIR])
    line = refused(main, ["convert", str(tmp_path / "x.json"), "--output", str(tmp_path / "out")])
    assert "no test inputs" in line and not (tmp_path / "out").exists()
    write(tmp_path / "y.json", TASK)
    assert refused(main, ["convert", str(tmp_path / "y.json"), "--output", "/dev/null/out"])
    submission = write(tmp_path / "submission.json", {"t": []})
    for truth in ({"t": {"train": [PAIR], "test": [{"input": [[1]]}]}}, {"t": 5}):
        assert refused(main, ["score", "--submission", str(submission), "--solutions", str(write(tmp_path / "z.json", truth))])


@pytest.mark.parametrize("way", ["named", "symbolic link", "hard link", "solutions beside it", "folder"])
def test_convert_never_overwrites_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, way: str) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"a": TASK, "b": {"train": [PAIR], "test": [{"input": [[6]]}]}, "broken": {"train": 5}}
    source = write(tmp_path / "x_challenges.json", content)
    given, output = source, tmp_path
    if way == "hard link":
        given = Path("x.json")
        given.hardlink_to(source)
    elif way in ("symbolic link", "solutions beside it"):
        known = source if way == "symbolic link" else write(tmp_path / "x_solutions.json", {"a": [[[5]]]})
        output = Path("out")
        output.mkdir()
        (output / known.name).symlink_to(known) if way == "symbolic link" else (output / known.name).hardlink_to(known)
    elif way == "folder":
        given = output = tmp_path / "x"
        source = source.rename(write(given / "x_challenges.json", {}))
    before = source.read_bytes()
    assert main(["convert", str(given), "--output", str(output)]) == 2
    (*_, last) = capsys.readouterr().err.splitlines()
    assert "would be overwritten: give another --output" in last
    assert source.read_bytes() == before and not [*tmp_path.rglob("*.tmp")]
    for _ in range(2):
        assert main(["convert", str(given), "--output", "elsewhere"]) == 0, "its own output it may write over"


@pytest.mark.parametrize("form", ["solutions", "tasks with answers", "folder"])
def test_score_takes_answers_from_wherever_they_are_and_counts_malformed_attempts(tmp_path: Path, capsys: Any, form: str) -> None:
    truth = {
        "solutions": write(tmp_path / "s.json", {"t": [[[5]]], "u": [[[5]]], "v": [[[5]]]}),
        "tasks with answers": write(tmp_path / "c.json", {"t": TASK, "u": TASK, "v": TASK}),
        "folder": next(iter([write(tmp_path / "d" / f"{name}.json", TASK) for name in "tuv"])).parent,
    }[form]
    good = {"attempt_1": [[5]], "attempt_2": [[1]]}
    answers = {"t": [good], "u": [{"attempt_1": [], "attempt_2": [[5]]}], "v": [{"attempt_1": "?", "attempt_2": [[1, 2], [3]]}]}
    submission = write(tmp_path / "submission.json", answers)
    assert main(["score", "--submission", str(submission), "--solutions", str(truth)]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert list(result) == ["pass@1", "pass@2", "task_pass@2", "mean_task_pass@2", "cell_accuracy", "counts"]
    assert result["pass@2"] == pytest.approx(2 / 3) and result["counts"]["malformed"] == 3
    assert "3 malformed attempts count as wrong, the first is " in said.err
    assert "task u: output 0 attempt_1: should be a list of 1 to 30 rows" in said.err
    assert main(["validate", "--submission", str(submission), "--challenges", str(tmp_path / "s.json")]) == 2, "solutions are no tasks"
    write(tmp_path / "submission.json.run" / "run.json", {"v": 1, "tasks": ["t"]})
    assert main(["score", "--submission", str(submission), "--solutions", str(truth)]) == 0
    assert "the 1 chosen tasks alone: pass@2 100.0% of 1 test outputs; the others were not chosen" in capsys.readouterr().err
    write(tmp_path / "all.json", {"t": TASK, "u": TASK, "v": TASK})
    assert main(["validate", "--submission", str(submission), "--challenges", str(tmp_path / "all.json")]) == 1, "which stays strict"


def test_a_plain_task_is_that_one_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, output = write(tmp_path / "mine.json", TASK), tmp_path / "s.json"
    assert main(["solve", "--challenges", str(task), "--output", str(output), "--devices", "cpu", "--segments-per-task", "1"]) == 0
    assert list(json.loads(output.read_text())) == ["mine"]
    assert main(["show", "--dataset", str(task), "--task", "mine"]) == 0


def test_weights_of_trm_are_told_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"model.inner.lm_head.weight": torch.zeros(12, 8)}, tmp_path / "w.pt")
    arch = {"name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1", "H_layers": 0, "L_layers": 2, "hidden_size": 8}
    config = write(tmp_path / "all_config.json", {"arch": arch})
    given = ["--weights", str(tmp_path / "w.pt"), "--config", str(config), "--output", str(tmp_path / "o.safetensors")]
    assert main(["import-checkpoint", *given]) == 2
    assert "of TRM (Tiny Recursive Model), which has one network for both levels" in capsys.readouterr().err
