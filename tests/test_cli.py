"""The command line: wrong input of `solve` is one line and exit 2 before any work, one bad task costs only itself; help, presets, Ctrl-C,
and what `validate` says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from hrm_submit.arc.reader import write_challenges
from hrm_submit.cli import main
from hrm_submit.model import packaged
from hrm_submit.model.weights import CheckpointMeta, build, save_checkpoint, snapshot
from hrm_submit.run import solve as run_module
from tests.run.lab import challenges, command, events, recolour, recoloured, tiny, tiny_preset
from tests.shared import write, write_weights

Faults = Callable[..., str]


class Started(BaseException):
    """Work was begun."""


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrm_submit.run.worker_pool.WorkerPool.start", Mock(side_effect=Started))


def solve(folder: Path, layer: str = "", **options: str | None) -> list[str]:
    """The words of a `solve` of four tasks that would start but for a `layer` of its preset and these options; `None` leaves one out."""
    asked: dict[str, str | None] = {
        "challenges": str(challenges(folder, 4)),
        "output": str(folder / "submission.json"),
        "segments_per_task": "3",
        "preset": tiny(folder, layer),
        "devices": "cpu",
        **options,
    }
    return ["solve", *(word for k, v in asked.items() if v is not None for word in (f"--{k.replace('_', '-')}", v))]


@pytest.fixture
def fault(tmp_path: Path, refused: Any, no_work: None) -> Faults:
    """Runs a `solve` that must be refused; returns its one line."""

    def run(**options: Any) -> str:
        line: str = refused(main, solve(tmp_path, **options))
        assert line.startswith("hrm-submit")
        return line

    return run


def test_the_good_case_would_start_with_only_the_chosen_tasks_planned(tmp_path: Path, no_work: None) -> None:
    """So the faults below are refused for what is wrong with them."""
    for options in ({"segments_per_task": None, "time_budget": "20s"}, {"tasks": "task03,task01,task02", "first": "2"}):
        with pytest.raises(Started):
            main(solve(tmp_path, **options))
    folder = tmp_path / "submission.json.run"
    assert events(folder, "plan")[-1]["todo"] == json.loads((folder / "run.json").read_text())["tasks"] == ["task01", "task02"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        *((f, "cannot be written") for f in ("file/submission.json", "/dev/null/x", "/proc/submission.json", "..")),
        *((f, "names no file") for f in ("", ".", "/")),
    ],
)
def test_outputs_that_cannot_be_written(fault: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    line = fault(output=place)
    assert said in line and place in line


def test_the_challenges_are_not_overwritten(fault: Faults, tmp_path: Path) -> None:
    before = challenges(tmp_path, 4).read_bytes()
    (tmp_path / "link.json").symlink_to(tmp_path / "challenges.json")
    for place in (tmp_path / "challenges.json", tmp_path / "link.json"):
        assert "cannot be both" in fault(output=str(place))
    assert (tmp_path / "challenges.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": "task00,nope"}, "has no task nope"),
        ({"tasks": ","}, "--tasks"),
        ({"devices": "cuda:77"}, "no cuda:77 here"),
        ({"devices": ""}, "--devices"),
        ({"run_dir": "/dev/null/run"}, "run folder cannot be written"),
        ({"challenges": "/dev/null/challenges.json"}, "no such file"),
        ({"challenges": str(Path(__file__))}, "not JSON: line 1"),
        ({"segments_per_task": "0"}, "--segments-per-task must be at least 1"),
        ({"segments_per_task": "many"}, "many"),
        ({"seed": "x"}, "x"),
        ({"seed": "99999999999999999999999"}, "--seed"),
        ({"seed": "-1"}, "--seed"),
        ({"segments_per_task": None}, "--time-budget"),
        ({"time_budget": "5m"}, "--time-budget"),
        ({"segments_per_task": None, "time_budget": "soon"}, "not a duration: 'soon'"),
        ({"segments_per_task": None, "time_budget": "-5m"}, "--time-budget"),
        ({"challenges": None}, "--challenges"),
        ({"frobnicate": "1"}, "--frobnicate"),
        ({"layer": "[model]\nseq_len = 100\n"}, "seq_len"),
        ({"layer": "[model]\nvocab_size = 7\n"}, "vocab_size"),
    ],
)
def test_options_and_models_that_make_no_sense(fault: Faults, options: dict[str, Any], said: str) -> None:
    assert said in fault(**options)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "weights.safetensors", tiny_preset(tmp_path).model, seed=1)


def test_a_checkpoint_that_is_not_what_it_says_or_of_another_model_than_the_preset(fault: Faults, weights: Path, tmp_path: Path) -> None:
    line = fault(checkpoint=str(weights), preset=tiny(tmp_path, "[model]\nhidden_size = 64\n"))
    assert "hidden_size = 64" in line and "weights.safetensors was trained with 32" in line
    weights.write_bytes(weights.read_bytes()[:99])
    assert "weights.safetensors" in fault(checkpoint=str(weights))
    model, embedding = build(tiny_preset(tmp_path).model)
    lying = replace(snapshot(model, embedding, CheckpointMeta()), config=replace(model.cfg, hidden_size=64, puzzle_emb_ndim=64))
    save_checkpoint(tmp_path / "lie.safetensors", lying)
    line = fault(checkpoint=str(tmp_path / "lie.safetensors"))
    assert "lie.safetensors" in line and "shape" in line


def test_a_checkpoint_fixes_the_model_and_layers_change_the_rest(weights: Path, tmp_path: Path) -> None:
    plain = packaged.resolve_preset("", weights)
    assert plain.model == tiny_preset(tmp_path).model
    default = packaged.resolve_preset("", None).ttt
    assert default.max_side == 20 and plain.ttt == replace(default, max_side=30), "the default preset, without the sides of its own weights"
    layered = packaged.resolve_preset(tiny(tmp_path, "[vote]\nviews = 3\n"), weights)
    assert layered.model == plain.model and layered.vote.views == 3


def test_a_run_folder_of_another_file_is_refused_and_a_damaged_description_no_reason_to_stop(fault: Faults, tmp_path: Path) -> None:
    folder = write(tmp_path / "run" / "run.json", {"v": 1, "challenges": "other.json", "challenges_sha256": "0" * 64}).parent
    line = fault(run_dir=str(folder))
    assert "run folder of another challenges file" in line and "other.json" in line
    for content in ("", "{", "[]", "null", "17"):
        write(folder / "run.json", content)
        with pytest.raises(Started):
            main(solve(tmp_path, run_dir=str(folder)))


def test_one_bad_task_among_good_ones_costs_only_itself(tmp_path: Path) -> None:
    tasks = {f"good{k}": recolour(f"good{k}", k) for k in range(2)}
    path = tmp_path / "challenges.json"
    write_challenges(path, tasks)
    content = json.loads(path.read_text())
    content["ragged"] = {"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [{"input": [[4, 5]]}, {"input": [[6]]}]}
    path.write_text(json.dumps(content))
    output = tmp_path / "submission.json"
    argv = command(path, output, "--segments-per-task", "60", "--preset", tiny(tmp_path))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    summary = done.stdout.splitlines()
    assert summary[0].startswith("2 of 3 tasks answered by the model, 1 by fallback")
    assert "task ragged" in summary[1] and "challenges.json" in summary[1] and "row 1" in summary[1]
    assert main(["validate", "--submission", str(output), "--challenges", str(path)]) == 0
    submission = json.loads(output.read_text())
    assert [a["attempt_1"] for a in submission["ragged"]] == [[[4, 5]], [[6]]], "its own test inputs are the fallback"
    for task_id, task in tasks.items():
        assert submission[task_id][0]["attempt_1"] == recoloured(task.test[0]).tolist()
    run_dir = tmp_path / "submission.json.run"
    assert {e["task"] for e in events(run_dir, "task_start")} == set(tasks)
    assert events(run_dir, "run_start")[0]["broken"] == ["ragged"]


def test_a_file_of_nothing_but_bad_tasks_leaves_a_valid_file(tmp_path: Path, no_work: None, refused: Any) -> None:
    path = tmp_path / "challenges.json"
    path.write_text('{"a": 17, "b": {"train": [], "test": [{"input": [[1]]}]}}')
    argv = ["--challenges", str(path), "--devices", "cpu", "--segments-per-task", "1"]
    line = refused(main, ["solve", "--output", str(tmp_path / "s.json"), *argv])
    assert "has no task that can be used" in line and "task a: should be an object, not 17" in line
    (tmp_path / "old.json").write_text("better answers")
    for output in (tmp_path / "old.json", path):
        before = output.read_text()
        assert main(["solve", "--output", str(output), *argv]) == 2 and output.read_text() == before, "nothing is written over"
    assert main(["validate", "--submission", str(tmp_path / "s.json"), "--challenges", str(path)]) == 0


def test_without_a_command_help_is_shown_and_an_unknown_one_is_refused(refused: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(main, ["dance"])
    assert main([]) == 0 and "solve a challenges file" in capsys.readouterr().out


def test_presets_are_printed_with_their_parameters_and_their_toml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    said = capsys.readouterr().out
    assert "nano: 0.67M parameters\n    # For CPUs" in said
    assert "hrm-27m: 27.28M parameters\n" in said and "hrm-7m: 5.97M parameters\n" in said
    assert re.search(r"further: a layer over another preset\n    # .*\n    \[train\]\n    lr = 6e-4\n", said)


def test_interrupts_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "solve", Mock(side_effect=KeyboardInterrupt))
    assert main(["solve", "--challenges", "x", "--output", "y", "--segments-per-task", "1"]) == 130
    assert capsys.readouterr().err == "hrm-submit: stopped\n"
    assert os.listdir(tmp_path) == []


def test_help_and_wrong_options_import_nothing_heavy() -> None:
    code = (
        "import sys\nfrom hrm_submit.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n        assert main(line.split()) == 2, line\n"
        "    except SystemExit as ended:\n        assert (ended.code or 0) == (0 if '--help' in line or '--version' in line else 2), line\n"
        "assert not {'torch', 'numba', 'numpy', 'pandas', 'safetensors', 'tqdm'} & set(sys.modules)\n"
    )
    good = [f"{command} --help" for command in ("solve", "pretrain", "merge", "report", "import-checkpoint")]
    wrong = ["solve", "dance", "report --frob", "solve --challenges x --output . --time-budget 1m", "watch --run-dir x --every soon"]
    done = subprocess.run([sys.executable, "-c", code, "--help", "--version", *good, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("usage:") == 6, done.stderr


def test_validate_names_each_fault_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["validate", "--challenges", str(challenges(tmp_path, 2)), "--submission"]
    path = write(tmp_path / "s.json", {"task00": [{"attempt_1": [[1]], "attempt_2": [[10]]}], "extra": []})
    assert main([*argv, str(path)]) == 1
    assert re.findall(r"task (\w+): ", capsys.readouterr().out) == ["task00", "task01", "extra"]
    assert main([*argv, str(tmp_path / "none.json")]) == 1
