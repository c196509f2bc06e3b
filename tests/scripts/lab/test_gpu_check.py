"""The GPU check on a CPU: steps that run, crash or hang, the table, the file, and the advice."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import gpu_check as script
import pytest
from lab import gpu_check
from lab.gpu_check import LIMITS, Figure, Options, advice, run_step


def test_a_machine_without_a_gpu_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert script.main([]) == 2
    assert "no cuda:0 here" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["--json", "/nowhere/f.json"], ["--challenges", "/nowhere/c.json"]])
def test_wrong_input_is_one_line(arguments: list[str], refused: Any) -> None:
    assert refused(script.main, [*arguments, "--device", "cpu"])


def here(name: str, options: Options, limit: float) -> list[Figure]:
    """Run a step in this process, which has everything imported already."""
    with redirect_stdout(StringIO()) as said:
        getattr(gpu_check, f"step_{name}")(options)
    return [Figure(name, **json.loads(line)) for line in said.getvalue().splitlines()]


@pytest.mark.slow
def test_steps_write_a_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "run_step", here)
    monkeypatch.setattr(gpu_check, "SOLVE_TASKS", 1)
    assert script.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "f.json")]) == 0
    figures = [Figure(**f) for f in json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["figures"]]
    assert {f.step for f in figures} == set(LIMITS)
    told = {f.what: f for f in figures}
    assert told["nano, side 3, float32"].ok and told["fixed work twice"].value == "equal"
    assert told["the file"].ok and told["a killed worker"].ok
    assert "nano, batch 2, plain" in capsys.readouterr().out


def test_a_step_that_crashes_or_hangs_costs_itself() -> None:
    options = Options("cpu", "", True)
    (found,) = run_step("nonsense", options, 300)
    assert found.ok is False and "KeyError" in str(found.value)
    (found,) = run_step("machine", options, 0.2)
    assert found.value == "not done after 0 s" and found.ok is False


def speeds(**rates: float) -> list[Figure]:
    return [Figure("speed", f"nano, batch 32, {way}", rate, "examples/s") for way, rate in rates.items()]


def test_compiling_is_advised_where_it_is_right_and_faster() -> None:
    assert advice(speeds(plain=100, compiled=500)) == ["nano: compiled is 5.0 times as fast: set [device] engine = compile"]
    assert advice(speeds(plain=100, compiled=105)) == ["nano: leave [device] as it is"]
    wrong = [*speeds(plain=100, compiled=500), Figure("numbers", "nano, side 3", 0.5, ok=False)]
    assert advice(wrong) == ["nano: checks failed: leave [device] as it is"]
    assert advice([]) == []
