"""A run as `show` sums it up, and the command, over folders whose every line is known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import make_grid
from hrm_submit.cli import main
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.report.picture import Picture
from hrm_submit.report.show import show
from tests.report.lab import Run, small_run
from tests.report.test_show import on_page

RIGHT, WRONG = [[1, 2]], [[3, 4]]


@pytest.fixture
def written(tmp_path: Path) -> Run:
    """Six tasks: two solved, two wrong, one without any candidate, one never begun."""
    votes: dict[str, Any] = {f"t{k}": [[(RIGHT, 6), (WRONG, 2)] if k % 2 else [(WRONG, 5)]] for k in range(4)}
    return small_run(tmp_path, {f"t{k}": [RIGHT] for k in range(6)}, votes | {"t4": [[]]})


def table(picture: Picture) -> list[list[str]]:
    (found,) = ElementTree.fromstring(picture._repr_html_()).iter("table")
    return [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]


def test_a_run_is_summed_up_and_a_few_attempts_are_shown(written: Run) -> None:
    picture = show(written.directory, solutions=load_solutions(written.solutions))
    head, *rows = table(picture)
    assert head == ["task", "state", "segments", "seconds", "demo_exact", "votes_share", "ended"]
    assert rows[0] == ["t0", "wrong", "30", "15.0", "0.25", "1.0", "share used"]
    assert rows[1] == ["t1", "solved", "30", "15.0", "0.25", "0.75", "share used"]
    assert [row[0] for row in rows] == [f"t{k}" for k in range(6)] and rows[5][2:] == ["", "", "", "", ""]
    page = picture._repr_html_()
    assert page.index("2 of 6 test outputs solved (33.3%)") < page.index("4 of 6 tasks answered by the model, right or wrong")
    headings = [h.text for h in ElementTree.fromstring(page).iter("h4")]
    assert headings == ["task t0, wrong", "task t1, solved", "task t2, wrong", "task t3, solved"], "the first few"
    assert ("attempt 1, 6 of 8 votes, right", RIGHT, set()) in on_page(picture)


def test_named_tasks_of_a_run_are_shown_and_fallbacks_said_to_be_such(written: Run) -> None:
    bare = show(str(written.directory))
    assert "solved" not in bare._repr_html_() and {row[1] for row in table(bare)[1:]} == {"unknown"}, "without solutions nothing is judged"
    assert bare._repr_html_().index("not scored: no solutions were given") < bare._repr_html_().index("4 of 6 tasks answered")
    picture = show(written.directory, ids=["t5", "t1"])
    assert [h.text for h in ElementTree.fromstring(picture._repr_html_()).iter("h4")] == ["task t5, answered by fallback", "task t1"]
    with pytest.raises(DataError, match="has no task t9, t7"):
        show(written.directory, ids=["t9", "t1", "t7"])
    with pytest.raises(TypeError, match="by task id"):
        show(written.directory, solutions=[make_grid(RIGHT)])


def test_a_submission_instead_of_its_run_folder_is_told_where_that_is(written: Run, refused: Any) -> None:
    folder = written.directory.rename(f"{written.submission}.run")
    written.submission.write_text("{}")
    given, page = str(written.submission), str(written.challenges) + ".html"
    commands = [["report", "--run-dir", given, "--output", page], ["runs", "--compare", given, str(folder)]]
    for argv in (*commands, ["show", "--run-dir", given], ["watch", "--run-dir", given], ["watch", "--run-dir", given, "--once"]):
        assert refused(main, argv) == f"hrm-submit: {given}: is a file, no run folder; its run folder is {folder}"


def said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    return main(argv), *capsys.readouterr()


def test_the_command_shows_what_the_function_does(
    written: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    task, solutions = load(written.challenges)["t3"], load_solutions(written.solutions)
    argv = ["show", "--dataset", str(written.challenges), "--tasks", "t3"]
    for options, answers in (([], None), (["--solutions"], solutions), (["--solutions", str(written.solutions)], solutions)):
        picture = show(task, solutions=answers)
        assert said([*argv, *options], capsys) == (0, picture.blocks(colour=False, width=100) + "\n", "")
    argv = ["show", "--run-dir", str(written.directory), "--tasks", "t1,t5", "--solutions"]
    picture = show(written.directory, solutions=solutions, ids=["t1", "t5"])
    assert said(argv, capsys) == (0, picture.blocks(colour=False, width=100) + "\n", "")
    assert said([*argv, "--html", str(tmp_path / "run.html")], capsys) == (0, f"{tmp_path / 'run.html'}: {picture.title}\n", "")
    page = (tmp_path / "run.html").read_text()
    assert page.startswith("<!doctype html>") and picture._repr_html_() in page


def test_a_set_is_a_contact_sheet_and_open_tasks_of_a_run_are_those_unsolved_or_unsettled(
    written: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = load(written.challenges)
    sheet = show(tasks)
    assert sheet._repr_html_().count("<svg") == 2 * len(tasks)
    assert [caption for caption, _, _ in on_page(sheet)][::2] == list(tasks) == [row[0] for row in table(sheet)[1:]]
    with (written.directory / "events.jsonl").open("a") as file:
        file.write('{"v":1,"t":99,"event":"task_final","task":"t0","worker":0,"settled":true}\n')
    write_challenges(written.directory / "more.json", tasks | {"t9": replace(tasks["t0"], id="t9")})  # the run never had it
    argv = ["show", "--dataset", str(written.directory / "more.json"), "--unsolved-of", str(written.directory)]
    truth = ["--solutions", str(written.solutions)]
    for more, wanted in (([], ["t1", "t2", "t3", "t4", "t5"]), (truth, ["t0", "t2", "t4", "t5"])):
        status, out, _ = said([*argv, *more], capsys)
        assert (status, re.findall(r"(?m)^ *(t\d) ", out)) == (0, wanted)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--dataset", "{file}", "--tasks", "t9"], "has no task t9"),
        (["--dataset", "{file}", "--tasks", "@{none}"], "none: no such file"),
        (["--dataset", "{file}", "--first", "0"], "--first must be at least 1"),
        (["--dataset", "{file}", "--max-side", "1"], "no task is left of those asked for"),
        (["--dataset", "{file}", "--unsolved-of", "{empty}"], "holds no run"),
        (["--dataset", "arc-agi-9", "--tasks", "t1"], "unknown data 'arc-agi-9'; known: arc-agi-1-training"),
        (["--dataset", "{alone}", "--tasks", "t1", "--solutions"], "has no solutions"),
        (["--run-dir", "{none}"], "no such run folder"),
        (["--run-dir", "{empty}"], "holds no run"),
        (["--run-dir", "{run}", "--tasks", "t9"], "has no task t9"),
        (["--run-dir", "{run}", "--html", "{none}/x.html"], "cannot be written"),
    ],
)
def test_wrong_input_of_the_command_is_one_line(written: Run, tmp_path: Path, refused: Any, options: list[str], fault: str) -> None:
    alone = tmp_path / "alone.json"
    alone.write_bytes(written.challenges.read_bytes())
    places = {"file": written.challenges, "alone": alone, "none": tmp_path / "none", "run": written.directory, "empty": tmp_path}
    assert fault in refused(main, ["show", *(option.format(**places) for option in options)])
