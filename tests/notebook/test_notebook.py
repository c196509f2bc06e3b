"""The notebook file itself, run by a notebook runner over a stand-in wheel: every mode, every rung of the ladder."""

import ast
import json
import os
import re
import shutil
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_kit.machine import KaggleTree

from hrm_submit.arc.submission import faults, file_faults
from tests.notebook.notebook_lab import NOTEBOOK, SOLVED, TASKS, lay_out, run, stub_wheel

CELLS = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
NOTHING = KaggleTree(Path("/nonexistent"), Path("/dev/null/nowhere"), Path())


def weights(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    return path


@pytest.mark.parametrize("layout", ["new", "old"])
def test_scored_rerun_gives_the_answers_of_solve_and_shows_nothing(tmp_path: Path, layout: Any) -> None:
    tree = lay_out(tmp_path, [stub_wheel(tmp_path), weights(tmp_path)], layout)
    result = run(tmp_path, tree, seconds=100)
    assert result.outcome.status == 0
    assert all(result.solved) and not result.faults and not result.degraded
    (call,) = result.calls
    assert Path(call["challenges"]) == tree.challenges and Path(call["checkpoint"]).name == "weights.safetensors"
    assert call["devices"] == "auto" and 60 < int(call["time_budget"].rstrip("s")) < 90  # a tenth is kept in reserve
    assert result.report is None and result.displayed == [] and "page" not in result.output


@pytest.mark.parametrize(
    ("fault", "logged", "rungs", "last", "solved"),
    [
        ("checkpoint", "RuntimeError: exit status 1", 3, ("None", "auto"), [True] * 3),
        ("gpu", "on auto: RuntimeError: exit status -6", 5, ("weights.safetensors", "cpu"), [True] * 3),
        ("preset", "solve with checkpoint", 2, ("weights.safetensors", "auto"), [True] * 3),
        ("import", "on cpu: RuntimeError: exit status 1", 0, None, [False] * 3),
        ("half", "", 1, ("weights.safetensors", "auto"), [True, False, False]),
        ("garbage", "", 1, ("weights.safetensors", "auto"), [False] * 3),
        ("corrupt wheel", "unpack the wheel", 0, None, [False] * 3),
    ],
)
def test_scored_rerun_steps_down_when_something_breaks_and_mends_what_solve_left(
    tmp_path: Path, fault: str, logged: str, rungs: int, last: Any, solved: list[bool]
) -> None:
    wheel = stub_wheel(tmp_path, fault)
    if fault == "corrupt wheel":
        wheel.write_bytes(wheel.read_bytes()[:200])
    tree = lay_out(tmp_path, [wheel, weights(tmp_path)])
    result = run(tmp_path, tree, variables={"HRM_PRESET": "mine.toml"} if fault == "preset" else {})
    assert result.outcome.status == 0 and not result.faults and result.solved == solved
    assert len(result.calls) == rungs and logged in result.degraded and ("unpack" in result.degraded) == (fault == "corrupt wheel")
    for call in result.calls[-1:]:
        assert (Path(str(call["checkpoint"])).name, call["devices"]) == last and call["preset"] is None
    if fault in ("half", "garbage", "corrupt wheel"):
        assert result.submission["aaaa0001"][0]["attempt_2"] == [[2, 1]], "the commonest output stands in for a ragged grid"


@pytest.mark.parametrize("other", ["another/hrm-submit-wheels", "another/merged-answers", None])
def test_only_the_wheel_of_the_kits_own_dataset_is_run_and_a_missing_file_to_merge_costs_no_answer(tmp_path: Path, other: Any) -> None:
    tree = lay_out(tmp_path, [stub_wheel(tmp_path)])
    if other:
        folder = tree.input / "datasets" / other
        folder.mkdir(parents=True)
        stub_wheel(folder, "import").rename(folder / "hrm_submit-99.0.0-py3-none-any.whl")
        (folder / "other.json").write_text("{}")
    result = run(tmp_path, tree, variables={"HRM_MERGE": "other.json"})
    assert result.outcome.status == 0 and all(result.solved) and "solve" not in result.degraded
    assert ("merge: FileNotFoundError: no other.json below" in result.degraded) == (other is None)


def test_another_solvers_answers_stand_in_for_ours_where_solve_gives_none(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"aaaa0001": [{"attempt_1": [[8]], "attempt_2": [[9]]}], "unknown": 5}')
    result = run(tmp_path, lay_out(tmp_path, [stub_wheel(tmp_path, "import"), other]), variables={"HRM_MERGE": "other.json"})
    assert result.outcome.status == 0 and not result.faults and "merge" not in result.degraded
    assert result.submission["aaaa0001"] == [{"attempt_1": [[8]], "attempt_2": [[9]]}] and "aaaa0002" in result.submission


def test_scored_rerun_kills_a_solve_that_hangs(tmp_path: Path) -> None:
    before = {p.pid for p in psutil.process_iter()}
    result = run(tmp_path, lay_out(tmp_path, [stub_wheel(tmp_path, "hang")]), seconds=20)
    assert result.outcome.status == 0
    assert not result.faults and "killed at the time limit" in result.degraded
    time.sleep(0.5)
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and "time.sleep(600)" in (p.info["cmdline"] or [])]
    assert not left, "what solve started outlives the session"


def test_an_interrupted_cell_leaves_no_solve_behind(tmp_path: Path) -> None:
    (tmp_path / "hrm_submit").mkdir()
    (tmp_path / "hrm_submit" / "__main__.py").write_text(
        "import os, pathlib, time\npathlib.Path('begun').write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )

    def interrupted(seconds: float) -> None:
        time.sleep(seconds)
        if (tmp_path / "begun").is_file():
            raise KeyboardInterrupt

    left = first_cell({})
    left |= {"WORK": tmp_path, "environment": {**os.environ, "PYTHONPATH": str(tmp_path)}}
    left["time"] = SimpleNamespace(monotonic=time.monotonic, sleep=interrupted)
    exec(CELLS[2].partition("PACKAGED")[0], left)
    with pytest.raises(KeyboardInterrupt):
        left["package"](60, "solve")
    time.sleep(0.5)
    process = int((tmp_path / "begun").read_text())
    assert not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def test_broken_challenges_take_their_ids_from_the_sample_and_without_any_input_the_submission_is_empty(tmp_path: Path) -> None:
    tree = lay_out(tmp_path, [])
    tree.challenges.write_text("[1, 2")
    left = first_cell({"KAGGLE_IS_COMPETITION_RERUN": "1"}, tree)
    assert "find the challenges" in left["problems"][0] and file_faults(tree.working / "submission.json", TASKS) == []
    for path in [tree.working / "degraded.log", *tree.input.rglob("*.json")]:
        path.unlink()
    result = run(tmp_path, tree)
    assert result.outcome.status == 0 and result.submission == {} and "find the challenges" in result.degraded


@pytest.mark.parametrize(
    ("fault", "seconds", "told"),
    [
        ("checkpoint", 120, ["PROBLEM: solve with checkpoint"]),
        ("no page", 120, ["PROBLEM: report.html: RuntimeError", "a page cannot be made"]),
        ("slow page", 25, ["report.html is not there: killed at the time limit", "summary.html is not there"]),
    ],
)
def test_a_commit_says_loudly_what_broke_and_that_costs_no_answer(tmp_path: Path, fault: str, seconds: float, told: list[str]) -> None:
    """A page that takes too long is left out, which is no failure."""
    result = run(tmp_path, lay_out(tmp_path, [stub_wheel(tmp_path, fault), weights(tmp_path)]), "smoke", seconds)
    assert result.outcome.status == (fault != "slow page") and [words for words in told if words not in result.output] == []
    assert not result.faults and all(result.solved)
    assert fault == "checkpoint" or (result.report is None and result.displayed == [])


@pytest.mark.parametrize("mode", ["smoke", "rehearse"])
def test_a_commit_shows_its_run_with_the_score_where_solutions_are_there_and_leaves_a_report(tmp_path: Path, mode: str) -> None:
    tree = lay_out(tmp_path, [stub_wheel(tmp_path)])
    solutions = tree.challenges.with_name("arc-agi_evaluation_solutions.json")
    if mode == "rehearse":
        solutions.write_text("{}")
    known = str(solutions) if mode == "rehearse" else None
    result = run(tmp_path, tree, mode)
    assert result.outcome.status == 0, result.output
    assert Path(result.calls[0]["challenges"]).name == "arc-agi_evaluation_challenges.json"
    assert not any("solutions" in str(value) for value in result.calls[0].values())
    assert ('{"pass@2": 0.5, "solutions": "arc-agi_evaluation_solutions.json"}' in result.output) == bool(known)
    (shown,) = result.displayed
    for made in (result.report, json.loads(shown.removeprefix("<p>").removesuffix("</p>"))):
        assert made and made["run_dir"] == str(tree.working / "run") and made["solutions"] == known
    assert sorted(p.name for p in tree.working.iterdir()) == ["report.html", "run", "solve.log", "submission.json"]


def test_two_cells_more_make_it_run_on_colab(tmp_path: Path) -> None:
    page = (NOTEBOOK.parents[1] / "docs" / "colab.md").read_text()
    more = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    assert len(more) == 2
    content = json.loads(NOTEBOOK.read_text())
    code = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    content["cells"][:0] = [{**code, "id": f"colab{k}", "source": text} for k, text in enumerate(more)]
    notebook = tmp_path / "colab.ipynb"
    notebook.write_text(json.dumps(content))
    tree = lay_out(tmp_path, [])
    here = tree.working  # Colab mounts nothing
    for path in (stub_wheel(tmp_path), weights(tmp_path), tree.challenges.with_name("arc-agi_evaluation_challenges.json")):
        path.rename(here / path.name)
    shutil.rmtree(tree.input)
    result = run(tmp_path, tree, "smoke", notebook=notebook, variables={"HRM_INPUT": "", "HRM_WORKING": "", "HRM_HOURS": ""})
    assert result.outcome.status == 0, result.output
    answers = json.loads((here / "working" / "submission.json").read_text())
    assert all(entry["attempt_1"] == SOLVED for entries in answers.values() for entry in entries) and list(answers) == list(TASKS)
    assert (here / "working" / "report.html").is_file()


@pytest.mark.parametrize(("variable", "name"), [("HRM_HOURS", "LIMIT"), ("HRM_CARDS", "CARDS")])
@pytest.mark.parametrize("value", ["abc", "nan", "-1", "inf"])
def test_a_bad_number_is_told_and_linked_folders_are_looked_at_once(tmp_path: Path, variable: str, name: str, value: str) -> None:
    tree = lay_out(tmp_path, [])
    for folder, other in (("a", "b"), ("b", "a")):
        (tree.input / folder).mkdir()
        for k in range(4):
            (tree.input / folder / f"link{k}").symlink_to(tree.input / other)
    left = first_cell({variable: value}, tree)
    assert left[name] == first_cell({})[name] and any(f"read {variable}: " in problem for problem in left["problems"])
    assert sorted(left["FILES"]) == sorted(tree.challenges.parent.iterdir())
    assert file_faults(tree.working / "submission.json", TASKS) == []


@pytest.mark.parametrize("here", [0, 2, 4])
def test_it_tells_what_the_machine_has_and_which_cards_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str], here: int) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + "echo 'NVIDIA L4, 23034 MiB'\n" * here + ("" if here else "echo 'NVIDIA-SMI has failed'\nexit 9\n"))
    tool.chmod(0o755)
    problems = first_cell({"HRM_CARDS": "4", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})["problems"]
    output = capsys.readouterr().out
    assert f" GiB, {here} GPUs" in output and output.count("NVIDIA L4, 23034 MiB") == here
    assert any(f"{here} GPUs are here instead of 4" in problem for problem in problems) == (here < 4)


def test_first_cell_needs_only_the_standard_library_and_all_cells_fit_on_a_few_screens() -> None:
    imported = [node for node in ast.walk(ast.parse(CELLS[0])) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in imported if isinstance(node, ast.ImportFrom)}
    assert names and {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert sum(len("".join(cell["source"])) for cell in json.loads(NOTEBOOK.read_text())["cells"]) <= 11_500


def first_cell(variables: dict[str, str], tree: KaggleTree = NOTHING) -> dict[str, Any]:
    """Names after the first cell ran."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HRM_INPUT": str(tree.input), "HRM_WORKING": str(tree.working), **variables}.items():
            patch.setenv(name, value)
        exec(CELLS[0], namespace)
    return namespace


cells = st.one_of(st.integers(0, 9), st.integers(-2, 12), st.booleans(), st.floats(), st.none())
grid = st.one_of(
    st.lists(st.lists(cells, max_size=4), max_size=4),
    st.builds(lambda rows, columns, colour: [[colour] * columns] * rows, st.integers(0, 32), st.integers(0, 32), st.integers(0, 9)),
    st.none(),
)
entry = st.one_of(st.dictionaries(st.sampled_from(["input", "output", "attempt_1", "attempt_2"]), grid), st.none(), st.integers())
part = st.one_of(st.lists(entry, max_size=3), st.none(), st.text(max_size=2))
broken_task = st.one_of(st.dictionaries(st.sampled_from(["train", "test"]), part), st.none(), st.lists(st.integers(), max_size=2))


@settings(max_examples=150)
@given(
    st.dictionaries(st.text(min_size=1, max_size=3), broken_task, max_size=3),
    st.dictionaries(st.text(min_size=1, max_size=3), part, max_size=3),
)
def test_whatever_the_tasks_and_answers_the_completed_submission_is_valid(tasks: dict[str, Any], answers: dict[str, Any]) -> None:
    NAMESPACE["challenges"] = tasks
    tests = {name: task.get("test") if isinstance(task, dict) else None for name, task in tasks.items()}
    counts = {name: len(test) if isinstance(test, list) and test else 1 for name, test in tests.items()}
    whole = NAMESPACE["complete"](answers)
    assert list(whole) == list(tasks)
    assert faults(json.loads(json.dumps(whole)), counts) == []


NAMESPACE = first_cell({})
