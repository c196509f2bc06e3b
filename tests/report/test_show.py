"""What `show` puts on a page and on a terminal, read back grid by grid: tasks, answers, runs; and the command."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.cli import main
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import load_solutions
from hrm_submit.corpora.sources import load
from hrm_submit.predict.vote import Candidate
from hrm_submit.report.grids import PALETTE
from hrm_submit.report.picture import Picture
from hrm_submit.report.show import show
from hrm_submit.solver.task_answer import TaskAnswer
from tests.arc.strategies import tasks as any_task
from tests.report.lab import Run, small_run
from tests.report.test_grids import crossed, painted

SMALL = Task(
    "abc", (Pair(make_grid([[1, 2]]), make_grid([[2, 1]])), Pair(make_grid([[3], [4]]), make_grid([[4], [3]]))), (make_grid([[5, 6]]),)
)


def on_page(picture: Picture) -> list[tuple[str, list[list[int]], set[tuple[int, int]]]]:
    """Caption, cells and crossed cells of each grid of a page, in its order."""
    found = []
    for figure in ElementTree.fromstring(picture._repr_html_()).iter("figure"):
        caption, svg = figure.find("figcaption"), figure.find("svg")
        assert caption is not None and svg is not None
        markup = ElementTree.tostring(svg, encoding="unicode")
        found.append((caption.text or "", [[PALETTE.index(colour) for colour in row] for row in painted(markup)], crossed(markup)))
    return found


@settings(max_examples=20)
@given(any_task(max_side=12), st.integers(30, 120))
def test_a_task_shows_every_grid_in_order_and_no_line_is_wider_than_the_terminal(task: Task, width: int) -> None:
    wanted = []
    for n, pair in enumerate(task.train, 1):
        wanted += [(f"input {n}", pair.input.tolist()), (f"output {n}", pair.output.tolist())]
    many = len(task.test) > 1
    wanted += [(f"test input {k}" if many else "test input", grid.tolist()) for k, grid in enumerate(task.test, 1)]
    assert [(caption, cells) for caption, cells, _ in on_page(show(task))] == wanted
    plain, coloured = (show(task).blocks(colour=colour, width=width) for colour in (False, True))
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    for text in (plain, bare):
        assert max(map(len, text.split("\n")[1:])) <= width
    captions = [[line for line in text.split("\n") if re.search("[a-z]{4}", line)] for text in (plain, bare)]
    assert captions[0] == captions[1], "colours change no place"
    painted_cells = sum(len(run) // 2 for run in re.findall(r"\x1b\[\d+;48;2;\d+;\d+;\d+m( +)", coloured))
    assert painted_cells == sum(grid.size for grid in task.grids())


def test_grids_stand_side_by_side_for_as_long_as_they_fit() -> None:
    wide = show(SMALL).blocks(colour=False, width=80)
    pairs = "input 1  output 1      input 2  output 2\n1 2      2 1           3        4\n                       4        3"
    assert wide == f"task abc\n\n{pairs}\n\ntest input\n5 6"
    narrow = show(SMALL).blocks(colour=False, width=20)
    rows = ["input 1  output 1", "1 2      2 1", "", "input 2  output 2", "3        4", "4        3"]
    assert narrow.split("\n")[2:] == [*rows, "", "test input", "5 6"]
    assert "input 1\n1 2\n\noutput 1\n2 1" in show(SMALL).blocks(colour=False, width=8), "even a pair breaks"


RIGHT, NEAR, OTHER = make_grid([[6, 5, 4]]), make_grid([[6, 1, 1]]), make_grid([[6], [5]])


def test_an_answer_shows_its_attempts_with_their_votes_and_its_guesses_without() -> None:
    candidates = [Candidate(NEAR, 7, -0.1), Candidate(RIGHT, 2, -0.2), Candidate(OTHER, 1, -0.3)]
    task = Task("abc", SMALL.train, (make_grid([[5, 6]]), make_grid([[7]])))
    attempts = ((NEAR, RIGHT), (OTHER, NEAR))
    answer = TaskAnswer(task, (tuple(candidates), (candidates[2],)), attempts, 10, 5, 1.0, 2.0, "time used")
    for shown in (show(answer, solutions=[RIGHT]), show(task, answer, solutions={"abc": (RIGHT,), "other": ()})):
        assert on_page(shown)[4:] == [
            ("test input 1", [[5, 6]], set()),
            ("attempt 1, 7 of 10 votes, 2 cells wrong", [[6, 1, 1]], {(0, 1), (0, 2)}),
            ("attempt 2, 2 of 10 votes, right", [[6, 5, 4]], set()),
            ("answer", [[6, 5, 4]], set()),
            ("test input 2", [[7]], set()),
            ("attempt 1, 1 of 1 votes", [[6], [5]], set()),
            ("attempt 2, fallback", [[6, 1, 1]], set()),
        ]
    assert len(on_page(show(task, solutions={"other": (RIGHT,)}))) == 6


@pytest.mark.parametrize("thing", [5, None, {"a": 1}, [5], ["x"], [[OTHER, RIGHT]], np.zeros((2, 2, 2)), b"x"])
def test_what_is_no_task_is_refused_in_words(thing: Any) -> None:
    with pytest.raises((TypeError, DataError), match=r"cannot show|task"):
        show(thing)


def test_what_is_no_answer_to_one_task_is_refused_in_words() -> None:
    answer = TaskAnswer(SMALL, ((),), ((RIGHT, NEAR),), 10, 5, 1.0, 2.0, "time used")
    for what, other in ((SMALL, [[OTHER, RIGHT]]), (SMALL, 5), ([SMALL], {"abc": answer}), ([SMALL], answer)):
        with pytest.raises(TypeError, match=r"an answer is what Solver\.solve returns, and is shown with its task"):
            show(what, other)  # type: ignore[arg-type]


def test_an_id_can_neither_leave_its_markup_nor_move_the_terminal() -> None:
    task = Task('<b onclick="x">&\x1b[2J\n', SMALL.train, SMALL.test)
    root = ElementTree.fromstring(show(task)._repr_html_())
    assert (root.findtext("h3"), root.find(".//b")) == ('task <b onclick="x">&?[2J?', None)
    assert show(task).blocks(colour=False, width=80).split("\n")[0] == 'task <b onclick="x">&?[2J?'


@pytest.mark.parametrize(("tty", "no_colour", "coloured"), [(True, None, True), (True, "1", False), (True, "", True), (False, None, False)])
def test_print_has_colours_on_a_terminal_that_wants_them(monkeypatch: Any, tty: bool, no_colour: str | None, coloured: bool) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("COLUMNS", "80")
    picture = show(SMALL)
    assert str(picture) == repr(picture) == picture.blocks(colour=coloured, width=80)
    assert ("\x1b[" in str(picture)) == coloured


DONE, MISSED = [[1, 2]], [[3, 4]]


@pytest.fixture
def written(tmp_path: Path) -> Run:
    """Six tasks: two solved, two wrong, one without any candidate, one never begun."""
    votes: dict[str, Any] = {f"t{k}": [[(DONE, 6), (MISSED, 2)] if k % 2 else [(MISSED, 5)]] for k in range(4)}
    return small_run(tmp_path, {f"t{k}": [DONE] for k in range(6)}, votes | {"t4": [[]]})


def table(picture: Picture) -> list[list[str]]:
    (found,) = ElementTree.fromstring(picture._repr_html_()).iter("table")
    return [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]


def test_a_run_is_summed_up_with_a_few_attempts_or_those_at_named_tasks(written: Run) -> None:
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
    assert ("attempt 1, 6 of 8 votes, right", DONE, set()) in on_page(picture)
    bare = show(str(written.directory))
    assert "solved" not in bare._repr_html_() and {row[1] for row in table(bare)[1:]} == {"unknown"}, "without solutions nothing is judged"
    assert bare._repr_html_().index("not scored: no solutions were given") < bare._repr_html_().index("4 of 6 tasks answered")
    picture = show(written.directory, ids=["t5", "t1"])
    assert [h.text for h in ElementTree.fromstring(picture._repr_html_()).iter("h4")] == ["task t5, answered by fallback", "task t1"]
    with pytest.raises(DataError, match="has no task t9, t7"):
        show(written.directory, ids=["t9", "t1", "t7"])
    with pytest.raises(TypeError, match="by task id"):
        show(written.directory, solutions=[make_grid(DONE)])


def test_a_submission_instead_of_its_run_folder_is_told_where_that_is(written: Run, refused: Any) -> None:
    folder = written.directory.rename(f"{written.submission}.run")
    written.submission.write_text("{}")
    given, page = str(written.submission), str(written.challenges) + ".html"
    commands = [["report", "--run-dir", given, "--output", page], ["runs", "--compare", given, str(folder)]]
    for argv in (*commands, ["show", "--run-dir", given], ["watch", "--run-dir", given], ["watch", "--run-dir", given, "--once"]):
        assert refused(main, argv) == f"hrm-submit: {given}: is a file, no run folder; its run folder is {folder}"


def test_the_command_shows_what_the_function_does(written: Run, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*argv: str) -> str:
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return str(out)

    monkeypatch.setenv("COLUMNS", "100")
    task, solutions = load(written.challenges)["t3"], load_solutions(written.solutions)
    argv = ["show", "--dataset", str(written.challenges), "--tasks", "t3"]
    for options, answers in (([], None), (["--solutions"], solutions), (["--solutions", str(written.solutions)], solutions)):
        picture = show(task, solutions=answers)
        assert said(*argv, *options) == picture.blocks(colour=False, width=100) + "\n"
    argv = ["show", "--run-dir", str(written.directory), "--tasks", "t1,t5", "--solutions"]
    picture = show(written.directory, solutions=solutions, ids=["t1", "t5"])
    assert said(*argv) == picture.blocks(colour=False, width=100) + "\n"
    assert said(*argv, "--html", str(tmp_path / "run.html")) == f"{tmp_path / 'run.html'}: {picture.title}\n"
    page = (tmp_path / "run.html").read_text()
    assert page.startswith("<!doctype html>") and picture._repr_html_() in page


def test_a_set_is_a_contact_sheet_and_open_tasks_of_a_run_are_unsolved_or_unsettled(written: Run, capsys: Any) -> None:
    tasks = load(written.challenges)
    sheet = show(tasks)
    assert sheet._repr_html_().count("<svg") == 2 * len(tasks)
    assert show(list(tasks.values()))._repr_html_() == sheet._repr_html_()
    assert [caption for caption, _, _ in on_page(sheet)][::2] == list(tasks) == [row[0] for row in table(sheet)[1:]]
    with (written.directory / "events.jsonl").open("a") as file:
        file.write('{"v":1,"t":99,"event":"task_final","task":"t0","worker":0,"settled":true}\n')
    write_challenges(written.directory / "more.json", tasks | {"t9": replace(tasks["t0"], id="t9")})  # the run never had it
    argv = ["show", "--dataset", str(written.directory / "more.json"), "--unsolved-of", str(written.directory)]
    truth = ["--solutions", str(written.solutions)]
    for more, wanted in (([], ["t1", "t2", "t3", "t4", "t5"]), (truth, ["t0", "t2", "t4", "t5"])):
        assert (main([*argv, *more]), re.findall(r"(?m)^ *(t\d) ", capsys.readouterr().out)) == (0, wanted)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--dataset", "{file}", "--tasks", "t9"], "has no task t9"),
        (["--dataset", "{file}", "--tasks", "@{none}"], "none: no such file"),
        (["--dataset", "{file}", "--first", "0"], "--first must be at least 1"),
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
