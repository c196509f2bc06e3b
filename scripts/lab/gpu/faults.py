"""Faults that a GPU machine brings: memory that runs out, and compilers that are missing or fail. The task is answered by the model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hrm_submit.solver.messages import Answer, Restarted
from hrm_submit.solver.solver import TaskSolver
from lab.gpu.work import made_up, way

WAYS = ("no C compiler", "no Triton", "the forward pass", "the backward pass")


def memory_runs_out(device: str, quick: bool, tell: Callable[..., None]) -> None:
    """A batch that does not fit what is left of the card."""
    if device == "cpu":
        tell("memory that runs out", "needs a GPU")
        return
    how = way("nano", device, batch=64)
    solver = TaskSolver(how.preset, how.runtime)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    taken = torch.empty(max(0, free - 2**29), dtype=torch.uint8, device=device)
    said = list(solver.solve(made_up("oom", 29), segments=10))
    halved = sum(isinstance(m, Restarted) for m in said)
    tell(
        "memory that runs out",
        f"batch halved {halved} times",
        ok=halved > 0 and _answered(said),
        taken=f"{taken.numel() / 2**30:.1f} GiB",
    )


def compilers_fail(device: str, quick: bool, tell: Callable[..., None]) -> None:
    """Each way in which torch.compile can fail, made to happen."""
    for kind in WAYS:
        torch._dynamo.reset()
        with _failing(kind):
            how = way("nano", device, batch=4, compiled=True)
            solver = TaskSolver(how.preset, how.runtime)
            said = list(solver.solve(made_up("compiler", 5), segments=4))
        tell(f"the compiler fails: {kind}", f"begun anew {sum(isinstance(m, Restarted) for m in said)} times", ok=_answered(said))


@contextmanager
def _failing(kind: str) -> Iterator[None]:
    """torch.compile that fails in one way: its tools are hidden, or what it returns raises."""
    environment, modules, compile_ = dict(os.environ), dict(sys.modules), torch.compile
    try:
        if kind == "no C compiler":
            os.environ.update(CC="/nonexistent/cc", CXX="/nonexistent/c++", PATH="")
            os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        elif kind == "no Triton":
            sys.modules["triton"] = None  # type: ignore[assignment]
        else:
            torch.compile = lambda function, *a, **o: _Breaks(function, kind)  # type: ignore[assignment]
        yield
    finally:
        torch.compile = compile_
        os.environ.clear()
        os.environ.update(environment)
        if kind == "no Triton":
            sys.modules.pop("triton", None)
            sys.modules.update({name: module for name, module in modules.items() if name.startswith("triton")})


class _Breaks:
    """A compiled function that raises where `kind` says, from its third call on."""

    def __init__(self, function: Callable[..., Any], kind: str) -> None:
        self._function, self._kind, self._calls = function, kind, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._calls += 1
        if self._calls < 3:
            return self._function(*args, **options)
        if self._kind == "the forward pass":
            raise RuntimeError("made to fail")
        result = self._function(*args, **options)
        return _Raises.apply(result) if torch.is_grad_enabled() else result


class _Raises(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("made to fail")


def _answered(said: list[Any]) -> bool:
    last = said[-1]
    return isinstance(last, Answer) and last.final and all(last.outputs)
