"""The CPU's compiled kernels against torch's own operations: values and gradients, both formats, any side."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hrm_submit.config.preset_files import load_preset
from hrm_submit.model import cpu_functions
from hrm_submit.model.hrm import HRM
from hrm_submit.model.layers import attend_lines, rotary_tables, swiglu

NANO_2D = replace(load_preset("nano-2d").model, hidden_size=32, num_heads=4, H_layers=2, L_layers=1, H_cycles=2, puzzle_emb_ndim=32)

FORMATS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def run(function: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    """The result, and the gradient of each tensor under one fixed gradient of the result."""
    given = [t.clone().requires_grad_() for t in tensors]
    out = function(*given)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out.dtype))
    return [out.detach(), *[t.grad for t in given if t.grad is not None]]


def agree(ours: list[Tensor], exact: list[Tensor], dtype: torch.dtype) -> None:
    """To float32's rounding of sums, or in bfloat16 to 1 % of the largest value: torch's operations round in between, and so do ours."""
    assert len(ours) == len(exact)
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=float(b.abs().max()) * (1e-5 if dtype == torch.float32 else 1e-2))


def noise(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@FORMATS
@pytest.mark.parametrize("shape", [(2, 7, 16), (3, 1, 5)])
def test_add_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, y = noise(*shape, dtype=dtype), noise(*shape, dtype=dtype, seed=1)
    ours = run(lambda x, y: cpu_functions.add_norm(x, y, 1e-5), x, y)
    agree(ours, run(lambda x, y: F.rms_norm(x + y, x.shape[-1:], None, 1e-5), x.float(), y.float()), dtype)


@FORMATS
@pytest.mark.parametrize(("side", "before", "size"), [(1, 0, 3), (2, 1, 5), (5, 2, 3), (6, 1, 1), (4, 1, 7), (2, 1, 0)])
def test_swiglu_with_a_convolution_or_none(side: int, before: int, size: int, dtype: torch.dtype) -> None:
    """Also of values that exp overflows at."""
    gate_up = noise(2, before + side * side, 24, dtype=dtype)
    gate_up[0, 0, :6] = torch.tensor([-1e4, -100.0, -80.0, 80.0, 100.0, 1e4])
    given = [gate_up] + ([noise(12, 1, size, size, dtype=dtype, seed=1)] if size else [])
    exact = run(lambda g, f=None: swiglu(g, f, side), *(x.float() for x in given))
    agree(run(lambda g, f=None: cpu_functions.swiglu(g, f, side), *given), exact, dtype)


@FORMATS
@pytest.mark.parametrize(("side", "before", "heads", "width"), [(1, 0, 2, 4), (2, 1, 2, 8), (5, 0, 4, 8), (9, 3, 2, 4), (13, 1, 4, 8)])
def test_lines(side: int, before: int, heads: int, width: int, dtype: torch.dtype) -> None:
    """Also of scores beyond what exp holds."""
    qkv, rotary = noise(2, before + side * side, 3, heads, width, dtype=dtype), rotary_tables(side, width, 100.0)
    qkv[0, 0, :2] *= 30
    ours = run(lambda x: cpu_functions.attend_lines(x, rotary.cos, rotary.sin, side), qkv)
    exact = run(lambda x: attend_lines(x.permute(2, 0, 3, 1, 4), rotary, side, "math").transpose(1, 2), qkv.float())
    agree(ours, exact, dtype)


@pytest.mark.parametrize(
    "change",
    [{}, {"puzzle_emb_ndim": 0}, {"conv_size": 0}, {"pos_encodings": "learned"}, {"H_mixer": "attention", "L_mixer": "axial"}],
)
def test_a_model_learns_the_same_by_both(change: dict[str, object]) -> None:
    cfg = replace(NANO_2D, **change)  # type: ignore[arg-type]
    models = [HRM(cfg, kernels=k, attention="math", generator=torch.Generator().manual_seed(0)) for k in ("torch", "numba")]  # type: ignore[arg-type]
    tokens = torch.randint(0, 12, (2, 36), generator=torch.Generator().manual_seed(1))
    rows = noise(2, cfg.puzzle_emb_ndim, dtype=torch.float32) if cfg.puzzle_emb_ndim else None
    positions = (torch.arange(6)[:, None] * 30 + torch.arange(6)).flatten()
    results = []
    for model in models:
        _, logits, q, _ = model(model.initial_carry(2, 36), tokens, rows, positions)
        (F.cross_entropy(logits.flatten(0, 1), tokens.flatten()) + q.sum()).backward()
        results.append((logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    assert results[0][1].keys() == results[1][1].keys()
    for name, grad in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


DIGESTS = """
import hashlib
import numpy as np
from hrm_submit.model.cpu_kernels import swiglu, swiglu_backward
r = np.random.default_rng(0)
gate_up, grad, filters = (r.normal(size=shape).astype(np.float32) for shape in ((2, 30, 128), (2, 30, 64), (9, 64)))
out, grad_gate_up, grad_filters = np.empty_like(grad), np.empty_like(gate_up), np.zeros_like(filters)
swiglu(gate_up, filters, 5, out)
swiglu_backward(grad, gate_up, filters, 5, grad_gate_up, grad_filters)
print(*(hashlib.sha256(array.tobytes()).hexdigest() for array in (out, grad_gate_up, grad_filters)))
"""


def test_kernels_from_the_cache_give_the_bits_of_those_just_compiled(tmp_path: Path) -> None:
    """Else a run that is resumed goes on with other bits than the process that compiled them would have."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", DIGESTS]
    compiled, loaded = (subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in "12")
    assert list(tmp_path.rglob("*.nbc")) and len(loaded.stdout.split()) == 3
    assert loaded.stdout == compiled.stdout
