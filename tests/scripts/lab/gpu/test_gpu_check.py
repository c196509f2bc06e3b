"""The GPU check's logic on a CPU: steps that run, crash or hang, the table, the file, and what is advised."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import gpu_check
import pytest
from lab.gpu import check, faults, steps
from lab.gpu.check import Figure, advice, run_step, table


def test_a_machine_without_a_gpu_is_told_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no cuda:0 here" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["--json", "/nowhere/f.json"], ["--challenges", "/nowhere/c.json"]])
def test_wrong_input_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([*arguments, "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def here(name: str, device: str, challenges: Path | None, quick: bool, limit: float) -> list[Figure]:
    """A step in this process, which has everything imported already."""
    said = StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{check.SCRIPTS}{os.pathsep}{check.SCRIPTS.parent}")  # of the processes that it starts
        patch.setattr("sys.argv", ["steps", name, device, str(challenges or ""), "quick" if quick else "whole"])
        steps.main()
    return [Figure(name, **json.loads(line)) for line in said.getvalue().splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_steps_write_a_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "run_step", here)
    names = ["machine", "numbers", "speed", "waits", "memory", "workers", "oom"]
    assert gpu_check.main([*names, "--device", "cpu", "--quick", "--json", str(tmp_path / "f.json")]) == 0
    figures = [Figure(**f) for f in json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["figures"]]
    assert {f.step for f in figures} == set(names)
    numbers = [f for f in figures if f.step == "numbers"]
    assert len(numbers) == 8 and all(f.ok for f in numbers)
    speeds = {f.what: f.value for f in figures if f.step == "speed"}
    assert set(speeds) == {f"nano, batch 2, {how}" for how in ("eager", "recorded", "recorded, up to 4 segments")}
    assert all(float(v) > 0 for v in speeds.values())
    assert "nano, side 3, float32, math, recorded" in capsys.readouterr().out


@pytest.mark.slow
def test_solve_is_checked_on_made_up_tasks_and_on_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SOLVE_TASKS", 1)
    steps.step_solve("cpu", True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["ok"] for f in told] == [True, True, None, True]
    assert [f["what"] for f in told][1:3] == ["the file", "the profile taken"]


@pytest.mark.parametrize("kind", [kind for kind in faults.WAYS if kind != "no Triton"])  # a CPU compiles without it
def test_each_way_of_failing_fails_and_is_survived(kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(faults, "WAYS", (kind,))
    told: list[bool] = []
    faults.compilers_fail("cpu", True, lambda what, value, ok: told.append(ok))
    assert told == [True]
    assert "torch.compile failed, continuing without it" in caplog.text


def test_a_step_that_crashes_or_hangs_costs_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (found,) = run_step("nonsense", "cpu", None, True, 60)
    assert found.ok is False and "KeyError" in str(found.value)
    (found,) = [f for f in run_step("machine", "cpu", None, True, 0.2) if f.what == "the step itself"]
    assert found.value == "not done after 0 s" and found.ok is False


def speeds(**rates: float) -> list[Figure]:
    return [Figure("speed", f"nano, batch 32, {way.replace('_', ' ')}", rate, "examples/s") for way, rate in rates.items()]


def test_what_is_right_and_faster_is_advised() -> None:
    assert advice(speeds(eager=100, recorded=500, compiled=200)) == ["nano: recorded is 5.0 times as fast: set [device] cuda_graphs = true"]
    both = advice(speeds(eager=100, recorded=500, compiled=200, compiled_and_recorded=700))
    assert both == ["nano: compiled and recorded is 7.0 times as fast: set [device] compile = true, cuda_graphs = true"]
    assert advice(speeds(eager=100, recorded=105)) == ["nano: leave [device] as it is"]
    wrong = [*speeds(eager=100, recorded=500), Figure("numbers", "nano, side 3", 0.5, ok=False)]
    assert advice(wrong) == ["nano: recorded is 5.0 times as fast, but checks failed: leave [device] as it is"]
    assert advice([]) == []


def test_the_table_says_what_failed() -> None:
    text = table([Figure("a", "x", 1.5, "s", True), Figure("b", "y", "broken", ok=False, more={"k": 1})]).to_string()
    assert "1.5 s" in text and "ok" in text and "FAILED" in text and "k 1" in text


def test_every_step_has_a_limit() -> None:
    known = {n.removeprefix("step_") for n in vars(steps) if n.startswith("step_")} | {"oom", "compiler"}
    assert known == set(check.LIMITS)
