"""One bad pair costs that pair: what is learnt from data that people have, and what is said of the rest."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.core.errors import DataError
from hrm_submit.corpora.sources import load_corpora, load_corpus
from tests.shared import write

PAIR = {"input": [[1, 2]], "output": [[3]]}
OTHER = {"input": [[4, 4]], "output": [[5]]}
WIDE = {"input": [[1] * 31], "output": [[3]]}
TASK = {"train": [PAIR], "test": [OTHER]}


def pairs(path: Path) -> dict[str, int]:
    return {task.key: len(task.pairs) for task in load_corpus(str(path)).tasks}


def test_generated_pairs_that_are_too_large_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "re_arc" / "x.json", [PAIR, WIDE, WIDE, OTHER])
    assert pairs(tmp_path) == {"x": 2}
    (line,) = [m for m in caplog.messages if "left out" in m]
    assert "2 pairs left out: has N columns, more than N; the first is " in line and "x.json: task x: pair 1 input: has 31 columns" in line


def test_what_is_too_wide_and_files_that_are_no_tasks_cost_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "1d_fill" / "a.json", TASK)
    write(tmp_path / "1d_fill" / "b.json", {"train": [WIDE], "test": [WIDE]})
    write(tmp_path / "identifiers.json", ["<blank>"])
    write(tmp_path / "train" / "dataset.json", {"seq_len": 900, "sets": ["all"]})
    write(tmp_path / "notes.json", "{")
    assert pairs(tmp_path) == {"a": 2}
    assert "2 pairs left out" in caplog.text and "1 task left out: has no pair to learn from" in caplog.text
    assert "1 file left out: holds no task" in caplog.text and "Expecting property name" in caplog.text


@pytest.mark.parametrize(
    ("task", "learnt"),
    [
        ({"train": [PAIR], "test": None}, 1),
        ({"train": [PAIR], "test": [{"input": [[1]], "output": []}]}, 1),
        ({"train": [PAIR], "test": [{"input": [[1]], "output": None}]}, 1),
        ({"train": [PAIR], "test": [{"input": [[1]], "output": [[11]]}, OTHER]}, 2),
        ({"train": [PAIR, 5, {"input": [[1]]}, {"input": [], "output": [[1]]}], "test": [OTHER]}, 2),
        ({"examples": [[[[1]], [[2]]], [[[3]], [[4]]]], "source": "def main(): ...", "seeds": [1, 2]}, 2),
    ],
)
def test_what_is_good_in_a_task_is_used(tmp_path: Path, task: dict[str, Any], learnt: int) -> None:
    write(tmp_path / "t.json", task)
    assert pairs(tmp_path / "t.json") == {"t": learnt}


def test_pairs_under_another_key_are_used_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path / "task001.json", {**TASK, "arc-gen": [PAIR, OTHER, WIDE], "tags": ["fill"]})
    assert pairs(tmp_path / "task001.json") == {"task001": 4}
    assert "2 pairs under 'arc-gen' are used too" in caplog.text and "what is under 'tags' is ignored" in caplog.text


def test_lines_that_are_no_tasks_cost_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps({"id": "a", **TASK}), "{", json.dumps({"examples": [[[[1]], [[2]]]]})]
    write(tmp_path / "s.jsonl", "\n".join(lines))
    assert pairs(tmp_path / "s.jsonl") == {"a": 2, "s-1": 1}
    assert "line 2: not JSON" in caplog.text


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.json", {"train": [WIDE], "test": []})
    with pytest.raises(DataError, match="demonstration 0 input: has 31 columns"):
        load_corpus(str(tmp_path))
    write(tmp_path / "b.json", {"train": [PAIR, WIDE], "test": []})
    assert pairs(tmp_path) == {"b": 1}


def test_the_second_set_of_a_name_gets_a_number(tmp_path: Path) -> None:
    for repository in ("ARC-AGI", "ARC-AGI-2"):
        write(tmp_path / repository / "training" / "t.json", TASK)
    first, second = (f"{tmp_path / repository / 'training'}" for repository in ("ARC-AGI", "ARC-AGI-2"))
    assert [(c.name, c.tasks[0].id) for c in load_corpora(f"{first},{second}")] == [
        ("training", "training/t"),
        ("training-2", "training-2/t"),
    ]
    for again in (first, f"{first}/", f"{first}:demos"):
        with pytest.raises(DataError, match="is in the mix twice"):
            load_corpora(f"{first},{again}")


def test_a_path_with_commas_is_one_source_of_a_mix(tmp_path: Path) -> None:
    for name in ("a, b.json", "c.json", "a"):
        write(tmp_path / name, TASK)
    mix = f"{tmp_path}/a, b.json:demos:0.5, {tmp_path}/c.json:2"
    assert [(c.name, c.demos_only, c.tasks[0].weight) for c in load_corpora(mix)] == [("a, b", True, 0.5), ("c", False, 2.0)]
