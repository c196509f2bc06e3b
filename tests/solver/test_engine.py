"""The choice of an engine, with torch's compiler on a CPU: what agrees, differs, fails early, fails late, or has no time.

The slow tests make C++ of a model of some ten thousand parameters, at one size of canvas; the others only trace it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_submit.arc.sizes import canvas_side
from hrm_submit.config.runtime import runtime_for
from hrm_submit.core.clock import Clock
from hrm_submit.solver.engine import SEGMENTS, Measured, Trial, chosen, measure, trials
from hrm_submit.solver.solver import TaskSolver
from tests.run.lab import recolour, tiny_preset


@pytest.fixture(autouse=True)
def one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for the size of the task alone."""
    monkeypatch.setattr("hrm_submit.solver.solver.COMPILED_SIDES", (canvas_side(recolour("a")),) * 2)


def broken(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[int, torch.Tensor], torch.Tensor], backend: str) -> None:
    """Let what `torch.compile` makes pass its result, with the number of its call in training, through `wrong`."""
    real = torch.compile

    def compile_(function: Any, *args: Any, **options: Any) -> Any:
        traced = {**options, "mode": None} if backend == "aot_eager" else options
        ready, calls = real(function, *args, **traced, backend=backend), [0]

        def run(*a: Any, **o: Any) -> Any:
            calls[0] += torch.is_grad_enabled()
            return wrong(calls[0], ready(*a, **o))

        return run

    monkeypatch.setattr(torch, "compile", compile_)


def compared(folder: Path, dtype: str = "float32") -> list[Trial]:
    preset = tiny_preset(folder, "[ttt]\nlr = 1e-3\nmuon_lr = 3e-3\n")  # at its own rates bfloat16 differs by 13 %

    def run(engine: Any, dtype: Any) -> Measured:
        runtime = runtime_for("cpu", replace(preset.device, engine=engine, dtype=dtype, kernels="torch"))
        return measure(TaskSolver(preset, runtime), recolour("a"))

    return list(trials(run, [dtype], Clock(1e9)))


def fails_at(first: int) -> Callable[[int, torch.Tensor], torch.Tensor]:
    def wrong(call: int, result: torch.Tensor) -> torch.Tensor:
        if call >= first:
            raise RuntimeError("CUDA graphs are out of order")
        return result

    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engines_that_agree_are_measured(tmp_path: Path, dtype: str) -> None:
    found = compared(tmp_path, dtype)
    assert [t.engine for t in found] == ["plain", "compile", "reduce-overhead"]
    assert all(t.rate > 0 and t.fault in ("", "no faster") for t in found), found
    assert dtype == "bfloat16" or all(t.losses < 1e-4 and t.predictions < 1e-4 for t in found), found


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (lambda call, result: result.flip(-1) if call > 8 else result, "more than rounding"),
        (lambda call, result: result * float("nan"), "the loss is not finite"),
        (fails_at(0), "it failed"),
        (fails_at(2 * 2 + 10), "it failed"),
    ],
    ids=["disagrees", "no number", "fails at compile time", "fails in the tenth segment"],
)
def test_what_is_wrong_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, fault: str, backend: str) -> None:
    broken(monkeypatch, wrong, backend)
    plain, *others = compared(tmp_path)
    assert not plain.fault and all(fault in t.fault for t in others), others
    last = chosen("L4", [plain, *others], "bfloat16", 3.0)
    assert (last.engine, last.dtype) == ("plain", "float32") and fault in str(last.reason)


def measured(rate: float, loss: float = 1.0, prediction: float = 0.5) -> Measured:
    return Measured(rate, [loss] * SEGMENTS, np.array([[[prediction, 1 - prediction]]]))


@pytest.mark.parametrize(
    ("found", "seconds", "expected"),
    [
        ({"plain float32": measured(1), "plain bfloat16": measured(3), "compile bfloat16": measured(6)}, 99, "compile bfloat16"),
        ({"plain float32": measured(1), "plain bfloat16": measured(3, loss=1.2), "compile float32": measured(2)}, 99, "compile float32"),
        ({"plain float32": measured(1), "plain bfloat16": measured(3, prediction=0.4)}, 99, "plain float32"),
        ({"plain float32": measured(1), "plain bfloat16": measured(1.01)}, 99, "plain float32"),
        ({"plain bfloat16": measured(3), "reduce-overhead bfloat16": measured(9)}, 99, "reduce-overhead bfloat16"),
        ({"plain float32": measured(1), "plain bfloat16": measured(3), "compile bfloat16": measured(6)}, 20, "plain bfloat16"),
        ({"plain float32": measured(1), "plain bfloat16": measured(3)}, 0, "plain float32"),
        ({}, 99, "plain bfloat16"),
    ],
    ids=["the fastest", "losses differ", "predictions differ", "no faster", "no memory at first", "too short", "no time", "nothing runs"],
)
def test_the_fastest_that_agrees_is_chosen(found: dict[str, Measured], seconds: float, expected: str) -> None:
    def run(engine: str, dtype: str) -> Measured:
        if f"{engine} {dtype}" not in found:
            raise MemoryError("no room")
        return found[f"{engine} {dtype}"]

    tried = list(trials(run, ["float32", "bfloat16"], Clock(seconds)))
    told = chosen("L4", tried, "bfloat16", 1.0)
    assert f"{told.engine} {told.dtype}" == expected and len(tried) == 4
    assert ("no time" in str(told.reason)) == (seconds < 99)
