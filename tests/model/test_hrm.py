"""The recurrence: sizes, what flows where, crops, number formats, one graph."""

from dataclasses import replace

import pytest
import torch

from hrm_submit.arc.codes import NO_CODE
from hrm_submit.config.schema import CodeKind, ModelConfig
from hrm_submit.model.hrm import HRM

TINY = ModelConfig(hidden_size=32, num_heads=4, H_layers=1, L_layers=1, seq_len=900, puzzle_emb_ndim=32)


def make(cfg: ModelConfig = TINY, seed: int = 0, **options: object) -> HRM:
    return HRM(cfg, generator=torch.Generator().manual_seed(seed), **options)  # type: ignore[arg-type]


def inputs(cfg: ModelConfig = TINY, batch: int = 2, side: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, 12, (batch, side * side), generator=generator)
    rows = torch.randn(batch, cfg.puzzle_emb_ndim, generator=generator)
    positions = (torch.arange(side)[:, None] * 30 + torch.arange(side)).flatten()
    return tokens, rows, positions


def test_shapes_and_formats() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = make(dtype=dtype)
        tokens, rows, positions = inputs()
        carry, logits, q_halt, q_continue = model(model.initial_carry(2, 16), tokens, rows, positions)
        assert logits.shape == (2, 16, 12) and logits.dtype == dtype
        for q in (q_halt, q_continue):
            assert torch.equal(q, torch.full((2,), -5.0)), "float32, and of a fresh model -5"
        assert carry.z_H.shape == carry.z_L.shape == (2, 17, 32) and carry.z_H.dtype == dtype
        assert not carry.z_H.requires_grad and not carry.z_L.requires_grad and logits.requires_grad
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_codes_are_added_to_the_tokens_and_no_code_adds_nothing() -> None:
    cfg = replace(TINY, codes=("frequency", "mirror"))
    plain, model, (tokens, rows, positions) = make(), make(cfg), inputs()
    model.load_state_dict({**plain.state_dict(), "codes": model.codes.detach()})

    def logits(of: HRM, codes: list[int]) -> torch.Tensor:
        beside = torch.tensor(codes, dtype=torch.uint8).expand(2, 16, -1)
        given = torch.cat((tokens[..., None].to(torch.uint8), beside), dim=2) if codes else tokens
        return of(of.initial_carry(2, 16), given, rows, positions)[1]

    torch.testing.assert_close(logits(model, [NO_CODE] * 4), logits(plain, []))
    found = logits(model, [3, NO_CODE, 42, 12])
    with torch.no_grad():
        plain.tokens += model.codes[[3, 42, 12]].sum(0)
    torch.testing.assert_close(found, logits(plain, []))
    found.square().sum().backward()
    assert model.codes.grad is not None and model.codes.grad.abs().sum(1).nonzero().flatten().tolist() == [3, 12, 42]


@pytest.mark.parametrize("codes", [(), ("frequency", "mirror")])
def test_a_patch_of_cells_is_one_token_whose_places_differ(codes: tuple[CodeKind, ...]) -> None:
    """Tokens that see each other nowhere, on a canvas of side 5, which patches of side 2 do not divide."""
    cfg = replace(TINY, patch=2, H_mixer="none", L_mixer="none", pos_encodings="rope_2d", codes=codes)
    model, (tokens, rows, positions) = make(cfg), inputs(cfg, batch=1, side=5)

    def logits(tokens: torch.Tensor, code: int | None = None) -> torch.Tensor:
        given = tokens
        if codes:
            beside = torch.full((1, 25, 4), NO_CODE, dtype=torch.uint8)
            beside[0, 23, 1] = NO_CODE if code is None else code
            given = torch.cat((tokens[..., None].to(torch.uint8), beside), dim=2)
        carry, found, _, _ = model(model.initial_carry(1, 25), given, rows, positions)
        assert carry.z_H.shape == (1, 1 + 9, 32) and found.shape == (1, 25, 12)
        return found[0].detach()

    before = logits(tokens)
    for cell, patch in ((0, [0, 1, 5, 6]), (6, [0, 1, 5, 6]), (12, [12, 13, 17, 18]), (14, [14, 19]), (22, [22, 23]), (24, [24])):
        changed = tokens.clone()
        changed[0, cell] = (tokens[0, cell] + 1) % 12
        assert (logits(changed) != before).any(-1).nonzero().flatten().tolist() == patch
    exchanged = tokens.clone()
    exchanged[0, [0, 6]] = tokens[0, [6, 0]]
    assert tokens[0, 0] != tokens[0, 6] and (logits(exchanged) != before).any(), "each place has an embedding of its own"
    assert [cfg.grid_tokens(side**2) for side in (1, 3, 4, 30)] == [1, 4, 4, 225]
    if codes:
        assert (logits(tokens, 12) != before).any(-1).nonzero().flatten().tolist() == [22, 23]


def test_full_gradient_is_that_of_the_whole_recurrence() -> None:
    cfg = replace(TINY, gradient="all", hidden_size=16, num_heads=2, puzzle_emb_ndim=16)
    model = make(cfg).double()
    model.dtype = torch.float64
    tokens, rows, positions = inputs(cfg, side=2)
    carry = model.initial_carry(2, 4)

    def loss() -> torch.Tensor:
        return model(carry, tokens, rows, positions)[1].square().sum()

    weight = model.L_level.blocks[0].out  # type: ignore[union-attr]
    loss().backward()
    assert isinstance(weight, torch.nn.Parameter) and weight.grad is not None
    for i, j in ((0, 0), (3, 7), (15, 2)):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += step
                values.append(float(loss()))
                weight[i, j] -= step
        # rows enter in float32, so the quotient carries some rounding
        assert float(weight.grad[i, j]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3, abs=1e-6)


LINES = replace(TINY, H_mixer="axial", L_mixer="none", pos_encodings="rope_2d", conv_size=3, gradient="all")


@pytest.mark.parametrize(
    ("cfg", "dtype"),
    [(TINY, torch.float32), (replace(LINES, H_layers=2), torch.bfloat16), (replace(LINES, patch=3), torch.float32)],
    ids=["attention", "lines", "patches"],
)
def test_a_forward_is_one_graph_through_which_every_parameter_has_a_gradient(cfg: ModelConfig, dtype: torch.dtype) -> None:
    model = make(cfg, dtype=dtype)
    traced = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(*(m(model.initial_carry(2, 16), *inputs(cfg))[1] for m in (traced, model)))
    _, logits, q_halt, _ = traced(model.initial_carry(2, 16), *inputs(cfg))
    (logits.float().square().sum() + q_halt.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert any("L_level" in name and "qkv" in name for name, _ in model.named_parameters()) == (cfg.L_mixer != "none")
