"""The CPU's kernels as autograd functions: the same answers as torch's operations to rounding, in fewer passes over memory.

For one thread: they run on the calling one alone. `cpu_kernels.py` has the arithmetic.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hrm_submit.model import cpu_kernels as kernels


class _AddNorm(torch.autograd.Function):
    """RMS norm of `x` + `y`, (..., D) each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        inverse = x.new_empty(x.numel() // x.shape[-1], dtype=torch.float32)
        kernels.add_norm(_rows(x), _rows(y), eps, _rows(out), _array(inverse))
        ctx.save_for_backward(out, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        out, inverse = ctx.saved_tensors
        grad_sum = torch.empty_like(out)
        kernels.add_norm_backward(_rows(grad), _rows(out), _array(inverse), _rows(grad_sum))
        return grad_sum, grad_sum, None


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up of `gate_up` (B, T, 2 C), then `layers.convolve` with `filters` (C, 1, K, K) where there are some."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, filters: Tensor | None, side: int) -> Tensor:
        batch, length, width = gate_up.shape
        taps = gate_up.new_empty(0, width // 2, dtype=torch.float32)
        if filters is not None:
            taps = filters.detach().float().flatten(1).T.contiguous()
        out = gate_up.new_empty(batch, length, width // 2)
        kernels.swiglu(_array(gate_up), _array(taps), side, _array(out))
        ctx.save_for_backward(gate_up, taps, filters)
        ctx.side = side
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        gate_up, taps, filters = ctx.saved_tensors
        grad_gate_up, grad_taps = torch.empty_like(gate_up, memory_format=torch.contiguous_format), torch.zeros_like(taps)
        kernels.swiglu_backward(_array(grad), _array(gate_up), _array(taps), ctx.side, _array(grad_gate_up), _array(grad_taps))
        return grad_gate_up, None if filters is None else grad_taps.T.reshape(filters.shape).to(filters.dtype), None


class _Lines(torch.autograd.Function):
    """`layers.attend_lines` of `qkv` (B, T, 3, heads, d), which is how a projection leaves it; result (B, T, heads, d)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, side: int) -> Tensor:
        batch, length, _, heads, width = qkv.shape
        before = length - side * side
        out = qkv.new_empty(batch, length, heads, width)
        shares = qkv.new_empty(batch, heads, side, side, before + side, dtype=torch.float32)
        prefix_shares = qkv.new_empty(batch, heads, before, length, dtype=torch.float32)
        kernels.attend_lines(_array(qkv), _array(cos), _array(sin), side, _array(out), _array(shares), _array(prefix_shares))
        ctx.save_for_backward(qkv, cos, sin, shares, prefix_shares)
        ctx.side = side
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        qkv, cos, sin, shares, prefix_shares = ctx.saved_tensors
        grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        forward = _array(qkv), _array(cos), _array(sin), ctx.side, _array(shares), _array(prefix_shares)
        kernels.attend_lines_backward(_array(grad), *forward, _array(grad_qkv))
        return grad_qkv, None, None, None


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """The memory of a CPU tensor; bfloat16 as its bits."""
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _rows(tensor: Tensor) -> npt.NDArray[Any]:
    return _array(tensor).reshape(-1, tensor.shape[-1])


add_norm, swiglu, attend_lines = _AddNorm.apply, _SwiGLU.apply, _Lines.apply
