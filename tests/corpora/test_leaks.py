"""The leak guard: training tasks that share a pair with a set to be scored on are found by content."""

import json

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.leaks import protected_hashes, without_leaks
from hrm_submit.corpora.sources import load_corpus
from hrm_submit.train.options import PROTECTED

PAIR = Pair(make_grid([[1, 2]]), make_grid([[3]]))
TEST = make_grid([[4, 0, 4]])


def test_a_turned_and_recoloured_pair_is_a_leak(tmp_path):
    write_challenges(tmp_path / "test_challenges.json", {"a": Task("a", (PAIR,), (TEST,))})
    barred = protected_hashes((str(tmp_path / "test_challenges.json"),))
    assert barred == {pair_hash(PAIR.input, PAIR.output)}
    other = Pair(make_grid([[1, 1], [2, 2]]), make_grid([[1]]))
    turned = Pair(make_grid([[7], [0]]), make_grid([[6]]))
    tasks = {"leak": Task("leak", (other, turned), (TEST,)), "fine": Task("fine", (other,), (TEST,))}
    write_challenges(tmp_path / "train_challenges.json", tasks)
    kept, dropped = without_leaks(load_corpus(f"{tmp_path / 'train_challenges.json'}:demos").tasks, barred)
    assert [task.key for task in kept] == ["fine"]
    assert dropped == [("train/leak", "shares 1 of its 2 pairs with a protected set, the first is pair 1")]


def test_a_fault_costs_no_other_pair_of_a_task_its_protection(tmp_path):
    path = tmp_path / "test_challenges.json"
    demos = [{"input": PAIR.input.tolist(), "output": PAIR.output.tolist()}, {"input": [[1], [2, 3]], "output": [[4]]}]
    path.write_text(json.dumps({"a": {"train": demos, "test": [{"input": [[4, 0, 4]], "output": [[7]]}, {"input": [[8]]}]}}))
    assert protected_hashes((str(path),)) == {pair_hash(PAIR.input, PAIR.output), pair_hash(TEST, make_grid([[7]]))}
    assert protected_hashes((str(path),), test_only=(str(path),)) == {pair_hash(TEST, make_grid([[7]]))}


def test_a_generated_task_goes_with_the_task_that_it_imitates(tmp_path):
    for key in ("00576224", "007bbfb7", "40853293", "unheard of"):  # the first is an evaluation task
        (tmp_path / f"{key}.json").write_text(json.dumps([{"input": [[1, 1, 2, 8, 9]], "output": [[k]]} for k in range(2)]))
    tasks = load_corpus(str(tmp_path)).tasks
    kept, dropped = without_leaks(tasks, protected_hashes(PROTECTED))
    assert [task.key for task in kept] == ["007bbfb7", "unheard of"]
    assert dropped == [
        (f"{tmp_path.name}/{key}", f"generated after task {key}, which has a pair of a protected set") for key in ("00576224", "40853293")
    ]
    assert without_leaks(tasks, ())[1] == []


def test_a_set_without_solutions_cannot_be_protected_by_its_tests_alone(tmp_path):
    path = tmp_path / "my_challenges.json"
    write_challenges(path, {"a": Task("a", (PAIR,), (TEST,))})
    with pytest.raises(DataError, match="has no solutions, so nothing tells its test pairs"):
        protected_hashes((str(path),), test_only=(str(path),))
