"""Training data by name and by file, and what the leak guard leaves out of it."""

import logging

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.reader import data_folder, write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load, load_corpora, load_corpus, parse_spec
from tests.shared import write

PAIR = Pair(make_grid([[1, 2]]), make_grid([[3]]))
TEST, ANSWER = make_grid([[4, 0, 4]]), make_grid([[5, 5, 5, 5]])
TASKS = {"a": Task("a", (PAIR,), (TEST,)), "b": Task("b", (PAIR, PAIR), (TEST, TEST))}
SOLUTIONS = {"a": (ANSWER,), "b": (ANSWER, ANSWER)}


def as_lists(pairs):
    return [(pair.input.tolist(), pair.output.tolist()) for pair in pairs]


def challenges_file(folder, solutions=None):
    write_challenges(folder / "my_challenges.json", TASKS)
    if solutions is not None:
        write_solutions(folder / "my_solutions.json", solutions)
    return folder / "my_challenges.json"


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("conceptarc", ("conceptarc", False, 1.0)),
        ("conceptarc:0.5", ("conceptarc", False, 0.5)),
        ("x/y.json:demos:2", ("x/y.json", True, 2.0)),
        ("x/y.json:2:demos", ("x/y.json", True, 2.0)),
        (" C:/x.json:3 ", ("C:/x.json", False, 3.0)),
    ],
)
def test_specs(spec, parsed):
    assert parse_spec(spec) == parsed


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("", "data '': names neither a set nor a file"),
        ("conceptarc:0", "conceptarc:0: a weight should be one finite number above 0"),
        ("conceptarc:-1:demos", "conceptarc:-1:demos: a weight should be one finite number above 0"),
        ("conceptarc:demo", "conceptarc:demo: 'demo' is neither 'demos' nor a weight"),
        ("conceptarc:1:2", "conceptarc:1:2: a weight should be one finite number above 0"),
    ],
)
def test_faults_of_a_spec(spec, fault):
    with pytest.raises(DataError) as caught:
        parse_spec(spec)
    assert str(caught.value) == fault


def test_a_challenges_file_takes_the_solutions_beside_it(tmp_path):
    corpus = load_corpus(f"{challenges_file(tmp_path, SOLUTIONS)}:0.25")
    assert (corpus.name, corpus.demos_only) == ("my", False)
    assert [(task.id, task.key, task.weight) for task in corpus.tasks] == [("my/a", "a", 0.25), ("my/b", "b", 0.25)]
    a, b = corpus.tasks
    assert as_lists(a.pairs) == as_lists([PAIR, Pair(TEST, ANSWER)])
    assert as_lists(b.pairs) == as_lists([PAIR, PAIR, Pair(TEST, ANSWER), Pair(TEST, ANSWER)])
    assert a.task.test == () and not a.generated
    # the answer is wider than anything else: the canvas must be judged with it
    assert canvas_side(a.task) == 4
    assert a.hashes == (pair_hash(PAIR.input, PAIR.output), pair_hash(TEST, ANSWER))


@pytest.mark.parametrize("solutions", [SOLUTIONS, None])
def test_demos_leave_the_answers_out_and_keep_the_test_inputs(tmp_path, caplog, solutions):
    for task in load_corpus(f"{challenges_file(tmp_path, solutions)}:demos").tasks:
        assert as_lists(task.pairs) == as_lists(TASKS[task.key].train)
        assert [grid.tolist() for grid in task.task.test] == [grid.tolist() for grid in TASKS[task.key].test]
    assert not caplog.messages


@pytest.mark.parametrize(
    ("solutions", "said", "pairs"), [(None, "it has no solutions", [1, 2]), ({"b": (ANSWER, ANSWER)}, "1 of its 2 tasks have no", [1, 4])]
)
def test_without_solutions_the_demonstrations_are_used_and_that_is_logged(tmp_path, caplog, solutions, said, pairs):
    path = challenges_file(tmp_path, solutions)
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(str(path))
    assert [len(task.pairs) for task in corpus.tasks] == pairs
    (message,) = caplog.messages
    assert str(path) in message and said in message


def test_solutions_of_another_number_are_refused_or_not_learnt_from(tmp_path, caplog):
    path = challenges_file(tmp_path, {"b": (ANSWER,)})
    with pytest.raises(DataError) as caught:
        load(path, solutions=True)
    assert str(caught.value) == f"{tmp_path / 'my_solutions.json'}: task b: has 1 outputs for 2 test inputs"
    assert [len(task.pairs) for task in load_corpus(str(path)).tasks] == [1, 2]
    assert "1 task left out: has N outputs for N test inputs" in caplog.text


def test_named_sets_and_weights_mix():
    training, evaluation = load_corpora("arc-agi-1-training:2,arc-agi-1-evaluation:demos")
    assert (len(training.tasks), sum(len(task.pairs) for task in training.tasks)) == (400, 1718)
    assert (len(evaluation.tasks), sum(len(task.pairs) for task in evaluation.tasks)) == (400, 1363)
    assert {task.weight for task in training.tasks} == {2.0} and {task.weight for task in evaluation.tasks} == {1.0}
    assert training.tasks[0].id == "arc-agi-1-training/007bbfb7"
    with pytest.raises(DataError, match="arc-agi-1-training:demos: is in the mix twice"):
        load_corpora("arc-agi-1-training,arc-agi-1-training:demos")
    with pytest.raises(DataError, match="names neither a set nor a file"):
        load_corpora("arc-agi-1-training,,")


def test_downloaded_sets_are_found_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HRM_SUBMIT_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load_corpus("conceptarc")
    assert str(caught.value) == "conceptarc: data/conceptarc: no such folder; fetch it by: python scripts/fetch_data.py conceptarc"
    pair = {"input": [[1]], "output": [[2]]}
    for folder in ("data", "elsewhere"):
        for file, content in (
            ("conceptarc/Copy/Copy1.json", {"train": [pair], "test": [pair]}),
            ("re-arc/00d62c1b.json", [pair, pair, pair]),
        ):
            write(tmp_path / folder / file, content)
    (tmp_path / "data" / "conceptarc" / ".fetched.json").write_text("{}")
    (task,) = load_corpus("conceptarc").tasks
    assert (task.id, len(task.pairs), task.generated) == ("conceptarc/Copy1", 2, False)
    (task,) = load_corpus("re-arc").tasks
    assert (task.id, task.key, len(task.pairs), task.generated) == ("re-arc/00d62c1b", "00d62c1b", 3, True)
    monkeypatch.setenv("HRM_SUBMIT_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    (tmp_path / "elsewhere" / "conceptarc" / "Copy" / "Copy1.json").rename(tmp_path / "elsewhere" / "conceptarc" / "Copy" / "Copy2.json")
    assert [task.key for task in load_corpus("conceptarc").tasks] == ["Copy2"]
    assert load_corpus(str(tmp_path / "data" / "conceptarc")).tasks[0].id == "conceptarc/Copy1"


def test_load_gives_tasks_and_answers_only_when_asked(tmp_path):
    path = challenges_file(tmp_path, SOLUTIONS)
    tasks = load(path)
    assert list(tasks) == ["a", "b"] and tasks["b"].test[1].tolist() == TEST.tolist()
    same, solutions = load(path, solutions=True)
    assert list(same) == ["a", "b"] and [grid.tolist() for grid in solutions["b"]] == [ANSWER.tolist()] * 2
    (tmp_path / "my_solutions.json").write_text("not JSON")
    assert list(load(path)) == ["a", "b"], "the file of answers is not even opened"
    with pytest.raises(DataError, match=r"my_solutions\.json: not JSON"):
        load(path, solutions=True)
