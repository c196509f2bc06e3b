"""The simulated machine: its folder tree, its walls, and a whole simulation over the stand-in wheel."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import simulate_kaggle
from kaggle_kit import rehearsal
from kaggle_kit.processes import isolation, run_limited

from hrm_submit.arc.canonical import pair_hash
from hrm_submit.arc.task import Solutions, make_grid
from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.corpora.sources import load
from tests.notebook.notebook_lab import PACKAGES, SOLVED, TASKS, lay_out, stub_wheel
from tests.run.lab import tiny_preset
from tests.shared import write_weights


def limited(code: str, limit: float, folder: Path, cut: bool = False) -> tuple[Any, list[str]]:
    output: list[str] = []
    command = [*((isolation() or ()) if cut else ()), sys.executable, "-u", "-c", code]
    outcome = run_limited(command, limit, env=os.environ, cwd=folder, on_text=output.append)
    return outcome, "".join(output).splitlines()


@pytest.mark.parametrize("layout", ["new", "old"])
def test_tree_is_laid_out_as_kaggle_mounts_it(tmp_path: Path, layout: Any) -> None:
    wheel = stub_wheel(tmp_path)
    tree = lay_out(tmp_path, [wheel], layout)
    files = {p.relative_to(tree.input).as_posix() for p in tree.input.rglob("*") if p.is_file()}
    competition = "competitions/arc-prize-2026-arc-agi-2" if layout == "new" else "arc-prize-2026-arc-agi-2"
    dataset = "datasets/someone/hrm-submit-wheels" if layout == "new" else "hrm-submit-wheels"
    names = ("arc-agi_test_challenges.json", "arc-agi_evaluation_challenges.json", "sample_submission.json")
    assert files == {f"{competition}/{name}" for name in names} | {f"{dataset}/{wheel.name}"}
    challenges = json.loads(tree.challenges.read_text())
    assert list(challenges) == list(TASKS) and all("output" not in test for task in challenges.values() for test in task["test"])


def test_choice_of_tasks(tmp_path: Path) -> None:
    known = load("arc-agi-1-evaluation")
    tasks, chosen = rehearsal.choose_tasks(None, None, None)
    assert len(tasks) == 12 and set(chosen) == set(tasks) and max(task.largest_side for task in tasks.values()) <= 12
    assert list(rehearsal.choose_tasks("arc-agi-1-evaluation", "5", None)[0]) == sorted(known)[:5]
    assert len(rehearsal.choose_tasks("arc-agi-2-evaluation", None, None)[0]) == 120
    ids = sorted(known)[7:9]
    assert list(rehearsal.choose_tasks(None, ",".join(ids), None)[0]) == ids
    for dataset, tasks_wanted in (("arc-agi-1-evaluation", "nonsense"), ("no-such-set", None)):
        with pytest.raises(DataError):
            rehearsal.choose_tasks(dataset, tasks_wanted, None)
    with pytest.raises(ConfigError, match="must be at least 1, not 0"):
        rehearsal.choose_tasks("arc-agi-1-evaluation", "0", None)

    tree = lay_out(tmp_path, [])
    file = tmp_path / "my_challenges.json"
    file.write_text(tree.challenges.read_text())
    assert rehearsal.choose_tasks(str(file), None, None)[1] == {}
    (tmp_path / "my_solutions.json").write_text(json.dumps({"aaaa0001": [[[1]]], "aaaa0002": [[[2]], [[3]]]}))
    assert set(rehearsal.choose_tasks(str(file), "1", None)[1]) == {"aaaa0001"}


@pytest.mark.parametrize(
    ("dataset", "known", "told"),
    [
        ("arc-agi-1-evaluation", True, "weights: nano.safetensors, as w.safetensors was trained on 1 of these 2 tasks"),
        ("arc-agi-1-evaluation", False, ""),
        ("arc-agi-1-training", True, ""),
    ],
    ids=["known", "not known", "known to the default weights too"],
)
def test_weights_that_know_the_tasks_are_not_simulated_with(tmp_path: Path, capsys: Any, dataset: str, known: bool, told: str) -> None:
    tasks = dict(list(load(dataset).items())[:2])
    pair = next(iter(tasks.values())).train[0]
    hashes = (pair_hash(pair.input, pair.output),) if known else ()
    weights = write_weights(tmp_path / "w.safetensors", tiny_preset(tmp_path).model, hashes=hashes)
    assert rehearsal.weights_for(weights, tasks).name == ("nano.safetensors" if told else "w.safetensors")
    assert capsys.readouterr().out.strip() == told


def test_a_score_that_says_nothing_is_told_as_such(tmp_path: Path) -> None:
    tree = lay_out(tmp_path, [])
    answers = {name: [{"attempt_1": SOLVED, "attempt_2": SOLVED} for _ in task.test] for name, task in TASKS.items()}
    (tree.working / "submission.json").write_text(json.dumps(answers))
    (tree.working / "run").mkdir()
    run = {"output": "submission.json", "checkpoint": "w.safetensors"}
    for known in ([], ["aaaa0001"]):
        (tree.working / "run" / "run.json").write_text(json.dumps(run | {"trained_on": known}))
        rows, good = rehearsal.submission_results(tree, TASKS, {"aaaa0001": (make_grid(SOLVED),)})
        assert good and rows["pass@2"].startswith("100.0%")
        assert rows.get("warning", "").startswith("w.safetensors was trained on 1 of these tasks") == bool(known)
    assert rehearsal.submission_results(tree, TASKS, {})[0]["score"] == "not known: no solutions are at hand"


def test_hard_limit_kills_all_that_was_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(601)"
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    code = f"import subprocess, sys, time; print('up'); {start}; time.sleep(600)"
    outcome, lines = limited(code, 2, tmp_path)
    assert outcome.status is None and lines == ["up"] and 2 <= outcome.seconds < 10
    assert not [p for p in psutil.process_iter(["cmdline"]) if child in (p.info["cmdline"] or [])]


def test_network_is_cut(tmp_path: Path) -> None:
    if isolation() is None:
        pytest.skip("this system allows no network namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); print('connected')"
        assert limited(code, 30, tmp_path)[1] == ["connected"]
        outcome, lines = limited(code, 30, tmp_path, cut=True)
    assert outcome.status == 1 and "connected" not in lines


def test_a_whole_simulation_and_one_that_overruns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Over this interpreter's packages and two tasks, the first of which the stand-in solves."""
    right, wrong = make_grid(SOLVED), make_grid([[0, 1], [2, 3]])
    solutions: Solutions = {"aaaa0001": (right,), "aaaa0002": (wrong, wrong)}
    monkeypatch.setattr(rehearsal, "preinstalled", lambda: PACKAGES)
    monkeypatch.setattr(rehearsal, "choose_tasks", lambda *_: (TASKS, solutions))
    monkeypatch.setattr(rehearsal, "shipped_files", lambda *_: [stub_wheel(tmp_path)])
    options = ["--output-dir", str(tmp_path / "out"), "--mode", "scored"]
    assert simulate_kaggle.main([*options, "--time-limit", "90s"]) == 0
    out = capsys.readouterr().out
    table = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert table["pass@2"].strip() == "33.3%  (1 of 3 test outputs)" and table["task_pass@2"].strip() == "50.0%  (1 of 2 tasks)"
    assert table["submission"].strip() == "valid" and table["notebook"].strip() == "ended well"
    assert "of 90" in table["seconds used"] and "stub: solving 2 tasks" in out
    folder = tmp_path / "out"
    assert (folder / "solutions.json").is_file() and not list((folder / "kaggle").rglob("*solutions*"))
    assert any(cell.get("outputs") for cell in json.loads((folder / "executed.ipynb").read_text())["cells"])
    lost = ["--output-dir", str(tmp_path / "lost"), "--time-limit", "0.1s"]  # less than a notebook takes to start
    assert simulate_kaggle.main([*options, *lost]) == 1
    assert "TIME-OUT" in capsys.readouterr().out


def test_bad_input_is_one_line(refused: Any) -> None:
    assert "nothing.ipynb: no such notebook" in refused(simulate_kaggle.main, ["--notebook", "nothing"])
    assert "not a duration: 'soon'" in refused(simulate_kaggle.main, ["--time-limit", "soon"])
