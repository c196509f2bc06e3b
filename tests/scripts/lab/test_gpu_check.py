"""The GPU check on a CPU: steps that run, crash or hang, the table, the file, and the verdict."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import gpu_check as script
import pytest
from kaggle_kit.processes import Outcome
from lab import gpu_check
from lab.gpu_check import LIMITS, Figure, Options, run_step, verdict


def test_a_machine_without_a_gpu_and_wrong_input_are_one_line(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["nonsense"], ["--json", "/nowhere/f.json"]):
        assert refused(script.main, [*arguments, "--device", "cpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no cuda:0 here" in refused(script.main, [])


def here(name: str, options: Options, limit: float) -> list[Figure]:
    """Run a step in this process, which has everything imported already."""
    with redirect_stdout(StringIO()) as said:
        getattr(gpu_check, f"step_{name}")(options)
    return [Figure(name, **json.loads(line)) for line in said.getvalue().splitlines()]


@pytest.mark.slow
def test_steps_write_a_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "run_step", here)
    assert script.main(["--device", "cpu", "--json", str(tmp_path / "f.json")]) == 0
    figures = [Figure(**f) for f in json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["figures"]]
    assert {f.step for f in figures} == set(LIMITS)
    told = {f.what: f for f in figures}
    assert told["against the CPU"].ok and told["choice"].more["engine"] == "plain"
    assert told["a killed worker"].ok and told["fixed work twice"].value == "equal"
    said = capsys.readouterr().out
    assert "nano, published way" in said and "Verdict: this device does what a run needs." in said and "A run starts" in said


def test_a_step_that_crashes_or_hangs_costs_itself() -> None:
    (found,) = run_step("nonsense", Options("cpu"), 300)
    assert found.ok is False and "KeyError" in str(found.value)
    (found,) = run_step("memory", Options("cpu"), 0.2)
    assert found.value == "not done after 0 s" and found.ok is False


def test_what_libraries_say_between_the_figures_is_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(command: list[str], limit: float, *, on_text: Any, **_: Any) -> Outcome:
        on_text('{"what": "peak", "value": 1.5, "unit": "GiB"}\n{torn\n5\nRuntimeError: no device\n')
        return Outcome(1, 0.5)

    monkeypatch.setattr(gpu_check, "run_limited", child)
    failed = Figure("memory", "the step itself", "exit status 1: RuntimeError: no device", ok=False)
    assert run_step("memory", Options("cpu"), 9.0) == [Figure("memory", "peak", 1.5, "GiB"), failed]


FOUND = [
    Figure("engine", "plain in float32", 100.0, "examples/s"),
    Figure("engine", "compile in bfloat16", 500.0, "examples/s"),
    Figure("engine", "choice", "compile in bfloat16"),
    Figure("workers", "workers planned", 3),
    *(Figure("workers", f"{n} at once", rate, "examples/s", more={"workers": n}) for n, rate in ((1, 10.0), (2, 19.0), (4, 24.0))),
]


@pytest.mark.parametrize(
    ("figures", "lines"),
    [
        ([], ["this device does what a run needs"]),
        ([Figure("memory", "x", 1.0, ok=False)], ["Verdict: memory FAILED"]),
        (
            FOUND,
            ["what a run needs", "by compile in bfloat16, 5 times as fast", "4 train 2.4 times .* workers_per_gpu = 4"],
        ),
        (FOUND[3:-1], ["what a run needs", "starts 3 workers; 2 train 1.9 times .* leave it so"]),
    ],
    ids=["nothing", "a failure", "more workers are faster", "the planned number is best"],
)
def test_the_verdict_is_in_words(figures: list[Figure], lines: list[str]) -> None:
    said = verdict(figures)
    assert len(said) == len(lines) and all(re.search(wanted, line) for wanted, line in zip(lines, said, strict=True)), said
