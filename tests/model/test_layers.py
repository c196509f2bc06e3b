"""Building blocks: attention kernels agree, RoPE knows only distances, norms, initial values and losses are what they say; the recordings
of the published model hold the rest (test_parity.py)."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_submit.model import layers
from hrm_submit.model.layers import (
    AttentionKind,
    Rotary,
    attend_lines,
    convolve,
    embed,
    rotary_tables,
    rotary_tables_2d,
    rotate,
    truncated_normal,
)
from hrm_submit.model.losses import log_stablemax_scores, token_loss


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.tuples(*[st.integers(0, 14)] * 4), st.tuples(*[st.integers(0, 15)] * 2), st.integers(0, 99))
def test_rope_scores_depend_on_distances_alone(places: tuple[int, ...], shift: tuple[int, int], seed: int) -> None:
    """Along the sequence, or in two dimensions on that of the rows and that of the columns."""
    x, row, column = normal(2, 16, seed=seed), places[0], places[1]
    rows, columns = (torch.tensor([a, b, a + by, b + by]) for a, b, by in zip(places[:2], places[2:], shift, strict=True))
    sequence = Rotary(*(table[rows * 30 + columns] for table in rotary_tables(900, 16, 10000.0)))
    for tables, tolerance in ((sequence, 2e-3), (rotary_tables_2d(rows, columns, 16, 100.0), 1e-4)):
        q, k = (rotate(each.expand(4, -1), tables) for each in x)
        assert float(q[0] @ k[1]) == pytest.approx(float(q[2] @ k[3]), abs=tolerance)
    alone = rotary_tables(30, 8, 100.0)
    cell = rotary_tables_2d(torch.tensor([row]), torch.tensor([column]), 16, 100.0)
    torch.testing.assert_close(cell.cos[0], torch.cat((alone.cos[row], alone.cos[column])))


def test_initial_values_have_the_deviation_asked_for_and_no_tails() -> None:
    values = truncated_normal((400, 500), 0.3, torch.Generator().manual_seed(0))
    assert float(values.std()) == pytest.approx(0.3, rel=0.01)
    assert float(values.mean()) == pytest.approx(0.0, abs=0.003)
    # a unit normal cut at 2 has deviation 0.8796
    assert float(values.abs().max()) == pytest.approx(2 * 0.3 / 0.8796, rel=0.001)


@pytest.mark.parametrize(("size", "side", "prefix"), [(3, 4, 1), (5, 4, 2), (3, 1, 0)])
def test_a_convolution_sums_over_the_neighbours_of_a_cell_and_leaves_other_tokens(size: int, side: int, prefix: int) -> None:
    x, filters = normal(2, prefix + side * side, 3), normal(3, 1, size, size)
    expected, reach = x.clone(), size // 2
    grid = torch.nn.functional.pad(x[:, prefix:].view(2, side, side, 3), (0, 0, *(reach,) * 4))
    for row, column in itertools.product(range(side), repeat=2):
        seen = grid[:, row : row + size, column : column + size]
        expected[:, prefix + row * side + column] = torch.einsum("bijc,cij->bc", seen, filters[:, 0])
    torch.testing.assert_close(convolve(x, filters, side), expected)


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


def test_the_gradient_of_a_small_table_as_one_matrix_product_is_that_of_its_sums() -> None:
    ids, grad = torch.randint(0, 12, (4, 30), generator=torch.Generator().manual_seed(0)), normal(4, 30, 8)
    tables = [torch.nn.Parameter(normal(12, 8)) for _ in range(2)]
    rows = embed(ids.to(torch.uint8), tables[0]), layers._Embedding.apply(ids.to(torch.uint8), tables[1])
    assert torch.equal(*rows)
    for found in rows:
        found.backward(grad)
    torch.testing.assert_close(tables[1].grad, tables[0].grad)


def test_stablemax_of_a_hand_worked_example() -> None:
    # s(1) = 2, s(0) = 1, s(-1) = 1/2, s(-3) = 1/4: sum 3.75
    logits = torch.tensor([[[1.0, 0.0, -1.0, -3.0]] * 4])
    expected = -torch.tensor([[2, 1, 0.5, 0.25]], dtype=torch.float64).div(3.75).log()
    for dtype, as_computed in ((None, torch.float64), (torch.float32, torch.float32)):
        loss = token_loss(logits, torch.tensor([[0, 1, 2, 3]]), "stablemax_cross_entropy", dtype)
        torch.testing.assert_close(loss, expected.to(as_computed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stablemax_has_slope_1_over_1_plus_x_and_stays_finite(dtype: torch.dtype) -> None:
    # 0 is where the branches meet, 1 where the formula of the branch not taken divides by zero
    x = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, 1e30, -1e30], dtype=dtype, requires_grad=True)
    log_stablemax_scores(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1 / (1 + abs(v)) for v in x.tolist()])
