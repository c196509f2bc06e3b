"""Answers of several solvers as one: what wins, what is filled in, and what is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.cli import main
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunWriter
from hrm_submit.report.merge import merge
from hrm_submit.report.options import MergeOptions
from tests.shared import write

A, B, C, D = ([[k]] for k in (1, 2, 3, 4))
PAIRS = (Pair(make_grid([[7]]), make_grid([[8]])),)
TASKS = {name: Task(name, PAIRS, (make_grid([[9]]),)) for name in ("t", "u")}


def submission(folder: Path, name: str, **answers: list[Any]) -> Path:
    return write(folder / name, {task: [{"attempt_1": a[0], "attempt_2": a[1]}] for task, a in answers.items()})


def run_folder(folder: Path, name: str, challenges: Path | None = None, **weights: dict[int, float]) -> Path:
    writer = RunWriter(folder / name, lambda: 0.0)
    writer.describe({"challenges": str(challenges)} if challenges else {})
    for task, given in weights.items():
        candidates = [Candidate(make_grid([[k]]), 1, -0.1, w) for k, w in given.items()]
        writer.prediction(task, 0, True, candidates)
    writer.flush()
    return folder / name


def merged(folder: Path, *sources: Path, **options: Any) -> tuple[dict[str, list[Any]], str]:
    line = merge(MergeOptions(sources=sources, output=folder / "merged.json", **options))
    answers = json.loads((folder / "merged.json").read_text())
    return {task: [outputs[0]["attempt_1"], outputs[0]["attempt_2"]] for task, outputs in answers.items()}, line


def test_first_attempts_come_first_and_equal_grids_add_up(tmp_path: Path) -> None:
    one, two = submission(tmp_path, "1.json", t=[A, B], u=[A, C]), submission(tmp_path, "2.json", t=[D, C], u=[B, C])
    answers, _ = merged(tmp_path, one, two)
    assert sorted(map(str, answers["t"])) == sorted(map(str, [A, D])), "both firsts before both seconds"
    three = submission(tmp_path, "3.json", t=[C, B], u=[D, C])
    answers, line = merged(tmp_path, one, two, three)
    assert answers["u"][0] == C, "three seconds that agree outweigh any first"
    assert line.endswith("first attempts: 1 of 3.json, 0 of 1.json, 0 of 2.json")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    alike = submission(tmp_path / "a", "1.json", t=[A, B]), submission(tmp_path / "b", "1.json", t=[D, C])
    line = merged(tmp_path, *alike, weights=(2.0, 1.0))[1]
    assert line.endswith(f"first attempts: 1 of {alike[0]}, 0 of {alike[1]}"), "sources of one name are told apart"


def test_weights_and_shares_of_votes_decide(tmp_path: Path) -> None:
    one, two = submission(tmp_path, "1.json", t=[A, B]), submission(tmp_path, "2.json", t=[D, C])
    for weights, first in (((1.0, 2.0), D), ((2.0, 1.0), A), ((0.0, 1.0), D)):
        assert merged(tmp_path, one, two, weights=weights)[0]["t"][0] == first
    assert merged(tmp_path, one, two, weights=(0.0, 1.0))[0]["t"] == [D, C]
    with pytest.raises(ConfigError, match="1 weights for 2 sources"):
        merged(tmp_path, one, two, weights=(1.0,))
    few, many = run_folder(tmp_path, "few", t={1: 6.0, 2: 4.0}), run_folder(tmp_path, "many", t={2: 48.0, 3: 16.0})
    answers, line = merged(tmp_path, few, many)
    assert answers["t"] == [B, A], "0.4 + 0.75, then 0.6, whatever the number of views"
    assert "first attempts: 1 of many, 0 of few" in line
    beside = submission(tmp_path, "s.json", t=[C, C])
    assert merged(tmp_path, few, beside)[0]["t"][0] == C, "a submission that says one grid twice is sure of it"


def test_it_is_complete_and_valid_whatever_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    run = run_folder(tmp_path, "run", tmp_path / "c.json", t={1: 2.0})
    bad = tmp_path / "bad.json"
    bad.write_text('{"t": [{"attempt_1": [], "attempt_2": "no"}], "u": "none", "v": [{"attempt_1": [[1]], "attempt_2": [[1]]}]}')
    answers, _ = merged(tmp_path, bad, run)
    assert list(answers) == ["t", "u"] and answers["t"][0] == A
    assert "bad.json: answers 1 tasks that are not among the challenges, the first is v" in caplog.text
    given = ["--submission", str(tmp_path / "merged.json"), "--challenges", str(tmp_path / "c.json")]
    assert main(["validate", *given]) == 0
    answers, _ = merged(tmp_path, bad, submission(tmp_path, "s.json", t=[A, B]))
    assert list(answers) == ["v", "t"] and answers["v"][0] == A, "without challenges: all that anyone answers"
    named = [run_folder(tmp_path, name, "arc-agi-1-evaluation", t={1: 2.0}) for name in ("named", "named-2")]  # type: ignore[arg-type]
    assert "400 tasks, 419 test outputs" in merged(tmp_path, *named)[1], "a set's name is as good as a file"
    both = write(tmp_path / "both.json", {"t": [{"attempt_1": A, "attempt_2": B}] * 2})
    assert "1 tasks, 2 test outputs" in merged(tmp_path, both, submission(tmp_path, "s.json", t=[A, B]))[1]


def test_a_run_that_answered_nothing_leaves_the_word_to_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_challenges(tmp_path / "c.json", TASKS)
    run = run_folder(tmp_path, "run", tmp_path / "c.json", t={}, u={})
    answers, _ = merged(tmp_path, run, submission(tmp_path, "s.json", t=[A, B], u=[C, D]))
    assert answers == {"t": [A, B], "u": [C, D]} and "run: holds no answers" in caplog.text
    with pytest.raises(DataError, match="run: holds no answers"):
        merged(tmp_path, run)


def test_the_command_refuses_in_one_line(tmp_path: Path, refused: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one, out = submission(tmp_path, "1.json", t=[A, B]), str(tmp_path / "m.json")
    (tmp_path / "empty").mkdir()
    for sources in ([str(one), str(one)], [str(tmp_path / "nowhere.json")], [str(tmp_path / "empty")], [str(one), "--weights", "1,2"]):
        assert refused(main, ["merge", *sources, "--output", out])
    before = one.read_bytes()
    assert "1.json: is one of the files to read and would be overwritten" in refused(main, ["merge", str(one), "--output", str(one)])
    assert one.read_bytes() == before
    assert main(["merge", str(one), "--output", out]) == 0
    assert "m.json: 1 tasks, 1 test outputs; first attempts: 1 of 1.json" in capsys.readouterr().out
