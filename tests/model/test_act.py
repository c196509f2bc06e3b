"""Adaptive computation where the recordings of the published model say nothing (test_parity.py): other rules of halting, exploration."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from hrm_submit.config.schema import ModelConfig
from hrm_submit.model.act import ActCarry, ActOutput, Batch, act_step, draw_least, initial_act_carry
from hrm_submit.model.embedding import TaskEmbedding
from hrm_submit.model.hrm import HRM
from tests.model.tiny import TINY

CFG = replace(TINY, seq_len=9)
POSITIONS = torch.arange(9)


def make(q_halt: float, q_continue: float, cfg: ModelConfig = CFG) -> tuple[HRM, TaskEmbedding]:
    """A model whose Q values are these constants whatever it sees."""
    model = HRM(cfg, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.q_bias.copy_(torch.tensor([q_halt, q_continue]))
    return model, TaskEmbedding(cfg, 50)


def batch(first_id: int, size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(first_id)
    tokens = torch.randint(0, 12, (size, 9), generator=generator)
    return Batch(tokens, tokens.roll(1, 1), torch.arange(first_id, first_id + size), torch.zeros(size, dtype=torch.int64))


def run(model: HRM, embedding: TaskEmbedding, carry: ActCarry, data: Batch, **options: Any) -> tuple[ActCarry, ActOutput]:
    return act_step(model, embedding, carry, data, POSITIONS, training=True, **{"max_steps": 5, **options})


@pytest.mark.parametrize(("q_halt", "halted"), [(-1.0, False), (0.0, False), (1.0, True)])
@pytest.mark.parametrize(("q_continue", "target"), [(0.0, True), (-9.0, False), (9.0, False)])
def test_training_halts_where_halting_is_worth_more(q_halt: float, halted: bool, q_continue: float, target: bool) -> None:
    """Than continuing where that value has a target, than nothing where it has none."""
    model, embedding = make(q_halt, q_continue, replace(CFG, continue_target=target))
    carry, data = initial_act_carry(model, batch(0)), batch(0)
    for segment in range(1, 6):
        carry, _ = run(model, embedding, carry, data)
        assert carry.halted.tolist() == [halted or segment == 5] * 4
        assert carry.steps.tolist() == [1 if halted else segment] * 4


def test_exploration_keeps_its_share_of_sequences_for_2_to_most_segments() -> None:
    model, embedding = make(1.0, 0.0)
    data = replace(batch(0, 2000), ids=torch.zeros(2000, dtype=torch.int64))
    carry, kept = initial_act_carry(model, data), torch.ones(2000, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    # The least number is drawn anew at each segment: of those left, 0.4 is held at segment 1, 0.4 * 3/4 at 2, 0.4 * 2/4 at 3.
    for share, tolerance in ((0.4, 0.03), (0.3, 0.05), (0.2, 0.08)):
        carry, _ = run(model, embedding, carry, data, least=draw_least(2000, 5, 0.4, generator))
        still = kept & ~carry.halted
        assert float(still.sum() / kept.sum()) == pytest.approx(share, abs=tolerance)
        kept = still


def test_a_continuing_sequence_sees_its_row_as_it_is_by_then() -> None:
    model, embedding = make(-1.0, 0.0)
    data = batch(0)
    carry, before = run(model, embedding, initial_act_carry(model, data), data)
    embedding.reset_rows(torch.tensor([2]), torch.ones(16))
    _, output = run(model, embedding, carry, data)
    assert before.looked_up is not None and output.looked_up is not None
    assert before.looked_up.rows[2].tolist() == [0] * 16 and output.looked_up.rows[2].tolist() == [1] * 16


@pytest.mark.parametrize(("cfg", "max_steps", "forwards"), [(replace(CFG, continue_target=False), 5, 1), (CFG, 1, 1), (CFG, 5, 2)])
def test_a_second_forward_computes_the_target_only_where_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, cfg: ModelConfig, max_steps: int, forwards: int
) -> None:
    (model, embedding), data, calls, forward = make(0.0, 0.0, cfg), batch(0), [], HRM.forward
    monkeypatch.setattr(HRM, "forward", lambda *args: calls.append(1) or forward(*args))  # type: ignore[func-returns-value]
    _, output = run(model, embedding, initial_act_carry(model, data), data, max_steps=max_steps)
    assert len(calls) == forwards and (output.target_q_continue is not None) == (forwards == 2)
