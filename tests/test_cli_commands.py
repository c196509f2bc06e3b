"""The command line around `solve`: help, unknown commands, Ctrl-C, and what `validate` and `score` say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.run import solve as run_module
from tests.run.lab import challenges
from tests.shared import write


def test_without_a_command_help_is_shown_and_an_unknown_one_is_refused(refused: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(main, ["dance"])
    assert main([]) == 0 and "solve a challenges file" in capsys.readouterr().out


def test_presets_are_listed_with_size_weights_machine_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    said = capsys.readouterr().out
    assert "nano: 0.67M parameters, weights nano.safetensors\n" in said
    assert "hrm-27m: 27.28M parameters, no packaged weights, so it starts from random ones\n" in said
    assert "nano-2d: 0.54M parameters, weights arc-agi-2.safetensors\n" in said
    assert "patches: a layer over another preset, weights patches.safetensors\n" in said
    assert "l4x4: for 4 x L4 of 22 GiB\n" in said and "further: a layer over another preset\n    [train] lr = 0.0006" in said


def test_interrupts_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "solve", interrupt)
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
