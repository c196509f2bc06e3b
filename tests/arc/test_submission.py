"""The submission format: what is written is valid and read back; each fault of a file is one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.submission import faults, file_faults, read_submission, to_json
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from tests.arc.strategies import grids

GRID = [[1, 2], [3, 4]]
ANSWER = {"attempt_1": GRID, "attempt_2": [[0]]}
ONE = make_grid([[1]])
TASKS = {"a": Task("a", (Pair(ONE, ONE),), (ONE,)), "b": Task("b", (Pair(ONE, ONE),), (ONE, ONE))}
GOOD = {"a": [ANSWER], "b": [ANSWER, ANSWER]}


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=6), st.lists(st.tuples(grids(), grids()), min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_is_written_is_valid_and_read_back(tmp_path_factory, answers):
    path = tmp_path_factory.mktemp("submission") / "submission.json"
    path.write_text(to_json(answers))
    assert file_faults(path, {task_id: len(outputs) for task_id, outputs in answers.items()}) == []
    read, malformed = read_submission(path)
    assert list(read) == list(answers) and not malformed
    for task_id, outputs in answers.items():
        assert [[g.tolist() for g in attempts] for attempts in read[task_id]] == [[g.tolist() for g in attempts] for attempts in outputs]


def test_the_format_is_kaggles():
    assert json.loads(to_json({"a": [(make_grid([[1]]), make_grid([[2, 3]]))]})) == {"a": [{"attempt_1": [[1]], "attempt_2": [[2, 3]]}]}


@pytest.mark.parametrize(
    ("submission", "lines"),
    [
        (GOOD, []),
        ([], ["should be an object of answers by task id, not a list of 0"]),
        ({}, ["task a: is missing", "task b: is missing"]),
        ({**GOOD, "c": [ANSWER]}, ["task c: is not among the challenges"]),
        ({**GOOD, "a": ANSWER}, ["task a: answers: should be a list, not an object of 2"]),
        ({**GOOD, "b": [ANSWER]}, ["task b: has answers for 1 test inputs, not 2"]),
        ({**GOOD, "a": [ANSWER, ANSWER]}, ["task a: has answers for 2 test inputs, not 1"]),
        ({**GOOD, "b": [ANSWER, [GRID, GRID]]}, ["task b: output 1: should be an object, not a list of 2"]),
        ({**GOOD, "a": [{"attempt_1": GRID}]}, ['task a: output 0: has no "attempt_2"']),
        ({**GOOD, "a": [{}]}, ['task a: output 0: has no "attempt_1"', 'task a: output 0: has no "attempt_2"']),
        (
            {**GOOD, "a": [{"attempt_1": GRID, "attempt_2": None}]},
            ["task a: output 0 attempt_2: should be a list of 1 to 30 rows, not null"],
        ),
        (
            {**GOOD, "a": [{"attempt_1": GRID, "attempt_2": [[10]]}]},
            ["task a: output 0 attempt_2: row 0, column 0 is 10, not a whole number within 0..9"],
        ),
    ],
)
def test_each_fault_is_one_line(tmp_path, submission, lines):
    assert faults(submission, TASKS) == lines
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(submission))
    assert file_faults(path, TASKS) == [f"{path}: {line}" for line in lines]


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    path = tmp_path / "submission.json"
    assert file_faults(path, TASKS) == [f"{path}: no such file"]
    path.write_text(json.dumps(GOOD)[:-9])
    (line,) = file_faults(path, TASKS)
    assert line.startswith(f"{path}: not JSON: line 1, column ")


def test_of_a_malformed_submission_the_rest_is_read(tmp_path):
    path = tmp_path / "submission.json"
    path.write_text(json.dumps({**GOOD, "a": [{"attempt_1": GRID, "attempt_2": [[1], [2, 3]]}], "c": 1}))
    read, malformed = read_submission(path)
    assert (list(read), read["a"][0][0].tolist(), read["a"][0][1].shape) == (["a", "b"], GRID, (0, 0))
    assert malformed == [
        f"{path}: task a: output 0 attempt_2: row 1 should be a list of 1 to 30 cells, as many as row 0 has, not a list of 2",
        f"{path}: task c: answers: should be a list, not 1",
    ]
    path.write_text("{}")
    with pytest.raises(DataError, match="should be an object of answers by task id, not an object of 0"):
        read_submission(path)
