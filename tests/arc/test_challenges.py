"""Challenges files: what is read, and one line for each fault that a file can have."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.challenges import load_challenges, read_challenges, write_challenges
from hrm_submit.core.errors import DataError
from tests.arc.strategies import tasks

PAIR = {"input": [[1, 2], [3, 4]], "output": [[5]]}
GOOD = {"train": [PAIR], "test": [{"input": [[0]]}]}


def with_grid(grid):
    """A task whose second demonstration has `grid` as its output."""
    return {"train": [PAIR, {"input": [[1]], "output": grid}], "test": GOOD["test"]}


TASK_FAULTS = {
    "task not an object": ([], "should be an object, not a list"),
    "no train": ({"test": GOOD["test"]}, 'has no list of pairs under "train"'),
    "no test": ({"train": [PAIR]}, "has no test inputs"),
    "train not a list": ({**GOOD, "train": PAIR}, 'has no list of pairs under "train"'),
    "test not a list": ({**GOOD, "test": None}, "has no test inputs"),
    "no demonstrations": ({**GOOD, "train": []}, "has no demonstrations"),
    "no test inputs": ({**GOOD, "test": []}, "has no test inputs"),
    "demonstration not an object": ({**GOOD, "train": [PAIR, 7]}, "demonstration 1: should be an object, not 7"),
    "no demonstration input": ({**GOOD, "train": [{"output": [[1]]}]}, 'demonstration 0: has no "input"'),
    "no demonstration output": ({**GOOD, "train": [PAIR, {"input": [[1]]}]}, 'demonstration 1: has no "output"'),
    "no test input": ({**GOOD, "test": [{"output": [[1]]}]}, 'test 0: has no "input"'),
    "fault in a test input": (
        {**GOOD, "test": [{"input": [[1]]}, {"input": [[1], [2, 3]]}]},
        "test 1 input: row 1 has 2 cells, row 0 has 1",
    ),
    "fault in an input": ({**GOOD, "train": [{"input": [[11]], "output": [[1]]}]}, "demonstration 0 input: row 0, column 0 is 11, not"),
    "grid not a list": (with_grid("1"), 'demonstration 1 output: should be a list of rows, not "1"'),
    "row not a list": (with_grid([[1], 2]), "demonstration 1 output: row 1 should be a list of cells, not 2"),
    "no rows": (with_grid([]), "demonstration 1 output: has no rows"),
    "empty row": (with_grid([[]]), "demonstration 1 output: row 0 has no cells"),
    "later empty row": (with_grid([[1], []]), "demonstration 1 output: row 1 has no cells"),
    "ragged": (with_grid([[1, 2, 3], [4, 5, 6], [7, 8]]), "demonstration 1 output: row 2 has 2 cells, row 0 has 3"),
    "too many rows": (with_grid([[1]] * 31), "demonstration 1 output: has 31 rows, more than 30"),
    "too many columns": (with_grid([[1] * 31] * 2), "demonstration 1 output: has 31 columns, more than 30"),
    "colour too large": (with_grid([[1, 2], [3, 10]]), "demonstration 1 output: row 1, column 1 is 10, not a whole number within 0..9"),
    "negative colour": (with_grid([[-1]]), "demonstration 1 output: row 0, column 0 is -1, not a whole number within 0..9"),
    "huge colour": (with_grid([[2**70]]), "demonstration 1 output: row 0, column 0 is 1180591620717411303424, not"),
    "fraction": (with_grid([[1.5]]), "demonstration 1 output: row 0, column 0 is 1.5, not"),
    "whole number as a fraction": (with_grid([[1.0]]), "demonstration 1 output: row 0, column 0 is 1.0, not"),
    "not a number": (with_grid([[float("nan")]]), "demonstration 1 output: row 0, column 0 is NaN, not"),
    "true": (with_grid([[True]]), "demonstration 1 output: row 0, column 0 is true, not"),
    "null": (with_grid([[None]]), "demonstration 1 output: row 0, column 0 is null, not"),
    "text": (with_grid([["1"]]), 'demonstration 1 output: row 0, column 0 is "1", not'),
    "long text of lines": (with_grid([["ab\n" * 30]]), 'demonstration 1 output: row 0, column 0 is "ab\\nab\\nab'),
    "nested too deep": (with_grid([[[1]]]), "demonstration 1 output: row 0, column 0 is a list, not"),
}


def fault_of(path, content):
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_challenges(path)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.__cause__ is None
    return line


@pytest.fixture
def path(tmp_path):
    return tmp_path / "challenges.json"


@pytest.mark.parametrize("case", TASK_FAULTS)
def test_a_fault_of_a_task_is_one_line_and_costs_only_that_task(path, case):
    value, fault = TASK_FAULTS[case]
    line = fault_of(path, json.dumps({"good1": GOOD, "bad": value, "good2": GOOD}))
    assert line.startswith(f"{path}: task bad: {fault}")
    tasks, broken = read_challenges(path)
    assert list(tasks) == ["good1", "good2"]
    assert list(broken) == ["bad"]
    assert broken["bad"].fault == line


def test_a_key_that_appears_twice(path):
    text = f'{{"a": {{"train": [{json.dumps(PAIR)}], "train": [], "test": [{{"input": [[1]]}}]}}}}'
    assert fault_of(path, text) == f'{path}: task a: has "train" twice'
    text = '{"a": {"train": [{"input": [[1]], "output": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}}'
    assert fault_of(path, text) == f'{path}: task a: demonstration 0: has "output" twice'


@pytest.mark.parametrize(("task_id", "named"), [("a\nb", r"'a\nb'"), ("", "''"), ("ü 1", "ü 1")])
def test_any_id_is_named_on_one_line(path, task_id, named):
    assert fault_of(path, json.dumps({task_id: []})) == f"{path}: task {named}: should be an object, not a list"


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ({"train": [], "test": [{"input": [[1]]}, {"input": [[]]}, 5]}, [[[1]], None, None]),
        ({"train": [PAIR], "test": "none"}, [None]),
        ({"train": [PAIR], "test": []}, [None]),
        (None, [None]),
    ],
)
def test_what_is_left_of_a_broken_task(path, value, inputs):
    path.write_text(json.dumps({"bad": value}))
    tasks, broken = read_challenges(path)
    assert not tasks
    assert broken["bad"].n_outputs == len(inputs)
    assert [None if grid is None else grid.tolist() for grid in broken["bad"].test_inputs] == inputs


def test_what_is_read(path):
    path.write_text(json.dumps({"b": GOOD, "a": {**GOOD, "test": [{"input": [[9, 8]], "output": "never looked at"}]}}))
    tasks = load_challenges(path)
    assert list(tasks) == ["b", "a"]
    task = tasks["a"]
    assert task.id == "a"
    assert task.train[0].input.tolist() == [[1, 2], [3, 4]]
    assert task.train[0].output.tolist() == [[5]]
    assert [grid.tolist() for grid in task.test] == [[[9, 8]]]
    assert task.train[0].input.dtype == np.uint8
    assert task.largest_side == 2
    with pytest.raises(ValueError, match="read-only"):
        task.test[0][0, 0] = 1


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(max_size=5), tasks(10), min_size=1, max_size=3))
def test_reading_undoes_writing(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("tasks") / "challenges.json"
    write_challenges(path, written)
    read = load_challenges(path)
    assert list(read) == list(written)
    for task_id, task in read.items():
        assert [grid.tolist() for grid in task.grids()] == [grid.tolist() for grid in written[task_id].grids()]
        assert (len(task.train), len(task.test)) == (len(written[task_id].train), len(written[task_id].test))


def test_an_unwritable_place_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"challenges\.json: cannot be written: "):
        write_challenges(tmp_path / "missing" / "challenges.json", {})
