"""Building blocks of both HRM modules: post-norm transformer blocks without biases or learned norm gains.

- Parameters stay in float32; a forward casts all of them once (`Level.cast`) however often the recurrence uses it.
- RoPE tables hold half a head's width, since both halves turn by the same angles.
- Two attentions agree to rounding: torch's fused one, and a written-out one, which is faster on CPUs in bfloat16.
- Cells see each other by full attention (published), by axial attention (arXiv:1912.12180), or not at all.
- A depthwise convolution in the MLP (ConvSwiGLU of arXiv:2512.14693, here in two dimensions) starts as the identity.
- Initial values are truncated at two standard deviations and have the standard deviation asked for *after* truncation.

Architecture: arXiv:2506.21734 and its published code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hrm_submit.config.schema import Kernels, Mixer, ModelConfig, feed_forward_width
from hrm_submit.model import cpu_functions

AttentionKind = Literal["sdpa", "math"]
Initialiser = Callable[[tuple[int, ...], float], Tensor]
"""Makes a float32 tensor of a shape and a standard deviation."""

_TRUNCATION = 2.0
_STD_AFTER_TRUNCATION = math.sqrt(
    1.0 - 2.0 * _TRUNCATION * math.exp(-(_TRUNCATION**2) / 2) / math.sqrt(2 * math.pi) / math.erf(_TRUNCATION / math.sqrt(2))
)
"""Standard deviation of a unit normal cut at +-2: 0.8796."""


class Rotary(NamedTuple):
    """Cosines and sines of the angles by which RoPE turns each of T positions, both (T, head_width / 2), float32: those of a sequence, or
    for axial attention those along a line."""

    cos: Tensor
    sin: Tensor


class BlockWeights(NamedTuple):
    """A block's matrices, (out, in) each, in the number format that a forward computes in; `qkv` and `out` where cells see each other."""

    qkv: Tensor | None
    out: Tensor | None
    gate_up: Tensor
    down: Tensor
    conv: Tensor | None
    """(inner, 1, K, K), one filter a channel, where the block has a convolution."""


def truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator | None = None) -> Tensor:
    """Normal values of standard deviation `std`, none further than two (untruncated) deviations from 0."""
    edge = math.erf(_TRUNCATION / math.sqrt(2))
    quantiles = torch.empty(shape, dtype=torch.float32).uniform_(-edge, edge, generator=generator)
    scale = std / _STD_AFTER_TRUNCATION
    # erfinv near the edge may round past the cut
    return quantiles.erfinv_().mul_(math.sqrt(2) * scale).clamp_(-_TRUNCATION * scale, _TRUNCATION * scale)


def rotary_tables(positions: int, head_width: int, theta: float) -> Rotary:
    """RoPE tables (arXiv:2104.09864) for position ids 0 .. positions-1."""
    # The quotient, not a negative power: they differ in the last bit, which a position of 900 turns into a visible angle.
    rates = 1.0 / torch.pow(theta, torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), rates)
    return Rotary(angles.cos(), angles.sin())


def rotary_tables_2d(rows: Tensor, columns: Tensor, head_width: int, theta: float) -> Rotary:
    """RoPE tables of cells: the first half of a head's pairs turns by the row, the second by the column, (T,) int64 each."""
    line = rotary_tables(int(max(rows.max(), columns.max())) + 1, head_width // 2, theta)
    return Rotary(*(torch.cat((table[rows], table[columns]), dim=-1) for table in line))


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Rows (..., D) of `table` (R, D) for integer `ids` (...), below R."""
    return F.embedding(ids.long(), table) if table.device.type == "cpu" else _Embedding.apply(ids, table)


def cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """`tensors`, all of one format, in `dtype`: in one launch on a GPU, and so are their gradients."""
    return tensors if tensors[0].dtype == dtype else _Cast.apply(dtype, *tensors)


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn the pairs (x[i], x[i + d/2]) of `x` (..., T, d) by the angle of their position; result (..., T, d), contiguous.

    Computed in float32 whatever the format of `x`: bfloat16 angles would blur neighbouring positions.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = rotary
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, kind: AttentionKind) -> Tensor:
    """Unmasked attention over (B, heads, T, d); result (B, heads, T, d)."""
    if kind == "sdpa":
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


def attend_lines(qkv: Tensor, rotary: Rotary | None, side: int, kind: AttentionKind) -> Tensor:
    """Axial attention over (3, B, heads, T, d), whose last side * side tokens are the grid; result (B, heads, T, d).

    The first half of the heads sees a cell's row, the second its column; the tokens before the grid are further keys and values of every
    line, and themselves see all tokens. `rotary` (side, d / 2) turns the cells of a line by their place along it.
    """
    _, batch, heads, length, width = qkv.shape
    before, half = length - side * side, heads // 2
    grid = qkv[..., before:, :].reshape(3, batch, heads, side, side, width)
    lines = torch.cat((grid[:, :, :half], grid[:, :, half:].transpose(3, 4)), dim=2)
    q, k = lines[:2] if rotary is None else rotate(lines[:2], rotary)
    v = lines[2]
    if before:
        shared = qkv[1:, :, :, None, :before].expand(-1, -1, -1, side, -1, -1)
        k, v = torch.cat((shared[0], k), dim=-2), torch.cat((shared[1], v), dim=-2)
    # Fused kernels take four dimensions: a line of a head is a head of its own.
    lines = attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), kind).unflatten(1, (heads, side))
    cells = torch.cat((lines[:, :half], lines[:, half:].transpose(2, 3)), dim=1).reshape(batch, heads, side * side, width)
    if not before:
        return cells
    return torch.cat((attend(qkv[0, :, :, :before], qkv[1], qkv[2], kind), cells), dim=2)


def convolve(x: Tensor, filters: Tensor, side: int) -> Tensor:
    """Depthwise convolution of the last side * side tokens of `x` (B, T, C), row by row a square grid, with `filters` (C, 1, K, K);
    the tokens before them stay. Beyond the grid's edge everything is 0."""
    length, channels = x.shape[1:]
    prefix = length - side * side
    # Channels stay last in memory, as they come: libraries convolve that form, and no copy turns the grid.
    grid = x[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    mixed = F.conv2d(grid, filters, padding=filters.shape[-1] // 2, groups=channels).permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat((x[:, :prefix], mixed), dim=1)


def swiglu(gate_up: Tensor, filters: Tensor | None, side: int) -> Tensor:
    """silu(gate) * up of `gate_up` (B, T, 2 C), convolved over the grid where there are `filters`."""
    gate, up = gate_up.chunk(2, dim=-1)
    inner = F.silu(gate) * up
    return inner if filters is None else convolve(inner, filters, side)


class Block(nn.Module):
    """Self-attention (or what `mixer` puts in its place) and SwiGLU, each followed by its residual sum and an RMS norm."""

    def __init__(self, cfg: ModelConfig, mixer: Mixer, attention: AttentionKind, kernels: Kernels, init: Initialiser) -> None:
        super().__init__()
        width, inner = cfg.hidden_size, feed_forward_width(cfg.hidden_size, cfg.expansion)
        self.num_heads, self.eps = cfg.num_heads, cfg.rms_norm_eps
        self.mixer, self.attention, self.fused = mixer, attention, kernels == "numba"
        self.qkv = None if mixer == "none" else _matrix(3 * width, width, init)
        self.out = None if mixer == "none" else _matrix(width, width, init)
        self.gate_up = _matrix(2 * inner, width, init)
        self.down = _matrix(width, inner, init)
        self.conv = nn.Parameter(_identity_filters(inner, cfg.conv_size)) if cfg.conv_size else None

    def weights(self) -> BlockWeights:
        """The block's parameters."""
        return BlockWeights(self.qkv, self.out, self.gate_up, self.down, self.conv)

    def forward(self, x: Tensor, rotary: Rotary | None, weights: BlockWeights, side: int = 0) -> Tensor:
        """`x` (B, T, D) through the block, with its `weights` as `Level.cast` returns them; the last side * side tokens are the grid,
        where lines or convolutions ask for one. `rotary` is that of the tokens, or for axial attention that along a line."""
        if weights.qkv is not None and weights.out is not None:
            mixed = self._mixed(F.linear(x, weights.qkv), rotary, side)
            x = self._add_norm(x, F.linear(mixed, weights.out))
        gate_up = F.linear(x, weights.gate_up)
        inner = cpu_functions.swiglu(gate_up, weights.conv, side) if self.fused else swiglu(gate_up, weights.conv, side)
        return self._add_norm(x, F.linear(inner, weights.down))

    def _mixed(self, projected: Tensor, rotary: Rotary | None, side: int) -> Tensor:
        """What each token takes from others, (B, T, D), of `projected` (B, T, 3 D)."""
        batch, length, width = projected.shape
        qkv = projected.view(batch, length, 3, self.num_heads, -1)
        if self.mixer == "axial" and self.fused and rotary is not None:
            return cpu_functions.attend_lines(qkv, rotary.cos, rotary.sin, side).view(batch, length, width // 3)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        if self.mixer == "axial":
            mixed = attend_lines(qkv, rotary, side, self.attention)
        else:
            qk = qkv[:2] if rotary is None else rotate(qkv[:2], rotary)
            mixed = attend(qk[0], qk[1], qkv[2], self.attention)
        return mixed.transpose(1, 2).reshape(batch, length, width // 3)

    def _add_norm(self, x: Tensor, y: Tensor) -> Tensor:
        """RMS norm without gain of `x` + `y`, computed in float32."""
        return cpu_functions.add_norm(x, y, self.eps) if self.fused else F.rms_norm(x + y, x.shape[-1:], None, self.eps)


class Level(nn.Module):
    """One recurrent module (H or L): adds the injection to its state and runs its blocks."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def cast(self, dtype: torch.dtype) -> list[BlockWeights]:
        """Weights of all blocks in `dtype`; gradients flow back to the parameters."""
        held: list[BlockWeights] = [block.weights() for block in self.blocks]  # type: ignore[operator]
        done = iter(cast([w for weights in held for w in weights if w is not None], dtype))
        return [BlockWeights(*(None if w is None else next(done) for w in weights)) for weights in held]  # type: ignore[arg-type]

    def forward(self, state: Tensor, injection: Tensor, rotary: Rotary | None, weights: list[BlockWeights], side: int = 0) -> Tensor:
        """New state (B, T, D) from `state` and `injection`, both (B, T, D); `rotary` and `side` as a block takes them."""
        x = state + injection
        for block, cast_weights in zip(self.blocks, weights, strict=True):
            x = block(x, rotary, cast_weights, side)
        return x


class _Embedding(torch.autograd.Function):
    """Rows of a small table, whose gradient is one matrix product: a GPU would else sum thousands of equal ids one after the other."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = len(table)
        return F.embedding(ids.long(), table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (ids,) = ctx.saved_tensors
        chosen = torch.arange(ctx.rows, device=ids.device)[:, None] == ids.flatten()
        return None, chosen.to(grad.dtype) @ grad.flatten(0, -2)


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = tensors[0].dtype
        return _in_format(tensors, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_in_format(grads, ctx.dtype)


def _in_format(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    cast = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(cast, tensors)
    return tuple(cast)


def _matrix(rows: int, columns: int, init: Initialiser) -> nn.Parameter:
    return nn.Parameter(init((rows, columns), columns**-0.5))


def _identity_filters(channels: int, size: int) -> Tensor:
    filters = torch.zeros(channels, 1, size, size)
    filters[:, :, size // 2, size // 2] = 1.0
    return filters
