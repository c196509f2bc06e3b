"""Training data by name and by file, and what the leak guard leaves out of it."""

import json
import logging

import numpy as np
import pytest

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.entries import data_folder, source_names
from hrm_submit.arc.pairfile import load_pair_file
from hrm_submit.arc.sizes import canvas_side
from hrm_submit.arc.task import Pair, Task, make_grid
from hrm_submit.core.errors import DataError
from hrm_submit.corpora.leaks import protected_hashes, without_leaks
from hrm_submit.corpora.named import load_named
from hrm_submit.corpora.solutions import write_solutions
from hrm_submit.corpora.sources import load, load_corpora, load_corpus, parse_spec
from hrm_submit.train.options import PROTECTED

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
        ("x/y.json:demos", ("x/y.json", True, 1.0)),
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
        (":demos", "data ':demos': names neither a set nor a file"),
        ("conceptarc:0", "conceptarc:0: a weight should be a finite number above 0"),
        ("conceptarc:nan", "conceptarc:nan: a weight should be a finite number above 0"),
        ("conceptarc:-1:demos", "conceptarc:-1:demos: a weight should be a finite number above 0"),
        ("conceptarc:demo", "conceptarc:demo: 'demo' is neither 'demos' nor a weight"),
        ("conceptarc:1:2", "conceptarc:1:2: '1' is neither 'demos' nor a weight"),
    ],
)
def test_faults_of_a_spec(spec, fault):
    with pytest.raises(DataError) as caught:
        parse_spec(spec)
    assert str(caught.value) == fault


def test_an_unknown_name_lists_the_known_ones_and_a_path_is_not_found(tmp_path):
    with pytest.raises(DataError) as caught:
        load_corpus("arc-3")
    assert all(name in str(caught.value) for name in ["'arc-3'", "conceptarc", "re-arc", "arc-agi-1-training"])
    assert len(source_names()) == 6
    for path in (tmp_path / "nowhere", tmp_path / "x_challenges.json:demos"):
        with pytest.raises(DataError) as caught:
            load_corpus(str(path))
        assert str(caught.value) == f"{str(path).removesuffix(':demos')}: no such file or folder"


def test_a_challenges_file_takes_the_solutions_beside_it(tmp_path):
    corpus = load_corpus(f"{challenges_file(tmp_path, SOLUTIONS)}:0.25")
    assert (corpus.name, corpus.weight, corpus.demos_only) == ("my", 0.25, False)
    assert [(task.id, task.key, task.corpus, task.weight) for task in corpus.tasks] == [
        ("my/a", "a", "my", 0.25),
        ("my/b", "b", "my", 0.25),
    ]
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
    with pytest.raises(DataError, match="task b: has 1 outputs for 2 test inputs"):
        load_corpus(str(path), strict=True)
    assert [len(task.pairs) for task in load_corpus(str(path)).tasks] == [1, 2]
    assert "1 task left out: has N outputs for N test inputs" in caplog.text


def test_named_sets_and_weights_mix():
    training, evaluation = load_corpora("arc-agi-1-training:2,arc-agi-1-evaluation:demos")
    assert (len(training.tasks), sum(len(task.pairs) for task in training.tasks)) == (400, 1718)
    assert (len(evaluation.tasks), sum(len(task.pairs) for task in evaluation.tasks)) == (400, 1363)
    assert {task.weight for task in training.tasks} == {2.0} and {task.weight for task in evaluation.tasks} == {1.0}
    assert training.tasks[0].id == "arc-agi-1-training/007bbfb7"
    with pytest.raises(DataError, match="data called 'arc-agi-1-training' is in the mix twice"):
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
    for folder in ("data", "elsewhere", "third"):
        for file, content in (
            ("conceptarc/Copy/Copy1.json", {"train": [pair], "test": [pair]}),
            ("re-arc/00d62c1b.json", [pair, pair, pair]),
        ):
            path = tmp_path / folder / file
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
    (tmp_path / "data" / "conceptarc" / ".fetched.json").write_text("{}")
    (task,) = load_corpus("conceptarc").tasks
    assert (task.id, len(task.pairs), task.generated) == ("conceptarc/Copy1", 2, False)
    (task,) = load_corpus("re-arc").tasks
    assert (task.id, task.key, len(task.pairs), task.generated) == ("re-arc/00d62c1b", "00d62c1b", 3, True)
    monkeypatch.setenv("HRM_SUBMIT_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    assert data_folder(tmp_path / "third") == tmp_path / "third"
    (tmp_path / "elsewhere" / "conceptarc" / "Copy" / "Copy1.json").rename(tmp_path / "elsewhere" / "conceptarc" / "Copy" / "Copy2.json")
    assert [task.key for task in load_corpus("conceptarc").tasks] == ["Copy2"]
    assert [task.key for task in load_corpus("conceptarc", tmp_path / "third").tasks] == ["Copy1"]
    assert load_corpus(str(tmp_path / "third" / "conceptarc")).tasks[0].id == "conceptarc/Copy1"


def pair_arrays(pairs):
    return {
        "inputs": np.concatenate([pair.input.ravel() for pair in pairs]),
        "outputs": np.concatenate([pair.output.ravel() for pair in pairs]),
        "shapes": np.array([(*pair.input.shape, *pair.output.shape) for pair in pairs]),
    }


def write_pair_file(path, **changes):
    arrays = {f"x/{part}": array for part, array in (pair_arrays([PAIR, Pair(TEST, ANSWER)]) | changes).items() if array is not None}
    np.savez_compressed(path, **arrays)
    return path


def test_a_file_of_pairs(tmp_path):
    corpus = load_corpus(str(write_pair_file(tmp_path / "sample.npz")))
    (task,) = corpus.tasks
    assert (task.id, task.key, task.generated) == ("sample/x", "x", True)
    assert as_lists(task.pairs) == as_lists([PAIR, Pair(TEST, ANSWER)])
    assert all(grid.dtype == np.uint8 and not grid.flags.writeable and grid.flags.c_contiguous for grid in task.task.grids())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"inputs": None}, "task x: has no inputs"),
        ({"shapes": np.ones((2, 3), dtype=np.uint8)}, "task x: shapes should be whole numbers (pairs, 4), not uint8 (2, 3)"),
        ({"shapes": np.ones((0, 4), dtype=np.uint8)}, "task x: has no pairs"),
        ({"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 31]]), "outputs": np.ones(32, dtype=int)}, "task x: pair 1: has a side above 30"),
        (
            {"shapes": np.array([[1, 2, 1, 1], [1, 3, 1, 3]])},
            "task x: outputs should be 4 whole numbers in a row, by its shapes, not uint8 (5,)",
        ),
        ({"inputs": np.array([1, 2, 4, 10, 4])}, "task x: pair 1: inputs has a cell that is not within 0..9"),
        ({"outputs": np.array([-1, 5, 5, 5, 5])}, "task x: pair 0: outputs has a cell that is not within 0..9"),
        ({"outputs": np.full(5, 0.5)}, "task x: outputs should be 5 whole numbers in a row, by its shapes, not float64 (5,)"),
        ({"other": np.ones(1)}, "has an array 'x/other', which is not one of ID/inputs, ID/outputs, ID/shapes"),
    ],
)
def test_faults_of_a_file_of_pairs(tmp_path, changes, fault):
    path = write_pair_file(tmp_path / "sample.npz", **changes)
    try:
        tasks, (told,) = load_pair_file(path)
        assert len(tasks["x"].train) == 1, "the other pair stays"
    except DataError as error:
        told = str(error)
    assert told == f"{path}: {fault}"


def test_files_that_are_no_npz(tmp_path):
    path = write_pair_file(tmp_path / "x.npz")
    whole = path.read_bytes()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, **{"x/inputs": np.array([{}], dtype=object), "x/outputs": np.ones(1), "x/shapes": np.ones((1, 4), dtype=int)})
    single = tmp_path / "single.npy"
    np.save(single, np.ones(1))
    start = whole.index(b"x/inputs.npy") + len("x/inputs.npy")
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in range(start + 20, start + 60)]  # past the zip's own header
    for content in (b"", b"not a zip", whole[: len(whole) // 2], pickled.read_bytes(), single.read_bytes(), *flipped):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_pair_file(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def barred():
    return protected_hashes(PROTECTED)


def test_what_leaks_from_arc_training_into_evaluation_is_found_by_content(barred):
    (corpus,) = load_corpora("arc-agi-1-training")
    kept, dropped = without_leaks(corpus.tasks, barred)
    assert [task_id for task_id, _ in dropped] == ["arc-agi-1-training/40853293", "arc-agi-1-training/caa06a1f"]
    assert len(kept) == 398
    # independently of the guard: no pair that is kept is a pair of an evaluation set
    for name in PROTECTED:
        tasks, solutions = load_named(name)
        every = [pair for key, task in tasks.items() for pair in (*task.train, *map(Pair, task.test, solutions[key]))]
        assert {pair_hash(pair.input, pair.output) for pair in every}.isdisjoint(key for task in kept for key in task.hashes)
        assert {pair_hash(pair.input, pair.output) for pair in every} <= barred


def test_an_evaluation_set_is_dropped_whole_unless_its_demonstrations_are_meant(barred):
    (evaluation,) = load_corpora("arc-agi-2-evaluation:demos")
    assert without_leaks(evaluation.tasks, barred)[0] == []
    meant = protected_hashes(("arc-agi-2-evaluation",), test_only=("arc-agi-2-evaluation",))
    kept, dropped = without_leaks(evaluation.tasks, meant)
    assert (len(kept), dropped) == (120, [])
    (with_answers,) = load_corpora("arc-agi-2-evaluation")
    assert without_leaks(with_answers.tasks, meant)[0] == []


def test_a_turned_and_recoloured_pair_is_a_leak(tmp_path):
    write_challenges(tmp_path / "test_challenges.json", TASKS)
    barred = protected_hashes((str(tmp_path / "test_challenges.json"),))
    assert barred == {pair_hash(PAIR.input, PAIR.output)}
    other = Pair(make_grid([[1, 1], [2, 2]]), make_grid([[1]]))
    turned = Pair(make_grid([[7], [0]]), make_grid([[6]]))
    tasks = {"leak": Task("leak", (other, turned), (TEST,)), "fine": Task("fine", (other,), (TEST,))}
    write_challenges(tmp_path / "train_challenges.json", tasks)
    kept, dropped = without_leaks(load_corpus(f"{tmp_path / 'train_challenges.json'}:demos").tasks, barred)
    assert [task.key for task in kept] == ["fine"]
    assert dropped == [("train/leak", "shares 1 of its 2 pairs with a protected set, the first is pair 1")]


def test_a_generated_task_goes_with_the_task_that_it_imitates(tmp_path, barred):
    pairs = [Pair(make_grid([[1, 1, 2, 8, 9]]), make_grid([[k]])) for k in range(2)]
    arrays = pair_arrays(pairs)
    keys = ("40853293", "007bbfb7", "unheard of")
    np.savez(tmp_path / "made.npz", **{f"{key}/{part}": array for key in keys for part, array in arrays.items()})
    tasks = load_corpus(str(tmp_path / "made.npz")).tasks
    kept, dropped = without_leaks(tasks, barred)
    assert [task.key for task in kept] == ["007bbfb7", "unheard of"]
    assert dropped == [("made/40853293", "generated after arc-agi-1-training task 40853293, which has a pair of a protected set")]
    assert without_leaks(tasks, ())[1] == []


def test_faults_of_protected_sets(tmp_path):
    with pytest.raises(DataError, match="conceptarc: is not among the protected sets: arc-agi-1-evaluation"):
        protected_hashes(PROTECTED, test_only=("conceptarc",))
    path = str(challenges_file(tmp_path))
    with pytest.raises(DataError, match="has no solutions, so nothing tells its test pairs"):
        protected_hashes((path,), test_only=(path,))


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


def test_load_takes_names_folders_and_files_of_one_task(tmp_path):
    named, known = load("arc-agi-1-evaluation", solutions=True)
    assert len(named) == len(known) == 400 and load("arc-agi-1-evaluation").keys() == named.keys()
    alone = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}
    (tmp_path / "mine.json").write_text(json.dumps(alone))
    (tmp_path / "pairs.json").write_text(json.dumps(alone["train"]))
    tasks, solutions = load(tmp_path / "mine.json", solutions=True)
    assert (list(tasks), tasks["mine"].test[0].tolist(), solutions["mine"][0].tolist()) == (["mine"], [[3]], [[4]])
    assert [pair.output.tolist() for pair in load(tmp_path / "pairs.json")["pairs"].train] == [[[2]]]
    assert list(load(str(tmp_path))) == ["mine", "pairs"]
    (tmp_path / "mine.json").write_text(json.dumps({**alone, "test": [{"input": [[33]]}]}))
    with pytest.raises(DataError, match=r"mine\.json: task mine: test 0 input: row 0, column 0 is 33"):
        load(tmp_path / "mine.json")
