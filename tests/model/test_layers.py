"""Building blocks: attention kernels agree, RoPE knows only distances, norms and initial values are what they say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.config.schema import feed_forward_width
from hrm_submit.model.layers import (
    AttentionKind,
    Block,
    Rotary,
    attend,
    attend_lines,
    convolve,
    rms_norm,
    rotary_tables,
    rotary_tables_2d,
    rotate,
    truncated_normal,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_attention_of_a_hand_worked_example() -> None:
    # d = 4, so scores are halved: the query sees ln 3 and 0, that is weights 3/4 and 1/4
    q = torch.tensor([[[[2.0, 0, 0, 0]]]])
    k = torch.tensor([[[[math.log(3), 0, 0, 0], [0, 5.0, 0, 0]]]])
    v = torch.tensor([[[[4.0, 0, 0, 0], [0, 8.0, 0, 0]]]])
    for kind in ("sdpa", "math"):
        torch.testing.assert_close(attend(q, k, v, kind), torch.tensor([[[[3.0, 2, 0, 0]]]]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_both_attentions_agree_forwards_and_backwards(dtype: torch.dtype, tolerance: float) -> None:
    results = []
    for kind in ("sdpa", "math"):
        q, k, v = (normal(2, 3, 37, 8, seed=s).to(dtype).requires_grad_() for s in range(3))
        out = attend(q, k, v, kind)  # type: ignore[arg-type]
        (out * normal(2, 3, 37, 8, seed=9).to(dtype)).sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for fused, written in zip(*results, strict=True):
        assert fused is not None and written is not None
        assert (fused.float() - written.float()).norm() <= tolerance * fused.float().norm() + tolerance


@settings(max_examples=30, deadline=None)
@given(a=st.integers(0, 400), b=st.integers(0, 400), shift=st.integers(0, 499), seed=st.integers(0, 99))
def test_rope_scores_depend_on_distance_alone(a: int, b: int, shift: int, seed: int) -> None:
    tables = rotary_tables(900, 16, 10000.0)
    q, k = normal(16, seed=seed), normal(16, seed=seed + 100)

    def score(i: int, j: int) -> float:
        both = rotate(torch.stack((q, k)), type(tables)(tables.cos[[i, j]], tables.sin[[i, j]]))
        return float(both[0] @ both[1])

    assert score(a, b) == pytest.approx(score(a + shift, b + shift), abs=2e-3)


def test_rope_at_position_0_changes_nothing_and_keeps_lengths() -> None:
    tables = rotary_tables(50, 8, 10000.0)
    x = normal(3, 50, 8)
    turned = rotate(x, tables)
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned[:, 1] - x[:, 1]).abs().max() > 0.1


def test_rope_turns_the_first_pair_by_one_radian_a_position() -> None:
    turned = rotate(torch.tensor([[1.0, 0, 0, 0]] * 3), rotary_tables(3, 4, 100.0))
    expected = [[math.cos(t), 0, math.sin(t), 0] for t in range(3)]
    torch.testing.assert_close(turned, torch.tensor(expected))


def test_rms_norm_of_a_hand_worked_example() -> None:
    # mean square of (3, 4) is 12.5
    torch.testing.assert_close(rms_norm(torch.tensor([[3.0, 4.0]]), 0.0), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5))
    assert rms_norm(torch.zeros(1, 4), 1e-5).abs().max() == 0


def test_rms_norm_computes_in_float32_whatever_the_format() -> None:
    # squares of 300 overflow float16
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    assert rms_norm(x, 1e-5).dtype == torch.float16
    torch.testing.assert_close(rms_norm(x, 1e-5), torch.ones(1, 8, dtype=torch.float16))


def test_initial_values_have_the_deviation_asked_for_and_no_tails() -> None:
    values = truncated_normal((400, 500), 0.3, torch.Generator().manual_seed(0))
    assert float(values.std()) == pytest.approx(0.3, rel=0.01)
    assert float(values.mean()) == pytest.approx(0.0, abs=0.003)
    # a unit normal cut at 2 has deviation 0.8796
    assert float(values.abs().max()) == pytest.approx(2 * 0.3 / 0.8796, rel=0.001)


@pytest.mark.parametrize(
    ("width", "expansion", "expected"), [(512, 4.0, 1536), (256, 4.0, 768), (128, 4.0, 512), (64, 4.0, 256), (8, 1.0, 256)]
)
def test_feed_forward_width(width: int, expansion: float, expected: int) -> None:
    assert feed_forward_width(width, expansion) == expected


def test_a_block_treats_sequences_apart_and_tokens_together() -> None:
    block = Block(16, 2, 4.0, 1e-5, "math")
    x = normal(2, 5, 16)
    weights = block.cast(torch.float32)
    tables = rotary_tables(5, 8, 10000.0)
    before = block(x, tables, weights)
    x[1, 4] += 1.0
    after = block(x, tables, weights)
    assert torch.equal(before[0], after[0])
    assert (before[1, 0] - after[1, 0]).abs().max() > 1e-4


@pytest.mark.parametrize(("size", "side", "prefix"), [(3, 4, 1), (5, 4, 2), (3, 1, 0)])
def test_a_convolution_sums_over_the_neighbours_of_a_cell_and_leaves_other_tokens(size: int, side: int, prefix: int) -> None:
    x, filters = normal(2, prefix + side * side, 3), normal(3, 1, size, size)
    expected, reach = x.clone(), size // 2
    for row in range(side):
        for column in range(side):
            total = torch.zeros(2, 3)
            for dr in range(-reach, reach + 1):
                for dc in range(-reach, reach + 1):
                    if 0 <= row + dr < side and 0 <= column + dc < side:
                        total += x[:, prefix + (row + dr) * side + column + dc] * filters[:, 0, dr + reach, dc + reach]
            expected[:, prefix + row * side + column] = total
    torch.testing.assert_close(convolve(x, filters, side), expected)


def test_a_block_whose_convolution_is_as_it_started_is_the_block_without_one() -> None:
    plain, convolving = Block(16, 2, 4.0, 1e-5, "math"), Block(16, 2, 4.0, 1e-5, "math", conv_size=3)
    convolving.load_state_dict(plain.state_dict() | {"conv": convolving.conv})
    x, tables = normal(2, 10, 16), rotary_tables(10, 8, 10000.0)
    before = plain(x, tables, plain.cast(torch.float32))
    assert torch.equal(convolving(x, tables, convolving.cast(torch.float32), side=3), before)
    with torch.no_grad():
        convolving.conv[:, :, 0, 1] = 0.5  # type: ignore[index]
    assert not torch.allclose(convolving(x, tables, convolving.cast(torch.float32), side=3), before)


def by_hand(qkv: torch.Tensor, side: int, line: Rotary | None) -> torch.Tensor:
    """Axial attention cell by cell: one query, the keys that it may see, their softmax."""
    _, batch, heads, length, width = qkv.shape
    before = length - side * side
    out = torch.zeros(batch, heads, length, width)

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        return x if line is None else rotate(x, Rotary(line.cos[place], line.sin[place]))

    for b in range(batch):
        for h in range(heads):
            q, k, v = qkv[:, b, h]
            for token in range(length):
                if token < before:
                    query, keys, seen = q[token], list(k), list(range(length))
                else:
                    row, column = divmod(token - before, side)
                    cells = [(row, c) if h < heads // 2 else (c, column) for c in range(side)]
                    seen = [*range(before), *(before + r * side + c for r, c in cells)]
                    query = turned(q[token], column if h < heads // 2 else row)
                    keys = [*k[:before], *(turned(k[s], place) for place, s in enumerate(seen[before:]))]
                scores = torch.stack([query @ key for key in keys]) / math.sqrt(width)
                out[b, h, token] = scores.softmax(0) @ v[seen]
    return out


@pytest.mark.parametrize(("side", "before", "turn"), [(3, 1, True), (4, 2, True), (3, 0, True), (1, 1, True), (3, 1, False)])
@pytest.mark.parametrize("kind", ["sdpa", "math"])
def test_axial_attention_as_written_out_cell_by_cell(side: int, before: int, turn: bool, kind: AttentionKind) -> None:
    qkv = normal(3, 2, 4, before + side * side, 8)
    line = rotary_tables(side, 8, 100.0) if turn else None
    torch.testing.assert_close(attend_lines(qkv, line, side, kind), by_hand(qkv, side, line), atol=1e-5, rtol=1e-5)


def test_two_dimensional_rope_knows_rows_and_columns_apart() -> None:
    """Scores depend on both distances alone, and on each of them."""
    rows, columns = torch.tensor([0, 2, 5, 7, 5]), torch.tensor([0, 1, 5, 6, 6])
    tables = rotary_tables_2d(rows, columns, 16, 100.0)
    q, k = normal(16), normal(16, seed=1)

    def score(i: int, j: int) -> float:
        both = rotate(torch.stack((q, k)), Rotary(tables.cos[[i, j]], tables.sin[[i, j]]))
        return float(both[0] @ both[1])

    assert score(0, 1) == pytest.approx(score(2, 3), abs=1e-4), "two rows and a column further in both"
    assert abs(score(2, 3) - score(2, 4)) > 1e-3, "the row matters"
    alone = rotary_tables(8, 8, 100.0)
    torch.testing.assert_close(tables.cos[3], torch.cat((alone.cos[7], alone.cos[6])))


def test_a_block_without_a_mixer_has_none_and_keeps_cells_apart() -> None:
    block = Block(16, 2, 4.0, 1e-5, "math", mixer="none")
    assert {name for name, _ in block.named_parameters()} == {"gate_up", "down"}
    x = normal(2, 9, 16)
    before = block(x, None, block.cast(torch.float32))
    x[1, 4] += 1.0
    changed = (block(x, None, block.cast(torch.float32)) != before).any(-1)
    assert changed.nonzero().tolist() == [[1, 4]]
