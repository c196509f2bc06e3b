"""What a block does between its matrix products, on one CPU thread: each step is one pass over memory instead of torch's many.

- Arrays are float32, or uint16 with the bits of bfloat16; everything is computed in float32 and rounded once.
- Tokens are rows, channels lie together: no transposition for convolutions or heads.
- Backward kernels take what the forward ones were given and compute anew what is cheap.

`cpu_functions.py` makes autograd functions of them; tests compare their answers with torch's.
"""

from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from hrm_submit.core.numba_cache import kernel

fast_kernel = partial(kernel, fast=True)
_inline = register_jitable(fastmath=True, error_model="numpy", forceinline=True)


def _read(source: Any, target: Any) -> None:
    """Copy a row of either format into a float32 row."""
    raise TypeError("only for compiled code")


def _write(source: Any, target: Any) -> None:
    """Copy a float32 row into a row of either format, rounding to nearest even."""
    raise TypeError("only for compiled code")


@overload(_read, jit_options={"fastmath": True, "forceinline": True})
def _read_as(source: Any, target: Any) -> Any:
    def floats(source: Any, target: Any) -> None:
        for i in range(len(target)):
            target[i] = source[i]

    def halves(source: Any, target: Any) -> None:
        bits = target.view(np.uint32)
        for i in range(len(target)):
            bits[i] = np.uint32(source[i]) << np.uint32(16)

    return halves if source.dtype == types.uint16 else floats


@overload(_write, jit_options={"fastmath": True, "forceinline": True})
def _write_as(source: Any, target: Any) -> Any:
    def floats(source: Any, target: Any) -> None:
        for i in range(len(target)):
            target[i] = source[i]

    def halves(source: Any, target: Any) -> None:
        bits = source.view(np.uint32)
        for i in range(len(target)):
            b = bits[i]
            target[i] = np.uint16((b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return halves if target.dtype == types.uint16 else floats


@_inline
def _clear(x: Any) -> None:
    for i in range(len(x)):
        x[i] = np.float32(0.0)


@_inline
def _exp(x: Any, n: int, out: Any) -> None:
    """exp of the first `n` of `x`, clamped to +-87, into `out`: 2 to an integer by its bits, times a polynomial (error below 3e-7)."""
    bits = out.view(np.int32)
    for i in range(n):
        t = min(max(x[i], np.float32(-87.0)), np.float32(87.0)) * np.float32(1.4426950408889634)
        whole = np.floor(t + np.float32(0.5))
        f = (t - whole) * np.float32(0.6931471805599453)
        p = np.float32(1 / 720)
        p = p * f + np.float32(1 / 120)
        p = p * f + np.float32(1 / 24)
        p = p * f + np.float32(1 / 6)
        p = p * f + np.float32(0.5)
        p = p * f + np.float32(1.0)
        x[i] = p * f + np.float32(1.0)
        bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    for i in range(n):
        out[i] *= x[i]


@fast_kernel
def add_norm(x: Any, y: Any, eps: float, out: Any, inverse: Any) -> None:
    """`out` = RMS norm of `x` + `y`, (N, D) each; `inverse` (N,) float32 is one over the root mean square."""
    n, width = x.shape
    a, b = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        _read(x[i], a)
        _read(y[i], b)
        total = np.float32(0.0)
        for c in range(width):
            a[c] += b[c]
            total += a[c] * a[c]
        r = np.float32(1.0 / np.sqrt(total / width + eps))
        for c in range(width):
            a[c] *= r
        _write(a, out[i])
        inverse[i] = r


@fast_kernel
def add_norm_backward(grad: Any, out: Any, inverse: Any, grad_sum: Any) -> None:
    """Gradient of both summands, from that of `out`."""
    n, width = grad.shape
    g, o = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        _read(grad[i], g)
        _read(out[i], o)
        along = np.float32(0.0)
        for c in range(width):
            along += g[c] * o[c]
        along /= np.float32(width)
        for c in range(width):
            g[c] = (g[c] - o[c] * along) * inverse[i]
        _write(g, grad_sum[i])


@_inline
def _swiglu(row: Any, width: int, pair: Any, scratch: Any, sigmoid: Any, out: Any) -> None:
    """silu(gate) * up of one token, whose gate and up lie side by side in `row`; leaves them in `pair` (2 * width)."""
    _read(row, pair)
    for c in range(width):
        scratch[c] = -pair[c]
    _exp(scratch, width, sigmoid)
    for c in range(width):
        sigmoid[c] = np.float32(1.0) / (np.float32(1.0) + sigmoid[c])
    for c in range(width):
        out[c] = pair[c] * sigmoid[c] * pair[width + c]


@fast_kernel
def swiglu(gate_up: Any, filters: Any, side: int, out: Any) -> None:
    """`out` (B, T, C) = silu(gate) * up of `gate_up` (B, T, 2 C), convolved over the last side * side tokens with `filters` (K * K, C)
    float32; with K = 0 there is no convolution."""
    batch, length, width = out.shape
    size = int(np.sqrt(len(filters)) + 0.5)
    reach, before = size // 2, length - side * side if size else length
    pair, scratch, sigmoid = np.empty(2 * width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    row, inner = np.empty(width, np.float32), np.empty((length, width), np.float32)
    for b in range(batch):
        for t in range(length):
            _swiglu(gate_up[b, t], width, pair, scratch, sigmoid, inner[t])
            if t < before:
                _write(inner[t], out[b, t])
        for t in range(before, length):
            r, c = divmod(t - before, side)
            _clear(row)
            for i in range(max(0, r - reach), min(side, r + reach + 1)):
                for j in range(max(0, c - reach), min(side, c + reach + 1)):
                    f, x = filters[(i - r + reach) * size + j - c + reach], inner[before + i * side + j]
                    for k in range(width):
                        row[k] += f[k] * x[k]
            _write(row, out[b, t])


@fast_kernel
def swiglu_backward(grad: Any, gate_up: Any, filters: Any, side: int, grad_gate_up: Any, grad_filters: Any) -> None:
    """Write the gradient of `gate_up` to `grad_gate_up`, and add that of `filters` to `grad_filters`."""
    batch, length, width = grad.shape
    size = int(np.sqrt(len(filters)) + 0.5)
    reach, before = size // 2, length - side * side if size else length
    pair, scratch, sigmoid = np.empty(2 * width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    inner, g, given = np.empty(width, np.float32), np.empty(width, np.float32), np.empty((length, width), np.float32)
    for b in range(batch):
        for t in range(length):
            _read(grad[b, t], given[t])
        for t in range(length):
            _swiglu(gate_up[b, t], width, pair, scratch, sigmoid, inner)
            if t < before:
                _swiglu_grad(pair, sigmoid, given[t], width)
            else:
                r, c = divmod(t - before, side)
                _clear(g)
                for i in range(max(0, r - reach), min(side, r + reach + 1)):
                    for j in range(max(0, c - reach), min(side, c + reach + 1)):
                        # The output at (i, j) saw this cell through the filter's opposite place.
                        place = (r - i + reach) * size + c - j + reach
                        f, x, df = filters[place], given[before + i * side + j], grad_filters[place]
                        for k in range(width):
                            g[k] += f[k] * x[k]
                            df[k] += inner[k] * x[k]
                _swiglu_grad(pair, sigmoid, g, width)
            _write(pair, grad_gate_up[b, t])


@_inline
def _swiglu_grad(pair: Any, sigmoid: Any, g: Any, width: int) -> None:
    """Turn gate and up in `pair` into their gradients, `g` being that of their product."""
    for k in range(width):
        gate, up, s = pair[k], pair[width + k], sigmoid[k]
        pair[k] = g[k] * up * s * (np.float32(1.0) + gate * (np.float32(1.0) - s))
        pair[width + k] = g[k] * gate * s


@_inline
def _line(qkv: Any, head: int, before: int, side: int, line: int, across: bool, cos: Any, sin: Any, q: Any, k: Any, v: Any) -> None:
    """Rotated queries (side, d) of a line of one head, and the keys and values (before + side, d) that it sees, of `qkv`
    (T, 3, heads, d)."""
    half = cos.shape[1]
    for i in range(before):
        _read(qkv[i, 1, head], k[i])
        _read(qkv[i, 2, head], v[i])
    for i in range(side):
        cell = before + (i * side + line if across else line * side + i)
        _read(qkv[cell, 0, head], q[i])
        _read(qkv[cell, 1, head], k[before + i])
        _read(qkv[cell, 2, head], v[before + i])
        _turn(q[i], cos[i], sin[i], half)
        _turn(k[before + i], cos[i], sin[i], half)


@_inline
def _turn(x: Any, cos: Any, sin: Any, half: int) -> None:
    for c in range(half):
        a, b = x[c], x[half + c]
        x[c], x[half + c] = a * cos[c] - b * sin[c], b * cos[c] + a * sin[c]


@_inline
def _transpose(rows: Any, n: int, columns: Any) -> None:
    for c in range(len(columns)):
        for j in range(n):
            columns[c, j] = rows[j, c]


@_inline
def _softmax(scores: Any, n: int, out: Any) -> None:
    highest = scores[0]
    for i in range(n):
        highest = max(highest, scores[i])
    for i in range(n):
        scores[i] -= highest
    _exp(scores, n, out)
    total = np.float32(0.0)
    for i in range(n):
        total += out[i]
    total = np.float32(1.0) / total
    for i in range(n):
        out[i] *= total


@fast_kernel
def attend_lines(qkv: Any, cos: Any, sin: Any, side: int, out: Any, shares: Any, prefix_shares: Any) -> None:
    """`out` (B, T, heads, d) of `qkv` (B, T, 3, heads, d); `cos` and `sin` (side, d / 2). Leaves the softmaxes of the cells in `shares`
    (B, heads, side, side, before + side) and of the tokens before them in `prefix_shares` (B, heads, before, T), float32."""
    batch, length, heads, width = out.shape
    before, scale = length - side * side, np.float32(1.0 / np.sqrt(width))
    keys = before + side
    padded = -(-keys // 8) * 8
    q, k, v = np.empty((side, width), np.float32), np.empty((keys, width), np.float32), np.empty((keys, width), np.float32)
    turned, scores, row = np.zeros((width, padded), np.float32), np.empty(padded, np.float32), np.empty(width, np.float32)
    all_scores, other = np.empty(length, np.float32), np.empty(width, np.float32)
    for b in range(batch):
        for head in range(heads):
            across = head >= heads // 2
            for line in range(side):
                _line(qkv[b], head, before, side, line, across, cos, sin, q, k, v)
                _transpose(k, keys, turned)
                for i in range(side):
                    _clear(scores)
                    for c in range(width):
                        x, t = q[i, c] * scale, turned[c]
                        for j in range(padded):
                            scores[j] += x * t[j]
                    p = shares[b, head, line, i]
                    _softmax(scores, keys, p)
                    _clear(row)
                    for j in range(keys):
                        x, t = p[j], v[j]
                        for c in range(width):
                            row[c] += x * t[c]
                    _write(row, out[b, before + (i * side + line if across else line * side + i), head])
            for i in range(before):
                _read(qkv[b, i, 0, head], row)
                for t in range(length):
                    _read(qkv[b, t, 1, head], other)
                    total = np.float32(0.0)
                    for c in range(width):
                        total += row[c] * other[c]
                    all_scores[t] = total * scale
                prefix = prefix_shares[b, head, i]
                _softmax(all_scores, length, prefix)
                _clear(row)
                for t in range(length):
                    _read(qkv[b, t, 2, head], other)
                    for c in range(width):
                        row[c] += prefix[t] * other[c]
                _write(row, out[b, i, head])


@fast_kernel
def attend_lines_backward(grad: Any, qkv: Any, cos: Any, sin: Any, side: int, shares: Any, prefix_shares: Any, grad_qkv: Any) -> None:
    """Gradient of `qkv`, from that of `out` and what `attend_lines` left."""
    batch, length, heads, width = grad.shape
    before, scale = length - side * side, np.float32(1.0 / np.sqrt(width))
    keys, half = before + side, width // 2
    padded = -(-keys // 8) * 8
    q, k, v = np.empty((side, width), np.float32), np.empty((keys, width), np.float32), np.empty((keys, width), np.float32)
    dk, dv, turned = np.empty((keys, width), np.float32), np.empty((keys, width), np.float32), np.zeros((width, padded), np.float32)
    dp, row, g, other = np.empty(padded, np.float32), np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    total = np.empty((3, length, width), np.float32)
    for b in range(batch):
        for head in range(heads):
            across = head >= heads // 2
            for n in range(3):
                for t in range(length):
                    _clear(total[n, t])
            for line in range(side):
                _line(qkv[b], head, before, side, line, across, cos, sin, q, k, v)
                _transpose(v, keys, turned)
                for j in range(keys):
                    _clear(dk[j])
                    _clear(dv[j])
                for i in range(side):
                    cell, p = before + (i * side + line if across else line * side + i), shares[b, head, line, i]
                    _read(grad[b, cell, head], g)
                    _clear(dp)
                    for c in range(width):
                        x, t = g[c], turned[c]
                        for j in range(padded):
                            dp[j] += x * t[j]
                    mean = np.float32(0.0)
                    for j in range(keys):
                        mean += p[j] * dp[j]
                    _clear(row)
                    for j in range(keys):
                        s, x, kj, dkj, dvj, qi = p[j] * (dp[j] - mean) * scale, p[j], k[j], dk[j], dv[j], q[i]
                        for c in range(width):
                            row[c] += s * kj[c]
                            dkj[c] += s * qi[c]
                            dvj[c] += x * g[c]
                    _turn(row, cos[i], -sin[i], half)
                    for c in range(width):
                        total[0, cell, c] += row[c]
                for j in range(keys):
                    cell = j if j < before else before + ((j - before) * side + line if across else line * side + j - before)
                    if j >= before:
                        _turn(dk[j], cos[j - before], -sin[j - before], half)
                    for c in range(width):
                        total[1, cell, c] += dk[j, c]
                        total[2, cell, c] += dv[j, c]
            for i in range(before):
                _read(grad[b, i, head], g)
                _read(qkv[b, i, 0, head], row)
                prefix, mean = prefix_shares[b, head, i], np.float32(0.0)
                for t in range(length):
                    _read(qkv[b, t, 2, head], other)
                    along = np.float32(0.0)
                    for c in range(width):
                        along += g[c] * other[c]
                        total[2, t, c] += prefix[t] * g[c]
                    mean += prefix[t] * along
                for t in range(length):
                    _read(qkv[b, t, 2, head], other)
                    along = np.float32(0.0)
                    for c in range(width):
                        along += g[c] * other[c]
                    s = prefix[t] * (along - mean) * scale
                    _read(qkv[b, t, 1, head], other)
                    for c in range(width):
                        total[0, i, c] += s * other[c]
                        total[1, t, c] += s * row[c]
            for n in range(3):
                for t in range(length):
                    _write(total[n, t], grad_qkv[b, t, n, head])
