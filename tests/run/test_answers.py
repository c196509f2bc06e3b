"""The answers of a run: complete from the start, improved by the model, taken over from a run folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.arc.reader import read_challenges
from hrm_submit.arc.submission import file_faults
from hrm_submit.arc.task import make_grid
from hrm_submit.core.errors import SolveError
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.vote import Candidate
from hrm_submit.record.folder import RunRecord, RunWriter, read_run
from hrm_submit.run.answers import AnswerStore

CONTENT: dict[str, Any] = {
    "good": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}, {"input": [[4]]}]},
    "bad": {"train": [{"input": [[1]], "output": [[11]]}], "test": [{"input": [[3, 3]]}, {"input": "?"}]},
    "worse": 17,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "challenges.json"
    path.write_text(json.dumps(CONTENT))
    return path


def store_of(file: Path) -> AnswerStore:
    tasks, broken = read_challenges(file)
    return AnswerStore(tasks, broken, file.with_name("submission.json"))


def answers(file: Path) -> dict[str, Any]:
    path = file.with_name("submission.json")
    tasks, broken = read_challenges(file)
    assert file_faults(path, {**tasks, **broken}) == []
    return json.loads(path.read_text())


def some(*colours: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(make_grid([[c]]), 2, -1.0) for c in colours)


def both(colour: int, other: int) -> dict[str, list[list[int]]]:
    return {"attempt_1": [[colour]], "attempt_2": [[other]]}


def test_every_task_has_an_answer_before_any_work_broken_ones_too(file: Path) -> None:
    store_of(file).create()
    found = answers(file)
    assert [len(found[k]) for k in ("good", "bad", "worse")] == [2, 2, 1]
    assert found["bad"][0]["attempt_1"] == [[3, 3]], "of a broken task the test input may still be read"
    assert all(a["attempt_1"] != a["attempt_2"] for outputs in found.values() for a in outputs)


def test_answers_of_the_file_stay_where_no_prediction_is_left(file: Path) -> None:
    store = store_of(file)
    store.create()
    found = answers(file)
    found |= {"good": [both(5, 6), both(7, 8)], "bad": [both(1, 0), both(1, 0)], "worse": [{"attempt_1": [[2]]}]}
    file.with_name("submission.json").write_text(json.dumps(found))
    resumed = store_of(file)
    resumed.restore(RunRecord({}, [], []))
    resumed.create()
    assert answers(file)["good"] == [both(5, 6), both(7, 8)] and resumed.answered == set()
    assert answers(file)["bad"][0]["attempt_1"] == [[3, 3]], "what is written before the tasks are read is less than a fallback"
    resumed.put("good", (some(9), some(9)), final=True)
    assert answers(file)["good"][0]["attempt_1"] == [[9]]


def test_candidates_take_the_place_of_fallbacks_output_by_output(file: Path) -> None:
    store = store_of(file)
    store.create()
    before = answers(file)["good"]
    store.put("good", (some(7, 8, 9), ()), final=False)
    assert answers(file)["good"] == before, "nothing is written until it is asked for"
    assert store.save(last=True) is None
    assert answers(file)["good"] == [both(7, 8), before[1]]
    store.put("good", (some(5), some(6)), final=False)
    store.save(last=True)
    assert [o["attempt_1"] for o in answers(file)["good"]] == [[[5]], [[6]]]
    assert all(o["attempt_1"] != o["attempt_2"] for o in answers(file)["good"])
    assert store.answered == {"good"}


@pytest.mark.parametrize(("takes", "times"), [(0.5, [0, 10, 20, 30]), (1.0, [0, 20]), (3.5, [0])])
def test_a_slow_disk_gets_the_file_less_often_and_the_run_folder_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, takes: float, times: list[float]
) -> None:
    store, now, written, run = store_of(file), [0.0], list[float](), file.with_name("run")

    def write(path: Path, text: str) -> None:
        written.append(now[0])
        now[0] += takes
        write_atomic(path, text)

    monkeypatch.setattr("hrm_submit.run.answers.write_atomic", write)
    store.record_in(RunWriter(run, lambda: now[0]), lambda: now[0])
    for second in range(40):
        now[0] = max(now[0], float(second))
        store.put("good", (some(second % 7), some(second % 9)), final=True)
        assert read_run(run).predictions[-1].candidates[0].grid.tolist() == [[second % 9]]
    assert written == times
    now[0] = 60.0
    store.save()
    assert written == [*times, 60.0], "a minute is the longest pause"
    assert answers(file)["good"][1]["attempt_1"] == [[39 % 9]]


def test_a_disk_that_stays_full_is_told_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run = store_of(file), file.with_name("run")
    store.create()
    store.record_in(RunWriter(run, lambda: 0.0), lambda: 0.0)
    monkeypatch.setattr("hrm_submit.run.answers.write_atomic", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    store.put("good", (some(7), some(8)), final=False)
    assert ["No space left on device" in str(store.save()) for _ in range(3)] == [True] * 3
    assert [e.kind for e in read_run(run).events] == ["flush"]


@pytest.mark.parametrize("place", ["/dev/null/x", "."])
def test_a_place_that_cannot_be_written(file: Path, place: str) -> None:
    tasks, broken = read_challenges(file)
    with pytest.raises(SolveError, match="cannot be written") as caught:
        AnswerStore(tasks, broken, file.parent / place).create()
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in file.parent.iterdir()) == ["challenges.json"]


def line(task: str, output: int, final: bool, *colours: int) -> dict[str, Any]:
    candidates = [{"grid": [[c]], "votes": 2, "score": -1.0} for c in colours]
    return {"v": 1, "t": 0.0, "task": task, "output": output, "final": final, "candidates": candidates}


OTHERS = [line("other", 0, True, 1), line("good", 2, True, 1), {"v": 1}]


@pytest.mark.parametrize(
    ("lines", "finished", "first", "second"),
    [
        ([line("good", 0, True, 7, 8), line("good", 1, False, 6, 5)], False, both(7, 8), both(6, 5)),
        ([line("good", 0, True, 7, 8), line("good", 1, True, 6, 5)], True, both(7, 8), both(6, 5)),
        ([line("good", 0, False, 7, 8), line("good", 0, False, 4, 5), line("good", 1, False, 6, 5)], False, both(4, 5), both(6, 5)),
        ([line("good", 0, False, 7, 8), line("good", 0, True), line("good", 1, True, 1, 2)], True, both(7, 8), both(1, 2)),
        ([line("good", 0, False, 7, 8), *OTHERS, line("good", 1, True, 1, 2)], False, both(7, 8), both(1, 2)),
    ],
    ids=["one is final", "both are final", "the newest counts", "a final vote without candidates", "of other tasks and outputs"],
)
def test_a_run_that_resumes_has_the_newest_predictions(file: Path, lines: list[Any], finished: bool, first: Any, second: Any) -> None:
    store, run = store_of(file), file.with_name("run")
    run.mkdir()
    (run / "predictions.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    file.with_name("submission.json").write_text(json.dumps({"good": [both(9, 8), both(9, 8)]}))  # older: it follows the run folder
    assert store.restore(read_run(run)) == ({"good"} if finished else set()) and store.answered == {"good"}
    store.create()
    assert answers(file)["good"] == [first, second]


def test_a_task_whose_last_votes_gave_no_grid_is_solved_again(file: Path) -> None:
    store, run = store_of(file), file.with_name("run")
    run.mkdir()
    (run / "predictions.jsonl").write_text("".join(json.dumps(line("good", k, True)) + "\n" for k in (0, 1)))
    assert store.restore(read_run(run)) == set() and not store.answered
