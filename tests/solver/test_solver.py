"""One task after the other on one model: each from the same weights, restarted if training fails."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from hrm_submit.config.runtime import runtime_for
from hrm_submit.config.schema import Preset
from hrm_submit.model.weights import Checkpoint, CheckpointMeta, build, snapshot
from hrm_submit.solver.messages import Answer, Message, Restarted
from hrm_submit.solver.solver import TaskSolver
from tests.run.fake_pool import Time
from tests.run.lab import recolour
from tests.solver.sessions import Faulty, stand_in


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    return stand_in(monkeypatch)


def solver(preset: Preset, source: Checkpoint | None = None, **options: Any) -> TaskSolver:
    return TaskSolver(preset, runtime_for("cpu", preset.device), source, **options)


def final(messages: Iterator[Message]) -> list[list[tuple[Any, int, float]]]:
    *_, last = messages
    assert isinstance(last, Answer) and last.final
    return [[(c.grid.tolist(), c.votes, c.score) for c in output] for output in last.outputs]


def story(messages: Iterator[Message]) -> list[str]:
    """Answers, and the reasons of restarts."""
    found = [m for m in messages if isinstance(m, Answer | Restarted)]
    last = found[-1]
    assert isinstance(last, Answer) and last.final
    return [m.reason if isinstance(m, Restarted) else "answer" if any(m.outputs) else "no answer" for m in found]


def test_every_task_starts_from_the_same_weights(preset: Preset) -> None:
    one, other = solver(preset), solver(preset)
    first = final(one.solve(recolour("a"), segments=6))
    other.warm_up()
    assert final(other.solve(recolour("b", 1), segments=6)) != first
    assert final(other.solve(recolour("a"), segments=6)) == first == final(one.solve(recolour("a"), segments=6))


ROSE = "the loss rose from 1 to 9"


@pytest.mark.parametrize(
    ("most", "fastest", "told", "batches", "thirds"),
    [
        (4, 1.0, ["out of memory", "out of memory", "answer"], [16, 8, 4], [0, 0, 0]),
        (16, 1e-3, ["answer", ROSE, "answer"], [16, 16], [0, 1]),
        (16, 0.0, ["answer", ROSE, "answer", ROSE, "answer", "no answer"], [16, 16, 16], [0, 1, 2]),
        (8, 1e-3, ["out of memory", "answer", ROSE, "answer"], [16, 8, 8], [0, 0, 1]),
    ],
    ids=["memory", "diverges", "diverges always", "both"],
)
def test_a_failed_training_restarts_with_half_the_batch_or_a_third_of_the_rates(
    preset: Preset, faulty: type[Faulty], most: int, fastest: float, told: list[str], batches: list[int], thirds: list[int]
) -> None:
    """It gets the time left, not a new share; the next task begins with the whole batch and rates."""
    faulty.most, faulty.fastest = most, fastest
    one, ttt = solver(preset), preset.ttt
    assert story(one.solve(recolour("a"), seconds=50.0)) == told
    budgets = [budget for *_, budget in faulty.batches]
    assert all(b is not None and b <= 50.0 for b in budgets) and budgets == sorted(budgets, reverse=True)
    list(one.solve(recolour("b"), segments=6))
    assert [size for _, size, _ in faulty.batches] == batches * 2
    assert faulty.rates == [pytest.approx([rate / 3**n for rate in (ttt.lr, ttt.muon_lr, ttt.embedding_lr)]) for n in thirds * 2]


def test_a_device_that_computes_nonsense_shows_it_before_its_first_task(preset: Preset) -> None:
    model, embedding = build(preset.model, n_rows=1, seed=0)
    with torch.no_grad():
        embedding.rows.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the loss is not finite"):
        solver(preset, snapshot(model, embedding, CheckpointMeta())).warm_up()


def test_convolutions_without_an_engine_halve_the_batch_once_then_do_without_cudnn(
    preset: Preset, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    faulty.faults = {"a": RuntimeError("GET was unable to find an engine to execute this computation")}
    with pytest.raises(RuntimeError, match="an engine"):
        list(solver(preset).solve(recolour("a"), segments=6))
    assert [size for _, size, _ in faulty.batches] == [16, 8, 8] and not torch.backends.cudnn.enabled


def test_without_time_left_nothing_restarts(preset: Preset, faulty: type[Faulty]) -> None:
    faulty.fastest, time = 0.0, Time()

    def slowly() -> Iterator[Message]:
        for message in solver(preset, now=time).solve(recolour("a"), seconds=5.0):
            yield message
            time.now += 2.0  # three signs of life and an answer take more than the share

    assert story(slowly()) == ["answer", "no answer"] and len(faulty.rates) == 1


class Fails(torch.autograd.Function):
    """Passes values on; its backward pass fails from the `first`-th call on."""

    calls = 0
    first = 1

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        Fails.calls += 1
        if Fails.calls >= Fails.first:
            raise RuntimeError("BackendCompilerFailed: no such kernel")
        return grad


@pytest.mark.parametrize("kind", ["no compiler", "forward", "forward later", "backward", "backward later"])
def test_wherever_the_compiler_fails_the_model_answers(
    preset: Preset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    expected = final(solver(preset).solve(recolour("a"), segments=6))
    calls = 0

    def compile_(function: Any, *args: Any, **options: Any) -> Any:
        def run(*a: Any, **o: Any) -> Any:
            nonlocal calls
            calls += 1
            if kind == "no compiler" or (kind == "forward" and calls == 1) or (kind == "forward later" and calls == 9):
                raise RuntimeError("InvalidCxxCompiler: none found")
            result = function(*a, **o)
            return Fails.apply(result) if kind.startswith("backward") and torch.is_grad_enabled() else result

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    Fails.calls, Fails.first = 0, 7 if kind == "backward later" else 1
    one = TaskSolver(preset, replace(runtime_for("cpu", preset.device), engine="compile"))
    said = list(one.solve(recolour("a"), segments=6))
    assert final(iter(said)) == expected
    assert [m.reason for m in said if isinstance(m, Restarted)] == (["the compiler failed"] if kind.startswith("backward") else [])
    assert "torch.compile failed, continuing without" in caplog.text
    caplog.clear()
    assert final(one.solve(recolour("a"), segments=6)) == expected and not caplog.records, "told once"
