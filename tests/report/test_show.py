"""What `show` puts on a page and on a terminal, read back grid by grid."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hrm_submit
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.predict.vote import Candidate
from hrm_submit.report.grids import PALETTE
from hrm_submit.report.picture import Picture
from hrm_submit.report.show import show
from hrm_submit.solver.task_answer import TaskAnswer
from tests.arc.strategies import tasks as any_task
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
@given(any_task(max_side=12))
def test_a_task_shows_every_grid_in_order(task: Task) -> None:
    wanted = []
    for n, pair in enumerate(task.train, 1):
        wanted += [(f"input {n}", pair.input.tolist()), (f"output {n}", pair.output.tolist())]
    many = len(task.test) > 1
    wanted += [(f"test input {k}" if many else "test input", grid.tolist()) for k, grid in enumerate(task.test, 1)]
    assert [(caption, cells) for caption, cells, _ in on_page(show(task))] == wanted


def test_grids_stand_side_by_side_for_as_long_as_they_fit() -> None:
    wide = show(SMALL).blocks(colour=False, width=80)
    pairs = "input 1  output 1      input 2  output 2\n1 2      2 1           3        4\n                       4        3"
    assert wide == f"task abc\n\n{pairs}\n\ntest input\n5 6"
    narrow = show(SMALL).blocks(colour=False, width=20)
    rows = ["input 1  output 1", "1 2      2 1", "", "input 2  output 2", "3        4", "4        3"]
    assert narrow.split("\n")[2:] == [*rows, "", "test input", "5 6"]
    assert "input 1\n1 2\n\noutput 1\n2 1" in show(SMALL).blocks(colour=False, width=8), "even a pair breaks"


@settings(max_examples=20)
@given(any_task(max_side=9), st.integers(30, 120))
def test_no_line_is_wider_than_the_terminal_and_colours_change_no_place(task: Task, width: int) -> None:
    plain = show(task).blocks(colour=False, width=width)
    coloured = show(task).blocks(colour=True, width=width)
    assert max(map(len, plain.split("\n")[1:])) <= width
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert max(map(len, bare.split("\n")[1:])) <= width
    captions = [line for line in plain.split("\n") if re.search("[a-z]{4}", line)]
    assert [line for line in bare.split("\n") if re.search("[a-z]{4}", line)] == captions
    cells = sum(grid.size for grid in task.grids())
    painted_cells = sum(len(run) // 2 for run in re.findall(r"\x1b\[\d+;48;2;\d+;\d+;\d+m( +)", coloured))
    assert painted_cells == cells


def test_several_tasks_with_answers_show_those_that_are_answered() -> None:
    tasks = {name: Task(name, SMALL.train, SMALL.test) for name in ("a", "b", "c")}
    answers = {name: [[make_grid([[6, 5]]), make_grid([[5, 6]])]] for name in ("c", "a")}
    solutions = {"a": (make_grid([[6, 5]]),)}
    for several in (tasks, list(tasks.values())):
        picture = show(several, answers, solutions=solutions)
        assert [h.text for h in ElementTree.fromstring(picture._repr_html_()).iter("h4")] == ["task c", "task a"]
        captions = [caption for caption, _, _ in on_page(picture)]
        assert captions.count("test input") == 2 and captions.count("attempt 1") == captions.count("attempt 1, right") == 1
    with pytest.raises(DataError, match="there is no task d"):
        show(tasks, answers | {"d": answers["a"]})
    with pytest.raises(TypeError, match="by task id"):
        show(tasks, answers["a"])


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


@pytest.mark.parametrize("as_json", [False, True])
def test_a_submission_shows_both_attempts_and_judges_nothing_unasked(as_json: bool) -> None:
    pair = (OTHER, RIGHT)
    entry = {f"attempt_{k}": grid.tolist() for k, grid in enumerate(pair, 1)} if as_json else pair
    judged = [caption for caption, _, _ in on_page(show(SMALL, [entry], solutions=[RIGHT]))][5:]
    assert judged == ["attempt 1, wrong size: 2x1, not 1x3", "attempt 2, right", "answer"]
    assert [(caption, cells) for caption, cells, _ in on_page(show(SMALL, [entry]))][5:] == [
        ("attempt 1", [[6], [5]]),
        ("attempt 2", [[6, 5, 4]]),
    ]
    assert [cells for _, cells, _ in on_page(show(SMALL, [{"attempt_1": [[1, 2], [3]], "attempt_2": [[4]]}]))][5:] == [[[4]]]


@pytest.mark.parametrize("thing", [5, None, {"a": 1}, [5], ["x"], [[OTHER, RIGHT]], np.zeros((2, 2, 2)), b"x"])
def test_anything_else_is_refused_in_words(thing: Any) -> None:
    with pytest.raises((TypeError, DataError), match=r"cannot show|task"):
        show(thing)


def test_a_prediction_of_more_outputs_than_there_are_tests_shows_those_with_grids() -> None:
    captions = ["test input 1", "attempt 1", "attempt 2", "attempt 1", "attempt 2"]
    assert [caption for caption, _, _ in on_page(show(SMALL, [[RIGHT, NEAR], [NEAR, RIGHT], ["none", None]]))][4:] == captions
    assert show(SMALL, [[RIGHT, NEAR], ["none", None]]).blocks(colour=False, width=80).endswith("6 5 4      6 1 1")


@pytest.mark.parametrize("thing", [5, [5], ["x"], np.zeros((2, 2, 2)), b"x"])
def test_what_is_no_prediction_is_refused_in_words(thing: Any) -> None:
    with pytest.raises(TypeError, match="prediction"):
        show(SMALL, thing)


def test_an_id_can_neither_leave_its_markup_nor_move_the_terminal() -> None:
    task = Task('<b onclick="x">&\x1b[2J\n', SMALL.train, SMALL.test)
    root = ElementTree.fromstring(show(task)._repr_html_())
    assert (root.findtext("h3"), root.find(".//b")) == ('task <b onclick="x">&?[2J?', None)
    assert show(task).blocks(colour=False, width=80).split("\n")[0] == 'task <b onclick="x">&?[2J?'


@pytest.mark.parametrize(("tty", "no_colour", "coloured"), [(True, None, True), (True, "1", False), (True, "", True), (False, None, False)])
def test_print_has_colours_on_a_terminal_that_wants_them(
    monkeypatch: pytest.MonkeyPatch, tty: bool, no_colour: str | None, coloured: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("COLUMNS", "80")
    picture = show(SMALL)
    assert str(picture) == repr(picture) == picture.blocks(colour=coloured, width=80)
    assert ("\x1b[" in str(picture)) == coloured


def test_the_package_has_show_and_loads_nothing_for_it_before_it_is_asked() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shwo'"):
        _ = hrm_submit.shwo
    code = "import sys, hrm_submit; print([m for m in ('numpy', 'torch', 'pandas', 'hrm_submit.report') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
