"""A compiler that is missing or breaks: the reason is told once, and results are those without it."""

import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.compiled import compile_blocks, compiling_in_turn, engine_of
from hrm_submit.model.hrm import HRM
from hrm_submit.model.weights import build

CFG = ModelConfig(hidden_size=16, num_heads=2, H_layers=2, L_layers=1, puzzle_emb_ndim=16, embedding="shared")


def forward(model: HRM) -> torch.Tensor:
    tokens = torch.arange(2 * 9).view(2, 9) % 12
    result: torch.Tensor = model(model.initial_carry(2, 9), tokens, torch.ones(2, 16), torch.arange(9))[1]
    return result


def test_running_out_of_memory_and_wrong_arguments_are_no_fault_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: Mock(side_effect=MemoryError("no room")))
    model = build(CFG)[0]
    compile_blocks(model)
    with pytest.raises(MemoryError, match="no room"):
        forward(model)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    compile_blocks(model)
    with pytest.raises(RuntimeError):
        model.H_level(torch.zeros(2, 9, 5), torch.zeros(2, 9, 5), None, model.H_level.cast(torch.float32))
    assert engine_of(model) == "compile" and not caplog.records


def test_an_engine_that_fails_goes_one_step_down(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    plain, modes = forward(build(CFG)[0]), list[str | None]()

    def compile_(function: Any, *args: Any, mode: str | None = None, **options: Any) -> Any:
        def run(*a: Any, **o: Any) -> Any:
            modes.append(mode)
            if mode or len(modes) == 5:
                raise RuntimeError("overwritten by a subsequent run")
            return function(*a, **o)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    model = build(CFG)[0]
    compile_blocks(model, "reduce-overhead")
    assert torch.equal(forward(model), plain) and engine_of(model) == "plain"
    assert modes == ["reduce-overhead", None, None, None, None]
    assert [r.getMessage().split(" failed")[0] for r in caplog.records] == ["CUDA graphs", "torch.compile"]


def test_one_compiles_while_others_wait_or_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Locks of one process exclude each other as those of several do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = threading.Event()

    def compile_after_the_first() -> None:
        with compiling_in_turn():
            done.set()

    waiting = threading.Thread(target=compile_after_the_first)
    with compiling_in_turn() as first, compiling_in_turn(wait=False) as second:
        waiting.start()
        assert (first, second) == (True, False) and not done.wait(0.3)
    assert done.wait(30)
    waiting.join()
    with compiling_in_turn(wait=False) as later:
        assert later


KILLED_WORKER = """
import multiprocessing, os, signal
from tqdm import tqdm
from hrm_submit.model.compiled import compiling_in_turn
from tests.model.test_compiled import CFG, build, compile_blocks, forward
multiprocessing.set_start_method("spawn")
model = build(CFG)[0]
compile_blocks(model)
with compiling_in_turn():
    {work}
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("work", ["tqdm(disable=True)", pytest.param("forward(model)", marks=pytest.mark.slow)], ids=["bar", "compiler"])
def test_a_killed_worker_that_compiled_leaves_no_semaphore(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: str) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", KILLED_WORKER.format(work=work)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL and "semaphore" not in done.stderr, done.stderr
